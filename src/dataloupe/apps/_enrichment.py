"""What the ends of a direction have in common: labels and columns that are over-represented there."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int
from scipy import stats
from scipy.stats.contingency import odds_ratio

from dataloupe._errors import BadInput
from dataloupe._identity import identity
from dataloupe._typing import Facts
from dataloupe.apps._difference import Difference, Directions
from dataloupe.apps._leaks import plain
from dataloupe.core import Examples, check_ids, checked

Of = Literal["targets", "rows"]
End = Literal["top", "bottom", "most"]
LABEL = "label"
MANY = 12
"""Numbers of more distinct values than this are cut into quartiles."""
LARGEST, SHARE = 50, 10
"""An end is, where nobody says, this many targets or rows, or one in so many if that is fewer."""
COVERED = 0.95
"""Of the interval of an odds ratio."""


@dataclasses.dataclass(frozen=True)
class Enriched:
    """One value of one column at one end of a direction.

    ``inside`` of the ``k`` at the end have it, and ``outside`` of the ``rest`` others. ``p`` of Fisher's exact test,
    one-sided; ``q`` adjusted over everything looked at. ``odds`` is the conditional odds ratio with its exact 95 %
    interval, where the value was found (else None).
    """

    side: int
    component: int
    of: Of
    end: End
    column: str
    value: str
    inside: int
    k: int
    outside: int
    rest: int
    p: float
    q: float
    odds: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def share_inside(self) -> float:
        """Of those at the end."""
        return self.inside / self.k

    @property
    def share_outside(self) -> float:
        """Of all others."""
        return self.outside / self.rest

    @property
    def where(self) -> str:
        """The end in words."""
        what = "targets" if self.of == "targets" else "training rows"
        return f"{self.k} {what} of largest size" if self.end == "most" else f"{self.end} {self.k} {what}"

    def __str__(self) -> str:
        odds = "" if self.odds is None or self.interval is None else f", odds ratio {_odds(self)}"
        return (
            f"{self.where}: {self.column} {self.value}: {self.inside} of {self.k} ({self.share_inside:.0%}; "
            f"elsewhere {self.share_outside:.1%}){odds}, q {self.q:.2g}"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Enrichment:
    """What :func:`dataloupe.enrichment` looked at, the most surprising first; ``found``: those with q at most ``level``.

    ``difference`` is what it belongs to, ``directions`` the (side, component) that were looked at.
    """

    difference: Difference
    directions: tuple[tuple[int, int], ...]
    lines: tuple[Enriched, ...]
    level: float
    notes: tuple[str, ...] = ()

    @property
    def found(self) -> tuple[Enriched, ...]:
        """What is over-represented."""
        return tuple(line for line in self.lines if line.q <= self.level)

    def of(self, side: int, component: int) -> tuple[Enriched, ...]:
        """What is over-represented at the ends of one direction."""
        return tuple(line for line in self.found if (line.side, line.component) == (side, component))

    def __str__(self) -> str:
        if not self.directions:
            return "no direction to look at"
        looked = f"{len(self.lines)} values looked at, false discovery rate {self.level:.0%}"
        if not self.found:
            return f"nothing is over-represented at the ends ({looked})"
        return "\n".join([f"{len(self.found)} over-represented ({looked})", *map(self.text, self.found)])

    def text(self, line: Enriched) -> str:
        """One line with its direction."""
        return f"direction {line.component} of {self.difference.names[line.side]}, {line}"

    def to_json(self) -> Facts:
        """Every field but ``difference`` as JSON holds it; an odds ratio that is infinite is null."""
        facts: Facts = {"directions": [list(one) for one in self.directions]}
        facts["lines"] = [plain(line) for line in self.lines]
        for line in facts["lines"]:
            line["odds"] = _finite(line["odds"])
            line["interval"] = line["interval"] and [_finite(end) for end in line["interval"]]
        return facts | {"level": self.level, "notes": list(self.notes)}


@checked("dl-786")
def enrichment(
    difference: Difference,
    train: Examples | None = None,
    targets: Examples | None = None,
    *,
    directions: Sequence[tuple[int, int]] | None = None,
    index: Int[np.ndarray, "m 2"] | None = None,
    k: int | None = None,
    columns: Sequence[str] | None = None,
    level: float = 0.05,
) -> Enrichment:
    """Which labels and column values are over-represented at the ends of directions, against all other rows.

        p = P(X >= inside),   X ~ Hypergeometric(all rows, rows with the value, k);   q by Benjamini and Hochberg

    Looked at: the top and bottom ``k`` targets by their coordinate, the k of largest size, and the top and bottom k
    training rows, of ``directions`` (pairs of a side, 0 or 1, and a component; default: those above chance), in the
    label and every column of ``meta`` (or ``columns``). Numbers of more than 12 values are cut into quartiles. A value
    that could not reach ``level`` even if all that have it stood at the end is not looked at. ``index`` names the example
    of every target row (``question.index``), ``k`` is 50, or a tenth of the rows if that is fewer. What stands out here
    is a hypothesis: a :class:`dataloupe.CounterfactualTest` tests it.

    Raises ``BadInput`` dl-786 (a column that is not there, a level, a direction), dl-787 (nothing to look at), dl-788
    (examples that do not fit), dl-512 (other training data or targets), dl-781 (k).

    >>> import torch
    >>> from dataloupe.apps import compare
    >>> from dataloupe.core import DenseAttribution, Info
    >>> shared = np.tile(np.eye(6, 20, 14), (4, 1))
    >>> only = np.outer(np.arange(24) < 6, np.eye(20)[0])
    >>> a, b = (DenseAttribution(rows, Info("by hand")) for rows in (shared + only, shared))
    >>> targets = Examples(torch.zeros(24, 1), meta={"web": ["spider"] * 6 + ["none"] * 18})
    >>> found = enrichment(compare(a, b, 1, null=None), targets=targets, directions=[(0, 0)], k=6)
    >>> line = found.of(0, 0)[0]
    >>> line.end, line.value, line.inside, line.outside, line.q < 1e-4
    ('top', 'spider', 6, 0, True)

    Source: Fisher 1934; Benjamini and Hochberg 1995.
    """
    sides = difference.sides
    chosen = _directions(difference) if directions is None else tuple((int(s), int(c)) for s, c in directions)
    _check(difference, chosen, k, level)
    _check_fit(difference, train, targets, index)
    known = {
        "rows": None if train is None else _columns(train, np.arange(len(train))),
        "targets": None if targets is None else _columns(targets, _example_of(difference, index)),
    }
    wanted = _wanted({what: list(held) for what, held in known.items() if held is not None}, columns)
    tables: list[tuple[Any, ...]] = []
    unseen = 0
    for side, component in chosen:
        for what, end, ids in _ends(sides[side], component, k, train is not None, targets is not None):
            for name, column in (known[what] or {}).items():
                if name in wanted:
                    counted, passed_over = _counts(column, ids, level)
                    unseen += passed_over
                    tables += [(side, component, what, end, name, *count) for count in counted]
    notes = (f"{unseen} values too rare (or too common) to stand out were not looked at",) if unseen else ()
    return Enrichment(difference, chosen, _judged(tables, level), level, notes)


class _Column(NamedTuple):
    """The values of a column, and which of them every row has."""

    names: list[str]
    codes: Int[np.ndarray, " r"]


def _directions(difference: Difference) -> tuple[tuple[int, int], ...]:
    return tuple((difference.sides.index(side), c) for side, c in difference.found)


def _example_of(difference: Difference, index: Int[np.ndarray, "m 2"] | None) -> Int[np.ndarray, " m"]:
    return np.arange(len(difference.cosine)) if index is None else np.asarray(index)[:, 0]


def _ends(
    side: Directions, component: int, k: int | None, rows: bool, targets: bool
) -> Iterator[tuple[Of, End, Int[np.ndarray, " k"]]]:
    """The ids at every end."""
    if targets:
        size = _size(len(side.coordinates)) if k is None else k
        top, bottom = side.targets(component, size)
        yield from (("targets", "top", top), ("targets", "bottom", bottom))
        yield "targets", "most", side.most(component, size)
    if rows:
        top, bottom = side.rows(component, _size(side.vectors.shape[1]) if k is None else k)
        yield from (("rows", "top", top), ("rows", "bottom", bottom))


def _size(rows: int) -> int:
    return max(1, min(LARGEST, rows // SHARE))


def _columns(examples: Examples, ids: Int[np.ndarray, " r"]) -> dict[str, _Column]:
    """The label, if every row has one, and the columns of ``meta``."""
    found: dict[str, _Column] = {}
    labels = examples.labels
    if labels is not None and labels.ndim == 1:
        if labels.is_floating_point():
            found[LABEL] = _coded(labels.numpy()[ids].tolist())
        else:
            found[LABEL] = _coded([examples.label_name(int(i)) for i in ids])
    for name, column in examples.meta.items():
        called = f"meta {name}" if name == LABEL else name
        found[called] = _coded([column[i] for i in ids])
    return found


def _coded(values: Sequence[Any]) -> _Column:
    """Values as they are, or quartiles of many numbers; None and NaN are missing."""
    given = [None if value is None or value != value else value for value in map(_plain, values)]
    numbers = [value for value in given if value is not None]
    if all(isinstance(value, int | float) for value in numbers) and len(set(numbers)) > MANY:
        cuts = np.quantile(np.array(numbers, dtype=np.float64), [0.25, 0.5, 0.75])
        first, middle, last = (f"{cut:.4g}" for cut in cuts)
        names = [f"up to {first}", f"{first} to {middle}", f"{middle} to {last}", f"above {last}"]
        words = ["missing" if v is None else names[int(np.searchsorted(cuts, v))] for v in given]
    else:
        words = ["missing" if value is None else str(value) for value in given]
    known, codes = np.unique(np.array(words, dtype=object), return_inverse=True)
    return _Column([str(word) for word in known], codes)


def _plain(value: Any) -> Any:
    """A number of NumPy or torch as Python's."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


