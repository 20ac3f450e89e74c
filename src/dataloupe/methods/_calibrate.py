"""Giving scores the units of the output, and an error bar, by a few retrainings."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe.core import (
    Attribution,
    DenseAttribution,
    GroupEffect,
    Info,
    Outcomes,
    Uncertainty,
    check_same,
    check_unseen,
    checked,
    fitted_to,
    with_learner_of,
)
from dataloupe.methods._removal_law import Removals, fit_laws, positive, removals_in

SUFFIX = ", calibrated"


class Fit(NamedTuple):
    """``slope [m]`` of truth on prediction, its ``variance [m]``, and what it leaves: ``misfit [m]``.

    ``pooled`` and ``pooled_error`` describe the one slope of all targets, ``spread_of_slopes`` how far the
    targets' own slopes stand from it beyond their noise, ``seed_share`` how much of the residual variance is
    seeds (None without repeats), ``r2`` the share of the variance explained.
    """

    slope: Float[np.ndarray, " m"]
    variance: Float[np.ndarray, " m"]
    misfit: Float[np.ndarray, " m"]
    pooled: float
    pooled_error: float
    spread_of_slopes: float
    seed_share: float | None
    r2: float


@checked("dl-511")
def calibrate(attribution: Attribution, outcomes: Outcomes, *, per_target: bool = False) -> DenseAttribution:
    """The attribution in units of the output: scores' = slope * scores, with a bias per target and an error.

    With P the predicted and Y the mean measured outputs, both centred per target:

        slope = sum_kj P_kj Y_kj / sum_kj P_kj^2       one for all targets: a few subsets cannot tell many slopes
        se^2  = k/(k-2) sum_k (sum_j P_kj e_kj)^2 / (sum_kj P_kj^2)^2        subsets are the independent units

    How far the targets' own slopes differ beyond noise is added to se^2 as the error of each target's scale
    (``per_target=True`` uses the own slopes, each with its own error). What remains beyond the seed noise (known
    with 2 or more repeats, else all of it counts) is an independent error of every score:

        spread_j = misfit_j / sum_i a_i (1 - a_i),   a_i = the share of subsets that hold i

    where misfit_j is never below the share that all targets have in common, and what the subsets cannot resolve
    stays in the error. Such errors hold for removals at random near the size of what the subsets leave out. Of rows that
    were picked by their scores the effect is often other than predicted: their scores are large partly by chance, they act
    as a group, and the models that left them out are far from those that the scores were made around.

    Outcomes of :func:`calibration_removals` (removals from all the data, top rows of some targets among them) also teach
    that: P and Y are then changes against the runs on all the data, and the attribution carries a law for removals of
    selected rows and one for rows at random, by which :func:`what_if` predicts, with an interval. Use retrainings that
    you do not report.

    Raises ``BadInput`` dl-720 (other n or m), dl-512 (other training data, targets or output), dl-513 (another learner:
    finished models are of none, and take the one that is measured), dl-514 (the subsets that the scores were fitted to),
    dl-721 (constant predictions), dl-722 (fewer than 3 subsets).

    >>> masks = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1]], dtype=bool)
    >>> raw = DenseAttribution(np.array([[1.0, 2.0, 0.0]]), Info("raw"), units="relative")
    >>> truth = Outcomes.from_arrays(masks, masks @ np.array([[3.0], [6.0], [0.0]]))
    >>> calibrate(raw, truth).scores.round(3).tolist()
    [[3.0, 6.0, 0.0]]
    """
    kept = _usable(attribution, outcomes)
    belonging = _check_belonging(attribution, outcomes)
    removals = removals_in(kept)
    if removals is None:
        found, bias, uncertainty = _by_subsets(attribution, kept, per_target=per_target)
        notes = belonging
    else:
        found, bias, uncertainty, note = _by_removals(attribution, removals, per_target=per_target)
        notes = (*belonging, *([note] if note else []))
    scaled = found.slope[:, None] * attribution.rows(slice(None)).astype(np.float64)
    return DenseAttribution(
        scaled.astype(np.float32),
        _info(attribution.info, outcomes, kept, found, per_target=per_target, belonging=notes),
        bias=(bias - scaled.sum(axis=1)).astype(np.float32),
        uncertainty=uncertainty,
        pieces=getattr(attribution, "pieces", ()),
        group=_scaled_groups(getattr(attribution, "group", None), found.slope),
        train=getattr(attribution, "train", None),
        targets=getattr(attribution, "targets", None),
        index=getattr(attribution, "index", None),
    )


Scaled = tuple[Fit, Float[np.ndarray, " m"], Uncertainty]


def _by_subsets(attribution: Attribution, kept: Outcomes, *, per_target: bool) -> Scaled:
    """The fit to subsets, each target's output with all the data by it, and the error of random removals."""
    predicted = attribution.predict(kept.subsets).astype(np.float64)
    measured, masks = kept.mean().astype(np.float64), kept.subsets.masks()
    centred = predicted - predicted.mean(axis=0)
    _check_varies(attribution, centred, predicted)
    found = fit(centred, measured - measured.mean(axis=0), _seed_noise(kept), per_target=per_target)
    share = masks.mean(axis=0)
    left_out = attribution.rows(slice(None)).astype(np.float64) @ (1 - share)  # [m]
    uncertainty = Uncertainty(
        spread=found.misfit / (share * (1 - share)).sum(),
        slope=found.variance / np.where(found.slope != 0, found.slope**2, 1.0),
    )
    return found, measured.mean(axis=0) + found.slope * left_out, uncertainty


