"""Large ``.npy`` files, memory-mapped: opened, checked, and read in blocks."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe._typing import Array, Ids
from dataloupe.core import Subsets, check_ids

BLOCK = 64_000_000
"""Numbers read at a time."""


def open_array(path: Path) -> Array:
    """A ``.npy`` file, memory-mapped and read-only. Raises ``BadInput`` dl-870 (missing), dl-871 (damaged)."""
    if not path.is_file():
        raise missing(f"the array {path}", "no such file", "check the folder and the name")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise unreadable(path, f"{type(error).__name__}: {error}") from error


def packed(masks: Array, kept: Int[np.ndarray, " k"], where: str) -> Subsets:
    """Rows ``kept`` of a mask matrix as listed subsets, packed to bits block by block.

    Raises ``BadInput`` dl-872 (no 0/1 matrix), dl-874 (a row that keeps nothing).
    """
    if masks.ndim != 2 or masks.shape[1] == 0 or masks.dtype not in (np.dtype(bool), np.dtype(np.uint8)):
        raise other_shape(
            f"the masks of {where}: a boolean or 0/1 byte matrix [models, examples]",
            f"{masks.dtype} of shape {masks.shape}",
        )
    n = masks.shape[1]
    bits = np.empty((len(kept), (n + 7) // 8), dtype=np.uint8)
    total, step = 0, max(1, BLOCK // n)
    for start in range(0, len(kept), step):
        rows = kept[start : start + step]
        block = masks[rows].view(np.uint8)
        if block.max() > 1:
            bad = int(rows[(block > 1).any(axis=1).argmax()])
            raise other_shape(f"the masks of {where}: 0 or 1", f"the number {block.max()} in row {bad}")
        if not block.any(axis=1).all():
            raise hollow(f"the masks of {where}", f"row {rows[(~block.any(axis=1)).argmax()]} keeps nothing")
        total += int(block.sum(dtype=np.int64))
        bits[start : start + step] = np.packbits(block, axis=1)
    return Subsets(n=n, count=len(kept), fraction=total / (len(kept) * n), kind="listed", bits=bits)


def numbers(
    values: Array, kept: Int[np.ndarray, " k"], targets: slice | Ids, where: str
) -> Float[np.ndarray, "k m"]:
    """Rows ``kept`` and columns ``targets`` of a matrix ``[models, targets]``, as float32.

    Raises ``BadInput`` dl-872 (no matrix of numbers), dl-873 (no target), dl-874 (a row of zeros).
    """
    if values.ndim not in (1, 2) or values.dtype.kind not in "fiub":
        raise other_shape(
            f"the outputs of {where}: one number per model and target",
            f"{values.dtype} of shape {values.shape}",
        )
    columns = np.arange(1 if values.ndim == 1 else values.shape[1])
    wanted = columns[targets] if isinstance(targets, slice) else check_ids(targets, len(columns), "targets")
    if len(wanted) == 0:
        raise BadInput(
            "dl-873",
            asked=f"the outputs of {where} on targets {targets}",
            found=f"none of {len(columns)}",
            do="ask for targets within the range",
        )
    found = np.empty((len(kept), len(wanted)), dtype=np.float32)
    step = max(1, BLOCK // len(columns))
    for start in range(0, len(kept), step):
        rows = kept[start : start + step]
        block = values[rows].reshape(len(rows), -1)
        if values.dtype.kind == "f" and len(columns) > 1 and not block.any(axis=1).all():
            bad = int(rows[(~block.any(axis=1)).argmax()])
            raise hollow(f"the outputs of {where}", f"row {bad} is 0 on all {len(columns)} targets")
        with np.errstate(over="ignore"):
            found[start : start + step] = block[:, wanted]
    return found


def missing(asked: str, found: str, do: str) -> BadInput:
    """dl-870."""
    return BadInput("dl-870", asked=asked, found=found, do=do)


def unreadable(path: Path, found: str) -> BadInput:
    """dl-871."""
    return BadInput(
        "dl-871",
        asked=f"the file {path}",
        found=found,
        do="fetch or write it again: it is truncated, or another kind of file",
    )


def other_shape(asked: str, found: str) -> BadInput:
    """dl-872."""
    return BadInput(
        "dl-872", asked=asked, found=found, do="check that these are the right files, and whole, of one run"
    )


def hollow(asked: str, found: str) -> BadInput:
    """dl-874."""
    return BadInput(
        "dl-874",
        asked=asked,
        found=f"{found}: it was marked complete and never written, or was overwritten",
        do="compute that model again, or leave it out: rows=...",
    )
