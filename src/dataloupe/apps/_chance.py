"""How much two ensembles of the same algorithm differ: halves of its models against each other."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array
from dataloupe.core import Attribution, DenseAttribution, room_for
from dataloupe.solve import Contrast, variances

FEW = 5000
"""Up to so many splits are all written down before some are drawn."""


@dataclasses.dataclass(frozen=True)
class AA:
    """The null of :func:`dataloupe.compare`: ``splits`` of each algorithm's models into two halves of equal size.

        p_c = (1 + how many splits give a largest value of at least v_c) / (1 + splits),   likewise for ratios of variances

    with v_c the mean, over the first ``observed`` splits, of what halves of both algorithms say of direction c. It is
    kept where both p are at most 1 - ``level`` under either algorithm's splits.

    Raises ``BadInput`` dl-782.
    """

    splits: int = 100
    level: float = 0.99
    observed: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.observed < 1 or not 0 < self.level < 1 or self.splits + 1 < round(1 / (1 - self.level), 9):
            raise BadInput(
                "dl-782",
                asked=f"a null of {self.splits} splits at level {self.level}, {self.observed} of them observed",
                found="too few splits for the level, a level outside 0 to 1, or nothing observed",
                do="give 0 < level < 1, splits of at least 1 / (1 - level) - 1 (99 for .99), observed of at least 1",
            )


Parts = Sequence[Float[np.ndarray, "m n"]]
"""Scores of single models."""
Split = tuple[tuple[int, ...], tuple[int, ...]]
Find = Callable[[Array, Array, Array, Stream], Contrast]
"""From rows of one and of another, weights and a stream to directions."""


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
    if all(isinstance(piece, DenseAttribution) for piece in pieces[:1]) and isinstance(pieces, tuple | list):
        return [np.asarray(piece.scores, dtype=np.float32) for piece in pieces]
    held = room_for((len(pieces) * attribution.m, attribution.n))
    for k, piece in enumerate(pieces):
        held[k * attribution.m : (k + 1) * attribution.m] = piece.rows(slice(None))
    return [held[k * attribution.m : (k + 1) * attribution.m] for k in range(len(pieces))]


def reliability(parts: Parts) -> Float[np.ndarray, " m"]:
    """How much of a row of the mean of K models is no noise, from what different models have in common:

        s = mean_{i != j} <a_i, a_j>,   d = mean_i |a_i|^2,   reliability = s / (s + (d - s) / K),   0 where s is not above 0

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
    noise = np.maximum(own - common, 0.0) / k
    return np.divide(common, common + noise, out=np.zeros(m), where=common > 0)


def possible_splits(models: int, half: int) -> int:
    """How many pairs of disjoint halves there are."""
    return math.comb(models, half) * math.comb(models - half, half) // 2


def splits_of(models: int, half: int, wanted: int, stream: Stream) -> list[Split]:
    """Distinct pairs of disjoint halves, each near the one before it."""
    draws = stream.numpy()
    if possible_splits(models, half) <= FEW:
        every = list(_all(models, half))
        chosen = [every[i] for i in draws.permutation(len(every))[:wanted]]
    else:
        drawn: dict[Split, None] = {}
        while len(drawn) < wanted:
            order = draws.permutation(models)
            one, two = (
                tuple(sorted(int(i) for i in part)) for part in (order[:half], order[half : 2 * half])
            )
            drawn[min(one, two), max(one, two)] = None
        chosen = list(drawn)
    path = [chosen.pop(0)]
    while chosen:
        last = set(path[-1][0])
        path.append(chosen.pop(min(range(len(chosen)), key=lambda i: len(last ^ set(chosen[i][0])))))
    return path


def _all(models: int, half: int) -> Iterator[Split]:
    for one in itertools.combinations(range(models), half):
        rest = [i for i in range(models) if i > one[0] and i not in one]
        for two in itertools.combinations(rest, half):
            yield one, two


