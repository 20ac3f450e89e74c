"""The curvature of a loss in the parameters, block by block, each in a basis where it is nearly diagonal."""

import dataclasses
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Facts
from dataloupe.core import Contribution, Outer, Picked

FULL = 1024
"""Blocks of at most so many parameters get the eigenvectors of their whole Gram matrix."""
SIDE = 8192
"""A side of a matrix with more rows or columns than this keeps its own axes."""


@dataclasses.dataclass
class Block:
    """One parameter's coordinates: ``whole`` [p, p], or ``left [r, r]`` and ``right [c, c]``, where there is one."""

    matrix: tuple[int, int]
    whole: Float[Tensor, "p p"] | None = None
    left: Float[Tensor, "r r"] | None = None
    right: Float[Tensor, "c c"] | None = None

    def rotated(self, found: list[Contribution]) -> Float[Tensor, "b p"]:
        """Every example's gradient in these coordinates: the sum of the uses, U_left' g U_right."""
        if self.whole is not None:
            return _added([one.product().flatten(1) for one in found]) @ self.whole
        return _added([self._turned(one) for one in found]).flatten(1)

    def _turned(self, found: Contribution) -> Float[Tensor, "b r c"]:
        if isinstance(found, Outer) and found.left.shape[1] == 1 and self._factors_first(found):
            left, right = _meet(found.left, self.left), found.right.float()
            if self.right is None:
                return Outer(left, right, found.kernel).product()
            return left[:, 0].mT @ (right[:, 0] @ found.as_right(self.right.T).T)
        half = _meet(found.product().reshape(-1, *self.matrix), self.right)
        return half if self.left is None else self.left.T @ half

    def _factors_first(self, found: Outer) -> bool:
        """Whether turning the factors costs less than turning their product."""
        t, (r, c) = found.left.shape[2], self.matrix
        return t * (r * (self.left is not None) + c * (self.right is not None)) <= r * c


class Sums:
    """First pass: what each block's coordinates are the eigenvectors of, summed over examples in fp64.

    For a weight, the second moments of both factors, sum_bt left left' and sum_bt right right' (K-FAC); for a
    small block the Gram matrix of its gradients.
    """

    def __init__(self) -> None:
        self._shapes: dict[str, tuple[int, int]] = {}
        self._sums: dict[tuple[str, str], Tensor] = {}

    def add(self, name: str, found: list[Contribution]) -> None:
        """All uses of one parameter in one batch."""
        r, c = self._shapes.setdefault(name, found[0].matrix)
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
        """The coordinates of every parameter."""
        found = {name: Block(matrix) for name, matrix in self._shapes.items()}
        for (name, side), total in self._sums.items():
            setattr(found[name], side, torch.linalg.eigh(total)[1].float())
        return found

    def _grow(self, name: str, side: str, more: Tensor) -> None:
        total = self._sums.setdefault(
            (name, side), torch.zeros(more.shape, dtype=torch.float64, device=more.device)
        )
        total += more


class Spectrum:
    """Second pass: the second moment of every coordinate, sum_b (U' g_b)^2, in fp64: the corrected eigenvalues."""

    def __init__(self, blocks: Mapping[str, Block]) -> None:
        self.blocks = blocks
        self.values: dict[str, Tensor] = {}

    def add(self, name: str, found: list[Contribution]) -> None:
        """All uses of one parameter in one batch."""
        more = self.blocks[name].rotated(found).square().sum(0).double()
        self.values[name] = self.values[name] + more if name in self.values else more

    def inverse(self, damping: float) -> tuple[dict[str, Tensor], Facts]:
        """1 / (eigenvalue + damping x the block's mean eigenvalue), and the effective dimension of all (dl-704)."""
        found: dict[str, Tensor] = {}
        dimension = 0.0
        for name, values in self.values.items():
            ridge = damping * float(values.mean())
            if ridge > 0.0:
                found[name] = 1.0 / (values + ridge)
                dimension += float((values * found[name]).sum())
        if not found:
            raise BadInput(
                "dl-704",
                asked="the inverse of a curvature",
                found="gradients of training rows that are all zero",
                do="look for an output that ignores the parameters, or a model that is sure of every row",
            )
        return found, {"dimension": dimension, "blocks": len(found)}


def _sides(found: Contribution, matrix: tuple[int, int]) -> tuple[Tensor | None, Tensor | None]:
    """Rows whose second moments are the two sides'."""
    if isinstance(found, Outer) and found.left.shape[1] == 1:
        return found.left.flatten(0, 2), found.right.flatten(0, 2)
    if isinstance(found, Picked):
        return None, found.right.flatten(0, 1)
    product = found.product().reshape(-1, *matrix)
    return product.mT.flatten(0, 1), product.flatten(0, 1)


def _in_order(found: Contribution, moment: Float[Tensor, "c c"]) -> Float[Tensor, "c c"]:
    """Second moments of columns in the order of the parameter."""
    if not isinstance(found, Outer) or found.kernel == 1 or found.left.shape[1] > 1:
        return moment
    back = found.as_right(torch.arange(len(moment), device=moment.device)).argsort()
    return moment[back][:, back]


def _meet(rows: Tensor, basis: Tensor | None) -> Tensor:
    return rows if basis is None else rows @ basis


def _added(parts: list[Tensor]) -> Tensor:
    total = parts[0].float()
    for part in parts[1:]:
        total = total + part.float()
    return total
