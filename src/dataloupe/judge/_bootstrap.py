"""Intervals: subsets and targets drawn again together."""

import dataclasses
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int

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

    def interval(self, statistic: Float[np.ndarray, " b"]) -> Interval:
        """The percentile interval of a statistic over the resamples (row 0, the data themselves, left out)."""
        tail = (1 - self.level) / 2
        low, high = np.quantile(statistic[1:], [tail, 1 - tail])
        return float(low), float(high)


def _multiplicities(stream: Stream, size: int, resamples: int) -> Int[np.ndarray, "b size"]:
    """How often each of `size` entries comes up in `size` draws; first a row of ones."""
    draws = stream.numpy().integers(0, size, (resamples, size))
    return np.stack(
        [np.ones(size, dtype=np.int32), *(np.bincount(row, minlength=size).astype(np.int32) for row in draws)]
    )


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
