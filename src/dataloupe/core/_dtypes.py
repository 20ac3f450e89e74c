"""Inputs in the number type that a model computes in."""

import re

import torch
from torch import Tensor, nn

from dataloupe._errors import BadInput
from dataloupe._typing import Inputs
from dataloupe.core._examples import input_leaves, map_inputs

_HALF = (torch.float16, torch.bfloat16)
_TYPE_MISMATCH = re.compile(
    r"dtype|scalar type|[Ii]nput type|not implemented for '(Byte|Char|Short|Int|Long|Bool)'"
)


def match_dtype(inputs: Inputs, tensors: dict[str, Tensor]) -> Inputs:
    """Floating-point inputs in the type of the model's numbers, such as NumPy's float64 for a float32 model.

    Left as they are: whole numbers, inputs of a model of several types (its forward decides), and float32 for a model in half
    precision, where a cast could overflow.

    >>> match_dtype(torch.zeros(2, dtype=torch.float64), {"weight": torch.zeros(1)}).dtype
    torch.float32
    """
    own = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), None)

    def differs(leaf: Tensor) -> bool:
        return (
            leaf.is_floating_point()
            and leaf.dtype != own
            and (own not in _HALF or leaf.dtype == torch.float64)
        )

    if own is None or not any(differs(leaf) for leaf in input_leaves(inputs)):
        return inputs
    if any(tensor.is_floating_point() and tensor.dtype != own for tensor in tensors.values()):
        return inputs
    return map_inputs(lambda leaf: leaf.to(own) if differs(leaf) else leaf, inputs)


def check_whole_inputs(module: nn.Module, inputs: Inputs, error: RuntimeError) -> None:
    """Raise dl-136 if `error` tells of whole numbers given to a layer that computes with fractions."""
    whole = [
        leaf.dtype for leaf in input_leaves(inputs) if not (leaf.is_floating_point() or leaf.is_complex())
    ]
    if whole and _TYPE_MISMATCH.search(str(error)):
        raise BadInput(
            "dl-136",
            asked=f"a forward pass of {type(module).__name__}",
            found=f"inputs of {', '.join(sorted({str(dtype) for dtype in whole}))}: {str(error).splitlines()[0]}",
            do="give floating point, such as Examples(x.float() / 255, ...), or convert in forward",
        ) from error
