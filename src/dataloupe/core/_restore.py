"""What comes back from a file is checked before it is used: types, shapes, ranges."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from dataloupe._errors import BadInput, StoreError
from dataloupe._typing import Array, Facts
from dataloupe.core._removal_law import RemovalLaw

_FORMS: dict[str, tuple[type, ...]] = {
    "method": (str,),
    "settings": (dict,),
    "certificate": (dict,),
    "cost": (dict,),
    "fraction": (float, int, type(None)),
    "question": (str,),
    "output": (str,),
    "note": (str,),
    "role": (str,),
    "better": (str, type(None)),
    "provenance": (dict,),
    "fitted": (list, tuple),
}
"""Types of the fields of an attribution's info."""


@contextlib.contextmanager
def restoring(what: str) -> Iterator[None]:
    """Turn whatever goes wrong while ``what`` is made of stored arrays and facts into ``StoreError`` dl-616."""
    try:
        yield
    except StoreError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        found = error.found if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
        raise StoreError(
            "dl-616",
            asked=f"the stored {what}",
            found=f"contents that cannot be one ({found})",
            do="remove its folder from the lab and make it again; look where the lab came from",
        ) from error


def check_stored_scores(arrays: dict[str, Array], facts: Facts) -> None:
    """Hold stored scores and what belongs to them against each other (``BadInput`` dl-501)."""
    scores = arrays.get("scores")
    if scores is None or scores.ndim != 2 or scores.dtype.kind != "f":
        raise _unfit("floating scores [m, n]", scores)
    m, n = scores.shape
    shapes = {"bias": (m,), "error_spread": (m,), "error_slope": (m,)}
    for name, array in arrays.items():
        if name == "index":
            fits = array.shape == (m, 2) and array.dtype.kind in "iu" and not (array < -1).any()
        elif name in ("error_basis", "error_spectrum"):
            first = n if name == "error_basis" else m
            fits = array.ndim == 2 and array.dtype.kind == "f" and len(array) == first
        elif name == "error_laws":
            fits = array.ndim == 2 and array.dtype.kind == "f" and array.shape[1] == len(RemovalLaw._fields)
        elif name == "scores":
            fits = True
        else:
            fits = array.shape == shapes.get(name) and array.dtype.kind == "f"
        if not fits:
            raise _unfit(f"{name} that belongs to scores {scores.shape}", array)
    ranks = {array.shape[1] for name, array in arrays.items() if name in ("error_basis", "error_spectrum")}
    if len(ranks) > 1:
        raise _unfit("basis and spectrum of one rank", f"ranks {sorted(ranks)}")
    info: Any = facts.get("info")
    wrong = (
        ["info"]
        if not isinstance(info, dict)
        else [name for name, types in _FORMS.items() if name in info and not isinstance(info[name], types)]
    )
    if wrong or facts.get("units") not in ("output", "relative"):
        raise _unfit("info and units of an attribution", f"another {wrong[0] if wrong else 'units'}")


def check_fits_question(arrays: dict[str, Array], shape: tuple[int, int], index: Array) -> None:
    """Hold stored scores against the question they belong to (``BadInput`` dl-501)."""
    if arrays["scores"].shape != shape:
        raise _unfit(f"scores {shape}", arrays["scores"])
    if "index" in arrays and not np.array_equal(arrays["index"], index):
        raise _unfit("the targets of the question", "an index of others")


def _unfit(asked: str, found: Any) -> BadInput:
    if isinstance(found, np.ndarray):
        found = f"{found.dtype} of shape {found.shape}"
    return BadInput("dl-501", asked=asked, found=str(found), do="make the attribution again")
