"""Forgetting in the last layers only: tuned (CF-k) or made anew (EU-k), the others stay as they are."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from dataloupe._errors import BadInput
from dataloupe.core import Optimizer, TorchModel, Tuning, check_settings
from dataloupe.unlearning._context import Context, stepped
from dataloupe.unlearning._settings import check_loss, descent, refused
from dataloupe.unlearning._tuned import Tuner


@dataclasses.dataclass(frozen=True)
class _LastLayers(Tuner):
    """The last ``k`` modules with parameters of their own, in the order of ``named_modules``, trained on retained rows.

    ``None`` stands for the learner's own epochs, lr, momentum, weight decay or batch size (its schedule and
    augmentation are left out; of another learner than SGD: 10, 0.01, 0.9, 5e-4, 64).
    """

    k: int = 1
    epochs: int | None = None
    lr: float | None = None
    batch_size: int | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    frozen_norms: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-673")
        wrong = {
            "k": self.k < 1,
            "epochs": self.epochs is not None and self.epochs < 1,
            "lr": self.lr is not None and not self.lr > 0,
            "batch_size": self.batch_size is not None and self.batch_size < 1,
            "momentum": self.momentum is not None and not 0 <= self.momentum < 1,
            "weight_decay": self.weight_decay is not None and not self.weight_decay >= 0,
        }
        do = "use k, epochs and batch_size of at least 1, lr above 0, momentum in [0, 1), weight_decay of at least 0"
        refused("dl-673", self, wrong, do)

    def _trained(self, models: Sequence[TorchModel], context: Context, last: set[str]) -> list[TorchModel]:
        """The models, their last layers trained on the retained rows."""
        check_loss(context)
        learner = context.question.learner
        size = self.batch_size or context.batch_size
        stages = [
            descent(context, size, epoch) for epoch in range(_given(self.epochs, learner, "epochs", 10))
        ]
        kind = "adam" if getattr(learner, "optimizer", "sgd") == "adamw" else "sgd"
        optimizer = Optimizer(
            kind,  # type: ignore[arg-type]
            lr=_given(self.lr, learner, "lr", 0.01),
            momentum=_given(self.momentum, learner, "momentum", 0.9),
            weight_decay=_given(self.weight_decay, learner, "weight_decay", 5e-4) if kind == "sgd" else 0.0,
        )
        still = frozenset(models[0].params.keys() - last)
        return context.finetune(models, Tuning(stages, optimizer, still, self.frozen_norms))


@dataclasses.dataclass(frozen=True)
class CFk(_LastLayers):
    """The last k layers fine-tuned on the retained rows, in the hope that they forget ("catastrophic forgetting")::

        theta_last <- theta_last - lr grad mean_R loss,    the other layers stay, bit for bit

    ``epochs`` and so on are the learner's where None, without its schedule; AdamW becomes Adam without decay. Passes are
    counted as whole ones, though the way back is shorter. Raises ``BadInput`` dl-673.

    Source: Goel et al. 2022, "Towards adversarial evaluations for inexact machine unlearning".

    >>> CFk(k=2).k
    2
    """

    name: ClassVar[str] = "CF-k"

    def many(self, models: Sequence[TorchModel], context: Context) -> list[TorchModel]:
        """Tuned by the lab."""
        return self._trained(models, context, last_layers(models[0], self.k))


@dataclasses.dataclass(frozen=True)
class EUk(_LastLayers):
    """The last k layers drawn anew by ``learner.init`` and trained on the retained rows: exact in them, if not below::

        theta_last ~ init(seed),    theta_last <- theta_last - lr grad mean_R loss,    the other layers stay

    Settings and passes as of :class:`CFk`. Raises ``BadInput`` dl-673, ``CapabilityError`` dl-662 (a learner without
    ``init``).

    Source: Goel et al. 2022, "Towards adversarial evaluations for inexact machine unlearning".

    >>> EUk(k=2).name
    'EU-k'
    """

    name: ClassVar[str] = "EU-k"

    def many(self, models: Sequence[TorchModel], context: Context) -> list[TorchModel]:
        """Drawn anew, each from a seed of its own, then tuned by the lab."""
        learner, last = stepped(context.question), last_layers(models[0], self.k)
        fresh = []
        for model, seed in zip(models, context.seeds(len(models)), strict=True):
            drawn = learner.init(seed=seed).params
            params = {name: drawn[name] if name in last else p for name, p in model.params.items()}
            fresh.append(model.with_params(params))
        return self._trained(fresh, context, last)


def last_layers(model: TorchModel, k: int) -> set[str]:
    """The parameters of the last k modules that have some of their own (dl-673 if there are fewer)."""
    layers = [names for names in _layers(model.module, model.params) if names]
    if k > len(layers):
        raise BadInput(
            "dl-673",
            asked=f"the last {k} layers",
            found=f"a model with {len(layers)} layers that have parameters",
            do="use a smaller k",
        )
    return {name for names in layers[len(layers) - k :] for name in names}


def _layers(module: nn.Module, params: dict[str, Any]) -> list[list[str]]:
    """Of every module the names of its own parameters, as the model knows them."""
    return [
        [
            name
            for own, _ in part.named_parameters(recurse=False)
            if (name := f"{prefix}.{own}" if prefix else own) in params
        ]
        for prefix, part in module.named_modules()
    ]


def _given(value: Any, learner: Any, name: str, otherwise: Any) -> Any:
    """A setting, or the learner's, or a sensible one."""
    return value if value is not None else getattr(learner, name, otherwise)
