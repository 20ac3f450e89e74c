"""Arrays that lie in mapped files travel to workers as the place where they lie, and are mapped there again."""

import io
import os
import warnings
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dataloupe._errors import StoreError
from dataloupe._typing import Array

MIN_BYTES = 1 << 20
"""A smaller array is copied: that costs less than looking for its file."""
_MAPS = Path("/proc/self/maps")


class Region(NamedTuple):
    """Bytes of a file: where it lies, which file it is, and how long it must be."""

    path: str
    device: int
    inode: int
    offset: int
    length: int

    def bytes(self) -> np.memmap:
        """The bytes, mapped read-only. Raises ``StoreError`` dl-658 if the file is another now, or shorter."""
        try:
            facts = Path(self.path).stat()
            same = (facts.st_dev, facts.st_ino) == (self.device, self.inode)
            if same and facts.st_size >= self.offset + self.length:
                return np.memmap(self.path, np.uint8, "r", self.offset, (self.length,))
            found = "another file there now, or a shorter one"
        except OSError as error:
            found = str(error)
        raise StoreError(
            "dl-658",
            asked=f"the data in the mapped file {self.path}",
            found=found,
            do="leave the file as it is while a run reads it, and run the same again",
        )


def region_of(address: int, length: int) -> Region | None:
    """The bytes of a file that lie at an address of this process; None if they lie in no file that workers can map.

    Memory that was mapped private and may have been written to holds other numbers than its file: it is in none.
    """
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:  # a system that does not tell: arrays are copied
        return None
    for line in lines:
        place, rights, start, _, inode, *path = line.split(maxsplit=5)
        first, _, last = place.partition("-")
        if int(first, 16) <= address < int(last, 16):
            inside = address + length <= int(last, 16)
            if not inside or not path or ("w" in rights and "s" not in rights):
                return None
            return _checked(path[0], int(inode), int(start, 16) + address - int(first, 16), length)
    return None


def _checked(path: str, inode: int, offset: int, length: int) -> Region | None:
    """The region, if the path still leads to the file that is mapped."""
    if not path.startswith("/") or path.startswith("/dev/"):
        return None
    try:
        facts = os.stat(path)  # noqa: PTH116
    except OSError:  # it was removed, or its name is not written plainly
        return None
    return Region(path, facts.st_dev, inode, offset, length) if facts.st_ino == inode else None


class MappingPickler(ForkingPickler):
    """Packs as torch does between processes, but mapped arrays and tensors as their regions."""

    def reducer_override(self, thing: Any) -> Any:
        """How it travels, where that is by its region."""
        if type(thing) is Tensor and thing.device.type == "cpu" and thing.layout == torch.strided:
            return _tensor_travels(thing)
        if isinstance(thing, np.ndarray) and type(thing) in (np.ndarray, np.memmap):
            return _array_travels(thing)
        return NotImplemented


def packed(thing: Any) -> bytes:
    """A thing as bytes for another process."""
    buffer = io.BytesIO()
    MappingPickler(buffer).dump(thing)
    return buffer.getvalue()


def _tensor_travels(tensor: Tensor) -> Any:
    length = tensor.numel() * tensor.element_size()
    plain = (
        tensor.is_contiguous() and not tensor.requires_grad and not tensor.is_conj() and not tensor.is_neg()
    )
    if length < MIN_BYTES or not plain:
        return NotImplemented
    region = region_of(tensor.data_ptr(), length)
    return NotImplemented if region is None else (_tensor, (region, tensor.dtype, tuple(tensor.shape)))


def _array_travels(array: Array) -> Any:
    if array.nbytes < MIN_BYTES or not array.flags.c_contiguous or array.dtype.hasobject:
        return NotImplemented
    region = region_of(array.__array_interface__["data"][0], array.nbytes)
    return NotImplemented if region is None else (_array, (region, array.dtype, array.shape))


def _array(region: Region, dtype: np.dtype, shape: tuple[int, ...]) -> Array:
    return region.bytes().view(dtype).reshape(shape)


def _tensor(region: Region, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The given (NumPy array|buffer) is not writable"
        )  # nobody writes to data
        return torch.frombuffer(region.bytes(), dtype=dtype).reshape(shape)
