"""Files of results appear whole or not at all, wherever they are written."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError

from dataloupe import _atomic as atomic
from dataloupe._atomic import replacing, write_json
from dataloupe._errors import StoreError
from dataloupe.cli._forget import write_result
from dataloupe.core import DenseAttribution, Info
from dataloupe.formats import _export as export_module
from dataloupe.formats import export

DEAD = int(
    subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True).stdout
)
ATTRIBUTION = DenseAttribution(np.arange(6.0).reshape(2, 3), Info("by hand"))


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_flushed_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append("fsync") or fsync(handle))
    monkeypatch.setattr(Path, "replace", lambda self, to: calls.append("rename") or replace(self, to))
    write_json(tmp_path / "a.json", {"x": "é"})
    assert calls == ["fsync", "rename", "fsync"]
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{"x": "é"}\n'


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError, OSError])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path, fault: type[BaseException]) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(fault), replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise fault
    assert names(tmp_path) == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == 1


def test_what_killed_writers_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Of this file, of writers of this machine that are gone; of no other."""
    here = atomic._HOST
    stay = [
        f".a.json.{here}-{os.getppid()}-0.part",
        f".b.json.{here}-{DEAD}-0.part",
        f".a.json.00000000-{DEAD}-0.part",
    ]
    for name in (*stay, f".a.json.{here}-{DEAD}-0.part"):
        (tmp_path / name).write_text("half")
    write_json(tmp_path / "a.json", 1)
    assert names(tmp_path) == sorted([*stay, "a.json"])


def test_a_full_disk_is_a_named_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_result(tmp_path / "forget.json", {"ids": [1]})
    export(ATTRIBUTION, tmp_path / "a.safetensors")
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"dl-617.*forget\.json.*No space left.*free some space"):
        write_result(tmp_path / "forget.json", {"ids": [2]})
    for name in ("a.safetensors", "a.npz"):
        with pytest.raises(StoreError, match="dl-876.*No space left"):
            export(ATTRIBUTION, tmp_path / name)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_the_library_that_writes_tensors_has_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a full disk it says ``SafetensorError``, which is no error of the system."""

    def no_room(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: No space left on device (os error 28)")

    monkeypatch.setattr(export_module, "save_file", no_room)
    with pytest.raises(StoreError, match=r"dl-876.*No space left"):
        export(ATTRIBUTION, tmp_path / "a.safetensors")
    assert names(tmp_path) == []
