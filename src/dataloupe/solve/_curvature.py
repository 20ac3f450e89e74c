"""The curvature of a loss in the parameters, block by block, each in a basis where it is nearly diagonal."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Array
from dataloupe.core import Contribution, Direct, Outer, Picked

FULL = 1024
"""Blocks of at most so many parameters get the eigenvectors of their whole Gram matrix."""
SIDE = 8192
"""A side of a matrix with more rows or columns than this keeps its own axes."""


@dataclasses.dataclass
class Block:
    """One parameter's coordinates: ``whole [p, q]``, or ``left [r, s]`` and ``right [c, d]``, where there is one."""

    matrix: tuple[int, int]
    whole: Float[Tensor, "p q"] | None = None
    left: Float[Tensor, "r s"] | None = None
    right: Float[Tensor, "c d"] | None = None

    def turned(self, found: list[Contribution]) -> Contribution:
        """Every example's gradient in these coordinates, U_left' g U_right, its uses added.

        What is one outer product stays one; all else is as :class:`Direct` as it can be.
        """
        if self.whole is not None:
            return Direct(_added([one.product().flatten(1) for one in found]) @ self.whole)
        if len(found) == 1 and isinstance(found[0], Outer) and found[0].left.shape[1:3] == (1, 1):
            return self._factors(found[0])
        return Direct(_added([self._product(one) for one in found]))

    def rotated(self, found: list[Contribution]) -> Float[Tensor, "b q"]:
        """The same, every number of it."""
        return self.turned(found).product().flatten(1)

    def _factors(self, found: Outer) -> Outer:
        left, right = _meet(found.left.float(), self.left), found.right.float()
        if self.right is None:
            return Outer(left, right, found.kernel)
        return Outer(left, right @ found.as_right(self.right.T).T)

    def _product(self, found: Contribution) -> Float[Tensor, "b s d"]:
        if isinstance(found, Outer) and found.left.shape[1] == 1 and self._factors_first(found):
            return self._factors(found).product()
        half = _meet(found.product().float().reshape(-1, *self.matrix), self.right)
        return half if self.left is None else self.left.T @ half

    def _factors_first(self, found: Outer) -> bool:
        """Whether turning the factors costs less than turning their product."""
        t, (r, c) = found.left.shape[2], self.matrix
        return t * (r * (self.left is not None) + c * (self.right is not None)) <= r * c


def squares(turned: Contribution, weights: Float[Tensor, " b"]) -> Float[Tensor, " p"]:
    """sum_b weights_b g_b^2, number by number."""
    if isinstance(turned, Outer):
        turned = turned._replace(left=turned.left.square(), right=turned.right.square())
        return totals(turned, weights[:, None])[0]
    return weights @ turned.product().flatten(1).square()


def totals(turned: Contribution, weights: Float[Tensor, "b q"]) -> Float[Tensor, "q p"]:
    """sum_b weights_bq g_b."""
    if isinstance(turned, Outer):
        left, right = turned.left.flatten(1), turned.right.flatten(1)
        every = (weights[:, :, None] * left[:, None]).flatten(1)
        found = Outer(every[None, None], right[None, None], turned.kernel).product()
        return found.reshape(weights.shape[1], left.shape[1] * right.shape[1])
    return weights.T @ turned.product().flatten(1)


