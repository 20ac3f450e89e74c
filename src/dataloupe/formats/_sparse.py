"""Attributions as sparse matrices: the scores that count, and back."""

import math

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix, issparse, spmatrix

from dataloupe._errors import BadInput
from dataloupe.core import DenseAttribution, Info, Units, checked

BLOCK = 16_000_000
"""Scores looked at at a time."""


@checked("dl-511")
def to_sparse(
    attribution: DenseAttribution, *, k: int | None = None, above: float | None = None
) -> csr_matrix:
    """The scores as a sparse matrix ``[m, n]``, targets as rows: a CSR matrix without explicit zeros.

    ``k`` keeps the k scores of largest size of every target (ties by row), ``above`` those of size above it,
    both together what both keep, neither all that are not 0. Half precision becomes float32.

    Raises ``BadInput`` dl-878 (a k or a threshold that cannot be meant).

    >>> a = DenseAttribution(np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 3.0]]), Info("by hand"))
    >>> to_sparse(a, k=1).toarray().tolist()
    [[0.0, -2.0, 0.0], [0.0, 0.0, 3.0]]
    """
    m, n = attribution.scores.shape
    if (k is not None and not 1 <= k <= n) or (above is not None and not 0 <= above < math.inf):
        raise BadInput(
            "dl-878",
            asked=f"the scores to keep: k={k}, above={above}",
            found=f"{n} scores per target",
            do=f"give k from 1 to {n}, and a threshold of at least 0",
        )
    counts, columns, data = [np.zeros(1, dtype=np.int64)], [], []
    step = max(1, BLOCK // n)
    for start in range(0, m, step):
        block = np.asarray(attribution.scores[start : start + step])
        if block.dtype == np.float16:
            block = block.astype(np.float32)
        size = np.abs(block)
        kept = size > (above or 0.0)
        if k is not None and k < n:
            small = np.argsort(-size, axis=1, kind="stable")[:, k:]
            np.put_along_axis(kept, small, values=False, axis=1)
        counts.append(kept.sum(axis=1))
        columns.append(np.nonzero(kept)[1])
        data.append(block[kept])
    ends = np.cumsum(np.concatenate(counts))
    return csr_matrix((np.concatenate(data), np.concatenate(columns), ends), shape=(m, n))


@checked("dl-511")
def from_sparse(
    matrix: spmatrix, info: Info, *, bias: Float[np.ndarray, " m"] | None = None, units: Units = "output"
) -> DenseAttribution:
    """A sparse matrix ``[m, n]`` of scores, targets as rows, as an attribution; what it leaves out is 0.

    Raises ``BadInput`` dl-880 (another kind of matrix).

    >>> a = from_sparse(csr_matrix([[0.0, -2.0, 0.5]]), Info("by hand"), bias=np.array([1.0]))
    >>> a.top(0, 1).tolist(), a.effect([[1]]).tolist()
    ([2], [[2.0]])
    """
    if not issparse(matrix):
        raise BadInput(
            "dl-880",
            asked="scores in a sparse matrix",
            found=f"a {type(matrix).__name__}",
            do="give a matrix of scipy.sparse, or DenseAttribution(array, info)",
        )
    return DenseAttribution(np.asarray(matrix.toarray()), info, bias=bias, units=units)
