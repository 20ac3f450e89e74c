"""Remove the training rows at either end of a principal direction: the targets at its ends should part."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput, CapabilityError, TrainingError
from dataloupe._identity import Stream
from dataloupe._typing import Facts
from dataloupe.apps._leaks import plain
from dataloupe.apps._space import Principal
from dataloupe.core import (
    OK,
    Attribution,
    Lab,
    OtherLearner,
    Question,
    Subsets,
    capabilities,
    check_same,
    checked,
)
from dataloupe.judge import Interval, crossed_mean

End = Literal["top", "bottom", "random"]
ENDS: tuple[End, ...] = ("top", "bottom", "random")
On = Literal["top", "bottom", "all", "contrast"]
Verdict = Literal["agree", "disagree", "undecided"]


@dataclasses.dataclass(frozen=True)
class GroupEffect:
    """What a removal did to a group of targets: the mean change of their output, predicted and after retraining.

    ``removed``: which end's training rows went ("random": as many at random); ``on``: the targets at the "top" or at
    the "bottom" of the direction, "all", or the "contrast" top minus bottom. ``predicted`` is None in relative units.
    """

    removed: End
    on: On
    predicted: float | None
    change: float
    interval: Interval


@dataclasses.dataclass(frozen=True, eq=False)
class DirectionRemoval:
    """A principal direction, tested by retraining.

    ``agree``: without the top rows the top targets fall against the bottom ones, and without the bottom rows the other
    way round, both with intervals that leave out 0; ``disagree``: one of them the wrong way round; else ``undecided``.
    """

    component: int
    top_rows: Int[np.ndarray, " k"]
    bottom_rows: Int[np.ndarray, " k"]
    top_targets: Int[np.ndarray, " g"]
    bottom_targets: Int[np.ndarray, " g"]
    effects: tuple[GroupEffect, ...]
    verdict: Verdict
    repeats: int
    notes: tuple[str, ...] = ()
    provenance: Facts = dataclasses.field(default_factory=dict)

    def of(self, removed: End, on: On) -> GroupEffect:
        """The effect of one removal on one group."""
        return next(e for e in self.effects if (e.removed, e.on) == (removed, on))

    def __str__(self) -> str:
        parts = []
        for end in ("top", "bottom", "random"):
            said = [f"{on} {self.of(end, on).change:+.2f}" for on in ("top", "bottom", "all")]
            parts.append(f"without {len(self.top_rows)} {end} rows: {', '.join(said)}")
        return f"direction {self.component}: {'; '.join(parts)}; {self.repeats} seeds: {self.verdict}"

    def to_json(self) -> Facts:
        """Every field as JSON holds it."""
        return plain(self)


@checked("dl-511")
def removal_of_direction(
    question: Question,
    lab: Lab,
    attribution: Attribution,
    direction: tuple[Principal, int],
    *,
    k: int,
    group: int = 10,
    verify: int = 8,
    seed: int = 0,
) -> DirectionRemoval:
    """Remove the k training rows at the top, at the bottom, and at random; retrain; look at the targets at either end.

        change_j = mean over seeds r of  f_j(all but the rows; r) - f_j(all; r)

    ``direction`` is (principal(attribution), number of the component); ``group`` targets at either end are looked at
    beside all of them. Costs ``4 verify`` trainings with common seeds. Intervals (95 %) take targets and seeds as drawn
    at random. A seed with a diverged run is left out and counted.

    Raises ``BadInput`` dl-733 (other sizes), dl-512 (other training data, targets or output), dl-513 (another learner, in
    the output's units), dl-731 (seeds), dl-759 (k, group), ``CapabilityError`` dl-734,
    ``TrainingError`` dl-909 (fewer than two seeds went well).

    >>> import torch
    >>> from dataloupe import outputs, testing
    >>> from dataloupe.apps import principal
    >>> from dataloupe.core import DenseAttribution, Examples, Info, MemoryLab
    >>> data = Examples(torch.eye(4), labels=torch.tensor([2.0, 2.0, 2.0, 2.0]))
    >>> question = Question(testing.RidgeLearner(), data, data, outputs.value)
    >>> scores = DenseAttribution(np.diag([1.0, 1.0, 1.0, 1.0]) * [2, 1, 1, 1], Info("by hand"))
    >>> found = principal(scores, components=1)
    >>> done = removal_of_direction(question, MemoryLab(), scores, (found, 0), k=1, group=1, verify=2)
    >>> done.of("top", "top").change, done.of("top", "all").change
    (-1.0, -0.25)

    Source: Ilyas et al. 2022 (datamodels), section 4.3.
    """
    space, component = direction
    _check(question, attribution, space, verify)
    belonging = _belonging(question, attribution, space)
    rows, targets = space.rows(component, k), space.targets(component, group)
    drawn = Stream.root(seed)("direction", component).bits(np.arange(question.n))
    removals = [*rows, np.argsort(drawn, kind="stable")[:k]]
    outcomes = lab.outcomes(question, Subsets.without(question.n, [[], *removals], seed=seed), repeats=verify)
    good = (outcomes.status == OK).all(axis=0)
    if good.sum() < 2:
        raise TrainingError(
            "dl-909",
            asked=f"changes over {verify} seeds",
            found=f"{int(good.sum())} seeds without a diverged run",
            do="lower the learning rate",
        )
    values = outcomes.values[:, good].astype(np.float64)
    effects: list[GroupEffect] = []
    for number, end in enumerate(ENDS):
        predicted = attribution.effect([removals[number]])[0] if attribution.units == "output" else None
        effects += _effects(end, (values[number + 1] - values[0]).T, predicted, targets)
    left_out = int((~good).sum())
    notes = [f"{left_out} of {verify} seeds had a diverged run and were left out"] if left_out else []
    return DirectionRemoval(
        component,
        *rows,
        *targets,
        effects=tuple(effects),
        verdict=_verdict([e for e in effects if e.on == "contrast"]),
        repeats=int(good.sum()),
        notes=(*notes, *belonging),
        provenance=question.provenance,
    )


def _effects(
    end: End,
    changes: Float[np.ndarray, "m r"],
    predicted: Float[np.ndarray, " m"] | None,
    targets: tuple[Int[np.ndarray, " g"], Int[np.ndarray, " g"]],
) -> list[GroupEffect]:
    """One removal's effect on the targets at the top, at the bottom, on all, and the contrast."""
    top, bottom = targets
    found = []
    groups: list[tuple[On, Int[np.ndarray, " g"]]] = [
        ("top", top),
        ("bottom", bottom),
        ("all", np.arange(len(changes))),
    ]
    for on, ids in groups:
        said = None if predicted is None else float(predicted[ids].mean())
        found.append(GroupEffect(end, on, said, *crossed_mean(changes[ids])))
    said = None if predicted is None else float(predicted[top].mean() - predicted[bottom].mean())
    return [*found, GroupEffect(end, "contrast", said, *crossed_mean(changes[top] - changes[bottom]))]


def _verdict(contrasts: list[GroupEffect]) -> Verdict:
    """Without the top rows top minus bottom should fall, without the bottom rows it should rise."""
    (_, (low, high)), (_, (under, over)) = ((e.change, e.interval) for e in contrasts[:2])
    if high < 0 < under:
        return "agree"
    return "disagree" if low > 0 or over < 0 else "undecided"


def _belonging(question: Question, attribution: Attribution, space: Principal) -> tuple[str, ...]:
    """Refuse scores of another question, sizes of another learner, and directions of other data."""
    purpose = "the removal of a direction"
    learner: OtherLearner = "refuse" if attribution.units == "output" else "note"
    notes = check_same(purpose, attribution, question, learner=learner)
    check_same(purpose, space, question, learner="ignore")
    return notes


def _check(question: Question, attribution: Attribution, space: Principal, verify: int) -> None:
    shape = (space.coordinates.shape[0], space.directions.shape[1])
    if not (attribution.m, attribution.n) == (question.m, question.n) == shape:
        raise BadInput(
            "dl-733",
            asked=f"a question of {question.m} target rows and {question.n} training examples",
            found=f"an attribution of {attribution.m} and {attribution.n}, directions of {shape[0]} and {shape[1]}",
            do="use the attribution of this question, and its principal directions",
        )
    if verify < 2:
        raise BadInput(
            "dl-731",
            asked=f"a direction tested with {verify} seeds",
            found="a count that gives no interval",
            do="ask for at least 2 (8 are a good number)",
        )
    if "train" not in capabilities(question):
        raise CapabilityError(
            "dl-734",
            asked="the removal of a direction",
            found=f"{type(question.learner).__name__}, which holds finished models",
            do="ask the question of a learner with `train`",
        )
