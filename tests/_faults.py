"""Faults for tests: an ``os`` that dies or fails at the j-th call to the system."""

import errno
import os
from collections.abc import Callable
from typing import Any


class Death(BaseException):
    """What kill -9 does: nothing after it runs that could touch the disk."""


class FaultyOS:
    """The ``os`` that the store sees: counts calls, and fails at the j-th one or from there on.

    Flushing is counted and left out, so that the suite is quick: no machine loses its power here.
    """

    path = os.path
    sep = os.sep

    def __init__(self, at: int | None, fault: Callable[[], BaseException], *, forever: bool) -> None:
        self.calls: list[str] = []
        self._at, self._fault, self._forever = at, fault, forever

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if not callable(real):
            return real

        def call(*args: Any, **named: Any) -> Any:
            number = len(self.calls)
            self.calls.append(name)
            if self._at is not None and (number == self._at or (self._forever and number > self._at)):
                raise self._fault()
            return None if name == "fsync" else real(*args, **named)

        return call


def disk_full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
