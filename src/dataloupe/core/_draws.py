"""The draws of an output one by one, and what stands for all of them where gradients are multiplied with themselves."""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._identity import Stream
from dataloupe.core._direction import Better, better_of
from dataloupe.core._examples import Rows
from dataloupe.core._model import Model
from dataloupe.core._question import Output, draws_of

PROBES = 4
"""So many sums of a row's draws stand for all of them in a Gram matrix."""


@dataclasses.dataclass(frozen=True)
class OneDraw:
    """An output under draw ``number`` of its ``repeats``, as an output of its own."""

    output: Output
    number: int
    repeats: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """The output's, and which draw."""
        return f"draw {self.number} of {self.output.name}"

    @property
    def better(self) -> Better | None:
        """The output's."""
        return better_of(self.output)

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Tensor:  # noqa: ARG002
        """The output's value under this draw."""
        return self.output.value(model, rows, draws_of(self.output)[self.number])

    def slope(self, model: Model, rows: Rows, values: Tensor, draw: Stream | None = None) -> Tensor:  # noqa: ARG002
        """The output's slope under this draw."""
        return self.output.slope(model, rows, values, draws_of(self.output)[self.number])

    def valid(self, rows: Rows) -> Tensor:
        """The output's components."""
        return self.output.valid(rows)


def draw_signs(rows: Int[np.ndarray, " b"], repeats: int) -> Float[np.ndarray, "b q repeats"]:
    """How the gradients x_r of a row's draws are added to q vectors that stand for them all: ``y_q = sum_r signs_qr x_r``, with

        E[mean_q y_q y_q'] = mean_r x_r x_r'

    Up to :data:`PROBES` draws stand for themselves. Of more, each y is ``sum_r +-x_r / sqrt(R)``, the signs keyed by row: what a row
    and a draw have to do with another cancels on average.

    >>> draw_signs(np.arange(3), 2)[0].tolist(), draw_signs(np.arange(3), 16).shape, float(np.abs(draw_signs(np.arange(3), 16)).max())
    ([[1.0, 0.0], [0.0, 1.0]], (3, 4, 16), 0.25)
    """
    if repeats <= PROBES:
        return np.broadcast_to(np.eye(repeats), (len(rows), repeats, repeats)).copy()
    probes, draws = np.arange(PROBES)[:, None], np.arange(repeats)
    bits = Stream.root(0)("signs").bits(rows[:, None, None], probes, draws) & np.uint64(1)
    return (2.0 * bits.astype(np.float64) - 1.0) / repeats**0.5
