"""The idx format of MNIST and its kin: a magic number, the sizes of the axes, then the bytes."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dataloupe._errors import BadInput


def read_idx(path: Path, axes: int) -> UInt8[np.ndarray, "n ..."]:
    """The unsigned bytes of an idx file (``.gz`` or plain) with that many axes.

    Raises ``BadInput`` dl-822 where the file is damaged, or is something else.
    """
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise _damaged(path, f"no whole gzip file ({error})") from error
    head = 4 + 4 * axes
    if len(raw) < head:
        raise _damaged(path, f"{len(raw)} bytes, less than the header of {head}")
    if raw[:4] != bytes([0, 0, 8, axes]):
        raise _damaged(path, f"the first bytes {raw[:4].hex()} instead of {bytes([0, 0, 8, axes]).hex()}")
    shape = tuple(int(size) for size in np.frombuffer(raw[4:head], dtype=">u4"))
    if len(raw) - head != math.prod(shape):
        raise _damaged(path, f"{len(raw) - head} bytes of data for the shape {shape}")
    return np.frombuffer(raw, dtype=np.uint8, offset=head).reshape(shape)


def _damaged(path: Path, found: str) -> BadInput:
    return BadInput(
        "dl-822",
        asked=f"the idx file {path}",
        found=found,
        do="delete it and fetch it again: it is truncated, or another kind of file",
    )
