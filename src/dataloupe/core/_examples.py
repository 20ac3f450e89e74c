"""The data: n rows that keep their numbers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import array_digest, identity
from dataloupe._typing import Array, Inputs


class Rows(NamedTuple):
    """Some rows of :class:`Examples`, in the order asked for."""

    inputs: Inputs
    labels: Tensor | None


@dataclasses.dataclass(frozen=True)
class Card:
    """How one example looks to a person: an image (with its caption), a text, or a row of named values."""

    title: str
    image: Array | None = None
    text: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """n rows of data; row i is always example i.

    ``inputs`` is a tensor ``[n, ...]``, or a dict or tuple of them (NumPy arrays and memory maps are taken as
    they are, without a copy); ``labels`` a tensor ``[n]`` or ``[n, ...]``. ``images`` (``[n, h, w]`` or
    ``[n, h, w, 3]``, uint8) or ``texts`` say how a person should see a row, ``names`` what the label numbers
    are called, ``meta`` holds further columns.

    Raises ``BadInput`` (dl-104 lengths differ, dl-105 NaN or infinity).

    >>> data = Examples(torch.eye(4), labels=torch.tensor([0, 1, 0, 1]))
    >>> data
    Examples(4 rows: inputs [4] float32, labels [] int64)
    >>> len(data), data.take([2, 0]).labels.tolist()
    (4, [0, 0])
    """

    inputs: Any  # given as tensors or arrays; tensors (Inputs) from then on
    labels: Any = None  # Tensor or None from then on
    images: Array | None = None
    texts: Sequence[str] | None = None
    names: Sequence[str] | None = None
    meta: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take arrays as tensors and check every length."""
        object.__setattr__(self, "inputs", map_inputs(torch.as_tensor, self.inputs))
        if self.labels is not None:
            object.__setattr__(self, "labels", torch.as_tensor(self.labels))
        lengths = {name: len(part) for name, part in self._parts() if part is not None}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise BadInput(
                "dl-104",
                asked="examples whose parts have one length above 0",
                found=", ".join(f"{name}: {length}" for name, length in lengths.items()),
                do="give every part one row per example",
            )
        for name, part in self._parts():
            if isinstance(part, Tensor) and part.is_floating_point() and not bool(part.isfinite().all()):
                bad = (
                    int((~part.isfinite()).flatten(1).any(1).nonzero()[0])
                    if part.ndim > 1
                    else int((~part.isfinite()).nonzero()[0])
                )
                raise BadInput(
                    "dl-105",
                    asked="finite numbers",
                    found=f"NaN or infinity in {name}, first in row {bad}",
                    do="clean or drop the row; nothing is filled in for you",
                )

    def _parts(self) -> list[tuple[str, Any]]:
        leaves = input_leaves(self.inputs)
        return [
            *((f"inputs[{i}]" if len(leaves) > 1 else "inputs", leaf) for i, leaf in enumerate(leaves)),
            ("labels", self.labels),
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

        ``ids`` may have any shape: the rows get the same leading axes.
        """
        ids = torch.as_tensor(ids, dtype=torch.int64)
        every = bool((ids >= 0).all())
        inputs = map_inputs(lambda part: gather(part, ids, every=every), self.inputs)
        return Rows(inputs, None if self.labels is None else gather(self.labels, ids, every=every))

    def __getitem__(self, rows: slice | Sequence[int] | Array) -> "Examples":
        """Some rows as examples of their own (they are numbered anew, from 0)."""
        ids = np.arange(len(self))[rows]
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
        )

    def with_labels(self, ids: Sequence[int] | Array, labels: Any) -> "Examples":
        """The same examples with other labels on some rows: the edited data of a label-flip question."""
        if self.labels is None:
            raise BadInput(
                "dl-107", asked="other labels", found="examples without labels", do="give labels first"
            )
        new = self.labels.clone()
        new[torch.as_tensor(check_ids(ids, len(self), "rows to relabel"))] = torch.as_tensor(
            labels, dtype=new.dtype
        )
        return dataclasses.replace(self, labels=new)

    @property
    def fingerprint(self) -> str:
        """A hash of inputs and labels: what decides a training. Display and meta do not count."""
        known = self.__dict__.get("_fingerprint")
        if known is None:
            parts = [array_digest(leaf) for leaf in input_leaves(self.inputs)]
            known = identity([parts, None if self.labels is None else array_digest(self.labels)])
            object.__setattr__(self, "_fingerprint", known)
        return known

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
        return str(self.names[int(label)]) if self.names is not None else str(int(label))

    def show(self, i: int) -> Card:
        """Row i as a person should see it."""
        title = self.label_name(i)
        if self.images is not None:
            text = None if self.texts is None else self.texts[i]
            return Card(title, image=np.asarray(self.images[i]), text=text)
        if self.texts is not None:
            return Card(title, text=self.texts[i])
        values = torch.cat([leaf[i].flatten()[:12].double() for leaf in input_leaves(self.inputs)])
        columns = {name: column[i] for name, column in self.meta.items()}
        shown = [f"{name}={value}" for name, value in columns.items()] or [
            f"{float(v):.3g}" for v in values[:12]
        ]
        return Card(title, text="  ".join(shown))


def _kind(part: Any) -> str:
    """The shape of one row and the type of its numbers, without the numbers."""
    if not hasattr(part, "dtype"):
        return type(part).__name__
    return f"{list(part.shape[1:])} {str(part.dtype).removeprefix('torch.')}"


def gather(part: Tensor, ids: Int[Tensor, "..."], *, every: bool) -> Tensor:
    """``part[ids]``, zeros where an id is -1 (``every`` says that none is); no other row is ever read."""
    flat = ids.reshape(-1).to(part.device)
    if every:
        rows = part.index_select(0, flat)
    else:
        rows = torch.zeros((len(flat), *part.shape[1:]), dtype=part.dtype, device=part.device)
        kept = (flat >= 0).nonzero().squeeze(1)
        rows[kept] = part.index_select(0, flat[kept])
    return rows.reshape(*ids.shape, *part.shape[1:])


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


def check_ids(ids: Any, n: int, what: str) -> Array:
    """Row numbers as an int64 array: not empty, whole, within 0..n-1, each once.

    Raises ``BadInput`` dl-108 (empty), dl-109 (outside), dl-110 (duplicates), dl-111 (not whole numbers).
    """
    array = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
    if array.size == 0:
        raise BadInput("dl-108", asked=what, found="an empty list", do="name at least one row")
    if array.dtype == bool or not np.issubdtype(array.dtype, np.integer) or array.ndim != 1:
        raise BadInput(
            "dl-111",
            asked=f"{what}: row numbers in one list",
            found=f"{array.dtype} of shape {array.shape}",
            do="give whole row numbers; for a boolean mask use numpy.flatnonzero(mask)",
        )
    array = array.astype(np.int64)
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
