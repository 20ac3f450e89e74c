"""Removal: take away the examples said to help, retrain, and see whether the output gets worse."""

import dataclasses
from typing import Literal

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

from dataloupe._errors import BadInput, TrainingError
from dataloupe._identity import Stream
from dataloupe._typing import Facts, Ids
from dataloupe.core import (
    OK,
    Attribution,
    Lab,
    Outcomes,
    Question,
    Subsets,
    check_ids,
    check_same,
    checked,
    helping,
    steps_note,
)
from dataloupe.judge._bootstrap import Interval, as_json, span

Verdict = Literal["agree", "disagree", "undecided"]


@dataclasses.dataclass(frozen=True, eq=False)
class RemovalTest:
    """What removing the top k, and k random rows, did to the chosen targets, against no removal.

    ``top_change [t]`` and ``random_change [t]`` are mean changes of the output over the seeds; ``verdict`` is
    "agree" if removing the top makes the output worse (lower, or of an output that is better the lower: higher) than
    removing random rows and the intervals are apart, "disagree" if they are apart the other way, else "undecided".
    """

    method: str
    k: int
    targets: Int[np.ndarray, " t"]
    top_change: Float[np.ndarray, " t"]
    random_change: Float[np.ndarray, " t"]
    top_mean: float
    top_interval: Interval
    random_mean: float
    random_interval: Interval
    verdict: Verdict
    repeats: int
    left_out: int = 0
    notes: tuple[str, ...] = ()
    provenance: Facts = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"removing the top {self.k} moves the output by {self.top_mean:+.2f} {span(self.top_interval)}, "
            f"{self.k} random ones by {self.random_mean:+.2f} {span(self.random_interval)}: {self.verdict}; "
            f"{len(self.targets)} targets x {self.repeats} seeds"
        )

    def to_json(self) -> Facts:
        """Numbers, lists and strings."""
        return as_json(self)


@checked("dl-908")
def removal(
    question: Question,
    lab: Lab,
    attribution: Attribution,
    *,
    targets: Ids,
    k: int,
    repeats: int = 3,
    seed: int = 0,
) -> RemovalTest:
    """Remove each target's top k, retrain, and compare with removing k random rows and with removing none.

        change_j = mean over seeds r of  f_j(all but the removed; r) - f_j(all; r)

    The top are the rows that help: of an output that is better the lower (``Output.better``) those that lower it, of any
    other those that raise it. The seeds are common to all retrainings. Costs ``(2 t + 1) * repeats`` trainings for t targets. Intervals
    (95 %) take targets and seeds as drawn at random; with a single target the claim is about it alone.
    A target with a diverged retraining is left out and counted.

    Raises ``BadInput`` dl-908 (question and attribution differ in size, k or repeats out of range), dl-512 (other training
    data, targets or output; another learner is noted), dl-108 to dl-111 (targets), ``TrainingError`` dl-909 (the run without removal diverged, or one for every target).

    >>> import torch
    >>> from dataloupe import outputs
    >>> from dataloupe.core import DenseAttribution, Examples, Info, MemoryLab
    >>> from dataloupe.testing import RidgeLearner
    >>> data = Examples(torch.ones(4, 1), labels=torch.tensor([1.0, 2.0, 3.0, 6.0]))
    >>> question = Question(RidgeLearner(penalty=0.0), data, data[:1], outputs.value)
    >>> scores = DenseAttribution(np.array([[1.0, 2.0, 3.0, 6.0]]), Info("labels"))
    >>> test = removal(question, MemoryLab(), scores, targets=[0], k=1, repeats=2)
    >>> test.top_change.tolist()
    [-1.0]

    Source: the removal counterfactuals of Ilyas et al. 2022 (datamodels) and Park et al. 2023 (TRAK).
    """
    targets = _check(question, attribution, targets, k, repeats)
    notes = check_same(f"a removal test of {attribution.info.method}", attribution, question, learner="note")
    helps = helping(question.output)
    top = [attribution.top(int(j), k, sign=helps) for j in targets]
    drawn = Stream.root(seed)("removal", "random rows")
    random = [np.argsort(drawn.bits(np.arange(question.n), int(j)), kind="stable")[:k] for j in targets]
    subsets = Subsets.without(question.n, [[], *top, *random], seed=seed)
    outcomes = lab.outcomes(question, subsets, repeats=repeats)
    kept, changes = _changes(outcomes, targets)
    top_mean, top_interval = crossed_mean(changes[0])
    random_mean, random_interval = crossed_mean(changes[1])
    return RemovalTest(
        method=attribution.info.method,
        k=k,
        targets=kept,
        top_change=changes[0].mean(axis=1),
        random_change=changes[1].mean(axis=1),
        top_mean=top_mean,
        top_interval=top_interval,
        random_mean=random_mean,
        random_interval=random_interval,
        verdict=_verdict(top_interval, random_interval, falls=helps == "raises"),
        repeats=repeats,
        left_out=len(targets) - len(kept),
        notes=(*notes, *steps_note(question, [k])),
        provenance=question.provenance,
    )