def _counts(
    column: _Column, ids: Int[np.ndarray, " k"], level: float
) -> tuple[list[tuple[str, int, int, int, int]], int]:
    """(value, inside, k, outside, the rest) of every value that could stand out, and how many could not."""
    n, k = len(column.codes), len(ids)
    held = np.bincount(column.codes, minlength=len(column.names))
    inside = np.bincount(column.codes[ids], minlength=len(column.names))
    best = stats.hypergeom.sf(np.minimum(held, k) - 1, n, held, k)
    seen = np.flatnonzero(best <= level)
    counted = [(column.names[v], int(inside[v]), k, int(held[v] - inside[v]), n - k) for v in seen.tolist()]
    return counted, len(held) - len(seen)


def _judged(tables: list[tuple[Any, ...]], level: float) -> tuple[Enriched, ...]:
    """p, q over all of them, and the odds of those found; the smallest p first."""
    if not tables:
        return ()
    inside, k, outside, rest = np.array([table[-4:] for table in tables]).T
    p = stats.hypergeom.sf(inside - 1, k + rest, inside + outside, k)
    q = stats.false_discovery_control(np.clip(p, 0.0, 1.0))
    found = []
    for i in np.argsort(p, kind="stable").tolist():
        odds, interval = _fisher(*tables[i][-4:]) if q[i] <= level else (None, None)
        fields: tuple[Any, ...] = (*tables[i], float(p[i]), float(q[i]), odds, interval)
        found.append(Enriched(*fields))
    return tuple(found)


