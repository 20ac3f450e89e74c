"""Training of many models: one after the other, or stacked in one program."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Array
from dataloupe.core import (
    DIVERGED,
    OK,
    SHORT_SEED,
    Model,
    Origin,
    Question,
    State,
    SteppedLearner,
    Subsets,
    TorchModel,
    isolated,
    learner_seed,
    must_show_state,
    must_train,
    name_of,
    torch_model,
    trained,
    training_errors,
)
from dataloupe.engine._kinds import takes_stacks, takes_steps
from dataloupe.engine._stack import measure_stack, pick, train_stack
from dataloupe.engine._training_checks import Pair, check_recipe, is_repeatable, not_repeatable

_MANY_TRAININGS = 8
_LONG_SECONDS = 10.0


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
    """What a worker needs to know to train any unit; the one that begins at ``first`` checks the recipe."""

    question: Question
    subsets: Subsets
    repeats: int
    backend: Backend
    keep: bool
    first: int = -1


class Unit(NamedTuple):
    """What one unit of trainings gave: models ``start`` to ``stop`` in the order (subset, seed)."""

    values: Float[np.ndarray, "models m"]
    status: UInt8[np.ndarray, " models"]
    tensors: dict[str, Array]


def run_unit(work: Work, span: tuple[int, int]) -> Unit:
    """Train and measure the models ``span``: number ``i`` is subset ``i // repeats``, seed ``i % repeats``.

    The unit that begins at ``work.first`` checks the recipe before it trains (:mod:`engine._training_checks`).
    """
    learner = must_train(work.question.learner)
    places = [divmod(i, work.repeats) for i in range(*span)]
    seeds = [learner_seed(learner, work.subsets.train_seed(k, r)) for k, r in places]
    trainings = Trainings(work.question, work.subsets.masks([k for k, _ in places]), seeds, places)
    values = np.empty((len(places), work.question.m), dtype=np.float32)
    kept: list[dict[str, Array]] = []
    with isolated(), threads(work.backend.threads):
        first = _checked(work, trainings) if span[0] == work.first else None
        for start, stop, models, measured in _stacks(trainings, work.backend, first):
            values[start:stop] = measured
            if work.keep:
                kept.extend(model_tensors(model) for model in models)
        tensors = {name: np.stack([one[name] for one in kept]) for name in kept[0]} if kept else {}
        moved = _moved(must_show_state(work.question.learner), tensors) if kept else {}
    healthy = np.isfinite(values).all(axis=1)
    values[~healthy] = np.nan
    return Unit(values, np.where(healthy, OK, DIVERGED).astype(np.uint8), moved)


class Trainings(NamedTuple):
    """Trainings of one unit: the subsets ``[k, n]``, the seeds, and which (subset, repeat) each is."""

    question: Question
    masks: Bool[np.ndarray, "k n"]
    seeds: Sequence[int]
    places: Sequence[tuple[int, int]]

    def words(self, start: int, stop: int) -> str:
        """Some of them in an error message."""
        more = f" and {stop - start - 1} more" if stop - start > 1 else ""
        return f"{self._place(start)}{more} (seed {self.seeds[start]})"

    def _place(self, i: int) -> str:
        subset, repeat = self.places[i]
        return f" on subset {subset}, repeat {repeat}"

    def one(self, i: int) -> tuple[Model, Array]:
        """A model of ``learner.train``, and the outputs."""
        learner, weights = (
            must_train(self.question.learner),
            torch.from_numpy(self.masks[i].astype(np.float32)),
        )
        model = trained(learner, self.question.train, weights, seed=self.seeds[i], where=self._place(i))
        with training_errors(f"the outputs of {name_of(learner)}{self.words(i, i + 1)}"):
            return model, self.question.measure(model)


def _checked(work: Work, trainings: Trainings) -> tuple[Model, Array] | None:
    """Hold a recipe against itself: a few steps of a stepped learner; any other trains its first model twice.

    The second training is left out where it would be a large share of all the work, and long.
    """
    learner = must_train(work.question.learner)
    if takes_steps(learner):
        with training_errors(f"the first steps of {name_of(learner)}{trainings.words(0, 1)}"):
            pair = Pair.of(learner, trainings.masks, trainings.seeds)
            check_recipe(
                work.question,
                learner,
                pair,
                stacked=work.backend.kind == "stacked",
                same_size=work.subsets.kind == "fixed",
            )
        return None
    began = time.perf_counter()
    first = trainings.one(0)
    few = work.subsets.count * work.repeats < _MANY_TRAININGS
    if not is_repeatable(learner) or (few and time.perf_counter() - began > _LONG_SECONDS):
        return first
    again = trainings.one(0)[1]
    if not np.array_equal(first[1], again, equal_nan=True):
        far = float(np.nanmax(np.abs(first[1] - again)))
        raise not_repeatable(learner, f"another model the second time, its outputs {far:.2g} away")
    return first


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
    trainings: Trainings, backend: Backend, first: tuple[Model, Array] | None
) -> Iterator[tuple[int, int, list[Model], Array]]:
    """(first, last, models, values) of every stack of the unit, in order; the first model may be there already."""
    learner = must_train(trainings.question.learner)
    steps = takes_steps(learner)
    stacked = steps and backend.kind == "stacked"
    same_size = isinstance(learner, SteppedLearner) and learner.couples_rows
    for start, stop in stacks_of(trainings.masks, backend.group if stacked else 1, same_size):
        if takes_steps(learner) and (stacked or takes_stacks(learner)):
            with training_errors(name_of(learner) + trainings.words(start, stop)):
                models, values = _one_stack(learner, trainings, slice(start, stop), stacked)
        else:
            model, measured = first if first is not None and start == 0 else trainings.one(start)
            models, values = [model], measured[None]
        yield start, stop, models, values


def _one_stack(
    learner: SteppedLearner, trainings: Trainings, some: slice, stacked: bool
) -> tuple[list[Model], Array]:
    """Models in lock step, and their outputs."""
    weights = torch.from_numpy(trainings.masks[some].astype(np.float32))
    count = len(weights)
    # A stack of one would take another path through the kernels: a tail of one is trained twice over.
    copies = 2 if stacked and count == 1 else 1
    seeds = [*trainings.seeds[some]] * copies
    with isolated(seed=seeds[0] % SHORT_SEED):
        states = train_stack(learner, trainings.question.train, weights.repeat(copies, 1), seeds)
    models = [learner.model(pick(states, i)) for i in range(count)]
    return models, measure_stack(trainings.question, learner, states)[:count]


def stacks_of(masks: Bool[np.ndarray, "k n"], group: int, same_size: bool) -> Iterator[tuple[int, int]]:
    """Runs of at most `group` models; of one subset size if the rows of a batch feel each other."""
    sizes = masks.sum(axis=1)
    start = 0
    for stop in range(1, len(masks) + 1):
        full = stop - start == group
        if stop == len(masks) or full or (same_size and sizes[stop] != sizes[start]):
            yield start, stop
            start = stop


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Run a block with so many threads inside each operation, and put the old number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
