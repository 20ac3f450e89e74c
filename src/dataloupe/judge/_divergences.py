"""Divergences between two samples at every point, four estimators: arrays in, arrays out, nothing checked."""

from typing import Literal, TypeAlias

import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Float

Estimator: TypeAlias = Literal["quantile", "gaussian", "a2d", "easydub"]
Both: TypeAlias = tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]
"""KL(oracle || unlearned) and KL(unlearned || oracle) at every point."""

LIMIT, LEAST = 100.0, 1e-5
"""The published codes clip margins at +-100 and hold probabilities up at 1e-5."""
REACH = 2.5
"""Robust standard deviations from the median at which a margin is held."""


def divergences(
    estimator: Estimator, unlearned: Float[np.ndarray, "u p"], oracles: Float[np.ndarray, "o p"], bins: int
) -> Both:
    """Both directions of one estimator."""
    if estimator == "quantile":
        return by_quantiles(unlearned, oracles, bins)
    if estimator == "gaussian":
        return by_gaussians(unlearned, oracles)
    return published(estimator, oracles, unlearned), published(estimator, unlearned, oracles)


def most(estimator: Estimator, u: int, o: int, bins: int) -> tuple[float, float]:
    """The largest values that an estimator can give, in both directions: all mass where the other has none."""
    if estimator == "gaussian":
        return np.inf, np.inf
    if estimator == "quantile":
        corners = u * np.eye(bins)
        first, second = (values.max() for values in _smoothed(corners, oracle_counts(o, bins)))
        return float(first), float(second)
    held = 19 if estimator == "a2d" else 1  # slots held up at LEAST beside a full one; the slots that p fills
    top = float(np.log((1 + held * LEAST) / LEAST))
    return top, top


# --- quantile ----------------------------------------------------------------------------------------------


def oracle_counts(o: int, bins: int) -> Float[np.ndarray, " bins"]:
    """How many of o oracles lie in each bin of equal count."""
    return np.diff(_boundaries(o, bins)).astype(np.float64)


def _boundaries(o: int, bins: int) -> np.ndarray:
    return np.rint(np.arange(bins + 1) * o / bins).astype(np.int64)


def by_quantiles(unlearned: Float[np.ndarray, "u p"], oracles: Float[np.ndarray, "o p"], bins: int) -> Both:
    """Bins that part the sorted oracles into equal counts; only the order of the margins counts."""
    ordered = np.sort(oracles, axis=0)
    below = [_below(unlearned, ordered, int(r)) for r in _boundaries(len(oracles), bins)[1:-1]]
    ends = np.zeros(unlearned.shape[1]), np.full(unlearned.shape[1], float(len(unlearned)))
    counts = np.diff(np.stack([ends[0], *below, ends[1]], axis=1), axis=1)
    return _smoothed(counts, oracle_counts(len(oracles), bins))


def _below(
    unlearned: Float[np.ndarray, "u p"], ordered: Float[np.ndarray, "o p"], r: int
) -> Float[np.ndarray, " p"]:
    """How many unlearned margins lie below the boundary behind the r lowest oracles.

    Between the two oracles of the boundary: one half. Where they are tied: the share of the tied oracles that
    lies below, so that two samples tied alike are alike.
    """
    last, first = ordered[r - 1], ordered[r]
    under, upto = (ordered < last).sum(axis=0), (ordered <= last).sum(axis=0)
    share = np.where(last < first, 1.0, (r - under) / (upto - under))
    lower, held = (unlearned < last).sum(axis=0), (unlearned <= last).sum(axis=0)
    between = np.where(last < first, (unlearned < first).sum(axis=0) - held, 0)
    return lower + share * (held - lower) + 0.5 * between


def _smoothed(counts: Float[np.ndarray, "p bins"], expected: Float[np.ndarray, " bins"]) -> Both:
    """KL in both directions of counts against the oracles' counts, one half added to every count."""
    q = (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)
    p = (expected + 0.5) / (expected + 0.5).sum()
    return scipy.special.rel_entr(p, q).sum(axis=1), scipy.special.rel_entr(q, p).sum(axis=1)


# --- gaussian ----------------------------------------------------------------------------------------------


