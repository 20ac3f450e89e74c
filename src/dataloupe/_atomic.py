"""Files that appear whole or not at all: a temporary file in the same folder, flushed, renamed."""

import contextlib
import hashlib
import itertools
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NUMBERS = itertools.count()
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write, which takes its place when the block ends well.

    The file is flushed to the disk before it is renamed, and its folder after. An error in the block, or of the
    system, comes out as it is, and leaves the old file and no new one. What writers left that were killed is removed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text(), len(list(Path(folder).iterdir()))
    ('whole', 1)
    """
    remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}-{next(_NUMBERS)}.part")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        with contextlib.suppress(OSError):  # what went wrong first is what is told
            temporary.unlink(missing_ok=True)


def write_json(path: Path, contents: Any) -> None:
    """Replace a file by JSON in one line, whole or not at all. Errors of the system come out as they are."""
    text = json.dumps(contents, ensure_ascii=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of this path whose writers, on this machine, are gone."""
    pattern = re.compile(re.escape(f".{path.name}.{_HOST}-") + r"(\d+)-\d+\.part")
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:  # the write says what is wrong with the folder
        return
    for match in filter(None, map(pattern.fullmatch, names)):
        if not _is_alive(int(match[1])):
            with contextlib.suppress(OSError):
                path.with_name(match[0]).unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
