"""Outputs of classifiers: margin, hard margin, loss, log-probability, all logits.

The training loss behind every ``slope`` is plain cross-entropy. On the training side of a learner that tells another loss, slope and
curvature are that loss's (:func:`dataloupe.core.train_side`).
"""

# ruff: noqa: ARG002  (the protocol hands every output the model, the rows and the draw)

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import Better, Model, PlainLoss, Rows, check_settings
from dataloupe.outputs._checks import all_valid, check_classes, class_labels, logits, others, own, pick


class _OfLabel:
    """One number for every row, about its label."""

    name: ClassVar[str]
    repeats: ClassVar[int] = 1
    plain_loss: ClassVar[PlainLoss] = "classes"

    def valid(self, rows: Rows) -> Bool[Tensor, "b 1"]:
        """One component per row."""
        check_classes(rows, f"the {self.name}")
        return all_valid(rows, 1)


@dataclasses.dataclass(frozen=True)
class Margin(_OfLabel):
    """The log-odds of the right class: ``f = z_y - logsumexp_{c != y} z_c = log(p_y / (1 - p_y))``.

    ``value [b]`` in nats, from minus to plus infinity; positive where the model gives its own label more
    than all other classes together; a *higher* margin is a better fit. ``slope = 1 - p_y = sigmoid(-f)``,
    because the cross-entropy is ``softplus(-f)``. Never computed through ``1 - p``: exact for confident rows.

    Raises ``BadInput`` dl-801 (one logit column), dl-802, dl-803, dl-804 (labels).

    >>> from dataloupe.core import TorchModel
    >>> identity = TorchModel(torch.nn.Identity(), {})
    >>> margin.value(identity, Rows(torch.tensor([[1.0, 3.0, 3.0]]), torch.tensor([0]))).round(decimals=3)
    tensor([-2.6930])

    Source: Park et al. 2023 (TRAK), the multi-class output function.
    """

    name: ClassVar[str] = "margin"
    better: ClassVar[Better | None] = "higher"

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """Logit of the label minus the logsumexp of the others."""
        z, y = logits(model, rows), class_labels(rows, f"the {self.name}")
        return pick(z, y) - others(z, y).logsumexp(1)

    def slope(
        self,
        model: Model,
        rows: Rows,
        values: Float[Tensor, " b"],
        draw: Stream | None = None,
    ) -> Float[Tensor, " b"]:
        """``1 - p``, between 0 and 1."""
        return torch.sigmoid(-values)

    def curvature(self, slopes: Float[Tensor, " b"], rows: Rows) -> Float[Tensor, " b"]:
        """The second derivative of the training loss, ``p (1 - p)``."""
        return slopes * (1.0 - slopes)


@dataclasses.dataclass(frozen=True)
class HardMargin(_OfLabel):
    """The lead over the strongest rival: ``f = z_y - max_{c != y} z_c``.

    ``value [b]`` in units of the logits; positive exactly where the prediction is right; higher is better.
    ``slope = sigmoid(-f)``: the row taken as the binary problem against its runner-up (exact for two classes).

    Raises ``BadInput`` dl-801 (one logit column), dl-802, dl-803, dl-804 (labels).

    >>> from dataloupe.core import TorchModel
    >>> identity = TorchModel(torch.nn.Identity(), {})
    >>> hard_margin.value(identity, Rows(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1])))
    tensor([1.])

    Source: Ilyas et al. 2022 (Datamodels), the correct-class margin.
    """

    name: ClassVar[str] = "hard margin"
    better: ClassVar[Better | None] = "higher"

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """Logit of the label minus the largest other logit."""
        z, y = logits(model, rows), class_labels(rows, f"the {self.name}")
        return pick(z, y) - others(z, y).amax(1)

    def slope(
        self,
        model: Model,
        rows: Rows,
        values: Float[Tensor, " b"],
        draw: Stream | None = None,
    ) -> Float[Tensor, " b"]:
        """``1 - p`` of the label against its runner-up, between 0 and 1."""
        return torch.sigmoid(-values)

    def curvature(self, slopes: Float[Tensor, " b"], rows: Rows) -> Float[Tensor, " b"]:
        """The second derivative of the loss of that binary problem, ``p (1 - p)``."""
        return slopes * (1.0 - slopes)


