"""What removals of training rows taught about predicted effects: how large the true ones are, and how far they miss."""

import math
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

ORDINARY = 3.0
"""Rows at random have a sum of scores within so many standard deviations of the mean."""

NEARLY_TOP = 0.9
"""Rows are the selected ones if they have this share of what the largest scores of as many rows have."""


class Standing(NamedTuple):
    """How a set of rows stands out by a target's scores.

    ``deviations``: its sum of scores from that of as many rows at random, in standard deviations. ``share``: the same
    distance as a share of the largest there is on that side, 1 for the top rows themselves.
    """

    deviations: float
    share: float

    @property
    def ordinary(self) -> bool:
        """Whether the rows could be rows at random."""
        return abs(self.deviations) <= ORDINARY and self.share < NEARLY_TOP

    @property
    def selected(self) -> bool:
        """Whether the rows are the target's top rows, or nearly."""
        return abs(self.deviations) > ORDINARY and self.share >= NEARLY_TOP


def standings(
    scores: Float[np.ndarray, "t n"], ids: Int[np.ndarray, " g"]
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """How the rows ``ids`` stand out for each of t targets: deviations and shares.

    >>> deviations, share = standings(np.array([[3.0, 0.0, -1.0, 0.0, 0.0]]), np.array([0]))
    >>> share.tolist()
    [1.0]
    """
    scores = np.asarray(scores, dtype=np.float64)
    size, n = len(ids), scores.shape[1]
    mean, unit = scores.mean(axis=1), scores.std(axis=1) * size**0.5
    distance = scores[:, ids].sum(axis=1) - size * mean
    parted = np.partition(scores, sorted({size - 1, n - size}), axis=1)
    ends = parted[:, n - size :].sum(axis=1) - size * mean, parted[:, :size].sum(axis=1) - size * mean
    largest = np.where(distance > 0, *ends)
    return _divided(distance, unit), _divided(distance, np.where(np.abs(largest) > 1e-6 * unit, largest, 0.0))


def _divided(x: Float[np.ndarray, " t"], by: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    return np.divide(x, by, out=np.zeros_like(x), where=by != 0)


class Prediction(NamedTuple):
    """A predicted change of the output and its interval."""

    value: float
    low: float
    high: float


class RemovalLaw(NamedTuple):
    """From a predicted effect to the change that removals of the kind really had, fitted to such removals.

    Rows of the largest or smallest scores (of other targets, each for its own):

        change = effect * (c_0 + c_1 log g + c_2 [effect > 0])     +- effect * sqrt(ratio_variance + x' inverse x)

    Rows at random:   change = slope * effect                      +- sqrt(spread g + slope_variance effect^2)

    g is the number of rows, ``inverse_*`` the covariance of the coefficients, ``freedom`` and ``removals`` the degrees of
    freedom (0: not known). ``smallest`` and ``largest`` are the sizes that were removed. ``group`` is 1 for effects as a
    group, 0 for sums.
    """

    group: float
    c_0: float
    c_1: float
    c_2: float
    inverse_00: float
    inverse_01: float
    inverse_02: float
    inverse_11: float
    inverse_12: float
    inverse_22: float
    ratio_variance: float
    freedom: float
    slope: float
    slope_variance: float
    spread: float
    removals: float
    smallest: float
    largest: float

    @property
    def kind(self) -> Literal["sum", "group"]:
        """Which effect it is about."""
        return "group" if self.group else "sum"

    def predict(self, effect: float, size: int, standing: Standing, level: float) -> Prediction | None:
        """The change that removing ``size`` rows makes; None where no removal of the kind was calibrated on.

        Rows that neither could be random nor are the top ones may do as little as rows at random, or as much as the
        top rows (scores that fell short of them may be too small): their interval holds all of that.
        """
        if size > self.largest * 1.001:
            return None
        if standing.ordinary:
            return self._ordinary(effect, size, level)
        chosen = self._selected(effect, size, level)
        if standing.selected or chosen is None:
            return chosen
        most = self._selected(effect / max(standing.share, 0.1), size, level)
        least = self._ordinary(effect, size, level)
        if least is None or most is None:
            return None
        ends = [end for one in (chosen, least, most) for end in (one.low, one.high)]
        return Prediction(chosen.value, min(ends), max(ends))

    def _ordinary(self, effect: float, size: int, level: float) -> Prediction | None:
        if not self.removals > 0:
            return None
        error = math.sqrt(self.spread * size + self.slope_variance * effect**2)
        half = float(stats.t.ppf(0.5 + level / 2, self.removals)) * error
        value = self.slope * effect
        return Prediction(value, value - half, value + half)

    def _selected(self, effect: float, size: int, level: float) -> Prediction | None:
        if not self.freedom > 0:
            return None
        x = np.array([1.0, math.log(max(size, self.smallest)), float(effect > 0)])
        ratio = float(x @ [self.c_0, self.c_1, self.c_2])
        half = float(stats.t.ppf(0.5 + level / 2, self.freedom))
        half *= math.sqrt(self.ratio_variance + float(x @ self._inverse() @ x))
        value, side = ratio * effect, half * abs(effect)
        return Prediction(value, value - side, value + side)

    def _inverse(self) -> Float[np.ndarray, "3 3"]:
        half = np.zeros((3, 3))
        half[np.triu_indices(3)] = self[4:10]
        return half + np.triu(half, 1).T


def laws_in(packed: Float[np.ndarray, "laws q"] | None) -> list[RemovalLaw]:
    """The laws that an array holds, one a row."""
    return [] if packed is None else [RemovalLaw(*map(float, row)) for row in packed]
