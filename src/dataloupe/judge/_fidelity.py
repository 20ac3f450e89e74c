"""Fidelity: how close the predicted outputs are to the measured ones, in their own units, target by target."""

import dataclasses

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe._typing import Facts
from dataloupe.core import Attribution, Outcomes, checked, needs_units
from dataloupe.judge._bootstrap import Bootstrap, Interval, as_json, holding, span
from dataloupe.judge._spearman import check_belonging, judgeable, of_many_subsets, predictions
from dataloupe.kernels import dense_ranks, rank_correlations


@dataclasses.dataclass(frozen=True, eq=False)
class Fidelity:
    """How well an attribution predicts the outputs of fresh retrainings, each number the mean over targets.

    ``pearson``, ``spearman``, ``mse`` and ``explained`` (R2) with intervals, and ``[m]`` of each per target in
    ``per_target``. With repeats also what noise allows: ``noise`` is the variance that the mean of r seeds keeps,
    the smallest ``mse`` there is; ``pearson_ceiling`` and ``explained_ceiling`` are those of the true mean output.
    """

    method: str
    pearson: float
    pearson_interval: Interval
    spearman: float
    spearman_interval: Interval
    mse: float
    mse_interval: Interval
    explained: float
    explained_interval: Interval
    noise: float | None
    pearson_ceiling: float | None
    explained_ceiling: float | None
    per_target: dict[str, Float[np.ndarray, " m"]]
    subsets: int
    repeats: int
    targets: int
    left_out: int = 0
    notes: tuple[str, ...] = ()
    provenance: Facts = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        most = "" if self.pearson_ceiling is None else f" of at most {self.pearson_ceiling:.2f}"
        least = "" if self.noise is None else f" of at least {self.noise:.3g}"
        return (
            f"Pearson {self.pearson:.2f} {span(self.pearson_interval)}{most}, mse {self.mse:.3g}{least}; "
            f"{self.targets} targets x {self.subsets} subsets x {self.repeats} seeds"
        )

    def to_json(self) -> Facts:
        """Numbers, lists and strings."""
        return as_json(self)