def _check(
    question: Question, attribution: Attribution, targets: Ids, k: int, repeats: int
) -> Int[np.ndarray, " t"]:
    if (attribution.n, attribution.m) != (question.n, question.m):
        raise BadInput(
            "dl-908",
            asked=f"a removal test of {attribution.info.method} over {attribution.n} examples, {attribution.m} targets",
            found=f"a question of {question.n} examples and {question.m} target rows",
            do="use the attribution of this question",
        )
    if not 0 < k < question.n:
        raise BadInput(
            "dl-908",
            asked=f"the removal of {k} rows",
            found=f"{question.n} training examples",
            do=f"remove 1 to {question.n - 1}",
        )
    if repeats < 2:
        raise BadInput(
            "dl-908",
            asked=f"a removal test with repeats={repeats}",
            found="too few seeds to tell an effect from seed noise",
            do="use repeats=2 or more; 3 is the default",
        )
    return check_ids(targets, question.m, "targets of the removal test")


def _changes(
    outcomes: Outcomes, targets: Int[np.ndarray, " t"]
) -> tuple[Int[np.ndarray, " kept"], Float[np.ndarray, "2 kept r"]]:
    """The targets whose retrainings all ended well, and their changes: by top removal, by random removal."""
    good = (outcomes.status == OK).all(axis=1)
    fine = good[1:].reshape(2, len(targets)).all(axis=0)
    if not good[0] or not fine.any():
        raise TrainingError(
            "dl-909",
            asked="changes against the run without removal",
            found=f"{outcomes.diverged} diverged runs, the one without removal among them: {not good[0]}",
            do="lower the learning rate",
        )
    values = outcomes.values.astype(np.float64)
    before = values[0][:, targets].T
    after = np.stack([values[1 + i, :, j] for i, j in enumerate(np.tile(targets, 2))])
    changes = after.reshape(2, len(targets), -1) - before
    return targets[fine], changes[:, fine]


def crossed_mean(changes: Float[np.ndarray, "t r"], level: float = 0.95) -> tuple[float, Interval]:
    """The mean over targets and seeds, both taken as drawn at random, with its interval.

        Var(mean) = (MS_targets + MS_seeds - MS_rest) / (t r),   at least the larger of the first two

    with Satterthwaite's degrees of freedom: a bootstrap of three seeds could not reach 95 %. One target: the
    plain t interval over the seeds.

    >>> mean, (low, high) = crossed_mean(np.array([[1.0, 2.0, 3.0]]))
    >>> round(mean, 2), round(low, 2), round(high, 2)
    (2.0, -0.48, 4.48)
    """
    t, r = changes.shape
    mean = float(changes.mean())
    targets, seeds = changes.mean(axis=1) - mean, changes.mean(axis=0) - mean
    of_seeds = t * float((seeds**2).sum()) / (r - 1)
    of_targets = r * float((targets**2).sum()) / max(t - 1, 1)
    rest = float(((changes - mean - targets[:, None] - seeds) ** 2).sum()) / max((t - 1) * (r - 1), 1)
    square = max(of_targets + of_seeds - rest, of_targets, of_seeds)
    if square <= 0:
        return mean, (mean, mean)
    parts = of_seeds**2 / (r - 1) + of_targets**2 / max(t - 1, 1)
    half = float(scipy.stats.t.ppf((1 + level) / 2, square**2 / parts)) * float(np.sqrt(square / (t * r)))
    return mean, (mean - half, mean + half)


def _verdict(top: Interval, random: Interval, *, falls: bool) -> Verdict:
    """``falls``: without rows that help, the output falls (else it rises)."""
    lower, higher = (top, random) if falls else (random, top)
    if lower[1] < higher[0]:
        return "agree"
    return "disagree" if higher[1] < lower[0] else "undecided"
