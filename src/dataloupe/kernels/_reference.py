"""The plain meaning of every kernel, under the same name: slow, short, and easy to check by eye."""

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from scipy.stats import kendalltau, rankdata


def co_occurrences(masks: Bool[np.ndarray, "k n"]) -> Int[np.ndarray, "n n"]:
    """How often every pair of columns is set together.

    >>> co_occurrences(np.array([[True, False], [True, True]])).tolist()
    [[2, 1], [1, 1]]
    """
    return masks.T.astype(np.int64) @ masks


def dense_ranks(values: Real[np.ndarray, "k m"]) -> Int[np.ndarray, "m k"]:
    """How many distinct values of the column lie below each entry, column by column.

    >>> dense_ranks(np.array([[3.0], [1.0], [3.0]])).tolist()
    [[1, 0, 1]]
    """
    return rankdata(values, method="dense", axis=0).T.astype(np.int32) - 1


def rank_correlations(
    x: Int[np.ndarray, "m k"], y: Int[np.ndarray, "m k"], weights: Int[np.ndarray, "b k"]
) -> Float[np.ndarray, "b m"]:
    """Spearman's correlation of x and y when entry i is there ``weights[i]`` times; 0 where either is constant.

    >>> ranks = np.array([[0, 1, 2]], dtype=np.int32)
    >>> rank_correlations(ranks, ranks[:, ::-1], np.ones((1, 3), dtype=np.int32)).tolist()
    [[-1.0]]
    """
    found = np.zeros((len(weights), len(x)))
    for b, w in enumerate(weights):
        a = rankdata(np.repeat(x, w, axis=1), axis=1)
        c = rankdata(np.repeat(y, w, axis=1), axis=1)
        a -= a.mean(axis=1, keepdims=True)
        c -= c.mean(axis=1, keepdims=True)
        scale = np.sqrt((a * a).sum(axis=1) * (c * c).sum(axis=1))
        np.divide((a * c).sum(axis=1), scale, out=found[b], where=scale > 0)
    return found


def kendall_tau(x: Int[np.ndarray, "m k"], y: Int[np.ndarray, "m k"]) -> Float[np.ndarray, " m"]:
    """Kendall's tau-b, row by row; 0 where either is constant.

    >>> ranks = np.array([[0, 1, 2]], dtype=np.int32)
    >>> kendall_tau(ranks, ranks[:, ::-1]).tolist()
    [-1.0]
    """
    varies = (np.ptp(x, axis=1) > 0) & (np.ptp(y, axis=1) > 0)
    rows = zip(x, y, varies, strict=True)
    return np.array([float(kendalltau(a, b).statistic) if both else 0.0 for a, b, both in rows])
