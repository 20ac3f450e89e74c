"""Choosing a setting on the models themselves: each is an outcome that the others predict."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from dataloupe.solve._linearised import Linearised

RIDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
THRESHOLDS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
ROOM = 1 << 26
"""So many scores are looked at at once."""
EQUAL = 0.01
"""Correlations that differ by no more are equally good."""
LEAST = 3
"""Fewer models than this cannot tell."""


@runtime_checkable
class Along(Protocol):
    """A model that predicts without making scores: TRAK's :class:`Linearised`, or the one of Influence."""

    @property
    def slope(self) -> Float[np.ndarray, " n"]:
        """Minus dLoss/doutput of every training row."""
        ...

    def along(
        self, directions: Float[np.ndarray, "n q"], ridges: Sequence[float]
    ) -> Float[np.ndarray, "g q m"]:
        """sum_i score_ji directions_iq for every ridge."""
        ...


class Choice(NamedTuple):
    """The best of some settings, the mean over targets of the correlation that each reached, and its own slope."""

    best: float
    correlation: dict[str, float]
    slope: float


def held_out_ridge(
    models: Sequence[Along],
    masks: Bool[np.ndarray, "k n"],
    measured: Float[np.ndarray, "k m"],
    ridges: Sequence[float] = RIDGES,
) -> Choice:
    """The relative ridge with which models predict the outputs of those held out in turn.

    Model k was trained on the rows of ``masks[k]``, and its outputs on the targets are ``measured[k]``. They are
    predicted by the product of averages over all others. Nothing else was trained, and no truth is touched.
    """
    predicted = np.zeros((len(ridges), *measured.shape))
    slopes = np.stack([one.slope for one in models]).astype(np.float64)
    moves = (masks - masks.mean(axis=0)) * ((slopes.sum(0) - slopes) / (len(models) - 1))
    for k, one in enumerate(models):
        others = np.arange(len(models)) != k
        predicted[:, others] += one.along(moves[others].T, ridges) / (len(models) - 1)
    return best_setting(ridges, predicted, measured)


def held_out_threshold(
    models: Sequence[Linearised],
    masks: Bool[np.ndarray, "k n"],
    measured: Float[np.ndarray, "k m"],
    ridge: float,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    leverage: bool = False,
) -> Choice:
    """The soft threshold, in root mean squares of each target's scores, chosen likewise."""
    slopes = np.stack([one.slope for one in models]).astype(np.float64)
    moves = masks - masks.mean(axis=0)
    weights = [one.weights(ridge) for one in models]
    predicted = np.zeros((len(thresholds), *measured.shape))
    n, m = masks.shape[1], measured.shape[1]
    step = max(1, ROOM // (n * len(models)))
    for start in range(0, m, step):
        some = slice(start, min(start + step, m))
        values = [
            np.concatenate(
                [
                    one.left_out(place, rows, w[:, some], ridge) if leverage else one.scores(rows, w[:, some])
                    for place, rows in one.features
                ]
            )
            for one, w in zip(models, weights, strict=True)
        ]
        for k in range(len(models)):
            others = [i for i in range(len(models)) if i != k]
            left = sum(values[i] for i in others) / len(others) * slopes[others].mean(0)[:, None]
            for g, threshold in enumerate(thresholds):
                predicted[g, k, some] = moves[k] @ soft_threshold(left.T, threshold).T
    return best_setting(thresholds, predicted, measured)


def soft_threshold(scores: Float[np.ndarray, "m n"], threshold: float) -> Float[np.ndarray, "m n"]:
    """sign(s) max(|s| - threshold rms_j, 0), with the root mean square of every target's own scores.

    >>> soft_threshold(np.array([[3.0, -1.0, 0.0, 0.0]]), 1.0).round(2).tolist()
    [[1.42, -0.0, 0.0, 0.0]]
    """
    limit = threshold * np.sqrt((scores.astype(np.float64) ** 2).mean(axis=1))[:, None]
    return (np.sign(scores) * np.maximum(np.abs(scores) - limit, 0.0)).astype(scores.dtype)


def best_setting(
    settings: Sequence[float], predicted: Float[np.ndarray, "g k m"], measured: Float[np.ndarray, "k m"]
) -> Choice:
    """The setting whose predictions of k outcomes go with the measured ones best, target by target.

    Of settings that do so equally well (within 0.01 of the best) the one whose slope is nearest to 1, in ratio.
    """
    truth = measured - measured.mean(axis=0)
    guess = predicted - predicted.mean(axis=1, keepdims=True)
    both, own, theirs = (guess * truth).sum(1), (guess**2).sum(1), (truth**2).sum(0)
    size = np.sqrt(own * theirs)
    found = np.where(size > 0, both / np.where(size > 0, size, 1.0), 0.0).mean(axis=1)
    slopes = both.sum(1) / np.maximum(own.sum(1), 1e-300)
    far = np.abs(np.log(np.where(slopes > 0, slopes, 1e-300)))
    best = int(np.where(found >= found.max() - EQUAL, far, np.inf).argmin())
    named = {f"{setting:g}": round(float(r), 4) for setting, r in zip(settings, found, strict=True)}
    return Choice(float(settings[best]), named, float(slopes[best]))