@checked("dl-904")
def fidelity(
    attribution: Attribution,
    outcomes: Outcomes,
    *,
    resamples: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> Fidelity:
    """Held-out Pearson, Spearman, mean squared error and R2 of every target, against what seed noise allows.

        mse_j   = mean_k (predict_kj - y_kj)^2,     y_kj = mean over r seeds of outcome_krj
        R2_j    = 1 - mse_j / var_k y_kj            (may be below 0)
        noise_j = mean_k var_r(outcome_krj) / r     (what a perfect prediction misses too)
        ceilings: sqrt(1 - noise_j / var_j) for Pearson, 1 - noise_j / var_j for R2, both at least 0

    Targets whose outcomes are constant count as 0 in the correlations and in R2. The intervals are a two-way
    bootstrap over subsets and targets, widened for few of them as by :func:`lds`. Scores must be in the output's units: ranks are judged by :func:`lds`.

    Raises ``UnitsError`` dl-507 (relative scores), ``BadInput`` dl-910 (an attribution without a bias predicts
    changes, no outputs), dl-901, dl-902, dl-903, dl-904, dl-911.

    >>> from dataloupe.core import DenseAttribution, Info
    >>> masks = ~np.eye(5, dtype=bool)
    >>> scores = np.array([[3.0, 1.0, 4.0, 1.5, 9.0]])
    >>> exact = DenseAttribution(scores, Info("exact"), bias=np.zeros(1))
    >>> print(fidelity(exact, Outcomes.from_arrays(masks, masks @ scores.T)))
    Pearson 1.00 [1.00, 1.00], mse 0; 1 targets x 5 subsets x 1 seeds

    Source: Ilyas et al. 2022 (datamodels), section 3: held-out evaluation.
    """
    _check_sizes(attribution)
    notes = check_belonging("the fidelity", attribution, outcomes, "fit", "calibration")
    judged = judgeable(outcomes)
    kept = judged.outcomes
    predicted = predictions(attribution, kept).astype(np.float64)
    plan = Bootstrap.draw(kept.subsets.count, kept.m, resamples=resamples, seed=seed, level=level)
    measured, weights = kept.mean().astype(np.float64), plan.subsets / plan.subsets.sum(axis=1)[:, None]
    pearson, mse, variance = _moments(predicted, measured, weights)
    explained = np.where(variance > 0, 1.0 - mse / np.where(variance > 0, variance, 1.0), 0.0)
    x, y = dense_ranks(predicted), dense_ranks(measured)
    ranks = rank_correlations(x, y, plan.subsets)
    noise = _noise(kept)
    left = None if noise is None else np.maximum(1.0 - noise / np.maximum(variance[0], 1e-300), 0.0)
    found = {"pearson": pearson, "spearman": ranks, "mse": mse, "explained": explained}
    means = {name: float(values[0].mean()) for name, values in found.items()}
    centres = {**means, "spearman": float(of_many_subsets(ranks[0], x, y).mean())}
    limits = {
        "pearson": (-1.0, 1.0),
        "spearman": (-1.0, 1.0),
        "mse": (0.0, np.inf),
        "explained": (-np.inf, 1.0),
    }
    ends = {
        name: holding(means[name], plan.around(centres[name], plan.deviations(values)), limits[name])
        for name, values in found.items()
    }
    return Fidelity(
        method=attribution.info.method,
        pearson=means["pearson"],
        pearson_interval=ends["pearson"],
        spearman=means["spearman"],
        spearman_interval=ends["spearman"],
        mse=means["mse"],
        mse_interval=ends["mse"],
        explained=means["explained"],
        explained_interval=ends["explained"],
        noise=None if noise is None else float(noise.mean()),
        pearson_ceiling=None if left is None else float(np.sqrt(left).mean()),
        explained_ceiling=None if left is None else float(left.mean()),
        per_target={name: values[0] for name, values in found.items()},
        subsets=kept.subsets.count,
        repeats=kept.repeats,
        targets=kept.m,
        left_out=judged.left_out,
        notes=(*_ceiling_note(kept), *notes),
        provenance=outcomes.provenance,
    )


def _check_sizes(attribution: Attribution) -> None:
    """Refuse scores that predict no outputs: relative ones (dl-507), and changes without a bias (dl-910)."""
    needs_units(attribution, "the distance of predicted from measured outputs")
    if getattr(attribution, "bias", 0) is None:
        raise BadInput(
            "dl-910",
            asked="the distance of predicted from measured outputs",
            found=f"{attribution.info.method} without a bias, which predicts changes only",
            do="judge its ranks with lds, or calibrate it on outcomes",
        )


def _moments(
    x: Float[np.ndarray, "k m"], y: Float[np.ndarray, "k m"], weights: Float[np.ndarray, "b k"]
) -> tuple[Float[np.ndarray, "b m"], Float[np.ndarray, "b m"], Float[np.ndarray, "b m"]]:
    """Pearson, mean squared error and the variance of y in every resample, from weighted sums."""
    level = y.mean(axis=0)
    mse = weights @ (x - y) ** 2
    x, y = x - level, y - level  # about the measured level: sums of squares then lose nothing
    mean_x, mean_y = weights @ x, weights @ y
    xx, yy, xy = weights @ x**2 - mean_x**2, weights @ y**2 - mean_y**2, weights @ (x * y) - mean_x * mean_y
    scale = np.sqrt(np.maximum(xx, 0.0) * np.maximum(yy, 0.0))
    real = scale > 1e-12 * np.maximum((x**2).mean(axis=0) + (y**2).mean(axis=0), 1e-300)
    return np.where(real, xy / np.where(real, scale, 1.0), 0.0), mse, np.maximum(yy, 0.0)


def _noise(outcomes: Outcomes) -> Float[np.ndarray, " m"] | None:
    """The variance that a mean of r seeds keeps, by target; None with a single seed."""
    if outcomes.repeats < 2:
        return None
    return outcomes.values.astype(np.float64).var(axis=1, ddof=1).mean(axis=0) / outcomes.repeats


def _ceiling_note(outcomes: Outcomes) -> tuple[str, ...]:
    if outcomes.repeats > 1:
        return ()
    return ("no ceiling: one seed per subset; measure with repeats=2 to know what noise allows",)
