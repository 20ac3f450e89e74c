"""Sufficient statistics of a regression on membership: one pass over masks and outputs, and all fits after it."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array
from dataloupe.core import OK, Outcomes
from dataloupe.kernels import Gram, co_occurrences, pack_columns
from dataloupe.solve._centred import Centred
from dataloupe.solve._checks import check_rows

BLOCK = 4096
"""Rows whose bits are gathered before they are counted."""


@dataclasses.dataclass(frozen=True, eq=False)
class SuffStats:
    """What every linear regression of m outputs on n memberships needs to know of k rows; never the rows again.

    ``count`` k; ``together [n, n]`` int32, X'X in exact counts; ``right [n, m]`` X'Y, ``total [m]`` Y'1 and
    ``square [m]`` diag Y'Y in fp64. They add up over units, workers and folds, and subtract:

        SuffStats.of(a) + SuffStats.of(b) = SuffStats.of(a and b)

    Counts are exact. Float sums are made block by block in the order given: the same blocks give the same bits,
    any other split the same numbers to 1e-12.

    Raises ``BadInput`` dl-700 (shapes, NaN), dl-770 (statistics of other examples or targets).
    Source: Friedman, Hastie, Tibshirani 2010, section 2.2 (covariance updates).

    >>> masks = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)
    >>> stats = SuffStats.of(masks, masks @ np.array([[2.0], [-1.0]]))
    >>> stats.together.tolist(), stats.right.tolist()
    ([[2, 1], [1, 2]], [[3.0], [0.0]])
    """

    count: int
    together: Int[np.ndarray, "n n"]
    right: Float[np.ndarray, "n m"]
    total: Float[np.ndarray, " m"]
    square: Float[np.ndarray, " m"]
    question: str = ""
    """Whose outputs they are, where that is known: statistics of two questions are not mixed."""

    @classmethod
    def of(cls, masks: Bool[np.ndarray, "k n"], y: Float[np.ndarray, "k m"]) -> "SuffStats":
        """The statistics of one block of rows."""
        return cls.stream([(masks, y)])

    @classmethod
    def stream(cls, blocks: Iterable[tuple[Array, Array]]) -> "SuffStats":
        """The statistics of all blocks (masks ``[b, n]``, values ``[b, m]``), in one pass."""
        return cls.split(blocks, None, 1)[0]

    @classmethod
    def split(
        cls, blocks: Iterable[tuple[Array, Array]], fold: Int[np.ndarray, " k"] | None, folds: int
    ) -> "list[SuffStats]":
        """One set of statistics a fold, in one pass; ``fold [k]`` is every row's (see :func:`folds_of`).

        Raises ``BadInput`` dl-779 where ``fold`` does not name one of the ``folds`` for every row.
        """
        return cls._split(blocks, lambda start, size: _named(fold, folds, start, size), folds)

    @classmethod
    def _split(
        cls,
        blocks: Iterable[tuple[Array, Array]],
        whose: Callable[[int, int], Array],
        folds: int,
    ) -> "list[SuffStats]":
        """``whose(start, size)`` gives the folds of the block that begins at row ``start``."""
        sums: list[_Sum] = []
        start = 0
        for masks, y in blocks:
            check_rows(masks, y)
            sums = sums or [_Sum(masks.shape[1], y.shape[1]) for _ in range(folds)]
            rows = whose(start, len(y))
            start += len(y)
            for number, one in enumerate(sums):
                mine = rows == number
                if mine.all():
                    one.add(masks, y)
                elif mine.any():
                    one.add(masks[mine], y[mine])
        if not sums:
            raise BadInput(
                "dl-700", asked="statistics of masks and values", found="no rows at all", do="give some"
            )
        return [one.done() for one in sums]

    @classmethod
    def gather(
        cls, blocks: Iterable[Outcomes], fold: Int[np.ndarray, " k"] | None = None, folds: int = 1
    ) -> "list[SuffStats]":
        """Of a lab's blocks, one set a fold: mean outputs over the seeds, without subsets that have a diverged run.

        Raises ``BadInput`` dl-770 where two blocks are known to answer different questions.
        """
        whose: list[Array] = []  # the folds of the rows that are kept, known once their block is read
        asked = ""

        def kept() -> Iterator[tuple[Array, Array]]:
            nonlocal asked
            start = 0
            for block in blocks:
                asked = _one_question(asked, str(block.facts.get("question", "")))
                good = (block.status == OK).all(axis=1)
                numbers = np.flatnonzero(good)
                whose.append(_named(fold, folds, start, len(good))[numbers])
                start += len(good)
                if len(numbers):
                    yield block.subsets.masks(numbers), block.mean()[numbers]

        parts = cls._split(kept(), lambda *_: whose[-1], folds)
        return [dataclasses.replace(part, question=asked) for part in parts]

    @property
    def n(self) -> int:
        """Examples."""
        return len(self.together)

    @property
    def m(self) -> int:
        """Targets."""
        return len(self.total)

    @property
    def ones(self) -> Int[np.ndarray, " n"]:
        """How many rows hold each example."""
        return np.diagonal(self.together)

    def __add__(self, other: "SuffStats") -> "SuffStats":
        """Of both sets of rows."""
        return self._combine(other, 1)

    def __sub__(self, other: "SuffStats") -> "SuffStats":
        """Of these rows without those (a fold of them)."""
        return self._combine(other, -1)

    def _combine(self, other: "SuffStats", sign: int) -> "SuffStats":
        if (self.n, self.m) != (other.n, other.m) or (sign < 0 and other.count > self.count):
            raise BadInput(
                "dl-770",
                asked=f"statistics of {self.count} rows, {self.n} examples and {self.m} targets "
                f"{'plus' if sign > 0 else 'minus'} others",
                found=f"{other.count} rows, {other.n} examples and {other.m} targets",
                do="combine statistics of the same question; take away only what is inside",
            )
        question = _one_question(self.question, other.question)
        return SuffStats(
            self.count + sign * other.count,
            self.together + np.int32(sign) * other.together,
            self.right + sign * other.right,
            self.total + sign * other.total,
            self.square + sign * other.square,
            question,
        )

    def centred(self) -> Centred:
        """About the means, as the solvers take it: the counts' common level apart, the rest in two bytes if it fits."""
        k, ones = self.count, self.ones.astype(np.float64)
        mean, level = ones / k, self.total / k
        share = float(mean.mean())
        base = round(k * share * share)
        low, high = _off_diagonal_range(self.together)
        small = max(high - base, base - low) <= np.iinfo(np.int16).max
        deviations = np.subtract(self.together, base, dtype=np.int32)
        deviations = deviations.astype(np.int16 if small else np.int32)
        np.fill_diagonal(deviations, 0)
        gram = Gram(deviations, float(base), ones / np.sqrt(k), ones * (1.0 - mean))
        square = np.maximum(self.square - k * level**2, 0.0)
        return Centred(k, mean, level, gram, self.right - np.outer(ones, level), square)


