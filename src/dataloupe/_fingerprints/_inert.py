"""Objects that decide no number: locks, loggers, references, the streams of the terminal, types in annotations."""

import contextvars
import io
import logging
import threading
import types
import typing
import weakref
from typing import Any

_INERT: tuple[type, ...] = (
    contextvars.ContextVar,
    logging.Filterer,
    logging.LoggerAdapter,
    threading.Condition,
    threading.Event,
    threading.Semaphore,
    threading.local,
    type(threading.Lock()),
    type(threading.RLock()),
    weakref.ReferenceType,
    weakref.WeakKeyDictionary,
    weakref.WeakSet,
    weakref.WeakValueDictionary,
)
_HINTS: tuple[type, ...] = (
    types.GenericAlias,
    types.UnionType,
    typing.TypeVar,
    typing.ParamSpec,
    typing.ForwardRef,
    type(typing.Any),
    type(typing.Optional),
    type(typing.List[int]),  # noqa: UP006  (the type of such aliases)
    type(typing.Literal[0]),
)


def is_inert(thing: Any) -> bool:
    """Whether an object decides no number, whatever it holds."""
    if isinstance(thing, io.TextIOBase):
        return getattr(thing, "name", None) in ("<stdin>", "<stdout>", "<stderr>")
    return isinstance(thing, _INERT)


def is_type_hint(thing: Any) -> bool:
    """Whether an object stands for a type: ``int | None``, ``list[int]``, ``Literal["a"]``."""
    return isinstance(thing, _HINTS) and not isinstance(thing, type)
