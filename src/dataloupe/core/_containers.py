"""What holds data: lists, frames, data sets and loaders told apart, and refused where they hold no rows in order."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from dataloupe._errors import BadInput

NUMBERS = "give a tensor or array of numbers [n, ...] with one row per example"
"""What to write where something else was given."""


def column_names(frame: Any) -> list[Any] | None:
    """The names of a data frame's columns (pandas, polars), or a table's (pyarrow); None for anything else."""
    if not hasattr(frame, "columns") or not hasattr(frame, "__getitem__"):
        return None
    return list(getattr(frame, "column_names", frame.columns))


def columns_of_dates(frame: Any) -> list[Any]:
    """The columns of dates, times and durations of a polars frame, which beside numbers would be read as microseconds."""
    names = column_names(frame)
    if names is None:
        return []
    kinds = zip(names, getattr(frame, "dtypes", ()), strict=False)
    return [name for name, kind in kinds if getattr(kind, "is_temporal", bool)()]


def rows_of_list(given: Any, part: str) -> list[Any] | None:
    """The rows of a list; None for anything that is no list."""
    check_source(given, part)
    if not isinstance(given, Sequence) or isinstance(given, str | bytes | bytearray | memoryview):
        return None
    rows = listed(given, part)
    first = rows[0] if rows else None
    if isinstance(first, Mapping):
        raise _no_rows("dicts", "{name: np.stack([row[name] for row in rows]) for name in names}", part)
    if isinstance(first, tuple) and any(np.ndim(cell) for cell in first if not isinstance(cell, str)):
        raise _no_rows(
            "tuples of arrays",
            "np.stack([x for x, _ in rows]), and the labels by labels=[y for _, y in rows]",
            part,
        )
    return rows


def listed(given: Any, part: str) -> list[Any]:
    """Every element of a container, in its order."""
    try:
        return list(given) if not hasattr(given, "toarray") else given.toarray().tolist()
    except Exception as error:  # whatever a foreign container raises, it gave no elements
        raise no_array(given, part) from error


def is_pythons_own(rows: list[Any]) -> bool:
    """Whether nested lists hold Python's own numbers, whose floats torch reads as float32."""
    first: Any = rows
    while isinstance(first, list | tuple) and first:
        first = first[0]
    return type(first) in (float, int, bool)


def _no_rows(what: str, do: str, part: str) -> BadInput:
    return BadInput("dl-129", asked=f"{part} as arrays", found=f"a list of {what}", do=f"give {do}")


def check_source(given: Any, part: str) -> None:
    """Refuse data sets and loaders, which have to be read into arrays first (dl-129)."""
    name = type(given).__name__
    if isinstance(given, TensorDataset):
        do = "give its tensors: Examples(dataset.tensors[0], labels=dataset.tensors[1])"
    elif isinstance(given, DataLoader | IterableDataset):
        do = "read it once in order, without shuffling or augmentation: torch.cat([x for x, _ in loader])"
    elif isinstance(given, Dataset):
        do = "stack its rows: torch.stack([dataset[i][0] for i in range(len(dataset))]); augmentation belongs to the learner"
    elif hasattr(given, "column_names") and hasattr(given, "features"):
        do = 'give its columns: Examples(np.asarray(dataset["x"]), labels=dataset["label"], texts=dataset["text"])'
    else:
        return
    raise BadInput("dl-129", asked=f"{part} as arrays", found=f"a {name}", do=do)


def check_hidden(given: Any, part: str) -> None:
    """Refuse masked values anywhere in nested lists: their mask would be lost, and the number under it used (dl-127)."""
    if isinstance(given, np.ma.MaskedArray):
        hidden = np.ma.getmaskarray(given)
        if not hidden.any():
            return
        raise BadInput(
            "dl-127",
            asked=part,
            found=f"a masked array that hides {int(hidden.sum())} values",
            do="drop these rows, or fill them yourself: x.filled(np.nan) for a learner that takes NaN",
        )
    if isinstance(given, list | tuple):
        for row in given:
            if isinstance(row, list | tuple | np.ma.MaskedArray):
                check_hidden(row, part)


def no_array(given: Any, part: str) -> BadInput:
    sparse = hasattr(given, "toarray")
    return BadInput(
        "dl-125",
        asked=f"{part} as numbers",
        found=f"a {type(given).__name__}" if given is not None else "None",
        do="give x.toarray()" if sparse else NUMBERS,
    )


def ragged(rows: Any, part: str) -> BadInput:
    sizes = sorted({len(row) for row in rows if isinstance(row, list | tuple | np.ndarray | Tensor)})
    shown = f": lengths {sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else ""
    return BadInput(
        "dl-128",
        asked=f"{part} [n, ...]: rows of one shape",
        found=f"rows of different shapes{shown}",
        do="pad them to one length (sequences: with an attention_mask), or resize them",
    )
