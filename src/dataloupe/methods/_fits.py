"""The estimators of a datamodel: arrays or blocks of outcomes in, weights with their error and certificate out."""

import functools
import operator
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dataloupe._typing import Facts
from dataloupe.core import Outcomes, Removal, Uncertainty
from dataloupe.solve import Selection, SuffStats, folds_of, lasso, least_squares, means, ridge

STREAMED = ("lasso", "ols", "means")
"""What needs sufficient statistics only, and reads the outcomes once."""
FOLDS = 5
"""The lasso's penalty is chosen on so many parts of the subsets, or on the last of them."""


class Fitted(NamedTuple):
    """Weights and bias in raw coordinates, their error, the certificate, and what they were fitted on."""

    weights: Float[np.ndarray, "m n"]
    bias: Float[np.ndarray, " m"]
    uncertainty: Uncertainty
    facts: Facts
    rows: int
    fraction: float
    removal: Removal


def by_ridge(
    masks: Bool[np.ndarray, "k n"],
    y: Float[np.ndarray, "k m"],
    penalties: tuple[float, ...],
    removal: Removal,
) -> Fitted:
    """Every target's penalty by exact leave-one-out."""
    found = ridge(masks, y, penalties)
    error = Uncertainty(found.spread, basis=found.basis.astype(np.float32), spectrum=found.spectrum)
    facts = {
        "residual": float(found.residual.max()),
        "relative_penalty": quartiles(found.penalty / found.eigenvalues.mean()),
        "leave_one_out_r2": quartiles(found.explained),
    }
    return Fitted(found.weights, found.bias, error, facts, len(y), float(masks.mean()), removal)


def streamed(
    blocks: Iterable[Outcomes],
    count: int,
    estimator: str,
    select: Selection,
    own: Int[np.ndarray, " m"] | None = None,
) -> Fitted:
    """One pass over the blocks of ``count`` subsets, then the estimator on their statistics.

    ``own`` are the targets' own training rows, which stay out of their fits.
    """
    removals: list[Removal] = []

    def read() -> Iterator[Outcomes]:
        for block in blocks:
            removals.append(block.removal)
            yield block

    if estimator == "lasso" and select != "gcv":
        folds = min(FOLDS, max(count // 2, 1))
        parts = SuffStats.gather(read(), folds_of(count, folds), folds)
    else:
        parts = SuffStats.gather(read())
    stats = functools.reduce(operator.add, parts)
    if estimator == "lasso":
        weights, bias, error, facts = _lasso(stats, parts, select, own)
    else:
        weights, bias, error, facts = _ols(stats) if estimator == "ols" else _means(stats)
    fraction = float(stats.ones.mean()) / stats.count
    return Fitted(weights, bias, error, facts, stats.count, fraction, removals[0])


Solved = tuple[Float[np.ndarray, "m n"], Float[np.ndarray, " m"], Uncertainty, Facts]


def _lasso(
    stats: SuffStats, parts: list[SuffStats], select: Selection, own: Int[np.ndarray, " m"] | None
) -> Solved:
    found = lasso(stats, folds=parts if len(parts) > 1 else None, select=select, exclude=own)
    facts = {
        "gap": float(found.gap.max()),
        "penalty": quartiles(found.penalty),
        "selection_r2": quartiles(found.explained),
        "nonzero": quartiles((found.weights != 0).sum(axis=1).astype(np.float64)),
    }
    return found.weights, found.bias, Uncertainty(found.sigma2 / (found.deviation**2).mean()), facts


def _ols(stats: SuffStats) -> Solved:
    found = least_squares(stats)
    error = Uncertainty(np.zeros(stats.m), basis=found.basis.astype(np.float32), spectrum=found.spectrum)
    facts = {"residual": float(found.residual.max()), "rank": found.rank}
    return found.weights, found.bias, error, facts


def _means(stats: SuffStats) -> Solved:
    found = means(stats)
    spread = (found.error**2).mean(axis=1)
    return found.weights, found.bias, Uncertainty(spread), {"standard_error": float(np.sqrt(spread.mean()))}


def quartiles(values: Float[np.ndarray, " m"]) -> list[float]:
    """Three numbers for many."""
    return [float(f"{v:.4g}") for v in np.quantile(values, [0.25, 0.5, 0.75])]
