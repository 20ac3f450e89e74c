"""Difference of means: the simplest estimate of what an example does."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe.solve._checks import check_centred
from dataloupe.solve._stats import Centred, SuffStats


class Means(NamedTuple):
    """``weights [m, n]``, ``bias [m]``, and ``error [m, n]``, the standard error of every weight."""

    weights: Float[np.ndarray, "m n"]
    bias: Float[np.ndarray, " m"]
    error: Float[np.ndarray, "m n"]


def means(stats: SuffStats | Centred, *, threshold: float | Literal["universal"] | None = None) -> Means:
    """weights_ji = mean of y_j over the subsets with i, minus the mean over those without.

    error_ji = sd(y_j) / sqrt(k a_i (1 - a_i)), with a_i the share of subsets that hold i. The bias makes the
    mean prediction the mean output. For independent masks this is what least squares tends to.

    A ``threshold`` t moves every weight t standard errors towards 0 and no further, so that what noise alone
    gives is 0; ``universal`` is t = sqrt(2 ln n), which the largest of n pure noises hardly passes. Where the
    columns are orthogonal that is the lasso.

    Raises ``BadInput`` dl-700, dl-702 (an example that is in every subset, or in none), dl-772 (a constant
    target), dl-777 (a threshold below 0).
    Sources: Feldman and Zhang 2020; Ilyas et al. 2022, lemma 1; Donoho and Johnstone 1994.

    >>> masks = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)
    >>> means(SuffStats.of(masks, masks @ np.array([[2.0], [-1.0]]))).weights.tolist()
    [[2.0, -1.0]]
    """
    whole = stats.centred() if isinstance(stats, SuffStats) else stats
    bar = np.sqrt(2.0 * np.log(len(whole.mean))) if threshold == "universal" else threshold
    if not (bar is None or (isinstance(bar, float | int) and 0.0 <= bar < np.inf)):
        raise BadInput(
            "dl-777",
            asked=f"a threshold of {threshold!r} standard errors",
            found="no number from 0",
            do='give a number of standard errors, "universal", or None for no threshold',
        )
    check_centred(whole)
    weights = (whole.right / whole.gram.diagonal[:, None]).T
    error = np.sqrt(whole.square / (whole.rows - 1))[:, None] / np.sqrt(whole.gram.diagonal)
    if bar is not None:
        weights = weights - np.clip(weights, -bar * error, bar * error)
    return Means(weights, whole.level - weights @ whole.mean, error)
