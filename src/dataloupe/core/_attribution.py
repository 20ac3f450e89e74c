"""What is predicted: a function of the data weights."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput, CapabilityError, UnitsError
from dataloupe._identity import array_digest, identity
from dataloupe._typing import Array, Facts, Ids
from dataloupe.core._direction import Better, Sign, check_better, raises_output
from dataloupe.core._examples import Examples
from dataloupe.core._ids import check_ids, check_removals
from dataloupe.core._learner import Removal
from dataloupe.core._restore import check_stored_scores
from dataloupe.core._scores import (
    LARGE,
    check_held,
    check_kind,
    check_scores,
    check_top,
    check_uncertainty,
)
from dataloupe.core._settings import check_settings, checked
from dataloupe.core._subsets import Subsets

GroupEffect: TypeAlias = Callable[[Sequence[Ids]], Float[np.ndarray, "k m"]]
"""From sets of rows to what removing each, as a group, does to every target."""

Units: TypeAlias = Literal["output", "relative"]
ScoreRole: TypeAlias = Literal["method", "control"]
"""Whether scores are a method's, or there to be beaten."""


@dataclasses.dataclass(frozen=True)
class Info:
    """Where an attribution comes from: method, settings, certificate of the numerics, cost, identity.

    ``role`` tells a method from a control that it has to beat. ``better`` says which way the predicted output is
    better, None where neither is: what "helps" and "hurts" mean. ``provenance`` is the question's record
    (:attr:`Question.provenance`): hashes of training data, targets, output and learner, compared wherever two things are
    put together. ``fitted`` records the trainings that the scores were fitted to, which no judge takes.
    """

    method: str
    settings: Facts = dataclasses.field(default_factory=dict)
    certificate: Facts = dataclasses.field(default_factory=dict)
    cost: Facts = dataclasses.field(default_factory=dict)
    removal: Removal = "repack"
    fraction: float | None = None
    """The share of the data that the models behind it saw: where it was linearised."""
    question: str = ""
    output: str = ""
    """The word for what it predicts: margin, loss ..."""
    note: str = ""
    role: ScoreRole = "method"
    better: Better | None = None
    provenance: Facts = dataclasses.field(default_factory=dict)
    fitted: Sequence[Facts] = ()

    def __post_init__(self) -> None:
        """Check the words; lists that come from JSON are tuples again."""
        check_better(self.better)
        check_settings(self, "dl-510")
        if not (self.fraction is None or 0 < self.fraction <= 1):
            raise BadInput(
                "dl-510",
                asked=f"an attribution from models on a share of {self.fraction} of the data",
                found="no share above 0 up to 1",
                do="give the share, or None where nobody knows it",
            )
        object.__setattr__(self, "fitted", tuple(self.fitted))


@dataclasses.dataclass(frozen=True, eq=False)
class Uncertainty:
    """The standard error of a predicted change, for any removal u in {0, 1}^n and target row j:

        var_j(u) = spread_j |u|^2 + slope_j (scores_j . u)^2 + sum_r spectrum_jr (basis_r . u)^2

    ``spread [m]``: independent error of every score; ``slope [m]``: squared relative error of the scale;
    ``basis [n, r]`` and ``spectrum [m, r]``: correlated errors (ridge), which may be negative (known better
    than ``spread`` says). ``laws``: what removals taught, a :class:`RemovalLaw` in every row; without them nothing
    is known of rows that were selected by their scores.
    """

    spread: Float[np.ndarray, " m"]
    slope: Float[np.ndarray, " m"] | None = None
    basis: Float[np.ndarray, "n r"] | None = None
    spectrum: Float[np.ndarray, "m r"] | None = None
    laws: Float[np.ndarray, "laws q"] | None = None