class Sums:
    """First pass: what each block's coordinates are the eigenvectors of, summed over examples in fp64.

    For a weight, the second moments of both factors, sum_bt left left' and sum_bt right right' (K-FAC); for a
    small block the Gram matrix of its gradients.
    """

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, int]] = {}
        self._sums: dict[tuple[str, str], Tensor] = {}

    def add(self, name: str, found: list[Contribution]) -> None:
        """All uses of one parameter in one batch."""
        r, c = self.shapes.setdefault(name, found[0].matrix)
        if r * c <= FULL:
            rows = _added([one.product().flatten(1) for one in found])
            self._grow(name, "whole", rows.T @ rows)
            return
        for one in found:
            left, right = _sides(one, (r, c))
            if left is not None and 1 < r <= SIDE:
                self._grow(name, "left", left.T @ left)
            if right is not None and 1 < c <= SIDE:
                self._grow(name, "right", _in_order(one, right.T @ right))

    @property
    def finite(self) -> bool:
        """Whether all gradients were."""
        return all(bool(total.isfinite().all()) for total in self._sums.values())

    def blocks(self) -> dict[str, Block]:
        """The coordinates of every parameter, but those in which nothing moves (dead units)."""
        found = {name: Block(matrix) for name, matrix in self.shapes.items()}
        for (name, side), total in self._sums.items():
            setattr(found[name], side, _spanned(total))
        return found

    def _grow(self, name: str, side: str, more: Tensor) -> None:
        total = self._sums.setdefault(
            (name, side), torch.zeros(more.shape, dtype=torch.float64, device=more.device)
        )
        total += more


def kept_numbers(rows: int, columns: int) -> int:
    """How many numbers the coordinates of a matrix are, as :meth:`Sums.blocks` makes them.

    >>> kept_numbers(1, 10), kept_numbers(64, 1568)
    (100, 2462720)
    """
    if rows * columns <= FULL:
        return (rows * columns) ** 2
    return sum(side**2 for side in (rows, columns) if 1 < side <= SIDE)


def as_arrays(blocks: Mapping[str, Block]) -> dict[str, Array]:
    """Blocks as a store keeps them."""
    sides = ((name, side, getattr(one, side)) for name, one in blocks.items() for side in _SIDES)
    return {f"{side} {name}": tensor.cpu().numpy() for name, side, tensor in sides if tensor is not None}


