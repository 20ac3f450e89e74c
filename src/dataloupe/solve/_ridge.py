"""Ridge regression of outputs on membership: one eigendecomposition, every penalty free."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from dataloupe.solve._checks import check_fit, relative
from dataloupe.solve._spectrum import leading
from dataloupe.solve._whitening import check_penalty

PENALTIES = tuple(float(p) for p in np.geomspace(1e-2, 1e3, 21))
"""Relative to the mean non-zero eigenvalue of the centred design."""


@dataclasses.dataclass(frozen=True, eq=False)
class Ridge:
    """f_j(w) = bias_j + weights_j . w, the certificate, and the posterior of the weights.

    ``penalty [m]`` is absolute; ``sigma2 [m]`` the noise of one row; ``explained [m]`` the R2 by which the
    penalty was chosen (leave-one-out, or as :func:`ridge_path` says; NaN where it was given);
    ``residual [m]`` the relative residual of the normal equations. With X = U sqrt(eigenvalues) basis':

        var(weights_j . u) = sigma2_j u' (X'X + penalty_j I)^-1 u
                           = spread_j |u|^2 + sum_r spectrum_jr (basis_r . u)^2
    """

    weights: Float[np.ndarray, "m n"]
    bias: Float[np.ndarray, " m"]
    penalty: Float[np.ndarray, " m"]
    sigma2: Float[np.ndarray, " m"]
    explained: Float[np.ndarray, " m"]
    residual: Float[np.ndarray, " m"]
    basis: Float[np.ndarray, "n r"]
    eigenvalues: Float[np.ndarray, " r"]

    @property
    def spread(self) -> Float[np.ndarray, " m"]:
        """Variance of a weight that the design says nothing about: sigma2 / penalty."""
        return self.sigma2 / self.penalty

    @property
    def spectrum(self) -> Float[np.ndarray, "m r"]:
        """What the design tells beyond that, below 0: sigma2 (1 / (eigenvalue + penalty) - 1 / penalty)."""
        known = 1.0 / (self.eigenvalues + self.penalty[:, None]) - 1.0 / self.penalty[:, None]
        return self.sigma2[:, None] * known


class Design(NamedTuple):
    """A centred design X = U sqrt(s) V' without its null directions."""

    mean: Float[np.ndarray, " n"]
    u: Float[np.ndarray, "k r"]
    s: Float[np.ndarray, " r"]
    v: Float[np.ndarray, "n r"]


def ridge(
    masks: Bool[np.ndarray, "k n"], y: Float[np.ndarray, "k m"], penalties: Sequence[float] = PENALTIES
) -> Ridge:
    """argmin |y - bias - masks w|^2 + penalty |w|^2 for every target, the intercept unpenalised.

    ``penalties`` are relative to the mean non-zero eigenvalue of the centred X'X; each target takes the one of
    the smallest exact leave-one-out error on these rows (PRESS): e_i / (1 - 1/k - h_i). The noise is
    |e|^2 / tr (I - H)^2, which errs on the high side where the penalty biases the fit.

    Work: k n min(k, n) + r^3 + (k + n) r m + k r m per penalty. Raises ``BadInput`` dl-700, dl-701, dl-705.
    Sources: Allen 1974 (PRESS); Rasmussen and Williams 2006, equation 2.8 (posterior).

    >>> masks = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)
    >>> fit = ridge(masks, masks @ np.array([[2.0], [-1.0]]), penalties=[1e-9])
    >>> fit.weights.round(6).tolist(), bool(abs(fit.bias[0]) < 1e-6)
    ([[2.0, -1.0]], True)
    """
    check_fit(masks, y)
    for penalty in penalties:
        check_penalty(penalty)
    design = decompose(masks)
    mean = y.mean(axis=0, dtype=np.float64)
    centred = y - mean
    rotated = design.u.T @ centred
    outside = centred - design.u @ rotated
    grid = np.asarray(penalties, dtype=np.float64) * design.s.mean()
    press = np.stack([_press(design, rotated, outside, penalty) for penalty in grid])
    penalty = grid[press.argmin(axis=0)]

    kept = penalty / (design.s[:, None] + penalty)
    errors = (kept**2 * rotated**2).sum(axis=0) + (outside**2).sum(axis=0)
    free = (kept**2).sum(axis=0) + len(y) - 1 - len(design.s)
    weights = (design.v @ (np.sqrt(design.s)[:, None] / (design.s[:, None] + penalty) * rotated)).T
    total = (centred**2).sum(axis=0)
    return Ridge(
        weights=weights,
        bias=mean - weights @ design.mean,
        penalty=penalty,
        sigma2=errors / free,
        explained=np.where(total > 0, 1.0 - relative(press.min(axis=0), total), 0.0),
        residual=_residual(masks, centred, weights, penalty, design.mean),
        basis=design.v,
        eigenvalues=design.s,
    )


def decompose(masks: Bool[np.ndarray, "k n"]) -> Design:
    """The centred design by one symmetric eigendecomposition of its smaller side."""
    mean, gram = centred_gram(masks)
    s, vectors = leading(gram)
    if len(masks) <= len(mean):
        return Design(
            mean, vectors, s, (masks.T @ vectors - np.outer(mean, vectors.sum(axis=0))) / np.sqrt(s)
        )
    return Design(mean, (masks @ vectors - mean @ vectors) / np.sqrt(s), s, vectors)


def centred_gram(masks: Bool[np.ndarray, "k n"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "d d"]]:
    """The mean of the rows, and X X' or (with more rows than columns) X'X of the centred X.

    Sums of 0 and 1 are whole numbers, exact in fp32 up to 2^24; they are centred in fp64.
    """
    k, n = masks.shape
    kept = masks.astype(np.float32)
    mean = kept.mean(axis=0, dtype=np.float64)
    if k <= n:
        inner = kept @ mean
        return mean, (kept @ kept.T).astype(np.float64) - inner[:, None] - inner + mean @ mean
    return mean, (kept.T @ kept).astype(np.float64) - k * np.outer(mean, mean)


def _press(
    design: Design, rotated: Float[np.ndarray, "r m"], outside: Float[np.ndarray, "k m"], penalty: float
) -> Float[np.ndarray, " m"]:
    """The sum of squared exact leave-one-out errors."""
    shrunk = design.s / (design.s + penalty)
    leverage = 1.0 / len(outside) + (design.u**2) @ shrunk
    errors = outside + design.u @ ((1.0 - shrunk)[:, None] * rotated)
    return ((errors / (1.0 - leverage)[:, None]) ** 2).sum(axis=0)


def _residual(
    masks: Bool[np.ndarray, "k n"],
    centred: Float[np.ndarray, "k m"],
    weights: Float[np.ndarray, "m n"],
    penalty: Float[np.ndarray, " m"],
    mean: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " m"]:
    """|X'(y - X w) - penalty w| / |X'y|, for every target, from the masks themselves."""
    x = masks.astype(np.float64) - mean
    right = x.T @ centred
    left = right - x.T @ (x @ weights.T) - penalty * weights.T
    return relative(np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=0))
