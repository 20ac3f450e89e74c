"""Whether something can travel to a worker process: asked before any process starts, without copying data."""

import ast
import dataclasses
import io
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dataloupe.run._modules import is_half_imported

_GUARD = re.compile(r"^if\s+__name__\s*==", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Parcel:
    """What a trial of packing showed: why it cannot travel (None if it can), and whether it needs ``__main__``."""

    problem: str | None
    needs_main: bool


def why_not_sendable(context: Any) -> str | None:
    """Why `context` cannot travel to a worker process, naming the part; None if it can.

    >>> why_not_sendable({"lr": 0.1}) is None
    True
    >>> why_not_sendable({"lr": 0.1, "model": lambda: None})[:12]
    "['model']: a"
    """
    return inspect_parcel(context).problem


def inspect_parcel(thing: Any) -> Parcel:
    """Pack `thing` for nobody, its arrays left out."""
    packer = _Packer()
    try:
        packer.dump(thing)
    except Exception as error:  # whatever the thing's own packing raises is the answer
        where, why = _culprit(thing, _in_words(error))
        return Parcel(f"{where}: {why}" if where else why, packer.needs_main)
    return Parcel(_main_problem(packer.of_main) if packer.needs_main else None, packer.needs_main)


class _Packer(pickle.Pickler):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), protocol=pickle.HIGHEST_PROTOCOL)
        self.of_main: list[str] = []

    @property
    def needs_main(self) -> bool:
        """Whether a worker must import the caller's script."""
        return bool(self.of_main)

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, Tensor):
            if thing.requires_grad and not thing.is_leaf:
                raise pickle.PicklingError("a tensor in the middle of a gradient computation (detach it)")
            return torch.zeros, (0,)
        if isinstance(thing, np.ndarray) and not thing.dtype.hasobject:
            return np.zeros, (0,)
        if isinstance(thing, type | FunctionType):
            if thing.__module__ == "__main__":
                self.of_main.append(thing.__qualname__)
            if is_half_imported(thing.__module__):
                file = sys.modules[thing.__module__].__file__
                raise pickle.PicklingError(
                    f"{thing.__qualname__} of {file}, which does its work while it is imported (let the file only "
                    "define the question)"
                )
        return NotImplemented


def _main_problem(names: list[str]) -> str | None:
    """Why workers cannot find these functions and classes in the caller's script."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path is None or not Path(path).is_file():
        return "a function or class that was defined at a prompt or in a notebook"
    text = Path(path).read_text(encoding="utf-8")
    if not _GUARD.search(text):
        return f'a function or class of the script {path}, which has no `if __name__ == "__main__":` before its work'
    known = _names_of_import(text)
    hidden = next((name for name in names if known is not None and name.split(".")[0] not in known), None)
    if hidden is not None:
        return (
            f"{hidden} of the script {path}, which is not defined when a worker imports the script (move it out of "
            '`if __name__ == "__main__":`, or of the function that defines it, to the top of the file)'
        )
    return None


def _names_of_import(text: str) -> set[str] | None:
    """The names that a script binds when it is imported and not run; None where they cannot be told."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    names: set[str] = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return None
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.If) and _is_guard(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
    return names


def _is_guard(test: ast.expr) -> bool:
    """Whether a condition says that the file is run as the script."""
    for node in ast.walk(test):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq):
            parts = (node.left, *node.comparators)
            if any(isinstance(part, ast.Name) and part.id == "__name__" for part in parts):
                return True
    return False


def _culprit(thing: Any, why: str, depth: int = 8) -> tuple[str, str]:
    """The innermost part that cannot be packed, as (path, reason)."""
    for name, part in _inside(thing) if depth else ():
        try:
            _Packer().dump(part)
        except Exception as error:  # as above
            path, reason = _culprit(part, _in_words(error), depth - 1)
            return name + path, reason
    return "", why


def _inside(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, dict):
        yield from ((f"[{key!r}]", part) for key, part in thing.items())
    elif isinstance(thing, list | tuple):
        yield from ((f"[{i}]", part) for i, part in enumerate(thing))
    elif not isinstance(thing, type | FunctionType):
        yield from ((f".{name}", part) for name, part in getattr(thing, "__dict__", {}).items())


def _in_words(error: Exception) -> str:
    text = str(error)
    if "<lambda>" in text:
        return f"a lambda ({text})"
    return f"a function or class made inside another function ({text})" if "<locals>" in text else text
