"""U-LiRA: can an attacker tell, from a model's margin on a point, that the point was unlearned?"""

import dataclasses

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Facts
from dataloupe.core import checked
from dataloupe.judge._bootstrap import Interval, as_json, span

FOLDS, SHADOWS, RATE = 5, 5, 0.01
"""Folds of base models; the fewest shadow trials of a role at a point; the false-positive rate of ``tpr``."""


@dataclasses.dataclass(frozen=True, eq=False)
class ULiRA:
    """How often the attacker is right (0.5: never better than chance), with an interval over base models.

    ``auc`` and ``tpr`` (true positives at 1 % false ones, "unlearned" being positive; 0.01 is chance) are over all
    points together. ``per_point [q]`` are the accuracies at ``points [q]``; ``left_out`` points had too few trials.
    """

    accuracy: float
    interval: Interval
    auc: float
    tpr: float
    points: Int[np.ndarray, " q"]
    per_point: Float[np.ndarray, " q"]
    trials: int
    bases: int
    left_out: int

    def __str__(self) -> str:
        return (
            f"U-LiRA accuracy {self.accuracy:.3f} {span(self.interval, 3)} (chance 0.5), AUC {self.auc:.3f}, "
            f"TPR {self.tpr:.3f} at 1 % FPR; {len(self.points)} points x {self.trials} trials "
            f"of {self.bases} base models, {self.left_out} points left out"
        )

    def to_json(self) -> Facts:
        """Numbers and lists."""
        return as_json(self)


