"""A sketch of factors: sides first where a weight is large, then a fold of every row."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import Contribution, Outer, Picked, sum_of
from dataloupe.kernels import fold_add

_AT_ONCE, _AT_ONCE_ON_GPU = 1 << 21, 1 << 27
"""Numbers of products in memory at a time: near the cache of a CPU, and enough to fill a GPU."""


@dataclasses.dataclass(frozen=True)
class FactoredSketch:
    """Every row of a weight folded into a ring of ``dim`` buckets; the sides of large weights by sign matrices first.

        (S g)_j = sum over i, c with (turn_i + c) mod dim = j of sign_i sign_c (L g R')_ic,    E <S x, S y> = <x, y>
        L [side, r],    R [side, c]

    The gradient of a weight [r, c] is a sum of outer products. Of one outer product the fold is ``r`` additions of
    a line that stays in the cache; of many, that of their product; of a table, that of the rows that were picked.
    A weight of more than ``whole`` numbers would cost more than that: its factors meet L and R, and only ``side^2``
    numbers are multiplied out. A side of no more than twice ``side`` stays as it is, and so do vectors.
    Turns and signs are pure functions of (seed, parameter, row or column); the columns of a convolution run over
    the places of its kernel first. Adding both halves gives the sketch of half the ``dim``. A model of no more than
    ``dim`` numbers is kept as it is.

    Raises ``BadInput`` dl-703. Source: Charikar, Chen, Farach-Colton 2002 (the count sketch, of which this draws
    buckets by the row); LoGra (Choe et al. 2024) for the sides.

    >>> FactoredSketch(dim=64).bind({"w": torch.Size([300, 200]), "b": torch.Size([300])}).width
    64
    """

    dim: int
    seed: int = 0
    side: int = 128
    whole: int = 1 << 18

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.dim < 1 or self.side < 1 or self.whole < 0:
            asked = f"a sketch of {self.dim} dimensions, sides of {self.side}, whole weights of {self.whole}"
            raise BadInput("dl-703", asked=asked, found="a number below 1", do="give at least 1 of each")

    def bind(self, shapes: Mapping[str, torch.Size]) -> "Factored":
        """The sketch of a model's parameters."""
        return Factored(self, shapes)


@dataclasses.dataclass(frozen=True)
class _Weight:
    """What meets one parameter: sides, where every row is folded to, and the signs of rows and of columns."""

    matrix: tuple[int, int]
    kernel: int
    left: Float[Tensor, "k r"] | None
    right: Float[Tensor, "k c"] | None
    turns: Int[Tensor, "1 rows"]
    rows: Float[Tensor, " rows"]
    columns: Float[Tensor, " columns"]

    def to(self, device: torch.device) -> "_Weight":
        """The same on another device."""
        left, right = (None if side is None else side.to(device) for side in (self.left, self.right))
        turns, rows, columns = (part.to(device) for part in (self.turns, self.rows, self.columns))
        return _Weight(self.matrix, self.kernel, left, right, turns, rows, columns)


class Factored:
    """The sketch of one model's parameters."""

    def __init__(self, sketch: FactoredSketch, shapes: Mapping[str, torch.Size]) -> None:
        sizes = [_size(sketch, shape) for shape in shapes.values()]
        inner = sum(rows * columns for rows, columns in sizes)
        self.width = min(sketch.dim, inner)
        self._weights: dict[tuple[str, torch.device], _Weight] = {}
        start = 0
        for number, ((name, shape), (rows, columns)) in enumerate(zip(shapes.items(), sizes, strict=True)):
            stream = Stream.root(sketch.seed)("weight", number)
            r, c = _matrix(shape)
            if inner <= sketch.dim:
                turns = start + columns * torch.arange(rows)
                signs = (torch.ones(rows), torch.ones(columns))
            else:
                turns = torch.from_numpy(_turns(stream("turn"), rows, self.width))
                signs = (_signs(stream("rows"), 1, rows)[0], _signs(stream("columns"), 1, columns)[0])
            left = _signs(stream("left"), rows, r) if rows < r else None
            right = _signs(stream("right"), columns, c) if columns < c else None
            weight = _Weight((r, c), math.prod(shape[2:]), left, right, turns[None], *signs)
            self._weights[name, torch.device("cpu")] = weight
            start += rows * columns

    def add(self, out: Float[Tensor, "b d"], name: str, *found: Contribution) -> None:
        """Add the sketch of contributions to ``out``: their sum is folded, not each of them."""
        weight = self._weight(name, out.device)
        left = [one for one in found if not _folded_as_it_is(out, weight, one)]
        if not left:
            return
        at_once = _AT_ONCE_ON_GPU if out.is_cuda else _AT_ONCE
        for part in _parts(len(out), max(_numbers(weight, one) for one in left), at_once):
            inner = sum_of([_inner(weight, one.part(part)) for one in left])
            fold_add(out[part], inner, weight.rows[None], weight.turns, weight.columns)

    def _weight(self, name: str, device: torch.device) -> _Weight:
        if (name, device) not in self._weights:
            self._weights[name, device] = self._weights[name, torch.device("cpu")].to(device)
        return self._weights[name, device]


def _folded_as_it_is(out: Float[Tensor, "b d"], weight: _Weight, found: Contribution) -> bool:
    """Add a contribution that is one row, or one row a place, without making its matrix; whether it was one."""
    if weight.left is not None or weight.right is not None:
        return False
    if isinstance(found, Picked):
        scales, turns = weight.rows[found.ids], weight.turns[0, found.ids]
        fold_add(out, found.right, scales, turns, weight.columns)
        return True
    if isinstance(found, Outer) and found.left.shape[1:3] == (1, 1):
        row = _in_order(weight, found.right[:, 0], found)
        fold_add(out, row, found.left[:, 0, 0] * weight.rows, weight.turns, weight.columns)
        return True
    return False


def _matrix(shape: torch.Size) -> tuple[int, int]:
    """Rows and columns of a parameter; a vector is one row."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def _size(sketch: FactoredSketch, shape: torch.Size) -> tuple[int, int]:
    """Rows and columns that are folded."""
    r, c = _matrix(shape)
    if r == 1 or r * c <= sketch.whole:
        return r, c
    return tuple(size if size <= 2 * sketch.side else sketch.side for size in (r, c))  # type: ignore[return-value]


def _numbers(weight: _Weight, found: Contribution) -> int:
    """The most numbers that are made of one example at a time."""
    return found.numbers if isinstance(found, Outer) else math.prod(weight.matrix)


def _parts(examples: int, numbers: int, at_once: int) -> list[slice]:
    """Examples of whom so many numbers each fit into memory at a time."""
    step = max(2, at_once // max(1, numbers))
    return [slice(start, start + step) for start in range(0, examples, step)]


def _in_order(weight: _Weight, columns: Tensor, found: Contribution) -> Tensor:
    """Columns with the places of the weight's kernel first."""
    given = found.kernel if isinstance(found, Outer) else 1
    if given == weight.kernel:
        return columns
    if given > 1:
        columns = columns.unflatten(-1, (given, -1)).mT.flatten(-2)
    return columns if weight.kernel == 1 else columns.unflatten(-1, (-1, weight.kernel)).mT.flatten(-2)


def _inner(weight: _Weight, found: Contribution) -> Float[Tensor, "b kr kc"]:
    """L g R' without g, unless g is the smaller thing to make."""
    left, right = weight.left, weight.right
    if isinstance(found, Picked) and left is not None:
        return left.T[found.ids].mT @ _meet(found.right, right)
    if isinstance(found, Outer):
        if not _product_first(weight, found):
            return _factors_first(weight, found)
        product = found.made()
    else:
        product = found.product().reshape(-1, *weight.matrix)
    half = _meet(_in_order(weight, product.float(), found), right)
    return half if left is None else left @ half


def _factors_first(weight: _Weight, found: Outer) -> Float[Tensor, "b kr kc"]:
    """(L left)' (R right), summed over groups."""
    left, right = weight.left, weight.right
    _, g, _, r = found.left.shape
    columns = _meet(_in_order(weight, found.right.float(), found), right)
    if left is None:
        return (found.left.float().mT @ columns).flatten(1, 2)
    rows = torch.einsum("bgtr,kgr->bgtk", found.left.float(), left.unflatten(1, (g, r)))
    return rows.flatten(1, 2).mT @ columns.flatten(1, 2)


def _product_first(weight: _Weight, found: Outer) -> bool:
    """Whether making the gradient costs less than meeting its factors: it does with many places."""
    _, g, t, r = found.left.shape
    c = weight.matrix[1]
    kr, kc = (
        size if side is None else len(side)
        for size, side in zip((r * g, c), (weight.left, weight.right), strict=True)
    )
    meet_left, meet_right = (0 if side is None else side.numel() for side in (weight.left, weight.right))
    factors = t * (g * meet_right + meet_left + (kr if weight.left is None else g * kr) * kc)
    product = g * t * r * c + (r * g * c * kc if weight.right is not None else 0)
    return product + (kr * r * g * kc if weight.left is not None else 0) <= factors


def _meet(tensor: Float[Tensor, "*t c"], side: Float[Tensor, "k c"] | None) -> Float[Tensor, "*t k"]:
    return tensor.float() if side is None else tensor.float() @ side.T


def _turns(stream: Stream, rows: int, width: int) -> Int[np.ndarray, " rows"]:
    """Buckets of the first columns, the same bits for every width."""
    return ((stream.bits(np.arange(rows)) >> np.uint64(1)) % np.uint64(width)).astype(np.int64)


def _signs(stream: Stream, k: int, size: int) -> Float[Tensor, "k size"]:
    words = stream.bits(np.arange(size)[:, None], np.arange(-(-k // 64)))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, count=k, bitorder="little")
    return torch.from_numpy((bits.T.astype(np.float32) * 2 - 1) / k**0.5)
