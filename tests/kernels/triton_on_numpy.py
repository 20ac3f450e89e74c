"""As much of triton's language as our kernels speak, on NumPy: one program after the other, in plain sight.

Triton is 286 MB to fetch and a gigabyte on disk, so the suite does not ask for it. ``modules()`` are what a kernel
file imports instead; where triton is installed, the same tests run through its own interpreter as well, or on the GPU if there is one.
"""

import functools
import itertools
from types import ModuleType

import numpy as np
import torch


class Block(np.ndarray):
    """A value of the language: an array of any shape, none included."""

    def to(self, dtype):
        return self.astype(dtype)


def block(value):
    return np.asarray(value).view(Block)


class Pointer:
    """Places in a tensor's memory."""

    def __init__(self, memory, offsets=0):
        self.memory, self.offsets = memory, offsets

    @classmethod
    def to(cls, tensor):
        size = tensor.untyped_storage().size() // tensor.element_size() - tensor.storage_offset()
        return cls(torch.as_strided(tensor, (size,), (1,)).numpy())

    def __add__(self, offsets):
        return Pointer(self.memory, self.offsets + offsets)


def load(pointer, mask=True, other=0):
    """What is there; a place outside the mask is not looked at (and may be anywhere)."""
    offsets, mask = np.broadcast_arrays(pointer.offsets, mask)
    found = np.full(mask.shape, other, dtype=pointer.memory.dtype)
    found[mask] = pointer.memory[offsets[mask]]
    return block(found)


def store(pointer, value, mask):
    offsets, value, mask = np.broadcast_arrays(pointer.offsets, value, mask)
    pointer.memory[offsets[mask]] = value[mask]


class Kernel:
    """A function of the language: called by another, or over a grid of programs."""

    program = (0, 0)

    def __init__(self, body):
        self.body = body

    def __call__(self, *args):
        return self.body(*args)

    def __getitem__(self, grid):
        def launch(*args, **constants):
            given = [Pointer.to(a) if isinstance(a, torch.Tensor) else block(_number(a)) for a in args]
            for Kernel.program in itertools.product(*map(range, grid)):
                with np.errstate(over="ignore"):
                    self.body(*given, **constants)

        return launch


def _number(value):
    return np.float32(value) if isinstance(value, float) else np.int64(value)


def jit(body=None, **_):
    return Kernel if body is None else Kernel(body)


def modules():
    """(triton, triton.language)."""
    triton, language = ModuleType("triton"), ModuleType("triton.language")
    triton.jit, triton.cdiv, triton.language = jit, lambda a, b: -(-a // b), language
    language.constexpr = object
    language.int32, language.int64 = np.int32, np.int64
    language.uint64, language.float32 = np.uint64, np.float32
    language.program_id = lambda axis: block(np.int32(Kernel.program[axis]))
    language.arange = lambda first, last: block(np.arange(first, last, dtype=np.int32))
    language.full = lambda shape, value, dtype: block(np.full(shape, value, dtype))
    language.reduce = lambda x, _, combine: block(functools.reduce(combine, x))
    language.sum = lambda x, axis: block(x.sum(axis))
    language.maximum, language.minimum, language.where = np.maximum, np.minimum, np.where
    language.dot = lambda a, b, total, input_precision: total + a @ b  # noqa: ARG005  (fp32 here, whatever it says)
    language.load, language.store = load, store
    return triton, language
