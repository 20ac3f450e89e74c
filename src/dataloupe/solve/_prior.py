"""Ridge regression of outputs on membership, shrunk toward scores that another method guessed."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float

from dataloupe._errors import BadInput
from dataloupe.solve._checks import check_fit, relative
from dataloupe.solve._ridge import PENALTIES, centred_gram
from dataloupe.solve._spectrum import leading
from dataloupe.solve._whitening import check_penalty

SIMILARITIES = (0.0, 0.5, 0.9)
"""Shares of the prior covariance that examples of like scores have in common."""


@dataclasses.dataclass(frozen=True, eq=False)
class PriorRidge:
    """f_j(w) = bias_j + weights_j . w, how much of it is prior, and the posterior of the weights.

    ``slope [m]``: the multiple of each target's prior scores; ``similarity``: the chosen c; ``penalty [m]``
    absolute; ``sigma2 [m]`` the noise of one row. Leave-one-out R2 per target: ``explained_prior`` (the slope
    times the prior alone), ``explained_alone`` (ridge without a prior) and ``explained`` (both). Given slope,
    penalty and c, with X K^(1/2) = U sqrt(eigenvalues) V' and columns K^(1/2) V of ``directions``:

        var(weights_j . u) = sigma2_j / penalty_j [u' K u - sum_r s_r / (s_r + penalty_j) (direction_r . u)^2]
                           = spread_j |u|^2 + sum_r spectrum_jr (basis_r . u)^2
    """

    weights: Float[np.ndarray, "m n"]
    bias: Float[np.ndarray, " m"]
    slope: Float[np.ndarray, " m"]
    similarity: float
    penalty: Float[np.ndarray, " m"]
    sigma2: Float[np.ndarray, " m"]
    explained: Float[np.ndarray, " m"]
    explained_prior: Float[np.ndarray, " m"]
    explained_alone: Float[np.ndarray, " m"]
    profiles: Float[np.ndarray, "n m"]
    directions: Float[np.ndarray, "n r"]
    eigenvalues: Float[np.ndarray, " r"]

    @property
    def spread(self) -> Float[np.ndarray, " m"]:
        """What each weight varies on its own under the prior: (1 - c) sigma2 / penalty."""
        return (1.0 - self.similarity) * self.sigma2 / self.penalty

    @property
    def basis(self) -> Float[np.ndarray, "n b"]:
        """The directions that are known better or worse than ``spread`` says."""
        if not self.similarity:
            return self.directions
        return np.concatenate([self.profiles, self.directions], axis=1)

    @property
    def spectrum(self) -> Float[np.ndarray, "m b"]:
        """By how much."""
        prior = (self.sigma2 / self.penalty)[:, None]
        told = -prior * self.eigenvalues / (self.eigenvalues + self.penalty[:, None])
        if not self.similarity:
            return told
        return np.concatenate(
            [np.broadcast_to(self.similarity * prior, (len(prior), len(prior))), told], axis=1
        )


class _Design(NamedTuple):
    """The centred design in the metric of K: X K^(1/2) = U sqrt(s) V', directions K^(1/2) V."""

    u: Float[np.ndarray, "k r"]
    s: Float[np.ndarray, " r"]
    directions: Float[np.ndarray, "n r"]


class _Choice(NamedTuple):
    """Every target's penalty, the cross-validation error there, and the noise y'(I - H) y / (k - 1)."""

    penalty: Float[np.ndarray, " m"]
    error: Float[np.ndarray, " m"]
    noise: Float[np.ndarray, " m"]


class _Fit(NamedTuple):
    """A candidate: c and slopes, the design and the penalties that go with them."""

    similarity: float
    slope: Float[np.ndarray, " m"]
    design: _Design
    choice: _Choice


class _Slopes(NamedTuple):
    """The multiple of each target's prior, the parameters that it spends, and its leave-one-out R2."""

    slope: Float[np.ndarray, " m"]
    spent: Float[np.ndarray, " m"]
    explained: Float[np.ndarray, " m"]


def prior_ridge(
    masks: Bool[np.ndarray, "k n"],
    y: Float[np.ndarray, "k m"],
    prior: Float[np.ndarray, "m2 n2"],
    penalties: Sequence[float] = PENALTIES,
    similarities: Sequence[float] = SIMILARITIES,
) -> PriorRidge:
    """The posterior mean of weights_j ~ N(slope_j prior_j, v_j K), K = (1 - c) I + c C:

        weights_j = slope_j prior_j + argmin_d |r_j - X d|^2 + penalty_j d' K^-1 d,    r_j = y_j - slope_j X prior_j

    with X the centred masks and C_il the cosine of columns i and l of ``prior`` (over the targets, each counting
    alike): examples that the prior scores alike are taken to err alike. Scale and sign of each row of the prior
    are free: slope_j comes from the correlation of y_j and X prior_j, pulled toward the mean correlation of all
    targets as far as their differences are noise. ``penalties`` are relative to the mean non-zero eigenvalue; each
    target takes the one of the smallest generalised cross-validation error. What has the smallest error in total
    is kept: one c of ``similarities`` for all targets, or ridge without a prior (slopes and c are then 0). The R2
    are by exact leave-one-out, given slopes and c.

    Work: per c, k n min(k, n) + min(k, n)^3 and (k + n) min(k, n) m once chosen. Raises ``BadInput`` dl-700,
    dl-701, dl-705, dl-713 (a prior of another shape, or NaN in it), dl-714 (similarities outside [0, 1)).

    >>> masks = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)
    >>> fit = prior_ridge(masks, masks @ np.array([[2.0], [-1.0]]), np.array([[200.0, -100.0]]))
    >>> fit.weights.round(6).tolist(), fit.slope.round(6).tolist()
    ([[2.0, -1.0]], [0.01])

    Sources: Lindley and Smith 1972 (regression toward a prior mean); Golub, Heath and Wahba 1979 (generalised
    cross-validation); Efron and Morris 1973 (shrinking the slopes).
    """
    _check(masks, y, prior, penalties, similarities)
    mean, gram = centred_gram(masks)
    centre = y.mean(axis=0, dtype=np.float64)
    centred = y - centre
    total = (centred**2).sum(axis=0)
    predicted = masks @ prior.T.astype(np.float64) - mean @ prior.T
    slopes = _slopes(predicted, centred)
    residual = centred - slopes.slope * predicted

    profiles = _unit(_unit(prior.astype(np.float64)).T)
    plain = _decompose(masks, mean, gram, profiles, 0.0)
    alone = _choose(plain, centred, penalties, predicted, 0.0 * slopes.spent)
    fits = [_Fit(0.0, 0.0 * slopes.slope, plain, alone)]
    for c in similarities:
        design = plain if c == 0.0 else _decompose(masks, mean, gram, profiles, c)
        choice = _choose(design, residual, penalties, predicted, slopes.spent)
        fits.append(_Fit(float(c), slopes.slope, design, choice))
    similarity, slope, design, choice = min(fits, key=lambda fit: relative(fit.choice.error, total).sum())

    residual = centred - slope * predicted
    gain = np.sqrt(design.s)[:, None] / (design.s[:, None] + choice.penalty)
    weights = slope[:, None] * prior + (design.directions @ (gain * (design.u.T @ residual))).T
    return PriorRidge(
        weights=weights,
        bias=centre - weights @ mean,
        slope=slope,
        similarity=similarity,
        penalty=choice.penalty,
        sigma2=choice.noise,
        explained=_explained(design, residual, choice.penalty, total),
        explained_prior=slopes.explained,
        explained_alone=_explained(plain, centred, alone.penalty, total),
        profiles=profiles,
        directions=design.directions,
        eigenvalues=design.s,
    )


def _slopes(predicted: Float[np.ndarray, "k m"], centred: Float[np.ndarray, "k m"]) -> _Slopes:
    """Each target's correlation of y with the prediction, shrunk toward the mean of all, as a slope."""
    k, m = centred.shape
    weight, total = (predicted**2).sum(axis=0), (centred**2).sum(axis=0)
    length = np.sqrt(weight * total)
    there = length > 0
    own = relative((predicted * centred).sum(axis=0), length)
    pooled, noise = own[there].mean() if there.any() else 0.0, (1.0 - own**2) / max(k - 2, 1)
    between = max(0.0, float(((own - pooled) ** 2 - noise)[there].mean())) if there.any() else 0.0
    trust = relative(np.full(m, between), between + noise)
    slope = relative((pooled + trust * (own - pooled)) * np.sqrt(total) * there, np.sqrt(weight))
    errors = (centred - slope * predicted) / (1.0 - 1.0 / k - predicted**2 / np.where(there, weight, 1.0))
    explained = np.where(total > 0, 1.0 - relative((errors**2).sum(axis=0), total), 0.0)
    return _Slopes(slope, trust + (1.0 - trust) / m, explained)


def _decompose(
    masks: Bool[np.ndarray, "k n"],
    mean: Float[np.ndarray, " n"],
    gram: Float[np.ndarray, "d d"],
    profiles: Float[np.ndarray, "n m"],
    c: float,
) -> _Design:
    """One symmetric eigendecomposition of the smaller side of X K^(1/2)."""
    k, n = masks.shape
    if k <= n:
        common = masks @ profiles - mean @ profiles
        s, u = leading((1.0 - c) * gram + c * common @ common.T)
        moved = (1.0 - c) * (masks.T @ u - np.outer(mean, u.sum(axis=0)))
        return _Design(u, s, (moved + c * profiles @ (common.T @ u)) / np.sqrt(s))
    root = scipy.linalg.cholesky((1.0 - c) * np.eye(n) + c * profiles @ profiles.T, lower=True)
    s, v = leading(root.T @ gram @ root)
    directions = root @ v
    return _Design((masks @ directions - mean @ directions) / np.sqrt(s), s, directions)


def _choose(
    design: _Design,
    y: Float[np.ndarray, "k m"],
    penalties: Sequence[float],
    predicted: Float[np.ndarray, "k m"],
    spent: Float[np.ndarray, " m"],
) -> _Choice:
    """Every target's penalty of the smallest |e|^2 / tr(I - S)^2, where S also counts what the slope spent."""
    grid = np.asarray(penalties, dtype=np.float64) * design.s.mean()
    kept = grid[:, None] / (design.s + grid[:, None])
    inside, outside = _energies(design, y)
    inside_prior, outside_prior = _energies(design, predicted)
    whole = inside_prior.sum(axis=0) + outside_prior
    lost = spent * (kept @ inside_prior + outside_prior) / np.where(whole > 0, whole, 1.0)
    free = len(y) - 1 - len(design.s) + kept.sum(axis=1)[:, None] - lost
    errors = (kept**2 @ inside + outside) / free**2
    noise = (kept @ inside + outside) / (len(y) - 1)
    best, targets = errors.argmin(axis=0), np.arange(y.shape[1])
    return _Choice(grid[best], errors[best, targets], noise[best, targets])


def _energies(
    design: _Design, y: Float[np.ndarray, "k m"]
) -> tuple[Float[np.ndarray, "r m"], Float[np.ndarray, " m"]]:
    """|y|^2 by direction of the design, and what lies outside of all."""
    inside = (design.u.T @ y) ** 2
    return inside, np.maximum((y**2).sum(axis=0) - inside.sum(axis=0), 0.0)


def _explained(
    design: _Design,
    y: Float[np.ndarray, "k m"],
    penalty: Float[np.ndarray, " m"],
    total: Float[np.ndarray, " m"],
) -> Float[np.ndarray, " m"]:
    """The R2 of exact leave-one-out at each target's own penalty."""
    shrunk = design.s[:, None] / (design.s[:, None] + penalty)
    errors = y - design.u @ (shrunk * (design.u.T @ y))
    leverage = 1.0 / len(y) + (design.u**2) @ shrunk
    press = ((errors / (1.0 - leverage)) ** 2).sum(axis=0)
    return np.where(total > 0, 1.0 - relative(press, total), 0.0)


def _unit(rows: Float[np.ndarray, "a b"]) -> Float[np.ndarray, "a b"]:
    """Rows of length 1 (zeros stay zeros)."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def _check(
    masks: Bool[np.ndarray, "k n"],
    y: Float[np.ndarray, "k m"],
    prior: Float[np.ndarray, "m2 n2"],
    penalties: Sequence[float],
    similarities: Sequence[float],
) -> None:
    check_fit(masks, y)
    for penalty in penalties:
        check_penalty(penalty)
    fits = prior.shape == (y.shape[1], masks.shape[1])
    if not (fits and np.isfinite(prior).all()):
        raise BadInput(
            "dl-713",
            asked=f"a prior for {y.shape[1]} targets x {masks.shape[1]} examples",
            found="NaN or infinity in it" if fits else f"scores of shape {prior.shape}",
            do="give an attribution of the same question",
        )
    if not similarities or not all(0.0 <= c < 1.0 for c in similarities):
        raise BadInput(
            "dl-714",
            asked=f"shares of the prior covariance in common of {list(similarities)}",
            found="none, or one outside [0, 1)",
            do="use the default, or (0.0,) where examples of like scores shall not be taken to err alike",
        )
