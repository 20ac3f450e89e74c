"""Two fits of the same outputs, lasso and ridge toward a prior, in the proportion that held-out subsets ask for."""

import functools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from dataloupe.solve._checks import check_fit, relative
from dataloupe.solve._given import Selection
from dataloupe.solve._lasso import Lasso, lasso
from dataloupe.solve._prior import PriorRidge, prior_ridge
from dataloupe.solve._ridge import PENALTIES
from dataloupe.solve._stats import SuffStats, folds_of

FOLDS = 5


class Mixture(NamedTuple):
    """``weights = (1 - share) ridge + share lasso``; ``held_out [3, m]``: R2 of ridge, lasso and both, before the refits."""

    weights: Float[np.ndarray, "m n"]
    bias: Float[np.ndarray, " m"]
    share: float
    ridge: PriorRidge
    lasso: Lasso
    held_out: Float[np.ndarray, "3 m"]


def prior_lasso(
    masks: Bool[np.ndarray, "k n"],
    y: Float[np.ndarray, "k m"],
    prior: Float[np.ndarray, "m2 n2"],
    penalties: Sequence[float] = PENALTIES,
    *,
    select: Selection = "hold-out",
) -> Mixture:
    """Lasso and :func:`prior_ridge`, averaged: what few large weights explain, and what many small ones do.

        weights = (1 - a) ridge + a lasso,    a = argmin_[0, 1] sum_j |y_j - (1 - a) f_j - a g_j|^2 / |y_j|^2

    over a fifth of the rows, with f and g the predictions of both fits of the others (the lasso chooses its
    penalties among these others, ridge its penalties too, at the c of all rows). One a for all targets. Then all rows
    fit again.

    Raises what both raise. Source: Wolpert 1992 (stacking), Breiman 1996.

    >>> masks = np.random.default_rng(0).random((80, 5)) < 0.5
    >>> fit = prior_lasso(masks, masks @ np.arange(5.0)[:, None], np.ones((1, 5)))
    >>> fit.weights.round(1).tolist(), 0.0 <= fit.share <= 1.0
    ([[0.0, 1.0, 2.0, 3.0, 4.0]], True)
    """
    check_fit(masks, y)
    fold = folds_of(len(y), FOLDS)
    parts = SuffStats.split([(masks, y)], fold, FOLDS)
    ridge = prior_ridge(masks, y, prior, penalties)
    others, held = fold < FOLDS - 1, fold == FOLDS - 1
    half = prior_ridge(masks[others], y[others], prior, penalties, (ridge.similarity,))
    sparse = _lasso(parts[:-1], select)
    truth, by_ridge, by_lasso = (
        values - values.mean(axis=0)
        for values in (y[held], masks[held] @ half.weights.T, masks[held] @ sparse.weights.T)
    )
    total = (truth**2).sum(axis=0)
    apart, missing = by_lasso - by_ridge, truth - by_ridge
    along, across = (relative((apart * other).sum(axis=0), total).sum() for other in (missing, apart))
    share = float(np.clip(along / across, 0.0, 1.0)) if across > 0 else 0.0
    whole = _lasso(parts, select)
    fits = (by_ridge, by_lasso, (1.0 - share) * by_ridge + share * by_lasso)
    return Mixture(
        weights=(1.0 - share) * ridge.weights + share * whole.weights,
        bias=(1.0 - share) * ridge.bias + share * whole.bias,
        share=share,
        ridge=ridge,
        lasso=whole,
        held_out=np.stack([1.0 - relative(((truth - fit) ** 2).sum(axis=0), total) for fit in fits]),
    )


def _lasso(parts: list[SuffStats], select: Selection) -> Lasso:
    whole = functools.reduce(operator.add, parts)
    return lasso(whole, folds=None if select == "gcv" else parts, select=select)
