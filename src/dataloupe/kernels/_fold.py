"""Sums of rows of numbers into buckets in a ring: the inner loop of a factored sketch."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.kernels._bucket_sum import bucket_add_reference
from dataloupe.kernels._on_gpu import on_gpu


def fold_add(
    out: Float[Tensor, "b d"],
    rows: Float[Tensor, "b rows c"],
    scales: Float[Tensor, "some k"],
    turns: Int[Tensor, "any k"],
    signs: Float[Tensor, " c"],
) -> None:
    """``out[b, (turns[b, i] + j) % d] += scales[b, i] * signs[j] * rows[b, i, j]`` in fp32, i by i.

    One row may serve all i (``rows`` 1: an outer product with ``scales``, which is never made), and one line of
    ``scales`` or ``turns`` every b. A row that serves all i is signed and laid round the ring first. On the CPU a compiled loop whose line of ``out`` stays in the cache, lines
    shared between torch's threads; on a GPU the triton kernel of the same name, if triton is there; elsewhere
    :func:`fold_add_reference`.
    """
    shared = {len(part) for part in (scales, turns)} - {1}
    if len(rows) != len(out) or not shared <= {len(out)}:  # the compiled loop does not look where it reads
        raise BadInput(
            "dl-726",
            asked=f"a fold into {len(out)} lines",
            found=f"{len(rows)} rows, {len(scales)} scales and {len(turns)} turns",
            do="give a row for every line, and scales and turns for every line or for all of them",
        )
    if rows.device.type != "cpu":
        fast = on_gpu(rows)
        (fast.fold_add if fast else fold_add_reference)(out, rows, scales, turns, signs)
        return
    arrays = [tensor.contiguous().numpy() for tensor in (rows.float(), scales.float(), turns, signs)]
    lines, work, into = len(out), rows.shape[0] * turns.shape[1] * rows.shape[2], out.numpy()
    lanes = min(torch.get_num_threads(), lines) if work > 1 << 17 else 1
    cuts = [lines * lane // lanes for lane in range(lanes + 1)]

    def some(first: int, last: int) -> None:
        _fold(*arrays, into, first, last)

    others = [
        _pool(os.getpid(), lanes - 1).submit(some, cuts[lane], cuts[lane + 1]) for lane in range(1, lanes)
    ]
    some(cuts[0], cuts[1])
    for other in others:
        other.result()


def fold_add_reference(
    out: Float[Tensor, "b d"],
    rows: Float[Tensor, "b rows c"],
    scales: Float[Tensor, "some k"],
    turns: Int[Tensor, "any k"],
    signs: Float[Tensor, " c"],
) -> None:
    """The same in plain torch, in a fixed order on any device."""
    numbers = (scales[:, :, None] * (signs * rows.float())).expand(len(out), turns.shape[1], -1).flatten(1)
    places = torch.arange(rows.shape[2], device=turns.device)
    buckets = ((turns[:, :, None] + places) % out.shape[1]).flatten(1)
    ones = torch.ones_like(numbers[0])
    if len(buckets) == 1:
        bucket_add_reference(out, numbers, buckets[0], ones)
        return
    for line, own, into in zip(out, numbers, buckets, strict=True):
        bucket_add_reference(line[None], own[None], into, ones)


@functools.lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:  # noqa: ARG001  (threads do not survive a fork)
    """Threads that are kept, since starting them takes longer than most folds."""
    return ThreadPoolExecutor(threads)


@no_type_check
@numba.njit(nogil=True)
def _fold(rows, scales, turns, signs, out, first, last):
    if rows.shape[1] == 1 and turns.shape[1] > 1:
        _fold_one_row(rows, scales, turns, signs, out, first, last)
        return
    own = (scales.shape[0] > 1, turns.shape[0] > 1)
    c, d = rows.shape[2], out.shape[1]
    for b in range(first, last):
        for i in range(turns.shape[1]):
            row = rows[b, i]
            scale = scales[b if own[0] else 0, i]
            to, j = turns[b if own[1] else 0, i], 0
            while j < c:
                run = min(c - j, d - to)
                into, numbers, sign = out[b, to : to + run], row[j : j + run], signs[j : j + run]
                for u in range(run):
                    into[u] += scale * (sign[u] * numbers[u])
                j, to = j + run, 0


@no_type_check
@numba.njit(nogil=True)
def _fold_one_row(rows, scales, turns, signs, out, first, last):
    """A row for all turns is signed and laid round the ring once; four turns of a long one meet ``out`` at a time."""
    own = (scales.shape[0] > 1, turns.shape[0] > 1)
    c, d, k = rows.shape[2], out.shape[1], turns.shape[1]
    span = min(c, d)
    by_four = k // 4 * 4 if 2 * span >= d else 0
    ring = np.zeros(2 * d, np.float32)
    for b in range(first, last):
        ring[:span] = 0.0
        for start in range(0, c, d):
            run = min(d, c - start)
            numbers, sign, into = rows[b, 0, start : start + run], signs[start : start + run], ring[:run]
            for u in range(run):
                into[u] += sign[u] * numbers[u]
        ring[d : d + span] = ring[:span]
        scale, turn, line = scales[b if own[0] else 0], turns[b if own[1] else 0], out[b]
        for i in range(0, by_four, 4):
            s0, s1, s2, s3 = scale[i : i + 4]
            t0, t1, t2, t3 = d - turn[i : i + 4]
            r0, r1, r2, r3 = ring[t0:], ring[t1:], ring[t2:], ring[t3:]
            for u in range(d):
                line[u] = line[u] + s0 * r0[u] + s1 * r1[u] + s2 * r2[u] + s3 * r3[u]
        for i in range(by_four, k):
            factor, to = scale[i], turn[i]
            run = min(span, d - to)
            before, after, end = ring[:run], ring[run:span], line[to : to + run]
            for u in range(run):
                end[u] += factor * before[u]
            for u in range(span - run):
                line[u] += factor * after[u]
