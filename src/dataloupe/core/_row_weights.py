"""Weights of rows in the training loss."""

from typing import Any

from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.core._arrays import as_tensor


def as_row_weights(weights: Any) -> Tensor:
    """Row weights ``[n]`` in fp32: one number of at least 0 per row, not all 0 (dl-832)."""
    tensor = as_tensor(weights, "row_weights")
    found = (tensor.real if tensor.is_complex() else tensor).detach().float()
    fits = found.ndim == 1 and bool(found.isfinite().all()) and bool((found >= 0).all())
    if tensor.is_complex() or not fits or not bool((found > 0).any()):
        wrong = (
            "a negative weight, NaN or infinity, or nothing but zeros"
            if found.ndim == 1
            else f"shape {tuple(found.shape)}"
        )
        raise BadInput(
            "dl-832",
            asked="row weights: one number of at least 0 for each row, one of them above 0",
            found=wrong,
            do="give row_weights=[w_0, ..., w_(n-1)]; to leave rows out, use Subsets or a slice of the examples",
        )
    return found
