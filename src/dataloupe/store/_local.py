"""A store in a folder on disk: written beside, flushed, renamed."""
# Every call to the disk goes through `os`, one by one: the fault tests fail each of them.
# ruff: noqa: PTH102, PTH105, PTH108, PTH112, PTH118, PTH120, PTH208

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from dataloupe._errors import BadInput
from dataloupe.store._files import PART, SMALL_BYTES
from dataloupe.store._format import check_size
from dataloupe.store._store import FileStore


class LocalStore(FileStore):
    """A store in a folder. Killed at any instant, it holds whole files only.

    Raises ``StoreError`` dl-606 (a file, or not allowed), dl-608 (unknown layout), dl-609 (a folder of
    something else), ``BadInput`` dl-612 (no path). Opening writes nothing.

    >>> import numpy as np, tempfile
    >>> store = LocalStore(tempfile.mkdtemp())
    >>> store.write("runs/a", "0000", {"values": np.arange(3.0)}, {"seed": 1})
    >>> arrays, facts = store.read("runs/a", "0000")
    >>> arrays["values"].tolist(), facts, store.units("runs/a"), store.folders()
    ([0.0, 1.0, 2.0], {'seed': 1}, ['0000'], ['runs/a'])
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(path_text(root)).expanduser().absolute()
        super().__init__(LocalFiles(str(self.root)))


class LocalFiles:
    """The files below a folder."""

    def __init__(self, root: str) -> None:
        self._root = root

    def where(self, path: str) -> str:
        """The absolute path."""
        return os.path.join(self._root, *path.split("/")) if path else self._root

    def read(self, path: str) -> bytearray | None:
        """All bytes, or None; the size of a large file is checked first."""
        try:
            handle = os.open(self.where(path), os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not block
        except FileNotFoundError:
            return None
        try:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                raise OSError(errno.EISDIR, "not a regular file")
            size = facts.st_size
            if size > SMALL_BYTES:
                check_size(path, size, lambda start, stop: os.pread(handle, stop - start, start))
            data = bytearray(size)
            done = 0
            while done < len(data) and (got := os.readv(handle, [memoryview(data)[done:]])):
                done += got
            return data[:done] if done < len(data) else data
        finally:
            os.close(handle)

    def names(self, folder: str) -> list[str]:
        """The names in a folder."""
        try:
            return os.listdir(self.where(folder))
        except FileNotFoundError:
            return []

    def walk(self) -> list[str]:
        """All files below."""
        if not self.names(""):
            return []
        found = os.walk(self._root, onerror=_raise)
        return [
            os.path.relpath(os.path.join(folder, name), self._root).replace(os.sep, "/")
            for folder, _, names in found
            for name in names
        ]

    def publish(self, path: str, parts: Sequence[Any]) -> None:
        """Write a temporary sibling, flush it to the disk, rename it, flush the folder."""
        final = self.where(path)
        folder = os.path.dirname(final)
        _make_folder(folder)
        temporary = os.path.join(folder, f"{PART}{uuid.uuid4().hex}")
        try:
            _write_flushed(temporary, parts)
            os.replace(temporary, final)
        except BaseException:
            with contextlib.suppress(OSError):  # what went wrong first is what is told
                os.unlink(temporary)
            raise
        _flush_folder(folder)


def path_text(where: Any) -> str:
    """A path or URL as text. Raises ``BadInput`` dl-612 for anything else, or if it holds a NUL character."""
    text = fspath(where) if isinstance(where, str | PathLike) else where
    if not isinstance(text, str) or not text or "\0" in text:
        raise BadInput(
            "dl-612",
            asked=f"a store in {where!r}",
            found=("a NUL character in the path" if text else "no path")
            if isinstance(text, str)
            else f"a {type(where).__name__}",
            do='give a folder or a URL as text or pathlib.Path, such as "runs/fashion"',
        )
    return text


def _write_flushed(path: str, parts: Sequence[Any]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        for part in parts:
            rest = memoryview(part)
            while len(rest):
                rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_folder(folder: str) -> None:
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    _make_folder(parent)
    with contextlib.suppress(FileExistsError):  # another writer was quicker; a file in the way shows next
        os.mkdir(folder)
    _flush_folder(parent)


def _flush_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _raise(error: OSError) -> None:
    raise error
