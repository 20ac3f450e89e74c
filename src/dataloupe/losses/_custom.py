"""A loss of the user's own."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import canonical
from dataloupe.core import Examples, Rows, check_settings
from dataloupe.losses._checks import NoPlainLoss

MAX_NUMBERS = 64
"""Rows with at most so many predicted numbers get their whole second derivative; larger ones a diagonal, or none."""


@dataclasses.dataclass(frozen=True, eq=False)
class Custom(NoPlainLoss):
    """A loss of your own: ``function(predictions [b, ...], labels [b, ...]) -> [b]``, differentiable in the predictions.

    The loss of a row must depend on this row alone: take no mean over the batch. The curvature is found by autograd: the whole
    second derivative of rows with up to 64 predicted numbers, and of larger ones whose numbers do not interact.

    ``version`` names a function whose source cannot be read.

    Raises ``BadInput`` dl-835 (another shape, or rows that depend on each other), ``CapabilityError`` dl-836 (no curvature).

    >>> huber = Custom(lambda z, y: torch.nn.functional.huber_loss(z[:, 0], y, reduction="none"))
    >>> huber.per_row(torch.tensor([[0.5], [3.0]]), Rows(torch.zeros(2, 1), torch.zeros(2)))
    tensor([0.1250, 2.5000])
    """

    function: Callable[[Tensor, Any], Tensor]
    version: str | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-833")

    @property
    def name(self) -> str:
        """The function's."""
        return f"the loss {getattr(self.function, '__name__', type(self.function).__name__)}"

    def per_row(self, predictions: Tensor, rows: Rows) -> Float[Tensor, " b"]:
        """The function's value (dl-835)."""
        losses = self.function(predictions, rows.labels)
        if not isinstance(losses, Tensor) or losses.shape != predictions.shape[:1]:
            raise BadInput(
                "dl-835",
                asked=f"{self.name}: one number for each of {len(predictions)} rows",
                found=f"shape {tuple(losses.shape)}"
                if isinstance(losses, Tensor)
                else f"{type(losses).__name__}",
                do='take no mean over the batch (reduction="none"); sum or average over what one row predicts: .flatten(1).mean(1)',
            )
        return losses

    def check(self, data: Examples) -> None:
        """Labels are the function's affair."""

    def check_rows(self, predictions: Tensor, rows: Rows) -> None:
        """Refuse a function that gives rows another loss in half of the batch than in the whole (dl-835)."""
        half = len(predictions) // 2
        if half < 1:
            return
        labels = None if rows.labels is None else rows.labels[half:]
        with torch.no_grad():
            losses = self.per_row(predictions, rows)[half:]
            fewer = self.per_row(predictions[half:], rows._replace(labels=labels))
        if not torch.allclose(losses, fewer, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise BadInput(
                "dl-835",
                asked=f"{self.name}: the loss of a row from this row alone",
                found=f"{float(losses[-1]):.4g} for the last row of a batch of {len(predictions)}, "
                f"{float(fewer[-1]):.4g} for it in a batch of {len(fewer)}",
                do="take no statistics over the batch; weights of rows are Examples(..., row_weights=...)",
            )

    def curvature_root(self, predictions: Tensor, rows: Rows, signs: Tensor) -> Tensor:
        """The symmetric root of the convex part of the second derivative, by autograd (dl-836)."""
        with torch.enable_grad():
            z = predictions.detach().requires_grad_()
            loss = self.per_row(z, rows).sum()
            first = (
                torch.autograd.grad(loss, z, create_graph=True, allow_unused=True)[0]
                if loss.requires_grad
                else None
            )
            if first is None or not first.requires_grad:
                return torch.zeros_like(signs)  # linear in the predictions: no curvature
            if z[0].numel() <= MAX_NUMBERS:
                return self._whole(first, z, signs)
            return self._diagonal(first, z, signs)

    def _whole(self, first: Tensor, z: Tensor, signs: Tensor) -> Tensor:
        flat = first.flatten(1)
        columns = [_second(flat[:, c], z).flatten(1) for c in range(flat.shape[1])]
        hessian = torch.stack(columns, 1).double()  # [b, numbers, numbers]
        values, vectors = torch.linalg.eigh((hessian + hessian.mT) / 2)
        turned = vectors.mT @ signs.flatten(1).double()[:, :, None]
        root = vectors @ (values.clamp(min=0).sqrt()[:, :, None] * turned)
        return root[:, :, 0].to(signs).view_as(signs)

    def _diagonal(self, first: Tensor, z: Tensor, signs: Tensor) -> Tensor:
        """Root of a diagonal second derivative: two products with other signs must tell the same."""
        other = torch.where(
            torch.arange(signs[0].numel(), device=signs.device).view(signs[0].shape) % 3 == 0, -signs, signs
        )
        one, two = (_second((first * way).flatten(1).sum(1), z) * way for way in (signs, other))
        if not torch.allclose(one, two, rtol=1e-3, atol=1e-6 * float(one.abs().max())):
            raise CapabilityError(
                "dl-836",
                asked=f"the curvature of {self.name}",
                found=f"{z[0].numel()} predicted numbers per row that interact, more than {MAX_NUMBERS}",
                do="use TRAK(curved=False) or Influence(curved=False), or a loss of dataloupe.losses",
            )
        return one.clamp(min=0).sqrt() * signs

    def __identity__(self) -> dict[str, Any]:
        """The function's source, or the version."""
        return (
            {"version": self.version} if self.version is not None else {"function": canonical(self.function)}
        )


def _second(first: Tensor, z: Tensor) -> Tensor:
    """The derivative of a row's number by the row's predictions; 0 where there is none."""
    if not first.requires_grad:
        return torch.zeros_like(z)
    found = torch.autograd.grad(first.sum(), z, retain_graph=True, allow_unused=True)[0]
    return torch.zeros_like(z) if found is None else found
