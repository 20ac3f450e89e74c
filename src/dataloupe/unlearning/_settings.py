"""What every method that fine-tunes by SGD is told, and the objectives that several share."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput, CapabilityError
from dataloupe.core import Optimizer, Seen, Stage, TorchModel, Tuning, check_settings
from dataloupe.unlearning._context import Context, row_losses
from dataloupe.unlearning._tuned import Tuner, shuffled


@dataclasses.dataclass(frozen=True)
class FineTuned(Tuner):
    """Epochs of SGD with momentum and weight decay; ``batch_size=None`` is the learner's.

    BatchNorm uses the statistics that the model has, unless ``frozen_norms=False``. Raises ``BadInput`` dl-670.
    """

    epochs: int = 5
    lr: float = 1e-3
    batch_size: int | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    frozen_norms: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-670")
        finite("dl-670", self)
        wrong = {
            "epochs": self.epochs < 1,
            "lr": not self.lr > 0,
            "batch_size": self.batch_size is not None and self.batch_size < 1,
            "momentum": not 0 <= self.momentum < 1,
            "weight_decay": not self.weight_decay >= 0,
        }
        for name in (name for name, bad in wrong.items() if bad):
            raise BadInput(
                "dl-670",
                asked=f"{type(self).__name__} with {name} = {getattr(self, name)!r}",
                found="a value outside its range",
                do="use epochs and batch_size of at least 1, lr above 0, momentum in [0, 1), weight_decay of at least 0",
            )

    def size(self, context: Context) -> int:
        """Rows of a batch."""
        return self.batch_size or context.batch_size

    def tuned(self, models: Sequence[TorchModel], context: Context, stages: list[Stage]) -> list[TorchModel]:
        """The models after these stages."""
        check_loss(context)
        optimizer = Optimizer("sgd", self.lr, self.momentum, self.weight_decay)
        return context.finetune(models, Tuning(stages, optimizer, frozen_norms=self.frozen_norms))


def finite(code: str, method: Any) -> None:
    """Refuse infinity in any setting."""
    given = {field.name: getattr(method, field.name) for field in dataclasses.fields(method) if field.init}
    wrong = {name: isinstance(value, float) and math.isinf(value) for name, value in given.items()}
    refused(code, method, wrong, "give finite numbers")


def refused(code: str, method: Any, wrong: dict[str, bool], do: str) -> None:
    """Raise ``BadInput`` for the first setting that is wrong."""
    for name in (name for name, bad in wrong.items() if bad):
        raise BadInput(
            code,
            asked=f"{type(method).__name__} with {name} = {getattr(method, name)!r}",
            found="a value outside its range",
            do=do,
        )


def descent(context: Context, size: int, epoch: int) -> Stage:
    """An epoch down the mean loss of the retained rows."""
    return Stage("descent", shuffled(context.retained, size, epoch), mean_loss)


def ascent(context: Context, size: int, epoch: int) -> Stage:
    """An epoch up the mean loss of the rows to forget."""
    return Stage("ascent", shuffled(context.forget, size, epoch), minus_mean_loss)


def mean_loss(seen: Seen) -> Float[Tensor, " M"]:
    """sum_b w_b loss_b / sum_b w_b."""
    return (seen.weights * losses_of(seen)).sum(1) / seen.weights.sum(1)


def minus_mean_loss(seen: Seen) -> Float[Tensor, " M"]:
    """Minus :func:`mean_loss`."""
    return -mean_loss(seen)


def check_loss(context: Context) -> None:
    """Refuse a learner whose training loss these methods do not know: squared errors of class numbers (dl-678)."""
    labels = context.data.labels
    squared = getattr(context.question.learner, "loss", None) == "squared"
    if squared and labels is not None and not labels.is_floating_point():
        raise CapabilityError(
            "dl-678",
            asked="a fine-tuning by the training loss",
            found="squared errors of whole numbers, which would be taken for classes",
            do="give the labels as floating-point numbers, or unlearn by DMM, which needs no loss",
        )


def losses_of(seen: Seen) -> Float[Tensor, "M b"]:
    """The training loss of every row that an objective sees (dl-675)."""
    return row_losses(seen.predicted, labelled(seen.labels))


def labelled(labels: Tensor | None) -> Tensor:
    """The labels, if there are any (dl-675)."""
    if labels is None:
        raise BadInput(
            "dl-675",
            asked="the training loss of rows to forget and to retain",
            found="training rows without labels",
            do="give Examples(inputs, labels=...), or use a method that needs no loss, such as Retrain",
        )
    return labels
