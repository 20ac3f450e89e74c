"""Sparse PCA from sparse regression: the columns that the other columns explain."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe.solve._centred import Centred
from dataloupe.solve._lasso import Path, lasso

STRENGTH = 0.8
"""The default penalty in units of sqrt(2 log d / n): see :func:`sparse_pca_support`."""
TOLERANCE = 1e-9


class SparsePCA(NamedTuple):
    """``support [k]`` (columns, best first), ``explained [d]`` (Q), the theorem's ``bound``, and the certificate.

    ``gap [d]`` is the duality gap of every regression relative to its objective at 0; ``penalty`` is theirs.
    """

    support: Int[np.ndarray, " k"]
    explained: Float[np.ndarray, " d"]
    bound: float
    penalty: float
    gap: Float[np.ndarray, " d"]

    @property
    def detected(self) -> bool:
        """Whether max Q is above the bound: a spike, at the theorem's (cautious) constant."""
        return bool(self.explained.max() > self.bound)


def sparse_pca_support(x: Float[np.ndarray, "n d"], k: int, *, strength: float = STRENGTH) -> SparsePCA:
    """The support of a k-sparse leading component, by d sparse regressions of each column on the others.

    With columns centred and of unit variance, b_i the lasso of X_i on the others at penalty
    strength * sqrt(2 log d / n), cut to its k coefficients of largest size,

        Q_i = |X_i|^2 / n - |X_i - X_-i b_i|^2 / n,    support = the k largest Q,    bound = 13 k log(d/k) / n

    Under N(0, I + theta u u') with k-sparse u only columns of the support are explained by others. Unit variance
    makes Q_i a share and every answer independent of the columns' units. Without a spike the largest of d
    sample correlations is about sqrt(2 log d / n): at ``strength`` 1 the lasso is then 0; a little less lets
    weak members in at the price of a few others. Columns that the lasso leaves at 0 are ranked by their largest
    correlation, the penalty at which they would enter.

    Raises ``BadInput`` dl-879. Source: Bresler, Park and Persu 2018, arXiv 1811.10106, algorithm SPCAvSLR.

    >>> x = np.array([[2.0, 2.1, 0.3], [-2.0, -1.9, 0.5], [1.0, 0.9, -0.4], [-1.0, -1.1, -0.4]])
    >>> sorted(sparse_pca_support(x, 2).support.tolist())
    [0, 1]
    """
    _check(x, k, strength)
    n, d = x.shape
    z = x - x.mean(axis=0, dtype=np.float64)
    z /= np.sqrt((z**2).mean(axis=0))
    correlation = z.T @ z / n
    penalty = strength * math.sqrt(2.0 * math.log(d) / n)
    fits = lasso(Centred.of(z, z), penalty=penalty, exclude=np.arange(d), path=Path(gap=TOLERANCE))
    explained = _explained(correlation, fits.weights, k)
    np.fill_diagonal(correlation, 0.0)
    entry = np.abs(correlation).max(axis=0)
    order = np.lexsort((np.arange(d), -entry, -explained))
    return SparsePCA(order[:k].astype(np.int64), explained, 13.0 * k * math.log(d / k) / n, penalty, fits.gap)


def _explained(
    correlation: Float[np.ndarray, "d d"], weights: Float[np.ndarray, "d d"], k: int
) -> Float[np.ndarray, " d"]:
    """Q of every column from its k coefficients of largest size."""
    found = np.zeros(len(weights))
    for i in np.flatnonzero(weights.any(axis=1)):
        kept = np.flatnonzero(weights[i])
        kept = kept[np.argsort(-np.abs(weights[i, kept]), kind="stable")[:k]]
        b = weights[i, kept]
        found[i] = 2.0 * b @ correlation[i, kept] - b @ correlation[np.ix_(kept, kept)] @ b
    return found


def _check(x: Float[np.ndarray, "n d"], k: int, strength: float) -> None:
    found = None
    if x.ndim != 2 or len(x) < 3 or x.shape[1] < 2:
        found = f"an array of shape {x.shape}"
    elif not np.isfinite(x).all():
        found = f"NaN or infinity in row {int((~np.isfinite(x).all(axis=1)).argmax())}"
    elif (x == x[0]).all(axis=0).any():
        found = f"the same number in all of column {int((x == x[0]).all(axis=0).argmax())}"
    elif not 1 <= k < x.shape[1]:
        found = f"k = {k} of {x.shape[1]} columns"
    elif not 0.0 < strength < math.inf:
        found = f"a strength of {strength}"
    if found is not None:
        raise BadInput(
            "dl-879",
            asked="the support of a sparse component",
            found=found,
            do="give finite x [n, d] with n >= 3, d >= 2 and no constant column, 1 <= k < d, strength above 0",
        )
