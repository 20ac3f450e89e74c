"""Intervals: subsets and targets drawn again together."""

import dataclasses
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Facts

Interval: TypeAlias = tuple[float, float]
"""The lower and the upper end."""


@dataclasses.dataclass(frozen=True, eq=False)
class Bootstrap:
    """A two-way bootstrap: how often each of k subsets and each of m targets is drawn, in every resample.

    All targets share the same retrained models, so drawing targets alone would give intervals that are far too
    short. ``subsets [b, k]`` and ``targets [b, m]`` are multiplicities; row 0 is the
    data as they are, all ones. Judges that share a `Bootstrap` are compared on the same resamples.

    >>> plan = Bootstrap.draw(4, 2, resamples=3)
    >>> plan.subsets.shape, plan.subsets[0].tolist(), plan.targets.sum(axis=1).tolist()
    ((4, 4), [1, 1, 1, 1], [2, 2, 2, 2])
    """

    subsets: Int[np.ndarray, "b k"]
    targets: Int[np.ndarray, "b m"]
    level: float = 0.95

    @classmethod
    def draw(cls, k: int, m: int, *, resamples: int = 200, seed: int = 0, level: float = 0.95) -> "Bootstrap":
        """`resamples` of them, a pure function of the seed. Raises ``BadInput`` dl-904 (settings)."""
        if resamples < 2 or not 0 < level < 1:
            raise BadInput(
                "dl-904",
                asked=f"an interval of level {level} from {resamples} resamples",
                found="a level outside (0, 1) or fewer than 2 resamples",
                do="ask for a level such as 0.95 and 200 resamples or more",
            )
        stream = Stream.root(seed)("bootstrap")
        return cls(
            _multiplicities(stream("subsets"), k, resamples),
            _multiplicities(stream("targets"), m, resamples),
            level,
        )

    def over_targets(self, values: Float[np.ndarray, "b m"]) -> Float[np.ndarray, " b"]:
        """The mean over the drawn targets, in every resample."""
        return (values * self.targets).sum(axis=1) / self.targets.sum(axis=1)

    def deviations(self, values: Float[np.ndarray, "b m"]) -> Float[np.ndarray, " resamples"]:
        """How the mean over targets deviates in the resamples, as widely as few subsets and few targets ask for.

            spread^2 = g^2 max(V, V_subsets) + V_targets / m,      g = sqrt(k (k - 1)) / (k - 2)
            times t_f / z,    f = (g^2 V_subsets + V_targets)^2 / (g^4 V_subsets^2 / (k-1) + V_targets^2 / (m-1))

        V is the variance over the resamples, V_subsets over those of subsets alone, V_targets that of the values
        over m. A resample of k or m draws varies less than a sample by (k - 1) / k and (m - 1) / m; g also counts
        the points that a small-sample correction spends. Without row 0, the data themselves.
        """
        k, m = self.subsets.shape[1], values.shape[1]
        means = self.over_targets(values)[1:]
        deviations = means - means.mean()
        resampled = float(deviations.var())
        if not resampled > 0:
            return deviations
        inflation = k * (k - 1) / (k - 2) ** 2
        by_subsets = inflation * float(values[1:].mean(axis=1).var())
        by_targets = float(values[0].var(ddof=1)) / m if m > 1 else 0.0
        spread = max(inflation * resampled, by_subsets) + by_targets / m
        parts = by_subsets**2 / (k - 1) + by_targets**2 / max(m - 1, 1)
        freedom = (by_subsets + by_targets) ** 2 / parts if parts > 0 else float(k - 1)
        return deviations * (spread / resampled) ** 0.5 * self._wider_than_normal(freedom)

    def interval(self, statistic: Float[np.ndarray, " b"]) -> Interval:
        """The interval of a statistic about its value (row 0) from its deviations over the resamples.

        Resamples of k subsets are biased by about as much as k subsets are, so they are re-centred; and widened
        as :meth:`deviations` does for few subsets.
        """
        k = self.subsets.shape[1]
        deviations = (statistic[1:] - statistic[1:].mean()) * (k * (k - 1)) ** 0.5 / (k - 2)
        return self.around(float(statistic[0]), deviations * self._wider_than_normal(float(k - 1)))

    def around(self, centre: float, deviations: Float[np.ndarray, " resamples"]) -> Interval:
        """The centre plus the quantiles of the deviations."""
        low, high = self.quantiles(deviations)
        return centre + low, centre + high

    def quantiles(self, values: Float[np.ndarray, " resamples"]) -> Interval:
        """The ends of the level's share in the middle."""
        tail = (1 - self.level) / 2
        low, high = np.quantile(values, [tail, 1 - tail])
        return float(low), float(high)

    def _wider_than_normal(self, freedom: float) -> float:
        """The t quantile of so many degrees of freedom, in normal quantiles."""
        share = 0.5 + self.level / 2
        return float(stats.t.ppf(share, freedom) / stats.norm.ppf(share))


def _multiplicities(stream: Stream, size: int, resamples: int) -> Int[np.ndarray, "b size"]:
    """How often each of `size` entries comes up in `size` draws; first a row of ones."""
    draws = stream.numpy().integers(0, size, (resamples, size))
    return np.stack(
        [np.ones(size, dtype=np.int32), *(np.bincount(row, minlength=size).astype(np.int32) for row in draws)]
    )


def holding(value: float, interval: Interval, limits: Interval = (0.0, 1.0)) -> Interval:
    """The interval within the limits, and with the value inside."""
    low, high = (min(max(end, limits[0]), limits[1]) for end in interval)
    return min(low, value), max(high, value)


def span(interval: Interval, digits: int = 2) -> str:
    """An interval as a reader sees it: ``[0.38, 0.44]``."""
    return f"[{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def as_json(result: Any) -> Facts:
    """A result's fields as JSON holds them: floats, lists, strings."""
    return {field.name: _plain(getattr(result, field.name)) for field in dataclasses.fields(result)}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    return as_json(value) if dataclasses.is_dataclass(value) else value
