"""Data as people hold it (lists, NumPy, pandas, polars, torch) as tensors and columns, read by position, never by label."""

import mmap
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Array, Inputs
from dataloupe.core._containers import (
    NUMBERS,
    check_hidden,
    check_source,
    column_names,
    columns_of_dates,
    is_pythons_own,
    listed,
    no_array,
    ragged,
    rows_of_list,
)

BLOCK_NUMBERS = 1 << 22
"""Checks read so many numbers at a time, so that a memory map larger than the memory can be checked."""

_DTYPES = {
    torch.bool,
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.complex64, torch.complex128),
}
_TEXT_KINDS = "UST"  # NumPy's fixed-width, byte and variable-width strings


def as_inputs(inputs: Any) -> Inputs:
    """The inputs as one tensor ``[n, ...]``, a dict of them (keywords) or a tuple of them (positions); a list holds rows."""
    if isinstance(inputs, Mapping):
        if not inputs or not all(isinstance(name, str) for name in inputs):
            raise BadInput(
                "dl-125",
                asked="inputs by name",
                found="an empty dict" if not inputs else f"the names {list(inputs)[:4]}",
                do='name every input as the argument of forward: {"input_ids": ..., "attention_mask": ...}',
            )
        return {name: as_tensor(part, f"inputs[{name!r}]") for name, part in inputs.items()}
    if isinstance(inputs, tuple):
        if not inputs:
            raise BadInput("dl-125", asked="inputs by position", found="an empty tuple", do=NUMBERS)
        return tuple(as_tensor(part, f"inputs[{i}]") for i, part in enumerate(inputs))
    return as_tensor(inputs, "inputs")


def as_labels(labels: Any) -> Tensor:
    """The labels as a tensor ``[n]`` or ``[n, ...]``; whole numbers and booleans of any width as int64."""
    tensor = as_tensor(labels, "labels")
    if tensor.is_complex():
        raise BadInput("dl-125", asked="labels", found="complex numbers", do="give [n, 2]: real, imaginary")
    return tensor if tensor.is_floating_point() else whole_rows(tensor)


def as_tensor(given: Any, part: str) -> Tensor:
    """`given` as a tensor ``[n, ...]`` on the CPU: its memory shared where torch can, copied where it cannot.

    Raises ``BadInput`` dl-125 (no numbers), dl-126 (text), dl-127 (masked values), dl-128 (rows of different
    length), dl-129 (a data set or loader).
    """
    if isinstance(given, Tensor):
        return _checked(given, part)
    rows = rows_of_list(given, part)
    if rows is not None and rows and all(isinstance(row, Tensor) for row in rows):
        return _stacked([_checked(row, part, rows_only=False) for row in rows], part)
    array = as_array(given if rows is None else rows, part)
    if dates := columns_of_dates(given):
        raise _of_dates(part, f" in the columns {', '.join(map(repr, dates))}")
    if array.dtype.kind == "O":
        array = _array_of_objects(array, part)
    _check_kind(array, part, _columns_of_text(given))
    if rows is not None and array.dtype == np.float64 and is_pythons_own(rows):
        with np.errstate(over="ignore"):  # what overflows is refused as an infinity
            array = array.astype(np.float32)
    if array.ndim == 0:
        raise BadInput(
            "dl-125", asked=f"{part} [n, ...]", found=f"the single value {array.item()!r}", do=NUMBERS
        )
    return _checked(torch.from_numpy(_shareable(array)), part)


def as_array(given: Any, part: str) -> Array:
    """`given` as a NumPy array, read by position; text and objects are left for the caller to judge."""
    if isinstance(given, np.ma.MaskedArray):
        check_hidden(given, part)
        return np.asarray(given.data)
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        check_hidden(given, part)
    elif not hasattr(given, "__array__") and not isinstance(given, int | float | complex):
        raise no_array(given, part)
    try:
        return np.asarray(given)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise no_array(given, part) from error
        raise ragged(given, part) from error
    except Exception as error:  # whatever a foreign container raises, it gave no array
        raise no_array(given, part) from error