def by_gaussians(unlearned: Float[np.ndarray, "u p"], oracles: Float[np.ndarray, "o p"]) -> Both:
    """Gaussians fitted to held margins; 0 where both are constant and equal, NaN where constant and unequal."""
    u, o = len(unlearned), len(oracles)
    (mean_u, var_u), (mean_o, var_o) = _moments(unlearned), _moments(oracles)
    pooled = ((u - 1) * var_u + (o - 1) * var_o) / (u + o - 2)
    flat = pooled == 0
    var_u, var_o = ((k - 1) * v / k + pooled / k + flat for k, v in ((u, var_u), (o, var_o)))
    apart = np.square(mean_u - mean_o)
    same = np.where(apart == 0, 0.0, np.nan)
    first, second = _kl(apart, var_o, o, var_u, u), _kl(apart, var_u, u, var_o, o)
    return np.where(flat, same, first), np.where(flat, same, second)


def _moments(x: Float[np.ndarray, "k p"]) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Mean and variance of margins held at the median +- REACH robust deviations (1.48 MAD; none where MAD = 0)."""
    median = np.median(x, axis=0)
    reach = REACH * np.median(np.abs(x - median), axis=0) / scipy.stats.norm.ppf(0.75)
    reach = np.where(reach > 0, reach, np.inf)
    held = np.clip(
        x - median, -reach, reach
    )  # about the median: constant margins then have no variance at all
    density, tail = scipy.stats.norm.pdf(REACH), scipy.stats.norm.sf(REACH)
    kept = 1 - 2 * tail - 2 * REACH * density + 2 * REACH**2 * tail  # the variance of a held standard normal
    return median + held.mean(axis=0), held.var(axis=0, ddof=1) / kept


def _kl(apart: np.ndarray, var_p: np.ndarray, n_p: int, var_q: np.ndarray, n_q: int) -> np.ndarray:
    """KL(p || q) of Gaussians, each term without its bias were the variances chi-squared on n_p and n_q."""
    ratio = (1 - 2 / n_q) * (var_p * (1 - 1 / n_p) + apart) / var_q - 1 / n_q
    return 0.5 * (ratio - 1 + np.log(var_q / var_p) - _log_bias(n_q) + _log_bias(n_p))


def _log_bias(dof: int) -> float:
    """E log(chi2_dof / dof)."""
    return float(scipy.special.digamma(dof / 2) - np.log(dof / 2))


# --- as published ------------------------------------------------------------------------------------------


def published(
    estimator: Estimator, p: Float[np.ndarray, "k p"], q: Float[np.ndarray, "l p"]
) -> Float[np.ndarray, " p"]:
    """KL(p || q) as the two published codes compute it; NaN where theirs is."""
    slots = 19 if estimator == "a2d" else 20
    p = np.clip(p, -LIMIT, LIMIT)
    q = q if estimator == "a2d" else np.clip(q, -LIMIT, LIMIT)
    start, stop = np.minimum(p.min(axis=0), q.min(axis=0)), np.maximum(p.max(axis=0), q.max(axis=0))
    if estimator == "easydub":
        stop = np.where(start >= stop, start + 1, stop)
    step = (stop - start) / slots
    edges = [*(k * step + start for k in range(slots)), stop]
    share_p, share_q = _shares(p, edges), _shares(q, edges)
    if estimator == "a2d":  # an empty slot below the range is counted, and held up like the others
        share_p, share_q = (np.pad(share, ((0, 0), (1, 0))) for share in (share_p, share_q))
        held = np.maximum(share_q, LEAST)
    else:  # all of q on the last edge: no mass at all
        share_q = np.nan_to_num(share_q)
        held = np.where(share_p > 0, np.maximum(share_q, LEAST), share_q)
    with np.errstate(invalid="ignore"):
        return np.asarray(scipy.stats.entropy(share_p, held, axis=1))


def _shares(
    x: Float[np.ndarray, "k p"], edges: list[Float[np.ndarray, " p"]]
) -> Float[np.ndarray, "p slots"]:
    """The share of x from each edge up to the next; what lies on the last edge is in none, nor in the total."""
    reached = np.stack([(x >= edge).sum(axis=0) for edge in edges], axis=1)
    counts = reached[:, :-1] - reached[:, 1:]
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=1, keepdims=True)
