"""Difference of means: the simplest estimate of what an example does."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from dataloupe._errors import BadInput
from dataloupe.solve._checks import check_fit


class Means(NamedTuple):
    """``weights [m, n]``, ``bias [m]``, and ``error [m, n]``, the standard error of every weight."""

    weights: Float[np.ndarray, "m n"]
    bias: Float[np.ndarray, " m"]
    error: Float[np.ndarray, "m n"]


def means(masks: Bool[np.ndarray, "k n"], y: Float[np.ndarray, "k m"]) -> Means:
    """weights_ji = mean of y_j over the subsets with i, minus the mean over those without.

    error_ji = sd(y_j) / sqrt(k a_i (1 - a_i)), with a_i the share of subsets that hold i. The bias makes the
    mean prediction the mean output. For independent masks this is what least squares tends to.

    Raises ``BadInput`` dl-700, dl-705, dl-702 (an example that is in every subset, or in none).
    Source: Feldman and Zhang 2020; Ilyas et al. 2022, lemma 1.

    >>> masks = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)
    >>> means(masks, masks @ np.array([[2.0], [-1.0]])).weights.tolist()
    [[2.0, -1.0]]
    """
    check_fit(masks, y)
    k = len(masks)
    inside = masks.sum(axis=0)
    if ((inside == 0) | (inside == k)).any():
        bad = int(((inside == 0) | (inside == k)).argmax())
        raise BadInput(
            "dl-702",
            asked="the mean output with and without every example",
            found=f"example {bad} in {inside[bad]} of {k} subsets",
            do="give more subsets, or use the ridge estimator",
        )
    y = y.astype(np.float64)
    mean = y.mean(axis=0)
    weights = (masks.T.astype(np.float64) @ (y - mean)).T * (k / (inside * (k - inside)))
    error = y.std(axis=0, ddof=1)[:, None] * np.sqrt(k / (inside * (k - inside)))
    return Means(weights, mean - weights @ (inside / k), error)
