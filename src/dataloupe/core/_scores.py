"""Checks of scores that were made by hand, read from a file, or computed: real, finite, and of the shapes they claim."""

from typing import Any

import numpy as np

from dataloupe._errors import BadInput

LARGE = 1 << 28
"""So many numbers do not stay in memory."""


def check_scores(scores: Any, bias: Any) -> None:
    """Refuse scores and biases that are no finite real numbers, or do not fit each other.

    Scores are used in single precision: what overflows there is no number either.

    Raises ``BadInput`` dl-501 (shapes, types), dl-502 (NaN, infinity or overflow).
    """
    for name, array in (("scores", scores), ("bias", bias)):
        if array is None and name == "bias":
            continue
        plain = isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)
        if not plain or array.dtype.kind not in "fiub":
            kind = f"{array.dtype}" if plain else f"a {type(array).__name__}"
            raise BadInput(
                "dl-501",
                asked=f"{name} as a NumPy array of real numbers",
                found=kind,
                do=f"give numpy.asarray({name}, dtype=float); fill a masked array yourself",
            )
    if scores.ndim != 2 or 0 in scores.shape or (bias is not None and bias.shape != (len(scores),)):
        raise BadInput(
            "dl-501",
            asked="scores [m, n] and bias [m]",
            found=f"{scores.shape} and {None if bias is None else bias.shape}",
            do="give one row per target and one column per training example",
        )
    m, n = scores.shape
    step = max(1, LARGE // 8 // n)
    for start in range(0, m, step):
        _check_finite(scores[start : start + step], f"target rows {start} to {min(start + step, m) - 1}")
    if bias is not None:
        _check_finite(bias, "the bias")


def check_uncertainty(uncertainty: Any, shape: tuple[int, int]) -> None:
    """Refuse an error bar of other targets or training rows, or one that is no number (dl-501, dl-502)."""
    m, n = shape
    first = {"spread": (m,), "slope": (m,), "basis": (n,), "spectrum": (m,)}
    for name, length in first.items():
        array = getattr(uncertainty, name)
        if array is None:
            continue
        wide = 1 if name in ("spread", "slope") else 2
        if array.shape[:1] != length or array.ndim != wide:
            raise BadInput(
                "dl-501",
                asked=f"an uncertainty of scores {shape}",
                found=f"{name} of shape {array.shape}",
                do="give spread and slope [m], basis [n, r] and spectrum [m, r]",
            )
        _check_finite(array, f"the uncertainty's {name}")


def check_held(train: Any, targets: Any, index: Any, shape: tuple[int, int]) -> None:
    """Refuse examples or an index of other sizes than the scores (dl-501)."""
    m, n = shape
    found = None
    if train is not None and len(train) != n:
        found = f"{len(train)} training examples"
    elif index is not None and np.shape(index) != (m, 2):
        found = f"an index of shape {np.shape(index)}"
    elif index is not None and targets is not None and int(np.max(index[:, 0])) >= len(targets):
        found = f"{len(targets)} target examples and an index up to {int(np.max(index[:, 0]))}"
    if found is not None:
        raise BadInput(
            "dl-501",
            asked=f"scores of {m} target rows x {n} training examples, with their examples",
            found=found,
            do="give the training data, targets and index of the question that was attributed",
        )


def check_top(k: int, n: int) -> None:
    """Refuse a number of top rows that is not one of 1 to n (dl-506)."""
    whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
    if not whole or not 0 < k <= n:
        raise BadInput(
            "dl-506",
            asked=f"the top {k}",
            found=f"{n} training examples",
            do=f"ask for a whole number, 1 to {n}",
        )


def check_kind(kind: str) -> None:
    """Refuse a kind of effect that is neither a sum nor of a group (dl-510)."""
    if not isinstance(kind, str) or kind not in ("sum", "group"):
        raise BadInput(
            "dl-510",
            asked=f"an effect of kind={kind!r}",
            found="an unknown word",
            do='use "sum", or "group" where the method tells groups as groups',
        )


def _check_finite(array: np.ndarray, where: str) -> None:
    with np.errstate(over="ignore"):
        single = array.astype(np.float32) if array.dtype.itemsize > 4 else array
    if not np.isfinite(single).all():
        raise BadInput(
            "dl-502",
            asked="scores that are numbers in single precision",
            found=f"NaN, infinity or overflow in {where}",
            do="look for diverged models or overflow in the gradients",
        )
