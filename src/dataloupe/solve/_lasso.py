"""Sparse regression of outputs on membership, from sufficient statistics: paths, penalties chosen, certificates."""

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from numba.core import config

from dataloupe._errors import BadInput
from dataloupe.kernels import Held, Side, Trace, descend, room
from dataloupe.solve._checks import check_centred
from dataloupe.solve._given import Selection, excluded, parts_of
from dataloupe.solve._stats import Centred, SuffStats
from dataloupe.solve._whitening import check_penalty

NARROW = 1e-5
"""Relative gaps from here on are reached with sweeps in fp32; every certificate is computed in fp64."""
ROUND_UP = 1.0 + 1e-12
"""So that at penalty_max rounding lets nothing in."""


@dataclasses.dataclass(frozen=True, eq=False)
class Path:
    """How the penalty is chosen: ``steps`` from penalty_max, where every weight is 0, down to ``end`` times it.

    A target's path ends after ``patience`` steps without a better score. ``share`` is the l1 part of the penalty
    (1: lasso; below: elastic net), ``gap`` the duality gap, relative to |y|^2 / 2, that ends every step.

    Raises ``BadInput`` dl-706.
    """

    steps: int = 30
    end: float = 1e-2
    patience: int = 5
    share: float = 1.0
    gap: float = 1e-4

    def __post_init__(self) -> None:
        """Check the settings."""
        good = self.steps >= 2 and self.patience >= 1 and 0.0 < self.share <= 1.0
        if not good or not 0.0 < self.end < 1.0 or not 0.0 < self.gap < 1.0:
            raise BadInput(
                "dl-706",
                asked=f"a path of {self.steps} steps down to {self.end:g}, patience {self.patience}, "
                f"share {self.share:g}, gap {self.gap:g}",
                found="fewer than 2 steps, no patience, or a share outside (0, 1)",
                do="give at least 2 steps and shares between 0 and 1",
            )

    def penalties(self, top: Float[np.ndarray, " m"]) -> Float[np.ndarray, "m steps"]:
        """Every target's own penalties, largest first."""
        return top[:, None] * np.geomspace(1.0, self.end, self.steps)


class Lasso(NamedTuple):
    """``weights [m, n]`` and ``bias [m]`` in raw coordinates, ``penalty [m]``, and the certificate.

    ``gap [m]`` is the duality gap relative to the objective at w = 0; ``explained [m]`` the R2 by which the
    penalty was chosen, before the refit on all (NaN where it was given); ``sigma2 [m]`` the noise of one row,
    |residual|^2 / (k - 1 - non-zeros); ``deviation [n]`` the root of the centred diagonal of X'X.
    """

    weights: Float[np.ndarray, "m n"]
    bias: Float[np.ndarray, " m"]
    penalty: Float[np.ndarray, " m"]
    gap: Float[np.ndarray, " m"]
    explained: Float[np.ndarray, " m"]
    sigma2: Float[np.ndarray, " m"]
    deviation: Float[np.ndarray, " n"]

    @property
    def error(self) -> Float[np.ndarray, "m n"]:
        """Standard error of every weight after its bias is taken out: sigma / |x_i|, columns taken as orthogonal."""
        return np.sqrt(self.sigma2)[:, None] / self.deviation


