"""Binary cross-entropy of labels that are there or not, several in a row."""

import dataclasses
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from dataloupe._errors import BadInput
from dataloupe.core import IGNORED, Examples, Rows, check_settings
from dataloupe.losses._checks import NoPlainLoss, as_floats, check_setting, joined_name


@dataclasses.dataclass(frozen=True)
class BinaryCrossEntropy(NoPlainLoss):
    """The binary cross-entropy of a row, over its labels c that are not ignored:

        loss_i = mean_c [-u_c y_ic log sigmoid(z_ic) - (1 - y_ic) log sigmoid(-z_ic)]

    Predictions are logits ``[b, c]`` (or ``[b, c, h, w]``), labels as many numbers in [0, 1] per row: 0 and 1, or probabilities.

    Args:
        pos_weight: The weight u of labels that are there: one number, or one for each label.
        reduction: "mean" or "sum" over the labels of a row.
        ignore_index: Labels of this value do not count.

    Raises:
        BadInput: dl-833 (settings), dl-834 (labels outside [0, 1] or of another shape).

    >>> loss = BinaryCrossEntropy(reduction="sum")
    >>> loss.per_row(torch.zeros(1, 2), Rows(torch.zeros(1, 1), torch.tensor([[0.0, 1.0]])))
    tensor([1.3863])
    """

    pos_weight: Any = None  # tuple of floats or None from then on
    reduction: Literal["mean", "sum"] = "mean"
    ignore_index: int | None = IGNORED

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-833")
        given = self.pos_weight
        single = isinstance(given, int | float) or getattr(given, "ndim", 1) == 0
        weights = as_floats([given] if single else given)
        object.__setattr__(self, "pos_weight", weights)
        wrong = {
            "pos_weight": weights is not None and not min(weights, default=-1.0) > 0,
            "reduction": self.reduction not in ("mean", "sum"),
            "ignore_index": self.ignore_index in (0, 1),
        }
        check_setting(self, wrong)

    @property
    def name(self) -> str:
        """The settings that are no defaults."""
        return joined_name("binary cross-entropy", {"pos_weight": self.pos_weight})

    def per_row(self, predictions: Tensor, rows: Rows) -> Float[Tensor, " b"]:
        """The loss of every row."""
        y, counted = self._labels(predictions, rows)
        weight = self._weight(predictions)
        losses = functional.binary_cross_entropy_with_logits(
            predictions, y, reduction="none", pos_weight=weight
        )
        return ((losses * counted).flatten(1) * self._share(counted, predictions.dtype)[:, None]).sum(1)

    def check(self, data: Examples) -> None:
        """Refuse labels outside [0, 1], but what is ignored."""
        if data.labels is None:
            return
        labels = data.labels if self.ignore_index is None else data.labels[data.labels != self.ignore_index]
        if labels.numel() == 0 or float(labels.min()) < 0 or float(labels.max()) > 1:
            found = (
                "labels that are all ignored"
                if labels.numel() == 0
                else f"labels from {float(labels.min()):g} to {float(labels.max()):g}"
            )
            raise BadInput(
                "dl-834",
                asked=f"{self.name}: labels of 0 and 1, or probabilities",
                found=found,
                do="give 0 where a label is not there and 1 where it is; class numbers need losses.CrossEntropy",
            )

    def curvature_root(self, predictions: Tensor, rows: Rows, signs: Tensor) -> Tensor:
        """The root of ``sigmoid' = sigmoid (1 - sigmoid)`` of every label, times its weights."""
        y, counted = self._labels(predictions, rows)
        p, weight = predictions.sigmoid(), self._weight(predictions)
        weights = 1.0 if weight is None else weight * y + (1 - y)
        share = self._share(counted, predictions.dtype).reshape(-1, *[1] * (predictions.ndim - 1))
        return (weights * p * (1 - p) * counted * share).sqrt() * signs

    def _share(self, counted: Bool[Tensor, "b *c"], dtype: torch.dtype) -> Float[Tensor, " b"]:
        """What each label of a row counts."""
        many = counted.flatten(1).sum(1).clamp(min=1).to(dtype)
        return many.reciprocal() if self.reduction == "mean" else torch.ones_like(many)

    def _weight(self, predictions: Tensor) -> Tensor | None:
        if self.pos_weight is None:
            return None
        weights = predictions.new_tensor(self.pos_weight)
        if len(weights) not in (1, predictions.shape[1]):
            raise BadInput(
                "dl-834",
                asked=f"{self.name} of {predictions.shape[1]} labels",
                found=f"{len(weights)} weights",
                do="give one number, or one for each label",
            )
        return weights.reshape(-1, *[1] * (predictions.ndim - 2))

    def _labels(self, predictions: Tensor, rows: Rows) -> tuple[Tensor, Bool[Tensor, "b *c"]]:
        """Labels in the predictions' shape and type, 0 where ignored, and which count (dl-834)."""
        labels = rows.labels
        fits = labels is not None and predictions.ndim >= 2 and not labels.is_complex()
        if not fits or (labels.shape != predictions.shape and labels[..., None].shape != predictions.shape):  # type: ignore[union-attr, index]
            raise BadInput(
                "dl-834",
                asked=f"{self.name} of predictions of shape {tuple(predictions.shape)}",
                found="no labels"
                if labels is None
                else f"labels {labels.dtype} of shape {tuple(labels.shape)}",
                do="give a label in [0, 1] for each predicted number; class numbers need losses.CrossEntropy",
            )
        y = labels.reshape(predictions.shape)  # type: ignore[union-attr]
        counted = (
            torch.ones_like(y, dtype=torch.bool) if self.ignore_index is None else y != self.ignore_index
        )
        return y.to(predictions.dtype) * counted, counted
