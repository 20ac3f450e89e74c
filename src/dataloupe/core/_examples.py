"""The data: n rows that keep their numbers."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import content_digest, identity
from dataloupe._typing import Array, Inputs
from dataloupe.core._arrays import (
    as_array,
    as_inputs,
    as_labels,
    first_rows_not_finite,
    whole_numbers,
    whole_rows,
)
from dataloupe.core._ids import check_ids
from dataloupe.core._looks import as_images, as_meta, as_names, as_texts, check_names
from dataloupe.core._row_weights import as_row_weights


class Rows(NamedTuple):
    """Some rows of :class:`Examples`, in the order asked for."""

    inputs: Inputs
    labels: Tensor | None
    row_weights: Tensor | None = None
    """What the loss of each row is multiplied with, where the examples have such weights."""
    keys: Tensor | None = None
    """A hash of each row's contents, where its inputs have been rounded since (:func:`content_keys`)."""


_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
"""Torch keeps these and computes with none of them: their rows are given as int64."""


@dataclasses.dataclass(frozen=True)
class Card:
    """How one example looks to a person: an image (with its caption), a text, or a row of named values."""

    title: str
    image: Array | None = None
    text: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """n rows of data; row i is always example i.

    Lists, NumPy, pandas, polars and torch are read by position: row i of every part is example i, whatever its
    index says. NumPy arrays and memory maps are shared, not copied, where torch can share them.

    Args:
        inputs: Numbers ``[n, ...]``; a dict of them (keywords of forward) or a tuple of them (positions). A list holds rows.
            NaN is a missing value, for a learner that takes it (:class:`TakesNaN`).
        labels: Numbers ``[n]`` or ``[n, ...]``; whole numbers and booleans become int64.
        images: How a person should see a row: ``[n, h, w]`` or ``[n, h, w, 3]``, uint8, or floating point from 0 to 1.
        texts: How a person should see a row: one string each; with ``images``, their captions.
        names: What the labels 0, 1, ... are called; of sequences, the vocabulary.
        meta: Further columns by name, one value per row.
        row_weights: What the training loss of each row is multiplied with, by learners and on the training side of
            outputs ``[n]``; those of targets are not looked at.

    Raises:
        BadInput: dl-104 (lengths differ), dl-105 (infinity; NaN in labels), dl-125 to dl-129 (no numbers: text,
            masked values, rows of different shape, data sets and loaders), dl-130 (images), dl-131 (texts), dl-132 (names),
            dl-832 (row weights).

    >>> data = Examples(torch.eye(4), labels=torch.tensor([0, 1, 0, 1]))
    >>> data
    Examples(4 rows: inputs [4] float32, labels [] int64)
    >>> len(data), data.take([2, 0]).labels.tolist()
    (4, [0, 0])
    """

    # Given in any of the forms above; from then on what the comment says.
    inputs: Any  # Inputs
    labels: Any = None  # Tensor | None
    images: Any = None  # uint8 array | None
    texts: Any = None  # list[str] | None
    names: Any = None  # list[str] | None
    meta: Any = dataclasses.field(default_factory=dict)  # dict[str, list | array]
    row_weights: Any = None  # Tensor | None
    first_missing: int | None = dataclasses.field(init=False, default=None, repr=False)
    """The first row whose inputs hold NaN, None where no row does."""

    def __post_init__(self) -> None:
        """Take every part by position, and check lengths, numbers and names."""
        readers: dict[str, Callable[[Any], Any]] = {
            "labels": as_labels,
            "images": as_images,
            "texts": as_texts,
            "names": as_names,
            "row_weights": as_row_weights,
        }
        object.__setattr__(self, "inputs", as_inputs(self.inputs))
        object.__setattr__(self, "meta", as_meta(self.meta))
        for name, reader in readers.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, reader(getattr(self, name)))
        self._check_lengths()
        self._check_numbers()
        if self.names is not None and self.labels is not None:
            check_names(self.names, self.labels)

    def _check_lengths(self) -> None:
        lengths = {name: len(part) for name, part in self._parts() if part is not None}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise BadInput(
                "dl-104",
                asked="examples whose parts have one length above 0",
                found=", ".join(f"{name}: {length}" for name, length in lengths.items()),
                do="give every part one row per example (a list holds rows; several inputs are a tuple or a dict)",
            )

    def _check_numbers(self) -> None:
        """Infinity nowhere, NaN in inputs only."""
        for name, part in self._parts():
            if not isinstance(part, Tensor):
                continue
            missing, infinite = first_rows_not_finite(part)
            if infinite is not None or (name == "labels" and missing is not None):
                raise BadInput(
                    "dl-105",
                    asked="finite numbers",
                    found=f"{'infinity' if infinite is not None else 'NaN'} in {name}, first in row "
                    f"{missing if infinite is None else infinite}",
                    do="clean or drop the row; nothing is filled in for you",
                )
            if missing is not None:
                known = self.first_missing
                first = missing if known is None else min(known, missing)
                object.__setattr__(self, "first_missing", first)

    def refuse_missing(self, who: str, do: str) -> None:
        """Raise dl-105 if inputs hold NaN, which `who` cannot take."""
        if self.first_missing is not None:
            raise BadInput(
                "dl-105",
                asked=f"finite numbers, for {who}",
                found=f"NaN in inputs, first in row {self.first_missing}",
                do=do,
            )

    def _parts(self) -> list[tuple[str, Any]]:
        inputs = self.inputs
        parts = (
            [("inputs", inputs)]
            if isinstance(inputs, Tensor)
            else [
                (f"inputs[{name!r}]", part)
                for name, part in (inputs.items() if isinstance(inputs, dict) else enumerate(inputs))
            ]
        )
        return [
            *parts,
            ("labels", self.labels),
            ("row_weights", self.row_weights),
            ("images", self.images),
            ("texts", self.texts),
            *((f"meta[{name!r}]", column) for name, column in self.meta.items()),
        ]

    def __len__(self) -> int:
        return len(input_leaves(self.inputs)[0])

    def __repr__(self) -> str:
        parts = [f"{name} {_kind(part)}" for name, part in self._parts() if part is not None]
        names = [] if self.names is None else [f"{len(self.names)} names"]
        return f"Examples({len(self)} rows: {', '.join(parts + names)})"

    def take(self, ids: Any) -> Rows:
        """The rows `ids`; an id of -1 gives a constant row of zeros and reads nothing.

        ``ids`` may have any shape: the rows get the same leading axes. Raises ``BadInput`` dl-133 for ids that are
        no whole numbers from -1 to n - 1.
        """
        ids, lowest = _row_ids(ids, len(self))
        every = lowest >= 0
        inputs = map_inputs(lambda part: gather(part, ids, every=every), self.inputs)
        labels, weights = (
            None if part is None else gather(part, ids, every=every)
            for part in (self.labels, self.row_weights)
        )
        return Rows(inputs, labels, weights)

    def __getitem__(self, rows: Any) -> "Examples":
        """Some rows (a slice, row numbers or a boolean mask) as examples of their own, numbered anew from 0."""
        try:
            ids = np.arange(len(self))[rows if isinstance(rows, slice) else as_array(rows, "rows")]
        except (IndexError, TypeError, ValueError) as error:  # NumPy's, and dl-125
            raise BadInput(
                "dl-106",
                asked=f"some rows of {len(self)}",
                found=f"{str(error).splitlines()[0]}",
                do="ask for a slice, a list of row numbers or a boolean mask [n]",
            ) from error
        if ids.ndim != 1 or len(ids) == 0:
            raise BadInput(
                "dl-106",
                asked=f"the rows {rows!r}",
                found=f"{ids.size} rows of {len(self)}",
                do="ask for a slice or a list of rows",
            )
        rows_taken = self.take(ids)
        return Examples(
            rows_taken.inputs,
            rows_taken.labels,
            images=None if self.images is None else self.images[ids],
            texts=None if self.texts is None else [self.texts[i] for i in ids],
            names=self.names,
            meta={name: [column[i] for i in ids] for name, column in self.meta.items()},
            row_weights=rows_taken.row_weights,
        )

    def with_labels(self, ids: Any, labels: Any) -> "Examples":
        """The same examples with other labels on some rows: the edited data of a label-flip question."""
        if self.labels is None:
            raise BadInput(
                "dl-107", asked="other labels", found="examples without labels", do="give labels first"
            )
        rows = torch.as_tensor(check_ids(ids, len(self), "rows to relabel"))
        new = self.labels.clone()
        new[rows] = _new_labels(labels, len(rows), new)
        return dataclasses.replace(self, labels=new)

    @property
    def fingerprint(self) -> str:
        """A hash of inputs (their names too), labels and row weights as they are now: what decides a training.

        Display and meta do not count. Data changed in place have another fingerprint (see :func:`content_digest`), and
        are checked again (dl-105).
        """
        leaves = input_leaves(self.inputs)
        named: list[Any] = [_digest(leaf) for leaf in leaves]
        if isinstance(self.inputs, dict):
            named = list(zip(self.inputs, named, strict=True))
        weights = [] if self.row_weights is None else [_digest(self.row_weights)]
        found = identity([named, None if self.labels is None else _digest(self.labels), *weights])
        before = self.__dict__.get("_last_fingerprint")
        if found != before:
            if before is not None:
                self._check_numbers()
            object.__setattr__(self, "_last_fingerprint", found)
        return found

    def __identity__(self) -> dict[str, Any]:
        """Found by its contents."""
        return {"fingerprint": self.fingerprint, "rows": len(self)}

    def label_name(self, i: int) -> str:
        """The label of row i in words."""
        if self.labels is None:
            return ""
        label = self.labels[i]
        if label.ndim and not label.is_floating_point():
            return ""  # a sequence's tokens
        if label.ndim or label.is_floating_point():
            return f"{label.item():.4g}" if label.ndim == 0 else f"{list(label.shape)}"
        number = int(label)
        return str(self.names[number]) if self.names is not None and number >= 0 else str(number)

    def show(self, i: int) -> Card:
        """Row i as a person should see it."""
        title = self.label_name(i)
        if self.images is not None:
            text = None if self.texts is None else self.texts[i]
            return Card(title, image=np.asarray(self.images[i]), text=text)
        if self.texts is not None:
            return Card(title, text=self.texts[i])
        cells = [cell for leaf in input_leaves(self.inputs) for cell in leaf[i].flatten()[:12].tolist()]
        columns = {name: column[i] for name, column in self.meta.items()}
        shown = [f"{name}={value}" for name, value in columns.items()] or [f"{v:.3g}" for v in cells[:12]]
        return Card(title, text="  ".join(shown))


