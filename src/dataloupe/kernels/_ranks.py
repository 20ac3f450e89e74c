"""Rank correlations of many columns under many resamples, without ever sorting twice.

A resample changes how often each entry is there, never the order of the entries. Sort once, number the distinct
values (dense ranks), and the mid-rank of an entry in a resample with multiplicities w is

    rank = (sum of w over smaller values) + (sum of w over equal values + 1) / 2

which takes one pass to count, one to accumulate and one to look up. Twice the centred mid-rank is a whole number,
so every sum is exact and no order of summation can change it.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float, Int, Real
from numba.core import config

from dataloupe._errors import BadInput

_MOST = 2_000_000
"""Entries per resample beyond which the exact sums (up to entries cubed) would leave 64 bits."""


def dense_ranks(values: Real[np.ndarray, "k m"]) -> Int[np.ndarray, "m k"]:
    """How many distinct values of the column lie below each entry, column by column, as int32.

    >>> dense_ranks(np.array([[3.0], [1.0], [3.0]])).tolist()
    [[1, 0, 1]]
    """
    columns = np.ascontiguousarray(values.T)
    order = np.argsort(columns, axis=1)
    ascending = np.take_along_axis(columns, order, axis=1)
    numbers = np.zeros(columns.shape, dtype=np.int32)
    np.cumsum(ascending[:, 1:] != ascending[:, :-1], axis=1, out=numbers[:, 1:])
    ranks = np.empty_like(numbers)
    np.put_along_axis(ranks, order, numbers, axis=1)
    return ranks


def rank_correlations(
    x: Int[np.ndarray, "m k"], y: Int[np.ndarray, "m k"], weights: Int[np.ndarray, "b k"]
) -> Float[np.ndarray, "b m"]:
    """Spearman's correlation of x and y when entry i is there ``weights[i]`` times; 0 where either is constant.

    x and y are :func:`dense_ranks`; a row of ones among the weights gives the plain correlation. Columns are
    shared between the cores (numba's count: ``NUMBA_NUM_THREADS``), and the answer does not depend on how.

    Raises ``BadInput`` dl-900 beyond two million entries.

    >>> ranks = np.array([[0, 1, 2]], dtype=np.int32)
    >>> rank_correlations(ranks, ranks[:, ::-1], np.ones((1, 3), dtype=np.int32)).tolist()
    [[-1.0]]
    """
    if weights.sum(axis=1, dtype=np.int64).max(initial=0) > _MOST:
        raise BadInput(
            "dl-900",
            asked=f"rank correlations of {x.shape[1]} entries",
            found=f"more than {_MOST}, where exact sums leave 64 bits",
            do="judge on fewer subsets",
        )
    x, y, weights = (np.ascontiguousarray(a, dtype=np.int32) for a in (x, y, weights))
    found = np.empty((len(x), len(weights)))
    cores: int = vars(config)["NUMBA_NUM_THREADS"]
    step = max(1, -(-len(x) // cores))
    parts = [slice(start, start + step) for start in range(0, len(x), step)]
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda rows: _correlate(x[rows], y[rows], weights, found[rows]), parts))
    return found.T


def kendall_tau(x: Int[np.ndarray, "m k"], y: Int[np.ndarray, "m k"]) -> Float[np.ndarray, " m"]:
    """Kendall's tau-b of x and y, row by row; 0 where either is constant.

    x and y are :func:`dense_ranks`. Takes k log k steps a row: a Fenwick tree counts, in the order of x, how many
    of the earlier entries lie below and above in y.

    >>> ranks = np.array([[0, 1, 2]], dtype=np.int32)
    >>> kendall_tau(ranks, ranks[:, ::-1]).round(9).tolist()
    [-1.0]
    """
    tau = np.empty(len(x))
    _concordance(*(np.ascontiguousarray(a, dtype=np.int32) for a in (x, y)), tau)
    return tau


@numba.njit(cache=True, nogil=True)
@no_type_check
def _concordance(x, y, tau):
    """``tau[j]``: (concordant - discordant pairs) / sqrt(pairs untied in x * pairs untied in y) of row j."""
    k = x.shape[1]
    for j in range(len(x)):
        order = np.argsort(x[j])
        tree = np.zeros(k + 1, dtype=np.int64)  # counts of the ranks of y, 1-based
        balance, tied_x, start = 0, 0, 0
        while start < k:
            stop = start
            while stop < k and x[j, order[stop]] == x[j, order[start]]:
                below, up_to = 0, 0
                place = y[j, order[stop]]
                while place > 0:
                    below += tree[place]
                    place -= place & -place
                place = y[j, order[stop]] + 1
                while place > 0:
                    up_to += tree[place]
                    place -= place & -place
                balance += below - (start - up_to)
                stop += 1
            for i in range(start, stop):
                place = y[j, order[i]] + 1
                while place <= k:
                    tree[place] += 1
                    place += place & -place
            tied_x += (stop - start) * (stop - start - 1) // 2
            start = stop
        pairs = k * (k - 1) // 2
        counts = np.bincount(y[j])
        tied_y = (counts * (counts - 1) // 2).sum()
        scale = np.sqrt(float(pairs - tied_x)) * np.sqrt(float(pairs - tied_y))
        tau[j] = balance / scale if scale > 0 else 0.0


@numba.njit(cache=True, nogil=True)
@no_type_check
def _centred_ranks(numbers, weights, total, below, ranks):
    """Twice the centred mid-ranks of one column in one resample, into `ranks`; `below` is working space."""
    below[:] = 0
    for i in range(len(numbers)):
        below[numbers[i] + 1] += weights[i]
    for g in range(1, len(below)):
        below[g] += below[g - 1]
    for i in range(len(numbers)):
        ranks[i] = below[numbers[i]] + below[numbers[i] + 1] - total


@numba.njit(cache=True, nogil=True)
@no_type_check
def _correlate(x, y, weights, found):
    """``found[j, b]``: the correlation of row j under resample b."""
    k = x.shape[1]
    below = np.empty(k + 1, dtype=np.int32)
    a = np.empty(k, dtype=np.int64)
    c = np.empty(k, dtype=np.int64)
    for j in range(len(x)):
        for b in range(len(weights)):
            w = weights[b]
            total = w.sum()
            _centred_ranks(x[j], w, total, below, a)
            _centred_ranks(y[j], w, total, below, c)
            xx, yy, xy = 0, 0, 0
            for i in range(k):
                wa = w[i] * a[i]
                xx += wa * a[i]
                xy += wa * c[i]
                yy += w[i] * c[i] * c[i]
            scale = np.sqrt(float(xx) * float(yy))
            found[j, b] = xy / scale if scale > 0 else 0.0
