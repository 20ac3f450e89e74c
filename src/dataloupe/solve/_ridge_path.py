"""Ridge regression from sufficient statistics: every penalty from one eigendecomposition, no row held."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dataloupe.solve._checks import check_centred, relative
from dataloupe.solve._given import Selection, excluded, parts_of
from dataloupe.solve._ridge import PENALTIES, Ridge
from dataloupe.solve._spectrum import Spectrum
from dataloupe.solve._stats import Centred, SuffStats
from dataloupe.solve._whitening import check_penalty


def ridge_path(
    stats: SuffStats | Centred,
    *,
    penalty: float | Float[np.ndarray, " m"] | None = None,
    penalties: Sequence[float] = PENALTIES,
    folds: list[SuffStats] | None = None,
    select: Selection = "hold-out",
    exclude: Int[np.ndarray, " m"] | None = None,
) -> Ridge:
    """argmin |y - bias - X w|^2 + penalty |w|^2 for every target, the intercept unpenalised.

    Without a ``penalty`` (absolute, one or one a target) every target chooses among ``penalties``, relative to
    the mean non-zero eigenvalue of the centred X'X: by the error on the last of the ``folds`` after a fit on the
    others (``hold-out``), by the sum of the errors on each fold (``k-fold``), or without folds by
    |residual|^2 / (1 - (1 + tr H) / k)^2 (``gcv``). The same absolute penalty then fits all rows.

    ``folds`` add up to ``stats`` (see :meth:`SuffStats.split`). ``exclude [m]`` names a column that stays out of
    each target's fit (-1: none): with P = (X'X + penalty I)^-1, w - P_j w_j / P_jj is the fit without column j. The
    posterior is that of all columns, which errs on the high side.

    Work: 9 n^3 for the whole and for each fold held out, and 2 n^2 m per penalty and fold. Where k is below n and
    the rows are at hand, :func:`ridge` needs k^2 n and leaves each row out exactly.
    Raises ``BadInput`` dl-700, dl-701 (penalty), dl-705, dl-772 (constant target), dl-773 (folds), dl-774
    (exclude), dl-778 (select).
    Sources: Golub, Heath, Wahba 1979 (GCV); Rasmussen and Williams 2006, equation 2.8 (posterior).

    >>> masks = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)
    >>> stats = SuffStats.of(masks, masks @ np.array([[2.0], [-1.0]]))
    >>> ridge_path(stats, penalty=1.0).weights.round(6).tolist()
    [[1.0, -0.5]]
    """
    whole = stats.centred() if isinstance(stats, SuffStats) else stats
    check_centred(whole, every=False)
    out = excluded(whole, exclude)
    fixed = None if penalty is None else np.broadcast_to(np.asarray(penalty, float), whole.level.shape)
    for one in np.unique(penalties if fixed is None else fixed):
        check_penalty(float(one))
    added, parts = (None, []) if fixed is not None or select == "gcv" else parts_of(stats, folds, select)
    rotated = _Rotated.of(whole, out)
    if fixed is not None:
        return _fitted(whole, rotated, fixed.copy(), np.full(len(fixed), np.nan), out)
    grid = np.asarray(penalties, dtype=np.float64) * rotated.values[: rotated.rank].mean()
    if added is None:
        score = np.stack([rotated.gcv(whole, one) for one in grid])
        total = whole.square / (1.0 - 1.0 / whole.rows) ** 2
    else:
        score, total = np.zeros((len(grid), len(out))), np.zeros(len(out))
        for part in parts:
            fit, held = (added - part).centred(), part.centred()
            check_centred(fit, every=False)
            score += _held_out(fit, held, grid, out)
            total += held.square + held.rows * (held.level - fit.level) ** 2
    return _fitted(whole, rotated, grid[score.argmin(axis=0)], 1.0 - score.min(axis=0) / total, out)


class _Rotated(NamedTuple):
    """A regression in the eigenvectors V of its Gram: ``right`` = V'X'y, ``out`` = V'e_j of the excluded, else 0."""

    values: Float[np.ndarray, " n"]
    vectors: Float[np.ndarray, "n n"]
    rank: int
    right: Float[np.ndarray, "n m"]
    out: Float[np.ndarray, "n m"]

    @classmethod
    def of(cls, problem: Centred, out: Int[np.ndarray, " m"]) -> "_Rotated":
        values, vectors, rank = Spectrum.of(problem)
        rows = vectors[out].T * (out >= 0)
        return cls(values, vectors, rank, vectors.T @ problem.right, rows)

    def weights(self, penalty: Float[np.ndarray, "*m"]) -> Float[np.ndarray, "n m"]:
        """V'w of the fit without the excluded column."""
        inverse = 1.0 / (self.values[:, None] + penalty)
        found = inverse * self.right
        at = relative((self.out * found).sum(axis=0), (self.out**2 * inverse).sum(axis=0))
        return found - inverse * self.out * at

    def residual(self, problem: Centred, weights: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " m"]:
        """|y - X w|^2."""
        fitted = weights * (self.values[:, None] * weights - 2.0 * self.right)
        return np.maximum(problem.square + fitted.sum(axis=0), 0.0)

    def traces(
        self, penalty: Float[np.ndarray, "*m"]
    ) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """tr H and tr H^2 of H = X (X'X + penalty I)^-1 X' without the excluded column.

        With P_- = P - P_j P_j' / P_jj: tr P_- = tr P - (P^2)_jj / P_jj, and tr P_-^2 likewise.
        """
        inverse, square = 1.0 / (self.values[:, None] + penalty), self.out**2
        at = (square * inverse).sum(axis=0)
        two = relative((square * inverse**2).sum(axis=0), at)
        three = relative((square * inverse**3).sum(axis=0), at)
        columns = len(self.values) - square.any(axis=0)
        once = columns - penalty * (inverse.sum(axis=0) - two)
        twice = (inverse**2).sum(axis=0) - 2.0 * three + two**2
        return once, 2.0 * once - columns + penalty**2 * twice

    def gcv(self, problem: Centred, penalty: float) -> Float[np.ndarray, " m"]:
        """|y - X w|^2 / (1 - (1 + tr H) / k)^2."""
        freedom, _ = self.traces(np.array([penalty]))
        return (
            self.residual(problem, self.weights(np.array([penalty])))
            / (1.0 - (1.0 + freedom) / problem.rows) ** 2
        )