@checked("dl-904", arrays="dl-930")
def ulira(
    margins: Float[np.ndarray, "t p"],
    roles: Int[np.ndarray, "t p"],
    bases: Int[np.ndarray, " t"],
    *,
    seed: int = 0,
    level: float = 0.95,
) -> ULiRA:
    """The likelihood-ratio attack on unlearning, point by point, on base models that it has not seen.

        ratio_tx = log N(m_tx; mean, var of shadows that unlearned x) - log N(m_tx; those that never trained on x)
        accuracy_x = mean over folds of 1/2 (share of ratio > 0 where x was unlearned
                                           + share of ratio < 0 where it was never trained on)

    and ``accuracy`` is the mean over points. A ratio of 0 counts half; a fold with a and b trials of the two roles
    weighs a b / (a + b) (folds pooled without regard to roles would give less than one half where there is nothing
    to find). Trial t is one unlearning of the base model ``bases[t]``; ``margins[t, x]`` its margin on point x;
    ``roles[t, x]`` is +1 if this trial unlearned x, -1 if its base model never trained on x, 0 otherwise (not used).
    Base models are dealt into 5 folds; the shadows of a trial are the trials of the other folds' base models, so that
    every trial is a target once. Splitting trials instead would put siblings of the target, unlearned from the same
    base model, among its shadows, and accuracy would rise above one half although nothing gives the point away.

    A point is left out if a fold has fewer than 5 shadow trials of either role (or all of one base model), or if no
    fold has targets of both.

    The interval takes base models as drawn at random: with accuracy_f that of fold f over its points,

        Var = (1/5 + 1/4) var_f(accuracy_f),    Student's t at 4 degrees of freedom,

    where 1/4 (targets to shadows) stands for what the folds' shadows share. In simulations it covered 94 to 99 %;
    a bootstrap over the targets' base models, with the Gaussians as they are, was too short (87 %).

    One half is perfect, but not only perfect unlearning gets it: a destroyed or constant model does too. Read it
    with the accuracy of the models, as :func:`audit_outputs` gives it.

    Raises ``BadInput`` dl-930 (shapes, roles, NaN), dl-931 (fewer than 10 base models), dl-932 (no point with
    enough trials), dl-904 (level).

    >>> rng = np.random.default_rng(0)
    >>> bases = np.repeat(np.arange(20), 4)
    >>> roles = np.where(rng.random((20, 6)) < 0.5, 1, -1)[bases]
    >>> found = ulira(rng.normal(size=(80, 6)) + 4 * (roles == 1), roles, bases)  # nothing unlearned
    >>> found.accuracy > 0.95
    True

    Source: Hayes et al. 2024 (U-LiRA); Carlini et al. 2022 (LiRA); Nadeau and Bengio 2003 (the variance).
    """
    margins, roles, bases = (np.asarray(given) for given in (margins, roles, bases))
    trials = _checked(margins, roles, bases, seed)
    if not 0 < level < 1:
        raise BadInput("dl-904", asked=f"level {level}", found="outside (0, 1)", do="ask for 0.95")
    ratios, accuracies, weights = _attack(trials)
    known = weights.sum(axis=0) > 0
    accuracy = (weights * accuracies).sum(axis=0) / np.where(known, weights.sum(axis=0), 1)
    points = np.flatnonzero(known)
    if not points.size:
        raise BadInput(
            "dl-932",
            asked=f"U-LiRA at {margins.shape[1]} points",
            found=f"none with {SHADOWS} shadow trials of both roles, of two base models, outside of every fold",
            do="unlearn more often, or from more base models",
        )
    auc, tpr = _curve(ratios[:, points], roles[:, points])
    centre = float(accuracy[points].mean())
    half = float(scipy.stats.t.ppf((1 + level) / 2, FOLDS - 1)) * _error(accuracies, weights)
    return ULiRA(
        accuracy=centre,
        interval=(max(centre - half, 0.0), min(centre + half, 1.0)),
        auc=auc,
        tpr=tpr,
        points=points,
        per_point=accuracy[points],
        trials=len(margins),
        bases=len(trials.folds),
        left_out=margins.shape[1] - len(points),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Trials:
    """Margins and roles by trial; of every base model its fold and, by role, count, sum and sum of squares."""

    margins: Float[np.ndarray, "t p"]
    used: dict[int, Bool[np.ndarray, "t p"]]
    member: Int[np.ndarray, " t"]
    folds: Int[np.ndarray, " bases"]
    sums: dict[int, Float[np.ndarray, "3 bases p"]]


def _checked(
    margins: Float[np.ndarray, "..."], roles: Int[np.ndarray, "..."], bases: Int[np.ndarray, "..."], seed: int
) -> _Trials:
    """Margins in float64, about their first trial (a constant point then has no variance at all)."""
    fits = (
        margins.dtype.kind in "fiu"
        and margins.ndim == 2
        and margins.shape == roles.shape
        and bases.shape == margins.shape[:1]
    )
    if not fits or not margins.size or not np.isfinite(margins).all() or not np.isin(roles, (-1, 0, 1)).all():
        raise BadInput(
            "dl-930",
            asked=f"U-LiRA of margins {margins.shape}, roles {roles.shape}, bases {bases.shape}",
            found="shapes that differ, NaN, or roles other than +1, -1 and 0",
            do="give margins and roles [trials, points] and one base model a trial; leave diverged trials out",
        )
    names, member = np.unique(bases, return_inverse=True)
    if len(names) < 2 * FOLDS:
        raise BadInput(
            "dl-931",
            asked=f"U-LiRA on {len(names)} base models",
            found="too few to learn from some and attack the others",
            do=f"train {2 * FOLDS} or more; 50 give an interval worth reading",
        )
    x, used = margins.astype(np.float64) - margins[0].astype(np.float64), {r: roles == r for r in (1, -1)}
    of_base = (np.arange(len(names))[:, None] == member).astype(np.float64)
    sums = {r: np.stack([of_base @ (u * values) for values in (1.0, x, x**2)]) for r, u in used.items()}
    both = np.argwhere((sums[1][0] > 0) & (sums[-1][0] > 0))
    if both.size:
        raise BadInput(
            "dl-930",
            asked=f"roles of base model {names[both[0, 0]]} at point {both[0, 1]}",
            found="+1 in one trial and -1 in another: unlearned, and never trained on",
            do="give -1 only where the base model was trained without the point; 0 where it was trained with it",
        )
    folds = Stream.root(seed)("ulira", "folds").numpy().permutation(len(names)) % FOLDS
    return _Trials(x, used, member, folds, sums)


def _attack(
    trials: _Trials,
) -> tuple[Float[np.ndarray, "t p"], Float[np.ndarray, "folds p"], Float[np.ndarray, "folds p"]]:
    """The ratio of every trial; the accuracy of every fold at every point, and its weight (0: too few trials)."""
    spread = 1e-9 * trials.margins.var(axis=0) + 1e-300
    ratios, enough = np.zeros_like(trials.margins), np.ones(trials.margins.shape[1], dtype=bool)
    accuracies, weights = (np.zeros((FOLDS, len(enough))) for _ in range(2))
    for fold in range(FOLDS):
        mine, shadows = trials.folds[trials.member] == fold, trials.folds != fold
        densities = []
        for role in (1, -1):
            mean, var, fitted = _gaussian(trials.sums[role][:, shadows])
            var = np.maximum(var, spread)
            enough &= fitted
            densities.append(-0.5 * (np.log(var) + (trials.margins[mine] - mean) ** 2 / var))
        ratios[mine] = found = densities[0] - densities[1]
        guess = (found > 0) + 0.5 * (found == 0)
        for role, correct in ((1, guess), (-1, 1 - guess)):
            used = trials.used[role][mine]
            accuracies[fold] += 0.5 * (used * correct).sum(axis=0) / np.maximum(used.sum(axis=0), 1)
        a, b = (trials.used[role][mine].sum(axis=0) for role in (1, -1))
        weights[fold] = a * b / np.maximum(a + b, 1)
    return ratios, accuracies, weights * enough


def _error(accuracies: Float[np.ndarray, "folds p"], weights: Float[np.ndarray, "folds p"]) -> float:
    """The standard error of a cross-fitted accuracy; infinite if a fold has nothing to tell."""
    total = weights.sum(axis=1)
    if not total.all():
        return float("inf")
    by_fold = (weights * accuracies).sum(axis=1) / total
    return float(np.sqrt((1 / FOLDS + 1 / (FOLDS - 1)) * by_fold.var(ddof=1)))


def _gaussian(
    sums: Float[np.ndarray, "3 bases p"],
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"], Bool[np.ndarray, " p"]]:
    """Mean and variance of the shadow trials of a role, and whether there are enough of them."""
    count, first, second = sums.sum(axis=1)
    safe = np.maximum(count, 2)
    mean = first / safe
    return mean, (second - safe * mean**2) / (safe - 1), (count >= SHADOWS) & ((sums[0] > 0).sum(axis=0) > 1)


def _curve(ratios: Float[np.ndarray, "t q"], roles: Int[np.ndarray, "t q"]) -> tuple[float, float]:
    """AUC and the true positives at a rate of false ones, all points together."""
    unlearned, never = ratios[roles == 1], ratios[roles == -1]
    rank = scipy.stats.rankdata(np.concatenate([unlearned, never]))[: unlearned.size]
    threshold = np.quantile(never, 1 - RATE, method="higher")
    auc = (rank.mean() - (unlearned.size + 1) / 2) / never.size
    return float(auc), float((unlearned > threshold).mean())