def _fisher(inside: int, k: int, outside: int, rest: int) -> tuple[float, tuple[float, float]]:
    """The conditional odds ratio and its exact interval."""
    known = odds_ratio([[inside, k - inside], [outside, rest - outside]])
    low, high = known.confidence_interval(COVERED)
    return float(known.statistic), (float(low), float(high))


def _odds(line: Enriched) -> str:
    """The odds ratio with its interval; of an infinite one what it is above."""
    low, high = line.interval or (math.nan, math.nan)
    if line.odds is None or math.isinf(line.odds):
        return f"above {_short(low)}"
    return f"{_short(line.odds)} [{_short(low)}, {_short(high)}]"


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _wanted(known: Mapping[str, list[str]], columns: Sequence[str] | None) -> set[str]:
    """The columns to look at."""
    every = {name for names in known.values() for name in names}
    strange = sorted(set(() if columns is None else columns) - every)
    if strange:
        raise BadInput(
            "dl-786",
            asked=f"enrichment in the column {strange[0]}",
            found=f"the columns {', '.join(sorted(every))}" if every else "no columns at all",
            do="name columns of `meta`, or `label`",
        )
    if not every:
        raise BadInput(
            "dl-787",
            asked="what the ends of directions have in common",
            found="examples without labels and without columns" if known else "no examples",
            do="give train=question.train, targets=question.targets, with labels or Examples(..., meta={...})",
        )
    return every if columns is None else set(columns)


def _check(difference: Difference, chosen: tuple[tuple[int, int], ...], k: int | None, level: float) -> None:
    for side, component in chosen:
        if side not in (0, 1):
            raise BadInput(
                "dl-786", asked=f"directions of side {side}", found="the sides 0 and 1", do="give 0 or 1"
            )
        check_ids([component], len(difference.sides[side].values), "a component")
    if k is not None and k < 1:
        raise BadInput("dl-781", asked=f"the {k} rows of an end", found="none", do="give 1 or more, or None")
    if not 0 < level < 1:
        raise BadInput(
            "dl-786", asked=f"a false discovery rate of {level:g}", found="no share", do="give 0 < level < 1"
        )


def _check_fit(
    difference: Difference,
    train: Examples | None,
    targets: Examples | None,
    index: Int[np.ndarray, "m 2"] | None,
) -> None:
    n, m = difference.sides[0].vectors.shape[1], len(difference.cosine)
    found = None
    if train is not None and len(train) != n:
        found = f"{len(train)} training examples"
    elif index is not None and len(index) != m:
        found = f"an index of {len(index)} target rows"
    elif targets is not None and index is None and len(targets) != m:
        found = f"{len(targets)} target examples and no index of target rows"
    elif targets is not None and index is not None and int(index[:, 0].max()) >= len(targets):
        found = f"{len(targets)} target examples and an index up to {int(index[:, 0].max())}"
    if found is not None:
        raise BadInput(
            "dl-788",
            asked=f"examples of {n} training rows and {m} target rows",
            found=found,
            do="give question.train, question.targets and index=question.index of the question that was compared",
        )
    for part, examples in (("train", train), ("targets", targets)):
        known = difference.provenance.get(part)
        if examples is not None and known and known != identity(examples):
            what = "training data" if part == "train" else "targets"
            raise BadInput(
                "dl-512",
                asked="what the ends of a direction have in common",
                found=f"other {what} than were compared: their contents differ",
                do="give those of the question; attach columns by dataclasses.replace(question.train, meta=...)",
            )