def _by_removals(
    attribution: Attribution, removals: Removals, *, per_target: bool
) -> tuple[Fit, Float[np.ndarray, " m"], Uncertainty, str]:
    """The fit to removals, the output with all the data, and the laws of selected rows and rows at random."""
    if len(removals.rows) < 3:
        raise _too_few(len(removals.rows))
    predicted = attribution.effect(removals.rows).astype(np.float64)
    _check_varies(attribution, predicted, predicted)
    found = fit(predicted, removals.change, removals.noise, per_target=per_target)
    laws, note = fit_laws(attribution, removals, found.slope)
    sizes = float(np.mean([len(rows) for rows in removals.rows]))
    of_sums = laws[0]
    uncertainty = Uncertainty(
        spread=np.full(attribution.m, of_sums.spread) if of_sums.removals > 0 else found.misfit / sizes,
        slope=np.full(attribution.m, of_sums.ratio_variance)
        if of_sums.freedom > 0
        else found.variance / np.where(found.slope != 0, found.slope**2, 1.0),
        laws=np.array(laws, dtype=np.float64),
    )
    return found, removals.full, uncertainty, note


def _check_varies(
    attribution: Attribution, centred: Float[np.ndarray, "k m"], predicted: Float[np.ndarray, "k m"]
) -> None:
    if not np.abs(centred).max() > 1e-5 * np.abs(predicted).max():
        raise BadInput(
            "dl-721",
            asked=f"a scale for {attribution.info.method}",
            found="the same prediction for every subset",
            do="give outcomes of subsets that differ, or scores that are not all equal",
        )


def _scaled_groups(group: GroupEffect | None, slope: Float[np.ndarray, " m"]) -> GroupEffect | None:
    """What groups do, on the same scale."""
    return None if group is None else lambda removals: group(removals) * slope


def fit(
    predicted: Float[np.ndarray, "k m"],
    measured: Float[np.ndarray, "k m"],
    seed_noise: Float[np.ndarray, "k m"] | None,
    *,
    per_target: bool,
) -> Fit:
    """The slopes and what they leave, from centred predictions and measurements."""
    k, m = predicted.shape
    weight = (predicted**2).sum(axis=0)
    weighted = np.where(weight > 0, weight, 1.0)
    pooled = float((predicted * measured).sum() / weight.sum())
    left = predicted * (measured - pooled * predicted)
    pooled_error = float(np.sqrt(k / (k - 2) * (left.sum(axis=1) ** 2).sum())) / float(weight.sum())

    own = np.where(weight > 0, (predicted * measured).sum(axis=0) / weighted, pooled)
    residual = measured - own * predicted
    variance = (residual**2).sum(axis=0) / (k - 2)
    own_variance = k / (k - 2) * ((predicted * residual) ** 2).sum(axis=0) / weighted**2
    apart = weight * ((own - pooled) ** 2 - own_variance) / weight.sum()
    between = positive(float(apart.sum()), float(np.sqrt(m * apart.var()))) if m > 1 else 0.0

    beyond = k / (k - 2) * residual**2 - (0.0 if seed_noise is None else seed_noise)
    rows = beyond.sum(axis=1)
    whole = float(variance.sum())
    common = positive(float(rows.mean()), float(rows.std()) / k**0.5) / whole if whole > 0 else 0.0
    return Fit(
        slope=own if per_target else np.full(m, pooled),
        variance=own_variance if per_target else np.full(m, pooled_error**2 + between),
        misfit=np.maximum(beyond.mean(axis=0), common * variance),
        pooled=pooled,
        pooled_error=pooled_error,
        spread_of_slopes=float(np.sqrt(between)),
        seed_share=None if seed_noise is None else max(0.0, 1.0 - common),
        r2=1.0 - float(((measured - pooled * predicted) ** 2).sum() / max((measured**2).sum(), 1e-300)),
    )


