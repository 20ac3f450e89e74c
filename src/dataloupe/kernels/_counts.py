"""Co-occurrence counts of bit-packed columns: AND, count the bits, add.

A column of k memberships is k bits, 64 to a word, so that n columns meet in n^2 k / 128 words instead of n^2 k
products. Four columns meet four others at a time: eight loads serve sixteen counts.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Int, UInt64
from numba import types
from numba.core import config
from numba.extending import intrinsic

_TILE = 4
_LANES = 8
"""Words in the widest register: whole registers leave no words to be counted one by one."""
_BAND = 64
"""Columns that stay in the first cache while all others pass."""


def pack_columns(masks: Bool[np.ndarray, "k n"]) -> UInt64[np.ndarray, "n words"]:
    """The columns of a mask matrix as bits, 64 rows to a word; what is missing to a whole word is 0.

    >>> pack_columns(np.array([[True, False], [True, True]])).tolist()
    [[3], [2]]
    """
    k, n = masks.shape
    packed = np.zeros((n, -(-k // 64) * 8), dtype=np.uint8)
    packed[:, : -(-k // 8)] = np.packbits(masks, axis=0, bitorder="little").T
    return packed.view("<u8").astype(np.uint64, copy=False)


def co_occurrences(bits: UInt64[np.ndarray, "n words"]) -> Int[np.ndarray, "n n"]:
    """How often every pair of columns is set together, exactly; the diagonal counts the column itself.

    Bands of columns are shared between the cores (numba's count: ``NUMBA_NUM_THREADS``).

    >>> co_occurrences(pack_columns(np.array([[True, False], [True, True]]))).tolist()
    [[2, 1], [1, 1]]
    """
    n = len(bits)
    padded = np.zeros((-(-n // _TILE) * _TILE, -(-bits.shape[1] // _LANES) * _LANES), dtype=np.uint64)
    padded[:n, : bits.shape[1]] = bits
    found = np.empty((len(padded), len(padded)), dtype=np.int32)
    cores: int = vars(config)["NUMBA_NUM_THREADS"]
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda start: _meet(padded, start, found), range(0, len(padded), _BAND)))
    return found[:n, :n]


@intrinsic
@no_type_check
def _ones(typingctx, word):  # noqa: ARG001  (numba's form of an intrinsic)
    """The number of set bits of a word: one instruction."""

    def code(context, builder, signature, arguments):  # noqa: ARG001
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), code


@numba.njit(cache=True, nogil=True)
@no_type_check
def _meet(bits, start, found):
    """Rows ``start`` to ``start + _BAND`` of the counts against all columns from there on, and their mirror."""
    n, words = bits.shape
    stop = min(start + _BAND, n)
    for j in range(start, n, _TILE):
        b0, b1, b2, b3 = bits[j], bits[j + 1], bits[j + 2], bits[j + 3]
        for i in range(start, min(stop, j + _TILE), _TILE):
            a0, a1, a2, a3 = bits[i], bits[i + 1], bits[i + 2], bits[i + 3]
            c00 = c01 = c02 = c03 = c10 = c11 = c12 = c13 = np.uint64(0)
            c20 = c21 = c22 = c23 = c30 = c31 = c32 = c33 = np.uint64(0)
            for w in range(words):
                u, v, x, y = b0[w], b1[w], b2[w], b3[w]
                c00 += _ones(a0[w] & u)
                c01 += _ones(a0[w] & v)
                c02 += _ones(a0[w] & x)
                c03 += _ones(a0[w] & y)
                c10 += _ones(a1[w] & u)
                c11 += _ones(a1[w] & v)
                c12 += _ones(a1[w] & x)
                c13 += _ones(a1[w] & y)
                c20 += _ones(a2[w] & u)
                c21 += _ones(a2[w] & v)
                c22 += _ones(a2[w] & x)
                c23 += _ones(a2[w] & y)
                c30 += _ones(a3[w] & u)
                c31 += _ones(a3[w] & v)
                c32 += _ones(a3[w] & x)
                c33 += _ones(a3[w] & y)
            counts = ((c00, c01, c02, c03), (c10, c11, c12, c13), (c20, c21, c22, c23), (c30, c31, c32, c33))
            for p in range(_TILE):
                for q in range(_TILE):
                    found[i + p, j + q] = found[j + q, i + p] = counts[p][q]