def _one_question(asked: str, answers: str) -> str:
    """The question of both, if they are not known to be two (dl-770)."""
    if asked and answers and answers != asked:
        raise BadInput(
            "dl-770",
            asked="statistics of one question",
            found="those of two: their trainings or outputs differ",
            do="gather the outcomes of one question, from one lab or several",
        )
    return asked or answers


def _named(fold: Int[np.ndarray, " k"] | None, folds: int, start: int, size: int) -> Int[np.ndarray, " size"]:
    """The folds of some rows; no row is left out because nothing names its fold."""
    if fold is None:
        return np.zeros(size, dtype=np.int64)
    rows = fold[start : start + size]
    if len(rows) < size or rows.min(initial=0) < 0 or rows.max(initial=0) >= folds:
        raise BadInput(
            "dl-779",
            asked=f"statistics in {folds} folds",
            found=f"{len(fold)} fold numbers for {start + size} rows or more"
            if len(rows) < size
            else f"fold numbers from {fold.min()} to {fold.max()}",
            do="give every row a number from 0 to folds - 1: folds_of(k, folds)",
        )
    return rows


class _Sum:
    """Running sums; bits wait until there are enough of them to count."""

    def __init__(self, n: int, m: int) -> None:
        self.n, self.m, self.count, self.waiting = n, m, 0, 0
        self.bits: list[Array] = []
        self.together = np.zeros((n, n), dtype=np.int32)
        self.right, self.total, self.square = np.zeros((n, m)), np.zeros(m), np.zeros(m)

    def add(self, masks: Bool[np.ndarray, "b n"], y: Float[np.ndarray, "b m"]) -> None:
        if (masks.shape[1], y.shape[1]) != (self.n, self.m):
            raise BadInput(
                "dl-770",
                asked=f"rows of {self.n} examples and {self.m} targets",
                found=f"a block of {masks.shape[1]} and {y.shape[1]}",
                do="combine blocks of the same question",
            )
        y = y.astype(np.float64)
        self.count += len(y)
        self.right += masks.T.astype(np.float64) @ y
        self.total += y.sum(axis=0)
        self.square += (y * y).sum(axis=0)
        for start in range(0, len(y), BLOCK):
            self.bits.append(pack_columns(masks[start : start + BLOCK]))
            self.waiting += len(masks[start : start + BLOCK])
            if self.waiting >= BLOCK:
                self._count()

    def _count(self) -> None:
        self.together += co_occurrences(np.concatenate(self.bits, axis=1))
        self.bits, self.waiting = [], 0

    def done(self) -> SuffStats:
        if self.bits:
            self._count()
        return SuffStats(self.count, self.together, self.right, self.total, self.square)


def _off_diagonal_range(together: Int[np.ndarray, "n n"]) -> tuple[int, int]:
    """The smallest and the largest count of two different examples."""
    low, high = 2**31, 0
    for start in range(0, len(together), 256):
        block = together[start : start + 256].copy()
        rows = np.arange(len(block))
        block[rows, rows + start] = block[0, -1] if start == 0 else block[0, 0]
        low, high = min(low, int(block.min())), max(high, int(block.max()))
    return low, high


def folds_of(k: int, folds: int, *, seed: int = 0) -> Int[np.ndarray, " k"]:
    """Every row's fold: a random partition of k rows into equal parts, a pure function of (seed, k, folds).

    Raises ``BadInput`` dl-771 (fewer rows than folds).

    >>> np.bincount(folds_of(10, 5)).tolist()
    [2, 2, 2, 2, 2]
    """
    if not 2 <= folds <= k // 2:
        raise BadInput(
            "dl-771",
            asked=f"{folds} folds of {k} subsets",
            found="fewer than 2 folds, or fewer than 2 subsets in one",
            do="use fewer folds or more subsets",
        )
    order = np.argsort(Stream.root(seed)("folds").bits(np.arange(k)), kind="stable")
    found = np.empty(k, dtype=np.int64)
    found[order] = np.arange(k) % folds
    return found


def blocks_of(
    masks: Bool[np.ndarray, "k n"], y: Float[np.ndarray, "k m"], rows: int = BLOCK
) -> Iterator[tuple[Array, Array]]:
    """Masks and values in blocks of rows."""
    for start in range(0, len(masks), rows):
        yield masks[start : start + rows], y[start : start + rows]
