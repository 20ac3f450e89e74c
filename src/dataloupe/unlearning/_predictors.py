"""What retraining without some rows would do to every prediction of every row, predicted."""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import AbstractAttributor, Lab, Question, Subsets, check_settings
from dataloupe.solve import PENALTIES, Effect, RemovalDesign
from dataloupe.unlearning._context import Context
from dataloupe.unlearning._rows import everything

PROBES = 64
"""Random combinations of trainings that the scale of a prior, and columns that a penalty, are chosen on."""
SHARED = 2.0
"""How much more a change of rows that stay must be than its noise, before any of it counts."""


@runtime_checkable
class Predictor(Protocol):
    """Predicts what oracles predict."""

    def changes(self, context: Context) -> Float[np.ndarray, "rows c"]:
        """Of every row (training rows, then targets): predictions after retraining without the rows minus before."""
        ...


@runtime_checkable
class Local(Predictor, Protocol):
    """A predictor that tells the changes of removed rows alone at a fraction of the cost, and what it rests on."""

    @property
    def prior(self) -> AbstractAttributor | None:
        """The method whose scores stand behind it."""
        ...

    def of_removed(
        self, question: Question, lab: Lab, removed: Int[np.ndarray, " f"]
    ) -> Float[np.ndarray, "f c"]:
        """What :meth:`changes` gives for the removed rows themselves."""
        ...

    def scores(self, question: Question, lab: Lab) -> "Along | None":
        """The scores of ``prior`` for all predictions."""
        ...