def _digest(part: Tensor) -> str:
    """The digest of a part's content; bfloat16 trains otherwise than the same numbers in float32."""
    return content_digest(part) + (" bfloat16" if part.dtype == torch.bfloat16 else "")


def _kind(part: Any) -> str:
    """The shape of one row and the type of its numbers, without the numbers."""
    if not hasattr(part, "dtype"):
        return type(part).__name__
    return f"{list(part.shape[1:])} {str(part.dtype).removeprefix('torch.')}"


def gather(part: Tensor, ids: Int[Tensor, "..."], *, every: bool) -> Tensor:
    """``part[ids]``, zeros where an id is -1 (``every`` says that none is); no other row is ever read."""
    flat = ids.reshape(-1).to(part.device)
    kept = flat if every else flat[flat >= 0]
    rows = whole_rows(part[kept]) if part.dtype in _UNSIGNED else part.index_select(0, kept)
    if not every:
        rows = rows.new_zeros((len(flat), *part.shape[1:])).index_copy_(
            0, (flat >= 0).nonzero().squeeze(1), rows
        )
    return rows.reshape((*ids.shape, *part.shape[1:]))


def _row_ids(ids: Any, n: int) -> tuple[Int[Tensor, "..."], int]:
    """Ids as int64, and the lowest of them; -1 stands for no row (dl-133)."""
    array = whole_numbers(ids)
    if isinstance(array, str):
        wrong = array
    else:
        lowest, highest = (int(array.min()), int(array.max())) if array.size else (0, -1)
        if lowest >= -1 and highest < n:
            return torch.from_numpy(array), lowest
        wrong = f"numbers from {lowest} to {highest}"
    raise BadInput(
        "dl-133",
        asked=f"rows of {n} examples by number",
        found=wrong,
        do=f"give whole numbers from 0 to {n - 1}; for a boolean mask numpy.flatnonzero(mask)",
    )


