"""What a diffusion model would have made of the same noise without the examples that a sample is attributed to."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput, CapabilityError, TrainingError
from dataloupe._identity import Stream
from dataloupe._typing import Facts
from dataloupe.apps._journey import Journey, Sampler
from dataloupe.core import Attribution, Lab, Learner, Question, Subsets, check_same, checked, helping
from dataloupe.judge import Interval, crossed_mean

Distance = Callable[[Tensor, Tensor], Tensor]
"""From two times b samples to b numbers."""


@dataclasses.dataclass(frozen=True, eq=False)
class Regenerated:
    """How far samples move when their top rows are removed, and when random rows are: ``top [k, r]`` and ``random [k, r]``.

    Of sample j and seed r, the distance between what models with and without the rows make of the same noise. ``unremoved`` are the samples
    of the models that saw all, ``without_top`` and ``without_random`` those of the others, for every seed ``[r, k, ...]``. ``verdict`` is "agree" if
    the top moves them further and the interval of the difference leaves 0 out, "disagree" if random rows do, else "undecided".
    """

    method: str
    removed: int
    step: int
    top: Float[np.ndarray, "k r"]
    random: Float[np.ndarray, "k r"]
    top_mean: float
    top_interval: Interval
    random_mean: float
    random_interval: Interval
    difference: float
    difference_interval: Interval
    unremoved: Float[Tensor, "r k *shape"]
    without_top: Float[Tensor, "r k *shape"]
    without_random: Float[Tensor, "r k *shape"]
    notes: tuple[str, ...] = ()
    provenance: Facts = dataclasses.field(default_factory=dict)

    @property
    def verdict(self) -> Literal["agree", "disagree", "undecided"]:
        """Whether the rows said to matter do, more than others."""
        low, high = self.difference_interval
        return "agree" if low > 0 else "disagree" if high < 0 else "undecided"

    def __str__(self) -> str:
        (a, b), (c, d) = self.top_interval, self.random_interval
        return (
            f"removing the top {self.removed} moves a sample by {self.top_mean:.3g} [{a:.3g}, {b:.3g}], {self.removed} random rows "
            f"by {self.random_mean:.3g} [{c:.3g}, {d:.3g}]: {self.verdict}; {len(self.top)} samples x {self.top.shape[1]} seeds"
        )

    def to_json(self) -> dict[str, Any]:
        """The numbers, without the samples."""
        kept = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        found = {name: value for name, value in kept.items() if not isinstance(value, Tensor)}
        return {
            name: value.tolist()
            if isinstance(value, np.ndarray)
            else list(value)
            if isinstance(value, tuple)
            else value
            for name, value in found.items()
        } | {"verdict": self.verdict}


def root_mean_square(some: Tensor, others: Tensor) -> Tensor:
    """The root of the mean squared difference of every pair of samples."""
    return (some - others).flatten(1).square().mean(1).sqrt()


@checked("dl-749")
def regenerate(
    question: Question,
    lab: Lab,
    attribution: Attribution,
    journey: Journey,
    sampler: Sampler,
    *,
    remove: int = 100,
    repeats: int = 2,
    step: int = 0,
    seed: int = 0,
    distance: Distance = root_mean_square,
) -> Regenerated:  # budget: 10 parameters, all but the first five by name
    """Remove each sample's top rows, retrain, and sample again from where it stood at a step, under the same noise.

        top[j, r] = d(x_j(all but its top rows; r), x_j(all; r)),    random[j, r] with as many random rows

    Target row j of the question is about sample j of the journey (``journey.ends()``, or ``journey.targets([i])``); its top rows are those that
    are said to help it most (of a loss: to lower it). Training seeds are common to all worlds, and the random rows of a seed to all samples: ``(k + 2) repeats``
    trainings for k samples. Intervals (95 %) take samples and seeds as drawn at random.

    Raises ``BadInput`` dl-749 (a question about other rows, settings), dl-512 (other training data, targets or output),
    ``CapabilityError`` dl-734 (a learner that cannot retrain),
    ``TrainingError`` dl-718 (samples that are no numbers).

    Source: Georgiev et al. 2023, section 5; Zheng et al. 2024, section 4.3.
    """
    check_regenerate(question, remove, repeats)
    notes = _check_rows(question, attribution, journey)
    helps = helping(question.output)
    tops = [attribution.top(j, remove, sign=helps) for j in range(len(journey))]
    parts = [journey.part([j]) for j in range(len(journey))]
    made: list[list[Tensor]] = [[], [], []]
    for r in range(repeats):
        drawn = Stream.root(seed)("regenerate", r).bits(np.arange(question.n))
        random = np.argsort(drawn, kind="stable")[:remove]
        every = lab.models(question, Subsets.without(question.n, [[], random, *tops], seed=seed + r))
        made[0].append(sampler.again(every[0], journey, step))
        made[1].append(sampler.again(every[1], journey, step))
        made[2].append(torch.cat([sampler.again(every[2 + j], part, step) for j, part in enumerate(parts)]))
    full, random_ones, top_ones = (torch.stack(one) for one in made)
    if not all(bool(one.isfinite().all()) for one in (full, random_ones, top_ones)):
        raise TrainingError(
            "dl-718",
            asked="samples of retrained models",
            found="numbers that are not finite: a training diverged",
            do="lower the learning rate",
        )
    top, other = (
        np.stack([distance(a, b).double().numpy() for a, b in zip(one, full, strict=True)], axis=1)
        for one in (top_ones, random_ones)
    )
    (top_mean, top_span), (mean, span), (apart, apart_span) = (
        crossed_mean(one) for one in (top, other, top - other)
    )
    return Regenerated(
        attribution.info.method, remove, step, top, other, top_mean, top_span, mean, span, apart, apart_span,
        full, top_ones, random_ones, notes, question.provenance,
    )  # fmt: skip


@checked("dl-749")
def check_regenerate(question: Question, remove: int, repeats: int) -> None:
    """Refuse what :func:`regenerate` would, before anything is attributed (dl-734, dl-749)."""
    if not isinstance(question.learner, Learner):
        raise CapabilityError(
            "dl-734",
            asked="samples of retrained models",
            found=f"{type(question.learner).__name__}, which cannot retrain",
            do="give a learner with `train`, such as dataloupe.SGD",
        )
    if not 0 < remove < question.n or repeats < 2:
        raise BadInput(
            "dl-749",
            asked=f"the removal of {remove} rows, {repeats} times",
            found=f"{question.n} training examples",
            do=f"remove 1 to {question.n - 1}, and take 2 seeds or more",
        )


def _check_rows(question: Question, attribution: Attribution, journey: Journey) -> tuple[str, ...]:
    """Refuse scores of other rows than one for every sample, and of another question; notes on another learner."""
    if (attribution.n, attribution.m) != (question.n, question.m) or question.m != len(journey):
        raise BadInput(
            "dl-749",
            asked=f"a journey of {len(journey)} samples, attributed by scores of {attribution.m} target rows",
            found=f"a question of {question.m} target rows and {question.n} examples (scores: {attribution.n})",
            do="ask about one row per sample: Question(..., targets=journey.ends()) or journey.targets([step])",
        )
    purpose = f"samples without the top rows of {attribution.info.method}"
    return check_same(purpose, attribution, question, learner="note")
