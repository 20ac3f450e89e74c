"""The inner loops of the sketches in triton, with the answers of ``bucket_add`` and of the dense sign matrix.

Imported where a tensor lies on a GPU and triton is there, and nowhere else (:func:`dataloupe.kernels.on_gpu`).
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

_WORD = 64
_ROWS, _BUCKETS = 4, 128
_TILE = 64
_LINES, _PLACES = 8, 128
_SORTED: WeakIdKeyDictionary = WeakIdKeyDictionary()


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


def fold_add(
    out: Float[Tensor, "b d"],
    rows: Float[Tensor, "b rows c"],
    scales: Float[Tensor, "some k"],
    turns: Int[Tensor, "any k"],
    signs: Float[Tensor, " c"],
) -> None:
    """``out[b, (turns[b, i] + j) % d] += scales[b, i] * signs[j] * rows[b, i, j]`` in fp32, turns in [0, d).

    A thread per bucket goes over the rows by their turns, eight at a time, and leaves out those that do not reach
    its block. Nothing is added atomically. The order of turns that all examples share is kept while the tensor lives.
    """
    (b, several, c), k, d = rows.shape, turns.shape[1], out.shape[1]
    if min(b, k, c) == 0:
        return
    given, factors = rows.float().contiguous(), scales.float().contiguous()
    met, order = _by_turn(turns)
    with torch.cuda.device_of(given):
        _fold_add[(b, triton.cdiv(d, _PLACES))](
            given,
            factors,
            met,
            order,
            signs.contiguous(),
            out,
            k,
            c,
            d,
            out.stride(0),
            several * c,
            c if several > 1 else 0,
            k if len(factors) > 1 else 0,
            k if len(met) > 1 else 0,
            LINES=_LINES,
            PLACES=_PLACES,
        )


def _by_turn(turns: Int[Tensor, "any k"]) -> tuple[Tensor, Tensor]:
    """Sorted, and the order."""
    if len(turns) > 1:
        return torch.sort(turns, dim=1, stable=True)
    if turns not in _SORTED:
        _SORTED[turns] = torch.sort(turns, dim=1, stable=True)
    return _SORTED[turns]


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
@triton.jit
def _fold_add(
    rows,
    scales,
    met,
    order,
    signs,
    out,
    k,
    c,
    d,
    stride,
    per_example,
    per_line,
    per_scales,
    per_turns,
    LINES: tl.constexpr,
    PLACES: tl.constexpr,
):  # budget: a kernel gets every pointer and size by itself
    e, first = tl.program_id(0).to(tl.int64), tl.program_id(1) * PLACES
    j = first + tl.arange(0, PLACES)
    place = out + e * stride + j
    total = tl.load(place, mask=j < d, other=0.0)
    for start in range(0, k, LINES):
        i = start + tl.arange(0, LINES)
        own, last = e * per_turns, tl.minimum(start + LINES, k) - 1
        turn = tl.load(met + own + i, mask=i < k, other=0).to(tl.int32)
        low, high = tl.load(met + own + start).to(tl.int32), tl.load(met + own + last).to(tl.int32)
        ahead = (first - low + d) % d
        if (ahead < high - low + c) | (d - ahead < PLACES):
            line = tl.load(order + own + i, mask=i < k, other=0)
            scale = tl.load(scales + e * per_scales + line, mask=i < k, other=0.0)
            away = j[None, :] - turn[:, None]
            away = tl.where(away < 0, away + d, away)
            for turned in range(0, c, d):
                column = away + turned
                there = (column < c) & (j < d)[None, :] & (i < k)[:, None]
                source = rows + e * per_example + line[:, None] * per_line + column
                sign = tl.load(signs + column, mask=there, other=0.0)
                found = sign * tl.load(source, mask=there, other=0.0)
                total += tl.sum(scale[:, None] * found, 0)
    tl.store(place, total, mask=j < d)


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
