"""Rows that arrive batch by batch, each kept once: which are there, and what they hold."""

import hashlib
import re
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64
from torch import Tensor

from dataloupe._errors import BadInput, StoreError
from dataloupe._identity import array_digest
from dataloupe._typing import Array, Facts
from dataloupe.core import Store

_RUN = re.compile(r"(\d{9})-(\d{9})")
_NAME = re.compile(r"\d{9}-(\d{9}|[0-9a-f]{16})")


class Shelf:
    """Rows 0 to ``count`` of one folder, in units of whole batches. Opening reads what is there.

    >>> import tempfile
    >>> from dataloupe.store import LocalStore
    >>> shelf = Shelf(LocalStore(tempfile.mkdtemp()), "models/0", 4)
    >>> shelf.add(np.array([0, 1]), {"x": np.ones(2)}, {})
    >>> shelf.there.tolist(), [ids.tolist() for ids, _, _ in shelf.blocks()]
    ([True, True, False, False], [[0, 1]])
    """

    def __init__(self, store: Store, folder: str, count: int) -> None:
        self.store, self.folder = store, folder
        self.there: Bool[np.ndarray, " rows"] = np.zeros(count, dtype=bool)
        for name in self._names():
            run = _RUN.fullmatch(name)
            self.there[slice(int(run[1]), int(run[2])) if run else self._read(name)[0]["ids"]] = True

    @property
    def missing(self) -> Int[np.ndarray, " rows"]:
        """The rows that are not there."""
        return np.flatnonzero(~self.there)

    def add(self, ids: Int[np.ndarray, " b"], arrays: dict[str, Array], facts: Facts) -> None:
        """Publish some rows, whole or not at all."""
        run = np.array_equal(ids, np.arange(ids[0], ids[0] + len(ids)))
        name = f"{ids[0]:09d}-" + (f"{ids[-1] + 1:09d}" if run else array_digest(ids)[:16])
        self.store.write(self.folder, name, {"ids": ids.astype(np.int64), **arrays}, facts)
        self.there[ids] = True

    def blocks(self) -> Iterator[tuple[Int[np.ndarray, " b"], dict[str, Array], Facts]]:
        """(rows, arrays, facts) of every unit, each row once: units of two workers may overlap."""
        seen = np.zeros(len(self.there), dtype=bool)
        for name in self._names():
            arrays, facts = self._read(name)
            ids = arrays.pop("ids")
            new = ~seen[ids]
            seen[ids] = True
            yield ids[new], {key: array[new] for key, array in arrays.items()}, facts

    def _names(self) -> list[str]:
        """The units of rows; copies under other names are passed over."""
        return [name for name in self.store.units(self.folder) if _NAME.fullmatch(name)]

    def _read(self, name: str) -> tuple[dict[str, Array], Facts]:
        unit = self.store.read(self.folder, name)
        if unit is None:
            raise StoreError(
                "dl-974",
                asked=f"the rows {self.folder}/{name}",
                found="a file that was there a moment ago",
                do="find out who removes files there; running the same again makes the rows again",
            )
        self._check(name, unit[0])
        return unit

    def _check(self, name: str, arrays: dict[str, Array]) -> None:
        """Hold a unit against its name and the number of rows: a checksum is no signature (dl-615)."""
        ids, run = arrays.get("ids", np.zeros(0)), _RUN.fullmatch(name)
        fits = ids.dtype == np.int64 and ids.ndim == 1 and 0 < len(ids) == len(np.unique(ids))
        fits = fits and ids.min() >= 0 and ids.max() < len(self.there)
        fits = fits and (run is None or np.array_equal(ids, np.arange(int(run[1]), int(run[2]))))
        if not fits or any(array.ndim == 0 or len(array) != len(ids) for array in arrays.values()):
            raise StoreError(
                "dl-615",
                asked=f"rows of the unit {self.folder}/{name}, below {len(self.there)}, and an array row for each",
                found=", ".join(f"{key}: {array.dtype} {array.shape}" for key, array in arrays.items()),
                do=f"remove {self.folder}/units/{name}.safetensors: the rows are made again",
            )


class Contents(Shelf):
    """What rows held when they first came, as 64 bits each."""

    def __init__(self, store: Store, folder: str, count: int) -> None:
        super().__init__(store, folder, count)
        self._known = np.zeros(count, dtype=np.uint64)
        for ids, arrays, _ in self.blocks():
            self._known[ids] = arrays["digest"]

    def checked(self, ids: Int[np.ndarray, " b"], parts: list[Tensor]) -> UInt64[np.ndarray, " b"]:
        """What rows hold; refused if they were others before (dl-969)."""
        found, old = digests(parts), self.there[ids]
        wrong = ids[old & (self._known[ids] != found)]
        if len(wrong):
            raise BadInput(
                "dl-969",
                asked=f"the rows {', '.join(map(str, wrong[:4]))}" + (" ..." if len(wrong) > 4 else ""),
                found="other contents than these rows had before: a loader that shuffles or augments?",
                do="give inds, or a loader that does neither (or TRAKer(check_rows=False))",
            )
        return found

    def note(self, ids: Int[np.ndarray, " b"], found: UInt64[np.ndarray, " b"]) -> None:
        """Remember rows that are new."""
        new = ~self.there[ids]
        if new.any():
            self.add(ids[new], {"digest": found[new]}, {})
            self._known[ids] = found


def packed(rows: Float[np.ndarray, "b d"], half: bool) -> dict[str, Array]:
    """Features as they are stored: in half precision every row has a scale of its own, so none over- or underflows."""
    if not half:
        return {"rows": rows}
    scale = np.abs(rows).max(axis=1)
    scale[scale == 0.0] = 1.0
    return {"rows": (rows / scale[:, None]).astype(np.float16), "scale": scale}


def unpacked(arrays: dict[str, Array]) -> Float[np.ndarray, "b d"]:
    """Features in fp32 again."""
    rows = arrays["rows"].astype(np.float32)
    return rows * arrays["scale"][:, None] if "scale" in arrays else rows


def digests(parts: list[Tensor]) -> UInt64[np.ndarray, " b"]:
    """64 bits of the contents of every row, over all tensors of a batch."""
    columns = [
        part.detach().cpu().contiguous().flatten(1) if part.ndim > 1 else part[:, None] for part in parts
    ]
    arrays = [np.ascontiguousarray(_numpy(column)) for column in columns]
    found = []
    for i in range(len(arrays[0])):
        row = hashlib.blake2b(digest_size=8)
        for array in arrays:
            row.update(array[i].tobytes())
        found.append(int.from_bytes(row.digest(), "little"))
    return np.array(found, dtype=np.uint64)


def _numpy(tensor: Tensor) -> Array:
    tensor = tensor.detach().cpu()
    return (
        tensor.float() if tensor.dtype.is_floating_point and tensor.element_size() < 4 else tensor
    ).numpy()
