"""The audit of unlearned models: KLoM, accuracy and distance to retraining, split by split, beside doing nothing."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Facts, Ids
from dataloupe.core import check_ids, checked
from dataloupe.judge._bootstrap import Interval, as_json, span
from dataloupe.judge._divergences import Estimator, divergences, most
from dataloupe.judge._klom import Floor, KLoM, Levels, fewest, finite_models, halves, klom

NOTHING, BINS = "nothing", 10
GROUPS = 10
"""Groups of models that the intervals leave out in turn."""


@dataclasses.dataclass(frozen=True)
class SplitAudit:
    """One method on one split: levels of KLoM over its points, and what else the models do there.

    ``normalised`` is 0 at the floor and 1 where nothing was done, at the 95th percentile; ``distance`` is the
    total variation between mean predictions. None: not known (margins only), or nothing there to unlearn.
    """

    points: int
    oracle_first: Levels
    unlearned_first: Levels
    interval: Interval | None
    normalised: float | None
    accuracy: float | None
    distance: float | None
    distance_p95: float | None


@dataclasses.dataclass(frozen=True)
class WorstPoint:
    """A point where a method is far from retraining; of each ensemble the margin's mean and deviation."""

    row: int
    split: str
    klom: float
    unlearned: tuple[float, float]
    oracles: tuple[float, float]
    full: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class MethodAudit:
    """One method: how many models, the floor at that many, every split, the worst points."""

    models: int
    floor: Floor
    splits: dict[str, SplitAudit]
    worst: tuple[WorstPoint, ...]


@dataclasses.dataclass(frozen=True)
class Audit:
    """Every method on every split, "nothing" (the models as they were) first; ``print`` shows the table.

    The headline is ``methods[name].splits[split].oracle_first.p95``. ``halves`` is the floor of the oracles
    themselves, half against half, None where they are too few; ``accuracy`` that of the oracles by split;
    ``diverged`` the models left out before, as told.
    """

    estimator: Estimator
    oracles: int
    most: float
    methods: dict[str, MethodAudit]
    accuracy: dict[str, float] | None
    halves: Floor | None
    diverged: dict[str, int]

    @property
    def idle(self) -> tuple[str, ...]:
        """Splits where there is nothing to unlearn: doing nothing is below twice the floor."""
        splits = self.methods[NOTHING].splits
        return tuple(name for name, split in splits.items() if split.normalised is None)

    @property
    def lost(self) -> tuple[str, ...]:
        """Methods of which no model is left: all diverged."""
        return tuple(name for name in self.diverged if name not in self.methods and name != "oracles")

    def __str__(self) -> str:
        top = "" if np.isinf(self.most) else f", at most {self.most:.2f}"
        lines = [
            f"KLoM ({self.estimator}) of KL(oracle || unlearned) over points{top}; p95 beside [interval]",
            *_table(self),
        ]
        if self.halves is not None:
            lines.append(f"oracles against themselves: {self.halves}")
        for name in self.lost:
            lines.append(f"{name}: all {self.diverged[name]} models diverged")
        if self.idle:
            lines.append(
                f"nothing to unlearn on {', '.join(self.idle)}: doing nothing is below twice the floor"
            )
        return "\n".join(lines)

    def to_json(self) -> Facts:
        """Numbers, lists and strings; the most of an estimator without one is null."""
        return {**as_json(self), "most": None if np.isinf(self.most) else self.most}


@dataclasses.dataclass(frozen=True)
class _Ensemble:
    """What is read off the outputs of k models: margins, and from logits hits and the mean prediction."""

    margins: Float[np.ndarray, "k p"]
    hits: Float[np.ndarray, " p"] | None
    mean: Float[np.ndarray, "p c"] | None


