"""Rules for convolutions, and the order of memory in which they are fastest."""

# ruff: noqa: A002, ARG001  (rules are called as the functions are)

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
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
    """Every place of the value is a linear map of a patch of the input, group by group."""
    return _patchwise(call, input, weight, bias, (stride, padding, dilation), groups, spread=False)


def transposed_convolution(  # budget: 9 parameters, as torch's own
    call: Call,
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Gradients | None:
    """Every place of the input is spread over a patch of the value, group by group."""
    return _patchwise(call, input, weight, bias, (stride, padding, dilation), groups, spread=True)


def _patchwise(
    call: Call,
    input: Tensor,
    weight: Tensor,
    bias: Any,
    settings: tuple[Any, ...],
    groups: int,
    *,
    spread: bool,
) -> Gradients | None:
    """Places of one side meet patches of the other: the value's meet the input's, or (``spread``) the input's the value's.

    None unless the batch comes first and the weight is a whole parameter.
    """
    w, b = call.find(weight), call.find(bias)
    whole = w is None or not (w.rows or w.transposed)
    if call.where.axis != 0 or input.ndim != weight.ndim or call.find(input) or not whole:
        return None
    axes, kernel = weight.ndim - 1, tuple(weight.shape[2:])
    kept = call.keep(input) if w else None

    def gradients(gradient: Tensor) -> Found:
        passed = call.gradient(gradient, axes)
        if w and kept:
            x = call.input(kept, axes)
            places, seen = (x, passed) if spread else (passed, x)
            yield w, unfolded(_places(places, groups), seen, kernel, settings)
        if b:
            yield b, Direct(passed.flatten(3).sum((1, 3)))

    return gradients


def _places(values: Tensor, groups: int) -> Tensor:
    """``[b, t, channels, *places]`` as ``[b, groups, t places, channels]``."""
    return values.movedim(2, -1).flatten(1, -2).unflatten(2, (groups, -1)).movedim(2, 1)


class Unfolded(Outer):
    """Factors of which the right one is made when it is asked for: patches take many times the memory of a picture."""

    @property
    def right(self) -> Tensor:
        """All patches."""
        return super().right().to(self.left.dtype)  # type: ignore[operator]

    def part(self, rows: slice) -> Outer:
        """Some of the examples: their patches alone are made."""
        right = super().right.part(rows)  # type: ignore[attr-defined]
        return Outer(self.left[rows], right.to(self.left.dtype), self.kernel)

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the parameter."""
        _, groups, _, rows = self.left.shape
        return groups * rows, super().right.columns  # type: ignore[attr-defined]


@dataclasses.dataclass(eq=False)
class _Patches:
    """Patches to be made; kept once all were."""

    x: Tensor
    kernel: tuple[int, ...]
    settings: tuple[Any, ...]
    groups: int

    @property
    def columns(self) -> int:
        """How many numbers a patch has."""
        return self.x.shape[2] // self.groups * math.prod(self.kernel)

    def part(self, rows: slice) -> Tensor:
        """Those of some examples."""
        return patches(self.x[rows], self.kernel, self.settings, self.groups)

    @functools.cached_property
    def all(self) -> Tensor:
        """Those of all."""
        return self.part(slice(None))

    def __call__(self) -> Tensor:
        """Those of all."""
        return self.all


def unfolded(left: Tensor, x: Tensor, kernel: tuple[int, ...], settings: tuple[Any, ...]) -> Unfolded:
    """The factors of a convolution, from the gradient (or the input) and what its patches are of."""
    return Unfolded(left, _Patches(x, kernel, settings, left.shape[1]), math.prod(kernel))  # type: ignore[arg-type]


def patches(x: Tensor, kernel: tuple[int, ...], settings: tuple[Any, ...], groups: int = 1) -> Tensor:
    """The patches that a convolution of ``x [b, t, channels, *places]`` sees: ``[b, groups, t places, kernel x channels]``.

    Written in whichever order copies the longer runs of numbers that are neighbours in memory.
    """
    b, axes = len(x), len(kernel)
    x, stride, padding, dilation = _padded(x.flatten(0, 1), kernel, settings)
    x = F.pad(x, [side for size in reversed(padding) for side in (size, size)])
    places = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]
    channels = x.shape[1] // groups
    last = channels * (kernel[-1] if groups == dilation[-1] == 1 else 1)
    if places[-1] * (stride[-1] == 1) > last:
        x = x.contiguous()
    else:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    step = x.stride()
    sizes = (len(x), groups, channels, *kernel, *places)
    steps = (step[0], channels * step[1], step[1])
    steps += tuple(n * d for n, d in zip(step[2:], dilation, strict=True))
    steps += tuple(n * s for n, s in zip(step[2:], stride, strict=True))
    view = x.as_strided(sizes, steps).unflatten(0, (b, -1))
    whole, group, channel = 0, 2, 3
    kernels, spots = list(range(4, 4 + axes)), list(range(4 + axes, 4 + 2 * axes))
    if x.is_contiguous():
        columns = view.permute(whole, group, *kernels, channel, 1, *spots)
        return columns.flatten(2, 2 + axes).flatten(3).mT
    rows = view.permute(whole, group, 1, *spots, *kernels, channel)
    return rows.flatten(2, 2 + axes).flatten(3)


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
    return ordered(Tensor.reshape)(tensor, *shape)


def ordered(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that changes the shape, whose gradient comes back in the order of memory of what it was given."""

    def call(input: Tensor, *settings: Any, **more: Any) -> Tensor:
        if input.ndim == 4 and input.requires_grad and not input.is_contiguous():
            input.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
        return function(input, *settings, **more)

    return call