def _seed_noise(outcomes: Outcomes) -> Float[np.ndarray, "k m"] | None:
    """The variance that seeds leave in each subset's mean over repeats; None with one seed.

    What a seed does to all subsets alike is no noise of their differences (paired seeds).
    """
    k, r, _ = outcomes.values.shape
    if r < 2:
        return None
    values = outcomes.values.astype(np.float64)
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean(axis=(0, 1))
    return (left**2).sum(axis=1) * (k / (k - 1) / (r - 1) / r)


def _usable(attribution: Attribution, outcomes: Outcomes) -> Outcomes:
    """The subsets without a diverged run, if they are of the attribution's question and enough."""
    if attribution.n != outcomes.subsets.n or attribution.m != outcomes.m:
        raise BadInput(
            "dl-720",
            asked=f"a scale for scores of {attribution.m} targets x {attribution.n} examples",
            found=f"outcomes of {outcomes.m} targets x {outcomes.subsets.n} examples",
            do="measure outcomes of the same question",
        )
    kept = outcomes.complete()
    if kept.subsets.count < 3:
        raise _too_few(kept.subsets.count)
    return kept


def _too_few(count: int) -> BadInput:
    return BadInput(
        "dl-722",
        asked="a calibration",
        found=f"{count} subsets without a diverged run",
        do="give at least 3 subsets (20 with 2 seeds each are a good number)",
    )


def _check_belonging(attribution: Attribution, outcomes: Outcomes) -> tuple[str, ...]:
    """Refuse outcomes of another question, of another learner, or that the scores were fitted to; notes on the rest."""
    purpose = f"a scale for {attribution.info.method}"
    return (
        *check_same(purpose, attribution, outcomes, learner="refuse"),
        *check_unseen(purpose, attribution, outcomes, "fit"),
    )


def _info(
    info: Info,
    outcomes: Outcomes,
    kept: Outcomes,
    found: Fit,
    *,
    per_target: bool,
    belonging: tuple[str, ...],
) -> Info:
    """The method's own facts, and those of the calibration."""
    notes = [*([info.note] if info.note else []), *belonging]
    if info.removal != outcomes.removal:
        notes.append(f"made under {info.removal}, calibrated on retrainings under {outcomes.removal}")
    if found.pooled - 2 * found.pooled_error <= 0:
        notes.append("the slope is not clearly above 0: the scores predict little here")
    if outcomes.repeats < 2:
        notes.append("one seed per subset: seed noise counts as misfit, so errors are on the wide side")
    certificate = {
        "slope": found.pooled,
        "slope_error": found.pooled_error,
        "spread_of_slopes": found.spread_of_slopes,
        "seed_share": found.seed_share,
        "calibration_r2": found.r2,
        "calibration_subsets": kept.subsets.count,
        "calibration_left_out": outcomes.subsets.count - kept.subsets.count,
    }
    return dataclasses.replace(
        info,
        **_provenance(info, outcomes),
        method=info.method.removesuffix(SUFFIX) + SUFFIX,
        settings={**info.settings, "per_target": per_target},
        certificate={**info.certificate, **certificate},
        removal=outcomes.removal,
        fraction=float(kept.subsets.masks().mean()),
        note="; ".join(notes),
    )


def _provenance(info: Info, outcomes: Outcomes) -> dict[str, Any]:
    """Whose units these are now, and on which trainings they rest: no judge of sizes takes those."""
    record = with_learner_of(info.provenance, outcomes.provenance)
    question = record.get("question", info.question)
    return {
        "provenance": record,
        "question": question,
        "fitted": [*info.fitted, fitted_to("calibration", outcomes)],
    }
