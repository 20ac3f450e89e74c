"""What transforms refuse, and how they put values back."""

import math
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from dataloupe._errors import BadInput


def settings(asked: str, good: bool, do: str) -> None:
    """Refuse settings that cannot be meant (dl-790)."""
    if not good:
        raise BadInput("dl-790", asked=asked, found="a number outside its range", do=do)


def strength_within(name: str, strength: float, low: float, high: float, *, whole: bool = False) -> None:
    """Refuse a strength outside low..high, or (``whole``) one that is no whole number (dl-790)."""
    if low <= strength <= high and math.isfinite(strength) and not (whole and strength != int(strength)):
        return
    raise BadInput(
        "dl-790",
        asked=f"{name} at strength {strength:g}",
        found=f"a strength that is {'no whole number' if whole else 'not finite or not'} from {low:g} to {high:g}",
        do="give a strength within the range that the transform's docstring names",
    )


def refused(name: str, inputs: Any, do: str) -> BadInput:
    """Inputs that a transform cannot change (dl-791)."""
    found = (
        f"{inputs.dtype} of shape {tuple(inputs.shape)}"
        if isinstance(inputs, Tensor)
        else type(inputs).__name__
    )
    return BadInput("dl-791", asked=f"the transform {name}", found=f"inputs: {found}", do=do)


def number_like(name: str, inputs: Any) -> Shaped[Tensor, "b *rest"]:
    """The inputs as real numbers to compute in: float64 of whole numbers and float64, else float32 (dl-791)."""
    if not isinstance(inputs, Tensor) or inputs.dtype == torch.bool or inputs.is_complex():
        raise refused(name, inputs, "give one tensor of numbers")
    wide = not inputs.is_floating_point() or inputs.dtype == torch.float64
    return inputs.to(torch.float64 if wide else torch.float32)


def put_back(changed: Tensor, like: Tensor, low: float, high: float) -> Tensor:
    """Values clipped to low..high, rounded where ``like`` holds whole numbers, in its type and shape."""
    changed = changed.clamp(low, high)
    return (changed if like.is_floating_point() else changed.round()).to(like.dtype).reshape(like.shape)


def toward(values: Tensor, goal: Tensor, weight: float | Tensor) -> Tensor:
    """``values + weight (goal - values)``, exactly the one at 0 and exactly the other at 1."""
    goal = goal.to(values.dtype).expand_as(values)
    return torch.lerp(values, goal, torch.as_tensor(weight, dtype=values.dtype, device=values.device))
