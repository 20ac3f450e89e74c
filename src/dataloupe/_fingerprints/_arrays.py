"""Digests of arrays: in full, or remembered for as long as the array shows no change."""

import hashlib
import math
import time
import weakref
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dataloupe._typing import Array

SMALL_BYTES = 1 << 16
"""Arrays up to this size are read whole at every look."""
HUGE_BYTES = 1 << 33
"""Arrays beyond this size are read whole once; later looks read a sample of them."""
MAX_SHARE = 0.02
"""The share of the time that may go into reading whole arrays again."""
SAMPLES, SAMPLES_OF_HUGE = 1024, 256
_BLOCK = 1 << 22
"""Arrays are hashed so many numbers at a time: a memory map may be larger than the memory."""


class _Remembered(NamedTuple):
    """A digest, and how the array looked when it was read whole."""

    array: Any  # a weak reference
    look: tuple[Any, ...]
    digest: str
    read_at: float
    seconds: float


_REMEMBERED: dict[int, _Remembered] = {}


def array_digest(array: Array | Tensor) -> str:
    """SHA-256 over dtype, shape and bytes of an array, independent of its memory layout; read in blocks of rows."""
    if isinstance(array, Tensor) and array.layout != torch.strided:
        parts = [array_digest(part) for part in _sparse_parts(array.detach())]
        return hashlib.sha256(f"{array.layout}{tuple(array.shape)}{parts}".encode()).hexdigest()[:32]
    dtype = _numpy(array[:0] if array.ndim else array).dtype
    digest = hashlib.sha256(f"{dtype.str}{tuple(array.shape)}".encode())
    size = math.prod(array.shape)
    rows = max(1, _BLOCK // max(1, size // max(1, len(array)))) if array.ndim else 1
    for start in range(0, len(array) if array.ndim else 1, rows) if size else ():
        block = _numpy(array[start : start + rows] if array.ndim else array)
        digest.update(np.ascontiguousarray(block).data.cast("B"))
    return digest.hexdigest()[:32]


def content_digest(array: Array | Tensor) -> str:
    """:func:`array_digest`, read again where the content may have changed since the last look.

    A small array is read whole at every look. Of a larger one the last digest holds while torch's version counter, the
    place in memory and a sample of 1024 numbers are the same; and since the counter does not see what NumPy writes into
    shared memory, the array is read whole again as soon as that takes at most 2% of the time passed since it was last.
    """
    known = _REMEMBERED.get(id(array))
    strided = not isinstance(array, Tensor) or array.layout == torch.strided
    size = math.prod(array.shape) * array.dtype.itemsize
    if size <= SMALL_BYTES or not strided:
        return array_digest(array)
    look, now = _look(array), time.monotonic()
    if known is not None and known.array() is array and known.look == look:
        due = size <= HUGE_BYTES and (now - known.read_at) * MAX_SHARE > known.seconds
        if not due:
            return known.digest
    digest = array_digest(array)
    done = time.monotonic()
    place = id(array)
    reference = weakref.ref(array, lambda _: _REMEMBERED.pop(place, None))
    _REMEMBERED[place] = _Remembered(reference, look, digest, done, done - now)
    return digest


def _look(array: Array | Tensor) -> tuple[Any, ...]:
    """What shows a change cheaply: torch's version counter, the place in memory, and some numbers."""
    if isinstance(array, np.ndarray):
        some = array.flat[_places(array.size, array.nbytes)]
        return array.ctypes.data, array.shape, array.dtype.str, some.tobytes()
    version = None if array.is_inference() else array._version
    if array.is_quantized or array.is_meta:
        return version, tuple(array.shape), array.dtype
    places = torch.from_numpy(_places(array.numel(), array.nbytes)).to(array.device)
    sample = torch.take(array.detach(), places).cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return version, array.data_ptr(), tuple(array.shape), array.dtype, sample


def _places(size: int, nbytes: int) -> Array:
    """Flat positions spread over an array of ``size`` numbers; the odd step meets every column of its rows."""
    count = min(size, SAMPLES if nbytes <= HUGE_BYTES // 8 else SAMPLES_OF_HUGE)
    return np.arange(count, dtype=np.int64) * (size // count | 1) % size


def _sparse_parts(tensor: Tensor) -> list[Tensor]:
    """Places and values of a sparse tensor."""
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        return [tensor.indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return [tensor.to_dense()]


def _numpy(array: Array | Tensor) -> Array:
    """Numbers of any kind in memory that NumPy reads; what it has no type for by its values or its bytes."""
    if isinstance(array, Tensor):
        tensor = array.detach()
        tensor = (tensor.dequantize() if tensor.is_quantized else tensor).resolve_conj().resolve_neg().cpu()
        if tensor.dtype == torch.bfloat16:
            return tensor.float().numpy()
        small = tensor.dtype.is_floating_point and tensor.dtype.itemsize == 1
        return tensor.contiguous().view(torch.uint8).numpy() if small else tensor.numpy()
    if array.dtype.kind in "Mm":  # times have no buffer of their own
        return np.ascontiguousarray(array).view(np.int64)
    if array.dtype.kind in "OV":
        return np.frombuffer("\0".join(map(repr, array.ravel().tolist())).encode(), np.uint8)
    return array
