"""Half the squared error."""

import dataclasses
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.core import Examples, PlainLoss, Rows


@dataclasses.dataclass(frozen=True)
class SquaredError:
    """Half the squared error of a row, summed over what is predicted: ``loss_i = |f_i - y_i|^2 / 2``.

    Raises ``BadInput`` dl-834 (labels of another shape). Row weights: ``Examples(..., row_weights=...)``.

    >>> import torch
    >>> SquaredError().per_row(torch.tensor([[1.0]]), Rows(torch.zeros(1, 1), torch.tensor([3.0])))
    tensor([2.])
    """

    name: ClassVar[str] = "half the squared error"

    def per_row(self, predictions: Tensor, rows: Rows) -> Float[Tensor, " b"]:
        """The loss of every row."""
        labels = rows.labels
        if labels is None or labels.numel() != predictions.numel() or len(labels) != len(predictions):
            raise BadInput(
                "dl-834",
                asked=f"{self.name} of predictions of shape {tuple(predictions.shape)}",
                found="no labels" if labels is None else f"labels of shape {tuple(labels.shape)}",
                do="give as many numbers per row as are predicted",
            )
        return 0.5 * (predictions - labels.reshape(predictions.shape)).square().flatten(1).sum(1)

    def check(self, data: Examples) -> None:
        """Any numbers will do."""

    def weighs(self, plain: PlainLoss) -> bool:
        """It is a plain loss."""
        return plain == "squares"

    def equals(self, plain: PlainLoss) -> bool:
        """It is a plain loss."""
        return plain == "squares"

    def weighed(self, rows: Rows) -> tuple[Rows, Float[Tensor, " b"] | None]:
        """As they are."""
        return rows, None

    def curvature_root(self, predictions: Tensor, rows: Rows, signs: Tensor) -> Tensor:  # noqa: ARG002
        """The identity."""
        return signs
