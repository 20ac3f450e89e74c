"""Which training rows carry a wrong label."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._typing import Facts
from dataloupe.apps._leaks import plain
from dataloupe.core import (
    Attribution,
    Lab,
    OtherLearner,
    Outcomes,
    Question,
    Subsets,
    better_of,
    capabilities,
    check_same,
    checked,
    sign_of_better,
)

By = Literal["mean", "held-out", "full", "memorisation", "effect"]
WAYS: dict[str, str] = {
    "mean": "minus the mean output on the row of models trained on subsets, with it or without it",
    "held-out": "minus the mean output on the row of models that never saw it",
    "full": "minus the mean output on the row of models that saw all the data",
    "memorisation": "mean output on the row with it minus without it",
    "effect": "minus the row's mean effect on the targets of an attribution",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Mislabels:
    """Training rows in order of suspicion.

    ``order [n]`` the rows, the most suspicious first; ``scores [n]`` and ``errors [n]`` (standard errors, None where
    there are none) by row number, in units of the output; higher is more suspicious.
    """

    by: By
    output: str
    order: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    errors: Float[np.ndarray, " n"] | None
    trainings: int
    notes: tuple[str, ...] = ()
    provenance: Facts = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        first = ", ".join(str(row) for row in self.order[:5])
        return (
            f"{len(self.order)} training rows by {self.by} {self.output} ({self.trainings} trainings); "
            f"most suspicious: {first}"
        )

    def to_json(self) -> Facts:
        """Every field as JSON holds it."""
        return plain(self)


@checked("dl-754")
def mislabels(
    question: Question,
    lab: Lab,
    *,
    by: By = "mean",
    subsets: Subsets | None = None,
    attribution: Attribution | None = None,
) -> Mislabels:
    """The training rows in order of how likely their label is wrong.

        mean          score_i = -mean of f_i over the subsets
        held-out      score_i = -mean of f_i over the subsets without i
        full          score_i = -mean of f_i over models of all the data
        memorisation  score_i = mean of f_i with i - mean of f_i without i
        effect        score_i = -mean_j of attribution_ji

    f_i is the question's output on training row i (its targets do not count), turned so that higher is better (minus a
    loss): the output must say which way it is better (``Output.better``). ``subsets`` are the retrainings (100 at 80 %; 10 for ``full``), each
    estimate has the standard error of a mean over its runs. ``effect`` trains nothing: it takes an ``attribution`` of that
    same output on held-out targets. Diverged runs are left out and counted in the notes.

    ``mean`` is the default because it won on digits (``bench/mislabels.py``): level with the loss of full-data models where
    these hardly memorise, ahead of it where they fit the wrong labels.

    Raises ``BadInput`` dl-754 (a word, or things that do not go together), dl-755 (an output that does not say how
    right a model is), dl-756 (a row with fewer than two runs), dl-757 (other sizes), dl-512 (an attribution of other training
    data or of another output), dl-513 (of another learner, in the output's units), ``CapabilityError`` dl-758.

    >>> import torch
    >>> from dataloupe import outputs, testing
    >>> from dataloupe.core import Examples, MemoryLab
    >>> x = torch.tensor([[1.0, 0.0]] * 5 + [[0.0, 1.0]] * 5)
    >>> train = Examples(x, labels=torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1]))
    >>> question = Question(testing.RidgeLearner(classes=2), train, train[:1], outputs.margin)
    >>> int(mislabels(question, MemoryLab()).order[0])
    4

    Source: memorisation, Feldman and Zhang 2020; held-out agreement, Northcutt et al. 2021 (confident learning).
    """
    sign = _check(question, by, subsets, attribution)
    if by == "effect" and attribution is not None:
        notes = _belonging(question, attribution)
        scores = -sign * np.asarray(attribution.rows(slice(None)), dtype=np.float64).mean(axis=0)
        return _ranked(by, question, scores, None, 0, notes)
    if subsets is None:
        subsets = Subsets.full(question.n, 10) if by == "full" else Subsets(question.n, 100, fraction=0.8)
    _check_counts(subsets, by)
    asked = dataclasses.replace(question, targets=question.train)
    if asked.m != question.n:
        raise _no_direction(question, f"{asked.m} values for {question.n} training rows")
    outcomes = lab.outcomes(asked, subsets)
    kept = outcomes.complete()
    scores, errors = _scores(kept, by, sign)
    left_out = outcomes.subsets.count - kept.subsets.count
    notes = (f"{left_out} diverged trainings were left out",) if left_out else ()
    return _ranked(by, question, scores, errors, kept.subsets.count, notes)


def _ranked(
    by: By,
    question: Question,
    scores: Float[np.ndarray, " n"],
    errors: Float[np.ndarray, " n"] | None,
    trainings: int,
    notes: tuple[str, ...],
) -> Mislabels:
    order = np.argsort(-scores, kind="stable")
    return Mislabels(by, question.output.name, order, scores, errors, trainings, notes, question.provenance)


def _scores(
    outcomes: Outcomes, by: By, sign: float
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The suspicion of every row and its standard error, from sums over the runs with and without it."""
    _check_counts(outcomes.subsets, by)
    with_, without = np.zeros((3, outcomes.m)), np.zeros((3, outcomes.m))
    shift = sign * outcomes.mean().mean(axis=0, dtype=np.float64)
    for masks, block in outcomes.blocks():
        values = sign * block.astype(np.float64) - shift
        for sums, chosen in ((with_, masks), (without, ~masks)):
            sums += [chosen.sum(0), (values * chosen).sum(0), (values**2 * chosen).sum(0)]
    if by in ("mean", "full"):
        mean, noise = _mean(with_ + without)
        return -(mean + shift), np.sqrt(noise)
    outside, noise = _mean(without)
    if by == "held-out":
        return -(outside + shift), np.sqrt(noise)
    inside, more = _mean(with_)
    return inside - outside, np.sqrt(noise + more)


