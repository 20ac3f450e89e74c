"""Training of many models: one after the other, or stacked in one program."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.utils._pytree import tree_map

from dataloupe._errors import BadInput, CapabilityError, TrainingError
from dataloupe._typing import Array
from dataloupe.core import (
    DIVERGED,
    OK,
    Batch,
    Examples,
    Model,
    Origin,
    Question,
    Slot,
    StackedLearner,
    State,
    SteppedLearner,
    Subsets,
    TorchModel,
    flat_values,
    must_show_state,
    must_train,
    one_value,
    torch_model,
)


@dataclasses.dataclass(frozen=True)
class Backend:
    """How models are trained; recorded before the first unit, since it decides bits.

    ``loop`` trains one model after the other, ``stacked`` ``group`` of them in one program, with ``threads``
    threads inside each operation. ``unit`` is how many models one file holds. Which process does it decides
    nothing. Raises ``BadInput`` dl-226.
    """

    kind: Literal["loop", "stacked"]
    group: int = 1
    threads: int = 1
    unit: int = 1

    def __post_init__(self) -> None:
        """Refuse an unknown kind and numbers below 1."""
        numbers = (self.group, self.threads, self.unit)
        if self.kind not in ("loop", "stacked") or any(type(k) is not int or k < 1 for k in numbers):
            raise BadInput(
                "dl-226",
                asked="a back end: loop or stacked, and whole numbers from 1 up for group, threads and unit",
                found=f"{self.kind!r}, group {self.group!r}, threads {self.threads!r}, unit {self.unit!r}",
                do='write Backend("loop") or Backend("stacked", group=32, threads=1, unit=32)',
            )


def environment() -> dict[str, str]:
    """What decides bits besides the back end."""
    return {
        "torch": str(torch.__version__),
        "device": "cpu",
        "processor": torch.backends.cpu.get_cpu_capability(),
    }


class Work(NamedTuple):
    """What a worker needs to know to train any unit."""

    question: Question
    subsets: Subsets
    repeats: int
    backend: Backend
    keep: bool


class Unit(NamedTuple):
    """What one unit of trainings gave: models ``start`` to ``stop`` in the order (subset, seed)."""

    values: Float[np.ndarray, "models m"]
    status: UInt8[np.ndarray, " models"]
    tensors: dict[str, Array]


def run_unit(work: Work, span: tuple[int, int]) -> Unit:
    """Train and measure the models ``span``: number ``i`` is subset ``i // repeats``, seed ``i % repeats``."""
    question, subsets, repeats = work.question, work.subsets, work.repeats
    places = [divmod(i, repeats) for i in range(*span)]
    masks = subsets.masks([k for k, _ in places])
    seeds = [subsets.train_seed(k, r) for k, r in places]
    values = np.empty((len(places), question.m), dtype=np.float32)
    kept: list[dict[str, Array]] = []
    for start, stop, models, measured in _stacks(question, masks, seeds, work.backend):
        values[start:stop] = measured
        if work.keep:
            kept.extend(model_tensors(model) for model in models)
    healthy = np.isfinite(values).all(axis=1)
    values[~healthy] = np.nan
    tensors = {name: np.stack([one[name] for one in kept]) for name in kept[0]} if kept else {}
    moved = _moved(must_show_state(question.learner), tensors) if kept else {}
    return Unit(values, np.where(healthy, OK, DIVERGED).astype(np.uint8), moved)


def model_tensors(model: Model) -> dict[str, Array]:
    """Parameters and buffers of a torch model, by name; bf16, which NumPy lacks, as fp32 of the same values."""
    live = torch_model(model)
    return {name: _as_array(tensor) for name, tensor in {**live.params, **live.buffers}.items()}


def _as_array(tensor: Tensor) -> Array:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().cpu().numpy()


def _moved(learner: SteppedLearner, tensors: dict[str, Array]) -> dict[str, Array]:
    """Without the buffers (and what is held still) that in every model are those of ``learner.init(seed=0)``."""
    still = learner.init(seed=0).buffers
    return {
        name: array
        for name, array in tensors.items()
        if name not in still or not (array == _as_array(still[name])).all()
    }


