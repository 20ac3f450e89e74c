"""ModelDiff: which training data two learning algorithms use differently, held against chance."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array, Facts
from dataloupe.apps._chance import (
    AA,
    Law,
    Parts,
    added,
    deals_of,
    law,
    parts_of,
    possible,
    reliability,
    stability,
)
from dataloupe.apps._difference import Chance, Difference, Directions
from dataloupe.core import Attribution, check_same, checked, provenance_of
from dataloupe.solve import By, Contrast, contrast, cosines, variances

OWN = 2.0
"""So many times the other algorithm's variance makes a direction one algorithm's own."""

PENALTIES = ("ridge", "damping")
"""What an ensemble may choose for itself, and what attributions can be solved again at."""


@checked("dl-511")
def compare(
    a: Attribution,
    b: Attribution,
    components: int = 10,
    *,
    by: By = "residual",
    null: AA | None = AA(),  # noqa: B008  (frozen)
    names: tuple[str, str] = ("A", "B"),
    seed: int = 0,
) -> Difference:
    """Directions of training rows that move one algorithm's outputs and not the other's.

        rows of length 1,   R_x = a_x - <a_x, b_x> b_x,   directions = leading right singular vectors of R - 1 mean(R)'

    or one of the other contrasts (``by``; see :func:`dataloupe.solve.contrast`). Both attributions explain the same
    targets by the same training rows; only their directions count, so units may be relative.

    With a null (:class:`dataloupe.AA`) the single models behind both (``parts``, five or more of each for the default level)
    are put together and dealt into two ensembles anew, again and again. The rows compared are then the means of as many
    single models on both sides, shrunk by their reliability. A direction is kept if its value is larger than the largest
    that deals give, at the null's level, and its variance at least twice that of the other algorithm. Where the ratio of
    both stands among those of deals (``ratio_p``) decides nothing: uneven deals hold nearly all of what truly differs, of
    either side.

    Single models behind two ensembles are exchangeable only at one ridge. Where each ensemble chose its own (``TRAK()``),
    both are solved again at the larger one, or at the one that was given, and a note says so.

    Raises ``BadInput`` dl-780 (other sizes, components), dl-512 (other training data, targets or output), dl-515 (unlike
    ridges, and an attribution that cannot be solved again), dl-783 (too few single models).

    >>> from dataloupe.core import DenseAttribution, Info
    >>> shared = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    >>> only = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    >>> a, b = (DenseAttribution(rows, Info("by hand")) for rows in (shared + only, shared))
    >>> found = compare(a, b, components=1, null=None)
    >>> np.abs(found.sides[0].vectors).round(2).tolist(), found.sides[0].ratio.tolist()
    ([[0.0, 0.0, 1.0]], [inf])

    Source: Shah, Park, Ilyas and Madry 2023 (ModelDiff), section 3; the null is ours.
    """
    checked = _check(a, b, components)
    a, b, alike = _solved_alike(a, b, names)
    record = _shared_record(a, b)
    streams = [Stream.root(seed)("compare", side) for side in (0, 1)]
    if null is None:
        rows = _rows(a), _rows(b)
        find = functools.partial(_find, components, by, None)
        sides = [_side(names, i, rows, find(rows[i], rows[1 - i], streams[i])) for i in (0, 1)]
        notes = (*alike, *_notes(rows, names), *checked)
        return Difference(names, by, (sides[0], sides[1]), cosines(*rows), notes=notes, provenance=record)
    parts = parts_of(a, names[0]), parts_of(b, names[1])
    models = min(map(len, parts))
    paired, dealt = _dealt(models, null, (a, b))
    both, pool = (parts[0][:models], parts[1][:models]), [*parts[0][:models], *parts[1][:models]]
    rows = _mean(both[0]), _mean(both[1])
    find = functools.partial(_find, components, by, reliability(pool, models))
    full = [find(rows[i], rows[1 - i], streams[i]) for i in (0, 1)]
    root = Stream.root(null.seed)("chance")
    chance = law(pool, deals_of(models, null.deals, root("deals"), paired=paired), find, root)
    stable = stability(both, (full[0].vectors, full[1].vectors), find, null.halves, root)
    sides = [_side(names, i, rows, full[i], chance, stable[i], null.level) for i in (0, 1)]
    value, ratio = (float(np.quantile(one, null.level, method="higher")) for one in chance[:2])
    sure, cosine = np.stack([reliability(one, models) for one in both]), cosines(*rows)
    noise = np.sqrt(sure[0] * sure[1])
    denoised = np.divide(cosine, noise, out=np.full(a.m, np.nan), where=noise > 0).clip(-1.0, 1.0)
    notes = (*alike, *dealt, *_notes(rows, names), *_unreliable(sure, names), *checked)
    if len(parts[0]) != len(parts[1]):
        told = f"{len(parts[0])} models of {names[0]}, {len(parts[1])} of {names[1]}"
        notes = (*notes, f"{told}: {models} of each are used")
    apart = float(_p(-cosine.mean(keepdims=True), -chance.cosines)[0])
    law_of = Chance(
        len(chance.values), models, paired, null.level, value, ratio if np.isfinite(ratio) else None, apart
    )
    return Difference(names, by, (sides[0], sides[1]), cosine, sure, denoised, law_of, notes, record)


def _shared_record(a: Attribution, b: Attribution) -> Facts:
    """What made the comparison: data, targets and output; two learners are none."""
    records = provenance_of(a), provenance_of(b)
    names = ("train", "targets", "output", "output_name", "better", "rows")
    return {name: record[name] for name in names for record in records if name in record}


def _find(
    components: int, by: By, weight: Array | None, one: Array, other: Array, stream: Stream
) -> Contrast:
    return contrast(one, other, components, by=by, weight=weight, stream=stream)


def _side(
    names: tuple[str, str],
    i: int,
    rows: tuple[Array, Array],
    found: Contrast,
    chance: Law | None = None,
    stable: Array | None = None,
    level: float = 1.0,
) -> Directions:
    """The directions of one algorithm against the other, held against chance."""
    own, other = (variances(one, found.vectors) for one in (rows[i], rows[1 - i]))
    side = Directions(
        names[i], names[1 - i], found.vectors, found.coordinates, found.values, own, other, stability=stable
    )
    if chance is None:
        return side
    p, ratio_p = _p(side.values, chance.values), _p(side.ratio, chance.ratios)
    kept = (p <= 1 - level + 1e-12) & (side.ratio >= OWN)
    return dataclasses.replace(side, p=p, ratio_p=ratio_p, kept=kept)


def _dealt(models: int, null: AA, both: tuple[Attribution, Attribution]) -> tuple[bool, list[str]]:
    """Whether models are swapped within pairs, and what to say of it; dl-783 where no deals reach the level."""
    settings = [one.info.settings for one in both]
    paired = settings[0] == settings[1] and "seed" in settings[0] if null.paired is None else null.paired
    notes = []
    if paired and possible(models, paired=True) < null.fewest <= possible(models, paired=False):
        notes.append(
            f"{models} pairs of models are too few to swap within; dealt freely, which asks more of a difference"
        )
        paired = False
    ways = possible(models, paired=paired)
    if ways < null.fewest:
        raise BadInput(
            "dl-783",
            asked=f"a null at level {null.level}",
            found=f"{models} single models of each algorithm: {ways} ways to deal them anew",
            do=f"take {'8' if paired else '5'} models or more for .99, or ask for null=None",
        )
    return paired, notes


def _mean(parts: Parts) -> Float[np.ndarray, "m n"]:
    """The mean of single models."""
    total = added(np.zeros_like(parts[0]), parts)
    total /= np.float32(len(parts))
    return total


def _rows(attribution: Attribution) -> Float[np.ndarray, "m n"]:
    return np.ascontiguousarray(attribution.rows(slice(None)), dtype=np.float32)


def _p(seen: Float[np.ndarray, " c"], law: Float[np.ndarray, " s"]) -> Float[np.ndarray, " c"]:
    return (1 + (law >= seen[:, None]).sum(axis=1)) / (1 + len(law))


def _notes(rows: tuple[Array, Array], names: tuple[str, str]) -> list[str]:
    """What a reader should know of rows without scores."""
    zero = [int((~one.any(axis=1)).sum()) for one in rows]
    return [
        f"{count} of {len(rows[0])} targets have no score at all under {name}: they have no residual"
        for count, name in zip(zero, names, strict=True)
        if count
    ]


def _unreliable(sure: Float[np.ndarray, "two m"], names: tuple[str, str]) -> list[str]:
    counts = (sure <= 0).sum(axis=1)
    return [
        f"{count} of {sure.shape[1]} targets have scores under {name} that different models do not share: they count as noise"
        for count, name in zip(counts.tolist(), names, strict=True)
        if count
    ]


def _solved_alike(
    a: Attribution, b: Attribution, names: tuple[str, str]
) -> tuple[Attribution, Attribution, list[str]]:
    """Both at one ridge (or damping), where each chose its own: that alone would show as a difference.

    Raises ``BadInput`` dl-515 where an attribution cannot be solved again.
    """
    both, notes = [a, b], []
    for name, (one, other) in _unlike(a, b, PENALTIES).items():
        given = [value for side, value in ((a, one), (b, other)) if _was_given(side, name)]
        told = f"{name} {one:g} in {names[0]} and {other:g} in {names[1]}"
        if len(given) == 2:  # both were set by whoever asks
            notes.append(f"{told}: that alone may show as a difference")
            continue
        shared = given[0] if given else max(one, other)
        both = [_solved_again(side, name, shared, told) for side in both]
        notes.append(f"{told}, as each chose by itself: both were solved again at {shared:g}")
    notes += [
        f"{name} {one:g} in {names[0]} and {other:g} in {names[1]}: that alone may show as a difference"
        for name, (one, other) in _unlike(a, b, ("threshold",)).items()
    ]
    return both[0], both[1], notes


def _was_given(attribution: Attribution, name: str) -> bool:
    """Whether a setting was given, to the method or to the one that it stands for."""
    settings = attribution.info.settings
    return any(one.get(name) is not None for one in (settings, settings.get("method") or {}))


def _solved_again(attribution: Attribution, name: str, value: float, told: str) -> Attribution:
    if attribution.info.certificate.get(name) == value and _was_given(attribution, name):
        return attribution
    again = getattr(attribution, "at_penalty", None)
    if again is None:
        raise BadInput(
            "dl-515",
            asked="two attributions compared",
            found=f"{told}, as each chose by itself, and {attribution.info.method} cannot be solved again here",
            do=f"attribute with one {name} for both, such as {name}={value:g}, and compare before calibrating",
        )
    return again(value)


def _unlike(a: Attribution, b: Attribution, names: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Settings that two ensembles have and do not share, by their names."""
    told = a.info.certificate, b.info.certificate
    found = {name: (told[0].get(name), told[1].get(name)) for name in names}
    return {
        name: (float(one), float(other))
        for name, (one, other) in found.items()
        if one is not None and other is not None and one != other
    }


def _check(a: Attribution, b: Attribution, components: int) -> tuple[str, ...]:
    """The same targets and training rows, in the same order (dl-780, dl-512); notes on what cannot be compared."""
    found = None
    if (a.m, a.n) != (b.m, b.n):
        found = f"{a.m} targets x {a.n} training rows and {b.m} x {b.n}"
        found += ", one of them transposed?" if (a.m, a.n) == (b.n, b.m) else ""
    elif not 1 <= components <= min(a.m - 1, a.n):
        found = f"{a.m} targets and {a.n} training rows for {components} components"
    else:
        one, two = getattr(a, "index", None), getattr(b, "index", None)
        if one is not None and two is not None and not np.array_equal(one, two):
            found = "target rows in another order, or other components of them"
    if found is not None:
        raise BadInput(
            "dl-780",
            asked="two attributions of the same targets to the same training rows, and components of their rows",
            found=found,
            do="attribute the same targets over the same training data with both algorithms, rows = targets",
        )
    return check_same("two algorithms compared", a, b, learner="ignore")
