"""Question files: imported by path under a name that every worker makes the same way."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from dataloupe._errors import BadInput


class LoadedFile(NamedTuple):
    """A file that was imported by path: where it lies, and the SHA-256 of what it said then."""

    path: str
    digest: str


_PREFIX = "dataloupe_file_"
_LOADED: dict[str, LoadedFile] = {}


def load_module(path: str | Path) -> ModuleType:
    """The module in a ``.py`` file, imported once under a name of its own; workers import it likewise.

    The file's folder joins the end of ``sys.path``, so that it can import its neighbours. What the file itself
    raises comes out as it is. Raises ``BadInput`` dl-652 (no such file).

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "fashion.py"
    >>> _ = file.write_text("question = 42")
    >>> load_module(file).question, load_module(file) is load_module(file)
    (42, True)
    """
    file = Path(path).expanduser().resolve()
    name = f"{_PREFIX}{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file) if file.is_file() else None
    if spec is None or spec.loader is None:
        raise BadInput(
            "dl-652",
            asked=f"the Python file {path}",
            found="a file that is no .py file" if file.is_file() else f"no file at {file}",
            do="name a .py file, such as fashion.py:question",
        )
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    digest = _digest(file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _LOADED[name] = LoadedFile(str(file), digest)
    return module


def is_half_imported(name: str) -> bool:
    """Whether a module is a question file whose import has not ended: a worker would run its work once more."""
    return name.startswith(_PREFIX) and name in sys.modules and name not in _LOADED


def loaded_files() -> list[LoadedFile]:
    """The files imported so far, in order: what a worker must import before it can read its work."""
    return list(_LOADED.values())


def load_again(files: list[LoadedFile]) -> None:
    """Import in a worker what its parent had imported. Raises ``BadInput`` dl-653 (a file has changed since)."""
    for file in files:
        if not Path(file.path).is_file() or _digest(Path(file.path)) != file.digest:
            raise BadInput(
                "dl-653",
                asked=f"the file {file.path} as it was when this run began",
                found="that it was changed or removed since",
                do="start the run again: what was finished is kept for as long as the answers stay the same",
            )
        load_module(file.path)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
