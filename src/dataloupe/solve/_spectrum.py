"""The eigenvectors of a centred Gram, in which every quadratic penalty is diagonal."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from dataloupe.solve._centred import Centred

NULL = 1e-10
"""Eigenvalues below this share of the largest are 0: fixed-size subsets have one, along (1, ..., 1)."""


def leading(gram: Float[np.ndarray, "d d"]) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "d r"]]:
    """The eigenvalues above 0 of a positive matrix, largest first, and their vectors."""
    values, vectors = scipy.linalg.eigh(gram)
    real = values > values[-1] * NULL
    return values[real][::-1], vectors[:, real][:, ::-1]


class Spectrum(NamedTuple):
    """X'X = vectors diag(values) vectors', largest first; ``values`` from ``rank`` on are 0."""

    values: Float[np.ndarray, " n"]
    vectors: Float[np.ndarray, "n n"]
    rank: int

    @classmethod
    def of(cls, problem: Centred) -> "Spectrum":
        """By one symmetric eigendecomposition in fp64: about 9 n^3 operations, 3 matrices [n, n] at its peak."""
        values, vectors = scipy.linalg.eigh(problem.dense(), overwrite_a=True, check_finite=False)
        values, vectors = values[::-1].copy(), vectors[:, ::-1]
        values[values <= NULL * values[0]] = 0.0
        return cls(values, vectors, int(np.count_nonzero(values)))