def lasso(
    stats: SuffStats | Centred,
    *,
    penalty: float | Float[np.ndarray, " m"] | None = None,
    folds: list[SuffStats] | None = None,
    select: Selection = "hold-out",
    path: Path | None = None,
    exclude: Int[np.ndarray, " m"] | None = None,
    engine: "Engine | None" = None,
) -> Lasso:
    """argmin |y - bias - X w|^2 / (2k) + penalty (s |w|_1 + (1 - s) |w|^2 / 2) for every target, the intercept free.

    Without a ``penalty`` (absolute, one or one a target) every target chooses its own on the ``path`` from
    penalty_max = max |X'y| / (s k): by the error on the last of the ``folds`` after a fit on the others
    (``hold-out``), by the sum of the errors on each fold (``k-fold``: fold Grams by subtraction), or without
    folds by |residual|^2 / (1 - (1 + non-zeros) / k)^2 (``gcv``). Then all rows fit again at it.

    ``folds`` are the statistics of parts that add up to ``stats`` (see :meth:`SuffStats.split`). ``exclude [m]``
    names a column that stays out of each target's fit (-1: none): itself, where targets are training examples.
    ``engine`` is who solves: coordinate descent on the cores, or :class:`Fista` on a device; the answer is the same.
    Raises ``BadInput`` dl-701 (a penalty not above 0), dl-702 (an example never or always there), dl-772
    (a constant target), dl-773 (folds that are missing or do not add up), dl-774 (exclude), dl-778 (select), dl-706.
    Source: Ilyas et al. 2022, section 3; Friedman, Hastie, Tibshirani 2010.

    >>> masks = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)
    >>> stats = SuffStats.of(masks, masks @ np.array([[2.0], [-1.0]]))
    >>> lasso(stats, penalty=0.1, path=Path(gap=1e-12)).weights.round(6).tolist()
    [[1.6, -0.6]]
    """
    path, walk = path or Path(), _walk if engine is None else engine.walk
    whole = stats.centred() if isinstance(stats, SuffStats) else stats
    check_centred(whole)
    out = excluded(whole, exclude)
    if penalty is not None:
        chosen = np.broadcast_to(np.asarray(penalty, dtype=np.float64), whole.level.shape).copy()
        for one in np.unique(chosen):
            check_penalty(float(one))
        found = walk(whole, chosen[:, None], path, out)
        return _assembled(whole, found, chosen, np.full(len(chosen), np.nan))
    top = top_penalty(whole, path.share, exclude)
    penalties, rows = path.penalties(top), np.arange(len(top))
    if select == "gcv":
        found = walk(whole, penalties, path, out, choose=True)
        total = whole.square / (1.0 - 1.0 / whole.rows) ** 2
        return _assembled(whole, found, penalties[rows, found.best], 1.0 - found.score() / total)
    added, parts = parts_of(stats, folds, select)
    start, score, total = _hold_out(added, parts, penalties, path, out, walk)
    best = score.argmin(axis=1)
    found = walk(whole, penalties[rows, best][:, None], path, out, start=start)
    return _assembled(whole, found, penalties[rows, best], 1.0 - score[rows, best] / total)


def _hold_out(
    stats: SuffStats,
    parts: list[SuffStats],
    penalties: Float[np.ndarray, "m steps"],
    path: Path,
    out: Int[np.ndarray, " m"],
    walk: "Walk",
) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, "m steps"], Float[np.ndarray, " m"]]:
    """Weights to start from, the squared error at every penalty and that of the mean, summed over the parts."""
    if len(parts) > 1:
        path = dataclasses.replace(path, patience=path.steps)
    score, total = np.zeros(penalties.shape), np.zeros(len(penalties))
    for part in parts:
        fit, held = (stats - part).centred(), part.centred()
        check_centred(fit)
        found = walk(fit, penalties, path, out, held=held, choose=True)
        score += found.error
        total += held.square + held.rows * (held.level - fit.level) ** 2
    return found.weights, score, total


def _assembled(
    whole: Centred, found: "Walked", penalty: Float[np.ndarray, " m"], explained: Float[np.ndarray, " m"]
) -> Lasso:
    rows = np.arange(len(penalty))
    freedom = np.maximum(whole.rows - 1 - (found.weights != 0).sum(axis=1), 1)
    return Lasso(
        weights=found.weights,
        bias=whole.level - found.weights @ whole.mean,
        penalty=penalty,
        gap=found.gap[rows, found.best],
        explained=explained,
        sigma2=np.maximum(found.residual[rows, found.best], 0.0) / freedom,
        deviation=np.sqrt(whole.gram.diagonal),
    )


