"""Inner products of features in the metric of the training set."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from dataloupe._errors import BadInput

BLOCK = 4096


class Whitened(NamedTuple):
    """``values [m, n]`` = phi (X'X + ridge I)^-1 X' and what is known of the solve.

    ``ridge`` is absolute; ``dimension`` the effective dimension tr A (A + ridge I)^-1 with A = X'X, to choose
    a sketch by (10 to 50 times as many dimensions do); ``residual`` the certificate: the largest relative
    residual of the solve over the targets; ``zero_rows`` how many training features are all zero.
    """

    values: Float[np.ndarray, "m n"]
    ridge: float
    dimension: float
    residual: float
    zero_rows: int


def whitened(
    features: Float[np.ndarray, "n d"], targets: Float[np.ndarray, "m e"], relative_ridge: float
) -> Whitened:
    """phi (X'X + ridge I)^-1 X' with ridge = relative_ridge tr(X'X) / d, for every target row phi.

    The Gram and the solve are in fp64, by Cholesky on the smaller side: with n < d the dual form
    phi X' (X X' + ridge I)^-1 gives the same numbers. Work: n d min(n, d) + min(n, d)^3 / 3 + 2 m n d.

    Raises ``BadInput`` dl-701 (a ridge that is not above 0), dl-704 (shapes, NaN, features that are all 0).
    Source: Park et al. 2023 (TRAK), section 3, with a relative ridge.

    >>> x = np.eye(2)
    >>> whitened(x, np.array([[1.0, 0.0]]), relative_ridge=1.0).values.round(6).tolist()
    [[0.5, 0.0]]
    """
    check_penalty(relative_ridge)
    _check(features, targets)
    n, d = features.shape
    gram = _gram(features if n >= d else features.T)
    ridge = relative_ridge * float(np.trace(gram)) / d
    if not ridge > 0.0:
        raise _bad(f"features [{n}, {d}] that are all zero")
    right = targets.T.astype(np.float64) if n >= d else _product(features, targets)
    solution, dimension, residual = _solve(gram, ridge, right)
    values = solution.T if n < d else solution.T.astype(features.dtype) @ features.T
    zero_rows = int((~features.any(axis=1)).sum())
    return Whitened(values.astype(features.dtype), ridge, dimension, residual, zero_rows)


def check_penalty(penalty: float) -> None:
    """Refuse a relative ridge that is not above 0 (dl-701)."""
    if not (np.isfinite(penalty) and penalty > 0.0):
        raise BadInput(
            "dl-701",
            asked=f"a relative penalty of {penalty:g}",
            found="a number that is not above 0: the solve would amplify noise without bound",
            do="give a positive one, relative to the mean eigenvalue (1.0 is a good start; 1e-8 is nearly none)",
        )


def _solve(
    gram: Float[np.ndarray, "e e"], ridge: float, right: Float[np.ndarray, "e m"]
) -> tuple[Float[np.ndarray, "e m"], float, float]:
    """(gram + ridge I)^-1 right, tr gram (gram + ridge I)^-1, and the largest relative residual."""
    shifted = gram + ridge * np.eye(len(gram))
    factor = scipy.linalg.cholesky(shifted, lower=True)
    solution = scipy.linalg.cho_solve((factor, True), right)
    inverse, _ = scipy.linalg.lapack.dtrtri(factor, lower=1)
    dimension = len(gram) - ridge * float((np.tril(inverse) ** 2).sum())
    size = np.linalg.norm(right, axis=0)
    left = np.linalg.norm(shifted @ solution - right, axis=0)
    return solution, dimension, float((left / np.where(size > 0, size, 1.0)).max())


def _gram(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d d"]:
    """rows' rows in fp64, in blocks and in order."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK].astype(np.float64)
        total += block.T @ block
    return total


def _product(features: Float[np.ndarray, "n d"], targets: Float[np.ndarray, "m d"]) -> np.ndarray:
    """X phi' ``[n, m]`` in fp64."""
    total = np.zeros((len(features), len(targets)))
    for start in range(0, features.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        total += features[:, part].astype(np.float64) @ targets[:, part].T.astype(np.float64)
    return total


def _check(features: np.ndarray, targets: np.ndarray) -> None:
    if features.ndim != 2 or targets.ndim != 2 or features.shape[1] != targets.shape[1]:
        raise _bad(f"features {features.shape} and targets {targets.shape}")
    if not (np.isfinite(features).all() and np.isfinite(targets).all()):
        raise _bad("NaN or infinity in the features")


def _bad(found: str) -> BadInput:
    return BadInput(
        "dl-704",
        asked="features of training rows [n, d] and of targets [m, d]",
        found=found,
        do="look for diverged models, overflow in half precision, or an output that ignores the parameters",
    )
