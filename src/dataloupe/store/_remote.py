"""A store at a URL: object stores, whose single PUT of a file is atomic."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec.core

from dataloupe._errors import StoreError
from dataloupe.store._files import SMALL_BYTES
from dataloupe.store._format import check_size
from dataloupe.store._local import LocalStore, path_text
from dataloupe.store._store import FileStore


class RemoteStore(FileStore):
    """A store below a URL of fsspec (``s3://``, ``gs://``, ``az://``, ``memory://``), one PUT per file.

    Whether a PUT is atomic is the place's promise: object stores keep it, ``sftp://`` does not.
    Raises ``StoreError`` dl-611 (no such kind of URL here), dl-608 (unknown layout), dl-609 (something else).

    >>> store = RemoteStore("memory://doctest/lab")
    >>> store.write_facts("runs/a", "recipe", {"count": 3})
    >>> store.read_facts("runs/a", "recipe")
    {'count': 3}
    """

    def __init__(self, url: str) -> None:
        self.url = path_text(url).rstrip("/")
        super().__init__(RemoteFiles(self.url))


class RemoteFiles:
    """The files below a URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._system, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise StoreError(
                "dl-611",
                asked=f"a store at {url}",
                found=str(error),
                do="install the package that fsspec names for this kind of URL, or correct the URL",
            ) from error
        self._root = root.rstrip("/")

    def where(self, path: str) -> str:
        """The whole URL."""
        return f"{self._url}/{path}" if path else self._url

    def read(self, path: str) -> bytearray | None:
        """All bytes, or None; the size of a large file is checked first."""
        address = f"{self._root}/{path}"
        try:
            data = bytearray(self._piece(address, 0, SMALL_BYTES + 1))
            if len(data) > SMALL_BYTES:
                check_size(
                    path, self._system.size(address), lambda start, stop: self._piece(address, start, stop)
                )
                data += self._system.cat_file(address, start=len(data))
        except FileNotFoundError:
            return None
        return data

    def _piece(self, address: str, start: int, stop: int) -> bytes:
        found: bytes = self._system.cat_file(address, start=start, end=stop)
        return found

    def names(self, folder: str) -> list[str]:
        """The names in a folder."""
        try:
            found = self._system.ls(f"{self._root}/{folder}".rstrip("/"), detail=False)
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rpartition("/")[2] for path in found]

    def walk(self) -> list[str]:
        """All files below."""
        return [path.removeprefix(f"{self._root}/") for path in self._system.find(self._root)]

    def publish(self, path: str, parts: Sequence[Any]) -> None:
        """One PUT."""
        self._system.pipe_file(f"{self._root}/{path}", b"".join(parts))


def open_store(where: str | Path) -> FileStore:
    """The store in a folder or at a URL; opening it writes nothing.

    >>> import tempfile
    >>> type(open_store(tempfile.mkdtemp())).__name__, type(open_store("memory://lab")).__name__
    ('LocalStore', 'RemoteStore')
    """
    text = path_text(where)
    scheme, mark, path = text.partition("://")
    if isinstance(where, Path) or not mark:
        return LocalStore(where)
    return LocalStore(path) if scheme in ("file", "local") else RemoteStore(text)
