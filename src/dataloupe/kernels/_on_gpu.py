"""Which tensors the triton kernels take."""

import functools
import importlib
import importlib.util
from types import ModuleType

from torch import Tensor


def on_gpu(tensor: Tensor) -> ModuleType | None:
    """The triton kernels, if the tensor lies on a GPU and triton is there; the plain references run anywhere."""
    return _kernels() if tensor.is_cuda else None


@functools.cache
def _kernels() -> ModuleType | None:
    if importlib.util.find_spec("triton") is None:
        return None
    return importlib.import_module("dataloupe.kernels._triton_sketch")
