"""The bytes of a unit and of a facts file: pure functions of their contents, in both directions.

A unit is a safetensors file that any safetensors library reads. It is written here, because the library puts
the entries of its metadata in random order and the same contents would give other bytes each time.

A file is verified by making its header anew from what was read: every bit that differs shows.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dataloupe._errors import BadInput
from dataloupe._typing import Array, Facts

_CODES = {
    "b1": "BOOL",
    **{f"u{size}": f"U{8 * size}" for size in (1, 2, 4, 8)},
    **{f"i{size}": f"I{8 * size}" for size in (1, 2, 4, 8)},
    **{f"f{size}": f"F{8 * size}" for size in (2, 4, 8)},
}
_DTYPES = {code: np.dtype(f"<{short}") for short, code in _CODES.items()}
_META = "__metadata__"
MAX_HEADER_BYTES = 100_000_000
"""As in the safetensors library: a longer header is a mistake or an attack."""
MAX_FACTS_BYTES = 1 << 30


class Damaged(Exception):  # noqa: N818  (reads as a sentence where it is raised)
    """A file is not what was written; says how that shows. Never leaves the room."""


def unit_parts(unit: str, arrays: dict[str, Array], facts: Facts) -> list[Any]:
    """The file of a unit: its header, then the bytes of the arrays, the widest types first.

    Raises ``BadInput`` dl-601 (an array that safetensors cannot hold), dl-602 (facts that JSON cannot hold).
    """
    ready = {name: _storable(name, array) for name, array in arrays.items()}
    ready = dict(sorted(ready.items(), key=lambda item: (-item[1].itemsize, item[0])))
    return [_header(unit, ready, facts_text(facts)), *map(_bytes, ready.values())]


def read_unit(unit: str, data: bytearray) -> tuple[dict[str, Array], Facts]:
    """The arrays (views of ``data``) and facts of a unit's file; :class:`Damaged` unless every bit is right."""
    size = int.from_bytes(data[:8], "little")
    try:
        entries = json.loads(data[8 : 8 + size])
        meta = entries.pop(_META)
        end = max([8 + size, *(8 + size + entry["data_offsets"][1] for entry in entries.values())])
        if end != len(data):
            raise Damaged(f"{len(data)} bytes where its header tells of {end}")
        arrays = {
            name: np.ndarray(
                entry["shape"], _DTYPES[entry["dtype"]], data, 8 + size + entry["data_offsets"][0]
            )
            for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"])
        }
        facts = json.loads(meta["facts"])
        written = (meta["unit"], meta["facts"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise Damaged(f"{len(data)} bytes whose header cannot be read") from error
    if written[0] != unit:
        raise Damaged(f"the unit {written[0]!r} under another name")
    if bytes(data[: 8 + size]) != _header(unit, arrays, written[1]):
        raise Damaged("contents that do not match their checksum")
    return arrays, facts


def check_size(path: str, size: int, piece: Callable[[int, int], bytes]) -> None:
    """Raise :class:`Damaged` if a file cannot be of ``size`` bytes; ``piece(start, stop)`` reads some of them."""
    (check_unit_size if path.endswith(".safetensors") else check_facts_size)(size, piece)


def check_unit_size(size: int, piece: Callable[[int, int], bytes]) -> None:
    """Hold the size of a unit's file against its header, before the rest is read; :class:`Damaged` if they differ."""
    header = int.from_bytes(piece(0, 8), "little")
    if header > min(size, MAX_HEADER_BYTES):
        raise Damaged(f"{size} bytes whose header claims {header}")
    try:
        entries = json.loads(piece(8, 8 + header))
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != _META]
        end = 8 + header + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise Damaged(f"{size} bytes whose header cannot be read") from error
    if end != size:
        raise Damaged(f"{size} bytes where its header tells of {end}")


def check_facts_size(size: int, _: Callable[[int, int], bytes]) -> None:
    """Facts are read whole, so they are limited; :class:`Damaged` above the limit."""
    if size > MAX_FACTS_BYTES:
        raise Damaged(f"{size} bytes, where facts have at most {MAX_FACTS_BYTES}")


def facts_bytes(path: str, facts: Facts) -> bytes:
    """The file of some facts: JSON that a person can read, with its checksum. Raises ``BadInput`` dl-602."""
    digest = hashlib.sha256(json.dumps([path, facts_text(facts)]).encode()).hexdigest()
    data = (json.dumps({"facts": facts, "sha256": digest}, indent=1, sort_keys=True) + "\n").encode()
    if len(data) > MAX_FACTS_BYTES:
        raise BadInput(
            "dl-602",
            asked=f"facts of at most {MAX_FACTS_BYTES:,} bytes",
            found=f"{len(data):,} bytes in {path}",
            do="store large contents as arrays of a unit",
        )
    return data


def read_facts(path: str, data: bytearray) -> Facts:
    """The facts of a file; :class:`Damaged` unless every bit is right."""
    try:
        facts = json.loads(data)["facts"]
        right = facts_bytes(path, facts)
    except (ValueError, KeyError, TypeError, BadInput, RecursionError) as error:
        raise Damaged(f"{len(data)} bytes that are not the JSON written there") from error
    if right != data:
        raise Damaged("contents that do not match their checksum, or another file's")
    return facts


def facts_text(facts: Facts) -> str:
    """Facts as canonical JSON. Raises ``BadInput`` dl-602.

    >>> facts_text({"b": 1, "a": [True, None]})
    '{"a":[true,null],"b":1}'
    """
    wrong = next((repr(key) for key in _keys(facts) if not isinstance(key, str)), None)
    try:
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        wrong, text = wrong or str(error), ""
    if wrong is not None:
        raise BadInput(
            "dl-602",
            asked="facts that JSON can hold",
            found=wrong if "JSON" in wrong else f"{wrong}, which JSON cannot hold",
            do="use plain Python numbers, text, lists and dicts with text keys; write None for NaN",
        )
    return text


def _header(unit: str, arrays: dict[str, Array], facts: str) -> bytes:
    entries, start = {}, 0
    for name, array in arrays.items():
        entries[name] = {
            "dtype": _CODES[f"{array.dtype.kind}{array.itemsize}"],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        start += array.nbytes
    digest = hashlib.sha256(json.dumps([unit, facts, entries], sort_keys=True).encode())
    for array in arrays.values():
        digest.update(_bytes(array))
    meta = {"facts": facts, "sha256": digest.hexdigest(), "unit": unit}
    text = json.dumps({_META: meta, **entries}, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _storable(name: str, array: Array) -> Array:
    if f"{array.dtype.kind}{array.itemsize}" not in _CODES or name == _META:
        raise BadInput(
            "dl-601",
            asked=f"to store the array {name!r}",
            found=f"the type {array.dtype}" if name != _META else "a name that the format keeps for itself",
            do=f"convert it (a complex array as two real ones) to one of {', '.join(_CODES.values())}",
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _keys(thing: Any) -> Iterator[Any]:
    if isinstance(thing, dict):
        yield from thing
        thing = list(thing.values())
    if isinstance(thing, list | tuple):
        for part in thing:
            yield from _keys(part)