class Halves:
    """Sums over halves of the models; from one split to the next only what changes is read."""

    def __init__(self, parts: Parts, splits: list[Split]) -> None:
        self.parts, self.splits = parts, splits
        self._members: list[set[int]] = [set(), set()]
        self._sums = [np.zeros_like(parts[0]) for _ in range(2)]

    def __len__(self) -> int:
        return len(self.splits)

    def at(self, i: int) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, "m n"]]:
        """Both halves of split i; good until the next is asked for."""
        for total, members, wanted in zip(self._sums, self._members, map(set, self.splits[i]), strict=True):
            if 2 * len(members ^ wanted) > len(wanted) + 2:
                total[:] = 0.0
                members.clear()
            for k in sorted(wanted - members):
                total += self.parts[k]
            for k in sorted(members - wanted):
                total -= self.parts[k]
            members.clear()
            members.update(wanted)
        return self._sums[0], self._sums[1]


class Law(NamedTuple):
    """Largest value and largest ratio of variances over the components, one a split."""

    values: Float[np.ndarray, " s"]
    ratios: Float[np.ndarray, " s"]


class Seen(NamedTuple):
    """Of a direction at the size of halves: value, ratio and |<u, u'>| of halves without a common model, means over splits."""

    values: Float[np.ndarray, " c"]
    ratios: Float[np.ndarray, " c"]
    stability: Float[np.ndarray, " c"]


def measured(
    both: tuple[Parts, Parts],
    weights: tuple[Array, Array],
    vectors: tuple[Array, Array],
    find: Find,
    null: AA,
) -> tuple[int, tuple[Law, Law], tuple[Seen, Seen]]:
    """Models in a half; for each algorithm, what its own halves differ by, and how its directions fare at that size."""
    half = min(len(parts) for parts in both) // 2
    root = Stream.root(null.seed)("chance")
    halves = [
        Halves(parts, splits_of(len(parts), half, null.splits, root("splits", i)))
        for i, parts in enumerate(both)
    ]
    laws: list[list[tuple[float, float]]] = [[], []]
    seen: list[list[tuple[Array, Array, Array]]] = [[], []]
    for i in range(max(map(len, halves))):
        sums = [one.at(i) if i < len(one) else None for one in halves]
        for side, own in enumerate(sums):
            if own is not None:
                found = find(own[0], own[1], weights[side], root("law", side, i))
                laws[side].append((float(found.values.max()), float(_ratio(own, found.vectors).max())))
        one, two = sums
        if i >= null.observed or one is None or two is None:
            continue
        for side, (own, other) in enumerate(((one, two), (two, one))):
            pairs = [(own[j], other[j]) for j in (0, 1)]
            twice = [find(*pair, weights[side], root("seen", side, i, j)) for j, pair in enumerate(pairs)]
            seen[side].append(_matched(vectors[side], twice, pairs))
    made = tuple(Law(*(np.array(column) for column in zip(*law, strict=True))) for law in laws)
    told = tuple(Seen(*(np.mean(column, axis=0) for column in zip(*side, strict=True))) for side in seen)
    return half, made, told  # type: ignore[return-value]


def _ratio(pair: tuple[Array, Array], vectors: Array) -> Float[np.ndarray, " c"]:
    """Variances of one over those of the other."""
    above, below = (variances(rows, vectors) for rows in pair)
    return np.divide(above, below, out=np.full(len(below), np.inf), where=below > 0)


def _matched(
    vectors: Float[np.ndarray, "c n"], twice: list[Contrast], pairs: list[tuple[Array, Array]]
) -> tuple[Array, Array, Array]:
    """Value, ratio and agreement of the directions of two halves that are most like each of these."""
    values, ratios, matched = [], [], []
    for found, pair in zip(twice, pairs, strict=True):
        nearest = np.abs(vectors @ found.vectors.T).argmax(axis=1)
        values.append(found.values[nearest])
        ratios.append(_ratio(pair, found.vectors)[nearest])
        matched.append(found.vectors[nearest])
    agreement = np.abs((matched[0] * matched[1]).sum(axis=1))
    return np.mean(values, axis=0), np.mean(ratios, axis=0), agreement
