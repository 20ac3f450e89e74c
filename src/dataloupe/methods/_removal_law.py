"""Which removals calibrate predicted effects, and what they teach."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import Stream
from dataloupe._typing import Ids
from dataloupe.core import ORDINARY, Attribution, Outcomes, RemovalLaw, Subsets, checked, standings

BLOCKS = 4
"""Training seeds that the removals take in turn, each with its run on all the data."""

FEWEST_SELECTED, FEWEST_RANDOM = 6, 3
"""Removals of top rows, and at random, below which nothing is said of such."""

FEW_STAND_OUT = 0.05
"""A removal is at random if it stands out for at most this share of the targets."""

ROUNDING = 1e-6

AT_ONCE = 1 << 24
"""Scores that are looked at together."""


@checked("dl-724")
def calibration_removals(
    attribution: Attribution, *, count: int = 30, limit: float = 0.1, seed: int = 0
) -> Subsets:
    """Removals to calibrate on: of sizes up to ``limit`` of the data, half of them the top rows of a target.

    Half of ``count`` remove the rows of the largest scores of a target, a fifth those of the smallest, the rest rows
    at random; sizes are spaced evenly on a log scale from a tenth of the largest on. They share the training seeds
    of four runs on all the data, which are subsets of the list, too:

        calibrated = dataloupe.calibrate(attribution, lab.outcomes(question, calibration_removals(attribution), repeats=2))

    costs (count + 4) * 2 trainings. Each removal is measured on all targets, so a few do for many.

    Raises ``BadInput`` dl-724 (a count below 10, a limit outside (0, 0.5]).

    >>> from dataloupe.core import DenseAttribution, Info
    >>> scores = DenseAttribution(np.arange(120.0).reshape(2, 60), Info("by hand"))
    >>> subsets = calibration_removals(scores, count=10)
    >>> subsets.count, (60 - subsets.masks().sum(axis=1)).tolist()
    (14, [0, 0, 0, 0, 1, 2, 2, 4, 6, 1, 6, 1, 2, 6])
    """
    if count < 10 or not 0 < limit <= 0.5:
        raise BadInput(
            "dl-724",
            asked=f"{count} calibration removals of at most {limit:g} of the data",
            found="fewer than 10, or a limit outside (0, 0.5]",
            do="give count=30 and limit=0.1, say",
        )
    n, stream = attribution.n, Stream.root(seed)("calibration removals")
    targets = np.argsort(stream("targets").bits(np.arange(attribution.m)), kind="stable")
    largest = max(1, int(limit * n + 1e-9))
    of_top, of_bottom = count // 2, count // 5
    removals: list[Ids] = []
    for sizes, sign in ((_sizes(largest, of_top), -1), (_sizes(largest, of_bottom), 1)):
        for size in sizes:
            row = attribution.rows([int(targets[len(removals) % len(targets)])])[0]
            removals.append(np.argsort(sign * row, kind="stable")[:size])
    for i, size in enumerate(_sizes(largest, count - of_top - of_bottom)):
        removals.append(np.argsort(stream("rows").bits(np.arange(n), i), kind="stable")[:size])
    masks = np.ones((BLOCKS + count, n), dtype=bool)
    for mask, ids in zip(masks[BLOCKS:], removals, strict=True):
        mask[ids] = False
    seeds = np.concatenate([np.arange(BLOCKS), np.arange(count) % BLOCKS])
    return Subsets.listed(masks, seed=seed, seeds=seeds)


def _sizes(largest: int, count: int) -> list[int]:
    """So many sizes up to the largest, evenly on a log scale."""
    smallest = max(1.0, largest / 10)
    return [round(size) for size in np.geomspace(smallest, largest, count)]


class Removals(NamedTuple):
    """Removals and what they did: the rows, the change against all the data, and the variance that seeds leave in it."""

    rows: Sequence[Ids]
    change: Float[np.ndarray, "k m"]
    noise: Float[np.ndarray, "k m"]
    full: Float[np.ndarray, " m"]


def removals_in(outcomes: Outcomes) -> Removals | None:
    """The outcomes as removals from all the data; None where no run saw all of it, or most removed more than half."""
    masks = outcomes.subsets.masks()
    full = masks.all(axis=1)
    if not full.any() or full.all() or np.median(masks[~full].mean(axis=1)) < 0.5:
        return None
    values, blocks = outcomes.values.astype(np.float64), outcomes.subsets.blocks
    change, noise = [], []
    for k in np.flatnonzero(~full).tolist():
        same = full & (blocks == blocks[k])
        difference = values[k] - (values[same].mean(axis=0) if same.any() else values[full].mean(axis=(0, 1)))
        change.append(difference.mean(axis=0))
        noise.append(_of_seeds(difference) + (0.0 if same.any() else _of_seeds(values[full].mean(axis=1))))
    rows = [np.flatnonzero(~mask) for mask in masks[~full]]
    return Removals(rows, np.stack(change), np.stack(noise), values[full].mean(axis=(0, 1)))


def _of_seeds(values: Float[np.ndarray, "r m"]) -> Float[np.ndarray, " m"]:
    """The variance of a mean over seeds; 0 with one seed, where it cannot be told from what is meant."""
    r, m = values.shape
    return np.zeros(m) if r < 2 else values.var(axis=0, ddof=1) / r


def fit_laws(
    attribution: Attribution, removals: Removals, scale: Float[np.ndarray, " m"]
) -> tuple[list[RemovalLaw], str]:
    """The laws of sums and, where the method tells groups, of groups; effects are scaled per target. And a note."""
    stand = _standings(attribution, removals.rows)
    sums = attribution.effect(removals.rows).astype(np.float64) * scale
    laws, note = [_law(0.0, sums, removals, *stand)], ""
    if getattr(attribution, "group", None) is not None:
        try:
            groups = attribution.effect(removals.rows, kind="group").astype(np.float64) * scale
        except (BadInput, CapabilityError) as error:
            note = f"removals are predicted as sums: {error.found}"
        else:
            laws.append(_law(1.0, groups, removals, *stand))
    return laws, note


def _standings(
    attribution: Attribution, rows: Sequence[Ids]
) -> tuple[Float[np.ndarray, "k m"], Float[np.ndarray, "k m"]]:
    """How every removal stands out for every target: deviations and shares."""
    deviations, share = (np.empty((len(rows), attribution.m)) for _ in range(2))
    step = max(1, AT_ONCE // attribution.n)
    for start in range(0, attribution.m, step):
        part = slice(start, min(start + step, attribution.m))
        scores = attribution.rows(part)
        for k, ids in enumerate(rows):
            deviations[k, part], share[k, part] = standings(scores, np.asarray(ids))
    return deviations, share


def _law(
    group: float,
    effects: Float[np.ndarray, "k m"],
    removals: Removals,
    deviations: Float[np.ndarray, "k m"],
    share: Float[np.ndarray, "k m"],
) -> RemovalLaw:
    sizes = np.array([len(rows) for rows in removals.rows], dtype=np.float64)
    own = (share > 1 - ROUNDING) & (np.abs(effects) > 0)
    random = (np.abs(deviations) > ORDINARY).mean(axis=1) <= FEW_STAND_OUT
    known = effects[random], removals.change[random], removals.noise[random], sizes[random]
    ends = float(sizes.min()), float(sizes.max())
    return RemovalLaw(*[group, *_of_selected(effects, removals, sizes, own), *_of_random(*known), *ends])


def _of_selected(
    effects: Float[np.ndarray, "k m"],
    removals: Removals,
    sizes: Float[np.ndarray, " k"],
    own: Bool[np.ndarray, "k m"],
) -> tuple[float, ...]:
    """Coefficients of the ratio of change to effect, their covariance, what they leave, and the freedom.

        w = 1 / (v + noise / effect^2),   v such that sum w residual^2 = freedom    (Paule and Mandel 1982)

    A removal that is the top rows of several targets counts as one: each of them has its share of the weight.
    """
    of_removal, _ = np.nonzero(own)
    numbers, counts = np.unique(of_removal, return_counts=True)
    if len(numbers) < FEWEST_SELECTED:
        return (np.nan,) * 10 + (0.0,)
    part = 1.0 / np.repeat(counts, counts)  # [own]
    effect, x = effects[own], np.log(sizes[of_removal])
    ratio, noise = removals.change[own] / effect, removals.noise.mean(axis=1)[of_removal] / effect**2
    columns = [np.ones_like(x), x, (effect > 0).astype(np.float64)]
    used = [0, *(i for i in (1, 2) if np.ptp(columns[i]) > 0)]
    design = np.stack([columns[i] for i in used], axis=1)  # [own, used]
    freedom = len(numbers) - len(used)

    def fitted(variance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        weights = part / (variance + noise)
        inverse = np.linalg.inv(design.T @ (weights[:, None] * design))
        coefficients = inverse @ (design.T @ (weights * ratio))
        return coefficients, inverse, (ratio - design @ coefficients) / np.sqrt(variance + noise)

    low, high = 1e-8 * float((ratio**2).mean()) + 1e-300, float(100 * (ratio**2).sum()) + 1e-300
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (
            (middle, high) if float((part * fitted(middle)[2] ** 2).sum()) > freedom else (low, middle)
        )
    coefficients, inverse, _ = fitted(high)
    every, covariance = np.zeros(3), np.zeros((3, 3))
    every[used], covariance[np.ix_(used, used)] = coefficients, inverse
    return *every.tolist(), *covariance[np.triu_indices(3)].tolist(), high, float(freedom)


def _of_random(
    effects: Float[np.ndarray, "k m"],
    change: Float[np.ndarray, "k m"],
    noise: Float[np.ndarray, "k m"],
    sizes: Float[np.ndarray, " k"],
) -> tuple[float, ...]:
    """Slope, its variance, the variance beyond seeds of a row's effect, and the freedom; removals are the units."""
    k = len(sizes)
    if k < FEWEST_RANDOM:
        return (np.nan,) * 3 + (0.0,)
    weights = 1.0 / sizes[:, None]
    total = float((weights * effects**2).sum())
    slope = float((weights * effects * change).sum()) / total if total > 0 else 0.0
    left = change - slope * effects
    of_removal = (weights * effects * left).sum(axis=1)
    variance = k / (k - 1) * float((of_removal**2).sum()) / total**2 if total > 0 else 0.0
    beyond = (left**2 - noise).mean(axis=1) / sizes
    spread = positive(float(beyond.mean()), float(beyond.std(ddof=1)) / k**0.5)
    return slope, variance, spread, float(k - 1)


def positive(value: float, error: float) -> float:
    """The mean of what is known to be positive and was measured as ``value`` +- ``error`` (a cut normal)."""
    if not error > 0.0:
        return max(value, 0.0)
    z = min(max(value / error, -8.0), 8.0)
    return max(error * (z + float(stats.norm.pdf(z) / stats.norm.cdf(z))), value)
