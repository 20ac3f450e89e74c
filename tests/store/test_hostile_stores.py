"""Stores that others left in disorder, or made to harm: named errors, before memory is taken."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataloupe._errors import BadInput, StoreError
from dataloupe.lab import Lab
from dataloupe.store import LocalStore, RemoteStore, open_store
from dataloupe.store import _format as store_format
from dataloupe.store._local import LocalFiles


def small_store(root: Path) -> LocalStore:
    store = LocalStore(root)
    store.write("a", "0", {"x": np.arange(3)}, {"seed": 1})
    store.write_facts("a", "recipe", {"count": 3})
    return store


def test_another_process_may_open_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first write lands between the look for a layout and the list of what is there."""
    read = LocalFiles.read

    def slow(self: LocalFiles, path: str) -> bytearray | None:
        found = read(self, path)
        if found is None and path == "dataloupe.json":
            monkeypatch.setattr(LocalFiles, "read", read)
            small_store(tmp_path)
        return found

    monkeypatch.setattr(LocalFiles, "read", slow)
    assert open_store(tmp_path).units("a") == ["0"]


@pytest.mark.parametrize("path", ["a/units/0.safetensors", "a/recipe.json", "dataloupe.json"])
def test_a_sparse_file_of_a_terabyte_is_refused_before_it_is_read(tmp_path: Path, path: str) -> None:
    store = small_store(tmp_path)
    os.truncate(tmp_path / path, 1 << 40)
    if path == "dataloupe.json":
        with pytest.raises(StoreError, match=r"dl-608.*dataloupe\.json"):
            LocalStore(tmp_path)
        return
    code = "dl-603" if path.endswith("safetensors") else "dl-610"
    with pytest.raises(StoreError, match=rf"{code}.*1099511627776 bytes.*remove the file"):
        store.read("a", "0") if code == "dl-603" else store.read_facts("a", "recipe")
    assert [error.code for error in store.damaged()] == [code]


@pytest.mark.parametrize(
    "header", [b"", b"{}", b"[]", b'{"x":{"data_offsets":[0]}}', b'{"x":7}', b"[" * 100_000, None]
)
def test_a_large_file_of_another_header_is_refused_before_it_is_read(
    tmp_path: Path, header: bytes | None
) -> None:
    store = small_store(tmp_path)
    path = tmp_path / "a/units/0.safetensors"
    path.write_bytes((1 << 63 if header is None else len(header)).to_bytes(8, "little") + (header or b""))
    os.truncate(path, 1 << 40)
    with pytest.raises(StoreError, match=r"dl-603.*1099511627776 bytes"):
        store.read("a", "0")


def test_a_file_larger_than_memory_is_refused_by_name(tmp_path: Path) -> None:
    """Its header fits its size."""
    store = small_store(tmp_path)
    path, size = tmp_path / "a/units/0.safetensors", 1 << 50
    header = b'{"x":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (size, size)
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    try:
        os.truncate(path, 8 + len(header) + size)
    except OSError:  # a file system of smaller files: the next larger than any memory
        size = 1 << 43
        header = b'{"x":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (size, size)
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        os.truncate(path, 8 + len(header) + size)
    with pytest.raises(StoreError, match=r"dl-613.*larger than the memory"):
        store.read("a", "0")


@pytest.mark.parametrize("make", [lambda tmp: LocalStore(tmp), lambda tmp: RemoteStore(f"memory://{tmp}/x")])
def test_large_units_come_back(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    store = make(tmp_path)
    array = np.arange(400_000, dtype=np.float64)
    store.write("a", "0", {"x": array}, {"seed": 1})
    found = store.read("a", "0")
    assert np.array_equal(found[0]["x"], array)
    assert store.damaged() == []


def test_a_large_remote_file_of_another_size_is_refused(tmp_path: Path) -> None:
    store = RemoteStore(f"memory://{tmp_path}/cut")
    store.write("a", "0", {"x": np.arange(400_000.0)}, {})
    files: Any = store._files
    address = f"{files._root}/a/units/0.safetensors"
    files._system.pipe_file(address, files._system.cat_file(address)[:-8])
    with pytest.raises(StoreError, match=r"dl-603.*header tells of"):
        store.read("a", "0")


def test_facts_too_large_to_be_read_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_format, "MAX_FACTS_BYTES", 1000)
    with pytest.raises(BadInput, match=r"dl-602.*1,000 bytes.*arrays of a unit"):
        LocalStore(tmp_path).write_facts("a", "texts", {"texts": ["word"] * 1000})
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_in_place_of_a_unit_blocks_nobody(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    (tmp_path / "a/units/0.safetensors").unlink()
    os.mkfifo(tmp_path / "a/units/0.safetensors")
    with pytest.raises(StoreError, match=r"dl-606.*not a regular file"):
        store.read("a", "0")


COPIES = [
    "a/units/0 (copy).safetensors",
    "a/units/0 (conflicted copy 2026-01-01).safetensors",
    "a/units/~0.safetensors",
    "a/units/.DS_Store",
    "a/units/Thumbs.db",
    "a/recipe (1).json",
    "a (copy)/recipe.json",
    "a/.recipe.json.icloud",
    "desktop.ini",
]


def test_what_sync_programs_leave_is_ignored_and_listed(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    digest = store.digest()
    unit = (tmp_path / "a/units/0.safetensors").read_bytes()
    for path in COPIES:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(unit)
    store = LocalStore(tmp_path)
    assert (store.units("a"), store.folders(), store.digest()) == (["0"], ["a"], digest)
    assert store.damaged() == []
    assert sorted(store.strangers()) == sorted(str(tmp_path / path) for path in COPIES)


def test_a_folder_of_a_file_manager_becomes_a_store(tmp_path: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r"):
        (tmp_path / name).write_bytes(b"x")
    assert small_store(tmp_path).units("a") == ["0"]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("where", [None, 3, b"lab", "a\0b", Path("a\0b"), ["lab"], 1.5])
def test_what_is_no_path_is_refused_by_name(where: Any) -> None:
    for make in (open_store, LocalStore, RemoteStore, Lab):
        with pytest.raises(BadInput, match=r"dl-612.*(NUL character|found: a \w+)"):
            make(where)
