"""The contract suite for stores: inherit, give a store and its raw files, and let pytest run the rest.

::

    class TestMyStore(StoreContract):
        def make(self, tmp_path):
            return MyStore(tmp_path / "lab")

        def files(self, store): ...      # path -> bytes, read past the store
        def overwrite(self, store, path, data): ...
"""

import abc
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dataloupe._errors import BadInput, DataloupeError, StoreError
from dataloupe._typing import Array, Facts
from dataloupe.core import Store
from dataloupe.testing._contracts import must

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64"]


class StoreContract(abc.ABC):
    """What every store keeps to: whole or not at all, immutable, verified, found again."""

    @abc.abstractmethod
    def make(self, tmp_path: Path) -> Any:
        """A store in a place that belongs to ``tmp_path``; a second call opens the same place again."""

    @abc.abstractmethod
    def files(self, store: Any) -> dict[str, bytes]:
        """All files of the store, read past it."""

    @abc.abstractmethod
    def overwrite(self, store: Any, path: str, data: bytes) -> None:
        """Other bytes in a file of the store, written past it."""

    def arrays(self) -> dict[str, Array]:
        """Arrays of every type, of no rows, of no axes, and not contiguous."""
        every = {dtype: np.arange(6).reshape(2, 3).astype(dtype) for dtype in DTYPES}
        return {**every, "empty": np.zeros((0, 3)), "scalar": np.array(2.5), "turned": np.arange(6.0)[::-2]}

    def facts(self) -> Facts:
        """Facts of every kind."""
        return {
            "seed": 1,
            "rate": 0.1,
            "name": "é",
            "none": None,
            "list": [1, [True]],
            "inner": {"b": 1, "a": 2},
        }

    def test_is_a_store(self, tmp_path: Path) -> None:
        """It has every method of the protocol."""
        must(isinstance(self.make(tmp_path), Store), "a store satisfies dataloupe.core.Store")

    def test_opening_writes_nothing(self, tmp_path: Path) -> None:
        """Opening and looking leave no trace."""
        store = self.make(tmp_path)
        found = (store.read("a", "0"), store.read_facts("a", "b"), store.units("a"), store.folders())
        must(found == (None, None, [], []), "an empty store has nothing to read")
        must(self.files(store) == {}, "opening and reading write no file")

    def test_units_come_back(self, tmp_path: Path) -> None:
        """What is written is read, here and by a store opened later, bit for bit, and may be changed in memory."""
        self.make(tmp_path).write("runs/a", "0000", self.arrays(), self.facts())
        found = self.make(tmp_path).read("runs/a", "0000")
        must(found is not None, "a written unit is there")
        arrays, facts = found
        must(arrays.keys() == self.arrays().keys(), "every array comes back")
        for name, array in self.arrays().items():
            same = arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
            must(same and np.array_equal(arrays[name], array), f"the array {name} comes back as it was")
            must(arrays[name].flags.writeable, "arrays in memory belong to the reader")
        must(facts == self.facts(), "facts come back as they were")

    def test_facts_come_back_and_are_replaced(self, tmp_path: Path) -> None:
        """The last facts of a name count."""
        store = self.make(tmp_path)
        store.write_facts("runs/a", "recipe", {"old": 1})
        store.write_facts("runs/a", "recipe", self.facts())
        must(
            self.make(tmp_path).read_facts("runs/a", "recipe") == self.facts(), "facts come back as they were"
        )

    def test_lists_are_sorted_and_exact(self, tmp_path: Path) -> None:
        """Units and folders are listed by name."""
        store = self.make(tmp_path)
        for folder, name in [("b", "2"), ("b", "10"), ("a/x", "1")]:
            store.write(folder, name, {}, {})
        store.write_facts("c", "only", {})
        must(store.units("b") == ["10", "2"], "units are sorted by name")
        must(store.units("a") == store.units("c") == [], "facts and inner folders are no units")
        must(store.folders() == ["a/x", "b", "c"], "folders are those that hold something")

    def test_the_same_again_changes_nothing(self, tmp_path: Path) -> None:
        """Writing twice is writing once, and the bytes depend on the contents only."""
        store, other = self.make(tmp_path / "one"), self.make(tmp_path / "two")
        store.write("a", "0", self.arrays(), self.facts())
        before = self.files(store)
        store.write("a", "0", self.arrays(), self.facts())
        turned = (dict(reversed(self.arrays().items())), dict(reversed(self.facts().items())))
        other.write("a", "0", *turned)
        must(self.files(store) == before, "writing a unit again changes no file")
        must(self.files(other) == before, "the same contents give the same bytes in any order")

    def test_units_never_change(self, tmp_path: Path) -> None:
        """Other contents under the same name are refused, and the old ones stay."""
        store = self.make(tmp_path)
        store.write("a", "0", {"x": np.arange(3)}, {"seed": 1})
        before = self.files(store)
        with refused(StoreError, "dl-604", "x"):
            store.write("a", "0", {"x": np.arange(3) + 1}, {"seed": 1})
        with refused(StoreError, "dl-604", "seed"):
            store.write("a", "0", {"x": np.arange(3)}, {"seed": 2})
        must(self.files(store) == before, "a refused write changes no file")

    def test_damage_is_found(self, tmp_path: Path) -> None:
        """A file with one other bit anywhere, cut anywhere, or with more at its end is refused, by name."""
        store = self.make(tmp_path)
        store.write("a", "0", {"x": np.arange(3, dtype=np.int16), "y": np.ones(2)}, {"seed": 1})
        store.write_facts("a", "recipe", {"count": 3})
        for path, data in self.files(store).items():
            if path == "dataloupe.json":
                continue
            cut = [data[:end] for end in range(0, len(data), 7)]
            flipped = [_flip(data, at) for at in range(len(data))]
            for wrong in [*cut, *flipped, data + b" "]:
                self.overwrite(store, path, wrong)
                with refused(StoreError, "remove the file", path.rpartition("/")[2]):
                    _read_path(store, path)
            self.overwrite(store, path, data)
            must(_read_path(store, path) is not None, "the right bytes are read again")

    def test_a_file_under_another_name_is_found(self, tmp_path: Path) -> None:
        """A unit is what its name says."""
        store = self.make(tmp_path)
        for name in ("0", "1"):
            store.write("a", name, {"x": np.arange(3)}, {})
            store.write_facts("a", f"f{name}", {"x": 1})
        files = self.files(store)
        self.overwrite(store, "a/units/1.safetensors", files["a/units/0.safetensors"])
        self.overwrite(store, "a/f1.json", files["a/f0.json"])
        with refused(StoreError, "dl-603", "'a/0'"):
            store.read("a", "1")
        with refused(StoreError, "dl-610"):
            store.read_facts("a", "f1")

    def test_a_damaged_unit_is_not_written_over(self, tmp_path: Path) -> None:
        """Nothing is repaired in silence."""
        store = self.make(tmp_path)
        store.write("a", "0", {"x": np.arange(3)}, {})
        self.overwrite(store, "a/units/0.safetensors", b"edited")
        with refused(StoreError, "dl-603"):
            store.write("a", "0", {"x": np.arange(3)}, {})
        must(self.files(store)["a/units/0.safetensors"] == b"edited", "a damaged file is left for its owner")

    def test_what_cannot_be_meant_is_refused(self, tmp_path: Path) -> None:
        """Names, arrays and facts that no store can take, before anything is written."""
        store = self.make(tmp_path)
        for name in ("", "..", "a/b", ".part-1", "x y", "a\n"):
            with refused(BadInput, "dl-600"):
                store.write("a", name, {}, {})
        for folder in ("", "../a", "/a", "a//b", "a/units", "b.json/c"):
            with refused(BadInput, "dl-600"):
                store.write_facts(folder, "x", {})
        for array in (np.zeros(2, complex), np.array(["a"]), np.array([None])):
            with refused(BadInput, "dl-601", "'x'"):
                store.write("a", "0", {"x": array}, {})
        for facts in ({"x": float("nan")}, {"x": np.int64(1)}, {"x": {1: 2}}, {"x": [{None: 2}]}):
            with refused(BadInput, "dl-602"):
                store.write("a", "0", {}, facts)
            with refused(BadInput, "dl-602"):
                store.write_facts("a", "x", facts)
        must(self.files(store) == {}, "a refused write leaves no file")

    def test_an_unknown_layout_is_refused(self, tmp_path: Path) -> None:
        """A store of the future, or one whose layout file is damaged, is not touched."""
        store = self.make(tmp_path)
        store.write("a", "0", {}, {})
        for wrong in (b'{"layout": 99}', b"{", b"[]", b""):
            self.overwrite(store, "dataloupe.json", wrong)
            with refused(StoreError, "dl-608"):
                self.make(tmp_path)

    def test_a_folder_of_something_else_is_refused(self, tmp_path: Path) -> None:
        """Only an empty place becomes a store."""
        self.overwrite(self.make(tmp_path), "thesis.tex", b"years of work")
        with refused(StoreError, "dl-609", "thesis.tex"):
            self.make(tmp_path)

    def test_leftovers_are_seen_by_nobody_but_the_doctor(self, tmp_path: Path) -> None:
        """Files of writes that never ended are no units, and are told of."""
        store = self.make(tmp_path)
        self.overwrite(store, ".part-1", b"half")
        store = self.make(tmp_path)
        store.write("a", "0", {}, {})
        digest = store.digest()
        self.overwrite(store, "a/units/.part-2", b"half")
        must(store.units("a") == ["0"] and store.folders() == ["a"], "readers do not see leftovers")
        must(store.digest() == digest and store.damaged() == [], "leftovers are part of no answer")
        must(
            [path.rpartition("/")[2] for path in store.leftovers()] == [".part-1", ".part-2"],
            "they are told of",
        )

    def test_the_digest_tells_answers_apart(self, tmp_path: Path) -> None:
        """Equal stores have equal digests; times and progress do not count, all else does."""
        one, two = self.make(tmp_path / "one"), self.make(tmp_path / "two")
        for seconds, store in enumerate((one, two)):
            store.write("a", "times", {"x": np.arange(3)}, {})
            store.write_facts("a", "recipe", {"count": 3})
            store.write_facts("a", "times-0", {"seconds": seconds})
            store.write_facts("a", "progress", {"done": seconds})
        must(one.digest() == two.digest(), "times and progress are no part of the digest")
        files = {"a/recipe.json", "a/units/times.safetensors", "dataloupe.json"}
        must(set(one.digest()) == files, "units, facts and the layout are")
        two.write_facts("a", "recipe", {"count": 4})
        must(one.digest() != two.digest(), "other facts give another digest")

    def test_the_doctor_finds_all_damage(self, tmp_path: Path) -> None:
        """Every damaged file is named, and no other."""
        store = self.make(tmp_path)
        for name in ("0", "1"):
            store.write("a", name, {"x": np.arange(3)}, {})
            store.write_facts("a", f"f{name}", {"x": 1})
        must(store.damaged() == [], "a whole store has no damage")
        self.overwrite(store, "a/units/1.safetensors", b"")
        self.overwrite(store, "a/f0.json", b"{}")
        found = " ".join(str(error) for error in store.damaged())
        must("f0.json" in found and "1.safetensors" in found, "every damaged file is named")
        must(len(store.damaged()) == 2, "no whole file is named")


@contextlib.contextmanager
def refused(error: type[DataloupeError], *words: str) -> Iterator[None]:
    """A block that must raise this error, whose message holds these words."""
    try:
        yield
    except error as told:
        missing = [word for word in words if word not in str(told)]
        must(not missing, f"the message {told!s} says {missing}")
    else:
        must(False, f"{error.__name__} {words} is raised")


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _read_path(store: Any, path: str) -> Any:
    folder, _, name = path.rpartition("/")
    if name.endswith(".json"):
        return store.read_facts(folder, name.removesuffix(".json"))
    return store.read(folder.removesuffix("/units"), name.removesuffix(".safetensors"))
