"""Which retrainings: a recipe for subsets, or a list of them."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int, UInt8

from dataloupe._errors import BadInput
from dataloupe._identity import Stream, array_digest
from dataloupe._typing import Array, Ids
from dataloupe.core._arrays import as_array, whole_numbers
from dataloupe.core._ids import check_ids
from dataloupe.core._settings import check_settings, checked

MAX_NUMBER = 2**31 - 1
"""Of examples and of subsets."""

_BLOCK = 1024
_NEVER = 1e-12
"""What has a smaller chance does not happen."""


@dataclasses.dataclass(frozen=True)
class Subsets:
    """``count`` subsets of n examples; subset i is a pure function of (seed, i).

    ``kind``: ``fixed`` keeps exactly ``round(fraction * n)`` examples, ``bernoulli`` each with probability
    ``fraction``, ``groups`` exactly ``round(fraction * G)`` of the G groups that ``groups`` (a number for
    every example) names; ``listed`` is an explicit list, see :meth:`listed` and :meth:`without`. ``paired``
    gives repeat r the same training seed in every subset (common random numbers). ``seeds`` does so in blocks: that many
    training seeds in turn, subset i the one of i mod ``seeds`` (or, an array, the number of every subset's). What a seed
    does to all subsets of a block alike is then no noise of their differences, see :attr:`blocks`. Such subsets are to fit on:
    judges take subsets as independent, and refuse them.

    Raises ``BadInput`` dl-301 (a count, fraction or kind that cannot be meant), dl-302 (an empty subset).

    >>> subsets = Subsets(n=6, count=2, fraction=0.5, seed=1)
    >>> subsets.masks().sum(1).tolist()
    [3, 3]
    >>> bool((subsets.masks(slice(1, 2))[0] == subsets.masks()[1]).all())
    True
    """

    n: int
    count: int
    fraction: float = 0.5
    kind: Literal["fixed", "bernoulli", "groups", "listed"] = "fixed"
    seed: int = 0
    groups: Array | None = None
    bits: UInt8[np.ndarray, "k bytes"] | None = None
    paired: bool = False
    seeds: int | Array | None = None

    def __post_init__(self) -> None:
        """Check the recipe."""
        check_settings(self, "dl-301")
        if not (1 <= self.n <= MAX_NUMBER and 1 <= self.count <= MAX_NUMBER):
            raise BadInput(
                "dl-301",
                asked=f"{self.count} subsets of {self.n} examples",
                found=f"a number below 1, or above {MAX_NUMBER:,}",
                do="ask for at least one of each, and for no more than can be trained",
            )
        if not 0.0 < self.fraction <= 1.0:
            raise BadInput(
                "dl-301",
                asked=f"subsets of fraction {self.fraction}",
                found="a fraction outside (0, 1]",
                do="keep more than nothing and at most all",
            )
        if (self.kind == "groups") != (self.groups is not None) or (self.kind == "listed") != (
            self.bits is not None
        ):
            raise BadInput(
                "dl-301",
                asked=f"subsets of kind {self.kind}",
                found=f"groups given: {self.groups is not None}, list given: {self.bits is not None}",
                do="give `groups` with kind='groups'; make lists with Subsets.listed or Subsets.without",
            )
        if self.groups is not None and np.shape(self.groups) != (self.n,):
            raise BadInput(
                "dl-301",
                asked="a group for every example",
                found=f"groups of shape {np.shape(self.groups)} for n = {self.n}",
                do="give one group number per example",
            )
        self._check_seeds()
        if self.kind == "fixed" and self.size < 1:
            raise BadInput(
                "dl-302",
                asked=f"a fraction {self.fraction} of {self.n} examples",
                found="subsets without a single example",
                do="raise the fraction",
            )
        if self.kind == "groups" and round(len(np.unique(np.asarray(self.groups))) * self.fraction) < 1:
            raise BadInput(
                "dl-302",
                asked=f"a fraction {self.fraction} of {len(np.unique(np.asarray(self.groups)))} groups",
                found="subsets without a single group",
                do="raise the fraction",
            )

    def _check_seeds(self) -> None:
        """Either all of one seed, or at least one seed, or one for every subset."""
        if self.seeds is None:
            return
        given = np.asarray(self.seeds)
        whole = np.issubdtype(given.dtype, np.integer)
        if (
            self.paired
            or not whole
            or given.shape not in ((), (self.count,))
            or given.min() < (not given.ndim)
        ):
            raise BadInput(
                "dl-301",
                asked=f"{self.count} subsets with seeds of {given.dtype}, shape {given.shape}"
                + (", paired" if self.paired else ""),
                found="neither a number of seeds nor a number for every subset, or paired subsets, which have one seed",
                do="give seeds=20, or a whole number from 0 for every subset",
            )

    # --- other ways to make them ---

    @classmethod
    @checked("dl-301")
    def full(cls, n: int, count: int = 1, *, seed: int = 0) -> "Subsets":
        """All the data, ``count`` times (each with a training seed of its own)."""
        return cls(n=n, count=count, fraction=1.0, seed=seed)

    @classmethod
    def listed(
        cls, masks: Any, *, seed: int = 0, paired: bool = False, seeds: int | Array | None = None
    ) -> "Subsets":
        """The subsets of a boolean matrix ``[k, n]`` (true = kept)."""
        masks = as_array(masks, "masks")
        if masks.ndim != 2 or masks.dtype != bool:
            raise BadInput(
                "dl-301",
                asked="listed subsets",
                found=f"{masks.dtype} of shape {masks.shape}",
                do="give a boolean matrix [k, n]",
            )
        if not masks.any(axis=1).all():
            raise BadInput(
                "dl-302",
                asked="listed subsets",
                found=f"subset {int((~masks.any(axis=1)).argmax())} keeps nothing",
                do="keep at least one example",
            )
        return cls(
            n=masks.shape[1],
            count=len(masks),
            fraction=float(np.clip(masks.mean(), 1e-9, 1.0)),
            kind="listed",
            seed=seed,
            bits=np.packbits(masks, axis=1),
            paired=paired,
            seeds=seeds,
        )

    @classmethod
    @checked("dl-301")
    def without(cls, n: int, removals: Sequence[Ids], *, seed: int = 0) -> "Subsets":
        """All the data but the rows of each removal (an empty removal is the control); seeds are paired."""
        if n < 1:
            raise BadInput(
                "dl-301", asked=f"removals from {n} examples", found="none", do="give the number of examples"
            )
        masks = np.ones((len(removals), n), dtype=bool)
        for row, ids in zip(masks, removals, strict=True):
            if not isinstance(ids, Sequence | np.ndarray) or np.size(ids):
                row[check_ids(ids, n, "rows to remove")] = False
        return cls.listed(masks, seed=seed, paired=True)

    # --- what they are ---

    @property
    def size(self) -> int:
        """How many examples a subset of kind ``fixed`` keeps."""
        return round(self.n * self.fraction)

    def masks(self, rows: slice | Sequence[int] | Array | None = None) -> Bool[np.ndarray, "k n"]:
        """Membership of every example in the subsets `rows` (default: all)."""
        wanted = self._chosen(rows)
        if self.bits is not None:
            return np.unpackbits(self.bits[wanted], axis=1, count=self.n).astype(bool)
        stream = Stream.root(self.seed)("subset", self.kind)
        if self.kind == "groups":
            names, member = np.unique(np.asarray(self.groups), return_inverse=True)
            return _smallest(
                stream.bits(np.arange(len(names)), wanted[:, None]), round(len(names) * self.fraction)
            )[:, member]
        masks = np.empty((len(wanted), self.n), dtype=bool)
        step = max(1, 4_000_000 // self.n)
        for start in range(0, len(wanted), step):
            block = wanted[start : start + step]
            if self.kind == "bernoulli":
                masks[start : start + step] = (
                    stream.uniform(np.arange(self.n), block[:, None]) < self.fraction
                )
            else:
                masks[start : start + step] = _smallest(
                    stream.bits(np.arange(self.n), block[:, None]), self.size
                )
        return masks

    def _chosen(self, rows: slice | Sequence[int] | Array | None) -> Int[np.ndarray, " k"]:
        """Subsets by number, as NumPy counts them (dl-303)."""
        every = np.arange(self.count)
        if rows is None or isinstance(rows, slice):
            return every[slice(None) if rows is None else rows]
        numbers = whole_numbers(rows)
        if isinstance(numbers, str) or numbers.ndim != 1:
            found = numbers if isinstance(numbers, str) else f"an array of shape {numbers.shape}"
        elif numbers.size and not -self.count <= numbers.min() <= numbers.max() < self.count:
            found = f"numbers from {numbers.min()} to {numbers.max()}"
        else:
            return every[numbers]
        raise BadInput(
            "dl-303",
            asked=f"some of {self.count} subsets",
            found=found,
            do="give a slice or a list of their numbers",
        )

    def refuse_empty(self) -> None:
        """Raise dl-302 if one of them keeps nothing, as a Bernoulli subset may: it is a design, and no training."""
        # The masks are made only where the chance of an empty one is more than nothing.
        if self.kind != "bernoulli" or self.count * (1.0 - self.fraction) ** self.n < _NEVER:
            return
        for start in range(0, self.count, _BLOCK):
            empty = ~self.masks(slice(start, start + _BLOCK)).any(axis=1)
            if empty.any():
                raise BadInput(
                    "dl-302",
                    asked=f"trainings that keep each of {self.n} examples with probability {self.fraction}",
                    found=f"subset {start + int(empty.argmax())} keeps nothing",
                    do="raise the fraction, or use kind='fixed', whose subsets have one size",
                )

    def digest(self, rows: slice | Sequence[int] | Array | None = None) -> str:
        """A hash of the masks themselves, to check regenerated ones against."""
        packed = np.packbits(self.masks(rows), axis=1)
        return hashlib.sha256(packed.tobytes()).hexdigest()[:16]

    def train_seed(self, treatment: int, repeat: int) -> int:
        """The seed of one training: its own for every (subset, repeat), or shared between the subsets of a block."""
        root = Stream.root(self.seed)
        if self.paired:
            return root("train", repeat).seed()
        return root(
            "train", int(self.blocks[treatment]) if self.seeds is not None else treatment, repeat
        ).seed()

    @property
    def blocks(self) -> Int[np.ndarray, " k"]:
        """The number of every subset's training seed: subsets of one number were trained alike."""
        if self.paired:
            return np.zeros(self.count, np.int64)
        if self.seeds is None or np.ndim(self.seeds) == 0:
            return np.arange(self.count) % (self.count if self.seeds is None else int(self.seeds))
        return np.asarray(self.seeds, np.int64)

    def part(self, rows: slice | Sequence[int] | Array) -> "Subsets":
        """Some of them, as a list."""
        seeds = None if self.seeds is None else self.blocks[slice(None) if rows is None else rows]
        return Subsets.listed(self.masks(rows), seed=self.seed, paired=self.paired, seeds=seeds)

    @checked("dl-301")
    def first(self, count: int) -> "Subsets":
        """The first ``count`` of them (of a recipe, more than it counted is fine too)."""
        if self.bits is not None:
            if count > self.count:
                raise BadInput(
                    "dl-301",
                    asked=f"the first {count} subsets",
                    found=f"a list of {self.count}",
                    do="ask for fewer",
                )
            seeds = self.seeds[:count] if isinstance(self.seeds, np.ndarray) else self.seeds
            return dataclasses.replace(self, count=count, bits=self.bits[:count], seeds=seeds)
        return dataclasses.replace(self, count=count)

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides subset i: all but the count, so that a longer run of the same recipe reuses a shorter one."""
        facts: dict[str, Any] = {
            "n": self.n,
            "fraction": self.fraction,
            "kind": self.kind,
            "seed": self.seed,
            "paired": self.paired,
        }
        if self.groups is not None:
            facts["groups"] = array_digest(np.asarray(self.groups))
        if self.seeds is not None:
            facts["seeds"] = int(self.seeds) if np.ndim(self.seeds) == 0 else array_digest(self.blocks)
        if self.bits is not None:
            facts.pop("fraction")
            facts["list"] = array_digest(self.bits)
        return facts

    def __identity__(self) -> dict[str, Any]:
        """The recipe and the count."""
        return {**self.recipe, "count": self.count}


def _smallest(bits: Int[np.ndarray, "k n"] | Array, size: int) -> Bool[np.ndarray, "k n"]:
    """True at the `size` smallest entries of every row."""
    if size >= bits.shape[1]:
        return np.ones(bits.shape, dtype=bool)
    size = max(size, 1)
    return bits <= np.partition(bits, size - 1, axis=1)[:, size - 1 : size]
