"""Models that are trained in lock step, in one program."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map

from dataloupe._errors import CapabilityError, TrainingError
from dataloupe.core import (
    Batch,
    Examples,
    Generators,
    Question,
    Slot,
    State,
    SteppedLearner,
    flat_values,
    fresh,
    global_generators,
    one_value,
    vmap_models,
)
from dataloupe.engine._kinds import takes_stacks


def train_stack(
    learner: SteppedLearner,
    data: Examples,
    weights: Float[Tensor, "M n"],
    seeds: Sequence[int],
    *,
    steps: int | None = None,
    states: State | None = None,
) -> State:
    """M trainings in lock step (or their first ``steps``); a model whose schedule ends first waits aside.

    They begin with ``learner.init``, or with the ``states`` given, which are used up.
    """
    learner = fresh(learner)
    step = learner.steps if takes_stacks(learner) else _vmapped(learner)
    if states is None:
        states = tree_map(lambda *tensors: torch.stack(tensors), *[learner.init(seed=seed) for seed in seeds])
    schedules = [
        itertools.islice(learner.batches(w, seed=seed), steps) for w, seed in zip(weights, seeds, strict=True)
    ]
    running = list(range(len(seeds)))
    finished: dict[int, State] = {}
    generators, first = global_generators(), True
    while running:
        slots = [next(schedules[i], None) for i in running]
        if None in slots:
            done = {i for i, slot in zip(running, slots, strict=True) if slot is None}
            finished |= {i: tree_map(torch.clone, pick(states, running.index(i))) for i in done}
            staying = [place for place, i in enumerate(running) if i not in done]
            running = [i for i in running if i not in done]
            if not running:
                break
            states = tree_map(lambda tensor, kept=staying: tensor[kept], states)
            slots = [slot for slot in slots if slot is not None]
        states = step(
            states, stack_batch(data, weights[running], [s for s in slots if s is not None], learner.removal)
        )
        if first:
            _check_generators(generators)
        first = False
    _check_generators(generators)
    return tree_map(lambda *tensors: torch.stack(tensors), *[finished[i] for i in range(len(seeds))])


def _check_generators(before: Generators) -> None:
    """Refuse steps that draw numbers which nothing keys (dl-222)."""
    moved = global_generators().moved_since(before)
    if moved:
        raise CapabilityError(
            "dl-222",
            asked="a training that is the same each time",
            found=f"a step that draws from {' and '.join(moved)} global generator (dropout as a function, noise?)",
            do="take the randomness out of forward, or use SGD(augment=...)",
        )


def stack_batch(data: Examples, weights: Float[Tensor, "M n"], slots: Sequence[Slot], removal: str) -> Batch:
    """The batches of M models in one; shorter ones are filled up with "no example" (id -1, weight 0)."""
    width = max(len(slot.ids) for slot in slots)
    padded = [
        s.ids if len(s.ids) == width else np.pad(s.ids, (0, width - len(s.ids)), constant_values=-1)
        for s in slots
    ]
    stacked = np.stack(padded)
    ids = torch.from_numpy(stacked)
    kept = weights.gather(1, ids.clamp(min=0) if (stacked < 0).any() else ids)
    missing = (ids < 0) | (kept == 0)
    if bool(missing.any()):
        kept, ids = kept.masked_fill(missing, 0.0), ids.masked_fill(missing, -1)
        widths = torch.tensor([float(len(slot.ids)) for slot in slots])
        total = ((ids >= 0).sum(1).float() if removal == "repack" else widths).clamp(min=1.0)
    else:
        total = torch.full((len(slots),), float(width))
    return Batch(
        ids=ids,
        data=data.take(ids),
        weights=kept,
        total=total,
        epoch=torch.tensor([slot.epoch for slot in slots]),
        progress=torch.tensor([slot.progress for slot in slots], dtype=torch.float32),
    )


def measure_stack(question: Question, learner: SteppedLearner, states: State) -> Float[np.ndarray, "M m"]:
    """The question's output of every model of a stack."""
    if len(states.seed) == 1:
        return question.measure(learner.model(pick(states, 0)))[None]
    return flat_values(
        question,
        lambda rows: torch.vmap(lambda state: one_value(question.output, learner.model(state), rows))(states),
        learner.model(pick(states, 0)),
        k=len(states.seed),
    )


def pick(states: State, i: int) -> State:
    """Model i of a stack."""
    return tree_map(lambda tensor: tensor[i], states)


def _vmapped(learner: SteppedLearner) -> Any:
    def step(states: State, batches: Batch) -> State:
        dims = tree_map(lambda leaf: 0 if isinstance(leaf, Tensor) else None, batches)
        try:
            return vmap_models(learner.step, in_dims=(0, dims))(states, batches)
        except RuntimeError as error:
            raise TrainingError(
                "dl-223",
                asked="a stacked step of " + type(learner).__name__,
                found=str(error).splitlines()[0],
                do='make `step` fit for torch.vmap, or train with Lab(backend="loop")',
            ) from error

    return step
