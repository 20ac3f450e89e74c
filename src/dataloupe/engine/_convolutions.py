"""Rules for convolutions, and the order of memory in which they are fastest."""

# ruff: noqa: A002  (rules are called as the functions are)

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dataloupe.core import Contribution, Direct, Outer
from dataloupe.engine._tape import Call, Gradients, Part

Found = Iterator[tuple[Part, Contribution]]


def convolution(
    call: Call,
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Gradients | None:
    """In one dimension or two, every place of the value is a linear map of a patch of the input, group by group."""
    w, b = call.find(weight), call.find(bias)
    spatial, kernel = weight.ndim - 2, tuple(weight.shape[2:])
    unbatched = input.ndim != spatial + 2
    if call.where.axis != 0 or unbatched or call.find(input) or (w and (w.rows or w.transposed)):
        return None
    kept, settings = call.keep(input) if w else None, (stride, padding, dilation)

    def gradients(gradient: Tensor) -> Found:
        left = call.gradient(gradient, spatial + 1).movedim(2, -1).flatten(1, -2)  # [b, t, out]
        if w and kept:
            x = call.input(kept, spatial + 1)
            last = groups == 1 and spatial == 2 and kept.tensor.stride(1) == 1
            found = _patches_last if last else patches
            right = found(x.flatten(0, 1), kernel, settings).unflatten(0, x.shape[:2]).flatten(1, 2)
            sides = [side.unflatten(2, (groups, -1)).movedim(2, 1) for side in (left, right)]
            yield w, Outer(sides[0], sides[1], math.prod(kernel) if last else 1)
        if b:
            yield b, Direct(left.sum(1))

    return gradients


def patches(x: Tensor, kernel: tuple[int, ...], settings: tuple[Any, ...]) -> Tensor:
    """The patches that a convolution sees, ``[b, places, channels x kernel]``."""
    x, stride, padding, dilation = _padded(x, kernel, settings)
    if len(kernel) == 1:
        x, kernel = x[:, :, None], (1, *kernel)
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    return F.unfold(x, kernel, dilation, padding, stride).mT


def _patches_last(x: Tensor, kernel: tuple[int, ...], settings: tuple[Any, ...]) -> Tensor:
    """The same ``[b, places, kernel x channels]`` of pictures whose channels are last in memory: whole rows are copied."""
    x, stride, padding, dilation = _padded(x, kernel, settings)
    x = F.pad(x, [side for size in reversed(padding) for side in (size, size)])
    x = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    b, h, w, channels = x.shape
    places = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip((h, w), kernel, stride, dilation, strict=True)
    ]
    step = x.stride()
    view = x.as_strided(
        (b, *places, *kernel, channels),
        (step[0], step[1] * stride[0], step[2] * stride[1], step[1] * dilation[0], step[2] * dilation[1], 1),
    )
    return view.reshape(b, places[0] * places[1], -1)


def _padded(x: Tensor, kernel: tuple[int, ...], settings: tuple[Any, ...]) -> tuple[Tensor, Any, Any, Any]:
    """Padding in words done, and stride, padding and dilation with a number for every axis."""
    stride, padding, dilation = (_each(setting, len(kernel)) for setting in settings)
    if isinstance(padding, str):
        spread = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        x = F.pad(x, [side for s in reversed(spread) for side in (s // 2, s - s // 2)])
        padding = (0,) * len(kernel)
    return x, stride, padding, dilation


def _each(setting: Any, axes: int) -> Any:
    """One setting an axis (``padding`` may be a word)."""
    if isinstance(setting, str):
        return setting
    found = (setting,) if isinstance(setting, int) else tuple(setting)
    return found * axes if len(found) == 1 else found


def channels_last(input: Tensor, *rest: Any, **settings: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Pictures as a convolution and the pools behind it read them fastest on a CPU; the same numbers."""
    if input.ndim != 4 or input.device.type != "cpu":
        return (input, *rest), settings
    last = input.contiguous(memory_format=torch.channels_last)
    if input.shape[1] == 1:  # contiguous is channels-last already, but torch looks at the strides
        _, _, height, width = input.shape
        last = last.as_strided(input.shape, (height * width, 1, width, 1))
    return (last, *rest), settings


def viewed(tensor: Tensor, *shape: Any, **dtype: Any) -> Tensor:
    """A view, or a copy where the order of memory that we chose allows none."""
    if dtype or tensor.is_contiguous() or isinstance(shape[0], torch.dtype):
        return tensor.view(*shape, **dtype)
    return tensor.reshape(*shape)
