"""Least squares of outputs on membership, from sufficient statistics: nothing shrunk, every error known."""

import dataclasses

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe.solve._checks import check_centred, relative
from dataloupe.solve._spectrum import Spectrum
from dataloupe.solve._stats import Centred, SuffStats


@dataclasses.dataclass(frozen=True, eq=False)
class LeastSquares:
    """f_j(w) = bias_j + weights_j . w, the certificate, and the covariance of the weights.

    ``sigma2 [m]`` is the noise of one row, |residual|^2 / (k - 1 - rank), and ``residual [m]`` the relative
    residual of the normal equations. With ``basis [n, r]`` and ``eigenvalues [r]`` those of X'X above 0:

        cov(weights_j) = sigma2_j (X'X)^+ = sigma2_j basis diag(1 / eigenvalues) basis'

    Where ``rank`` is below n the design cannot tell some directions, and weights and errors are those of the
    part that it can: with fixed-size subsets every row of weights sums to 0.
    """

    weights: Float[np.ndarray, "m n"]
    bias: Float[np.ndarray, " m"]
    sigma2: Float[np.ndarray, " m"]
    residual: Float[np.ndarray, " m"]
    basis: Float[np.ndarray, "n r"]
    eigenvalues: Float[np.ndarray, " r"]

    @property
    def rank(self) -> int:
        """How many directions of the weights the design tells."""
        return len(self.eigenvalues)

    @property
    def spectrum(self) -> Float[np.ndarray, "m r"]:
        """Variance of the weights along the basis: sigma2 / eigenvalue."""
        return self.sigma2[:, None] / self.eigenvalues

    @property
    def error(self) -> Float[np.ndarray, "m n"]:
        """Standard error of every weight: the root of the diagonal of its covariance."""
        return np.sqrt(self.sigma2)[:, None] * np.sqrt((self.basis**2) @ (1.0 / self.eigenvalues))


def least_squares(stats: SuffStats | Centred) -> LeastSquares:
    """argmin |y - bias - X w|^2 for every target: of all minimisers the shortest, w = (X'X)^+ X'y.

    X is centred, so the intercept is free. Fixed-size subsets say nothing along (1, ..., 1): X'X has a null
    direction there, found as an eigenvalue below 1e-10 of the largest. Work: 9 n^3 + 4 n^2 m.

    Raises ``BadInput`` dl-775 (no more rows than examples, or none left for the noise), dl-700, dl-702, dl-772.
    Source: Ilyas et al. 2022, lemma 1 (least squares and the difference of means).

    >>> masks = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)
    >>> found = least_squares(SuffStats.of(masks, masks @ np.array([[2.0], [-1.0]])))
    >>> found.weights.round(6).tolist(), found.rank
    ([[2.0, -1.0]], 2)
    """
    whole = stats.centred() if isinstance(stats, SuffStats) else stats
    check_centred(whole)
    n = len(whole.mean)
    if whole.rows <= n:
        raise _too_few(whole.rows, n, f"a rank of at most k - 1 = {whole.rows - 1}")
    values, vectors, rank = Spectrum.of(whole)
    freedom = whole.rows - 1 - rank
    if freedom < 1:
        raise _too_few(whole.rows, n, f"rank {rank}, and no rows left to tell the noise")
    values, basis = values[:rank], vectors[:, :rank]
    rotated = basis.T @ whole.right
    weights = (basis @ (rotated / values[:, None])).T
    left = whole.right - whole.dense() @ weights.T
    return LeastSquares(
        weights=weights,
        bias=whole.level - weights @ whole.mean,
        sigma2=np.maximum(whole.square - (rotated**2 / values[:, None]).sum(axis=0), 0.0) / freedom,
        residual=relative(np.linalg.norm(left, axis=0), np.linalg.norm(whole.right, axis=0)),
        basis=basis,
        eigenvalues=values,
    )


def _too_few(k: int, n: int, found: str) -> BadInput:
    return BadInput(
        "dl-775",
        asked=f"least squares of k = {k} subsets on n = {n} examples",
        found=found,
        do=f"train on more than {n + 1} subsets (several times n, to learn anything), or use ridge or lasso",
    )
