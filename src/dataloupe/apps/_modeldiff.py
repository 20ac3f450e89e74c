"""ModelDiff: which training data two learning algorithms use differently, held against chance."""

import functools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array
from dataloupe.apps._chance import AA, Law, Seen, measured, parts_of, possible_splits, reliability
from dataloupe.apps._difference import Chance, Difference, Directions
from dataloupe.core import Attribution
from dataloupe.solve import By, Contrast, contrast, variances


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
    targets by the same training rows; only their directions count, so units may be relative. With a null
    (:class:`dataloupe.AA`) halves of each algorithm's models are compared with each other in the same way. Rows are
    shrunk by their reliability, and a direction is kept if its value and its ratio of variances are, at the size of
    halves, larger than the largest that chance gives of either algorithm. Both attributions then need at least two single models behind them
    (``parts``), nine for the default level.

    Raises ``BadInput`` dl-780 (other targets or training data, components), dl-783 (too few single models).

    >>> from dataloupe.core import DenseAttribution, Info
    >>> shared = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    >>> only = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    >>> a, b = (DenseAttribution(rows, Info("by hand")) for rows in (shared + only, shared))
    >>> found = compare(a, b, components=1, null=None)
    >>> np.abs(found.sides[0].vectors).round(2).tolist(), found.sides[0].ratio.tolist()
    ([[0.0, 0.0, 1.0]], [inf])

    Source: Shah, Park, Ilyas and Madry 2023 (ModelDiff), section 3; the null is ours.
    """
    _check(a, b, components)
    rows = _rows(a), _rows(b)
    find = functools.partial(_find, components, by)
    streams = [Stream.root(seed)("compare", side) for side in (0, 1)]
    if null is None:
        full = [find(rows[i], rows[1 - i], np.ones(a.m), streams[i]) for i in (0, 1)]
        sides = tuple(_directions(names, i, full[i], rows) for i in (0, 1))
        return Difference(names, by, sides, _cosine(*rows), notes=tuple(_notes(rows, names)))  # type: ignore[arg-type]
    parts = parts_of(a, names[0]), parts_of(b, names[1])
    _enough(parts, null)
    sure = np.stack([reliability(one) for one in parts])
    full = [find(rows[i], rows[1 - i], sure[i], streams[i]) for i in (0, 1)]
    half, laws, seen = measured(parts, (sure[0], sure[1]), (full[0].vectors, full[1].vectors), find, null)
    tested = [_tested(one, laws) for one in seen]
    sides = tuple(
        _directions(names, i, full[i], rows, (*tested[i], seen[i].stability), null.level) for i in (0, 1)
    )
    bounds = [np.quantile(np.stack(law), null.level, axis=1) for law in laws]
    value, ratio = ((float(bounds[0][i]), float(bounds[1][i])) for i in (0, 1))
    chance = Chance(min(len(law.values) for law in laws), half, null.level, value, ratio)
    cosine = _cosine(*rows)
    noise = np.sqrt(sure[0] * sure[1])
    denoised = np.divide(cosine, noise, out=np.full(a.m, np.nan), where=noise > 0).clip(-1.0, 1.0)
    notes = [*_notes(rows, names), *_unreliable(sure, names)]
    if len(parts[0]) != len(parts[1]):
        told = f"{len(parts[0])} models of {names[0]} and {len(parts[1])} of {names[1]}"
        notes.append(f"{told}: the null and what is held against it use {half} of each")
    return Difference(names, by, sides, cosine, sure, denoised, chance, tuple(notes))  # type: ignore[arg-type]


def _find(components: int, by: By, one: Array, other: Array, weight: Array, stream: Stream) -> Contrast:
    return contrast(one, other, components, by=by, weight=weight, stream=stream)


def _rows(attribution: Attribution) -> Float[np.ndarray, "m n"]:
    return np.ascontiguousarray(attribution.rows(slice(None)), dtype=np.float32)


def _directions(
    names: tuple[str, str],
    i: int,
    found: Contrast,
    rows: tuple[Array, Array],
    told: tuple[Array, Array, Array] | None = None,
    level: float = 1.0,
) -> Directions:
    """One side of the difference; ``told``: p of values, p of ratios, stability."""
    own, other = (variances(one, found.vectors) for one in (rows[i], rows[1 - i]))
    given = (found.vectors, found.coordinates, found.values, own, other)
    if told is None:
        return Directions(names[i], names[1 - i], *given)
    kept = np.maximum(told[0], told[1]) <= 1 - level + 1e-12
    return Directions(names[i], names[1 - i], *given, *told, kept=kept)


def _tested(seen: Seen, laws: tuple[Law, Law]) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """p of values and of ratios: the larger of those under either algorithm's own halves."""
    values = [_p(seen.values, law.values) for law in laws]
    ratios = [_p(seen.ratios, law.ratios) for law in laws]
    return np.maximum(*values), np.maximum(*ratios)


def _p(seen: Float[np.ndarray, " c"], law: Float[np.ndarray, " s"]) -> Float[np.ndarray, " c"]:
    return (1 + (law >= seen[:, None]).sum(axis=1)) / (1 + len(law))


def _cosine(one: Float[np.ndarray, "m n"], two: Float[np.ndarray, "m n"]) -> Float[np.ndarray, " m"]:
    """Of rows; 0 where one is all zero."""
    inner = np.einsum("xi,xi->x", one, two).astype(np.float64)
    sizes = np.sqrt(np.einsum("xi,xi->x", one, one).astype(np.float64) * np.einsum("xi,xi->x", two, two))
    return np.divide(inner, sizes, out=np.zeros(len(one)), where=sizes > 0)


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


def _check(a: Attribution, b: Attribution, components: int) -> None:
    """The same targets and training rows, in the same order."""
    found = None
    if (a.m, a.n) != (b.m, b.n):
        found = f"{a.m} targets x {a.n} training rows and {b.m} x {b.n}"
        found += ", one of them transposed?" if (a.m, a.n) == (b.n, b.m) else ""
    elif not 1 <= components <= min(a.m - 1, a.n):
        found = f"{a.m} targets and {a.n} training rows for {components} components"
    else:
        for what in ("train", "targets"):
            one, two = getattr(a, what, None), getattr(b, what, None)
            if one is not None and two is not None and one.fingerprint != two.fingerprint:
                found = f"other {'training data' if what == 'train' else 'targets'}: their contents differ"
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


def _enough(parts: tuple[Sequence[Array], Sequence[Array]], null: AA) -> None:
    """Enough models for so many splits that the level can be reached."""
    models = min(map(len, parts))
    possible = [possible_splits(len(one), models // 2) for one in parts]
    needed = math.ceil(round(1 / (1 - null.level), 6)) - 1
    if min(possible) < needed:
        reached = 1 - 1 / (1 + min(possible))
        raise BadInput(
            "dl-783",
            asked=f"a null at level {null.level}",
            found=f"{models} single models: {min(possible)} ways to halve them",
            do=f"take 9 models or more for .99, ask for AA(level={math.floor(100 * reached) / 100:g}), or null=None",
        )