@runtime_checkable
class Along(Protocol):
    """An attribution that can be asked for sums over rows with any weights."""

    def along(self, directions: Float[np.ndarray, "n q"]) -> Float[np.ndarray, "q m"]:
        """sum_i score_ji directions_iq of every target."""
        ...

    def on(self, targets: Int[np.ndarray, " t"]) -> "Along":
        """The same of some targets."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Regression:
    """A ridge datamodel of every prediction, asked only for the removal that is wanted.

    ``subsets`` are the trainings: ``fraction`` 0.75 rather than 0.5, since what is asked about is nearly all of the data;
    ``seeds=20``, since trainings that shared a seed are compared among themselves, and what a seed does is then no noise.
    ``prior`` is a method that tells what the trainings do not (``TRAK(models=10)``); it is scaled by one number, fitted to
    the trainings. With v the trainings' weights (:class:`solve.RemovalDesign`), Y their centred predictions, s the scores
    of the prior:

        change = - v'Y - a s'(e - M'v),      a = <s'M', Y> / <s'M', s'M'> over random combinations of trainings

    Subsets of one size cannot tell what the size itself does: effects are told but for their mean over all rows, which is
    taken to be 0. ``penalty`` is chosen by leave-one-out over the trainings unless given. ``effect``:

    - ``sum`` of single effects, all shrunk by the penalty;
    - ``group``: a row's own weight in its own outputs is not penalised, and what the rows have in common is shrunk only as far as it may be noise. With d the change that leaving it
      unpenalised makes (:class:`solve.RemovalDesign`), and its noise s^2 = residual variance |v_group - v_sum|^2, the
      share ``max(0, 1 - sum s^2 / sum d^2)`` of d is added (James and Stein), for every column, removed rows and each class of the
      others apart (twice the noise for these, whose rows share it);
    - ``diag``: each row's own effect on itself, nothing else.

    Raises ``BadInput`` dl-680 (settings), dl-681 (subsets of other data).

    Source: Georgiev et al. 2024 (Attribute-to-Delete), section 4; Ilyas et al. 2022 for the regression.

    >>> Regression(Subsets(n=100, count=500, fraction=0.75, seeds=20)).effect
    'group'
    """

    subsets: Subsets
    prior: AbstractAttributor | None = None
    penalty: float | None = None
    effect: Effect = "group"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-680")
        sane = self.penalty is None or self.penalty > 0
        if self.effect not in ("sum", "group", "diag") or not sane or self.subsets.count < 3:
            raise BadInput(
                "dl-680",
                asked=f"predictions by regression with effect={self.effect!r}, penalty={self.penalty}, {self.subsets.count} subsets",
                found="an unknown effect, a penalty that is not above 0, or fewer than 3 subsets",
                do="use sum, group or diag, a penalty above 0 (or None), and at least 3 subsets (thousands are good)",
            )
        check_blocks(self.subsets)

    def changes(self, context: Context) -> Float[np.ndarray, "rows c"]:
        """The fit, made once for a question, asked about this removal."""
        fit = self.fitted(context.question, context.lab)
        return after_what_is_gone(lambda ids: fit.changes(ids, self.effect), context)

    def of_removed(
        self, question: Question, lab: Lab, removed: Int[np.ndarray, " f"]
    ) -> Float[np.ndarray, "f c"]:
        """What :meth:`changes` gives for the removed rows themselves, at a fraction of the cost."""
        return self.fitted(question, lab).on(removed).changes(removed, self.effect)

    def scores(self, question: Question, lab: Lab) -> Along | None:
        """Those of the prior."""
        return self.fitted(question, lab).prior

    def fitted(self, question: Question, lab: Lab) -> "Fitted":
        """The regression of this question's predictions; remembered as long as the predictor lives."""
        return remembered(self, question.identity, lambda: Fitted.of(self, question, lab))

    @property
    def trainings(self) -> int:
        """How many trainings it takes, without those of the prior."""
        return self.subsets.count


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """A regression of all predictions on the masks of k trainings: ``outputs [k, rows * c]``, less the mean of their block."""

    design: RemovalDesign
    outputs: Float[np.ndarray, "k m"]
    columns: int
    penalty: float
    prior: Along | None
    multiple: float
    strata: Int[np.ndarray, " rows"]
    rows: Int[np.ndarray, " rows"] | None = None

    @classmethod
    def of(cls, asked: Regression, question: Question, lab: Lab) -> "Fitted":
        """Train, measure, choose the penalty and the prior's scale."""
        if asked.subsets.n != question.n:
            raise BadInput(
                "dl-681",
                asked=f"predictions from trainings on subsets of {asked.subsets.n} rows",
                found=f"{question.n} training rows",
                do="give Subsets(n=len(train), ...)",
            )
        every = everything(question)
        kept = lab.outcomes(every, asked.subsets).complete()
        design = design_of(kept.subsets)
        outputs = design.centred(kept.values.reshape(len(kept.values), -1))
        columns = every.m // len(every.targets)
        prior = None if asked.prior is None else scores_of(asked.prior, every, lab)
        multiple = 0.0 if prior is None else multiple_of(design, outputs, prior)
        penalty = asked.penalty or _penalty(design, outputs, prior, multiple)
        return cls(design, outputs, columns, penalty, prior, multiple, _strata(every))

    def on(self, rows: Int[np.ndarray, " r"]) -> "Fitted":
        """The same fit of some rows' predictions (ascending), for removals among them."""
        columns = (rows[:, None] * self.columns + np.arange(self.columns)).ravel()
        prior = None if self.prior is None else self.prior.on(columns)
        part = dataclasses.replace(
            self, outputs=self.outputs[:, columns], prior=prior, strata=self.strata[rows], rows=rows
        )
        part.__dict__["_left"] = self._left  # of all predictions
        return part

    def changes(self, removed: Int[np.ndarray, " f"], effect: Effect) -> Float[np.ndarray, "rows c"]:
        """Predictions after the removal minus before."""
        places = removed if self.rows is None else np.searchsorted(self.rows, removed)
        if effect == "diag":
            return self._own(removed, places)
        v, rest = self.design.weights(removed, self.penalty)
        found = self._told(v, rest)
        if effect == "group":
            unshrunk, left = self.design.weights(removed, self.penalty, "group")
            weights = np.zeros(len(found)) + float(((unshrunk - v) ** 2).sum())
            more = self._told(unshrunk, left) - found
            singles, gain = self.design.own(removed, self.penalty)
            own = gain[:, None] * self._beside_the_prior(places, singles)
            found[places] += own
            more[places] -= own
            weights[places] = ((unshrunk[:, None] - v[:, None] - gain * singles) ** 2).sum(axis=0)
            strata = self.strata.copy()
            strata[places] = -1
            found += _beyond_noise(more, weights[:, None] * self._residual, strata)
        return -found

    def _beside_the_prior(
        self, places: Int[np.ndarray, " f"], singles: Float[np.ndarray, "k f"]
    ) -> Float[np.ndarray, "f c"]:
        """Each removed row's own ridge weight, less what the prior said of it already."""
        outputs = self.outputs.reshape(len(self.outputs), -1, self.columns)[:, places]
        found = np.einsum("kf,kfc->fc", singles.astype(np.float32), outputs).astype(np.float64)
        if self.prior is None:
            return found
        targets = (places[:, None] * self.columns + np.arange(self.columns)).ravel()
        told = self.prior.on(targets).along(self.design.told(singles)).reshape(len(places), len(places), -1)
        return found - self.multiple * told[np.arange(len(places)), np.arange(len(places))]

    def _told(self, v: Float[np.ndarray, " k"], rest: Float[np.ndarray, " n"]) -> Float[np.ndarray, "rows c"]:
        """What the trainings say, and of what they do not the prior."""
        found = (v.astype(np.float32) @ self.outputs).astype(np.float64)
        if self.prior is not None:
            found = found + self.multiple * self.prior.along(rest[:, None])[0]
        return found.reshape(-1, self.columns)

    @cached_property
    def _left(self) -> float:
        """The share of the variance that the regression leaves of a spread of outputs."""
        some = _spread(self.outputs.shape[1])
        wanted = _beside(self.design, self.outputs, self.prior, self.multiple)
        left = float(((self.design.left_out(wanted, self.penalty) - wanted) ** 2).sum())
        return min(1.0, left / max(float((self.outputs[:, some].astype(np.float64) ** 2).sum()), 1e-300))

    @cached_property
    def _residual(self) -> Float[np.ndarray, "rows c"]:
        """The variance of outputs that the regression leaves: all of it, times the share that it leaves of some."""
        variance = np.einsum("km,km->m", self.outputs, self.outputs) / (len(self.outputs) - 1)
        return self._left * variance.astype(np.float64).reshape(-1, self.columns)

    def _own(
        self, removed: Int[np.ndarray, " f"], places: Int[np.ndarray, " f"]
    ) -> Float[np.ndarray, "rows c"]:
        """Each removed row's effect on itself; nothing happens to the others. Of the trainings alone."""
        single = self.design.own(removed, self.penalty)[0]
        outputs = self.outputs.reshape(len(self.outputs), -1, self.columns)
        found = np.zeros(outputs.shape[1:])
        for v, row in zip(single.T, places, strict=True):
            found[row] = -(v @ outputs[:, row].astype(np.float64))
        return found


def remembered(holder: Any, key: Any, make: Callable[[], Any], *, under: str = "_remembered") -> Any:
    """What was made for this key, or is made now; only the latest is kept, as long as its holder lives."""
    known = holder.__dict__.setdefault(under, {})
    if key not in known:
        known.clear()
        known[key] = make()
    return known[key]


def after_what_is_gone(changes: Any, context: Context) -> Float[np.ndarray, "rows c"]:
    """Changes by a removal from what is left: of all that is gone then, less what was gone before."""
    gone = np.flatnonzero(~context.kept)
    if not len(gone):
        return changes(context.forget)
    return changes(np.sort(np.concatenate([gone, context.forget]))) - changes(gone)


def scores_of(method: AbstractAttributor, every: Question, lab: Lab) -> Along:
    """A method's scores for all predictions: as factors where it has them."""
    factored = getattr(method, "factored", None)
    return factored(every, lab) if factored is not None else method.attribute(every, lab)


def check_blocks(subsets: Subsets) -> None:
    """At least three trainings of every seed on average: of fewer, comparing within seeds leaves little or nothing (dl-680)."""
    blocks = len(np.unique(subsets.blocks))
    if subsets.seeds is not None and subsets.count < 3 * blocks:
        raise BadInput(
            "dl-680",
            asked=f"a regression on {subsets.count} trainings with {blocks} seeds, compared within seeds",
            found="fewer than 3 trainings a seed",
            do="take fewer seeds (20), or leave seeds=None: each training its own",
        )


def design_of(subsets: Subsets) -> RemovalDesign:
    """The design of some trainings; those that shared seeds are compared within their blocks."""
    return RemovalDesign(subsets.masks(), None if subsets.seeds is None else subsets.blocks)


def multiple_of(design: RemovalDesign, outputs: Float[np.ndarray, "k m"], prior: Along) -> float:
    """The one scale of a prior, by least squares over random combinations of trainings."""
    told = Stream.root(0)("probes").numpy().standard_normal((len(outputs), PROBES))
    predicted = prior.along(design.told(told))
    seen = told.T.astype(np.float32) @ outputs
    return float((predicted * seen).sum() / max(float((predicted**2).sum()), 1e-300))


def _beyond_noise(
    more: Float[np.ndarray, "rows c"], noise: Float[np.ndarray, "rows c"], strata: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, "rows c"]:
    """The share of a change that is no noise, by stratum of rows and by column (James and Stein 1961).

    Rows that stay (strata from 0) share their noise, so that there are fewer of it than rows: it counts ``SHARED`` times.
    """
    found = more.copy()
    for stratum in np.unique(strata):
        rows = strata == stratum
        size = np.maximum((more[rows] ** 2).sum(axis=0), 1e-300)
        times = 1.0 if stratum < 0 else SHARED
        found[rows] *= np.maximum(0.0, 1.0 - times * noise[rows].sum(axis=0) / size)
    return found


def _strata(every: Question) -> Int[np.ndarray, " rows"]:
    """Rows of one class together, where there are classes."""
    labels = every.targets.labels
    if labels is None or labels.is_floating_point() or labels.ndim != 1:
        return np.zeros(len(every.targets), np.int64)
    return labels.cpu().numpy().astype(np.int64)


def _spread(columns: int) -> Int[np.ndarray, " some"]:
    """Some columns, spread over all."""
    return np.linspace(0, columns - 1, min(4 * PROBES, columns)).astype(int)


def _beside(
    design: RemovalDesign, outputs: Float[np.ndarray, "k m"], prior: Along | None, multiple: float
) -> Float[np.ndarray, "k some"]:
    """What the trainings did on a spread of columns beyond what the prior says, less the mean of each block."""
    some = _spread(outputs.shape[1])
    found = outputs[:, some].astype(np.float64)
    if prior is not None:
        found = found - multiple * prior.on(some).along(design.masks.T.astype(np.float64))
    return design.centred(found)


def _penalty(
    design: RemovalDesign, outputs: Float[np.ndarray, "k m"], prior: Along | None, multiple: float
) -> float:
    """The penalty whose leave-one-out predictions of the trainings are nearest, over a spread of columns."""
    wanted = _beside(design, outputs, prior, multiple)
    errors = [float(((design.left_out(wanted, p) - wanted) ** 2).sum()) for p in PENALTIES]
    return PENALTIES[int(np.argmin(errors))]
