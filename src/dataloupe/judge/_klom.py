"""KLoM: how far the margins of unlearned models are from those of models that never saw the forgotten rows."""

import dataclasses
import functools
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Facts
from dataloupe.core import checked
from dataloupe.judge._bootstrap import as_json
from dataloupe.judge._divergences import Estimator, divergences, most

SIMULATED, BLOCK = 4000, 1000
"""Points of a simulated floor, and how many are held at once."""


@dataclasses.dataclass(frozen=True)
class Levels:
    """Mean, median, 95th and 99th percentile over points."""

    mean: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Float[np.ndarray, " p"]) -> "Levels":
        """The levels of values, one a point."""
        return cls(float(values.mean()), *(float(v) for v in np.quantile(values, [0.5, 0.95, 0.99])))


@dataclasses.dataclass(frozen=True)
class Floor:
    """What no difference at all gives: two samples of one distribution, ``models`` against ``oracles`` many.

    ``oracle_first`` and ``unlearned_first`` are the :class:`Levels` of either direction; ``source`` tells
    whether margins were simulated or two halves of the oracles compared.
    """

    oracle_first: Levels
    unlearned_first: Levels
    models: int
    oracles: int
    source: Literal["simulated", "halves"] = "simulated"

    def __str__(self) -> str:
        return f"floor at {self.models} models, {self.oracles} oracles ({self.source}): p95 {self.oracle_first.p95:.2f}"

    def to_json(self) -> Facts:
        """Numbers and strings."""
        return as_json(self)


@dataclasses.dataclass(frozen=True, eq=False)
class KLoM:
    """The divergence at every point, in both directions, with what no difference gives and what the most is.

    ``oracle_first [p]`` is KL(oracle || unlearned), ``unlearned_first [p]`` KL(unlearned || oracle), in nats;
    ``most`` the largest value that either can take. Compare with ``floor`` before you read a value.
    """

    estimator: Estimator
    oracle_first: Float[np.ndarray, " p"]
    unlearned_first: Float[np.ndarray, " p"]
    models: int
    oracles: int
    floor: Floor
    most: tuple[float, float]

    @property
    def published(self) -> Literal["oracle_first", "unlearned_first"]:
        """The direction that goes by the name: of "a2d" what that code computes, else the definition's."""
        return "unlearned_first" if self.estimator == "a2d" else "oracle_first"

    def __str__(self) -> str:
        top = "" if np.isinf(self.most[0]) else f", of at most {self.most[0]:.2f}"
        return (
            f"KLoM ({self.estimator}) p95 {Levels.of(self.oracle_first).p95:.2f} over {len(self.oracle_first)} "
            f"points{top}; no difference gives {self.floor.oracle_first.p95:.2f}; "
            f"{self.models} models against {self.oracles} oracles"
        )

    def to_json(self) -> Facts:
        """Numbers, lists and strings; the most of an estimator without one is null."""
        return {**as_json(self), "most": [None if np.isinf(top) else top for top in self.most]}


