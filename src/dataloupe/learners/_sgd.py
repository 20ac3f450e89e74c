"""Stochastic gradient descent on any torch module, as pure steps."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import grad
from torch.optim.sgd import sgd

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import Stream, canonical, mix64_torch, uniform_torch
from dataloupe._typing import Inputs
from dataloupe.core import (
    Batch,
    Diffusion,
    Examples,
    Removal,
    Rows,
    Slot,
    State,
    TorchModel,
    call_module,
    check_timesteps,
    next_tokens,
    said_of,
    train,
)
from dataloupe.learners._augment import Augment
from dataloupe.learners._denoise import images_of, noised, with_images
from dataloupe.learners._stacked import (
    channels_last,
    cross_entropies,
    pair_losses,
    sequence_losses,
    squared_losses,
    stacked_forward,
)

_AUGMENT = Stream.root(0)("augment").seed()
_ORDER_BLOCK = 200_000
_VECTOR = 64
"""Torch's fused kernel rounds the end of a tensor that fills no vector differently: it gets whole vectors only."""


class _Structure(NamedTuple):
    """The module without its numbers: in training mode, the same for one model at a time, in evaluation mode."""

    training: nn.Module
    alone: nn.Module
    evaluation: nn.Module
    couples_rows: bool


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
    squared error of what the model says of a noised sample, the timestep uniform where the row names none.

    Same in, same out: order, initial numbers, augmentation and noise are keyed by (seed, epoch, example id). The
    factory may draw from torch's global generator; it is called under a forked, keyed one. Modules with
    dropout are refused (dl-212), BatchNorm under ``mask`` too (dl-213).

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
    loss: Literal["cross_entropy", "squared", "contrastive"] | Diffusion = "cross_entropy"
    label_smoothing: float = 0.0
    augment: Augment | None = None
    removal: Removal = "repack"
    version: str | None = None

    def __post_init__(self) -> None:
        """Check the settings; the module is looked at when it is first needed."""
        wrong = {
            "epochs": self.epochs < 1,
            "batch_size": self.batch_size < 1,
            "lr": not self.lr > 0,
            "momentum": not 0 <= self.momentum < 1,
            "weight_decay": not self.weight_decay >= 0,
            "warmup": not 0 <= self.warmup < 1,
            "label_smoothing": not 0 <= self.label_smoothing < 1,
            "optimizer": self.optimizer not in ("sgd", "adamw"),
            "schedule": self.schedule not in ("constant", "linear", "cosine", "triangular"),
            "loss": not isinstance(self.loss, Diffusion)
            and self.loss not in ("cross_entropy", "squared", "contrastive"),
            "batch_size (contrastive)": self.loss == "contrastive" and self.batch_size < 2,
            "removal": self.removal not in ("repack", "mask"),
            "nesterov (needs momentum)": self.nesterov and not self.momentum,
            "warmup (the peak of a triangular schedule)": self.schedule == "triangular" and not self.warmup,
        }
        for name in (name for name, bad in wrong.items() if bad):
            value = getattr(self, name.split(" ")[0])
            raise BadInput(
                "dl-211",
                asked=f"SGD with {name} = {value!r}",
                found="a value outside its range",
                do="see help(dataloupe.SGD)",
            )

    # --- the steps ---

    def init(self, *, seed: int) -> State:
        """Fresh parameters and buffers, drawn under a generator keyed by the seed."""
        module = self._draw(seed)
        params = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
        frozen = {name: p.detach().clone() for name, p in module.named_parameters() if not p.requires_grad}
        buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
        kinds = {"sgd": ["velocity"] if self.momentum else [], "adamw": ["mean", "square"]}[self.optimizer]
        optimizer = {kind: {name: torch.zeros_like(p) for name, p in params.items()} for kind in kinds}
        return State(params, buffers | frozen, optimizer, torch.tensor(0), torch.tensor(seed))

    def batches(self, weights: Float[Tensor, " n"], *, seed: int) -> Iterator[Slot]:
        """Every epoch the rows in a fresh order, keyed by (seed, epoch, example id), in blocks of the batch size."""
        rows = np.arange(len(weights)) if self.removal == "mask" else np.flatnonzero(weights.numpy())
        per_epoch = -(-len(rows) // self.batch_size)
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

    def step(self, state: State, batch: Batch) -> State:
        """One gradient step: a pure function, fit for vmap."""
        gradients, buffers = grad(self._loss, has_aux=True)(state.params, state.buffers, state.seed, batch)
        moved = self._update(state, gradients, self._rate(batch.progress))
        return moved._replace(buffers=buffers, step=state.step + 1)

    def model(self, state: State) -> TorchModel:
        """The model inside a state, for evaluation."""
        return TorchModel(self._structure.evaluation, state.params, state.buffers)

    def train(self, data: Examples, weights: Float[Tensor, " n"], *, seed: int) -> TorchModel:
        """The plain loop over the steps."""
        self._check(Rows(data.inputs, None))
        return train(self, data, weights, seed=seed)  # type: ignore[return-value]

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
        found = torch.autograd.grad(losses.sum(), list(params.values()))
        with torch.no_grad():
            moving = states._replace(params={name: p.detach() for name, p in params.items()})
            gradients = dict(zip(params, found, strict=True))
            self._update_in_place(moving, gradients, self._rate(batches.progress))
        return moving._replace(step=states.step + 1)

    # --- inside ---

    def _loss(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], seed: Tensor, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        buffers = {name: b.clone() for name, b in buffers.items()}
        rows = self._fed(seed, batch)
        predicted = call_module(self._structure.training, {**params, **buffers}, rows.inputs)
        losses = self._losses(predicted, rows, batch.weights, 0)
        return (batch.weights * losses).sum() / batch.total, buffers

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
        return Rows(changed[0], batch.data.labels if diffusion is None else changed[1])

    def _losses(self, predicted: Tensor, rows: Rows, weights: Tensor, leading: int) -> Tensor:
        """The loss of every row, behind so many leading axes."""
        labels = rows.labels
        if self.loss == "contrastive":
            return pair_losses(predicted, weights)
        if self.loss == "cross_entropy" and predicted.ndim == leading + 3:
            return sequence_losses(predicted, next_tokens(rows), self.label_smoothing)
        if labels is None:
            raise BadInput(
                "dl-214",
                asked="a training with SGD",
                found="examples without labels",
                do="give Examples(inputs, labels=...)",
            )
        if self.loss == "squared":
            return squared_losses(predicted, labels)
        if isinstance(self.loss, Diffusion):
            return said_of(predicted, labels).sub(labels).square().flatten(leading + 1).mean(-1)
        return cross_entropies(predicted, labels, self.label_smoothing)

    def _rate(self, progress: Tensor) -> Tensor:
        rate = torch.ones_like(progress)
        if self.schedule in ("linear", "triangular"):
            rate = (1 - progress) / (1 - self.warmup)
        elif self.schedule == "cosine":
            rate = 0.5 * (
                1 + torch.cos(torch.pi * ((progress - self.warmup) / (1 - self.warmup)).clamp(min=0))
            )
        if self.warmup:
            rate = torch.where(progress < self.warmup, progress / self.warmup, rate)
        return self.lr * rate

    def _update(self, state: State, gradients: dict[str, Tensor], lr: Tensor) -> State:
        """The optimizer's move, on copies."""
        copy = state._replace(
            params={name: p.clone() for name, p in state.params.items()},
            optimizer={
                kind: {name: v.clone() for name, v in moments.items()}
                for kind, moments in state.optimizer.items()
            },
        )
        self._update_in_place(copy, {name: g.clone() for name, g in gradients.items()}, lr)
        return copy

    def _update_in_place(self, state: State, gradients: dict[str, Tensor], lr: Tensor) -> None:
        """The optimizer's move; lr is a scalar, or ``[M]`` for M models. Gradients are used up."""
        if self.optimizer == "adamw":
            self._adamw(state, gradients, lr)
            return
        shared = float(lr[0]) if lr.ndim and bool((lr == lr[0]).all()) else None
        fused = [
            name
            for name, p in state.params.items()
            if shared is not None and p.numel() % (_VECTOR * len(p)) == 0
        ]
        velocities = state.optimizer.get("velocity", {})
        for name, p in state.params.items():
            if name in fused:
                continue
            g = gradients[name]
            if self.weight_decay:
                g.add_(p, alpha=self.weight_decay)
            if self.momentum:
                velocity = velocities[name].mul_(self.momentum).add_(g)
                g = g.add_(velocity, alpha=self.momentum) if self.nesterov else velocity
            p.sub_(lr.reshape(lr.shape + (1,) * (p.ndim - lr.ndim)) * g)
        if fused:
            sgd(  # one pass over the memory
                [state.params[name] for name in fused],
                [gradients[name].contiguous() for name in fused],
                [velocities.get(name) for name in fused],
                fused=True,
                weight_decay=self.weight_decay,
                momentum=self.momentum,
                lr=shared or 0.0,
                dampening=0.0,
                nesterov=self.nesterov,
                maximize=False,
            )

    def _adamw(self, state: State, gradients: dict[str, Tensor], lr: Tensor) -> None:
        for name, p in state.params.items():
            g = gradients[name]
            rate = lr.reshape(lr.shape + (1,) * (p.ndim - lr.ndim))
            count = (state.step + 1).to(p.dtype).reshape(rate.shape)
            mean, square = state.optimizer["mean"][name], state.optimizer["square"][name]
            mean.mul_(self.betas[0]).add_(g, alpha=1 - self.betas[0])
            square.mul_(self.betas[1]).add_(g.square(), alpha=1 - self.betas[1])
            size = (square / (1 - self.betas[1] ** count)).sqrt_().add_(1e-8)
            p.mul_(1 - rate * self.weight_decay).sub_(rate * (mean / (1 - self.betas[0] ** count)) / size)

    def _draw(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            # The factory is the user's and may draw from the global generator: forked here, and keyed.
            torch.random.default_generator.manual_seed(Stream.root(seed)("init").seed())
            return self.module()

    @property
    def _structure(self) -> _Structure:
        known = self.__dict__.get("_known_structure")
        if known is None:
            training = self._draw(0).train()
            dropout = [
                name
                for name, m in training.named_modules()
                if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0
            ]
            if dropout:
                raise CapabilityError(
                    "dl-212",
                    asked=f"a training with dropout ({dropout[0]})",
                    found="dropout draws from a generator that nothing keys",
                    do="set p=0 or leave the layer out",
                )
            couples = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in training.modules())
            if couples and self.removal == "mask":
                raise CapabilityError(
                    "dl-213",
                    asked='removal="mask" with BatchNorm',
                    found="a masked row would still enter the batch statistics",
                    do='use removal="repack", or GroupNorm',
                )
            known = _Structure(training, channels_last(self._draw(0).train()), self._draw(0).eval(), couples)
            object.__setattr__(self, "_known_structure", known)
        return known

    def __getstate__(self) -> dict[str, Any]:
        """The settings travel to workers; the structure is made anew there."""
        return {name: value for name, value in self.__dict__.items() if name != "_known_structure"}

    def __identity__(self) -> dict[str, Any]:
        """The settings, the factory's source (or ``version``) and the tensors that it makes."""
        fields = {
            f.name: canonical(getattr(self, f.name))
            for f in dataclasses.fields(self)
            if f.name not in ("module", "version")
        }
        state = self.init(seed=0)
        made_by = {"version": self.version} if self.version is not None else canonical(self.module)
        return {**fields, "module": made_by, "initial": canonical({**state.params, **state.buffers})}
