"""The noise ceiling: the LDS that a perfect attribution would get from outcomes this noisy."""

import dataclasses
from itertools import combinations

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe._typing import Facts
from dataloupe.core import Outcomes, checked
from dataloupe.judge._bootstrap import Bootstrap, Interval, as_json, holding, span
from dataloupe.judge._spearman import judgeable, of_many_subsets
from dataloupe.kernels import dense_ranks, rank_correlations


@dataclasses.dataclass(frozen=True)
class Ceiling:
    """``value`` with its ``interval``; ``reliability`` is how well one seed's ranks agree with another's."""

    value: float
    interval: Interval
    reliability: float
    repeats: int

    def __str__(self) -> str:
        return (
            f"ceiling {self.value:.2f} {span(self.interval)}; "
            f"one seed agrees with another by {self.reliability:.2f}, {self.repeats} seeds averaged"
        )

    def to_json(self) -> Facts:
        """Numbers and lists."""
        return as_json(self)


@checked("dl-904")
def ceiling(outcomes: Outcomes, *, resamples: int = 200, seed: int = 0, level: float = 0.95) -> Ceiling:
    """The noise ceiling of the outcomes, from their own repeats.

        rho_1 = mean over targets and pairs of seeds of the rank correlation between the two seeds
        rho_r = r rho_1 / (1 + (r - 1) rho_1)        (Spearman-Brown: the mean of r seeds)
        ceiling = sqrt(rho_r)

    ``outcomes.values [k, r, m]``, r at least 2. Targets of very unequal noise make it slightly too high (the
    root of a mean is above the mean of roots), so that LDS / ceiling errs on the low side. A subset with a
    diverged run is left out. The interval is that of :func:`lds`: a two-way bootstrap over subsets and targets,
    about the ceiling that many subsets would show.

    Raises ``BadInput`` dl-902 (fewer than 4 subsets), dl-911 (subsets that share seeds), dl-904 (settings), dl-905 (a single seed).

    >>> masks = np.tril(np.ones((6, 6), dtype=bool))
    >>> ceiling(Outcomes.from_arrays(masks, np.repeat(np.arange(6.0), 2).reshape(6, 2, 1))).value
    1.0

    Source: Spearman 1910; Brown 1910.
    """
    kept = judgeable(outcomes).outcomes
    if kept.repeats < 2:
        raise BadInput(
            "dl-905",
            asked="a noise ceiling",
            found="one seed per subset, which cannot tell signal from seed noise",
            do="measure with repeats=2 or more",
        )
    plan = Bootstrap.draw(kept.subsets.count, kept.m, resamples=resamples, seed=seed, level=level)
    return measure_ceiling(kept, plan)


def measure_ceiling(outcomes: Outcomes, plan: Bootstrap) -> Ceiling:
    """:func:`ceiling` of complete outcomes on given resamples."""
    return resampled_ceiling(outcomes, plan)[0]


def resampled_ceiling(outcomes: Outcomes, plan: Bootstrap) -> tuple[Ceiling, Float[np.ndarray, " resamples"]]:
    """The ceiling, and its resamples about what many subsets would show of it."""
    agreement, of_many = _seed_agreement(outcomes, plan)
    reliability = float(plan.over_targets(agreement)[0])
    value = _height(np.array([reliability]), outcomes.repeats)
    heights = _height(of_many + plan.deviations(agreement), outcomes.repeats)
    interval = holding(float(value[0]), plan.quantiles(heights))
    return Ceiling(float(value[0]), interval, reliability, outcomes.repeats), heights


def _height(reliability: Float[np.ndarray, " resamples"], r: int) -> Float[np.ndarray, " resamples"]:
    """sqrt(r rho / (1 + (r - 1) rho)) of rho in [0, 1]."""
    signal = np.clip(reliability, 0.0, 1.0)
    return np.asarray(np.sqrt(r * signal / (1 + (r - 1) * signal)))


def _seed_agreement(outcomes: Outcomes, plan: Bootstrap) -> tuple[Float[np.ndarray, "b m"], float]:
    """The rank correlation between seeds, averaged over all pairs of them, in every resample; and of many subsets."""
    ranks = [dense_ranks(outcomes.values[:, r]) for r in range(outcomes.repeats)]
    pairs = list(combinations(ranks, 2))
    total, of_many = np.zeros((len(plan.subsets), outcomes.m)), 0.0
    for one, other in pairs:
        agreement = rank_correlations(one, other, plan.subsets)
        total += agreement
        of_many += float(of_many_subsets(agreement[0], one, other).mean())
    return total / len(pairs), of_many / len(pairs)