@checked("dl-923", arrays="dl-920")
def klom(
    unlearned: Float[np.ndarray, "u p"],
    oracles: Float[np.ndarray, "o p"],
    *,
    estimator: Estimator = "quantile",
    bins: int = 10,
    seed: int = 0,
) -> KLoM:
    """KL divergence of margins, point by point, between u unlearned models and o oracles (retrained without).

        oracle_first_x = KL(oracle || unlearned),    unlearned_first_x = KL(unlearned || oracle)

    ``unlearned [u, p]`` and ``oracles [o, p]`` are margins (logit of the label minus the log-sum-exp of the
    others), one number a model and point. Estimators:

    - "quantile": histograms over bins that part the oracles of the point into equal counts (outermost open),
      ``P_b = (count_b + 1/2) / (models + bins / 2)`` on both sides, ``sum_b P_b log(P_b / Q_b)``. Only the order
      of the margins counts: no outlier and no increasing change of the margins matters, and the floor is the
      same for all distributions without ties. Tied margins are shared out as the oracles tied with them are.
      Compresses large differences (see ``most``).
    - "gaussian": for few models, and where size matters. Margins are held at the sample's median +- 2.5 * 1.48 MAD
      and the variance s^2 is divided by what that leaves of a Gaussian's; then, with s^2 pooled over both samples,

          v = ((N - 1) s^2 + pooled) / N             as if one more degree of freedom had said "equal"
          2 KL(P || Q) = (1 - 2/n_Q) (v_P (1 - 1/n_P) + (mean_P - mean_Q)^2) / v_Q - 1/n_Q
                         - 1 + log(v_Q / v_P) - g(n_Q) + g(n_P),     g(n) = digamma(n/2) - log(n/2)

      (1 - 2/n), 1/n and g take away the bias of the plain formula for variances that are chi-squared on n degrees
      of freedom, so a value may lie below 0, and no difference gives about 0. A ratio of variances is
      underestimated by the pooling, the more the fewer models.
    - "a2d": the code of Attribute-to-Delete. 19 equal bins from the least to the largest margin of the point,
      only the first argument clipped to +-100, the second histogram held up at 1e-5 in every bin (and in an empty
      one below). It computes KL(unlearned || oracle), that is ``unlearned_first``, and calls it KLoM, whose
      definition is the other direction.
    - "easydub": the code of the unlearning benchmark. 20 bins, both clipped, held up only where the first histogram
      has mass. Its function names its arguments (unlearned, oracle) and is called the other way round, so that
      it computes KL(oracle || unlearned), ``oracle_first``, as the definition says.
      Both published codes lose the largest margin of every point: it lies on the last edge.

    ``floor`` is the same estimator on two samples of one distribution (Gaussian), simulated at this u and o. Its
    points are independent; those of a data set share their models, so that levels over them scatter more about it.

    Raises ``BadInput`` dl-920 (unlike or no points), dl-921 (NaN or infinity), dl-922 (fewer models than the
    estimator bears), dl-923 (settings), dl-924 (constant margins that the estimator cannot compare).

    >>> rng = np.random.default_rng(0)
    >>> oracles, unlearned = rng.normal(size=(100, 500)), rng.normal(size=(100, 500)) + 2
    >>> print(klom(unlearned, oracles))
    KLoM (quantile) p95 1.80 over 500 points, of at most 2.51; no difference gives 0.17; 100 models against 100 oracles

    Source: Georgiev et al. 2024 (Attribute-to-Delete), definition 3 and its code; Rinberg et al. 2025 (EasyDUB).
    """
    unlearned, oracles = checked_pair(unlearned, oracles, estimator, bins)
    first, second = divergences(estimator, unlearned, oracles, bins)
    undefined = np.flatnonzero(~np.isfinite(first) | ~np.isfinite(second))
    if undefined.size:
        raise BadInput(
            "dl-924",
            asked=f"the {estimator} KLoM of {unlearned.shape[1]} points",
            found=f"margins at {undefined.size} of them (point {undefined[0]} first) that are all equal on one side",
            do='use estimator="quantile", which compares tied margins',
        )
    u, o = len(unlearned), len(oracles)
    return KLoM(
        estimator, first, second, u, o, floor_of(estimator, u, o, bins, seed), most(estimator, u, o, bins)
    )


