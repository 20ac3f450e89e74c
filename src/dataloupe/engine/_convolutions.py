"""Rules for convolutions, and the order of memory in which they are fastest."""

# ruff: noqa: A002, ARG001  (rules are called as the functions are)

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dataloupe.core import Contribution, Direct, Outer
from dataloupe.engine._tape import Call, Gradients, Part

Found = Iterator[tuple[Part, Contribution]]
_ENOUGH = 32
"""So many columns make a product worth its call."""


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
    """Factors of which the right one is made when it is asked for: patches take many times the memory of a picture.

    The gradients themselves do without where channels are many: of patches as wide as the kernel and one place high
    those that a row of the kernel meets are neighbours in memory, so that there is one product for each of its rows.
    """

    @property
    def seen(self) -> "_Patches":
        """What is to be made."""
        return super().right  # type: ignore[return-value]

    @property
    def right(self) -> Tensor:
        """All patches."""
        return self.seen.whole.to(self.left.dtype)

    def part(self, rows: slice) -> "Unfolded":
        """Some of the examples: their patches alone are made."""
        return Unfolded(self.left[rows], self.seen.some(rows), self.kernel)  # type: ignore[arg-type]

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the parameter."""
        _, groups, _, rows = self.left.shape
        return groups * rows, self.seen.columns

    @property
    def numbers(self) -> int:
        """How many numbers of one example are in memory at a time while its gradient is made."""
        return super().numbers // (self.seen.heights if self.seen.in_strips else 1)

    def made(self) -> Tensor:
        """The gradients, columns in the order of ``right``."""
        if not self.seen.in_strips:
            return super().made()
        left = self.left.mT
        return torch.cat([left @ strip.to(left.dtype) for strip in self.seen.strips()], 3).flatten(1, 2)


@dataclasses.dataclass(eq=False)
class _Patches:
    """The patches of ``x [b, t, channels, *places]`` that a convolution sees; kept once all were made."""

    x: Tensor
    kernel: tuple[int, ...]
    settings: tuple[Any, ...]
    groups: int

    @property
    def columns(self) -> int:
        """How many numbers a patch has."""
        return self.x.shape[2] // self.groups * math.prod(self.kernel)

    @property
    def heights(self) -> int:
        """How many rows a kernel has, over all axes but the last."""
        return math.prod(self.kernel[:-1])

    @property
    def in_strips(self) -> bool:
        """Whether products with one row of the kernel are large enough."""
        return self.heights > 1 and self.columns // self.heights >= _ENOUGH

    def some(self, rows: slice) -> "_Patches":
        """Those of some examples."""
        return dataclasses.replace(self, x=self.x[rows])

    @functools.cached_property
    def whole(self) -> Tensor:
        """``[b, groups, t places, kernel x channels]``, in whichever order copies the longer runs of numbers."""
        x, stride, dilation = _padded(self.x, self.kernel, self.settings)
        channels = x.shape[2] // self.groups
        run = channels * (self.kernel[-1] if self.groups == dilation[-1] == 1 else 1)
        width = _counts(x, self.kernel, stride, dilation)[-1]
        found = _windows(
            x, self.kernel, stride, dilation, self.groups, by_channel=width * (stride[-1] == 1) > run
        )
        return found.flatten(2, 1 + x.ndim - 2)

    def strips(self) -> Iterator[Tensor]:
        """What every row of the kernel meets, ``[b, groups, t places, width of the kernel x channels]``."""
        x, stride, dilation = _padded(self.x, self.kernel, self.settings)
        flat, every = (1,) * (len(self.kernel) - 1), _counts(x, self.kernel, stride, dilation)
        found = _windows(
            x, (*flat, self.kernel[-1]), (*flat, stride[-1]), dilation, self.groups, by_channel=False
        ).contiguous()
        for places in itertools.product(*map(range, self.kernel[:-1])):
            met = [
                slice(d * at, d * at + s * (count - 1) + 1, s)
                for at, d, s, count in zip(places, dilation, stride, every, strict=False)
            ]
            yield found[:, :, :, *met].flatten(2, -2)


def unfolded(left: Tensor, x: Tensor, kernel: tuple[int, ...], settings: tuple[Any, ...]) -> Unfolded:
    """The factors of a convolution, from the gradient (or the input) and what its patches are of."""
    return Unfolded(left, _Patches(x, kernel, settings, left.shape[1]), math.prod(kernel))  # type: ignore[arg-type]


def _windows(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    *,
    by_channel: bool,
) -> Tensor:
    """What a kernel sees at every place, ``[b, groups, t, *places, kernel x channels]``; copied channel by channel or not."""
    b, t, channels = x.shape[:3]
    x = x.contiguous() if by_channel else x.movedim(2, -1).contiguous().movedim(-1, 2)
    step, axes = x.stride(), len(kernel)
    sizes = (b, t, groups, channels // groups, *kernel, *_counts(x, kernel, stride, dilation))
    steps = (*step[:2], channels // groups * step[2], step[2])
    steps += tuple(n * d for n, d in zip(step[3:], dilation, strict=True))
    steps += tuple(n * s for n, s in zip(step[3:], stride, strict=True))
    view, kernels, spots = x.as_strided(sizes, steps), range(4, 4 + axes), range(4 + axes, 4 + 2 * axes)
    if by_channel:
        columns = view.permute(0, 2, *kernels, 3, 1, *spots).flatten(2, 2 + axes)
        return columns.contiguous().movedim(2, -1)
    return view.permute(0, 2, 1, *spots, *kernels, 3).flatten(3 + axes)


def _counts(x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """At how many places of every axis a kernel fits."""
    return [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(x.shape[3:], kernel, stride, dilation, strict=True)
    ]


def _padded(x: Tensor, kernel: tuple[int, ...], settings: tuple[Any, ...]) -> tuple[Tensor, Any, Any]:
    """With its padding around it, and stride and dilation with a number for every axis."""
    stride, padding, dilation = (_each(setting, len(kernel)) for setting in settings)
    if isinstance(padding, str):
        spread = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        sides = [(s // 2, s - s // 2) for s in spread]
    else:
        sides = [(size, size) for size in padding]
    if any(map(any, sides)):
        x = F.pad(x.flatten(0, 1), [n for side in reversed(sides) for n in side]).unflatten(0, x.shape[:2])
    return x, stride, dilation


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
