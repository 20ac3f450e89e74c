"""The store: immutable units and facts, found by name, verified whenever they are read."""

import hashlib
import json
import re

import numpy as np
from jaxtyping import Shaped

from dataloupe._errors import BadInput, StoreError
from dataloupe._typing import Array, Facts
from dataloupe.store._files import PART, Files, explained
from dataloupe.store._format import (
    Damaged,
    facts_bytes,
    facts_text,
    read_facts,
    read_unit,
    unit_parts,
)

LAYOUT = 1
_LAYOUT_FILE = "dataloupe.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,199}")
_SYSTEM_FILES = ("Thumbs.db", "desktop.ini", "Icon\r")
"""What file managers leave in folders, besides names that begin with a dot."""
_LIVE = ("times", "progress")
"""Facts files whose names begin so tell of one run, not of answers: they are left out of :meth:`digest`."""


class FileStore:
    """Units and facts in files, wherever those lie.

    ``<folder>/units/<name>.safetensors`` are the units, ``<folder>/<name>.json`` the facts. Opening never
    writes; ``dataloupe.json`` tells the layout and is published with the first write.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._check_layout()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._files.where('')!r})"

    @property
    def exists(self) -> bool:
        """Whether something was ever written here."""
        with explained("to open", self._files.where("")):
            return self._layout() is not None

    def write(self, folder: str, name: str, arrays: dict[str, Array], facts: Facts) -> None:
        """Publish a unit, whole or not at all. Writing a unit that is there already changes nothing.

        Raises ``BadInput`` dl-600 (name), dl-601 (array), dl-602 (facts); ``StoreError`` dl-603 (the one
        there is damaged), dl-604 (the one there is another), dl-605 to dl-607 (disk).
        """
        path, unit = _unit_path(folder, name), f"{folder}/{name}"
        parts = unit_parts(unit, arrays, facts)
        there = self._read(path)
        if there is None:
            self._publish(path, parts)
            return
        old_arrays, old_facts = self._verified(path, there)
        if not there.startswith(parts[0]):  # the header holds the digest of all the rest
            raise StoreError(
                "dl-604",
                asked=f"to write the unit {unit}",
                found=f"{self._files.where(path)}, which holds {_difference(old_arrays, old_facts, arrays, facts)}",
                do="units never change: write it under another name, or find out why the same key gave two answers",
            )

    def read(self, folder: str, name: str) -> tuple[dict[str, Shaped[np.ndarray, "..."]], Facts] | None:
        """A unit, its checksum verified; None if there is none.

        Raises ``StoreError`` dl-603 if the file is damaged, edited or another's.
        """
        path = _unit_path(folder, name)
        there = self._read(path)
        return None if there is None else self._verified(path, there)

    def write_facts(self, folder: str, name: str, facts: Facts) -> None:
        """Publish a JSON file, whole or not at all, in place of one of that name.

        Raises ``BadInput`` dl-600 (name), dl-602 (facts); ``StoreError`` dl-605 to dl-607 (disk).
        """
        path = _facts_path(folder, name)
        self._publish(path, [facts_bytes(path, facts)])

    def read_facts(self, folder: str, name: str) -> Facts | None:
        """A JSON file, or None. Raises ``StoreError`` dl-610 if it is damaged or edited."""
        path = _facts_path(folder, name)
        there = self._read(path)
        return None if there is None else self._verified_facts(path, there)

    def units(self, folder: str) -> list[str]:
        """The names of the units in a folder, sorted."""
        _check_name(folder, "folder")
        with explained("to list", self._files.where(f"{folder}/units")):
            names = self._files.names(f"{folder}/units")
        return sorted(
            name.removesuffix(".safetensors") for name in names if _is_unit(f"{folder}/units/{name}")
        )

    def folders(self) -> list[str]:
        """All folders that hold a unit or facts, sorted."""
        found = {path.rpartition("/")[0].removesuffix("/units") for path in self._paths()}
        return sorted(found - {""})

    def digest(self) -> dict[str, str]:
        """The SHA-256 of every file that decides answers: units, facts and layout, but no times or progress."""
        return {
            path: hashlib.sha256(data).hexdigest()
            for path in self._paths()
            if not path.rpartition("/")[2].startswith(_LIVE) or _is_unit(path)
            if (data := self._read(path)) is not None
        }

    def leftovers(self) -> list[str]:
        """Files of writes that never ended, as whole paths. Nobody reads them; they can be removed."""
        return [self._files.where(path) for path in self._walk() if path.rpartition("/")[2].startswith(PART)]

    def strangers(self) -> list[str]:
        """Files that no store names so (copies and remains of other programs), as whole paths. Nobody reads them."""
        return [
            self._files.where(path)
            for path in self._walk()
            if not (_is_unit(path) or _is_facts(path)) and not path.rpartition("/")[2].startswith(PART)
        ]

    def damaged(self) -> list[StoreError]:
        """Every file that a reader would refuse, as the error it would get; reads the whole store."""
        found = []
        for path in self._paths():
            try:
                data = self._read(path)
                if data is None or path == _LAYOUT_FILE:
                    continue
                (self._verified if _is_unit(path) else self._verified_facts)(path, data)
            except StoreError as error:
                found.append(error)
        return found

    def _verified(self, path: str, data: bytearray) -> tuple[dict[str, Array], Facts]:
        folder, _, name = path.rpartition("/units/")
        try:
            return read_unit(f"{folder}/{name.removesuffix('.safetensors')}", data)
        except Damaged as damage:
            raise self._refused(path, damage) from damage

    def _verified_facts(self, path: str, data: bytearray) -> Facts:
        try:
            return read_facts(path, data)
        except Damaged as damage:
            raise self._refused(path, damage) from damage

    def _refused(self, path: str, damage: Damaged) -> StoreError:
        where, unit = self._files.where(path), _is_unit(path)
        name = (
            path.replace("/units/", "/").removesuffix(".safetensors") if unit else path.removesuffix(".json")
        )
        return StoreError(
            "dl-603" if unit else "dl-610",
            asked=f"the {'unit' if unit else 'facts'} {name}",
            found=f"a damaged or edited file {where}: {damage}",
            do=f"remove the file {where}: the rerun makes it again, bit for bit",
        )

    def _read(self, path: str) -> bytearray | None:
        try:
            with explained("to read", self._files.where(path)):
                return self._files.read(path)
        except Damaged as damage:
            raise self._refused(path, damage) from damage

    def _publish(self, path: str, parts: list) -> None:
        with explained("to write", self._files.where(path)):
            if self._layout() is None:
                self._files.publish(_LAYOUT_FILE, [json.dumps({"layout": LAYOUT}).encode() + b"\n"])
            self._files.publish(path, parts)

    def _walk(self) -> list[str]:
        with explained("to list", self._files.where("")):
            return sorted(self._files.walk())

    def _paths(self) -> list[str]:
        return [path for path in self._walk() if _is_unit(path) or _is_facts(path)]

    def _check_layout(self) -> None:
        where = self._files.where("")
        with explained("to open", where):
            data = self._layout()
            others = [] if data else [name for name in self._files.names("") if not _of_the_system(name)]
            if data is None and others:
                data = self._layout()  # another process may have made its first write between the two looks
        if data is None and others:
            raise StoreError(
                "dl-609",
                asked=f"a store in {where}",
                found=f"a folder of something else ({len(others)} entries, such as {min(others)!r}) without {_LAYOUT_FILE}",
                do="name an empty or a new folder",
            )
        if data is None:
            return
        try:
            layout = json.loads(data)["layout"]
        except (ValueError, KeyError, TypeError, RecursionError):
            layout = None
        if layout != LAYOUT:
            raise StoreError(
                "dl-608",
                asked=f"a store of layout {LAYOUT} in {where}",
                found=f"{_LAYOUT_FILE} with layout {layout!r}"
                if layout is not None
                else f"a {_LAYOUT_FILE} without a layout",
                do="open it with the version of dataloupe that made it, or name another folder",
            )

    def _layout(self) -> bytearray | None:
        try:
            return self._files.read(_LAYOUT_FILE)
        except Damaged:
            return bytearray()


def _of_the_system(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_FILES


def _unit_path(folder: str, name: str) -> str:
    _check_name(folder, "folder")
    _check_name(name, "unit", parts=1)
    return f"{folder}/units/{name}.safetensors"


def _facts_path(folder: str, name: str) -> str:
    _check_name(folder, "folder")
    _check_name(name, "facts", parts=1)
    return f"{folder}/{name}.json"


def _is_unit(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return (
        folder.endswith("/units")
        and name.endswith(".safetensors")
        and _valid_name(folder.removesuffix("/units"))
        and _valid_name(name.removesuffix(".safetensors"), parts=1)
    )


def _is_facts(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    inside = _valid_name(folder) if folder else path == _LAYOUT_FILE
    return inside and name.endswith(".json") and _valid_name(name.removesuffix(".json"), parts=1)


def _valid_name(name: str, parts: int | None = None) -> bool:
    words = name.split("/")
    reserved = parts is None and any(word == "units" or word.endswith(".json") for word in words)
    return not reserved and len(words) <= (parts or 8) and all(_NAME.fullmatch(word) for word in words)


def _check_name(name: str, what: str, parts: int | None = None) -> None:
    if not isinstance(name, str) or not _valid_name(name, parts):
        raise BadInput(
            "dl-600",
            asked=f"the {what} {name!r}",
            found="a name that no store can take",
            do="use letters, digits and ._=+- (a folder may be a/b/c), not 'units' and no '.json' in a folder",
        )


def _difference(old_arrays: dict[str, Array], old: Facts, arrays: dict[str, Array], facts: Facts) -> str:
    both = old_arrays.keys() & arrays.keys()
    names = {name for name in both if not _same(old_arrays[name], arrays[name])}
    known = old.keys() & facts.keys()
    keys = {key for key in known if facts_text({key: old[key]}) != facts_text({key: facts[key]})}
    unlike = {
        "arrays": names | (old_arrays.keys() ^ arrays.keys()),
        "facts": keys | (old.keys() ^ facts.keys()),
    }
    return " and ".join(f"other {what} ({', '.join(sorted(them))})" for what, them in unlike.items() if them)


def _same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
