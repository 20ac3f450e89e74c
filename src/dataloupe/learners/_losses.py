"""The loss of a learner: by name, from ``dataloupe.losses``, or a function of the user's own."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.core import Diffusion, Rows, TrainingLoss, map_inputs, next_tokens, said_of
from dataloupe.learners._stacked import cross_entropies, pair_losses, sequence_losses, squared_losses
from dataloupe.losses import CrossEntropy, Custom, SquaredError

Loss: TypeAlias = Literal["cross_entropy", "squared"] | TrainingLoss | Callable[[Tensor, Tensor], Tensor]
"""A loss of single rows."""


def as_training_loss(loss: Any, label_smoothing: float = 0.0) -> TrainingLoss:
    """The loss as the outputs are told it (dl-833)."""
    if isinstance(loss, str) and loss == "cross_entropy":
        return CrossEntropy(label_smoothing=label_smoothing, ignore_index=None)
    if isinstance(loss, str) and loss == "squared":
        return SquaredError()
    if isinstance(loss, TrainingLoss) and not isinstance(loss, type):
        return loss
    if callable(loss) and not isinstance(loss, type):
        return Custom(loss)
    raise BadInput(
        "dl-833",
        asked=f"a training with the loss {loss!r}",
        found="no loss of single rows",
        do='give "cross_entropy", "squared", one of dataloupe.losses, or a function (predictions [b, ...], labels) -> [b]',
    )


def row_losses(
    loss: Any, label_smoothing: float, predicted: Tensor, rows: Rows, weights: Tensor, leading: int
) -> Tensor:
    """The loss of every row times its row weight, behind so many leading axes (of models)."""
    losses = _row_losses(loss, label_smoothing, predicted, rows, weights, leading)
    return losses if rows.row_weights is None else losses * rows.row_weights.to(losses)


def _row_losses(
    loss: Any, label_smoothing: float, predicted: Tensor, rows: Rows, weights: Tensor, leading: int
) -> Tensor:
    labels = rows.labels
    if loss == "contrastive":
        return pair_losses(predicted, weights)
    if loss == "cross_entropy" and predicted.ndim == leading + 3:
        return sequence_losses(predicted, next_tokens(rows), label_smoothing)
    if labels is None and not isinstance(loss, TrainingLoss):
        raise BadInput(
            "dl-214",
            asked="a training with SGD",
            found="examples without labels",
            do="give Examples(inputs, labels=...)",
        )
    if isinstance(loss, Diffusion):
        return said_of(predicted, labels).sub(labels).square().flatten(leading + 1).mean(-1)  # type: ignore[arg-type]
    if loss == "squared":
        return squared_losses(predicted, labels)  # type: ignore[arg-type]
    if loss == "cross_entropy" and predicted.ndim == leading + 2 and not labels.is_floating_point():  # type: ignore[union-attr]
        return cross_entropies(predicted, labels, label_smoothing)  # type: ignore[arg-type]
    by_row = as_training_loss(loss, label_smoothing)
    if not leading:
        return by_row.per_row(predicted, rows)
    # The loss of a row is its own: models and rows are one axis to it.  [M, b, ...] -> [M b, ...] -> [M, b]
    flat = Rows(
        map_inputs(lambda part: part.flatten(0, 1), rows.inputs),
        *(None if part is None else part.flatten(0, 1) for part in rows[1:]),
    )
    return by_row.per_row(predicted.flatten(0, 1), flat).unflatten(0, predicted.shape[:2])


def check_rows_apart(loss: Any, predicted: Tensor, rows: Rows, leading: int) -> None:
    """Refuse a function of the user's own that takes rows together (dl-835); the first model's rows are looked at."""
    if isinstance(loss, str | Diffusion):
        return
    by_row = as_training_loss(loss)
    if isinstance(by_row, Custom):
        predicted = predicted.detach()
        first = (lambda part: part[0]) if leading else (lambda part: part)
        by_row.check_rows(
            first(predicted), rows._replace(labels=None if rows.labels is None else first(rows.labels))
        )
