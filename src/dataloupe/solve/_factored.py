"""A sketch of factors: sides first, then a fold of what they span."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import Contribution, Outer, Picked


@dataclasses.dataclass(frozen=True)
class FactoredSketch:
    """Both sides of every weight by a sign matrix, then all weights together folded to ``dim``.

        S g = fold(L g R'),    L [side, r],    R [side, c],    E <S x, S y> = <x, y>

    The gradient of a weight [r, c] is a sum of outer products, so it is never made where its factors are
    smaller: L and R meet the factors, and only ``side^2`` numbers are multiplied out. A side of no more than
    twice that stays as it is, and so do vectors. The fold cuts all that into blocks of ``dim``, gives every number a
    random sign and every block a random rotation, and adds the blocks: a sparse sketch (one bucket a number) whose
    buckets lie in order, so that it costs an addition. Adding both halves of a sketch gives one of half the ``dim``.

    Raises ``BadInput`` dl-703. Source: LoGra (Choe et al. 2024) for the sides, with a second stage.

    >>> FactoredSketch(dim=64).bind({"w": torch.Size([300, 200]), "b": torch.Size([300])}).width
    64
    """

    dim: int
    seed: int = 0
    side: int = 128

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.dim < 1 or self.side < 1:
            asked = f"a sketch of {self.dim} dimensions and sides of {self.side}"
            raise BadInput("dl-703", asked=asked, found="a number below 1", do="give at least 1 of each")

    def bind(self, shapes: Mapping[str, torch.Size]) -> "Factored":
        """The sketch of a model's parameters."""
        return Factored(self, shapes)


class _Weight(NamedTuple):
    start: int
    left: Float[Tensor, "k r"] | None
    right: Float[Tensor, "k c"] | None
    matrix: tuple[int, int]


class Factored:
    """The sketch of one model's parameters."""

    def __init__(self, sketch: FactoredSketch, shapes: Mapping[str, torch.Size]) -> None:
        self._weights: dict[str, _Weight] = {}
        self._inner = 0
        for number, (name, shape) in enumerate(shapes.items()):
            r, c = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
            stream = Stream.root(sketch.seed)("side", number)
            long = 2 * sketch.side
            left = _signs(stream("left"), sketch.side, r) if r > long else None
            right = _signs(stream("right"), sketch.side, c) if c > long and len(shape) > 1 else None
            self._weights[name] = _Weight(self._inner, left, right, (r, c))
            self._inner += (r if left is None else sketch.side) * (c if right is None else sketch.side)
        self.width = min(sketch.dim, self._inner)
        fold = Stream.root(sketch.seed)("fold")
        bits = fold("signs").bits(np.arange(self._inner))
        self._sign = torch.from_numpy((bits & np.uint64(1)).astype(np.float32) * 2 - 1)
        blocks = -(-self._inner // self.width)
        self._turn = [int(turn * self.width) for turn in fold("turns").uniform(np.arange(blocks))]

    def add(self, out: Float[Tensor, "b d"], name: str, found: Contribution) -> None:
        """Add the sketch of a contribution to ``out``."""
        weight = self._weights[name]
        rows = _inner(weight, found).flatten(1)
        if self.width == self._inner:
            out[:, weight.start : weight.start + rows.shape[1]] += rows
            return
        rows = rows * self._sign[weight.start : weight.start + rows.shape[1]].to(rows.device)
        at = weight.start
        for run in self._runs(weight.start, rows.shape[1]):
            to = (at + self._turn[at // self.width]) % self.width
            out[:, to : to + run] += rows[:, at - weight.start : at - weight.start + run]
            at += run

    def _runs(self, start: int, size: int) -> Iterator[int]:
        """How many numbers go to neighbouring buckets at once: cut where a block ends, and where it wraps around."""
        at = start
        while at < start + size:
            block, place = divmod(at, self.width)
            wrap = self.width - (place + self._turn[block]) % self.width
            run = min(start + size - at, self.width - place, wrap)
            yield run
            at += run


def _inner(weight: _Weight, found: Contribution) -> Float[Tensor, "b kr kc"]:
    """L g R' without g, unless g is the smaller thing to make."""
    left, right = weight.left, weight.right
    if isinstance(found, Picked) and left is not None:
        places = left.T[found.ids]
        return places.mT @ _meet(found.right, right)
    if (
        isinstance(found, Outer)
        and (left is not None or right is not None)
        and not _product_first(weight, found)
    ):
        b, g, t, r = found.left.shape
        columns, kernel = found.right.float(), found.kernel
        if right is not None:
            columns, kernel = columns @ found.as_right(right).T, 1
        if left is None:
            return Outer(found.left.float(), columns, kernel).product()
        rows = torch.einsum("bgtr,kgr->bgtk", found.left.float(), left.unflatten(1, (g, r)))
        return Outer(rows.reshape(b, 1, g * t, -1), columns.reshape(b, 1, g * t, -1), kernel).product()
    product = found.product().float().reshape(-1, *weight.matrix)
    half = _meet(product, right)
    return half if left is None else left @ half


def _product_first(weight: _Weight, found: Outer) -> bool:
    """Whether making the gradient costs less than meeting its factors: it does with many places."""
    _, g, t, r = found.left.shape
    c = found.right.shape[3]
    kr, kc = (size if side is None else len(side) for size, side in zip((r * g, c), weight[1:3], strict=True))
    meet_right, meet_left = (0 if side is None else side.numel() for side in (weight.right, weight.left))
    factors = t * (g * meet_right + meet_left + (kr if weight.left is None else g * kr) * kc)
    product = g * t * r * c + (r * g * c * kc if weight.right is not None else 0)
    return product + (kr * r * g * kc if weight.left is not None else 0) < factors


def _meet(tensor: Float[Tensor, "*t c"], side: Float[Tensor, "k c"] | None) -> Float[Tensor, "*t k"]:
    return tensor.float() if side is None else tensor.float() @ side.T


def _signs(stream: Stream, k: int, size: int) -> Float[Tensor, "k size"]:
    words = stream.bits(np.arange(size)[:, None], np.arange(-(-k // 64)))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, count=k, bitorder="little")
    return torch.from_numpy((bits.T.astype(np.float32) * 2 - 1) / k**0.5)