class Walked(NamedTuple):
    """What the paths of m targets gave, a column per step; ``weights`` are those of each target's best step."""

    weights: Float[np.ndarray, "m n"]
    best: Int[np.ndarray, " m"]
    error: Float[np.ndarray, "m steps"]
    gap: Float[np.ndarray, "m steps"]
    residual: Float[np.ndarray, "m steps"]
    nonzero: Float[np.ndarray, "m steps"]

    @classmethod
    def begun(cls, m: int, n: int, steps: int, start: Float[np.ndarray, "m n"] | None) -> "Walked":
        """Nothing walked yet: every error infinite, weights at the start or at 0."""
        weights = np.zeros((m, n)) if start is None else start.copy()
        error, gap, residual = (np.full((m, steps), np.inf) for _ in range(3))
        return cls(weights, np.zeros(m, dtype=np.int64), error, gap, residual, np.zeros((m, steps)))

    def score(self) -> Float[np.ndarray, " m"]:
        """The error of every target's best step."""
        return self.error[np.arange(len(self.best)), self.best]


@runtime_checkable
class Walk(Protocol):
    """Every target down its penalties, to the last, or (``choose``) with the best step's weights kept.

    The best step has the smallest error on the ``held`` rows, or without them the smallest generalised
    cross-validation score. ``out`` names every target's excluded column (-1: none), ``start`` is where to begin.
    """

    def __call__(
        self,
        fit: Centred,
        penalties: Float[np.ndarray, "m steps"],
        path: Path,
        out: Int[np.ndarray, " m"],
        *,
        held: Centred | None = None,
        choose: bool = False,
        start: Float[np.ndarray, "m n"] | None = None,
    ) -> Walked: ...


@runtime_checkable
class Engine(Protocol):
    """Who solves a lasso."""

    @property
    def walk(self) -> Walk: ...


def top_penalty(
    whole: Centred, share: float = 1.0, exclude: Int[np.ndarray, " m"] | None = None
) -> Float[np.ndarray, " m"]:
    """The smallest penalty of every target at which all its weights are 0: max |X'y| / (share k)."""
    size = np.abs(whole.right)
    out = excluded(whole, exclude)
    size[out[out >= 0], np.flatnonzero(out >= 0)] = 0.0
    return size.max(axis=0) / (share * whole.rows)


def _walk(
    fit: Centred,
    penalties: Float[np.ndarray, "m steps"],
    path: Path,
    out: Int[np.ndarray, " m"],
    *,
    held: Centred | None = None,
    choose: bool = False,
    start: Float[np.ndarray, "m n"] | None = None,
) -> Walked:
    """Every target down its penalties, to the last, or (``choose``) with the best step's weights kept.

    Targets are shared between the cores (numba's count: ``NUMBA_NUM_THREADS``); none depends on another.
    """
    m, steps = penalties.shape
    found = Walked.begun(m, len(fit.mean), steps, start)
    right, scaled = np.ascontiguousarray(fit.right.T), penalties * (fit.rows * ROUND_UP)
    other = fit if held is None else held
    other_right = right if held is None else np.ascontiguousarray(held.right.T)
    level, shift = other.level - fit.level, other.mean - fit.mean
    rules = (path.gap, path.patience, float(fit.rows) if choose else 0.0, path.gap >= NARROW)
    count = 0.0 if held is None else float(held.rows)

    turn = itertools.count()

    def work(_: int) -> None:
        crew = None
        while (j := next(turn)) < m:
            side = Side(fit.gram, right[j], float(fit.square[j]))
            away = Held(
                Side(other.gram, other_right[j], float(other.square[j])), count, shift, float(level[j])
            )
            trace = Trace(found.error[j], found.gap[j], found.residual[j], found.nonzero[j])
            found.best[j], crew = descend(
                side, away, scaled[j], path.share, rules, int(out[j]), found.weights[j], trace,
                crew or room(side, away),
            )  # fmt: skip

    cores: int = vars(config)["NUMBA_NUM_THREADS"]
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(work, range(cores)))
    return found
