"""Forward passes that keep what they compute, where a module would compute it twice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils import checkpoint


class _Called:
    """In place of the reentrant way: the function is called."""

    @staticmethod
    def apply(function: Callable[..., Any], _: bool, *args: Any) -> Any:
        return function(*args)


def _once(*_: Any, **__: Any) -> Iterator[None]:
    """In place of the other way, whose first half prepares and whose second tidies up: neither."""
    yield


_WAYS = {"CheckpointFunction": _Called, "_checkpoint_without_reentrant_generator": _once}


@contextmanager
def without_checkpointing() -> Iterator[None]:
    """Within it, ``torch.utils.checkpoint`` calls what it is given, once: the same numbers for more memory.

    What watches a forward pass could not follow it into the second one, which runs inside the backward pass, and ``torch.func`` refuses it.

    >>> import torch
    >>> with without_checkpointing():
    ...     checkpoint.checkpoint(torch.exp, torch.zeros(1), use_reentrant=True)
    tensor([1.])
    """
    before = {name: getattr(checkpoint, name) for name in _WAYS}
    try:
        for name, way in _WAYS.items():
            setattr(checkpoint, name, way)
        yield
    finally:
        for name, way in before.items():
            setattr(checkpoint, name, way)
