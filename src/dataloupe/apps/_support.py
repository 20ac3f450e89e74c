"""Data support: the smallest removal that is predicted to flip a prediction, verified by retraining."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dataloupe._errors import BadInput, TrainingError
from dataloupe._identity import Stream
from dataloupe._typing import Ids
from dataloupe.apps._support_found import Support, SupportCase
from dataloupe.apps._what_if import check_what_if
from dataloupe.core import (
    OK,
    Attribution,
    Lab,
    OtherLearner,
    Question,
    Subsets,
    check_ids,
    check_same,
    checked,
    needs_units,
    steps_note,
)

BLOCK = 2**26
"""At most so many outputs, or mask entries, are asked for at once: a retraining is measured on all targets."""

ROUNDING = 1e-9
"""A predicted size that is above a whole number by less is that number."""


class Ranked(NamedTuple):
    """A target row that is right with all the data: its margin, and the rows of the largest scores, best first."""

    target: int
    margin: float
    rows: Int[np.ndarray, " g"]
    scores: Float[np.ndarray, " g"]

    @property
    def crossing(self) -> float | None:
        """How many rows it takes until margin - sum(scores) is 0, interpolated; None if it stays above.

        >>> Ranked(0, 2.5, np.array([4, 1, 3]), np.array([1.0, 1.0, 1.0])).crossing
        2.5
        """
        left = self.margin - np.cumsum(self.scores)
        crossed = np.flatnonzero(left <= 0)
        if len(crossed) == 0:
            return None
        i = int(crossed[0])
        before = float(left[i - 1]) if i else self.margin
        return i + before / float(self.scores[i])


@checked("dl-741")
def support(
    question: Question,
    lab: Lab,
    attribution: Attribution,
    targets: Ids | None = None,
    *,
    inflate: float = 1.2,
    limit: float = 0.1,
    verify: int = 10,
    seed: int = 0,
) -> Support:
    """The smallest removal predicted to flip each target row's prediction, and whether it does.

    From the mean margin of ``verify`` trainings on all the data, the largest scores s_1 >= s_2 >= ... are
    subtracted until it is 0; the size is inflated, because large scores are large partly by chance:

        crossing = i + (margin - s_1 - ... - s_i) / s_{i+1}      where the fraction lies in (0, 1]
        size     = ceil(inflate * crossing)                      (rows of positive score only)

    A size above ``limit`` (a share of the data) is no support within the limit. Every removal is retrained
    ``verify`` times with seeds of its own, in one batch of trainings for all targets, and flips the prediction
    if the mean margin is not above 0. Under ``outputs.hard_margin`` that is another predicted class; under
    ``outputs.margin`` the own class has no more than half of the probability. Default targets: all of them.
    ``verify=0`` only predicts, from the attribution's own output for all the data.

    Raises ``UnitsError`` dl-507 (relative units: calibrate, or :func:`smallest_support`), ``BadInput`` dl-740 (an
    output that is no margin), dl-741 (settings), dl-744 (verify=0 without a bias), dl-731, dl-733, dl-512 (other training
    data, targets or output), dl-513 (another learner, in the output's units), dl-108 to dl-111 (targets), ``CapabilityError`` dl-734 (no learner), ``TrainingError`` dl-743 (all runs diverged).

    >>> import torch
    >>> from dataloupe import core, outputs, testing
    >>> data = core.Examples(torch.ones(7, 1), labels=torch.tensor([0, 0, 0, 0, 0, 1, 1]))
    >>> question = core.Question(testing.RidgeLearner(classes=2), data, data[:1], outputs.hard_margin)
    >>> scores = core.DenseAttribution(np.array([[0.125] * 5 + [-0.125] * 2]), core.Info("by hand"))
    >>> print(support(question, core.MemoryLab(), scores, limit=0.6, verify=2).cases[0])
    target 0: margin 0.38, 4 rows removed, predicted -0.12, verified -0.25 [-0.25, -0.25]: flipped

    Source: the brittleness estimates of Ilyas et al. 2022 (datamodels), with their factor of 1.2.
    """
    needs_units(attribution, "the removal that flips a prediction")
    rows = check_support(question, attribution, targets, inflate=inflate, limit=limit, verify=verify)
    most = largest(question.n, limit)
    margins = full_margins(question, lab, verify, seed) if verify else _own_margins(attribution)
    cases = []
    for j in rows.tolist():
        ranked = rank(attribution, j, float(margins[j]), most)
        cases.append(_predict(ranked, inflate, most) if ranked.margin > 0 else wrong(j, ranked.margin))
    if verify:
        found = [i for i, case in enumerate(cases) if len(case.rows)]
        removals = [cases[i].rows for i in found]
        values = retrain(
            question,
            lab,
            lambda k: without(question.n, removals[k]),
            [cases[i].target for i in found],
            verify,
            keyed(seed, "verify"),
        )
        for i, retrained in zip(found, values, strict=True):
            cases[i] = dataclasses.replace(cases[i], values=retrained)
    notes = notes_of(question, attribution, cases, verify)
    return Support(
        method=attribution.info.method,
        kind="remove",
        n=question.n,
        limit=most,
        inflate=inflate,
        verify=verify,
        predicts=True,
        cases=tuple(cases),
        notes=notes,
        provenance=question.provenance,
    )


def _predict(ranked: Ranked, inflate: float, most: int) -> SupportCase:
    """The inflated removal and its predicted output, if it is within the limit."""
    crossing = ranked.crossing
    size = 0
    if crossing is not None:
        wanted = math.ceil(inflate * crossing - ROUNDING)
        helping = int((ranked.scores > 0).sum())
        size = min(wanted, helping) if wanted <= most else 0
    return SupportCase(
        target=ranked.target,
        margin=ranked.margin,
        crossing=crossing,
        rows=ranked.rows[:size],
        predicted=ranked.margin - float(ranked.scores[:size].sum()) if size else None,
        values=np.empty(0),
    )


def wrong(target: int, margin: float) -> SupportCase:
    """A target that needs no removal to be wrong."""
    return SupportCase(target, margin, 0.0, np.empty(0, dtype=np.int64), None, np.empty(0))


def rank(attribution: Attribution, target: int, margin: float, most: int) -> Ranked:
    """The ``most`` rows of the largest scores."""
    rows = attribution.top(target, most, sign="raises")
    return Ranked(target, margin, rows, attribution.rows([target])[0, rows].astype(np.float64))


def largest(n: int, limit: float) -> int:
    """How many rows a share of the data is, one at least kept."""
    return min(math.floor(limit * n + ROUNDING), n - 1)


def keyed(seed: int, purpose: str) -> int:
    """A seed for each purpose, so that a removal is not verified by the runs that chose it."""
    return Stream.root(seed)("support", purpose).seed()


def full_margins(question: Question, lab: Lab, verify: int, seed: int) -> Float[np.ndarray, " m"]:
    """The mean output of trainings on all the data (dl-743 if all diverged)."""
    outcomes = lab.outcomes(question, Subsets.full(question.n, verify, seed=keyed(seed, "full")))
    good = outcomes.status == OK
    if not good.any():
        raise TrainingError(
            "dl-743",
            asked="the margins with all the data",
            found=f"{verify} trainings, all diverged",
            do="lower the learning rate",
        )
    return outcomes.values[good].mean(axis=0, dtype=np.float64)


def _own_margins(attribution: Attribution) -> Float[np.ndarray, " m"]:
    return attribution.predict(Subsets.full(attribution.n))[0].astype(np.float64)


def without(n: int, rows: Ids) -> Bool[np.ndarray, " n"]:
    """The mask of all the data but some rows."""
    mask = np.ones(n, dtype=bool)
    mask[np.asarray(rows)] = False
    return mask


def retrain(
    question: Question,
    lab: Lab,
    mask: Callable[[int], Bool[np.ndarray, " n"]],
    targets: Sequence[int],
    verify: int,
    seed: int,
    *,
    paired: bool = False,
) -> list[Float[np.ndarray, " r"]]:
    """What trainings on ``mask(i)`` give target row ``targets[i]``; diverged runs are left out."""
    found = []
    step = max(1, BLOCK // max(verify * question.m, question.n))
    for start in range(0, len(targets), step):
        block = range(start, min(start + step, len(targets)))
        subsets = Subsets.listed(np.stack([mask(i) for i in block]), seed=seed, paired=paired)
        outcomes = lab.outcomes(question, subsets, repeats=verify)
        for k, i in enumerate(block):
            found.append(outcomes.values[k, outcomes.status[k] == OK, targets[i]].astype(np.float64))
    return found


def notes_of(
    question: Question, attribution: Attribution, cases: Sequence[SupportCase], verify: int
) -> tuple[str, ...]:
    """Where the scores were made elsewhere than where they are used, and what was left out."""
    info, notes = attribution.info, []
    if attribution.units == "output" and (info.fraction is None or info.fraction < 0.9):
        share = "an unknown share" if info.fraction is None else f"{info.fraction:.0%}"
        notes.append(f"linearised at {share} of the data, asked about all of it: effects may differ in size")
    done = getattr(question.learner, "removal", info.removal)
    if done != info.removal:
        notes.append(f"the attribution means removal by {info.removal}, the learner does it by {done}")
    lost = sum(verify - len(case.values) for case in cases if len(case.rows))
    if lost:
        notes.append(f"{lost} retrainings diverged and were left out")
    if verify == 0:
        notes.append("no retraining was asked for")
    sizes = sorted({len(case.rows) for case in cases if len(case.rows)})
    return (*notes, *steps_note(question, sizes), *_belonging(question, attribution))


def _belonging(question: Question, attribution: Attribution) -> tuple[str, ...]:
    """Refuse scores of another question (dl-512), and sizes of another learner (dl-513); a ranking is noted."""
    purpose = f"data supports by {attribution.info.method}"
    learner: OtherLearner = "refuse" if attribution.units == "output" else "note"
    return check_same(purpose, attribution, question, learner=learner)


@checked("dl-741")
def check_support(
    question: Question,
    attribution: Attribution,
    targets: Ids | None,
    *,
    limit: float = 0.1,
    verify: int = 10,
    inflate: float = 1.2,
    rounds: int | None = None,
) -> Int[np.ndarray, " t"]:
    """The target rows of supports that can be meant, before any work; raises as :func:`support` does.

    ``rounds`` is of a search, which needs retrainings.
    """
    if not question.output.name.endswith("margin"):
        raise BadInput(
            "dl-740",
            asked="what flips a prediction",
            found=f"the output {question.output.name}, whose sign does not tell right from wrong",
            do="ask the question with outputs.hard_margin, or outputs.margin",
        )
    if not (0 < limit < 1 and math.isfinite(inflate) and inflate >= 1 and (rounds is None or rounds >= 1)):
        raise BadInput(
            "dl-741",
            asked=f"supports of at most {limit:g} of the data, inflated by {inflate:g}",
            found="a limit outside (0, 1), a factor below 1, or a search without rounds",
            do="give limit=0.1, inflate=1.2, rounds=10, say",
        )
    rows = np.arange(question.m) if targets is None else check_ids(targets, question.m, "target rows")
    check_what_if(question, attribution, int(rows[0]), [0], verify=verify)
    _belonging(question, attribution)
    if largest(question.n, limit) < 1:
        raise BadInput(
            "dl-741",
            asked=f"removals of at most {limit:g} of {question.n} examples",
            found="not a single example",
            do=f"raise the limit to {1 / question.n:.2g} at least",
        )
    if rounds is not None and verify == 0:
        raise BadInput(
            "dl-741",
            asked="a search with verify=0",
            found="no retrainings to search by",
            do="set verify=10, or predict without a search: support(..., verify=0)",
        )
    scaled = attribution.units == "output"  # else a calibration comes first, and gives a bias
    if rounds is None and verify == 0 and scaled and getattr(attribution, "bias", True) is None:
        raise BadInput(
            "dl-744",
            asked="predicted supports without a training (verify=0)",
            found=f"{attribution.info.method}, which knows changes but no margin to start from",
            do="set verify=10, or calibrate it: dataloupe.calibrate gives a bias",
        )
    return rows
