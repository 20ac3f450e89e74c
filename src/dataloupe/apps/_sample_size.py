"""How many models an effect needs to be seen, and which effect so many models can see."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import optimize, stats

from dataloupe._errors import BadInput
from dataloupe.core import Outcomes, checked


@dataclasses.dataclass(frozen=True, eq=False)
class Spread:
    """The standard deviation of one retraining's output, per target: ``value [m]``, ``low [m]`` to ``high [m]``.

    ``seed [m]`` is the part of it that another training seed alone makes; None where every subset was trained once.
    """

    value: Float[np.ndarray, " m"]
    low: Float[np.ndarray, " m"]
    high: Float[np.ndarray, " m"]
    seed: Float[np.ndarray, " m"] | None
    subsets: int
    level: float

    def __str__(self) -> str:
        value, low, high = (float(np.median(part)) for part in (self.value, self.low, self.high))
        seed = "" if self.seed is None else f", {float(np.median(self.seed)):.2g} from the seed alone"
        return (
            f"sd of one output {value:.2g} [{low:.2g}, {high:.2g}]{seed}; median of {len(self.value)} targets"
        )

    def to_json(self) -> dict[str, Any]:
        """Every field as JSON holds it."""
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in facts.items()}


@checked("dl-763")
def sigma_of(outcomes: Outcomes, *, level: float = 0.95) -> Spread:
    """The sigma of the planner, from a pilot: the standard deviation of an output over subsets and seeds.

        sigma_j^2 = mean over seeds r of  sum_k (f_kj(r) - mean_k f_kj(r))^2 / (K - 1)

    The interval is the one of a normal output: sqrt((K - 1) sigma^2 / chi2), cautious where seeds are repeated.
    Subsets with a diverged run are left out.

    Raises ``BadInput`` dl-764 (fewer than 3 complete subsets), dl-763 (level).

    >>> pilot = Outcomes.from_arrays(np.eye(4, dtype=bool), np.array([[1.0], [2.0], [3.0], [4.0]]))
    >>> print(sigma_of(pilot))
    sd of one output 1.3 [0.73, 4.8]; median of 1 targets
    """
    _check(level=level)
    kept = outcomes.complete()
    k, repeats = kept.subsets.count, kept.repeats
    if k < 3:
        raise BadInput(
            "dl-764",
            asked="the spread of the outputs",
            found=f"{k} subsets without a diverged run",
            do="train a pilot on at least 3 subsets; 30 are a good number",
        )
    values = kept.values.astype(np.float64)
    variance = values.var(axis=0, ddof=1).mean(axis=0)
    tails = stats.chi2.ppf([0.5 + level / 2, 0.5 - level / 2], k - 1)
    low, high = (np.sqrt((k - 1) * variance / tail) for tail in tails)
    seed = np.sqrt(values.var(axis=1, ddof=1).mean(axis=0)) if repeats > 1 else None
    return Spread(np.sqrt(variance), low, high, seed, k, level)


@checked("dl-763")
def detection_power(
    effect: float,
    models: int,
    sigma: float,
    *,
    fraction: float = 0.5,
    level: float = 0.05,
    comparisons: int = 1,
) -> float:
    """The chance that ``models`` retrainings show an effect: the exact power of a two-sided normal test.

        se = sigma / sqrt(m a (1 - a)),   z = Phi^-1(1 - level / (2 comparisons)),   d = |effect| / se
        power = Phi(d - z) + Phi(-d - z)

    ``effect`` is a difference of means (a datamodel's weight) in units of the output, ``sigma`` the standard
    deviation of one output (:func:`sigma_of`), ``fraction`` a the share of subsets with the example or group.
    ``level`` is the chance of a false find, divided by ``comparisons`` (Bonferroni): as many as there are
    examples or groups to search. Over very many the threshold z tends to the universal sqrt(2 ln comparisons).

    Raises ``BadInput`` dl-763 (a number outside its range).

    >>> round(detection_power(0.5, 126, 1.0), 2)
    0.8
    """
    _check(models=models, effect=effect, sigma=sigma, fraction=fraction, level=level, comparisons=comparisons)
    distance = abs(effect) * math.sqrt(models * fraction * (1.0 - fraction)) / sigma
    return _power(distance, _threshold(level, comparisons))


@checked("dl-763")
def models_needed(
    effect: float,
    sigma: float,
    *,
    fraction: float = 0.5,
    power: float = 0.8,
    level: float = 0.05,
    comparisons: int = 1,
) -> int:
    """The smallest number of models m that shows an effect with the given power.

        m = ceil((d sigma / effect)^2 / (a (1 - a))),   d: the distance of :func:`detection_power` at that power

    Arguments and the error as there; at least 4.

    >>> models_needed(0.5, 1.0), models_needed(0.5, 1.0, comparisons=1437)
    (126, 397)
    """
    _check(effect=effect, sigma=sigma, fraction=fraction, level=level, power=power, comparisons=comparisons)
    distance = _distance(power, level, comparisons)
    return max(4, math.ceil((distance * sigma / effect) ** 2 / (fraction * (1.0 - fraction))))


@checked("dl-763")
def detectable(
    models: int,
    sigma: float,
    *,
    fraction: float = 0.5,
    power: float = 0.8,
    level: float = 0.05,
    comparisons: int = 1,
) -> float:
    """The smallest effect that so many models show with the given power: the reverse of :func:`models_needed`.

        effect = d sigma / sqrt(m a (1 - a))

    >>> round(detectable(126, 1.0), 2)
    0.5
    """
    _check(models=models, sigma=sigma, fraction=fraction, level=level, power=power, comparisons=comparisons)
    return _distance(power, level, comparisons) * sigma / math.sqrt(models * fraction * (1.0 - fraction))


def _threshold(level: float, comparisons: int) -> float:
    return float(stats.norm.isf(level / (2 * comparisons)))


def _power(distance: float, threshold: float) -> float:
    return float(stats.norm.sf(threshold - distance) + stats.norm.sf(threshold + distance))


def _distance(power: float, level: float, comparisons: int) -> float:
    """How many standard errors an effect must be away from 0 to be seen with that power."""
    threshold = _threshold(level, comparisons)
    if power <= _power(0.0, threshold):
        return 0.0
    high = threshold + float(stats.norm.ppf(power)) + 1.0
    return float(optimize.brentq(lambda d: _power(d, threshold) - power, 0.0, max(high, 1.0), xtol=1e-12))


RANGES: dict[str, tuple[str, float, float]] = {
    "effect": ("not 0, and finite", -math.inf, math.inf),
    "sigma": ("above 0, and finite", 0.0, math.inf),
    "fraction": ("between 0 and 1", 0.0, 1.0),
    "power": ("between 0 and 1", 0.0, 1.0),
    "level": ("between 0 and 1", 0.0, 1.0),
    "models": ("at least 1", 0.0, math.inf),
    "comparisons": ("at least 1", 0.0, math.inf),
}
"""What each number may be, in words and as an open interval."""


def _check(**given: float | int) -> None:
    for name, value in given.items():
        words, low, high = RANGES[name]
        if not low < value < high or (name == "effect" and value == 0):
            raise BadInput(
                "dl-763",
                asked=f"a plan with {name} = {value:g}",
                found="a number outside its range",
                do=f"give {name} {words}",
            )
