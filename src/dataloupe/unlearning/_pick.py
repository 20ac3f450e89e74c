"""Rows to forget: at random, along a direction of the attribution, like a row, or by a column."""

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse.linalg import svds

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array
from dataloupe.core import Attribution, Examples, check_ids, checked, provenance_of


@checked("dl-694")
def pick_random(n: int, count: int, seed: int = 0) -> Int[np.ndarray, " f"]:
    """``count`` of n rows at random: the easy kind, in which only memorised rows matter (dl-694).

    >>> pick_random(10, 3, seed=1).tolist()
    [0, 4, 7]
    """
    _check_count(count, n)
    return np.sort(np.argsort(Stream.root(seed)("forget").bits(np.arange(n)))[:count])


@checked("dl-694")
def pick_ends(
    attribution: Attribution, component: int = 0, *, top: int = 0, bottom: int = 0
) -> Int[np.ndarray, " f"]:
    """The rows at one or both ends of a principal component of the train-by-train attribution: the hard, coherent kind.

    Rows of scores at length 1, centred over rows; coordinates along right singular vector ``component``, whose largest
    entry in size is positive. Raises ``BadInput`` dl-693 (not square), dl-694 (counts).

    Source: Georgiev et al. 2024 (Attribute-to-Delete), appendix C.2.
    """
    rows = _unit_rows(attribution)
    _check_count(top + bottom if min(top, bottom) >= 0 else min(top, bottom), len(rows))
    if not 0 <= component < len(rows) - 1:
        raise BadInput(
            "dl-694",
            asked=f"component {component}",
            found=f"{len(rows)} rows",
            do=f"name one from 0 to {len(rows) - 2}",
        )
    rows = rows - rows.mean(axis=0)
    start = np.ones(len(rows)) / len(rows) ** 0.5
    _, values, right = svds(rows, k=component + 1, v0=start, solver="arpack")
    vector = right[np.argsort(-values)[component]]
    order = np.argsort(-(rows @ (vector * np.sign(vector[np.abs(vector).argmax()]))), kind="stable")
    return np.sort(np.concatenate([order[:top], order[len(order) - bottom :]]))


@checked("dl-694")
def pick_like(attribution: Attribution, row: int, count: int) -> Int[np.ndarray, " f"]:
    """A row and those whose attributions are most like its own (cosine): a coherent set around one example.

    Raises ``BadInput`` dl-693 (not square), dl-694 (count), dl-109 (the row).
    """
    rows = _unit_rows(attribution)
    _check_count(count, len(rows))
    centre = int(check_ids([row], len(rows), "a row")[0])
    alike = rows @ rows[centre]
    alike[centre] = np.inf
    return np.sort(np.argsort(-alike, kind="stable")[:count])


@checked("dl-695")
def pick_where(data: Examples, column: str, value: str) -> Int[np.ndarray, " f"]:
    """The rows whose label (``column="label"``, by name or number) or other column is this value (dl-695)."""
    known = [data.label_name(i) for i in range(len(data))] if column == "label" else data.meta.get(column)
    if known is None:
        raise BadInput(
            "dl-695",
            asked=f"rows by {column!r}",
            found=f"the columns {', '.join(['label', *data.meta])}",
            do="name one of these",
        )
    numbers = (
        [] if column != "label" or data.labels is None else [str(label) for label in data.labels.tolist()]
    )
    found = np.flatnonzero(np.array([str(entry) == value for entry in known]))
    if not len(found) and numbers:
        found = np.flatnonzero(np.array(numbers) == value)
    if not len(found):
        there = sorted({str(entry) for entry in known})
        raise BadInput(
            "dl-695",
            asked=f"rows where {column} is {value!r}",
            found=f"none; there are {', '.join(there[:12])}",
            do="name a value that some row has",
        )
    return found


def _unit_rows(attribution: Attribution) -> Float[np.ndarray, "n n"]:
    record = provenance_of(attribution)
    others = record.get("targets") and record.get("train") and record["targets"] != record["train"]
    if attribution.n != attribution.m or others:
        raise BadInput(
            "dl-693",
            asked="the attribution of training rows by training rows",
            found=f"{attribution.m} targets and {attribution.n} rows"
            + (", which are other examples" if others else ""),
            do="ask the question with targets=train",
        )
    rows = attribution.rows(slice(None)).astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


def _check_count(count: int, n: int) -> None:
    if not 0 < count < n:
        raise BadInput(
            "dl-694", asked=f"{count} rows to forget", found=f"{n} rows", do=f"name a count from 1 to {n - 1}"
        )


def as_rows(ids: Array, n: int) -> Int[np.ndarray, " f"]:
    """A user's own rows, checked and sorted."""
    return np.sort(check_ids(ids, n, "rows to forget"))
