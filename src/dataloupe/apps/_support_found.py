"""What a search for data supports found: case by case, the share that retraining confirms, and the curve."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from dataloupe._errors import BadInput
from dataloupe._typing import Facts

LEVEL = 0.95
"""Of every interval here."""

Edit = Literal["remove", "relabel"]
State = Literal["wrong", "none", "flipped", "kept", "undecided", "unverified"]


@dataclasses.dataclass(frozen=True, eq=False)
class SupportCase:
    """The data support of one target row.

    ``margin``: the mean output of trainings on all the data. ``crossing``: how many rows of the largest scores
    it takes until margin - sum(scores) is 0, interpolated; None where it does not get there within the limit or
    the attribution only ranks. ``rows``: the rows to remove or relabel, largest score first. ``predicted``: the
    output without them. ``values [r]``: what retrainings gave. ``relabelled``: the class that the rows get.
    ``bracket``: of a search, the largest size that did not flip and the smallest that did (None: none did).
    """

    target: int
    margin: float
    crossing: float | None
    rows: Int[np.ndarray, " g"]
    predicted: float | None
    values: Float[np.ndarray, " r"]
    relabelled: int | None = None
    bracket: tuple[int, int | None] | None = None

    @property
    def size(self) -> int | None:
        """How many rows; 0 if the target is wrong already, None if no support was found within the limit."""
        return 0 if self.margin <= 0 else len(self.rows) or None

    @property
    def verified(self) -> float | None:
        """The mean output of the retrainings."""
        return float(self.values.mean()) if len(self.values) else None

    @property
    def error(self) -> float | None:
        """The standard error of that mean."""
        count = len(self.values)
        return float(self.values.std(ddof=1)) / count**0.5 if count > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """mean +- t_{r-1} se, at 95 %."""
        if self.verified is None or self.error is None:
            return None
        half = float(stats.t.ppf(0.5 + LEVEL / 2, len(self.values) - 1)) * self.error
        return self.verified - half, self.verified + half

    @property
    def flips(self) -> bool | None:
        """Whether the mean of the retrainings is not above 0; None without retrainings."""
        return None if self.verified is None else self.verified <= 0

    @property
    def state(self) -> State:
        """``wrong`` already, ``none`` within the limit, or what the interval of the retrainings says.

        ``flipped``: it ends at or below 0; ``kept``: it begins above; ``undecided``: it holds 0 inside.
        """
        if self.size is None:
            return "none"
        if self.size == 0:
            return "wrong"
        if self.interval is None:
            return "unverified"
        low, high = self.interval
        return "flipped" if high <= 0 else "kept" if low > 0 else "undecided"

    def __str__(self) -> str:
        start = f"target {self.target}: margin {self.margin:.2f}, "
        if self.size is None:
            return start + "no support within the limit"
        if self.size == 0:
            return start + "wrong with all the data"
        verb = "removed" if self.relabelled is None else f"relabelled {self.relabelled}"
        told = "" if self.predicted is None else f", predicted {self.predicted:.2f}"
        done = "" if self.interval is None else f", verified {self.verified:.2f} {_span(self.interval)}"
        return f"{start}{self.size} rows {verb}{told}{done}: {self.state}"

    def to_json(self) -> Facts:
        """Fields and verdict as JSON holds them."""
        found = dataclasses.asdict(self) | {"rows": self.rows.tolist(), "values": self.values.tolist()}
        more = {name: getattr(self, name) for name in ("size", "verified", "error", "flips", "state")}
        pairs = {name: _listed(getattr(self, name)) for name in ("interval", "bracket")}
        return {**found, **more, **pairs}


class SupportCurve(NamedTuple):
    """The share of targets flipped against the size of the removal, of ``targets`` that are right at first.

    ``predicted [s]``: the share whose crossing is at most the size (None where the attribution only ranks);
    ``verified [s]``: the share whose removal is at most that large and flips when retrained (NaN without
    retrainings), with the Wilson interval ``low [s]``, ``high [s]``.
    """

    sizes: Int[np.ndarray, " s"]
    predicted: Float[np.ndarray, " s"] | None
    verified: Float[np.ndarray, " s"]
    low: Float[np.ndarray, " s"]
    high: Float[np.ndarray, " s"]
    targets: int


@dataclasses.dataclass(frozen=True, eq=False)
class Support:
    """The data supports of several target rows: ``cases``, and how many of them retraining confirms.

    ``kind``: what is done to the rows. ``limit``: the largest size looked at, of ``n`` rows. ``inflate``: the
    factor on the predicted size; None where the size was found by search. ``verify``: retrainings per case.
    """

    method: str
    kind: Edit
    n: int
    limit: int
    inflate: float | None
    verify: int
    predicts: bool
    cases: tuple[SupportCase, ...]
    notes: tuple[str, ...] = ()
    provenance: Facts = dataclasses.field(default_factory=dict)

    @property
    def right(self) -> list[SupportCase]:
        """The targets that are right with all the data."""
        return [case for case in self.cases if case.margin > 0]

    @property
    def found(self) -> list[SupportCase]:
        """Those of them that have a support within the limit."""
        return [case for case in self.right if len(case.rows)]

    @property
    def judged(self) -> int:
        """How many supports were retrained."""
        return sum(case.flips is not None for case in self.found)

    @property
    def flips(self) -> int:
        """In how many of them the mean of the retrainings is not above 0."""
        return sum(case.flips is True for case in self.found)

    @property
    def share(self) -> float | None:
        """flips / judged."""
        return self.flips / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The Wilson interval of the share."""
        return wilson(self.flips, self.judged) if self.judged else None

    @property
    def median_size(self) -> float | None:
        """The median over all targets that are right; None if half of them have no support within the limit."""
        sizes = [float(len(case.rows) or np.inf) for case in self.right]
        middle = float(np.median(sizes)) if sizes else np.inf
        return middle if np.isfinite(middle) else None

    def curve(self, sizes: Sequence[int] | None = None) -> SupportCurve:
        """The share of targets flipped by removals of at most so many rows, ready to plot.

        Default sizes: those where it steps. Raises ``BadInput`` dl-742 if no target is right at first.
        """
        right = self.right
        if not right:
            raise BadInput(
                "dl-742",
                asked="the share of targets that flip",
                found=f"{len(self.cases)} targets, all wrong with all the data",
                do="ask about targets that the model gets right",
            )
        crossings = np.array([np.inf if case.crossing is None else case.crossing for case in right])
        own = np.array([len(case.rows) or np.inf for case in right])
        flipped = np.array([case.flips is True for case in right])
        known = np.concatenate([own, np.ceil(crossings), [self.limit]])
        steps = np.unique(known[np.isfinite(known)] if sizes is None else np.asarray(sizes)).astype(np.int64)
        counts = [int((flipped & (own <= size)).sum()) for size in steps]
        ends = np.array([wilson(count, len(right)) if self.judged else (np.nan, np.nan) for count in counts])
        return SupportCurve(
            sizes=steps,
            predicted=(crossings <= steps[:, None]).mean(axis=1) if self.predicts else None,
            verified=np.array(counts) / len(right) if self.judged else np.full(len(steps), np.nan),
            low=ends[:, 0],
            high=ends[:, 1],
            targets=len(right),
        )

    def __str__(self) -> str:
        does = "flips" if self.inflate is None else "is predicted to flip"
        edit = "removal" if self.kind == "remove" else "relabelling"
        start = (
            f"{edit} of at most {self.limit} of {self.n:,} rows {does} "
            f"{len(self.found)} of {len(self.right)} targets"
        )
        if self.share is None or self.interval is None:
            return start
        again = "" if self.inflate is not None else " with fresh seeds"
        return (
            f"{start}; retrained{again}, {self.flips} of {self.judged} flip: "
            f"{self.share:.2f} {_span(self.interval)}, by the mean of {self.verify} retrainings"
        )

    def to_json(self) -> Facts:
        """Fields, shares, cases and curve as JSON holds them."""
        names = (
            "method",
            "kind",
            "n",
            "limit",
            "inflate",
            "verify",
            "flips",
            "judged",
            "share",
            "median_size",
        )
        curve = self.curve()._asdict() if self.right else None
        return {
            **{name: getattr(self, name) for name in names},
            "interval": _listed(self.interval),
            "right": len(self.right),
            "found": len(self.found),
            "cases": [case.to_json() for case in self.cases],
            "curve": None if curve is None else {name: _plain(part) for name, part in curve.items()},
            "notes": list(self.notes),
        }


def wilson(count: int, of: int) -> tuple[float, float]:
    """The Wilson interval of a share, at 95 %. Source: Wilson 1927.

    >>> [round(end, 2) for end in wilson(9, 10)]
    [0.6, 0.98]
    """
    ends = stats.binomtest(count, of).proportion_ci(LEVEL, method="wilson")
    return float(ends.low), float(ends.high)


def _span(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:.2f}, {interval[1]:.2f}]"


def _listed(pair: tuple[Any, Any] | None) -> list[Any] | None:
    return None if pair is None else list(pair)


def _plain(part: Any) -> Any:
    """Lists for arrays, None for NaN."""
    if not isinstance(part, np.ndarray):
        return part
    return [None if value != value else value for value in part.tolist()]
