"""Which training rows are (nearly) the targets themselves: leakage and near duplicates."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._typing import Array, Facts, Ids
from dataloupe.core import Attribution, check_ids, checked, provenance_of, whole_numbers

Scorer = Callable[[slice], Array]
By = Literal["profile", "row", "weight"]
WAYS: dict[str, str] = {
    "profile": "how far the row moves the targets as a copy of this one would",
    "row": "the weight in robust standard deviations of its target's weights",
    "weight": "the weight as it is",
}
FEW = 100
"""With fewer targets a profile tells a copy from a lookalike badly."""
BLOCK = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Leaks:
    """Pairs (target row, training row) that stand out, the most suspicious first.

    ``targets [p]``, ``rows [p]``, ``scores [p]``, ``weights [p]`` (as the attribution has them), ``errors [p]`` (their
    standard errors, where it has any); ``best [m]`` and ``best_rows [m]`` are the score and the row of every
    target's best pair. A score ranks; whether a pair is a leak is seen by looking at it.
    """

    method: str
    by: By
    units: str
    targets: Int[np.ndarray, " p"]
    rows: Int[np.ndarray, " p"]
    scores: Float[np.ndarray, " p"]
    weights: Float[np.ndarray, " p"]
    errors: Float[np.ndarray, " p"] | None
    best: Float[np.ndarray, " m"]
    best_rows: Int[np.ndarray, " m"]
    notes: tuple[str, ...] = ()
    provenance: Facts = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        if not len(self):
            return f"no pair of {len(self.best)} targets stands out so far ({self.method}, by {self.by})"
        first = f"target {self.targets[0]} and training row {self.rows[0]} ({self.scores[0]:.2f})"
        return f"{len(self)} pairs of {len(self.best)} targets, first {first}; {self.method}, by {self.by}"

    def to_json(self) -> Facts:
        """Every field as JSON holds it."""
        return plain(self)


@checked("dl-750")
def leaks(
    attribution: Attribution,
    k: int = 20,
    *,
    by: By = "profile",
    threshold: float | None = None,
    own: Ids | None = None,
    ridge: float = 0.03,
) -> Leaks:
    """The k pairs (target, training row) in which the row is most nearly the target itself.

    ``profile``: what row i does to all targets, c_i = S_.i / |S_.i|, and what a copy of target j would do, K_.j, both as
    ridge mixtures of the targets, compared:

        K = C C',   A = (K + ridge tr(K) / m I)^-1,   score_ji = cos((A C)_.i, (A K)_.j)

    which is 1 if row i moves the targets as a copy of target j would. How strongly a row is felt at all (a hard row
    moves every target) divides out; in ``row`` (weight minus its target's median, over 1.4826 MAD) and ``weight`` it does
    not. ``threshold`` keeps the pairs that reach it. ``own [m]`` names the training row that each target is (-1: none):
    never its own leak; with targets = training rows, ``own=range(n)`` finds duplicates within the training data. Scores
    may be in relative units. Costs m^2 n, with the scores in memory once.

    Raises ``BadInput`` dl-750 (k, ridge, a word for ``by``), dl-751 (a profile of one target), dl-752 (no weight is
    above nothing), dl-753 and dl-108 to dl-111 (``own`` does not fit).

    >>> from dataloupe.core import DenseAttribution, Info
    >>> rng = np.random.default_rng(0)
    >>> x, loud = rng.standard_normal((60, 10)), rng.uniform(0.1, 10, 60)
    >>> targets = np.concatenate([rng.standard_normal((29, 10)), x[7:8]])
    >>> found = leaks(DenseAttribution(targets @ x.T * loud, Info("by hand")), k=1)
    >>> found.targets.tolist(), found.rows.tolist()
    ([29], [7])

    Source: train-test leakage by weight, Ilyas et al. 2022 (datamodels), section 4.2.
    """
    skip = _check(attribution, k, by, ridge, own)
    weights = np.asarray(attribution.rows(slice(None)))
    if not weights.any():
        raise BadInput(
            "dl-752",
            asked="pairs that stand out",
            found=f"{attribution.info.method} with nothing but zeros",
            do="look at the attribution: its outputs or gradients do not depend on the training data",
        )
    scorer = _profile(weights, ridge) if by == "profile" else _plain(weights, by)
    best = np.full(attribution.m, -np.inf)
    best_rows = np.zeros(attribution.m, dtype=np.int64)
    kept = np.empty((0, 3))
    for start in range(0, attribution.n, BLOCK):
        columns = slice(start, min(start + BLOCK, attribution.n))
        block = scorer(columns)
        inside = np.flatnonzero((skip >= columns.start) & (skip < columns.stop))
        block[inside, skip[inside] - start] = -np.inf
        top = block.argmax(axis=1)
        values = block[np.arange(len(block)), top]
        better = values > best
        best[better], best_rows[better] = values[better], top[better] + start
        kept = _first(np.concatenate([kept, _candidates(block, start, k)]), k)
    kept = kept[kept[:, 0] >= (-np.inf if threshold is None else threshold)]
    kept = kept[np.isfinite(kept[:, 0])]
    targets, rows = kept[:, 1].astype(np.int64), kept[:, 2].astype(np.int64)
    return Leaks(
        method=attribution.info.method,
        by=by,
        units=attribution.units,
        targets=targets,
        rows=rows,
        scores=kept[:, 0],
        weights=weights[targets, rows].astype(np.float64),
        errors=_errors(attribution, targets, rows),
        best=best,
        best_rows=best_rows,
        notes=_notes(attribution, by),
        provenance=provenance_of(attribution),
    )


def _check(attribution: Attribution, k: int, by: str, ridge: float, own: Ids | None) -> Int[np.ndarray, " m"]:
    """The training row that each target is, -1 where it is none."""
    if by not in WAYS or k < 1 or not 0 < ridge < math.inf:
        raise BadInput(
            "dl-750",
            asked=f"the {k} first pairs by {by!r} (ridge {ridge:g})",
            found="an unknown word, no pairs, or a ridge that is not above 0",
            do=f"use one of {', '.join(WAYS)}, k of at least 1 and ridge=0.03",
        )
    if by == "profile" and attribution.m < 2:
        raise BadInput(
            "dl-751",
            asked="the effects of a training row on other targets",
            found="a single target",
            do='give more targets, or by="row"',
        )
    if own is None:
        return np.full(attribution.m, -1, dtype=np.int64)
    given = whole_numbers(own)
    skip = check_ids(own, attribution.n, "a target's own row") if isinstance(given, str) else given
    named = skip[skip >= 0]
    if skip.shape != (attribution.m,) or (skip < -1).any():
        raise BadInput(
            "dl-753",
            asked="the training row that each target is",
            found=f"{skip.shape} numbers for {attribution.m} targets, or one below -1",
            do="give one row number per target, -1 for a target outside the training data",
        )
    if len(named):
        check_ids(np.unique(named), attribution.n, "the training rows that the targets are")
    if attribution.n < 2:
        raise BadInput(
            "dl-753",
            asked="other rows than a target's own",
            found="a single training row",
            do="leave `own` out",
        )
    return skip.astype(np.int64)


def _profile(weights: Float[np.ndarray, "m n"], ridge: float) -> Scorer:
    """The scores of some columns: the cosine of each row's mixture with that of a copy of each target."""
    m, n = weights.shape
    length = np.sqrt(np.einsum("ji,ji->i", weights, weights, dtype=np.float64))
    length[length == 0] = 1.0
    alike = np.zeros((m, m))
    for start in range(0, n, BLOCK):
        block = weights[:, start : start + BLOCK] / length[start : start + BLOCK]
        alike += block @ block.T
    softened = alike + ridge * np.trace(alike) / m * np.eye(m)
    copies = _unit_columns(np.linalg.solve(softened, alike))
    solve = np.linalg.inv(softened)

    def scores(columns: slice) -> Float[np.ndarray, "m b"]:
        return copies.T @ _unit_columns(solve @ (weights[:, columns] / length[columns]))

    return scores


def _unit_columns(matrix: Float[np.ndarray, "m b"]) -> Float[np.ndarray, "m b"]:
    length = np.linalg.norm(matrix, axis=0)
    return matrix / np.where(length > 0, length, 1.0)


def _plain(weights: Float[np.ndarray, "m n"], by: str) -> Scorer:
    """The scores of some columns: the weights, or how many robust deviations above their row's median."""
    if by == "weight":
        return lambda columns: weights[:, columns].astype(np.float64)
    centre = np.median(weights, axis=1).astype(np.float64)[:, None]
    spread = 1.4826 * np.stack([np.median(np.abs(row - c)) for row, c in zip(weights, centre, strict=True)])
    sparse = spread == 0
    spread[sparse] = weights[sparse].std(axis=1)
    spread = np.where(spread > 0, spread, 1.0)[:, None]
    return lambda columns: (weights[:, columns] - centre) / spread


def _candidates(block: Float[np.ndarray, "m b"], start: int, k: int) -> Float[np.ndarray, "p 3"]:
    """(score, target, row) of a block's k largest entries, ties by target, then by row."""
    flat = block.ravel()
    if k >= flat.size:
        chosen = np.arange(flat.size)
    else:
        least = np.partition(flat, -k)[-k]
        above = np.flatnonzero(flat > least)
        chosen = np.concatenate([above, np.flatnonzero(flat == least)[: k - len(above)]])
    targets, rows = np.divmod(chosen, block.shape[1])
    return np.stack([flat[chosen], targets, rows + start], axis=1)


def _first(pairs: Float[np.ndarray, "p 3"], k: int) -> Float[np.ndarray, "k 3"]:
    """The k largest, ties by target, then by row."""
    return pairs[np.lexsort((pairs[:, 2], pairs[:, 1], -pairs[:, 0]))[:k]]


def _errors(attribution: Attribution, targets: Array, rows: Array) -> Float[np.ndarray, " p"] | None:
    """The standard error of each pair's weight, where the attribution knows one."""
    if not len(rows):
        return None
    found = np.empty(len(rows))
    try:
        for j in np.unique(targets).tolist():
            mine = np.flatnonzero(targets == j)
            found[mine] = attribution.error([[int(i)] for i in rows[mine]], targets=[j])[:, 0]
    except CapabilityError:
        return None
    return found


def _notes(attribution: Attribution, by: str) -> tuple[str, ...]:
    """What the scores cannot say."""
    notes = []
    if by == "profile" and attribution.m < FEW:
        notes.append(
            f"a profile over {attribution.m} targets is short, so that lookalikes may score as high as copies; "
            f"{FEW} or more tell them apart better"
        )
    if by == "weight":
        notes.append("raw weights compare targets of different sensitivity: easy targets hide their leaks")
    return tuple(notes)


def plain(result: Any) -> Facts:
    """The fields of a result as JSON holds them."""
    found: Facts = {}
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if isinstance(value, np.ndarray):
            value = value.tolist()
        elif isinstance(value, tuple):
            value = [plain(part) if dataclasses.is_dataclass(part) else part for part in value]
        elif dataclasses.is_dataclass(value):
            value = plain(value)
        found[field.name] = value
    return found
