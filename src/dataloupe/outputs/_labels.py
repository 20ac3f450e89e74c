"""Outputs of models of several labels per row, each there (1) or not (0): the margin of every label, and the loss of the row.

The model gives logits ``[b, c]``, labels are ``[b, c]`` in 0 and 1, :data:`core.IGNORED` (-100) where nobody knows. On the training side
the learner's loss itself stands for these outputs.
"""

# ruff: noqa: ARG002  (the protocol hands every output the model, the rows and the draw)

import dataclasses
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import IGNORED, Better, Model, Rows, TrainingLoss, check_settings
from dataloupe.losses import BinaryCrossEntropy
from dataloupe.outputs._checks import all_valid, binary_labels, check_binary, predictions


@dataclasses.dataclass(frozen=True)
class LabelMargins:
    """The log-odds of the truth of every label: ``f_c = z_c`` where label c is there, ``-z_c`` where it is not.

    ``value [b, c]`` in nats, a component per label; *higher* is better. ``slope_c = sigmoid(-f_c) / C`` for the mean over C labels.

    Raises ``BadInput`` dl-800 (another number of columns), dl-802 (no labels), dl-805 (``labels``), dl-838 (labels that are not 0 and 1).

    >>> from dataloupe.core import TorchModel
    >>> identity = TorchModel(torch.nn.Identity(), {})
    >>> LabelMargins(2).value(identity, Rows(torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, 0.0]])))
    tensor([[ 2., -3.]])
    """

    labels: int
    name: ClassVar[str] = "label margins"
    better: ClassVar[Better] = "higher"
    repeats: ClassVar[int] = 1
    assumed_loss: ClassVar[TrainingLoss] = BinaryCrossEntropy()

    def __post_init__(self) -> None:
        """Check the number of labels."""
        check_settings(self, "dl-805")
        if self.labels < 1:
            raise BadInput(
                "dl-805",
                asked=f"the margins of {self.labels} labels",
                found="fewer than one",
                do="name the number of columns that the model gives",
            )

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, "b c"]:
        """Logits, turned where the label is not there."""
        z = predictions(model, rows)
        if z.shape[1] != self.labels:
            raise BadInput(
                "dl-800",
                asked=f"the margins of {self.labels} labels",
                found=f"predictions with {z.shape[1]} columns",
                do=f"ask for outputs.LabelMargins({z.shape[1]})",
            )
        return torch.where(_there(rows, z), z, -z)

    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, "b c"], draw: Stream | None = None
    ) -> Float[Tensor, "b c"]:
        """``1 - p`` of the truth over the number of labels, 0 where nobody knows it."""
        counted = binary_labels(rows, "the slope of the label margins", self.labels) != IGNORED
        return torch.sigmoid(-values) * counted / counted.sum(1, keepdim=True).clamp(min=1)

    def valid(self, rows: Rows) -> Bool[Tensor, "b c"]:
        """The labels that are known (dl-802, dl-838)."""
        labels = check_binary(rows, f"the {self.name}", self.labels)
        return labels != IGNORED


@dataclasses.dataclass(frozen=True)
class MultilabelLoss:
    """The binary cross-entropy of a row, the mean (or ``reduction="sum"``) over its labels that are known.

    ``value [b]`` in nats, at least 0; *lower* is better. ``slope = -1``.

    Raises ``BadInput`` dl-800 (no predictions [b, c]), dl-802 (no labels), dl-838 (labels that are not 0 and 1), dl-834 (shapes), dl-833.

    >>> from dataloupe.core import TorchModel
    >>> identity = TorchModel(torch.nn.Identity(), {})
    >>> multilabel_loss.value(identity, Rows(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])))
    tensor([0.6931])
    """

    reduction: Literal["mean", "sum"] = "mean"
    name: ClassVar[str] = "multi-label loss"
    better: ClassVar[Better] = "lower"
    repeats: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Check the setting."""
        check_settings(self, "dl-805")
        self.assumed_loss  # noqa: B018  (checked now)

    @property
    def assumed_loss(self) -> TrainingLoss:
        """The loss of a training that tells none: this output."""
        return BinaryCrossEntropy(reduction=self.reduction)

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """The loss of every row."""
        return self.assumed_loss.per_row(predictions(model, rows), rows)

    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, " b"], draw: Stream | None = None
    ) -> Float[Tensor, " b"]:
        """-1 everywhere."""
        return -torch.ones_like(values)

    def valid(self, rows: Rows) -> Bool[Tensor, "b 1"]:
        """One component per row (dl-802, dl-838)."""
        check_binary(rows, f"the {self.name}")
        return all_valid(rows, 1)


def _there(rows: Rows, z: Float[Tensor, "b c"]) -> Bool[Tensor, "b c"]:
    """Which labels are there; looks at shapes only."""
    return binary_labels(rows, "the label margins", z.shape[1]) > 0.5


multilabel_loss = MultilabelLoss()