def as_column(given: Any, part: str) -> list[Any] | Array:
    """One value per example, by position: a list, or an array where the values are numbers, dates or rows of them."""
    if isinstance(given, Tensor):
        return as_numpy(_checked(given, part))
    check_source(given, part)
    frame = column_names(given) is not None
    single = getattr(given, "ndim", 1) == 0
    if isinstance(given, str | bytes | Mapping | Set) or frame or single or not hasattr(given, "__len__"):
        raise BadInput(
            "dl-125",
            asked=f"{part}: one value per example, in order",
            found="a data frame"
            if frame
            else f"a {type(given).__name__}" + (" of one value" if single else ""),
            do="give a list, an array or one column of a data frame",
        )
    if not hasattr(given, "__array__"):
        return listed(given, part)
    array = as_array(given, part)
    return array.tolist() if array.dtype.kind in "O" + _TEXT_KINDS and array.ndim == 1 else array


def as_numpy(tensor: Tensor) -> Array:
    """A tensor as an array; of bfloat16, which NumPy has not, as float32."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def whole_numbers(given: Any) -> Int[np.ndarray, "..."] | str:
    """`given` as whole numbers, by position; or what stands in place of them, in words."""
    if isinstance(given, Tensor):
        plain = given.layout == torch.strided and not given.is_quantized and given.device.type != "meta"
        whole = plain and given.dtype in _DTYPES and not (given.is_floating_point() or given.is_complex())
        if not whole or (given.dtype == torch.bool and given.numel()):
            return f"{given.dtype} of shape {tuple(given.shape)}"
        return whole_rows(given.detach().cpu()).numpy()
    try:
        array = as_array(given, "rows")
    except BadInput as error:
        return error.found
    if array.size == 0:
        return np.zeros(array.shape, np.int64)
    if array.dtype.kind not in "iu" or array.max() >= 2**63:
        return f"{array.dtype} of shape {array.shape}"
    return array.astype(np.int64)


def whole_rows(rows: Tensor) -> Tensor:
    """Booleans and whole numbers of any width as int64, values unchanged (dl-125 for those above its range)."""
    if rows.dtype == torch.int64:
        return rows
    whole = rows.to(torch.int64)
    if rows.dtype == torch.uint64 and bool((whole < 0).any()):
        raise BadInput("dl-125", asked="whole numbers", found="numbers of 2^63 and more", do=NUMBERS)
    return whole


def first_rows_not_finite(part: Tensor) -> tuple[int | None, int | None]:
    """The first row that holds NaN and the first that holds an infinity, each None where no row does; block by block."""
    nan = infinite = None
    if not (part.is_floating_point() or part.is_complex()) or part.numel() == 0:
        return nan, infinite
    step = max(1, BLOCK_NUMBERS // part[0].numel())
    for start in range(0, len(part), step):
        block = part[start : start + step]
        if bool(block.sum().isfinite()):  # NaN and infinity survive a sum, which needs no memory
            continue
        rows = block.reshape(len(block), -1)
        for found, bad in (("nan", rows.isnan().any(1)), ("infinite", rows.isinf().any(1))):
            first = int(bad.nonzero()[0]) + start if bool(bad.any()) else None
            nan = first if found == "nan" and nan is None else nan
            infinite = first if found == "infinite" and infinite is None else infinite
        if infinite is not None:
            break
    return nan, infinite


# --- torch -------------------------------------------------------------------------------------------------


def _checked(tensor: Tensor, part: str, *, rows_only: bool = True) -> Tensor:
    """A plain dense tensor on the CPU, without history; the same object where it is one already."""
    strange = (
        "a nested tensor"
        if tensor.is_nested
        else f"a sparse tensor ({tensor.layout})"
        if tensor.layout != torch.strided
        else "a quantized tensor"
        if tensor.is_quantized
        else "a tensor without data (device meta)"
        if tensor.device.type == "meta"
        else f"numbers of type {tensor.dtype}"
        if tensor.dtype not in _DTYPES
        else f"the single value {tensor.item()!r}"
        if rows_only and tensor.ndim == 0
        else None
    )
    if strange is not None:
        raise BadInput(
            "dl-125", asked=f"{part} [n, ...]", found=strange, do=f"{NUMBERS}, such as x.to_dense()"
        )
    if type(tensor) is not Tensor or tensor.requires_grad:
        tensor = tensor.detach().as_subclass(Tensor)
    return tensor.cpu().resolve_conj().resolve_neg()


def _stacked(rows: list[Tensor], part: str) -> Tensor:
    if len({row.shape for row in rows}) > 1:
        raise ragged(rows, part)
    return torch.stack(rows)


# --- NumPy -------------------------------------------------------------------------------------------------


def _shareable(array: Array) -> Array:
    """The same numbers in memory that torch can share: native byte order, strides of whole steps forward, writable.

    Read-only arrays are copied, except memory maps, which may be larger than the memory: those are shared, and
    nothing in the library writes to data.
    """
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(step < 0 or step % array.itemsize for step in array.strides):
        array = np.ascontiguousarray(array)
    if array.flags.writeable:
        return np.asarray(array)
    return np.asarray(_SharedMemory(array)) if _is_mapped(array) else np.array(array)


class _SharedMemory:
    """The memory of an array without its mark "read-only", which torch warns of for every tensor."""

    def __init__(self, array: Array) -> None:
        self._array = array
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def _is_mapped(array: Any) -> bool:
    """Whether an array looks into a memory-mapped file."""
    while isinstance(array, np.ndarray | memoryview) and not isinstance(array, np.memmap):
        array = array.obj if isinstance(array, memoryview) else array.base
    return isinstance(array, np.memmap | mmap.mmap)


def _array_of_objects(array: Array, part: str) -> Array:
    """An array of Python objects as numbers, if each is a number or an array of one shape."""
    if array.ndim == 0:
        raise no_array(array.item(), part)
    rows = array.tolist()
    check_hidden(rows, part)
    try:
        return np.array([row.numpy(force=True) if isinstance(row, Tensor) else row for row in rows])
    except ValueError as error:
        raise ragged(rows, part) from error


def _of_dates(part: str, where: str = "") -> BadInput:
    return BadInput(
        "dl-125",
        asked=f"{part} as numbers",
        found=f"dates or durations{where}",
        do='give numbers: (x - x.min()) / np.timedelta64(1, "D")',
    )


def _columns_of_text(frame: Any) -> str:
    """The columns of a data frame that hold no numbers, in words; nothing for anything else."""
    names = column_names(frame)
    if not names or not hasattr(frame, "__array__"):
        return ""
    kinds = [np.asarray(frame[name]).dtype.kind for name in names]
    return ", ".join(repr(name) for name, kind in zip(names, kinds, strict=True) if kind not in "biufc")


def _check_kind(array: Array, part: str, columns: str) -> None:
    """Refuse what holds no numbers that torch knows (dl-125, dl-126)."""
    kind = array.dtype.kind
    if kind in "biu" or (kind == "f" and array.itemsize <= 8) or (kind == "c" and array.itemsize <= 16):
        return
    if kind in _TEXT_KINDS:
        labels = "codes and names: names, labels = np.unique(labels, return_inverse=True), then Examples(..., labels, names=names)"
        raise BadInput(
            "dl-126",
            asked=f"{part} as numbers",
            found=f"text in the columns {columns}"
            if columns
            else f"text, such as {array.flat[0]!r}"
            if array.size
            else "text",
            do=f"give {labels}"
            if part == "labels"
            else "turn text into numbers first (a tokenizer, codes of a column), and show it by Examples(texts=...)",
        )
    if kind in "mM":
        raise _of_dates(part)
    if kind == "O":
        found, do = (
            _odd_object(array),
            "turn every cell into a number first; codes for categories, np.nan where a value is missing",
        )
    else:
        found, do = (
            f"an array of {array.dtype}",
            "give numbers of at most 64 bits: np.column_stack of the fields, or x.astype(np.float64)",
        )
    raise BadInput("dl-125", asked=f"{part} as numbers", found=found, do=do)


def _odd_object(array: Array) -> str:
    """What stands in an array of objects that no number is."""
    for place, cell in enumerate(array.flat):
        if not isinstance(cell, int | float | np.generic):
            row = place // max(1, array.size // len(array))
            return f"{'None' if cell is None else f'a {type(cell).__name__}'} in row {row}"
    return "numbers above 64 bits"
