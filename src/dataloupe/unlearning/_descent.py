"""Fine-tuning by losses: down on the retained rows, up on those to forget, both, or to sparse weights."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._identity import Stream
from dataloupe.core import Seen, Stage, TorchModel, Turn
from dataloupe.unlearning._context import Context
from dataloupe.unlearning._settings import FineTuned, ascent, descent, losses_of, mean_loss, refused
from dataloupe.unlearning._tuned import Batches, shuffled


@dataclasses.dataclass(frozen=True)
class GradientDescent(FineTuned):
    """Fine-tuning on the retained rows only, in the hope that the others fade::

        theta <- theta - lr grad mean_R loss

    >>> GradientDescent(epochs=3).lr
    0.001
    """

    name: ClassVar[str] = "gradient descent"

    def many(self, models: Sequence[TorchModel], context: Context) -> list[TorchModel]:
        """One stage an epoch."""
        size = self.size(context)
        return self.tuned(models, context, [descent(context, size, epoch) for epoch in range(self.epochs)])


@dataclasses.dataclass(frozen=True)
class GradientAscent(FineTuned):
    """Up the loss of the rows to forget; nothing holds the model elsewhere, and it has no end::

        theta <- theta + lr grad mean_F loss

    Without weight decay, which ascent would turn into growth of what it forgets at. Too large a step destroys the model:
    look at the validation rows as well.

    >>> GradientAscent(epochs=3).weight_decay
    0.0
    """

    weight_decay: float = 0.0
    name: ClassVar[str] = "gradient ascent"

    def many(self, models: Sequence[TorchModel], context: Context) -> list[TorchModel]:
        """One stage an epoch."""
        size = self.size(context)
        return self.tuned(models, context, [ascent(context, size, epoch) for epoch in range(self.epochs)])


@dataclasses.dataclass(frozen=True)
class AscentDescent(FineTuned):
    """In each of the first ``ascents`` epochs up the loss of the rows to forget, in every epoch down that of the others.

    ``forget_batch=None`` is ``batch_size``. Raises ``BadInput`` dl-670, dl-671.

    >>> AscentDescent(epochs=5, ascents=2).ascents
    2
    """

    ascents: int = 3
    forget_batch: int | None = None
    name: ClassVar[str] = "ascent and descent"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        wrong = {
            "ascents": not 1 <= self.ascents <= self.epochs,
            "forget_batch": self.forget_batch is not None and self.forget_batch < 1,
        }
        refused("dl-671", self, wrong, "use from 1 to `epochs` ascents, and batches of at least one row")

    def many(self, models: Sequence[TorchModel], context: Context) -> list[TorchModel]:
        """Two stages an epoch while it ascends, then one."""
        size = self.size(context)
        stages = []
        for epoch in range(self.epochs):
            if epoch < self.ascents:
                stages.append(ascent(context, self.forget_batch or size, epoch))
            stages.append(descent(context, size, epoch))
        return self.tuned(models, context, stages)


@dataclasses.dataclass(frozen=True)
class NegGradPlus(FineTuned):
    """Down on the retained rows and up on those to forget in one step::

        min alpha mean_R loss - (1 - alpha) mean_F loss

    Every batch of retained rows comes with one of rows to forget, which are gone through again and again.
    ``alpha=1`` is :class:`GradientDescent` (at the cost of rows whose weight is 0). Raises ``BadInput`` dl-670, dl-671.

    Source: Kurmanji et al. 2023, "Towards unbounded machine unlearning".

    >>> NegGradPlus().alpha
    0.95
    """

    alpha: float = 0.95
    forget_batch: int | None = None
    name: ClassVar[str] = "NegGrad+"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        wrong = {
            "alpha": not 0 <= self.alpha <= 1,
            "forget_batch": self.forget_batch is not None and self.forget_batch < 1,
        }
        refused("dl-671", self, wrong, "use alpha in [0, 1], and batches of at least one row")

    def many(self, models: Sequence[TorchModel], context: Context) -> list[TorchModel]:
        """One stage an epoch."""
        size = self.size(context)
        wanted = min(self.forget_batch or size, len(context.forget))
        stages = [
            Stage(
                "descent and ascent",
                both_sides(context, self.alpha, size, wanted, epoch),
                weighted_loss,
            )
            for epoch in range(self.epochs)
        ]
        return self.tuned(models, context, stages)


@dataclasses.dataclass(frozen=True)
class L1Sparse(FineTuned):
    """Fine-tuning on the retained rows towards few weights, since a sparse model forgets more easily::

        min mean_R loss + gamma_t |theta|_1,    gamma_t = gamma (1 - t / epochs) in epoch t = 0, 1, ...

    Raises ``BadInput`` dl-670, dl-671. Source: Jia et al. 2023, "Model sparsity can simplify machine unlearning".

    >>> L1Sparse().gamma
    0.0005
    """

    epochs: int = 10
    lr: float = 1e-2
    gamma: float = 5e-4
    name: ClassVar[str] = "l1-sparse"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        refused("dl-671", self, {"gamma": not self.gamma >= 0}, "use gamma of at least 0")

    def many(self, models: Sequence[TorchModel], context: Context) -> list[TorchModel]:
        """One stage an epoch, each with its own penalty."""
        size = self.size(context)
        stages = [
            Stage(
                "descent",
                shuffled(context.retained, size, epoch),
                functools.partial(penalised_loss, gamma=self.gamma * (1 - epoch / self.epochs)),
            )
            for epoch in range(self.epochs)
        ]
        return self.tuned(models, context, stages)


def both_sides(context: Context, alpha: float, size: int, wanted: int, epoch: int) -> Batches:
    """Batches of ``size`` retained rows and ``wanted`` to forget; the weights of a side sum to alpha and alpha - 1."""

    def batches(seed: int) -> Iterator[Turn]:
        order = Stream.root(seed)("forget", epoch).bits(context.forget).argsort()
        forget, place = context.forget[order], 0
        for turn in shuffled(context.retained, size, epoch)(seed):
            again = forget[(place + np.arange(wanted)) % len(forget)]
            place += wanted
            up = np.full(wanted, (alpha - 1) / wanted, np.float32)
            down = np.full(len(turn.ids), alpha / len(turn.ids), np.float32)
            yield Turn(np.concatenate([turn.ids, again]), np.concatenate([down, up]))

    return batches


def weighted_loss(seen: Seen) -> Float[Tensor, " M"]:
    """sum_b w_b loss_b; a row of weight 0 adds nothing, whatever its loss."""
    losses = losses_of(seen)
    return torch.where(seen.weights == 0, 0.0, seen.weights * losses).sum(1)


def penalised_loss(seen: Seen, gamma: float) -> Float[Tensor, " M"]:
    """The mean loss and gamma times the sum of all parameters' sizes."""
    sizes = sum(p.abs().flatten(1).sum(1) for p in seen.params.values())
    return mean_loss(seen) + gamma * sizes
