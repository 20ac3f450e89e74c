"""Both stores keep the contract; and what each has of its own."""

import errno
import os
import pickle
from pathlib import Path

import fsspec
import numpy as np
import pytest
from safetensors import safe_open

from dataloupe._errors import StoreError
from dataloupe.store import LocalStore, RemoteStore, open_store
from dataloupe.testing._store_contract import StoreContract


class TestLocalStore(StoreContract):
    def make(self, tmp_path: Path) -> LocalStore:
        return LocalStore(tmp_path / "lab")

    def files(self, store: LocalStore) -> dict[str, bytes]:
        found = (path for path in store.root.rglob("*") if path.is_file())
        return {path.relative_to(store.root).as_posix(): path.read_bytes() for path in found}

    def overwrite(self, store: LocalStore, path: str, data: bytes) -> None:
        (store.root / path).parent.mkdir(parents=True, exist_ok=True)
        (store.root / path).write_bytes(data)


class TestRemoteStore(StoreContract):
    def make(self, tmp_path: Path) -> RemoteStore:
        return RemoteStore(f"memory://{tmp_path}/lab")

    def files(self, store: RemoteStore) -> dict[str, bytes]:
        system, root = fsspec.core.url_to_fs(store.url)
        return {path.removeprefix(f"{root}/"): system.cat_file(path) for path in system.find(root)}

    def overwrite(self, store: RemoteStore, path: str, data: bytes) -> None:
        system, root = fsspec.core.url_to_fs(store.url)
        system.pipe_file(f"{root}/{path}", data)


def test_a_url_goes_to_its_store(tmp_path: Path) -> None:
    assert isinstance(open_store("memory://x"), RemoteStore)
    for where in (str(tmp_path), tmp_path, f"file://{tmp_path}"):
        store = open_store(where)
        assert isinstance(store, LocalStore)
        assert store.root == tmp_path


def test_both_stores_hold_the_same_bytes(tmp_path: Path) -> None:
    local, remote = LocalStore(tmp_path), RemoteStore(f"memory://{tmp_path}/same")
    for store in (local, remote):
        store.write("a", "0", {"x": np.arange(5)}, {"seed": 1})
        store.write_facts("a", "recipe", {"count": 1})
    assert local.digest() == remote.digest()
    assert len(local.digest()) == 3


def test_any_safetensors_library_reads_a_unit(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    contract = TestLocalStore()
    store.write("runs/a", "0", contract.arrays(), contract.facts())
    with safe_open(tmp_path / "runs/a/units/0.safetensors", "numpy") as file:
        assert file.metadata()["unit"] == "runs/a/0"
        assert set(file.keys()) == set(contract.arrays())
        for name, array in contract.arrays().items():
            read = file.get_tensor(name)
            assert read.dtype == array.dtype
            assert np.array_equal(read, array)


def test_big_endian_numbers_keep_their_values(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("a", "0", {"x": np.arange(4, dtype=">i4")}, {})
    store.write("a", "0", {"x": np.arange(4, dtype="<i4")}, {})  # the same unit
    found = store.read("a", "0")
    assert found is not None
    assert found[0]["x"].tolist() == [0, 1, 2, 3]


def test_an_edited_facts_file_is_refused_however_it_reads(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write_facts("a", "recipe", {"count": 3})
    path = tmp_path / "a" / "recipe.json"
    path.write_text(path.read_text().replace('"count": 3', '"count": 4'))
    with pytest.raises(StoreError, match=r"dl-610.*recipe\.json.*checksum.*remove the file"):
        store.read_facts("a", "recipe")


def test_a_header_that_asks_for_the_moon_is_refused(tmp_path: Path) -> None:
    """A hostile header: wrong types, negative or huge sizes, deep nesting."""
    store = LocalStore(tmp_path)
    store.write("a", "0", {}, {})
    path = tmp_path / "a/units/0.safetensors"
    meta = '"__metadata__":{"facts":"{}","sha256":"","unit":"a/0"}'
    entries = [
        '"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}',
        '"x":{"dtype":"F32","shape":[1000000000000000],"data_offsets":[0,0]}',
        '"x":{"dtype":"F32","shape":[0],"data_offsets":[-4,0]}',
        '"x":{"dtype":"F32","shape":"0","data_offsets":[0,0]}',
        '"x":{"dtype":"O","shape":[0],"data_offsets":[0,0]}',
        '"x":[]',
        '"x":' + "[" * 100_000,
    ]
    for header in [
        *(f"{{{meta},{entry}}}" for entry in entries),
        "[]",
        "7",
        '{"x":{}}',
        '{"__metadata__":{}}',
    ]:
        path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
        with pytest.raises(StoreError, match="dl-603"):
            store.read("a", "0")
    path.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(StoreError, match="dl-603"):
        store.read("a", "0")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lab").write_text("a file")
    with pytest.raises(StoreError, match=r"dl-606.*lab.*choose another path") as told:
        LocalStore(tmp_path / "lab")
    assert told.value.errno == errno.ENOTDIR
    assert isinstance(told.value.__cause__, NotADirectoryError)


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root no permission is missing: the system's answer is put in its mouth."""
    store = LocalStore(tmp_path)

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(StoreError, match=r"dl-606.*Permission denied.*may read and write"):
        store.write("a", "0", {}, {})


def test_an_unknown_kind_of_url_is_refused() -> None:
    with pytest.raises(StoreError, match=r"dl-611.*gopher"):
        open_store("gopher://lab")


def test_errors_and_stores_cross_process_borders(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("a", "0", {"x": np.arange(3)}, {})
    again = pickle.loads(pickle.dumps(store))
    assert again.digest() == store.digest()
    (tmp_path / "a/units/0.safetensors").write_bytes(b"")
    with pytest.raises(StoreError) as told:
        again.read("a", "0")
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)
