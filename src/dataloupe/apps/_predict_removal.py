"""What removing rows is predicted to do, with an interval where one is known to hold."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Int
from scipy import stats

from dataloupe._errors import BadInput, CapabilityError
from dataloupe.core import Attribution, RemovalLaw, Standing, laws_in, standings

Interval: TypeAlias = tuple[float, float]
"""The lower and the upper end."""

NEAR_ALL = 0.9
"""Errors of random removals hold for scores from models that saw this share of the data or more, and for as few rows."""

HOW = (
    "calibrate on removals for one: dataloupe.calibrate(attribution, lab.outcomes(question, "
    "dataloupe.calibration_removals(attribution), repeats=2)), 68 trainings"
)


def predict_removal(
    attribution: Attribution, target: int, ids: Int[np.ndarray, " g"], level: float
) -> tuple[float, Interval | None, list[str]]:
    """The predicted change, its interval, and notes: why there is none, or on which scale it is.

    By the law that removals of the kind taught, of groups as groups where the method tells them; without a law the sum
    of the scores, with the attribution's own error where that holds.
    """
    row = attribution.rows([target])
    deviations, share = standings(row, ids)
    standing = Standing(float(deviations[0]), float(share[0]))
    for law in reversed(laws_in(getattr(getattr(attribution, "uncertainty", None), "laws", None))):
        effect = _effect(attribution, law, target, ids)
        if effect is None:
            continue
        found = law.predict(effect, len(ids), standing, level)
        if found is None:
            return effect, None, [_beyond(law, len(ids), standing)]
        return found.value, (found.low, found.high), []
    effect = float(attribution.effect([ids], targets=[target])[0, 0])
    return effect, *_own_interval(attribution, target, ids, standing, effect, level)


def _effect(
    attribution: Attribution, law: RemovalLaw, target: int, ids: Int[np.ndarray, " g"]
) -> float | None:
    """The effect that the law is about; None where this group cannot be told as a group."""
    if law.kind == "sum":
        return float(attribution.effect([ids], targets=[target])[0, 0])
    try:
        return float(attribution.effect([ids], kind="group", targets=[target])[0, 0])
    except (BadInput, CapabilityError):
        return None


def _beyond(law: RemovalLaw, size: int, standing: Standing) -> str:
    if size > law.largest:
        return (
            f"no interval: {size} rows are removed, the calibration removed {law.largest:.0f} at most; "
            "calibrate with calibration_removals(..., limit=) of that share"
        )
    kind = "at random" if standing.ordinary else "selected by their scores"
    return f"no interval: too few of the calibration's removals were of rows {kind}"


def _own_interval(
    attribution: Attribution,
    target: int,
    ids: Int[np.ndarray, " g"],
    standing: Standing,
    effect: float,
    level: float,
) -> tuple[Interval | None, list[str]]:
    """The interval of the attribution's own error, if it holds for such rows."""
    fraction, share = attribution.info.fraction, len(ids) / attribution.n
    try:
        error = float(attribution.error([ids], targets=[target])[0, 0])
    except CapabilityError:
        return None, [f"no interval: {attribution.info.method} knows no error; {HOW}"]
    if not standing.ordinary:
        return None, [f"no interval: the rows were selected by their scores, or stand out by them; {HOW}"]
    if fraction is None or fraction < NEAR_ALL - 1e-9 or share > 1 - NEAR_ALL + 1e-9:
        where = "an unknown share" if fraction is None else f"{fraction:.0%}"
        return None, [
            f"no interval: the error is known around models of {where} of the data, {share:.1%} is removed; {HOW}"
        ]
    half = float(stats.norm.ppf(0.5 + level / 2)) * error
    return (effect - half, effect + half), []