@dataclasses.dataclass(frozen=True)
class LogProb(_OfLabel):
    """The log-probability of the label: ``f = log p_y = z_y - logsumexp_c z_c``.

    ``value [b]`` in nats, at most 0; higher is better. ``slope = 1``: the training loss is ``-f``.

    Raises ``BadInput`` dl-801 (one logit column), dl-802, dl-803, dl-804 (labels).

    >>> from dataloupe.core import TorchModel
    >>> identity = TorchModel(torch.nn.Identity(), {})
    >>> log_prob.value(identity, Rows(torch.zeros(1, 2), torch.tensor([1]))).exp()
    tensor([0.5000])
    """

    name: ClassVar[str] = "log probability"
    better: ClassVar[Better | None] = "higher"

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """Log-softmax at the label."""
        z, y = logits(model, rows), class_labels(rows, f"the {self.name}")
        return pick(z.log_softmax(1), y)

    def slope(
        self,
        model: Model,
        rows: Rows,
        values: Float[Tensor, " b"],
        draw: Stream | None = None,
    ) -> Float[Tensor, " b"]:
        """1 everywhere."""
        return torch.ones_like(values)


@dataclasses.dataclass(frozen=True)
class Loss(_OfLabel):
    """The cross-entropy of the label: ``f = -log p_y = logsumexp_c z_c - z_y``.

    ``value [b]`` in nats, at least 0; a *lower* loss is better: an example with a positive score raises it, and so hurts.
    ``slope = -1``: the output is the training loss itself.

    Raises ``BadInput`` dl-801 (one logit column), dl-802, dl-803, dl-804 (labels).

    >>> from dataloupe.core import TorchModel
    >>> identity = TorchModel(torch.nn.Identity(), {})
    >>> loss.value(identity, Rows(torch.zeros(1, 2), torch.tensor([1])))
    tensor([0.6931])
    """

    name: ClassVar[str] = "loss"
    better: ClassVar[Better | None] = "lower"

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """Minus the log-softmax at the label."""
        z, y = logits(model, rows), class_labels(rows, f"the {self.name}")
        return -pick(z.log_softmax(1), y)

    def slope(
        self,
        model: Model,
        rows: Rows,
        values: Float[Tensor, " b"],
        draw: Stream | None = None,
    ) -> Float[Tensor, " b"]:
        """-1 everywhere."""
        return -torch.ones_like(values)


@dataclasses.dataclass(frozen=True)
class Logits:
    """All logits as components: ``f_c = z_c`` for every class c.

    ``value [b, c]`` in units of the logits; higher is more of class c, right or wrong.
    ``slope_c = 1[c = y] - softmax(z)_c``. Targets need no labels; the training side does, for the slope.

    Raises ``BadInput`` dl-800 (another number of columns), dl-802, dl-803, dl-804 (labels), dl-805 (``classes``).

    >>> from dataloupe.core import TorchModel
    >>> identity, rows = TorchModel(torch.nn.Identity(), {}), Rows(torch.zeros(1, 2), torch.tensor([1]))
    >>> Logits(2).slope(identity, rows, Logits(2).value(identity, rows))
    tensor([[-0.5000,  0.5000]])
    """

    classes: int
    name: ClassVar[str] = "logits"
    better: ClassVar[Better | None] = None
    repeats: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Check the number of classes."""
        check_settings(self, "dl-805")
        if self.classes < 2:
            raise BadInput(
                "dl-805",
                asked=f"the logits of {self.classes} classes",
                found="fewer than two",
                do="name the number of columns that the model gives",
            )

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, "b c"]:
        """The logits as they are."""
        found = logits(model, rows)
        if found.shape[1] != self.classes:
            raise BadInput(
                "dl-800",
                asked=f"logits of {self.classes} classes",
                found=f"predictions with {found.shape[1]} columns",
                do=f"ask for outputs.Logits({found.shape[1]})",
            )
        return found

    def slope(
        self,
        model: Model,
        rows: Rows,
        values: Float[Tensor, "b c"],
        draw: Stream | None = None,
    ) -> Float[Tensor, "b c"]:
        """One-hot label minus the probabilities."""
        y = class_labels(rows, "the slope of the logits")
        return own(values, y).to(values.dtype) - values.softmax(1)

    def valid(self, rows: Rows) -> Bool[Tensor, "b c"]:
        """Every class of every row."""
        if rows.labels is not None:
            check_classes(rows, "the logits", self.classes)
        return all_valid(rows, self.classes)


margin = Margin()
hard_margin = HardMargin()
log_prob = LogProb()
loss = Loss()
