"""Forward passes that keep what they compute, where a module would compute it twice."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch.utils import checkpoint

_WITHOUT: ContextVar[bool] = ContextVar("without_checkpointing", default=False)
"""Whether this thread is inside of :func:`without_checkpointing`."""


class _Patch:
    """The two ways in which torch checkpoints, replaced while any thread is inside; the lock guards the count."""

    lock = threading.Lock()
    threads = 0
    reentrant: Any = None
    other: Any = None

    @staticmethod
    def enter() -> None:
        with _Patch.lock:
            _Patch.threads += 1
            if _Patch.threads == 1:
                _Patch.reentrant = checkpoint.CheckpointFunction
                _Patch.other = checkpoint._checkpoint_without_reentrant_generator
                for name, way in _WAYS.items():
                    setattr(checkpoint, name, way)

    @staticmethod
    def leave() -> None:
        with _Patch.lock:
            _Patch.threads -= 1
            if _Patch.threads == 0:
                for name, way in zip(_WAYS, (_Patch.reentrant, _Patch.other), strict=True):
                    setattr(checkpoint, name, way)


class _Called:
    """In place of the reentrant way: the function is called. Other threads go the way they went."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        return function(*args) if _WITHOUT.get() else _Patch.reentrant.apply(function, preserve, *args)


def _once(*args: Any, **named: Any) -> Iterator[None]:
    """In place of the other way, whose first half prepares and whose second tidies up: neither."""
    if _WITHOUT.get():
        yield
    else:
        yield from _Patch.other(*args, **named)


_WAYS = {"CheckpointFunction": _Called, "_checkpoint_without_reentrant_generator": _once}


@contextmanager
def without_checkpointing() -> Iterator[None]:
    """Within it, ``torch.utils.checkpoint`` calls what it is given, once: the same numbers for more memory.

    What watches a forward pass could not follow it into the second one, which runs inside the backward pass, and ``torch.func`` refuses it.
    Other threads checkpoint as ever, and torch is as it was when the last thread has left.

    >>> import torch
    >>> with without_checkpointing():
    ...     checkpoint.checkpoint(torch.exp, torch.zeros(1), use_reentrant=True)
    tensor([1.])
    """
    if _WITHOUT.get():
        yield
        return
    token = _WITHOUT.set(True)
    _Patch.enter()
    try:
        yield
    finally:
        _Patch.leave()
        _WITHOUT.reset(token)
