"""Sums of signed numbers into buckets: the inner loop of a hash sketch."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.kernels._on_gpu import on_gpu


def bucket_add(
    out: Float[Tensor, "b d"],
    rows: Float[Tensor, "b p"],
    buckets: Int[Tensor, " p"],
    signs: Float[Tensor, " p"],
) -> None:
    """``out[r, buckets[i]] += signs[i] * rows[r, i]`` in fp32, every row in the order of i.

    On the CPU a compiled loop whose row of sums stays in the cache (four times faster than ``index_add_``,
    with the same bits), rows shared between torch's threads; on a GPU the triton kernel of the same name, if
    triton is there; elsewhere :func:`bucket_add_reference`.
    """
    fits = rows.shape == (len(out), len(buckets)) and len(signs) == len(buckets)
    if not fits:  # the compiled loop does not look where it writes
        raise BadInput(
            "dl-726",
            asked=f"sums of {len(buckets)} buckets into {len(out)} lines",
            found=f"rows of shape {tuple(rows.shape)} and {len(signs)} signs",
            do="give a row for every line, and a number and a sign for every bucket",
        )
    if rows.device.type != "cpu":
        fast = on_gpu(rows)
        (fast.bucket_add if fast else bucket_add_reference)(out, rows, buckets, signs)
        return
    given, into = rows.float().contiguous().numpy(), out.numpy()
    bucket, sign = buckets.numpy(), signs.numpy()
    lanes = torch.get_num_threads() if given.size > 1 << 20 else 1
    cuts = np.linspace(0, len(given), lanes + 1).astype(int)
    spans = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    if lanes == 1:
        _add(given, bucket, sign, into)
        return
    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(lambda span: _add(given[span], bucket, sign, into[span]), spans))


def bucket_add_reference(
    out: Float[Tensor, "b d"],
    rows: Float[Tensor, "b p"],
    buckets: Int[Tensor, " p"],
    signs: Float[Tensor, " p"],
) -> None:
    """The same by a stable sort and one sum per segment: plain torch, in a fixed order on any device."""
    met, order = torch.sort(buckets, stable=True)
    lengths = torch.searchsorted(met, torch.arange(out.shape[1] + 1, device=met.device)).diff()
    signed = (rows.float() * signs)[:, order].T.contiguous()
    out += torch.segment_reduce(signed, "sum", lengths=lengths, axis=0).T


@no_type_check
@numba.njit(nogil=True)
def _add(rows, buckets, signs, out):
    for r in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            out[r, buckets[i]] += signs[i] * rows[r, i]
