"""Learning algorithms: data weights and a seed in, a model out."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._errors import CapabilityError
from dataloupe.core._examples import Examples, Rows
from dataloupe.core._model import Model, Origin, TorchModel

_L = TypeVar("_L")
Removal: TypeAlias = Literal["repack", "mask"]
"""What taking an example away means; see the design, section 5.1."""


class State(NamedTuple):
    """All that a training carries from step to step: nothing about it lives anywhere else."""

    params: dict[str, Tensor]
    buffers: dict[str, Tensor]
    optimizer: dict[str, dict[str, Tensor]]
    step: Int[Tensor, ""]
    seed: Int[Tensor, ""]


class Slot(NamedTuple):
    """One step of the schedule: which rows, in which epoch, how far into the training (0 to 1)."""

    ids: Int[np.ndarray, " b"]
    epoch: int
    progress: float


class Batch(NamedTuple):
    """What one step sees. An id of -1 stands for no example: a constant row of weight 0."""

    ids: Int[Tensor, " b"]
    data: Rows
    weights: Float[Tensor, " b"]
    total: Float[Tensor, ""]
    epoch: Int[Tensor, ""]
    progress: Float[Tensor, ""]


@runtime_checkable
class Learner(Protocol):
    """A learning algorithm: data weights ``w`` of ``[n]`` and a seed in, a model out. Same in, same out.

    A learner may declare ``wide_seeds = True`` (it takes seeds of 63 bits) and ``repeatable = False`` (its numbers do not
    come again, such as those of a GPU's kernels: no training is then repeated to see).
    """

    @property
    def removal(self) -> Removal:
        """What a weight of 0 means to this learner."""
        ...

    def train(self, data: Examples, weights: Float[Tensor, " n"], *, seed: int) -> Model:
        """The model that this algorithm makes of the weighted data.

        ``seed`` is a whole number from 0 and below 2^31, as NumPy, scikit-learn and Hugging Face take it. A lab calls
        ``train`` under torch's, NumPy's and Python's global generators seeded with it, and puts these back afterwards.
        """
        ...


@runtime_checkable
class SteppedLearner(Learner, Protocol):
    """A learner that shows its steps as pure functions, so that an engine can train many models at once."""

    @property
    def couples_rows(self) -> bool:
        """Whether a row of a batch feels the others in the forward pass (BatchNorm in training) or in the loss (contrastive)."""
        ...

    def init(self, *, seed: int) -> State:
        """The state before the first step."""
        ...

    def batches(self, weights: Float[Tensor, " n"], *, seed: int) -> Iterable[Slot]:
        """The schedule: under ``repack`` only kept rows, under ``mask`` all of them."""
        ...

    def step(self, state: State, batch: Batch) -> State:
        """One step: a pure function."""
        ...

    def model(self, state: State) -> Model:
        """The model inside a state."""
        ...


@runtime_checkable
class StackedLearner(SteppedLearner, Protocol):
    """A stepped learner with a faster step for many models: the same answer as ``vmap(step)``, sooner."""

    def steps(self, states: State, batches: Batch) -> State:
        """``step`` for M models, every tensor with a leading axis M. The states given are used up."""
        ...


@runtime_checkable
class TakesNaN(Protocol):
    """A learner that says whether NaN in the inputs is a missing value to it; one that does not say so never meets NaN."""

    @property
    def takes_nan(self) -> bool:
        """Whether inputs may hold NaN."""
        ...


@runtime_checkable
class TorchReference(Protocol):
    """A stepped learner that can take its steps in plain torch, to be held against."""

    def reference(self, state: State, batches: Iterable[Batch]) -> TorchModel:
        """The model that a module, ``backward`` and ``torch.optim`` make of a state in these batches."""
        ...


@runtime_checkable
class ModelSource(Protocol):
    """Models that were trained elsewhere: they can be read, not made."""

    def models(self) -> "list[Model]":
        """All of them."""
        ...

    def subsets(self, n: int) -> Any:
        """The :class:`Subsets` that each was trained on, or None where nobody knows."""
        ...


def must_train(learner: Learner | ModelSource) -> Learner:
    """The learner, if it can train (dl-207)."""
    if isinstance(learner, Learner):
        return learner
    raise CapabilityError(
        "dl-207",
        asked="retrainings",
        found=f"{type(learner).__name__}, which holds finished models",
        do="give a learner with `train`",
    )


def fresh(learner: _L) -> _L:
    """The learner as before its first training: one that holds a module gives one with a module of its own."""
    own = getattr(learner, "fresh", None)
    return learner if own is None else own()


def train(learner: SteppedLearner, data: Examples, weights: Float[Tensor, " n"], *, seed: int) -> Model:
    """The plain loop over a learner's steps: the meaning of training, and the reference of every engine."""
    learner = fresh(learner)
    state = learner.init(seed=seed)
    for slot in learner.batches(weights, seed=seed):
        state = learner.step(state, make_batch(data, weights, slot, learner.removal))
    model = learner.model(state)
    if isinstance(model, TorchModel):
        return dataclasses.replace(model, origin=Origin(data.fingerprint, weights.cpu().numpy() != 0))
    return model


def make_batch(data: Examples, weights: Float[Tensor, " n"], slot: Slot, removal: Removal) -> Batch:
    """The rows of a slot. Rows of weight 0 are never read: they become the constant row.

    The denominator of the loss is the number of kept rows under ``repack`` and the batch size under ``mask``.
    """
    ids = torch.as_tensor(slot.ids)
    kept = torch.where(ids >= 0, weights[ids.clamp(min=0)], 0.0)
    ids = torch.where(kept != 0, ids, -1)
    total = float(len(ids)) if removal == "mask" else float((ids >= 0).sum())
    return Batch(
        ids=ids,
        data=data.take(ids),
        weights=kept,
        total=torch.tensor(max(total, 1.0)),
        epoch=torch.tensor(slot.epoch),
        progress=torch.tensor(slot.progress, dtype=torch.float32),
    )


def must_show_state(learner: Any) -> SteppedLearner:
    """The learner, if its models can be kept (dl-221)."""
    if isinstance(learner, SteppedLearner):
        return learner
    raise CapabilityError(
        "dl-221",
        asked="models that can be kept",
        found=f"{type(learner).__name__}, which shows no state",
        do="use dataloupe.SGD or dataloupe.Checkpoints, or a method that only retrains (Datamodel)",
    )
