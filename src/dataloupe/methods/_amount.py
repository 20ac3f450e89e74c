"""What all rows have in common: the effect of the amount of data, from subsets of another size."""

import dataclasses

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe.core import Outcomes, Subsets
from dataloupe.methods._fits import Fitted

FEWEST = 2
"""Subsets of the other size, below which their mean has no error."""

NEAR_ALL, FAR_FROM_IT = 0.95, 0.75
"""The share of the second size, and up to which first share it is another by enough."""


def check_amount(amount: Subsets | None, subsets: Subsets, estimator: str) -> None:
    """Refuse subsets that cannot tell the effect of the amount of data beside these (dl-725)."""
    if amount is None:
        return
    found = None
    if subsets.kind != "fixed":
        found = f"subsets of kind {subsets.kind!r}, whose sizes differ already"
    elif amount.kind != "fixed" or amount.n != subsets.n:
        found = f"{amount.kind} subsets of {amount.n} examples"
    elif amount.size == subsets.size or amount.count < FEWEST:
        found = f"{amount.count} subsets that keep {amount.size} examples"
    elif estimator == "lasso":
        found = "the lasso, whose weights are mostly 0"
    if found is not None:
        raise BadInput(
            "dl-725",
            asked=f"the effect of the amount of data, beside {subsets.count} subsets of {subsets.size} examples",
            found=found,
            do="give subsets of kind 'fixed', as amount= some of another size: Subsets(n=n, count=40, fraction=0.95)",
        )


def with_amount(found: Fitted, fitted: Outcomes, more: Outcomes) -> Fitted:
    """The fit, with a constant in every weight, so that it meets the mean output of both sizes.

        left_kj = output_kj - bias_j - sum over kept of weight_ji,      over subsets k of either size
        c_j     = (mean of left_j at the other size - at the fitted size) / (difference of sizes)
        Var c_j = var of left_j at the other size (1/k' + 1/k) / (difference of sizes)^2

    which takes the place of what the fit said of the mean weight's error (of independent errors, spread / n).

    Subsets of one size leave c unknown, since their masks all have the same sum; predictions at that size stay as they
    are. What a subset's own rows do is taken out before the mean.
    """
    m, n = found.weights.shape
    size, other = fitted.subsets.size, more.subsets.size
    first, second = _left(found, fitted), _left(found, more)  # [k, m], [k', m]
    if len(second) < FEWEST:
        raise BadInput(
            "dl-725",
            asked="the effect of the amount of data",
            found=f"{more.subsets.count - len(second)} of {more.subsets.count} trainings that diverged",
            do="train more, or at a size between",
        )
    added = (second.mean(axis=0) - first.mean(axis=0)) / (other - size)
    variance = second.var(axis=0, ddof=1) * (1 / len(second) + 1 / len(first)) / (other - size) ** 2
    known, ones = found.uncertainty, np.ones((n, 1), np.float32)
    instead = (variance - np.asarray(known.spread, np.float64) / n)[:, None]
    basis = ones if known.basis is None else np.hstack([known.basis, ones])
    spectrum = np.zeros((m, 0)) if known.spectrum is None else known.spectrum
    return found._replace(
        weights=found.weights + added[:, None],
        bias=found.bias - added * size,
        uncertainty=dataclasses.replace(
            known, basis=basis, spectrum=np.hstack([spectrum, instead]).astype(np.float32)
        ),
        facts={**found.facts, "mean_weight": float(np.median(found.weights.mean(axis=1) + added))},
    )


def _left(found: Fitted, outcomes: Outcomes) -> Float[np.ndarray, "k m"]:
    """What the fit leaves of the outputs of complete subsets."""
    kept = outcomes.complete()
    predicted = kept.subsets.masks().astype(np.float64) @ found.weights.T + found.bias
    return kept.mean().astype(np.float64) - predicted


def second_size(subsets: Subsets) -> Subsets | None:
    """What the default design adds: a twentieth as many, of nearly all the data, where questions are asked.

    None where the subsets are too small a set to have another size.
    """
    share = NEAR_ALL if subsets.fraction <= FAR_FROM_IT else 1.0 - subsets.fraction / 2
    size = round(subsets.n * share)
    if size in (0, subsets.size):
        return None
    return Subsets(n=subsets.n, count=max(20, subsets.count // 20), fraction=share, seed=subsets.seed)
