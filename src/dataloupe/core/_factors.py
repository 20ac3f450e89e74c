"""What one use of a parameter adds to every example's gradient: factors where they are smaller, or the thing itself."""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from jaxtyping import Float, Int, Shaped
from torch import Tensor


class Outer(NamedTuple):
    """A matrix ``[g r, c]`` as a sum of outer products: g_b = sum_t left_bt right_bt', group by group.

    The columns of ``right`` run over the places of a ``kernel`` first and over channels within, as pictures lie in
    memory when channels are last; those of the parameter the other way round. A kernel of 1 changes nothing.
    """

    left: Float[Tensor, "b g t r"]
    right: Float[Tensor, "b g t c"]
    kernel: int = 1

    def part(self, rows: slice) -> "Outer":
        """Some of the examples."""
        return self._replace(left=self.left[rows], right=self.right[rows])

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the parameter."""
        return self.left.shape[1] * self.left.shape[3], self.right.shape[3]

    @property
    def numbers(self) -> int:
        """How many numbers of one example are in memory at a time while its gradient is made."""
        rows, columns = self.matrix
        return max(rows * columns, self.left.shape[1] * self.left.shape[2] * columns)

    def made(self) -> Float[Tensor, "b rows c"]:
        """The gradients, columns in the order of ``right``."""
        return (self.left.mT @ self.right).flatten(1, 2)

    def product(self) -> Float[Tensor, "b rows c"]:
        """The gradients themselves."""
        found = self.made()
        return found if self.kernel == 1 else found.unflatten(2, (self.kernel, -1)).mT.flatten(2)

    def as_right(self, rows: Shaped[Tensor, "*rows c"]) -> Shaped[Tensor, "*rows c"]:
        """Columns of the parameter in the order of ``right``."""
        return rows if self.kernel == 1 else rows.unflatten(-1, (-1, self.kernel)).mT.flatten(-2)


class Picked(NamedTuple):
    """A table of ``rows`` rows, of which place t picked row ``ids[b, t]`` and gave ``right[b, t]`` to it."""

    ids: Int[Tensor, "b t"]
    right: Float[Tensor, "b t c"]
    rows: int

    def part(self, rows: slice) -> "Picked":
        """Some of the examples."""
        return Picked(self.ids[rows], self.right[rows], self.rows)

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the parameter."""
        return self.rows, self.right.shape[2]

    def product(self) -> Float[Tensor, "b rows c"]:
        """The gradients themselves."""
        found = self.right.new_zeros(len(self.ids), self.rows, self.right.shape[2])
        return found.scatter_add_(1, self.ids[..., None].expand_as(self.right), self.right)


class Direct(NamedTuple):
    """The gradients themselves, of the parameter's shape."""

    values: Float[Tensor, "b ..."]

    def part(self, rows: slice) -> "Direct":
        """Some of the examples."""
        return Direct(self.values[rows])

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the parameter, as every layer counts them; a vector is one row."""
        shape = self.values.shape[1:]
        return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))

    def product(self) -> Float[Tensor, "b ..."]:
        """As they are."""
        return self.values


Contribution: TypeAlias = Outer | Picked | Direct


Use: TypeAlias = Callable[[str, list[Contribution], slice], None]
"""Called once for every parameter and batch: its name, all its uses there, and which rows the batch is."""


def sum_of(tensors: list[Tensor]) -> Tensor:
    """Their sum; none of them is changed."""
    if len(tensors) == 1:
        return tensors[0]
    found = tensors[0] + tensors[1]
    for one in tensors[2:]:
        found.add_(one)
    return found
