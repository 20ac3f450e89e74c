"""The inner loops of the sketches in triton, with the answers of ``bucket_add`` and of the dense sign matrix.

Imported where a tensor lies on a GPU and triton is there, and nowhere else (:func:`dataloupe.kernels.on_gpu`).
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

_WORD = 64
_ROWS, _BUCKETS = 4, 128
_TILE = 64


def bucket_add(
    out: Float[Tensor, "b d"],
    rows: Float[Tensor, "b p"],
    buckets: Int[Tensor, " p"],
    signs: Float[Tensor, " p"],
) -> None:
    """``out[r, buckets[i]] += signs[i] * rows[r, i]`` in fp32: a thread per row and bucket, in the order of i.

    A stable sort brings what meets in a bucket together, so nothing is added atomically, and every sum has the
    bits of the loop on the CPU (signs of another size than 1 may round once less).
    """
    (b, p), d = rows.shape, out.shape[1]
    if rows.numel() == 0:
        return
    given = rows.float().contiguous()
    met, order = torch.sort(buckets, stable=True)
    starts = torch.searchsorted(met, torch.arange(d + 1, device=met.device))
    grid = (triton.cdiv(b, _ROWS), triton.cdiv(d, _BUCKETS))
    with torch.cuda.device_of(given):  # triton launches on the current device and its current stream
        _bucket_add[grid](
            given,
            order,
            starts,
            signs.contiguous(),
            out,
            b,
            p,
            d,
            out.stride(0),
            ROWS=_ROWS,
            BUCKETS=_BUCKETS,
        )


def sign_add(out: Float[Tensor, "b d"], rows: Float[Tensor, "b p"], key: int, first: int) -> None:
    """``out[r, j] += d^-1/2 sum_i sign(first + i, j) rows[r, i]``, the signs made where they are used.

    sign(i, j) is bit j % 64 of ``Stream(key).bits(i, j // 64)``. On tensor cores a product in fp32 is three in tf32.
    """
    (b, p), d = rows.shape, out.shape[1]
    if rows.numel() == 0:
        return
    given = rows.float().contiguous()
    grid = (triton.cdiv(b, _TILE), triton.cdiv(d, _WORD))
    signed = key - (1 << 64) if key >> 63 else key
    with torch.cuda.device_of(given):
        product = "tf32x3" if _has_tf32(given.device) else "ieee"
        _sign_add[grid](
            given,
            out,
            signed,
            first,
            b,
            p,
            d,
            out.stride(0),
            d**-0.5,
            TILE=_TILE,
            WORD=_WORD,
            PRODUCT=product,
        )


def _has_tf32(device: torch.device) -> bool:
    nvidia = device.type == "cuda" and torch.version.hip is None
    return nvidia and torch.cuda.get_device_capability(device) >= (8, 0)


@no_type_check
@triton.jit
def _bucket_add(
    rows, order, starts, signs, out, b, p, d, stride, ROWS: tl.constexpr, BUCKETS: tl.constexpr
):  # budget: a kernel gets every pointer and size by itself
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    j = tl.program_id(1) * BUCKETS + tl.arange(0, BUCKETS)
    inside = (r < b)[:, None] & (j < d)[None, :]
    at = tl.load(starts + j, mask=j < d, other=0)
    stop = tl.load(starts + j + 1, mask=j < d, other=0)
    place = out + r[:, None].to(tl.int64) * stride + j[None, :]
    total = tl.load(place, mask=inside, other=0.0)
    for t in range(tl.reduce(stop - at, 0, _larger)):
        more = at + t < stop
        i = tl.load(order + at + t, mask=more, other=0)
        sign = tl.load(signs + i, mask=more, other=0.0)
        source = rows + r[:, None].to(tl.int64) * p + i[None, :]
        total += sign[None, :] * tl.load(source, mask=inside & more[None, :], other=0.0)
    tl.store(place, total, mask=inside)


@no_type_check
@triton.jit(do_not_specialize=["key", "first"])
def _sign_add(
    rows,
    out,
    key,
    first,
    b,
    p,
    d,
    stride,
    scale,
    TILE: tl.constexpr,
    WORD: tl.constexpr,
    PRODUCT: tl.constexpr,
):  # budget: a kernel gets every pointer and size by itself
    r = tl.program_id(0) * TILE + tl.arange(0, TILE)
    word, bit = tl.program_id(1), tl.arange(0, WORD)
    keyed = _mix64(key.to(tl.uint64) ^ _mix64(word.to(tl.uint64) + 1))
    total = tl.full((TILE, WORD), 0.0, tl.float32)
    for start in range(0, p, TILE):
        i = start + tl.arange(0, TILE)
        bits = _mix64(keyed + _mix64((first + i.to(tl.int64)).to(tl.uint64) + 1))
        ones = (bits[:, None] >> bit[None, :].to(tl.uint64)) & 1
        signs = ones.to(tl.float32) * 2 - 1
        source = rows + r[:, None].to(tl.int64) * p + i[None, :]
        x = tl.load(source, mask=(r < b)[:, None] & (i < p)[None, :], other=0.0)
        total = tl.dot(x, signs, total, input_precision=PRODUCT)
    j = word * WORD + bit
    place = out + r[:, None].to(tl.int64) * stride + j[None, :]
    inside = (r < b)[:, None] & (j < d)[None, :]
    tl.store(place, tl.load(place, mask=inside, other=0.0) + total * scale, mask=inside)


@no_type_check
@triton.jit
def _larger(x, y):
    return tl.maximum(x, y)


@no_type_check
@triton.jit
def _mix64(x):
    """``_identity.mix64``, bit by bit, on uint64."""
    x = x + 0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)
