"""Rank correlation, column by column, and the checks that every judge makes first."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, Real

from dataloupe._errors import BadInput
from dataloupe.core import Attribution, Outcomes, Role, check_same, check_unseen
from dataloupe.kernels import dense_ranks, kendall_tau, rank_correlations

FEWEST = 4
"""Subsets below which no judge gives a number."""


def spearman(x: Real[np.ndarray, "..."], y: Real[np.ndarray, "..."]) -> Float[np.ndarray, " m"]:
    """Spearman's rank correlation of every column of x with the same column of y, ties at their mid-rank.

        rho_j = corr(rank(x_.j), rank(y_.j));   0 where a column is constant, never NaN

    x and y are ``[k, m]``, numbers without units; returns ``[m]``.

    Raises ``BadInput`` dl-903 (shapes that differ, NaN).

    >>> spearman(np.array([[1.0], [2.0], [3.0]]), np.array([[10.0], [30.0], [20.0]])).tolist()
    [0.5]
    """
    finite = bool(np.isfinite(x).all() and np.isfinite(y).all())
    if x.ndim != 2 or x.shape != y.shape or not finite:
        raise BadInput(
            "dl-903",
            asked="rank correlations of two arrays [k, m]",
            found=f"shapes {x.shape} and {y.shape}, {'all' if finite else 'not all'} numbers finite",
            do="give two finite arrays of one shape",
        )
    once = np.ones((1, len(x)), dtype=np.int32)
    return rank_correlations(dense_ranks(x), dense_ranks(y), once)[0]


def of_many_subsets(
    correlations: Float[np.ndarray, " m"], x: Int[np.ndarray, "m k"], y: Int[np.ndarray, "m k"]
) -> Float[np.ndarray, " m"]:
    """What Spearman correlations of k points estimate of the correlation of very many.

        E s_k = ((k - 2) s + 3 tau) / (k + 1),     so     s = ((k + 1) s_k - 3 tau_k) / (k - 2)

    with Kendall's tau of the same dense ranks x and y. k points read low: by .05 at k = 10 where s is .5, by .005
    at k = 100. Source: Hoeffding 1948.
    """
    k = x.shape[1]
    return ((k + 1) * correlations - 3 * kendall_tau(x, y)) / (k - 2)


@dataclasses.dataclass(frozen=True)
class Judged:
    """Outcomes whose every run ended well, and how many subsets were left out because one did not."""

    outcomes: Outcomes
    left_out: int


def judgeable(outcomes: Outcomes) -> Judged:
    """The complete subsets of the outcomes, if they are independent (dl-911) and enough (dl-902)."""
    complete = outcomes.complete()
    seeds = len(np.unique(outcomes.subsets.blocks))
    if 1 < seeds < outcomes.subsets.count:
        raise BadInput(
            "dl-911",
            asked=f"a judgement on {outcomes.subsets.count} subsets",
            found=f"{seeds} training seeds in turn: subsets of one seed err alike, and an interval would be too short",
            do="measure with Subsets(...) without seeds=, each subset with a seed of its own; fit on the others",
        )
    if complete.subsets.count < FEWEST:
        raise BadInput(
            "dl-902",
            asked="a judgement",
            found=f"{complete.subsets.count} subsets without a diverged run, of {outcomes.subsets.count}",
            do=f"measure at least {FEWEST}; 50 to 100 give an interval worth reading",
        )
    return Judged(complete, outcomes.subsets.count - complete.subsets.count)


def check_belonging(
    purpose: str, attribution: Attribution, outcomes: Outcomes, *refused: Role
) -> tuple[str, ...]:
    """Refuse an attribution and outcomes that do not belong together, or that were fitted to each other.

    ``refused``: what an attribution may not have taken from the very subsets judged ("fit", "calibration"). Returns notes
    for a reader: another learner, another kind of removal, a record that is missing.

    Raises ``BadInput`` dl-901 (sizes), dl-512 (other training data, targets or output), dl-514 (fitted to them).
    """
    asked, found = (attribution.n, attribution.m), (outcomes.subsets.n, outcomes.m)
    if asked != found:
        raise BadInput(
            "dl-901",
            asked=f"{attribution.info.method} over {asked[0]} examples and {asked[1]} target rows judged",
            found=f"outcomes of {found[0]} examples and {found[1]} target rows",
            do="use an attribution and outcomes of the same question",
        )
    asked_for = f"{purpose} of {attribution.info.method}"
    return (
        *check_same(asked_for, attribution, outcomes, learner="note"),
        *removal_note(attribution, outcomes),
        *check_unseen(asked_for, attribution, outcomes, *refused),
    )


def predictions(attribution: Attribution, outcomes: Outcomes) -> Float[np.ndarray, "k m"]:
    """What the attribution predicts for the outcomes' subsets.

    A column whose spread is float32 rounding (equal scores summed in another order) is made constant, so that
    rounding is not ranked. Raises ``BadInput`` dl-903 (predictions that are no numbers).
    """
    predicted = np.asarray(attribution.predict(outcomes.subsets))
    if not np.isfinite(predicted).all():
        raise BadInput(
            "dl-903",
            asked=f"the predictions of {attribution.info.method}",
            found=f"NaN or infinity for {int((~np.isfinite(predicted)).any(axis=0).sum())} target rows",
            do="look for overflow in the scores; nothing is filled in for you",
        )
    rounding = 32 * np.finfo(np.float32).eps * np.abs(predicted).max(axis=0)
    flat = np.ptp(predicted, axis=0) <= rounding
    return np.where(flat, predicted[:1], predicted)


def removal_note(attribution: Attribution, outcomes: Outcomes) -> tuple[str, ...]:
    """A sentence where predicted and measured mean different removals (design 5.1)."""
    if attribution.info.removal == outcomes.removal:
        return ()
    return (
        f"removal differs: {attribution.info.method} predicts `{attribution.info.removal}`, "
        f"the outcomes were measured with `{outcomes.removal}`",
    )
