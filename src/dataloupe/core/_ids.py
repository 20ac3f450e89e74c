"""Row numbers as users give them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Array
from dataloupe.core._arrays import whole_numbers


def check_removals(removals: Any, n: int) -> list[Array]:
    """Sets of rows to remove, each as :func:`check_ids` gives it; raises as that does, dl-108 for no set at all."""
    if not isinstance(removals, Sequence | np.ndarray | Tensor) or isinstance(removals, str | bytes):
        raise _no_sets(f"a {type(removals).__name__}")
    if isinstance(removals, np.ndarray | Tensor) and removals.ndim == 0:
        raise _no_sets("one number")
    if len(removals) == 0:
        raise BadInput(
            "dl-108", asked="sets of rows to remove", found="an empty list", do="give one at least"
        )
    return [check_ids(ids, n, "rows to remove") for ids in removals]


def _no_sets(found: str) -> BadInput:
    return BadInput(
        "dl-111",
        asked="sets of rows to remove",
        found=found,
        do="give a list of lists of rows, such as [[3, 14]]",
    )


def check_ids(ids: Any, n: int, what: str) -> Array:
    """Row numbers as an int64 array: not empty, whole, within 0..n-1, each once.

    Raises ``BadInput`` dl-108 (empty), dl-109 (outside), dl-110 (duplicates), dl-111 (not whole numbers).
    """
    array = whole_numbers(ids)
    if not isinstance(array, str) and array.size == 0:
        raise BadInput("dl-108", asked=what, found="an empty list", do="name at least one row")
    if isinstance(array, str) or array.ndim != 1:
        raise BadInput(
            "dl-111",
            asked=f"{what}: row numbers in one list",
            found=array if isinstance(array, str) else f"{array.dtype} of shape {array.shape}",
            do="give whole row numbers; for a boolean mask use numpy.flatnonzero(mask)",
        )
    if array.min() < 0 or array.max() >= n:
        bad = int(array[(array < 0) | (array >= n)][0])
        raise BadInput(
            "dl-109",
            asked=f"{what}: row {bad}",
            found=f"{n} rows, numbered 0 to {n - 1}",
            do="name rows within the range",
        )
    values, counts = np.unique(array, return_counts=True)
    if (counts > 1).any():
        raise BadInput(
            "dl-110",
            asked=what,
            found=f"row {int(values[counts > 1][0])} more than once",
            do="name every row once",
        )
    return array