def from_arrays(shapes: Mapping[str, Sequence[int]], arrays: Mapping[str, Array]) -> dict[str, Block]:
    """The reverse of :func:`as_arrays`."""

    def side(which: str, name: str) -> Tensor | None:
        found = arrays.get(f"{which} {name}")
        return None if found is None else torch.from_numpy(np.asarray(found))

    return {
        name: Block((rows, columns), *(side(which, name) for which in _SIDES))
        for name, (rows, columns) in shapes.items()
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Curvature:
    """H of one model: a diagonal of ``values`` in the coordinates of each of ``blocks``.

    Damping is relative to the mean eigenvalue of each block, tr H_b / p_b.

    >>> one = Curvature({"w": Block((1, 2))}, {"w": np.array([3.0, 1.0])})
    >>> one.inverse(0.5)["w"].tolist(), one.dimension(0.5)
    ([0.25, 0.5], 1.25)
    """

    blocks: Mapping[str, Block]
    values: Mapping[str, Float[np.ndarray, " p"]]

    def inverse(self, damping: float) -> dict[str, Float[Tensor, " p"]]:
        """1 / (value + ridge) of every block that moves at all (dl-704 if none does)."""
        ridges = self._ridges(damping)
        if not ridges:
            raise BadInput(
                "dl-704",
                asked="the inverse of a curvature",
                found="gradients of training rows that are all zero",
                do="look for an output that ignores the parameters, or a model that is sure of every row",
            )
        return {
            name: torch.from_numpy(1.0 / (self.values[name] + ridge)).float()
            for name, ridge in ridges.items()
        }

    def dimension(self, damping: float) -> float:
        """The effective dimension, tr H (H + ridge)^-1."""
        ridges = self._ridges(damping)
        return sum(float((self.values[name] / (self.values[name] + r)).sum()) for name, r in ridges.items())

    def _ridges(self, damping: float) -> dict[str, float]:
        traces = {name: float(values.sum()) for name, values in self.values.items()}
        return {
            name: damping * trace / math.prod(self.blocks[name].matrix)
            for name, trace in traces.items()
            if trace > 0.0
        }


class Rotated:
    """Gradients of some rows in their coordinates, kept: ``targets`` phi ``[m, p]``, parameter by parameter."""

    def __init__(self, blocks: Mapping[str, Block], rows: slice) -> None:
        self._blocks, self._rows = blocks, rows
        self.targets: dict[str, Float[Tensor, "m p"]] = {}

    def add(self, name: str, found: list[Contribution], place: slice) -> None:
        """All uses of one parameter in one batch (of one draw), of which some rows may be wanted."""
        first, last = max(place.start, self._rows.start), min(place.stop, self._rows.stop)
        if name not in self._blocks or first >= last:
            return
        mine = slice(first - place.start, last - place.start)
        turned = self._blocks[name].rotated([one.part(mine) for one in found])
        kept = self.targets.setdefault(name, torch.zeros(self._rows.stop - self._rows.start, turned.shape[1]))
        kept[first - self._rows.start : last - self._rows.start] += turned

    def along(
        self, sums: Mapping[str, Float[Tensor, "q p"]], inverses: Sequence[Mapping[str, Tensor]]
    ) -> Float[np.ndarray, "g q m"]:
        """phi' H^-1 sum, for every damping."""
        found = np.zeros((len(inverses), len(next(iter(sums.values()))), self._rows.stop - self._rows.start))
        for g, inverse in enumerate(inverses):
            for name, phi in self.targets.items():
                if name in inverse:
                    found[g] += ((sums[name] * inverse[name]) @ phi.T).double().numpy()
        return found

    def products(self, inverse: Mapping[str, Tensor], out: Float[np.ndarray, "m b"]) -> "Products":
        """A use that adds phi' H^-1 g to ``out``. The targets are weighed in place: this is their last use."""
        for name in list(self.targets):
            if name in inverse:
                self.targets[name] *= inverse[name]
            else:
                del self.targets[name]
        return Products(self._blocks, self.targets, torch.from_numpy(out))


@dataclasses.dataclass(frozen=True, eq=False)
class Products:
    """phi' H^-1 g of some targets with the rows that pass."""

    blocks: Mapping[str, Block]
    weights: Mapping[str, Float[Tensor, "m p"]]
    out: Float[Tensor, "m b"]

    def __call__(self, name: str, found: list[Contribution], place: slice) -> None:
        """All uses of one parameter in one batch."""
        if name in self.weights:
            self.out[:, place] += self.weights[name] @ self.blocks[name].rotated(found).T


_SIDES: Any = ("whole", "left", "right")


def _sides(found: Contribution, matrix: tuple[int, int]) -> tuple[Tensor | None, Tensor | None]:
    """Rows whose second moments are the two sides'."""
    if isinstance(found, Outer) and found.left.shape[1] == 1:
        return found.left.flatten(0, 2).float(), found.right.flatten(0, 2).float()
    if isinstance(found, Picked):
        return None, found.right.flatten(0, 1).float()
    product = found.product().float().reshape(-1, *matrix)
    return product.mT.flatten(0, 1), product.flatten(0, 1)


def _in_order(found: Contribution, moment: Float[Tensor, "c c"]) -> Float[Tensor, "c c"]:
    """Second moments of columns in the order of the parameter."""
    if not isinstance(found, Outer) or found.kernel == 1 or found.left.shape[1] > 1:
        return moment
    back = found.as_right(torch.arange(len(moment), device=moment.device)).argsort()
    return moment[back][:, back]


def _spanned(moment: Float[Tensor, "c c"]) -> Float[Tensor, "c r"]:
    """The eigenvectors of a second moment whose eigenvalues are above 0."""
    values, vectors = torch.linalg.eigh(moment)
    live = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, live].float()


def _meet(rows: Tensor, basis: Tensor | None) -> Tensor:
    return rows if basis is None else rows @ basis


def _added(parts: list[Tensor]) -> Tensor:
    total = parts[0].float()
    for part in parts[1:]:
        total = total + part.float()
    return total
