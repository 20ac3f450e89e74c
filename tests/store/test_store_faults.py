"""A run that dies, or whose disk fills, at any call to the system loses nothing and is finished by its rerun."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from _faults import Death, FaultyOS, disk_full

from dataloupe._errors import StoreError
from dataloupe.store import LocalStore
from dataloupe.store import _local as local


def run(root: Path) -> None:
    """A run of 12 writes, as a lab does them: what is there already is not made again."""
    store = LocalStore(root)
    for folder in ("outcomes/a", "outcomes/b"):
        if store.read_facts(folder, "recipe") is None:
            store.write_facts(folder, "recipe", {"folder": folder})
        for unit in range(4):
            if f"{unit:04d}" not in store.units(folder):
                store.write(folder, f"{unit:04d}", {"x": np.arange(10.0) * unit}, {"unit": unit})
        store.write_facts(folder, "times", {"seconds": 1.0})


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FaultyOS]]:
    def put(
        at: int | None = None, fault: Callable[[], BaseException] = Death, *, forever: bool = True
    ) -> FaultyOS:
        faulty = FaultyOS(at, fault, forever=forever)
        monkeypatch.setattr(local, "os", faulty)
        return faulty

    yield put
    monkeypatch.undo()


def undisturbed(tmp_path: Path, install: Callable[..., FaultyOS]) -> tuple[dict[str, str], int]:
    """The digest of a run that nothing happens to, and how many calls it makes."""
    counting = install()
    run(tmp_path / "undisturbed")
    calls = len(counting.calls)
    return LocalStore(tmp_path / "undisturbed").digest(), calls


def test_every_write_goes_in_the_order_that_survives_a_power_cut(
    tmp_path: Path, install: Callable[..., FaultyOS]
) -> None:
    store = LocalStore(tmp_path)
    store.write("a", "0", {}, {})
    counting = install()
    store.write("a", "1", {"x": np.arange(3)}, {})
    changes = [call for call in counting.calls if call in ("write", "fsync", "replace")]
    assert changes == ["write", "write", "fsync", "replace", "fsync"]


def test_killed_at_every_call_to_the_system(tmp_path: Path, install: Callable[..., FaultyOS]) -> None:
    right, calls = undisturbed(tmp_path, install)
    assert calls > 100
    for j in range(calls):
        root = tmp_path / f"killed-{j}"
        install(j, Death, forever=True)
        with pytest.raises(Death):
            run(root)
        install()
        survivor = LocalStore(root)
        assert survivor.damaged() == []
        assert survivor.digest().items() <= right.items()
        assert len(survivor.leftovers()) <= 1
        run(root)
        assert LocalStore(root).digest() == right


def test_the_disk_is_full_from_any_call_on(tmp_path: Path, install: Callable[..., FaultyOS]) -> None:
    """Everything that could take space fails from then on; removing the temporary file does not."""
    right, calls = undisturbed(tmp_path, install)
    for j in range(calls):
        root = tmp_path / f"full-{j}"
        faulty = install(j, disk_full, forever=False)
        with pytest.raises(StoreError, match="dl-605") as told:
            run(root)
        assert told.value.errno == errno.ENOSPC
        assert isinstance(told.value.__cause__, OSError)
        assert "free some space" in told.value.do
        assert str(root) in told.value.asked
        install()
        survivor = LocalStore(root)
        assert survivor.leftovers() == [], f"{faulty.calls[j]} left a file"
        assert survivor.digest().items() <= right.items()
        run(root)
        assert LocalStore(root).digest() == right


def test_a_device_that_is_really_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own ENOSPC: every temporary file is /dev/full."""
    store = LocalStore(tmp_path)
    store.write("a", "0", {}, {})
    before = store.digest()
    real = os.open

    def to_full(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            os.close(real(path, flags, mode))
            return real("/dev/full", os.O_WRONLY)
        return real(path, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", to_full)
        with pytest.raises(StoreError, match=r"dl-605.*No space left on device.*ENOSPC"):
            store.write("a", "1", {"x": np.arange(3)}, {})
    assert store.digest() == before
    assert store.leftovers() == []


def test_a_write_that_takes_a_few_bytes_at_a_time_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short writes and short reads are the system's right."""
    right = LocalStore(tmp_path / "right")
    right.write("a", "0", {"x": np.arange(100)}, {"seed": 1})
    write, readv = os.write, os.readv
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, data: write(handle, data[:7]))
        patch.setattr(os, "readv", lambda handle, buffers: readv(handle, [buffers[0][:7]]))
        store = LocalStore(tmp_path / "slow")
        store.write("a", "0", {"x": np.arange(100)}, {"seed": 1})
        found = store.read("a", "0")
    assert found is not None
    assert found[0]["x"].tolist() == list(range(100))
    assert store.digest() == right.digest()


def test_other_trouble_keeps_its_own_words(tmp_path: Path, install: Callable[..., FaultyOS]) -> None:
    store = LocalStore(tmp_path)
    install(0, lambda: OSError(errno.EIO, "Input/output error"))
    with pytest.raises(StoreError, match=r"dl-607.*Input/output error.*EIO.*look at the disk"):
        store.read("a", "0")


def test_ctrl_c_leaves_no_temporary_file(tmp_path: Path, install: Callable[..., FaultyOS]) -> None:
    store = LocalStore(tmp_path)
    store.write("a", "0", {}, {})
    counting = install()
    store.write("a", "1", {}, {})
    for j in range(counting.calls.index("open"), counting.calls.index("replace") + 1):
        install(j, KeyboardInterrupt, forever=False)
        with pytest.raises(KeyboardInterrupt):
            store.write("a", "2", {}, {})
        install()
        assert store.units("a") == ["0", "1"]
        assert store.leftovers() == []