def _held_out(
    fit: Centred, held: Centred, grid: Float[np.ndarray, " g"], out: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "g m"]:
    """The sum of squared errors on the held-out rows at every penalty."""
    rotated = _Rotated.of(fit, out)
    turn = rotated.vectors
    gram, right, shift = turn.T @ held.dense() @ turn, turn.T @ held.right, turn.T @ (held.mean - fit.mean)
    score = np.empty((len(grid), len(out)))
    for g, penalty in enumerate(grid):
        weights = rotated.weights(np.array([penalty]))
        errors = held.square + (weights * (gram @ weights - 2.0 * right)).sum(axis=0)
        score[g] = errors + held.rows * (held.level - fit.level - shift @ weights) ** 2
    return score


def _fitted(
    whole: Centred,
    rotated: _Rotated,
    penalty: Float[np.ndarray, " m"],
    explained: Float[np.ndarray, " m"],
    out: Int[np.ndarray, " m"],
) -> Ridge:
    turned = rotated.weights(penalty)
    once, twice = rotated.traces(penalty)
    weights = (rotated.vectors @ turned).T
    left = whole.right - whole.dense() @ weights.T - penalty * weights.T
    rows = np.flatnonzero(out >= 0)
    weights[rows, out[rows]], left[out[rows], rows] = 0.0, 0.0
    return Ridge(
        weights=weights,
        bias=whole.level - weights @ whole.mean,
        penalty=penalty,
        sigma2=rotated.residual(whole, turned) / (whole.rows - 1 - 2.0 * once + twice),
        explained=explained,
        residual=relative(np.linalg.norm(left, axis=0), np.linalg.norm(whole.right, axis=0)),
        basis=rotated.vectors[:, : rotated.rank],
        eigenvalues=rotated.values[: rotated.rank],
    )
