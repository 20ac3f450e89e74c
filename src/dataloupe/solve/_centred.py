"""A regression about the means, as the solvers take it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dataloupe.kernels import Gram


class Centred(NamedTuple):
    """X'X (as a ``Gram``), X'y ``[n, m]`` and y'y ``[m]`` of so many ``rows`` about their means."""

    rows: int
    mean: Float[np.ndarray, " n"]
    level: Float[np.ndarray, " m"]
    gram: Gram
    right: Float[np.ndarray, "n m"]
    square: Float[np.ndarray, " m"]

    def dense(self) -> Float[np.ndarray, "n n"]:
        """X'X as one fp64 matrix."""
        gram = self.gram
        full = gram.deviations + gram.base - np.outer(gram.tilt, gram.tilt)
        np.fill_diagonal(full, gram.diagonal)
        return full

    @classmethod
    def of(cls, x: Float[np.ndarray, "k n"], y: Float[np.ndarray, "k m"]) -> "Centred":
        """Of any real design, as it is."""
        mean, level = x.mean(axis=0), y.mean(axis=0)
        x, y = x - mean, y - level
        full = x.T @ x
        diagonal = np.diagonal(full).copy()
        np.fill_diagonal(full, 0.0)
        gram = Gram(full, 0.0, np.zeros(len(full)), diagonal)
        return cls(len(x), mean, level, gram, x.T @ y, (y * y).sum(axis=0))
