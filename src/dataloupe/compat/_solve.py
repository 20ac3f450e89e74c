"""The scores of one checkpoint from features that come in blocks: nothing of size n x d stands in memory."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe._typing import Facts
from dataloupe.compat._shelf import Shelf, unpacked

RELATIVE = 1.0
"""The ridge where none is asked for, relative to the mean eigenvalue of the Gram."""
_LEAST = 1e-13
"""The reciprocal condition number from which a Gram of fp32 features is singular."""


class Gram(NamedTuple):
    """X'X ``[d, d]``, or XX' ``[n, n]`` where that is smaller, in fp64; ``d`` and what is known of X."""

    matrix: Float[np.ndarray, "e e"]
    d: int
    facts: Facts

    @property
    def dual(self) -> bool:
        """Whether it is of rows."""
        return len(self.matrix) != self.d

    def ridge(self, asked: float | None) -> float:
        """lambda: as asked for, or the mean eigenvalue of X'X."""
        return RELATIVE * float(np.trace(self.matrix)) / self.d if asked is None else asked


def gram_of(shelf: Shelf) -> Gram:
    """The Gram of a shelf's features, summed in fp64, block by block in order."""
    n = len(shelf.there)
    d, zeros, worst = 0, 0, 0.0
    matrix, rows = np.zeros((0, 0)), np.zeros((0, 0))
    for ids, arrays, facts in shelf.blocks():
        block = unpacked(arrays).astype(np.float64)
        if d == 0:
            d = block.shape[1]
            matrix, rows = (np.zeros((d, d)), rows) if n >= d else (matrix, np.zeros((n, d)))
        zeros += int((~block.any(axis=1)).sum())
        worst = max(worst, facts.get("gradient_error", 0.0))
        if n >= d:
            matrix += block.T @ block
        else:
            rows[ids] = block
    facts = {"zero_rows": zeros, "gradient_error": worst, "coverage": facts.get("coverage", {})}
    return Gram(matrix if n >= d else rows @ rows.T, d, facts)


class Solved(NamedTuple):
    """The Cholesky factor of Gram + lambda I, and the effective dimension tr G (G + lambda I)^-1."""

    factor: Float[np.ndarray, "e e"]
    ridge: float
    dimension: float


def solved(gram: Gram, asked: float | None, what: str) -> Solved:
    """Factor Gram + lambda I.

    Raises ``BadInput`` dl-967 where it is singular: lambda = 0 with fewer directions than dimensions.
    """
    ridge, size = gram.ridge(asked), len(gram.matrix)
    shifted = gram.matrix + ridge * np.eye(size)
    factor, failed = scipy.linalg.lapack.dpotrf(shifted, lower=1)
    rcond = (
        0.0 if failed else scipy.linalg.lapack.dpocon(factor, np.abs(shifted).sum(axis=0).max(), uplo="L")[0]
    )
    if rcond < _LEAST or (gram.dual and ridge == 0.0):
        rows = (
            f"{size} rows for {gram.d} dimensions"
            if gram.dual
            else f"{gram.d} dimensions, not all of them used"
        )
        raise BadInput(
            "dl-967",
            asked=f"{what}: the inverse of the Gram with lambda_reg={ridge:g}",
            found=f"a singular matrix: {rows}",
            do="leave lambda_reg out (a ridge of the mean eigenvalue), give one above 0, or lower proj_dim",
        )
    inverse, _ = scipy.linalg.lapack.dtrtri(factor, lower=1)
    return Solved(factor, ridge, size - ridge * float((np.tril(inverse) ** 2).sum()))


def add_scores(
    total: Float[np.ndarray, "n m"], shelf: Shelf, targets: Float[np.ndarray, "m d"], gram: Gram, how: Solved
) -> Float[np.ndarray, " n"]:
    """Add X (X'X + lambda I)^-1 phi' to ``total``; gives the slopes. The inverse meets the targets, never X."""
    right = targets.T.astype(np.float64)
    slope = np.zeros(len(total))
    if gram.dual:
        products = np.zeros((len(total), right.shape[1]))
        for ids, arrays, _ in shelf.blocks():
            products[ids], slope[ids] = unpacked(arrays) @ right, arrays["slope"]
        total += scipy.linalg.cho_solve((how.factor, True), products)
        return slope
    weights = scipy.linalg.cho_solve((how.factor, True), right)
    for ids, arrays, _ in shelf.blocks():
        total[ids] += unpacked(arrays) @ weights
        slope[ids] = arrays["slope"]
    return slope
