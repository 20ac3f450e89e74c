"""U-LiRA: can an attacker tell, from a model's margin on a point, that the point was unlearned?"""

import dataclasses

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Facts
from dataloupe.judge._bootstrap import Bootstrap, Interval, as_json, span

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
        accuracy_x = 1/2 (share of ratio > 0 where x was unlearned + share of ratio < 0 where never trained on)

    and ``accuracy`` is the mean over points (a ratio of 0 counts half). Trial t is one unlearning of the base model
    ``bases[t]``; ``margins[t, x]`` its margin on point x; ``roles[t, x]`` is +1 if this trial unlearned x, -1 if its
    base model never trained on x, 0 otherwise (not used). Base models are dealt into 5 folds; the shadows of a trial
    are the trials of the other folds' base models, so that every trial is a target once. Splitting trials instead
    would put siblings of the target, unlearned from the same base model, among its shadows, and accuracy would
    rise above one half although nothing gives the point away.

    The interval is a bootstrap over base models; the Gaussians are not fitted anew. A point is left out if a fold
    has fewer than 5 shadow trials of either role (or all of one base model), or if no trial has the other role.

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

    Source: Hayes et al. 2024 (U-LiRA); Carlini et al. 2022 (LiRA).
    """
    margins = _checked(margins, roles, bases)
    folds = _folds(bases, seed)
    ratios, usable = _ratios(margins, roles, bases, folds)
    points = np.flatnonzero(usable & (roles == 1).any(axis=0) & (roles == -1).any(axis=0))
    if not points.size:
        raise BadInput(
            "dl-932",
            asked=f"U-LiRA at {margins.shape[1]} points",
            found=f"none with {SHADOWS} shadow trials of both roles, of two base models, outside of every fold",
            do="unlearn more often, or from more base models",
        )
    ratios, roles = ratios[:, points], roles[:, points]
    plan = Bootstrap.draw(int(folds.size), 1, resamples=400, seed=seed, level=level)
    by_resample, per_point = _accuracies(ratios, roles, bases, plan)
    unlearned, never = ratios[roles == 1], ratios[roles == -1]
    rank = scipy.stats.rankdata(np.concatenate([unlearned, never]))[: unlearned.size]
    auc = (rank.mean() - (unlearned.size + 1) / 2) / never.size
    threshold = np.quantile(never, 1 - RATE, method="higher")
    return ULiRA(
        accuracy=float(by_resample[0]),
        interval=plan.interval(by_resample),
        auc=float(auc),
        tpr=float((unlearned > threshold).mean()),
        points=points,
        per_point=per_point,
        trials=len(margins),
        bases=int(folds.size),
        left_out=margins.shape[1] - len(points),
    )


def _checked(
    margins: Float[np.ndarray, "..."], roles: Int[np.ndarray, "..."], bases: Int[np.ndarray, "..."]
) -> Float[np.ndarray, "t p"]:
    """Margins in float64, about their first trial (a constant point then has no variance at all)."""
    fits = margins.ndim == 2 and margins.shape == roles.shape and bases.shape == margins.shape[:1]
    if not fits or not margins.size or not np.isfinite(margins).all() or not np.isin(roles, (-1, 0, 1)).all():
        raise BadInput(
            "dl-930",
            asked=f"U-LiRA of margins {margins.shape}, roles {roles.shape}, bases {bases.shape}",
            found="shapes that differ, NaN, or roles other than +1, -1 and 0",
            do="give margins and roles [trials, points] and one base model a trial; leave diverged trials out",
        )
    names, member = np.unique(bases, return_inverse=True)
    sums = [_by_base(roles == role, member, len(names)) for role in (1, -1)]
    both = np.argwhere((sums[0] > 0) & (sums[1] > 0))
    if both.size:
        raise BadInput(
            "dl-930",
            asked=f"roles of base model {names[both[0, 0]]} at point {both[0, 1]}",
            found="+1 in one trial and -1 in another: unlearned, and never trained on",
            do="give -1 only where the base model was trained without the point; 0 where it was trained with it",
        )
    if len(names) < 2 * FOLDS:
        raise BadInput(
            "dl-931",
            asked=f"U-LiRA on {len(names)} base models",
            found="too few to learn from some and attack the others",
            do=f"train {2 * FOLDS} or more; 50 give an interval worth reading",
        )
    return margins.astype(np.float64) - margins[0].astype(np.float64)


def _folds(bases: Int[np.ndarray, " t"], seed: int) -> Int[np.ndarray, " bases"]:
    """The fold of every base model, in the order of their numbers."""
    count = len(np.unique(bases))
    return Stream.root(seed)("ulira", "folds").numpy().permutation(count) % FOLDS


def _by_base(
    values: Float[np.ndarray, "t p"] | Bool[np.ndarray, "t p"], member: Int[np.ndarray, " t"], count: int
) -> Float[np.ndarray, "bases p"]:
    """Sums over the trials of every base model."""
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, member, values)
    return sums


def _ratios(
    margins: Float[np.ndarray, "t p"],
    roles: Int[np.ndarray, "t p"],
    bases: Int[np.ndarray, " t"],
    folds: Int[np.ndarray, " bases"],
) -> tuple[Float[np.ndarray, "t p"], Bool[np.ndarray, " p"]]:
    """Every trial's log likelihood ratio under the shadows of the other folds, and the points that have enough."""
    member = np.unique(bases, return_inverse=True)[1]
    totals = {role: _sums(margins, roles == role, member, len(folds)) for role in (1, -1)}
    spread = margins.var(axis=0)
    ratios, usable = np.zeros_like(margins), np.ones(margins.shape[1], dtype=bool)
    for fold in range(FOLDS):
        mine, density = folds[member] == fold, {}
        for role, sums in totals.items():
            count, first, second = (values[folds != fold].sum(axis=0) for values in sums)
            usable &= (count >= SHADOWS) & ((sums[0][folds != fold] > 0).sum(axis=0) >= 2)
            safe = np.maximum(count, 2)
            mean = first / safe
            var = np.maximum((second - safe * mean**2) / (safe - 1), 1e-9 * spread + 1e-300)
            density[role] = -0.5 * (np.log(var) + (margins[mine] - mean) ** 2 / var)
        ratios[mine] = density[1] - density[-1]
    return ratios, usable


def _sums(
    margins: Float[np.ndarray, "t p"], used: Bool[np.ndarray, "t p"], member: Int[np.ndarray, " t"], count: int
) -> tuple[Float[np.ndarray, "bases p"], ...]:
    """Count, sum and sum of squares of the used margins, by base model."""
    return tuple(_by_base(used * values, member, count) for values in (1.0, margins, margins**2))


def _accuracies(
    ratios: Float[np.ndarray, "t q"],
    roles: Int[np.ndarray, "t q"],
    bases: Int[np.ndarray, " t"],
    plan: Bootstrap,
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " q"]]:
    """The mean accuracy in every resample of base models, and that of every point in the data as they are.

    A resample without a trial of either role at a point leaves that point out of its mean.
    """
    member = np.unique(bases, return_inverse=True)[1]
    halves = []
    for role in (1, -1):
        right = (role * ratios > 0) + 0.5 * (ratios == 0)
        used = roles == role
        hits, tries = (_by_base(used * values, member, plan.subsets.shape[1]) for values in (right, 1.0))
        drawn = plan.subsets @ tries
        halves.append(np.where(drawn > 0, plan.subsets @ hits / np.maximum(drawn, 1), np.nan))
    accuracy = 0.5 * (halves[0] + halves[1])
    return np.nanmean(accuracy, axis=1), accuracy[0]
