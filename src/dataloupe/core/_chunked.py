"""A tall matrix that need not be in memory."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int

from dataloupe._typing import Array


@dataclasses.dataclass(frozen=True, eq=False)
class Chunked:
    """A matrix ``[rows, width]`` in chunks of ``sizes`` rows; ``read(i)`` gives chunk i, from memory or from disk.

    >>> tall = Chunked.of(np.arange(6.0).reshape(3, 2))
    >>> tall.shape, tall.rows([2, 0]).tolist()
    ((3, 2), [[4.0, 5.0], [0.0, 1.0]])
    """

    sizes: tuple[int, ...]
    width: int
    read: Callable[[int], Array] = dataclasses.field(repr=False)

    @classmethod
    def of(cls, whole: Float[np.ndarray, "rows width"]) -> "Chunked":
        """A matrix in memory, as one chunk."""
        return cls((len(whole),), whole.shape[1], lambda _: whole)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return sum(self.sizes), self.width

    def __len__(self) -> int:
        return sum(self.sizes)

    def __iter__(self) -> Iterator[tuple[slice, Float[np.ndarray, "b width"]]]:
        """Which rows, and these rows, chunk by chunk."""
        for i, (start, stop) in enumerate(itertools.pairwise(self._cuts())):
            yield slice(start, stop), self.read(i)

    def rows(self, ids: Int[np.ndarray, " k"] | list[int]) -> Float[np.ndarray, "k width"]:
        """Some rows, in the order asked for; every chunk that holds one is read once."""
        ids, cuts = np.asarray(ids, dtype=np.int64), self._cuts()
        place = np.searchsorted(cuts, ids, side="right") - 1
        found = np.empty((len(ids), self.width), dtype=np.float32)
        for i in np.unique(place):
            found[place == i] = self.read(int(i))[ids[place == i] - cuts[i]]
        return found

    def whole(self) -> Float[np.ndarray, "rows width"]:
        """All rows, in memory."""
        return self.read(0) if len(self.sizes) == 1 else np.concatenate([rows for _, rows in self])

    def _cuts(self) -> list[int]:
        return [0, *itertools.accumulate(self.sizes)]
