"""Which back end: measured by a short probe, never guessed."""

import time
import warnings
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool

from dataloupe._errors import TrainingError
from dataloupe.core import (
    Question,
    SteppedLearner,
    Subsets,
    isolated,
    learner_seed,
    must_train,
    name_of,
    trained,
    training_errors,
)
from dataloupe.engine._kinds import takes_steps
from dataloupe.engine._stack import train_stack
from dataloupe.engine._train import Backend, threads
from dataloupe.engine._training_checks import Pair, stack_problem

GROUPS = (8, 32, 128)
_LONG_SECONDS = 60.0
_UNIT_SECONDS = 5.0
_PROBE_SECONDS = 0.2


class Choice(NamedTuple):
    """The chosen back end, the seconds it takes for one model on this machine, and what was measured."""

    backend: Backend
    seconds: float
    measured: dict[str, float]


def choose(question: Question, subsets: Subsets, count: int, cores: int) -> Choice:
    """Time a few steps of ``loop`` and of ``stacked`` in several groups, and take the fastest.

    One thread each: many trainings fill the cores better side by side. Only where a single training is longer
    than a minute are more threads tried. ``measured`` are models per second.
    """
    with isolated(), threads(1):
        found = rates(question, subsets, count)
    name, rate = max(found.items(), key=lambda item: item[1])
    measured = {f"{one}, 1 thread": speed for one, speed in found.items()}
    inside = 1
    if cores > 1 and 1 / rate > _LONG_SECONDS:
        with isolated(), threads(cores):
            wide = rates(question, subsets, count, only=name)[name]
        measured[f"{name}, {cores} threads"] = wide
        if wide > 1.2 * rate:
            inside, rate = cores, wide
    group = int(name.split()[1]) if name.startswith("stacked") else 1
    lanes = cores // inside
    unit = max(group, min(round(rate * _UNIT_SECONDS), count // (4 * lanes)) // group * group)
    return Choice(Backend("stacked" if group > 1 else "loop", group, inside, unit), 1 / rate, measured)


def rates(question: Question, subsets: Subsets, count: int, only: str | None = None) -> dict[str, float]:
    """Models per second of ``loop`` and of ``stacked`` in groups (of at most ``count``), with the threads set now."""
    learner = question.learner
    if not takes_steps(learner):
        return {"loop": _whole_training(question, subsets)}
    masks = subsets.masks(np.arange(min(subsets.count, 4)))
    found: dict[str, float] = {}
    for name, group in [("loop", 1), *((f"stacked {g}", g) for g in GROUPS if g <= max(count, GROUPS[0]))]:
        if only is not None and only != name:
            continue
        if group == GROUPS[0] and not _may_stack(question, learner, masks, subsets):
            break
        try:
            with (
                warnings.catch_warnings(),
                training_errors(f"{name_of(learner)}, {name}, to see how long it takes"),
            ):
                warnings.filterwarnings("ignore", "There is a performance drop")  # that is what is measured
                found[name] = _short_training(question, learner, masks, group)
        except TrainingError:
            if group == 1:
                raise
            break  # a module that cannot be stacked: the loop trains it
        if group > GROUPS[0] and only is None and found[name] < 0.7 * max(found.values()):
            break
    return found


def _may_stack(
    question: Question, learner: SteppedLearner, masks: Bool[np.ndarray, "k n"], subsets: Subsets
) -> bool:
    """Whether a model in a stack takes the steps that it takes alone."""
    seeds = [learner_seed(learner, subsets.train_seed(k, 0)) for k in range(len(masks))]
    with training_errors(f"the first steps of {name_of(learner)}"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        pair = Pair.of(learner, masks, seeds)
        return stack_problem(question, learner, pair, same_size=subsets.kind == "fixed") is None


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
    trained(must_train(question.learner), question.train, weights, seed=0, where=", to see how long it takes")
    return 1 / max(time.perf_counter() - start, 1e-6)