@checked("dl-925")
def audit_outputs(  # budget: three ensembles and their points, each setting with a default
    unlearned: Mapping[str, Float[np.ndarray, "..."]],
    oracles: Float[np.ndarray, "..."],
    full: Float[np.ndarray, "..."],
    labels: Int[np.ndarray, " p"] | None,
    splits: Mapping[str, Ids],
    *,
    estimator: Estimator = "quantile",
    diverged: Mapping[str, int] | None = None,
    worst: int = 10,
    intervals: bool = True,
    seed: int = 0,
) -> Audit:
    """Judge unlearning methods by the outputs of their models, beside retraining and beside doing nothing.

        normalised = (p95 - floor p95) / (p95 of nothing - its floor p95)       of KL(oracle || unlearned) over points
        distance_x = 1/2 sum_c |mean over unlearned of softmax_c - mean over oracles of softmax_c|

    ``unlearned[name] [u, p, c]`` are logits of the u models a method left, on p points; ``oracles [o, p, c]``
    those of models retrained without the forgotten rows, ``full [f, p, c]`` of the models before. Margins
    ``[., p]`` do too, ``labels`` is then None and accuracy and distance are not known. ``splits`` names points, such as
    ``{"forget": ids, "retain": ids, "validation": ids}``; they may overlap. Margins and ``estimator`` are those of
    :func:`klom`. ``diverged`` tells how many models of a method (of "nothing", of "oracles") were left out before.

    ``normalised`` is None on splits where nothing is below twice its floor: there is nothing to unlearn. Accuracy is
    the mean over models and points. ``worst`` points of every method come with their three mean margins.

    ``interval`` (95 %) is where the mean p95 of as many other models would lie (floor included; it is no interval for
    the divergence itself). Drawing models with replacement would inflate KLoM, so each of 10 groups of models is left
    out in turn, of either ensemble, Var = 9/10 sum_g (p95_g - mean)^2, with Student's t at Satterthwaite's degrees of
    freedom. In simulations it was about twice as long as needed, and covered 97 % or more.

    A small KLoM on few points or few models proves little, and models that are destroyed on "retain" may still be
    near the oracles on "forget": read all splits, and the accuracy.

    Raises ``BadInput`` dl-920 to dl-924 (as `klom`; NaN is refused, by method), dl-925 (arrays that do not fit, names,
    settings), dl-108 to dl-111 (points of a split).

    >>> rng = np.random.default_rng(0)
    >>> oracles, tries, full = (rng.normal(shift, 1, (100, 40)) for shift in (0, 0.5, 3))
    >>> found = audit_outputs({"tries": tries}, oracles, full, None, {"forget": range(20)})
    >>> {name: method.splits["forget"].normalised for name, method in found.methods.items()}["nothing"]
    1.0

    Source: Georgiev et al. 2024 (Attribute-to-Delete), section 3; Quenouille 1949, Tukey 1958 (leaving groups out).
    """
    oracles, full = np.asarray(oracles), np.asarray(full)
    unlearned = {name: np.asarray(values) for name, values in unlearned.items()}
    groups = _named(splits, np.shape(oracles))
    _settings(unlearned, diverged or {}, worst)
    read = {"oracles": _read(oracles, labels, np.shape(oracles), "oracles")}
    for name, values in {NOTHING: full, **unlearned}.items():
        read[name] = _read(values, labels, np.shape(oracles), name)
    reference, nothing = read.pop("oracles"), read[NOTHING]
    methods: dict[str, MethodAudit] = {}
    for name, ensemble in read.items():
        result = klom(ensemble.margins, reference.margins, estimator=estimator, seed=seed)
        spread = _intervals(ensemble.margins, reference.margins, estimator, groups, seed) if intervals else {}
        before = methods.get(NOTHING)
        methods[name] = MethodAudit(
            result.models,
            result.floor,
            {
                split: _split(split, ids, result, ensemble, reference, spread.get(split), before)
                for split, ids in groups.items()
            },
            _worst(result, groups, (ensemble, reference, nothing), worst),
        )
    return Audit(
        estimator,
        len(reference.margins),
        max(most(estimator, method.models, len(reference.margins), BINS)[0] for method in methods.values()),
        methods,
        None
        if reference.hits is None
        else {split: float(reference.hits[ids].mean()) for split, ids in groups.items()},
        _own_floor(reference.margins, estimator, seed),
        dict(diverged or {}),
    )


# --- reading -----------------------------------------------------------------------------------------------


