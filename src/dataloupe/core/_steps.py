"""How many optimiser steps a training makes, and how many a removal takes away."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from dataloupe.core._question import Question

SMALL_BATCH = 0.1
"""A last batch of so small a share of the batch size moves the model by the noise of few rows."""


class StepCount(NamedTuple):
    """The steps of a whole training, the size of a batch, and how many rows the last batch of an epoch has."""

    steps: int
    batch: int
    last: int


@runtime_checkable
class CountsSteps(Protocol):
    """A learner that tells how many steps it makes without training."""

    def step_count(self, n: int, kept: int) -> StepCount:
        """The steps of a training on ``kept`` of ``n`` rows."""
        ...


def steps_note(question: Question, sizes: Sequence[int]) -> tuple[str, ...]:
    """A sentence where removals of these sizes also change how many steps a training makes, or leave a tiny last batch.

    Removing a batch's worth of rows or more shortens the training: that moves outputs, whichever rows they are.
    """
    learner, n = question.learner, question.n
    if not isinstance(learner, CountsSteps) or not len(sizes):
        return ()
    full = learner.step_count(n, n)
    counts = {size: learner.step_count(n, n - size) for size in sorted({int(size) for size in sizes})}
    lost = {size: full.steps - count.steps for size, count in counts.items() if count.steps < full.steps}
    tiny = [
        size
        for size, count in counts.items()
        if count.last <= SMALL_BATCH * count.batch and count.last < full.last
    ]
    notes = []
    if lost:
        first, most = min(lost), max(lost.values())
        rows = f"removing {first} rows" + (" or more" if len(counts) > 1 else "")
        upto = "up to " if len(set(lost.values())) > 1 else ""
        notes.append(
            f"{rows} takes {upto}{most} of {full.steps} optimiser steps away (batches of {full.batch}): part of the "
            "effect is a shorter training, whichever rows they are"
        )
    if tiny:
        last = counts[tiny[0]].last
        notes.append(
            f"removing {tiny[0]} rows leaves a last batch of {last} in every epoch, whose step is noise: "
            "part of the effect is that"
        )
    return tuple(notes)


def boundary_note(question: Question) -> str:
    """From how many removed rows on a training has fewer steps; empty where the learner does not tell."""
    learner, n = question.learner, question.n
    if not isinstance(learner, CountsSteps):
        return ""
    full = learner.step_count(n, n)
    size = full.last if learner.step_count(n, max(n - full.last, 1)).steps < full.steps else 0
    if not size:
        return ""
    return (
        f"a training has {full.steps:,} steps of {full.batch} rows; removing {size} rows or more makes it shorter, which "
        "moves outputs whichever rows they are"
    )