def rebuilt(
    learner: SteppedLearner,
    blank: State,
    arrays: dict[str, Array],
    i: int,
    origin: Origin,
) -> Model:
    """Model i of a unit's tensors; buffers that the unit has not are those of ``blank``, which is ``learner.init(seed=0)``."""
    tensors = {k: torch.from_numpy(np.array(array[i])) for k, array in arrays.items() if k != "status"}
    params = {name: tensors[name].to(start.dtype) for name, start in blank.params.items()}
    buffers = {name: tensors.get(name, still).to(still.dtype) for name, still in blank.buffers.items()}
    model = learner.model(State(params, buffers, {}, blank.step, blank.seed))
    return dataclasses.replace(model, origin=origin) if isinstance(model, TorchModel) else model


def _stacks(
    question: Question, masks: Bool[np.ndarray, "k n"], seeds: Sequence[int], backend: Backend
) -> Iterator[tuple[int, int, list[Model], Array]]:
    """(first, last, models, values) of every stack of the unit, in order."""
    learner, data = must_train(question.learner), question.train
    stacked = isinstance(learner, SteppedLearner) and backend.kind == "stacked"
    same_size = isinstance(learner, SteppedLearner) and learner.couples_rows
    for start, stop in stacks_of(masks, backend.group if stacked else 1, same_size):
        weights = torch.from_numpy(masks[start:stop].astype(np.float32))
        if isinstance(learner, StackedLearner) or (stacked and isinstance(learner, SteppedLearner)):
            # A stack of one would take another path through the kernels: a tail of one is trained twice over.
            copies = 2 if stacked and stop - start == 1 else 1
            states = train_stack(learner, data, weights.repeat(copies, 1), [*seeds[start:stop]] * copies)
            models = [learner.model(pick(states, i)) for i in range(stop - start)]
            values = measure_stack(question, learner, states)[: stop - start]
        else:
            models = [learner.train(data, weights[0], seed=seeds[start])]
            values = question.measure(models[0])[None]
        yield start, stop, models, values


def stacks_of(masks: Bool[np.ndarray, "k n"], group: int, same_size: bool) -> Iterator[tuple[int, int]]:
    """Runs of at most `group` models; of one subset size if the rows of a batch feel each other."""
    sizes = masks.sum(axis=1)
    start = 0
    for stop in range(1, len(masks) + 1):
        full = stop - start == group
        if stop == len(masks) or full or (same_size and sizes[stop] != sizes[start]):
            yield start, stop
            start = stop


def train_stack(
    learner: SteppedLearner,
    data: Examples,
    weights: Float[Tensor, "M n"],
    seeds: Sequence[int],
    *,
    steps: int | None = None,
) -> State:
    """M trainings in lock step (or their first ``steps``); a model whose schedule ends first waits aside."""
    step = learner.steps if isinstance(learner, StackedLearner) else _vmapped(learner)
    states = tree_map(lambda *tensors: torch.stack(tensors), *[learner.init(seed=seed) for seed in seeds])
    schedules = [
        itertools.islice(learner.batches(w, seed=seed), steps) for w, seed in zip(weights, seeds, strict=True)
    ]
    running = list(range(len(seeds)))
    finished: dict[int, State] = {}
    generator = torch.random.default_generator.get_state()
    first = True
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
        if first and not torch.equal(generator, torch.random.default_generator.get_state()):
            raise CapabilityError(
                "dl-222",
                asked="a training that is the same each time",
                found="a step that draws from torch's global generator (dropout as a function?)",
                do="take the randomness out of forward, or use SGD(augment=...)",
            )
        first = False
    return tree_map(lambda *tensors: torch.stack(tensors), *[finished[i] for i in range(len(seeds))])


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
            return torch.vmap(learner.step, in_dims=(0, dims))(states, batches)
        except RuntimeError as error:
            raise TrainingError(
                "dl-223",
                asked="a stacked step of " + type(learner).__name__,
                found=str(error).splitlines()[0],
                do='make `step` fit for torch.vmap, or train with Lab(backend="loop")',
            ) from error

    return step