def _named(splits: Mapping[str, Ids], shape: tuple[int, ...]) -> dict[str, Int[np.ndarray, " s"]]:
    if not splits or len(shape) not in (2, 3):
        raise BadInput(
            "dl-925",
            asked=f"an audit on {len(splits)} splits of outputs of shape {shape}",
            found="no split, or neither margins [models, points] nor logits [models, points, classes]",
            do='give such arrays and splits={"forget": ids, "retain": ids}',
        )
    return {name: check_ids(ids, shape[1], f"points of split {name!r}") for name, ids in splits.items()}


def _settings(unlearned: Mapping[str, np.ndarray], diverged: Mapping[str, int], worst: int) -> None:
    reserved = sorted({NOTHING, "oracles"} & set(unlearned))
    unknown = sorted(set(diverged) - set(unlearned) - {NOTHING, "oracles"})
    if reserved or unknown or worst < 0 or any(count < 0 for count in diverged.values()):
        raise BadInput(
            "dl-925",
            asked=f"an audit of {', '.join(unlearned) or 'no method'}, diverged {dict(diverged)}, worst={worst}",
            found=f"reserved names {reserved}, unknown names {unknown}, or a count below 0",
            do='name methods otherwise; count diverged models of these, of "nothing" and of "oracles"',
        )


def _read(
    values: Float[np.ndarray, "..."], labels: np.ndarray | None, like: tuple[int, ...], whose: str
) -> _Ensemble:
    """Margins and mean predictions, model by model, in float64."""
    classes = like[2] if len(like) == 3 else 0
    names = np.zeros(like[1], np.int64) if labels is None and not classes else np.asarray(labels)
    whole = np.issubdtype(names.dtype, np.integer) and names.shape == like[1:2]
    in_range = whole and (not classes or 0 <= names.min() <= names.max() < classes)
    if values.shape[1:] != like[1:] or not in_range or classes == 1:
        raise BadInput(
            "dl-925",
            asked=f"outputs of {whose} of shape {values.shape}, labels of shape {names.shape}",
            found=f"oracles' outputs of shape {like}",
            do="give all outputs on the same points and classes, and with logits a label in range for every point",
        )
    finite_models(values, whose)
    if not classes:
        return _Ensemble(values.astype(np.float64), None, None)
    margins, hits, mean = np.empty(values.shape[:2]), np.zeros(like[1]), np.zeros(like[1:])
    rows = np.arange(like[1])
    for model, logits in enumerate(values):
        z = logits.astype(np.float64)
        mean += scipy.special.softmax(z, axis=1)
        hits += z.argmax(axis=1) == names
        own = z[rows, names]
        z[rows, names] = -np.inf
        margins[model] = own - scipy.special.logsumexp(z, axis=1)
    return _Ensemble(margins, hits / len(values), mean / len(values))


# --- judging -----------------------------------------------------------------------------------------------


def _split(
    split: str,
    ids: Int[np.ndarray, " s"],
    result: KLoM,
    ensemble: _Ensemble,
    reference: _Ensemble,
    interval: Interval | None,
    before: MethodAudit | None,
) -> SplitAudit:
    """One method on one split; `before` is doing nothing, None for that itself."""
    first = Levels.of(result.oracle_first[ids])
    floor = result.floor.oracle_first.p95
    undone = first.p95 if before is None else before.splits[split].oracle_first.p95
    low = floor if before is None else before.floor.oracle_first.p95
    apart = None
    if ensemble.mean is not None and reference.mean is not None:
        apart = 0.5 * np.abs(ensemble.mean[ids] - reference.mean[ids]).sum(axis=1)
    return SplitAudit(
        len(ids),
        first,
        Levels.of(result.unlearned_first[ids]),
        interval,
        None if undone < 2 * low else (first.p95 - floor) / (undone - low),
        None if ensemble.hits is None else float(ensemble.hits[ids].mean()),
        None if apart is None else float(apart.mean()),
        None if apart is None else float(np.quantile(apart, 0.95)),
    )


