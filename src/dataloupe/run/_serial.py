"""One job after the other, in this process."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Serial:
    """Jobs one after the other, here: the meaning of ``map``, and the reference of every other runner.

    >>> list(Serial().map(pow, 2, [3, 4]))
    [(0, 8), (1, 16)]
    """

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def map(
        self, work: Callable[[Any, Any], Any], context: Any, jobs: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        """``work(context, job)`` for every job, in order, each when it is asked for."""
        for number, job in enumerate(jobs):
            yield number, work(context, job)