def _mean(sums: Float[np.ndarray, "3 n"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Mean and squared standard error from (count, sum, sum of squares)."""
    count, total, squares = sums
    mean = total / count
    return mean, np.maximum(squares - count * mean**2, 0.0) / ((count - 1) * count)


def _check_counts(subsets: Subsets, by: By) -> None:
    """A mean and its error need two runs: without every row, with every row, or at all."""
    inside = np.zeros(subsets.n, dtype=np.int64)
    for start in range(0, subsets.count, 256):
        inside += subsets.masks(slice(start, min(start + 256, subsets.count))).sum(axis=0)
    runs = np.full(subsets.n, subsets.count)
    if by == "held-out":
        runs = subsets.count - inside
    elif by == "memorisation":
        runs = np.minimum(inside, subsets.count - inside)
    if runs.min() < 2:
        row = int(runs.argmin())
        raise BadInput(
            "dl-756",
            asked=f"mislabels by {by}, from at least 2 runs for every row",
            found=f"row {row} in {inside[row]} of {subsets.count} subsets",
            do='give more subsets (100 at fraction 0.8), or by="mean"',
        )


def _check(question: Question, by: str, subsets: Subsets | None, attribution: Attribution | None) -> float:
    """The sign that makes the output "higher is better"; raises as :func:`mislabels` does, before any work."""
    if by not in WAYS or (by == "effect") != (attribution is not None) or (by == "effect" and subsets):
        raise BadInput(
            "dl-754",
            asked=f"mislabels by {by!r}",
            found=f"subsets given: {subsets is not None}, attribution given: {attribution is not None}",
            do=f'use one of {", ".join(WAYS)}; "effect" takes an attribution and no subsets, the others none',
        )
    if better_of(question.output) is None:
        raise _no_direction(question, "an output that does not say how right a model is")
    found = attribution or subsets
    if found is not None and found.n != question.n:
        raise BadInput(
            "dl-757",
            asked=f"suspicion of {question.n} training rows",
            found=f"{'an attribution' if attribution else 'subsets'} of {found.n}",
            do="use those of this question",
        )
    if question.train.labels is None:
        raise BadInput("dl-757", asked="wrong labels", found="training data without labels", do="give labels")
    if by != "effect" and "train" not in capabilities(question):
        raise CapabilityError(
            "dl-758",
            asked=f"mislabels by {by}",
            found=f"{type(question.learner).__name__}, which holds finished models",
            do='use by="effect" with an attribution (TRAK), or a learner with `train`',
        )
    return sign_of_better(question.output)


def _belonging(question: Question, attribution: Attribution) -> tuple[str, ...]:
    """Effects are of the question's training data and output, on any targets; sizes are of its learner."""
    learner: OtherLearner = "refuse" if attribution.units == "output" else "note"
    purpose = f"mislabels by the effects of {attribution.info.method}"
    return check_same(purpose, attribution, question, parts=("train", "output"), learner=learner)


def _no_direction(question: Question, found: str) -> BadInput:
    return BadInput(
        "dl-755",
        asked=f"how right models are on single rows, by the output {question.output.name}",
        found=found,
        do="ask with outputs.margin, hard_margin, log_prob or loss, or declare `better` on your own output",
    )
