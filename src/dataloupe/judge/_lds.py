"""LDS: does the attribution rank the retrainings as they came out?"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe._typing import Array, Facts
from dataloupe.core import Attribution, Outcomes, checked
from dataloupe.judge._bootstrap import Bootstrap, Interval, as_json, holding, span
from dataloupe.judge._ceiling import Ceiling, resampled_ceiling
from dataloupe.judge._spearman import check_belonging, judgeable, of_many_subsets, predictions
from dataloupe.kernels import dense_ranks, rank_correlations

READS_LOW = 0.02
"""A bias from few subsets that is worth a note."""


@dataclasses.dataclass(frozen=True)
class Control:
    """The LDS of an attribution that should do worse, on the same resamples."""

    value: float
    interval: Interval


@dataclasses.dataclass(frozen=True, eq=False)
class LDS:
    """The linear datamodelling score of one attribution, with what is needed to read it.

    ``value`` and ``interval``; ``per_target [m]``; ``ceiling`` is what a perfect attribution would score on
    outcomes this noisy and ``disattenuated = value / ceiling`` with its interval (None with one seed per subset,
    and no interval where that of the ceiling reaches 0);
    ``reliability`` the rank correlation of two seeds; ``controls`` by name; how many ``subsets``, ``repeats``
    (seeds per subset) and ``targets`` it rests on, and how many subsets were ``left_out`` for a diverged run.
    """

    method: str
    value: float
    interval: Interval
    per_target: Float[np.ndarray, " m"]
    ceiling: float | None
    ceiling_interval: Interval | None
    reliability: float | None
    disattenuated: float | None
    controls: dict[str, Control]
    subsets: int
    repeats: int
    targets: int
    left_out: int = 0
    notes: tuple[str, ...] = ()
    disattenuated_interval: Interval | None = None
    provenance: Facts = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        share = ""
        if self.disattenuated is not None:
            ends = "" if self.disattenuated_interval is None else f" {span(self.disattenuated_interval)}"
            share = f", {self.disattenuated:.2f}{ends} of the ceiling {self.ceiling:.2f}"
        basis = f"{self.targets} targets x {self.subsets} subsets x {self.repeats} seeds"
        return f"LDS {self.value:.2f} {span(self.interval)}{share}; {basis}"

    def to_json(self) -> Facts:
        """Numbers, lists and strings."""
        return as_json(self)


@checked("dl-904")
def lds(
    attribution: Attribution,
    outcomes: Outcomes,
    *,
    controls: Mapping[str, Attribution] | Sequence[Attribution] = (),
    resamples: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> LDS:
    """The linear datamodelling score: the rank correlation of predicted and measured outputs.

        LDS = mean over targets j of Spearman_k(predict(subset_k)_j, mean over seeds of outcome_kj)

    The value is the plain mean, as papers report it. Rank correlations of few points read low (by .05 at 10
    subsets, .005 at 100), so the interval is about the LDS that many subsets and other targets of the kind would
    give: a two-way bootstrap (subsets and targets are drawn again together), re-centred on the corrected value
    ((k + 1) s - 3 tau) / (k - 2) and widened for few subsets and targets by t quantiles. With one target it is
    about that target. The ceiling comes from the repeats (:func:`ceiling`), on the same resamples, as do the
    ``controls`` (a mapping by name, or a sequence named by method). A target whose predictions or outcomes are
    constant counts as 0, and a subset with a diverged run is left out; the notes and ``left_out`` say how many.

    Raises ``BadInput`` dl-901 (other n or m), dl-512 (other training data, targets or output), dl-514 (the subsets that
    the scores were fitted to), dl-902 (fewer than 4 subsets), dl-911 (subsets that share seeds), dl-903 (NaN predicted), dl-904
    (settings), dl-906 (two controls of one name), dl-912 (nothing varies). Another learner is noted.

    >>> from dataloupe.core import DenseAttribution, Info
    >>> masks = ~np.eye(5, dtype=bool)
    >>> scores = np.array([[3.0, 1.0, 4.0, 1.5, 9.0]])
    >>> print(lds(DenseAttribution(scores, Info("exact")), Outcomes.from_arrays(masks, masks @ scores.T)))
    LDS 1.00 [1.00, 1.00]; 1 targets x 5 subsets x 1 seeds

    Source: Park et al. 2023, *TRAK*, definition 2.3.
    """
    named = _named(controls)
    notes = check_belonging("the LDS", attribution, outcomes, "fit")
    for control in named.values():
        check_belonging("the LDS", control, outcomes, "fit")
    judged = judgeable(outcomes)
    kept = judged.outcomes
    every = [predictions(one, kept) for one in (attribution, *named.values())]
    plan = Bootstrap.draw(kept.subsets.count, kept.m, resamples=resamples, seed=seed, level=level)
    measured = kept.mean()
    _check_varying(attribution.info.method, every[0], measured)
    judgement, *of_controls = (_judge(one, measured, plan) for one in every)
    top, share = _ceiling(kept, judgement, plan)
    return LDS(
        method=attribution.info.method,
        value=judgement.value,
        interval=judgement.interval,
        per_target=judgement.per_target,
        ceiling=None if top is None else top.value,
        ceiling_interval=None if top is None else top.interval,
        reliability=None if top is None else top.reliability,
        disattenuated=judgement.value / top.value if top is not None and top.value > 0 else None,
        disattenuated_interval=share,
        controls={
            name: Control(found.value, found.interval) for name, found in zip(named, of_controls, strict=True)
        },
        subsets=kept.subsets.count,
        repeats=kept.repeats,
        targets=kept.m,
        left_out=judged.left_out,
        notes=(
            *_reading_notes(top, every[0], measured),
            *_small_notes(judgement, kept),
            *notes,
        ),
        provenance=outcomes.provenance,
    )


def _named(controls: Mapping[str, Attribution] | Sequence[Attribution]) -> dict[str, Attribution]:
    if isinstance(controls, Mapping):
        return dict(controls)
    named = {control.info.method: control for control in controls}
    if len(named) < len(controls):
        raise BadInput(
            "dl-906",
            asked=f"{len(controls)} controls",
            found=f"names given twice: {', '.join(control.info.method for control in controls)}",
            do="give a dict from name to attribution",
        )
    return named


def _check_varying(method: str, predicted: Array, measured: Array) -> None:
    """Refuse ranks of what is the same in every subset: their correlation is undefined, not 0 (dl-912)."""
    still = [
        name
        for name, values in ((f"the predictions of {method}", predicted), ("the outcomes", measured))
        if not np.ptp(values, axis=0).any()
    ]
    if still:
        raise BadInput(
            "dl-912",
            asked=f"the rank correlation of {method} with {len(measured)} outcomes",
            found=f"{' and '.join(still)} are the same in every subset, for all {measured.shape[1]} targets: it is undefined",
            do="judge scores that differ on subsets that differ; such scores predict that no row matters",
        )


class Judgement(NamedTuple):
    """A rank correlation with its interval: ``of_many`` is what many subsets would show, ``deviations`` the resamples about it."""

    value: float
    interval: Interval
    per_target: Float[np.ndarray, " m"]
    of_many: float
    deviations: Float[np.ndarray, " resamples"]


def _judge(predicted: Array, measured: Array, plan: Bootstrap) -> Judgement:
    """The mean rank correlation of predictions ``[k, m]`` with what was measured, and its interval."""
    x, y = dense_ranks(predicted), dense_ranks(measured)
    correlations = rank_correlations(x, y, plan.subsets)  # [b, m]
    value, of_many = float(correlations[0].mean()), float(of_many_subsets(correlations[0], x, y).mean())
    deviations = plan.deviations(correlations)
    interval = holding(value, plan.around(of_many, deviations), (-1.0, 1.0))
    return Judgement(value, interval, correlations[0], of_many, deviations)


def _ceiling(
    outcomes: Outcomes, judgement: Judgement, plan: Bootstrap
) -> tuple[Ceiling | None, Interval | None]:
    """The ceiling, and the interval of the LDS as a share of it; None where there is none."""
    if outcomes.repeats < 2:
        return None, None
    top, heights = resampled_ceiling(outcomes, plan)
    if not (top.value > 0 and plan.quantiles(heights)[0] > 0):
        return top, None
    shares = (judgement.of_many + judgement.deviations) / np.maximum(heights, 1e-9)
    low, high = plan.quantiles(shares)
    value = judgement.value / top.value
    return top, (min(low, value), max(high, value))


def _small_notes(judgement: Judgement, outcomes: Outcomes) -> tuple[str, ...]:
    """What few subsets, or a single target, do to the number."""
    notes = []
    k, low = outcomes.subsets.count, judgement.of_many - judgement.value
    if abs(low) >= READS_LOW:
        notes.append(
            f"{k} subsets read low: many would give about {judgement.of_many:.2f}, which the interval is about"
        )
    if outcomes.m == 1:
        notes.append("a single target: the interval is about this target, not about others like it")
    return tuple(notes)


def _reading_notes(top: Ceiling | None, predicted: Array, measured: Array) -> tuple[str, ...]:
    notes = []
    if top is None:
        notes.append("no ceiling: one seed per subset; measure with repeats=2 to know what noise allows")
    elif top.value <= 0:
        notes.append("the ceiling is 0: two seeds do not agree, so nothing could predict these outcomes")
    constant = int(((np.ptp(predicted, axis=0) == 0) | (np.ptp(measured, axis=0) == 0)).sum())
    if constant:
        notes.append(
            f"{constant} of {measured.shape[1]} targets have constant predictions or outcomes and count as 0"
        )
    return tuple(notes)
