"""Stochastic gradient descent on any torch module, as pure steps."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import grad

from dataloupe._errors import BadInput
from dataloupe._identity import Stream, canonical, identity, mix64_torch, module_settings, uniform_torch
from dataloupe._typing import Inputs
from dataloupe.core import (
    Batch,
    Diffusion,
    Examples,
    Removal,
    Rows,
    Slot,
    State,
    StepCount,
    TorchModel,
    TrainingLoss,
    call_module,
    check_timesteps,
    isolated,
    train,
    training_errors,
)
from dataloupe.learners._augment import Augment
from dataloupe.learners._denoise import images_of, noised, with_images
from dataloupe.learners._losses import Loss, as_training_loss, check_rows_apart, row_losses
from dataloupe.learners._module import Structure, drawn, fresh_structure, own_module, structure_of
from dataloupe.learners._optimizer import gradients_of, learning_rate, moments, update_in_place, updated
from dataloupe.learners._reference import plain_steps
from dataloupe.learners._settings import check_settings
from dataloupe.learners._stacked import stacked_forward

_AUGMENT = Stream.root(0)("augment").seed()
_ORDER_BLOCK = 200_000


@dataclasses.dataclass(frozen=True, eq=False)
class SGD:
    """Mini-batch training of the module that ``module()`` makes.

    ``optimizer="sgd"``: v <- momentum v + g + weight_decay p, p <- p - lr v (Nesterov: p <- p - lr (g +
    momentum v)); ``"adamw"``: decoupled weight decay (Loshchilov and Hutter 2019). The learning rate rises
    linearly over the share ``warmup`` of the steps, then follows ``schedule``: constant, linear or cosine to
    0; triangular is linear with the peak at ``warmup``. The loss of a batch is sum_i w_i loss_i over the
    number of kept rows (``removal="repack"``) or over the batch size (``"mask"``). Of a model that gives ``[b, t, v]``, a
    language model, a row's cross-entropy is the mean over the tokens that :func:`core.next_tokens` tells. ``contrastive``:
    the symmetric cross-entropy of a pair among the kept pairs of its batch (:class:`outputs.PairMargin`). A :class:`Diffusion`: the mean
    squared error of what the model says of a noised sample, the timestep uniform where the row names none. Class weights, focal
    and ignored labels, pixels ``[b, c, h, w]``, several labels per row: one of :mod:`dataloupe.losses`, or a function
    ``(predictions [b, ...], labels) -> [b]`` of your own. TRAK and influence functions are told the loss (``training_loss``).
    ``row_weights`` of the examples multiply the loss of each row; the number of kept rows that divides stays.

    Same in, same out: order, initial numbers, augmentation and noise are keyed by (seed, epoch, example id). The
    factory may draw from the global generators of torch, NumPy and Python; it is called under forked, keyed ones. Modules with
    dropout are refused (dl-212), BatchNorm under ``mask`` too (dl-213), and weights that are all 0 (dl-218).

    >>> learner = SGD(lambda: nn.Linear(2, 2), epochs=3, lr=0.5, batch_size=4)
    >>> data = Examples(torch.eye(2), labels=torch.tensor([0, 1]))
    >>> model = learner.train(data, torch.ones(2), seed=0)
    >>> model.predict(data.inputs).argmax(1).tolist()
    [0, 1]
    """

    module: Callable[[], nn.Module]
    epochs: int = 10
    lr: float = 0.1
    batch_size: int = 64
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["constant", "linear", "cosine", "triangular"] = "constant"
    warmup: float = 0.0
    loss: Loss | Literal["contrastive"] | Diffusion = "cross_entropy"
    label_smoothing: float = 0.0
    augment: Augment | None = None
    removal: Removal = "repack"
    version: str | None = None
    wide_seeds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the settings; the module is looked at when it is first needed."""
        check_settings(self)

    # --- the steps ---

    def init(self, *, seed: int) -> State:
        """Fresh parameters and buffers, drawn under a generator keyed by the seed."""
        module = self._draw(seed)
        params = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
        frozen = {name: p.detach().clone() for name, p in module.named_parameters() if not p.requires_grad}
        buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
        optimizer = moments(self, params)
        return State(params, buffers | frozen, optimizer, torch.tensor(0), torch.tensor(seed))

    def batches(self, weights: Float[Tensor, " n"], *, seed: int) -> Iterator[Slot]:
        """Every epoch the rows in a fresh order, keyed by (seed, epoch, example id), in blocks of the batch size."""
        rows = np.arange(len(weights)) if self.removal == "mask" else np.flatnonzero(weights.numpy())
        per_epoch = -(-len(rows) // self.batch_size)
        if not bool((weights != 0).any()):
            raise BadInput(
                "dl-218",
                asked=f"{self.name} on {len(weights)} examples",
                found="weights that are all 0: nothing is kept",
                do="give a weight of 1 to each row to train on, such as torch.ones(n) for all of them",
            )
        if self.couples_rows and len(rows) % self.batch_size == 1:
            raise BadInput(
                "dl-216",
                asked=f"{self._coupled_by} on batches of {self.batch_size}",
                found=f"{len(rows)} kept rows, which leave one row alone in the last batch of an epoch",
                do="choose another batch size or subset size",
            )
        stream = Stream.root(seed)("order")
        block = max(1, _ORDER_BLOCK // max(len(rows), 1))
        for first in range(0, self.epochs, block):
            epochs = np.arange(first, min(first + block, self.epochs))
            orders = rows[np.argsort(stream.bits(rows, epochs[:, None]), axis=1)]
            for epoch, order in zip(epochs.tolist(), orders, strict=True):
                for step in range(per_epoch):
                    progress = (epoch * per_epoch + step + 0.5) / (self.epochs * per_epoch)
                    yield Slot(order[step * self.batch_size : (step + 1) * self.batch_size], epoch, progress)

    def step_count(self, n: int, kept: int) -> StepCount:
        """The steps of a training on ``kept`` of ``n`` rows."""
        rows = n if self.removal == "mask" else kept
        last = (rows - 1) % self.batch_size + 1
        return StepCount(self.epochs * -(-rows // self.batch_size), self.batch_size, last)

    def step(self, state: State, batch: Batch) -> State:
        """One gradient step: a pure function, fit for vmap."""
        if any(torch._C._functorch.is_functorch_wrapped_tensor(p) for p in state.params.values()):
            gradients, buffers = grad(self._loss, has_aux=True)(
                state.params, state.buffers, state.seed, batch
            )
            moved = updated(self, state, gradients, self._rate(batch.progress))
        else:
            params = {name: p.detach().clone().requires_grad_() for name, p in state.params.items()}
            with torch.enable_grad():
                loss, buffers = self._loss(params, state.buffers, state.seed, batch)
            moved = updated(
                self,
                state._replace(params={name: p.detach() for name, p in params.items()}),
                gradients_of(loss, params),
                self._rate(batch.progress),
            )
        return moved._replace(buffers=buffers, step=state.step + 1)

    def model(self, state: State) -> TorchModel:
        """The model inside a state, for evaluation."""
        return TorchModel(self._structure.evaluation, state.params, state.buffers)

    def train(self, data: Examples, weights: Float[Tensor, " n"], *, seed: int) -> TorchModel:
        """The plain loop over the steps."""
        self._check(Rows(data.inputs, None))
        with isolated(), training_errors(f"{self.name} (seed {seed})"):
            return train(self.fresh(), data, weights, seed=seed)  # type: ignore[return-value]

    def fresh(self) -> "SGD":
        """The same learner with a module of its own: what a forward pass leaves in it reaches no other training."""
        other = copy.copy(self)
        object.__setattr__(other, "_known_structure", fresh_structure(self._structure, self.module))
        return other

    @property
    def name(self) -> str:
        """What it trains, for error messages."""
        return f"SGD of {type(self._structure.training).__name__}"

    @property
    def training_loss(self) -> TrainingLoss | None:
        """The loss as outputs are told it; None for a loss among pairs or of noised samples, which have outputs of their own."""
        if self.loss == "contrastive" or isinstance(self.loss, Diffusion):
            return None
        return as_training_loss(self.loss, self.label_smoothing)

    @property
    def couples_rows(self) -> bool:
        """Whether rows feel each other: in a BatchNorm of the module, or in a contrastive loss."""
        return self.loss == "contrastive" or self._structure.couples_rows

    @property
    def _coupled_by(self) -> str:
        return "a contrastive loss" if self.loss == "contrastive" else "BatchNorm"

    def steps(self, states: State, batches: Batch) -> State:
        """:meth:`step` for M models at once (every tensor has a leading axis M); the states are used up."""
        params = {name: p.requires_grad_() for name, p in states.params.items()}
        module = self._structure.alone if len(states.seed) == 1 else self._structure.training
        self._check(batches.data)
        rows = self._fed(states.seed, batches)
        predicted = stacked_forward(module, params, states.buffers, rows.inputs)
        losses = (batches.weights * self._losses(predicted, rows, batches.weights, 1)).sum(1) / batches.total
        gradients = gradients_of(losses.sum(), params)
        with torch.no_grad():
            moving = states._replace(params={name: p.detach() for name, p in params.items()})
            update_in_place(self, moving, gradients, self._rate(batches.progress))
        return moving._replace(step=states.step + 1)

    def reference(self, state: State, batches: Iterable[Batch]) -> TorchModel:
        """The same steps in plain torch: a module, ``backward`` and ``torch.optim``."""

        def losses(batch: Batch, forward: Callable[[Inputs], Tensor]) -> Tensor:
            rows = self._fed(state.seed, batch)
            return self._losses(forward(rows.inputs), rows, batch.weights, 0)

        module = own_module(self.module, self._structure.training)
        return plain_steps(self, module, state, batches, losses)

    # --- inside ---

    def _loss(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], seed: Tensor, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        tensors = {**params, **{name: b.clone() for name, b in buffers.items()}}
        rows = self._fed(seed, batch)
        predicted = call_module(self._structure.training, tensors, rows.inputs)
        losses = self._losses(predicted, rows, batch.weights, 0)
        return (batch.weights * losses).sum() / batch.total, {
            name: tensors[name].detach() for name in buffers
        }

    def _check(self, rows: Rows) -> None:
        """Refuse timesteps that the diffusion has not (dl-816, dl-817)."""
        if isinstance(self.loss, Diffusion):
            check_timesteps(rows, self.loss)

    def _fed(self, seed: Tensor, batch: Batch) -> Rows:
        """The rows of a batch (or of M), augmented and noised by numbers keyed by (seed, epoch, example id)."""
        augment, diffusion = self.augment, self.loss if isinstance(self.loss, Diffusion) else None
        if augment is not None and diffusion is None and not isinstance(batch.data.inputs, Tensor):
            raise BadInput(
                "dl-215",
                asked="an augmentation",
                found="inputs that are no single tensor",
                do="augment inside the data, or give one tensor",
            )

        def one(seed: Tensor, ids: Tensor, epoch: Tensor, inputs: Inputs) -> tuple[Any, ...]:
            if augment is not None:
                draws = uniform_torch(mix64_torch(seed ^ _AUGMENT), ids, epoch, augment.draws)
                inputs = with_images(inputs, augment(images_of(inputs), draws))
            return (inputs,) if diffusion is None else noised(diffusion, inputs, seed, ids, epoch)

        if augment is None and diffusion is None:
            return batch.data
        changed = (torch.vmap(one) if seed.ndim else one)(seed, batch.ids, batch.epoch, batch.data.inputs)
        labels = batch.data.labels if diffusion is None else changed[1]
        return batch.data._replace(inputs=changed[0], labels=labels)

    def _losses(self, predicted: Tensor, rows: Rows, weights: Tensor, leading: int) -> Tensor:
        """The loss of every row times its row weight, behind so many leading axes."""
        if not self.__dict__.get("_known_fit_loss"):
            check_rows_apart(self.loss, predicted, rows, leading)
            object.__setattr__(self, "_known_fit_loss", True)
        return row_losses(self.loss, self.label_smoothing, predicted, rows, weights, leading)

    def _rate(self, progress: Tensor) -> Tensor:
        return learning_rate(self, progress)

    def _draw(self, seed: int) -> nn.Module:
        return drawn(self.module, seed)

    @property
    def _structure(self) -> Structure:
        known = self.__dict__.get("_known_structure")
        if known is None:
            known = structure_of(self.module, self.removal)
            object.__setattr__(self, "_known_structure", known)
        return known

    def __getstate__(self) -> dict[str, Any]:
        """The settings travel to workers; what was made of them is made anew there."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_known_")}

    def __identity__(self) -> dict[str, Any]:
        """The settings, the factory's code (or ``version``), the tensors and plain attributes of what it makes."""
        fields = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in ("module", "version")
        }
        made_by = {"version": self.version} if self.version is not None else self.module
        return {**fields, "module": made_by, **self._made()}

    def _factory_key(self) -> str:
        return identity(self.module if self.version is None else self.version)

    def _made(self) -> dict[str, Any]:
        """What the factory makes under seed 0; looked at again when its code has changed."""
        key = self._factory_key()
        known = self.__dict__.get("_known_made")
        if known is None or key not in known[0]:
            module = self._draw(0)
            tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            made = {"initial": canonical(tensors), "attributes": identity(module_settings(module))}
            known = (key, self._factory_key()), made  # the factory may count its calls
            object.__setattr__(self, "_known_made", known)
        return known[1]
