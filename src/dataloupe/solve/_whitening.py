"""Inner products of features in the metric of the training set."""

import dataclasses
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe.core import Chunked

BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class Whitening:
    """The eigenvectors of a Gram matrix A = X' W X, so that every ridge is free: (A + ridge I)^-1 = V (L + ridge)^-1 V'.

    ``vectors [d, r]`` and ``values [r]``: all of them with n >= d, else those that X spans, from the dual X X'
    (no other direction meets a row of X). A ridge is relative to the mean eigenvalue tr A / d. ``residual`` is the
    certificate: max |A V - V L| relative to the largest eigenvalue. fp64 throughout.

    Work: n d min(n, d) for the Gram, 9 min(n, d)^3 once, and nothing of that order for another ridge.

    >>> Whitening.of(Chunked.of(np.eye(2))).weights(np.array([[1.0, 0.0]]), 1.0).round(6).tolist()
    [[0.5], [0.0]]
    """

    vectors: Float[np.ndarray, "d r"]
    values: Float[np.ndarray, " r"]
    residual: float

    @classmethod
    def of(cls, features: Chunked, weights: Float[np.ndarray, " n"] | None = None) -> "Whitening":
        """Of training features ``[n, d]``, read once in chunks; ``weights`` W of the rows (default: 1).

        Raises ``BadInput`` dl-704 (features that are not numbers, or all 0).
        """
        n, d = features.shape
        primal = n >= d
        gram = _gram(features, weights) if primal else _outer_gram(features, weights)
        if not np.isfinite(gram).all():
            raise _bad("NaN or infinity in the features")
        if not np.trace(gram) > 0.0:
            raise _bad(f"features [{n}, {d}] that are all zero")
        values, vectors = scipy.linalg.eigh(gram, driver="evd")
        off = np.abs(gram @ vectors - vectors * values).max() / values[-1]
        if not primal:
            spanned = values > values[-1] * len(gram) * np.finfo(np.float64).eps
            values = values[spanned]
            vectors = _spread(features, weights, vectors[:, spanned]) / np.sqrt(values)
        return cls(vectors, np.maximum(values, 0.0), float(off))

    @property
    def dim(self) -> int:
        """d."""
        return len(self.vectors)

    def ridge(self, relative: float) -> float:
        """The absolute ridge."""
        return relative * float(self.values.sum()) / self.dim

    def dimension(self, relative: float) -> float:
        """The effective dimension tr A (A + ridge I)^-1: 10 to 50 times as many dimensions are a good sketch."""
        return float((self.values / (self.values + self.ridge(relative))).sum())

    def weights(self, targets: Float[np.ndarray, "m d"], relative: float) -> Float[np.ndarray, "d m"]:
        """(A + ridge I)^-1 targets', as far as rows of X meet it: scores of rows x are x @ weights."""
        check_penalty(relative)
        if targets.ndim != 2 or targets.shape[1] != self.dim:
            raise _bad(f"targets {targets.shape} for features of {self.dim} dimensions")
        turned = self.vectors.T @ targets.T.astype(np.float64)
        return self.vectors @ (turned / (self.values + self.ridge(relative))[:, None])


class Whitened(NamedTuple):
    """``values [m, n]`` = phi (X'X + ridge I)^-1 X' and what is known of the solve.

    ``ridge`` is absolute; ``dimension`` the effective dimension; ``residual`` the certificate of the
    eigenvectors; ``zero_rows`` how many training features are all zero.
    """

    values: Float[np.ndarray, "m n"]
    ridge: float
    dimension: float
    residual: float
    zero_rows: int


def whitened(
    features: Float[np.ndarray, "n d"], targets: Float[np.ndarray, "m e"], relative_ridge: float
) -> Whitened:
    """phi (X'X + ridge I)^-1 X' with ridge = relative_ridge tr(X'X) / d, for every target row phi, in memory.

    Raises ``BadInput`` dl-701 (a ridge that is not above 0), dl-704 (shapes, NaN, features that are all 0).
    Source: Park et al. 2023 (TRAK), section 3, with a relative ridge.

    >>> x = np.eye(2)
    >>> whitened(x, np.array([[1.0, 0.0]]), relative_ridge=1.0).values.round(6).tolist()
    [[0.5, 0.0]]
    """
    check_penalty(relative_ridge)
    if features.ndim != 2 or targets.ndim != 2 or features.shape[1] != targets.shape[1]:
        raise _bad(f"features {features.shape} and targets {targets.shape}")
    if not np.isfinite(targets).all():
        raise _bad("NaN or infinity in the targets")
    found = Whitening.of(Chunked.of(features))
    values = (features.astype(np.float64) @ found.weights(targets, relative_ridge)).T
    return Whitened(
        values.astype(features.dtype),
        found.ridge(relative_ridge),
        found.dimension(relative_ridge),
        found.residual,
        int((~features.any(axis=1)).sum()),
    )


def check_penalty(penalty: float) -> None:
    """Refuse a relative ridge that is not above 0 (dl-701)."""
    if not (math.isfinite(penalty) and penalty > 0.0):
        raise BadInput(
            "dl-701",
            asked=f"a relative penalty of {penalty:g}",
            found="a number that is not above 0: the solve would amplify noise without bound",
            do="give a positive one, relative to the mean eigenvalue (1.0 is a good start; 1e-8 is nearly none)",
        )


def _weighted(
    features: Chunked, weights: Float[np.ndarray, " n"] | None
) -> Iterator[tuple[slice, Float[np.ndarray, "b d"]]]:
    """Rows times the roots of their weights, in fp64, at most ``BLOCK`` at a time."""
    for place, rows in features:
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK].astype(np.float64)
            where = slice(place.start + start, place.start + start + len(part))
            yield where, part if weights is None else part * np.sqrt(weights[where, None].astype(np.float64))


def _gram(features: Chunked, weights: np.ndarray | None) -> Float[np.ndarray, "d d"]:
    """X' W X, block after block in order."""
    total = np.zeros((features.width, features.width), order="F")
    for _, part in _weighted(features, weights):
        total = scipy.linalg.blas.dsyrk(1.0, part.T, 1.0, total, overwrite_c=1)
    return np.triu(total) + np.triu(total, 1).T


def _outer_gram(features: Chunked, weights: np.ndarray | None) -> Float[np.ndarray, "n n"]:
    """W^1/2 X X' W^1/2; n < d, so the features fit in memory."""
    rows = np.concatenate([part for _, part in _weighted(features, weights)])
    return rows @ rows.T


def _spread(features: Chunked, weights: np.ndarray | None, columns: np.ndarray) -> Float[np.ndarray, "d r"]:
    """X' W^1/2 columns."""
    total = np.zeros((features.width, columns.shape[1]))
    for place, part in _weighted(features, weights):
        total += part.T @ columns[place]
    return total


def _bad(found: str) -> BadInput:
    return BadInput(
        "dl-704",
        asked="features of training rows [n, d] and of targets [m, d]",
        found=found,
        do="look for diverged models, overflow in half precision, or an output that ignores the parameters",
    )
