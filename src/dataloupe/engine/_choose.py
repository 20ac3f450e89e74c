"""Which back end: measured by a short probe, never guessed."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool

from dataloupe.core import Question, SteppedLearner, Subsets
from dataloupe.engine._train import Backend, train_stack

GROUPS = (8, 32, 128)
_SPAWN_SECONDS = 5.0
_UNIT_SECONDS = 5.0
_PROBE_SECONDS = 0.2


class Choice(NamedTuple):
    """The chosen back end, its models per second on this machine, and what was measured."""

    backend: Backend
    models_per_second: float
    measured: dict[str, float]
    why_no_processes: str | None


def choose(
    question: Question,
    subsets: Subsets,
    count: int,
    cores: int,
    why_not_sendable: Callable[[Any], str | None],
) -> Choice:
    """Time a few steps of each back end and take the fastest for ``count`` models.

    ``processes`` is a candidate where the question can be sent to a worker and the work outlasts the start of
    the processes; it is credited with ``cores`` times the rate of one thread.
    """
    with threads(1):
        single = rates(question, subsets, count)
    name, rate = max(single.items(), key=lambda item: item[1])
    measured = {f"{name}, 1 thread": rate for name, rate in single.items()}
    why_not = "one core" if cores == 1 else why_not_sendable(question)
    if why_not is None and count / rate * (1 - 1 / cores) < _SPAWN_SECONDS:
        why_not = "the work is shorter than the start of the processes"
    if why_not is None:
        measured["processes (expected)"] = rate * cores
        return Choice(_backend("processes", name, 1, rate, count, cores), rate * cores, measured, None)
    if cores > 1:
        with threads(cores):
            wide = rates(question, subsets, count, only=name)[name]
        measured[f"{name}, {cores} threads"] = wide
        if wide > rate:
            return Choice(_backend(name.split()[0], name, cores, wide, count, 1), wide, measured, why_not)
    return Choice(_backend(name.split()[0], name, 1, rate, count, 1), rate, measured, why_not)


def rates(question: Question, subsets: Subsets, count: int, only: str | None = None) -> dict[str, float]:
    """Models per second of ``loop`` and of ``stacked`` in groups (of at most ``count``), with the threads set now."""
    learner = question.learner
    if not isinstance(learner, SteppedLearner):
        return {"loop": _whole_training(question, subsets)}
    masks = subsets.masks(np.arange(min(subsets.count, 4)))
    found: dict[str, float] = {}
    for name, group in [("loop", 1), *((f"stacked {g}", g) for g in GROUPS if g <= max(count, 8))]:
        if only is None or only == name:
            found[name] = _short_training(question, learner, masks, group)
        if group > 8 and only is None and found[name] < 0.7 * max(found.values()):
            break
    return found


def _backend(kind: Any, name: str, threads: int, rate: float, count: int, workers: int) -> Backend:
    group = int(name.split()[1]) if name.startswith("stacked") else 1
    most = max(1, count // (4 * workers))
    unit = max(group, min(round(rate / workers * _UNIT_SECONDS) or 1, most) // group * group)
    return Backend(kind, "stacked" if group > 1 else "loop", group, threads, unit)


def _short_training(
    question: Question, learner: SteppedLearner, masks: Bool[np.ndarray, "k n"], group: int
) -> float:
    """Models per second from a few steps of a stack of ``group``, the start of the training left out."""
    weights = torch.from_numpy(masks[np.arange(group) % len(masks)].astype(np.float32))
    total = sum(1 for _ in learner.batches(weights[0], seed=0))

    def seconds(steps: int) -> float:
        start = time.perf_counter()
        train_stack(learner, question.train, weights, list(range(group)), steps=steps)
        return time.perf_counter() - start

    seconds(1)
    base, few = seconds(1), min(total, 3)
    per_step = max((seconds(few) - base) / max(few - 1, 1), 1e-6)
    many = min(total, max(few, round(_PROBE_SECONDS / per_step)))
    per_step = max((seconds(many) - base) / max(many - 1, 1), 1e-6)
    return group / (base + per_step * (total - 1))


def _whole_training(question: Question, subsets: Subsets) -> float:
    start = time.perf_counter()
    weights = torch.from_numpy(subsets.masks([0])[0].astype(np.float32))
    question.learner.train(question.train, weights, seed=0)  # type: ignore[union-attr]
    return 1 / max(time.perf_counter() - start, 1e-6)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Run a block with so many threads inside each operation, and put the old number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
