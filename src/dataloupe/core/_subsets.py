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
from dataloupe.core._examples import check_ids


@dataclasses.dataclass(frozen=True)
class Subsets:
    """``count`` subsets of n examples; subset i is a pure function of (seed, i).

    ``kind``: ``fixed`` keeps exactly ``round(fraction * n)`` examples, ``bernoulli`` each with probability
    ``fraction``, ``groups`` exactly ``round(fraction * G)`` of the G groups that ``groups`` (a number for
    every example) names; ``listed`` is an explicit list, see :meth:`listed` and :meth:`without`. ``paired``
    gives repeat r the same training seed in every subset (common random numbers).

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

    def __post_init__(self) -> None:
        """Check the recipe."""
        if self.n < 1 or self.count < 1:
            raise BadInput(
                "dl-301",
                asked=f"{self.count} subsets of {self.n} examples",
                found="a number below 1",
                do="ask for at least one of each",
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
        if self.kind == "fixed" and self.size < 1:
            raise BadInput(
                "dl-302",
                asked=f"a fraction {self.fraction} of {self.n} examples",
                found="subsets without a single example",
                do="raise the fraction",
            )

    # --- other ways to make them ---

    @classmethod
    def full(cls, n: int, count: int = 1, *, seed: int = 0) -> "Subsets":
        """All the data, ``count`` times (each with a training seed of its own)."""
        return cls(n=n, count=count, fraction=1.0, seed=seed)

    @classmethod
    def listed(cls, masks: Any, *, seed: int = 0, paired: bool = False) -> "Subsets":
        """The subsets of a boolean matrix ``[k, n]`` (true = kept)."""
        masks = np.asarray(masks)
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
        )

    @classmethod
    def without(cls, n: int, removals: Sequence[Ids], *, seed: int = 0) -> "Subsets":
        """All the data but the rows of each removal (an empty removal is the control); seeds are paired."""
        masks = np.ones((len(removals), n), dtype=bool)
        for row, ids in zip(masks, removals, strict=True):
            if len(ids):
                row[check_ids(ids, n, "rows to remove")] = False
        return cls.listed(masks, seed=seed, paired=True)

    # --- what they are ---

    @property
    def size(self) -> int:
        """How many examples a subset of kind ``fixed`` keeps."""
        return round(self.n * self.fraction)

    def masks(self, rows: slice | Sequence[int] | Array | None = None) -> Bool[np.ndarray, "k n"]:
        """Membership of every example in the subsets `rows` (default: all)."""
        wanted = np.arange(self.count)[slice(None) if rows is None else rows]
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

    def digest(self, rows: slice | Sequence[int] | Array | None = None) -> str:
        """A hash of the masks themselves, to check regenerated ones against."""
        packed = np.packbits(self.masks(rows), axis=1)
        return hashlib.sha256(packed.tobytes()).hexdigest()[:16]

    def train_seed(self, treatment: int, repeat: int) -> int:
        """The seed of one training: its own for every (subset, repeat), or shared between subsets if ``paired``."""
        root = Stream.root(self.seed)
        return (root("train", repeat) if self.paired else root("train", treatment, repeat)).seed()

    def part(self, rows: slice | Sequence[int] | Array) -> "Subsets":
        """Some of them, as a list."""
        return Subsets.listed(self.masks(rows), seed=self.seed, paired=self.paired)

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
            return dataclasses.replace(self, count=count, bits=self.bits[:count])
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
