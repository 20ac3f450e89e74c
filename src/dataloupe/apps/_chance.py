"""How much two ensembles of one algorithm differ: the models of both, with their algorithms' names dealt anew."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array
from dataloupe.core import Attribution, DenseAttribution, check_settings, room_for
from dataloupe.solve import Contrast, cosines, variances

FEW = 5000
"""Up to so many deals, or twice as many as are wanted, are all written down before some are chosen."""


@dataclasses.dataclass(frozen=True)
class AA:
    """The null of :func:`dataloupe.compare`: K models of each algorithm are put together and dealt into two times K anew.

        p_c = (1 + how many of ``deals`` give a largest value, over all components, of at least v_c) / (1 + deals)

    If the algorithms are one, every deal is as likely as the true one, so that any p of at most 1 - ``level`` has that
    probability, whatever the noise; unless something was chosen for one ensemble as a whole, such as TRAK's ridge (give
    both the same). The ratio of variances is told, likewise, beside those of the directions of largest
    value. Where there are fewer ways to deal, all of them are taken. ``paired``: models of one number saw the same subset with the
    same seed, and are swapped within their pair, which takes that noise away; None looks whether the settings of both
    attributions are the same. ``halves``: so many times the models are halved to tell how stable a direction is.

    Raises ``BadInput`` dl-782. Source: Fisher 1935 (permutation); Westfall and Young 1993 (the largest over components).
    """

    deals: int = 200
    level: float = 0.99
    halves: int = 10
    paired: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-782")
        if self.halves < 1 or not 0 < self.level < 1 or self.deals < self.fewest:
            raise BadInput(
                "dl-782",
                asked=f"a null of {self.deals} deals at level {self.level}, and {self.halves} halvings",
                found="too few deals for the level, a level outside 0 to 1, or no halving",
                do="give 0 < level < 1, deals of at least 1 / (1 - level) - 1 (99 for .99), halves of at least 1",
            )

    @property
    def fewest(self) -> int:
        """The fewest deals with which the level can be reached."""
        return math.ceil(round(1 / (1 - self.level), 6)) - 1


Parts = Sequence[Float[np.ndarray, "m n"]]
"""Scores of single models."""
Split = tuple[tuple[int, ...], tuple[int, ...]]
Find = Callable[[Array, Array, Stream], Contrast]
"""From rows of one and of another, and a stream, to directions."""


def parts_of(attribution: Attribution, name: str) -> Parts:
    """The scores of single models (dl-783 with fewer than two), in memory or in a temporary file."""
    pieces = attribution.parts()
    if len(pieces) < 2:
        raise BadInput(
            "dl-783",
            asked="whether a difference is more than chance",
            found=f"{len(pieces)} single models behind {name}: no two halves of them",
            do="attribute with several models (TRAK(models=10)), pool several attributions "
            "(dataloupe.pooled), or compare with null=None",
        )
    if isinstance(pieces, tuple | list) and all(isinstance(piece, DenseAttribution) for piece in pieces):
        return [np.asarray(piece.scores, dtype=np.float32) for piece in pieces]
    held = room_for((len(pieces) * attribution.m, attribution.n))
    for k, piece in enumerate(pieces):
        held[k * attribution.m : (k + 1) * attribution.m] = piece.rows(slice(None))
    return [held[k * attribution.m : (k + 1) * attribution.m] for k in range(len(pieces))]


def reliability(parts: Parts, averaged: int) -> Float[np.ndarray, " m"]:
    """How much of a row of the mean of so many models is no noise, told by what different models have in common:

        s = mean_{i != j} <a_i, a_j>,   d = mean_i |a_i|^2,   reliability = s / (s + (d - s) / averaged),   0 where s is not above 0

    Source: Spearman 1910, Brown 1910 (K = 2), Cronbach 1951.
    """
    k, m = len(parts), len(parts[0])
    products = np.empty((m, k, k))
    step = max(1, (1 << 24) // (k * parts[0].shape[1]))
    for start in range(0, m, step):
        block = torch.from_numpy(np.stack([part[start : start + step] for part in parts], axis=1))
        products[start : start + step] = (block @ block.mT).numpy()
    own = np.einsum("xii->x", products) / k
    common = (products.sum(axis=(1, 2)) - own * k) / (k * (k - 1))
    noise = np.maximum(own - common, 0.0) / averaged
    return np.divide(common, common + noise, out=np.zeros(m), where=common > 0)


def possible(models: int, *, paired: bool) -> int:
    """How many ways there are to deal two times so many models anew, but for which half is called first."""
    return (1 << models - 1) - 1 if paired else math.comb(2 * models, models) // 2 - 1


def deals_of(models: int, wanted: int, stream: Stream, *, paired: bool) -> list[Split]:
    """Distinct deals of models 0 ... 2 K - 1 (first those of A, then those of B), each near the one before it."""
    given = tuple(range(models)), tuple(range(models, 2 * models))
    draws = stream.numpy()

    def swapped(swaps: Sequence[int]) -> Split:
        one, two = ([i + models * ((i in swaps) != other) for i in range(models)] for other in (False, True))
        return tuple(one), tuple(two)

    if paired and possible(models, paired=True) <= max(FEW, 2 * wanted):
        every = [
            swapped(swaps)
            for size in range(1, models)
            for swaps in itertools.combinations(range(1, models), size)
        ]
        return _near([every[i] for i in draws.permutation(len(every))[:wanted]])
    if not paired:
        return splits_of(2 * models, models, wanted, stream, without=given)
    drawn: dict[Split, None] = {}
    while len(drawn) < wanted:
        swaps = (1 + np.flatnonzero(draws.random(models - 1) < 0.5)).tolist()
        if swaps:
            drawn[swapped(swaps)] = None
    return _near(list(drawn))


def splits_of(
    models: int, half: int, wanted: int, stream: Stream, without: Split | None = None
) -> list[Split]:
    """Distinct pairs of disjoint sets of ``half`` models (all there are, if fewer than ``wanted``), each near the one before it."""
    draws = stream.numpy()
    if math.comb(models, half) * math.comb(models - half, half) // 2 <= max(FEW, 2 * wanted):
        every = [split for split in _all(models, half) if split != without]
        return _near([every[i] for i in draws.permutation(len(every))[:wanted]])
    drawn: dict[Split, None] = {}
    while len(drawn) < wanted:
        order = draws.permutation(models)
        one, two = (tuple(sorted(int(i) for i in part)) for part in (order[:half], order[half : 2 * half]))
        if (split := (min(one, two), max(one, two))) != without:
            drawn[split] = None
    return _near(list(drawn))


def _near(splits: list[Split]) -> list[Split]:
    """The same in an order in which little changes from one to the next: always to the nearest that is left."""
    members = np.zeros(
        (len(splits), 1 + max(i for split in splits for part in split for i in part)), dtype=bool
    )
    for row, (one, _) in zip(members, splits, strict=True):
        row[list(one)] = True
    left, at, path = np.ones(len(splits), dtype=bool), 0, [splits[0]]
    left[0] = False
    while left.any():
        others = np.flatnonzero(left)
        at = int(others[(members[others] ^ members[at]).sum(axis=1).argmin()])
        left[at] = False
        path.append(splits[at])
    return path


def _all(models: int, half: int) -> Iterator[Split]:
    for one in itertools.combinations(range(models), half):
        rest = [i for i in range(models) if i > one[0] and i not in one]
        for two in itertools.combinations(rest, half):
            yield one, two


class Halves:
    """Sums over both sets of models; from one split to the next only what changes is read."""

    def __init__(self, parts: Parts, splits: list[Split]) -> None:
        self.parts, self.splits = parts, splits
        self._members: set[int] = set()
        self._every: frozenset[int] = frozenset()
        self._sum, self._all = np.zeros_like(parts[0]), np.zeros_like(parts[0])

    def at(self, i: int, j: int) -> Float[np.ndarray, "m n"]:
        """The sum over set j of split i; good until the next is asked for."""
        split = self.splits[i]
        every, wanted = frozenset(split[0]) | frozenset(split[1]), set(split[j])
        if every != self._every:
            self._every = every
            self._all[:] = 0.0
            added(self._all, [self.parts[k] for k in sorted(every)])
        if self._members == every - wanted:
            self._rest(self._sum)
        else:
            if 2 * len(self._members ^ wanted) > len(wanted) + 2:
                self._sum[:] = 0.0
                self._members = set()
            added(self._sum, [self.parts[k] for k in sorted(wanted - self._members)])
            added(self._sum, [self.parts[k] for k in sorted(self._members - wanted)], -1)
        self._members = wanted
        return self._sum

    def both(self, i: int, room: Array) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, "m n"]]:
        """The sums over both sets of split i, the second in ``room``."""
        first = self.at(i, 0)
        return first, self._rest(room)

    def _rest(self, room: Array) -> Array:
        """All that are in the split, less the sum at hand."""
        torch.sub(*map(torch.from_numpy, (self._all, self._sum)), out=torch.from_numpy(room))
        return room


def added(total: Float[np.ndarray, "m n"], parts: Parts, sign: int = 1) -> Float[np.ndarray, "m n"]:
    """``total`` with parts added in place, in order; block by block, so that it stays in the cache, and by torch's threads."""
    step = max(1, (1 << 17) // total.shape[1])
    change = np.add if sign > 0 else np.subtract

    def some(start: int) -> None:
        block = total[start : start + step]
        for part in parts:
            change(block, part[start : start + step], out=block)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in pool.map(some, range(0, len(total), step)):
            pass
    return total


class Law(NamedTuple):
    """Of two ensembles dealt anew: the largest value over the components, its direction's ratio of variances, the mean cosine."""

    values: Float[np.ndarray, " s"]
    ratios: Float[np.ndarray, " s"]
    cosines: Float[np.ndarray, " s"]


def law(parts: Parts, deals: list[Split], find: Find, stream: Stream) -> Law:
    """What the models of both algorithms, dealt anew, differ by."""
    halves, room, found = Halves(parts, deals), np.empty_like(parts[0]), []
    for i in range(len(deals)):
        pair = halves.both(i, room)
        contrast = find(*pair, stream("law", i))
        first = int(contrast.values.argmax())
        ratio = float(ratios(*pair, contrast.vectors[[first]])[0])
        found.append((float(contrast.values[first]), ratio, float(cosines(*pair).mean())))
    return Law(*(np.array(column) for column in zip(*found, strict=True)))


def stability(
    both: tuple[Parts, Parts], vectors: tuple[Array, Array], find: Find, times: int, stream: Stream
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """The mean |<u, u'>| of the directions of two halves that are most like each of these, for either algorithm."""
    half = min(len(parts) for parts in both) // 2
    splits = [splits_of(len(parts), half, times, stream("halves", i)) for i, parts in enumerate(both)]
    halves = [Halves(parts, some) for parts, some in zip(both, splits, strict=True)]
    agreement: list[list[Array]] = [[], []]
    for i in range(min(map(len, splits))):
        matched: list[list[Array]] = [[], []]
        for j in (0, 1):
            one, two = (some.at(i, j) for some in halves)
            for side, (own, other) in enumerate(((one, two), (two, one))):
                found = find(own, other, stream("half", side, i, j)).vectors
                matched[side].append(found[np.abs(vectors[side] @ found.T).argmax(axis=1)])
        for side, (first, second) in enumerate(matched):
            agreement[side].append(np.abs((first * second).sum(axis=1)))
    one, two = (np.mean(side, axis=0) for side in agreement)
    return one, two


def ratios(
    one: Float[np.ndarray, "m n"], two: Float[np.ndarray, "m n"], vectors: Float[np.ndarray, "c n"]
) -> Float[np.ndarray, " c"]:
    """The variances of one over those of the other."""
    above, below = variances(one, vectors), variances(two, vectors)
    return np.divide(above, below, out=np.full(len(below), np.inf), where=below > 0)