@runtime_checkable
class Attribution(Protocol):
    """A cheap function of the data weights that predicts outputs; linear unless it says otherwise.

    A positive score says: *having this example raises the output*.
    """

    @property
    def info(self) -> Info: ...
    @property
    def units(self) -> Units: ...
    @property
    def n(self) -> int: ...
    @property
    def m(self) -> int: ...

    def predict(self, subsets: Subsets) -> Float[np.ndarray, "k m"]:
        """The predicted output of models trained on the subsets."""
        ...

    def effect(
        self, removals: Sequence[Ids], *, kind: Literal["sum", "group"] = "sum", targets: Ids | None = None
    ) -> Float[np.ndarray, "k m"]:
        """The predicted change of the output when each set of rows is removed from the training data."""
        ...

    def error(self, removals: Sequence[Ids], *, targets: Ids | None = None) -> Float[np.ndarray, "k m"]:
        """The standard error of :meth:`effect`."""
        ...

    def rows(self, targets: slice | Ids) -> Float[np.ndarray, "m n"]:
        """The scores of some target rows."""
        ...

    def top(self, target: int, k: int, *, sign: Sign = "helps") -> Int[np.ndarray, " k"]:
        """The k training rows that do most of what the word says, the strongest first.

        ``raises``: the largest scores, ``lowers``: the smallest. ``helps`` and ``hurts`` follow ``info.better``: for a loss,
        what helps lowers it. Of an output of no direction ``helps`` is ``raises``. Any other word is refused (dl-510).
        """
        ...

    def parts(self) -> Sequence["Attribution"]:
        """The same attribution from single models, for nulls and intervals; empty where there are none."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class DenseAttribution:
    """Scores in a matrix ``[m, n]``, in memory or memory-mapped: f_j(w) = bias_j + scores_j . w.

    ``units`` is "output" when a score is a change of the output itself, "relative" when only ranks mean
    something (raw TRAK) until :func:`dataloupe.calibrate` gives the scale.

    Raises ``BadInput`` dl-501 (shapes, types; examples of other sizes), dl-502 (NaN, infinity, or overflow in single
    precision), dl-510 (units).

    >>> a = DenseAttribution(np.array([[1.0, -2.0, 0.5]]), Info("by hand"))
    >>> a.top(0, 2).tolist(), a.effect([[1]]).tolist()
    ([0, 2], [[2.0]])
    """

    scores: Float[np.ndarray, "m n"]
    info: Info
    bias: Float[np.ndarray, " m"] | None = None
    units: Units = "output"
    uncertainty: Uncertainty | None = None
    pieces: "Sequence[DenseAttribution]" = ()
    train: Examples | None = None
    targets: Examples | None = None
    index: Int[np.ndarray, "m 2"] | None = None
    group: "GroupEffect | None" = None
    """What removing each set of rows as a group does to every target; None where only sums are known."""
    at_penalty: "Callable[[float], DenseAttribution] | None" = None
    """The same attribution at another ridge or damping; None where nothing is kept to solve it with."""

    def __post_init__(self) -> None:
        """Check words, shapes, and that every score is a number."""
        check_scores(self.scores, self.bias)
        check_settings(self, "dl-510")
        if self.uncertainty is not None:
            check_uncertainty(self.uncertainty, self.scores.shape)
        check_held(self.train, self.targets, self.index, self.scores.shape)

    @property
    def m(self) -> int:
        """Target rows."""
        return self.scores.shape[0]

    @property
    def n(self) -> int:
        """Training examples."""
        return self.scores.shape[1]

    @checked("dl-503")
    def predict(self, subsets: Subsets) -> Float[np.ndarray, "k m"]:
        """bias + masks @ scores.T, in blocks of subsets."""
        if subsets.n != self.n:
            raise BadInput(
                "dl-503",
                asked=f"a prediction for subsets of {subsets.n} examples",
                found=f"an attribution over {self.n}",
                do="use subsets of the same training data",
            )
        found = np.empty((subsets.count, self.m), dtype=np.float32)
        scores = np.asarray(self.scores, dtype=np.float32).T
        step = max(1, 32_000_000 // self.n)
        for start in range(0, subsets.count, step):
            rows = slice(start, min(start + step, subsets.count))
            found[rows] = subsets.masks(rows).astype(np.float32) @ scores
        return found if self.bias is None else found + self.bias.astype(np.float32)

    def effect(
        self, removals: Sequence[Ids], *, kind: Literal["sum", "group"] = "sum", targets: Ids | None = None
    ) -> Float[np.ndarray, "k m"]:
        """Minus the sum of the removed rows' scores, or what the method says of them as a group (dl-510: another kind)."""
        check_kind(kind)
        groups = check_removals(removals, self.n)
        wanted = np.arange(self.m) if targets is None else check_ids(targets, self.m, "target rows")
        if kind == "group" and self.group is not None:
            return self.group(groups)[:, wanted].astype(np.float32)
        if kind == "group":
            raise CapabilityError(
                "dl-504",
                asked="the effect of a group as a group",
                found=f"{self.info.method}, which keeps scores and no features",
                do='use kind="sum" and verify by retraining (what_if), or a method that keeps its features',
            )
        rows = self.scores if targets is None else self.scores[wanted]
        return np.stack([-np.asarray(rows[:, ids], np.float64).sum(1) for ids in groups]).astype(np.float32)

    def along(self, directions: Float[np.ndarray, "n q"]) -> Float[np.ndarray, "q m"]:
        """sum_i score_ji directions_iq of every target."""
        return np.asarray(directions.T.astype(np.float32) @ np.asarray(self.scores).T, np.float64)

    def on(self, targets: Ids) -> "DenseAttribution":
        """The scores of some targets, as an attribution. :meth:`Outcomes.on` takes the same of outcomes."""
        targets = check_ids(targets, self.m, "target rows")
        info = dataclasses.replace(
            self.info, provenance=on_targets(self.info.provenance, targets), question=""
        )
        return DenseAttribution(self.rows(targets), info, units=self.units)

    def error(self, removals: Sequence[Ids], *, targets: Ids | None = None) -> Float[np.ndarray, "k m"]:
        """The standard error of the predicted change; see :class:`Uncertainty`."""
        known = self.uncertainty
        if known is None:
            raise CapabilityError(
                "dl-505",
                asked="the standard error of a prediction",
                found=f"{self.info.method}, which has none in units of the output",
                do="calibrate it: dataloupe.calibrate(attribution, outcomes)",
            )
        rows = np.arange(self.m) if targets is None else check_ids(targets, self.m, "target rows")
        groups = check_removals(removals, self.n)
        found = np.empty((len(groups), len(rows)))
        for k, ids in enumerate(groups):
            variance = known.spread[rows] * len(ids)
            if known.slope is not None:
                variance = (
                    variance
                    + known.slope[rows] * np.asarray(self.scores[rows][:, ids], dtype=np.float64).sum(1) ** 2
                )
            if known.basis is not None and known.spectrum is not None:
                variance = variance + known.spectrum[rows] @ known.basis[ids].sum(0) ** 2
            found[k] = np.sqrt(np.maximum(variance, 0.0))
        return found.astype(np.float32)

    def rows(self, targets: slice | Ids) -> Float[np.ndarray, "m n"]:
        """The scores of some target rows."""
        wanted = targets if isinstance(targets, slice) else check_ids(targets, self.m, "target rows")
        return np.asarray(self.scores[wanted], dtype=np.float32)

    def top(self, target: int, k: int, *, sign: Sign = "helps") -> Int[np.ndarray, " k"]:
        """The k training rows that help or hurt the target, or raise or lower its output, most; ties by row.

        ``helps`` and ``hurts`` follow ``info.better``: for a loss, what helps lowers it. Raises ``BadInput`` dl-506 (k),
        dl-510 (another word).
        """
        highest = raises_output(sign, self.info.better)
        row = self.scores[check_ids([target], self.m, "a target")[0]]
        check_top(k, self.n)
        order = np.argsort(-row if highest else row, kind="stable")
        return order[:k].astype(np.int64)

    def parts(self) -> "Sequence[DenseAttribution]":
        """The same attribution from single models."""
        return self.pieces

    def __identity__(self) -> dict[str, Any]:
        """What it says and of what: the scores, and how they were made; not what making them cost."""
        info = self.info
        about = {name: getattr(info, name) for name in ("method", "settings", "removal", "fraction")}
        arrays, _ = self.to_arrays()
        digests = {name: array_digest(array) for name, array in arrays.items()}
        return {**about, "question": info.question, "output": info.output, "units": self.units, **digests}

    # --- at rest ---

    def to_arrays(self) -> tuple[dict[str, Array], Facts]:
        """(arrays, facts) as a store keeps them; single-model parts and examples stay behind."""
        known = self.uncertainty
        arrays = {"scores": np.asarray(self.scores), "bias": self.bias, "index": self.index}
        if known is not None:
            arrays |= {f"error_{f.name}": getattr(known, f.name) for f in dataclasses.fields(known)}
        return {name: a for name, a in arrays.items() if a is not None}, {
            "info": dataclasses.asdict(self.info),
            "units": self.units,
        }

    @classmethod
    def from_arrays(
        cls,
        arrays: dict[str, Array],
        facts: Facts,
        *,
        train: Examples | None = None,
        targets: Examples | None = None,
    ) -> "DenseAttribution":
        """The reverse of :meth:`to_arrays`. Raises ``BadInput`` dl-501 for what cannot have come from there."""
        check_stored_scores(arrays, facts)
        errors = {name[6:]: array for name, array in arrays.items() if name.startswith("error_")}
        return cls(
            scores=arrays["scores"],
            info=Info(**facts["info"]),
            bias=arrays.get("bias"),
            units=facts["units"],
            uncertainty=Uncertainty(**errors) if errors else None,
            train=train,
            targets=targets,
            index=arrays.get("index"),
        )


def on_targets(provenance: Facts, targets: Ids) -> Facts:
    """The record of some target rows of a question, in their order: of other targets than all of them."""
    if "targets" not in provenance:
        return provenance
    rows = np.asarray(targets, dtype=np.int64)
    if np.array_equal(rows, np.arange(provenance["rows"])):
        return provenance
    chosen = {"targets": identity([provenance["targets"], rows]), "rows": len(rows)}
    return {name: value for name, value in provenance.items() if name != "question"} | chosen


def room_for(shape: tuple[int, int]) -> Float[np.ndarray, "m n"]:
    """Zeros for scores: in memory, or beyond 2^28 numbers in a temporary file that goes when they go."""
    if shape[0] * shape[1] <= LARGE:
        return np.zeros(shape, dtype=np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)


def needs_units(attribution: Attribution, asked: str) -> None:
    """Refuse relative units where a change of the output is claimed (dl-507)."""
    if attribution.units != "output":
        raise UnitsError(
            "dl-507",
            asked=asked,
            found=f"{attribution.info.method} in relative units: its scale can be off by a factor of 75",
            do="calibrate it on subsets you do not report: dataloupe.calibrate(attribution, lab.outcomes(...))",
        )
