"""Calibration: is a predicted change of 1 a measured change of 1?"""

import dataclasses

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe._typing import Facts
from dataloupe.core import Attribution, Outcomes, Units, checked
from dataloupe.judge._bootstrap import Bootstrap, Interval, as_json, holding, span
from dataloupe.judge._spearman import check_belonging, judgeable, predictions


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """Measured on predicted, within targets: ``slope`` (1 is right, above 1 the predictions are too timid),
    ``r2`` the share of the measured variance that the line explains, ``intercept`` the mean offset.

    ``predicted [q]``, ``measured [q]`` and ``measured_error [q]`` are the bins of the calibration plot: means of
    the deviations from each target's own mean, with the standard error of the measured one.
    """

    method: str
    slope: float
    slope_interval: Interval
    intercept: float
    r2: float
    r2_interval: Interval
    predicted: Float[np.ndarray, " q"]
    measured: Float[np.ndarray, " q"]
    measured_error: Float[np.ndarray, " q"]
    targets: int
    subsets: int
    left_out: int = 0
    units: Units = "output"
    notes: tuple[str, ...] = ()
    provenance: Facts = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        scale = "" if self.units == "output" else " (the scale of relative units)"
        low, high = self.slope_interval
        return (
            f"slope {self.slope:#.3g} [{low:#.3g}, {high:#.3g}]{scale}, R2 {self.r2:.2f} {span(self.r2_interval)}; "
            f"{self.targets} targets x {self.subsets} subsets"
        )

    def to_json(self) -> Facts:
        """Numbers, lists and strings."""
        return as_json(self)


@checked("dl-904")
def calibration(
    attribution: Attribution,
    outcomes: Outcomes,
    *,
    resamples: int = 200,
    seed: int = 0,
    level: float = 0.95,
    bins: int = 20,
) -> Calibration:
    """The pooled regression of measured on predicted outputs, each centred within its target.

        slope = Sxy / Sxx,   R2 = Sxy^2 / (Sxx Syy),   Sxy = sum_j sum_k (x_kj - x_.j)(y_kj - y_.j)
        intercept = mean_j (y_.j - slope x_.j)

    x is ``attribution.predict`` and y the mean over seeds, both ``[k, m]``; accumulated in float64. Seed noise in
    y lowers R2 but not the slope. In relative units the slope is the missing scale. Intervals are a two-way
    bootstrap over subsets and targets, with t quantiles for few subsets; bins are equal-count bins of the centred predictions, with the bootstrap
    standard error over subsets.

    Raises ``BadInput`` dl-901 (other n or m), dl-902 (fewer than 4 subsets), dl-911 (subsets that share seeds), dl-903 (NaN predicted), dl-904
    (settings), dl-907 (nothing varies).

    >>> from dataloupe.core import DenseAttribution, Info
    >>> masks = ~np.eye(5, dtype=bool)
    >>> scores = np.array([[3.0, 1.0, 4.0, 1.5, 9.0]])
    >>> timid = DenseAttribution(scores / 2, Info("timid"))
    >>> print(calibration(timid, Outcomes.from_arrays(masks, masks @ scores.T)))
    slope 2.00 [2.00, 2.00], R2 1.00 [1.00, 1.00]; 1 targets x 5 subsets
    """
    if bins < 1:
        raise BadInput("dl-904", asked=f"{bins} bins", found="a number below 1", do="ask for 20")
    notes = check_belonging("the calibration", attribution, outcomes, "fit", "calibration")
    judged = judgeable(outcomes)
    kept = judged.outcomes
    plan = Bootstrap.draw(kept.subsets.count, kept.m, resamples=resamples, seed=seed, level=level)
    raw_x = predictions(attribution, kept).astype(np.float64)
    raw_y = kept.mean().astype(np.float64)
    x, y = raw_x - raw_x.mean(axis=0), raw_y - raw_y.mean(axis=0)
    slopes, shares = _regressions(x, y, plan)
    plot = _bins(x, y, plan, bins)
    return Calibration(
        method=attribution.info.method,
        slope=float(slopes[0]),
        slope_interval=plan.interval(slopes),
        intercept=float((raw_y.mean(axis=0) - slopes[0] * raw_x.mean(axis=0)).mean()),
        r2=float(shares[0]),
        r2_interval=holding(float(shares[0]), plan.interval(shares)),
        predicted=plot[0],
        measured=plot[1],
        measured_error=plot[2],
        targets=kept.m,
        subsets=kept.subsets.count,
        left_out=judged.left_out,
        units=attribution.units,
        notes=notes,
        provenance=outcomes.provenance,
    )


def _regressions(
    x: Float[np.ndarray, "k m"], y: Float[np.ndarray, "k m"], plan: Bootstrap
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """Slope and R2 in every resample, each target centred anew by the subsets drawn."""
    w = plan.subsets.astype(np.float64)
    k = len(x)
    sum_x, sum_y = w @ x, w @ y
    xx = plan.over_targets(w @ (x * x) - sum_x * sum_x / k)
    xy = plan.over_targets(w @ (x * y) - sum_x * sum_y / k)
    yy = plan.over_targets(w @ (y * y) - sum_y * sum_y / k)
    usable = (xx > 0) & (yy > 0)
    if not usable[0]:
        raise BadInput(
            "dl-907",
            asked="a regression of measured on predicted outputs",
            found="predictions or outcomes that are the same in every subset",
            do="use an attribution whose scores differ, and outcomes of more than one value",
        )
    slopes = np.divide(xy, xx, out=np.zeros_like(xy), where=usable)
    shares = np.divide(xy * xy, xx * yy, out=np.zeros_like(xy), where=usable)
    return slopes, shares


def _bins(
    x: Float[np.ndarray, "k m"], y: Float[np.ndarray, "k m"], plan: Bootstrap, bins: int
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """Mean predicted, mean measured and its standard error in bins of equal count; tied bins are merged."""
    edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1]))
    member = np.searchsorted(edges, x, side="left")
    member = np.unique(member, return_inverse=True)[1].reshape(x.shape)
    k, q = len(x), int(member.max()) + 1
    cell = (np.arange(k)[:, None] * q + member).ravel()
    counts, sums_x, sums_y = (
        np.bincount(cell, weights, minlength=k * q).reshape(k, q) for weights in (None, x.ravel(), y.ravel())
    )
    w = plan.subsets.astype(np.float64)
    drawn, total = w @ counts, w @ sums_y
    means = np.divide(total, drawn, out=np.full_like(total, np.nan), where=drawn > 0)
    spread = [float(np.std(column[np.isfinite(column)], ddof=1)) for column in means[1:].T]
    return sums_x.sum(axis=0) / counts.sum(axis=0), means[0], np.array(spread)