def _new_labels(labels: Any, count: int, like: Tensor) -> Tensor:
    """Other labels for `count` rows, as the type that labels have: one for all, or one each (dl-134)."""
    single = isinstance(labels, int | float | np.generic) or (
        isinstance(labels, Tensor | np.ndarray) and labels.ndim == 0
    )
    new = as_labels([labels] if single else labels)
    whole = not new.is_floating_point() or bool(((new == new.round()) & (new.abs() < 2**53)).all())
    fits = new.shape[1:] == like.shape[1:] and len(new) == (1 if single else count)
    if not fits or not (like.is_floating_point() or whole):
        raise BadInput(
            "dl-134",
            asked=f"other labels for {count} rows, {like.dtype} of shape {(count, *like.shape[1:])}",
            found=f"{new.dtype} of shape {tuple(new.shape)}" + ("" if whole else ", not whole"),
            do="give one label for all rows, or one for each, of the kind that the examples have",
        )
    return new.to(like.dtype)


def map_inputs(function: Callable[[Any], Any], inputs: Any) -> Any:
    """`function` on every tensor of the inputs, the structure kept."""
    if isinstance(inputs, dict):
        return {name: function(part) for name, part in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(function(part) for part in inputs)
    return function(inputs)


def input_leaves(inputs: Inputs) -> list[Tensor]:
    """The tensors of the inputs, in order."""
    if isinstance(inputs, dict):
        return list(inputs.values())
    return list(inputs) if isinstance(inputs, tuple | list) else [inputs]