def _worst(
    result: KLoM,
    groups: Mapping[str, Int[np.ndarray, " s"]],
    ensembles: tuple[_Ensemble, _Ensemble, _Ensemble],
    count: int,
) -> tuple[WorstPoint, ...]:
    """The points of largest KL(oracle || unlearned), each under the first split that holds it."""
    home = {int(row): split for split, ids in reversed(list(groups.items())) for row in ids}
    rows = np.array(sorted(home))
    rows = rows[np.argsort(-result.oracle_first[rows], kind="stable")][:count]
    found = []
    for row in rows.tolist():
        u, o, f = ((float(e.margins[:, row].mean()), float(e.margins[:, row].std(ddof=1))) for e in ensembles)
        found.append(WorstPoint(row, home[row], float(result.oracle_first[row]), u, o, f))
    return tuple(found)


def _intervals(
    unlearned: Float[np.ndarray, "u p"],
    oracles: Float[np.ndarray, "o p"],
    estimator: Estimator,
    groups: Mapping[str, Int[np.ndarray, " s"]],
    seed: int,
) -> dict[str, Interval]:
    """The 95th percentile of every split, with groups of models left out in turn."""
    stream = Stream.root(seed)("audit", "groups")

    def headline(u: Float[np.ndarray, "u p"], o: Float[np.ndarray, "o p"]) -> list[float]:
        first = divergences(estimator, u, o, BINS)[0]
        return [float(np.quantile(first[ids], 0.95)) for ids in groups.values()]

    parts = []
    for side, models in (("unlearned", unlearned), ("oracles", oracles)):
        group = stream(side).numpy().permutation(len(models)) % GROUPS
        kept = [models[group != g] for g in range(GROUPS)]
        pairs = [(k, oracles) if side == "unlearned" else (unlearned, k) for k in kept]
        parts.append((GROUPS - 1) * np.var([headline(*pair) for pair in pairs], axis=0))
    return {
        split: _around(centre, float(a), float(b))
        for split, centre, a, b in zip(groups, headline(unlearned, oracles), *parts, strict=True)
    }


def _around(centre: float, a: float, b: float) -> Interval:
    """Student's interval for two variances of GROUPS - 1 degrees of freedom each."""
    if a + b == 0:
        return centre, centre
    dof = (GROUPS - 1) * (a + b) ** 2 / (a**2 + b**2)
    half = float(scipy.stats.t.ppf(0.975, dof)) * float(np.sqrt(a + b))
    return centre - half, centre + half


def _own_floor(oracles: Float[np.ndarray, "o p"], estimator: Estimator, seed: int) -> Floor | None:
    if len(oracles) // 2 < max(fewest(estimator, BINS)):
        return None
    return halves(oracles, estimator=estimator, seed=seed)


# --- telling -----------------------------------------------------------------------------------------------


def _table(audit: Audit) -> list[str]:
    rows = [
        ["method", "models", "split", "points", "p50", "p95", "", "p99", "floor", "norm.", "acc.", "dist."]
    ]

    def many(name: str, models: int) -> str:
        return f"{models} (-{audit.diverged[name]})" if audit.diverged.get(name) else str(models)

    for name, method in audit.methods.items():
        for split, at in method.splits.items():
            first, floor = at.oracle_first, method.floor.oracle_first.p95
            spread = "" if at.interval is None else span(at.interval)
            levels = [
                _two(first.p50),
                _two(first.p95),
                spread,
                _two(first.p99),
                _two(floor),
                _two(at.normalised),
            ]
            others = [_two(at.accuracy, 3), _two(at.distance, 3)]
            rows.append([name, many(name, method.models), split, str(at.points), *levels, *others])
    for split, accuracy in (audit.accuracy or {}).items():
        rows.append(["oracles", many("oracles", audit.oracles), split, *[""] * 7, _two(accuracy, 3), ""])
    if audit.accuracy is None:
        rows.append(["oracles", many("oracles", audit.oracles), *[""] * 10])
    widths = [max(len(row[column]) for row in rows) for column in range(12)]
    words = {0, 2, 6}
    return [
        "  ".join(
            c.ljust(w) if n in words else c.rjust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _two(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