@checked("dl-923")
def halves(
    oracles: Float[np.ndarray, "o p"],
    *,
    estimator: Estimator = "quantile",
    bins: int = 10,
    splits: int = 5,
    seed: int = 0,
) -> Floor:
    """The data's own floor: one half of the oracles against the other, over several random halvings.

        levels of  KL(half || rest)  over all points and halvings

    ``oracles [o, p]``. Compare with the simulated floor at o / 2 models: `klom(half, rest).floor`. For "quantile" the
    two agree whatever the margins are, but for ties, which lower the data's, and for scatter (points share models,
    and halvings too: more of them smooth, they are no new evidence). For the other estimators a difference
    tells that the margins are not Gaussian, and the data's floor is the one to trust.

    Raises ``BadInput`` dl-920 to dl-924, as :func:`klom` does for half as many models.

    >>> print(halves(np.random.default_rng(0).normal(size=(200, 500))))
    floor at 100 models, 100 oracles (halves): p95 0.17
    """
    if splits < 1:
        raise BadInput("dl-923", asked=f"{splits} halvings", found="a number below 1", do="ask for 5")
    o = len(oracles)
    stream = Stream.root(seed)("klom", "halves")
    found = []
    for split in range(splits):
        order = stream(split).numpy().permutation(o)
        pair = checked_pair(oracles[order[: o // 2]], oracles[order[o // 2 :]], estimator, bins)
        found.append(divergences(estimator, *pair, bins))
    first, second = (np.concatenate(side) for side in zip(*found, strict=True))
    return Floor(Levels.of(first), Levels.of(second), o // 2, o - o // 2, "halves")


@functools.lru_cache(maxsize=256)
def floor_of(estimator: Estimator, u: int, o: int, bins: int, seed: int) -> Floor:
    """The estimator on u and o draws of one Gaussian, at :data:`SIMULATED` points; a pure function of its key."""
    stream = Stream.root(seed)("klom", "floor", estimator, u, o, bins)
    found = []
    for block in range(SIMULATED // BLOCK):
        draws = stream(block).numpy().standard_normal((u + o, BLOCK))
        found.append(divergences(estimator, draws[:u], draws[u:], bins))
    first, second = (np.concatenate(side) for side in zip(*found, strict=True))
    return Floor(Levels.of(first), Levels.of(second), u, o)


def fewest(estimator: Estimator, bins: int) -> tuple[int, int]:
    """The fewest unlearned models and oracles whose floor leaves something to be seen."""
    if estimator == "quantile":
        return 2 * bins, 5 * bins
    return (8, 8) if estimator == "gaussian" else (50, 50)


def checked_pair(
    unlearned: Float[np.ndarray, "u p"], oracles: Float[np.ndarray, "o q"], estimator: Estimator, bins: int
) -> tuple[Float[np.ndarray, "u p"], Float[np.ndarray, "o q"]]:
    """Both as float64, if they can be compared (dl-920 to dl-923)."""
    if estimator not in get_args(Estimator) or bins < 2:
        raise BadInput(
            "dl-923",
            asked=f"estimator {estimator!r} with {bins} bins",
            found=f"estimators {', '.join(get_args(Estimator))}; 2 bins or more",
            do='use estimator="quantile", or "gaussian" for few models',
        )
    for array in (np.asarray(unlearned), np.asarray(oracles)):
        if array.dtype.kind not in "fiu":
            raise BadInput(
                "dl-920",
                asked="margins of unlearned models against those of oracles",
                found=f"an array of {array.dtype}",
                do="give real numbers, [models, points]",
            )
    unlearned, oracles = np.asarray(unlearned, np.float64), np.asarray(oracles, np.float64)
    if unlearned.ndim != 2 or oracles.ndim != 2 or unlearned.shape[1] != oracles.shape[1] or not oracles.size:
        raise BadInput(
            "dl-920",
            asked=f"margins of shape {unlearned.shape} against oracles' of shape {oracles.shape}",
            found="no common points",
            do="give [models, points] of the same points in the same order",
        )
    finite_models(unlearned, "the unlearned models")
    finite_models(oracles, "the oracles")
    _enough(len(unlearned), len(oracles), estimator, bins)
    return unlearned, oracles


def finite_models(values: Float[np.ndarray, "..."], whose: str) -> None:
    """Refuse NaN and infinity (dl-921), by the numbers of the models (first axis)."""
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if bad.size:
        named = ", ".join(str(model) for model in bad[:5]) + (", ..." if bad.size > 5 else "")
        raise BadInput(
            "dl-921",
            asked=f"a comparison of {whose}",
            found=f"NaN or infinity in {bad.size} of {len(values)} (rows {named})",
            do="leave diverged models out and say how many they were; nothing is filled in for you",
        )


def _enough(u: int, o: int, estimator: Estimator, bins: int) -> None:
    need = fewest(estimator, bins)
    if u >= need[0] and o >= need[1]:
        return
    found = f"{u} models and {o} oracles"
    if min(u, o) >= (max(4, bins) if estimator == "quantile" else 4):
        level = floor_of(estimator, u, o, bins, 0).oracle_first.p95
        found += f", where the 95th percentile of no difference at all is {level:.2g}"
    raise BadInput(
        "dl-922",
        asked=f"the {estimator} KLoM",
        found=found,
        do=f"give at least {need[0]} models and {need[1]} oracles"
        + ("" if estimator == "gaussian" else ', or use estimator="gaussian" from 8 of each'),
    )
