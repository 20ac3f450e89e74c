"""What a store asks of the place where its files lie, and what goes wrong there, in words."""

import contextlib
import errno
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from dataloupe._errors import StoreError

PART = ".part-"
"""How the name of a file begins that is not published yet. Readers do not see it."""
SMALL_BYTES = 1 << 20
"""A file of at most so many bytes is read whole; of a larger one the size is checked first."""


@runtime_checkable
class Files(Protocol):
    """Files by relative path (``a/b/c.json``). Errors of the system come out as they are."""

    def where(self, path: str) -> str:
        """The whole path or address, for messages."""
        ...

    def read(self, path: str) -> bytearray | None:
        """All bytes of a file, or None if there is none; a file above ``SMALL_BYTES`` is checked before it is read."""
        ...

    def names(self, folder: str) -> list[str]:
        """The names that lie directly in a folder; none if there is no such folder."""
        ...

    def walk(self) -> list[str]:
        """The paths of all files."""
        ...

    def publish(self, path: str, parts: Sequence[Any]) -> None:
        """Make a file of these bytes, whole or not at all, in place of one of that name."""
        ...


@contextlib.contextmanager
def explained(asked: str, where: str) -> Iterator[None]:
    """Turn an error of the system into a ``StoreError`` of the same errno that says what to do.

    Raises ``StoreError`` dl-605 (full), dl-606 (not allowed, or a file in the way of a folder), dl-607 (other),
    dl-613 (a file that memory cannot hold).
    """
    try:
        yield
    except StoreError:
        raise
    except MemoryError as error:
        raise StoreError(
            "dl-613",
            asked=f"{asked} {where}",
            found="a file larger than the memory that is free",
            do="free memory; if you did not make this file, remove it: the rerun makes it again",
        ) from error
    except OSError as error:
        code, do = _advice(error)
        found = f"{error.strerror or error} ({errno.errorcode.get(error.errno or 0, 'no errno')})"
        told = StoreError(code, asked=f"{asked} {where}", found=found, do=do)
        told.errno = error.errno
        raise told from error


def _advice(error: OSError) -> tuple[str, str]:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "dl-605", (
            "free some space and run the same again: finished units are kept, and nothing was half written"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "dl-606", "choose a folder that you may read and write, or change its permissions"
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return "dl-606", "a file lies where a folder is needed (or the other way round): choose another path"
    return "dl-607", "look at the disk or the connection, then run the same again: finished units are kept"
