"""Datamodels: regress what retrainings did on which examples they kept."""

import dataclasses
import functools
import operator
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float

from dataloupe._errors import BadInput
from dataloupe._typing import Facts
from dataloupe.core import (
    AbstractAttributor,
    DenseAttribution,
    Info,
    Lab,
    Needs,
    Outcomes,
    Question,
    Subsets,
    Uncertainty,
)
from dataloupe.solve import PENALTIES, SuffStats, blocks_of, folds_of, lasso, means, ridge

FOLDS = 5
"""The lasso's penalty is chosen on the last of so many parts of the subsets."""
ESTIMATORS = ("ridge", "lasso", "means")


@dataclasses.dataclass(frozen=True)
class Datamodel(AbstractAttributor):
    """A linear function of membership, fitted to retrainings: f_j(w) = bias_j + scores_j . w.

    ``estimator``: ``ridge`` (each target's penalty by exact leave-one-out among ``penalties``, which are relative
    to the mean non-zero eigenvalue; with the posterior as the error), ``lasso`` (penalty by held-out subsets),
    ``means`` (difference of means). Units are the output's. ``repeats`` seeds a subset are averaged; new subsets
    teach more than repeats. Subsets with a diverged run are left out and counted in ``info.certificate``.

    Raises ``BadInput`` dl-710 (an unknown estimator, subsets of other data) and what the solver raises.
    Source: Ilyas et al. 2022 (datamodels).

    >>> Datamodel(Subsets(n=100, count=500)).estimator
    'ridge'
    """

    subsets: Subsets
    estimator: Literal["ridge", "lasso", "means"] = "ridge"
    repeats: int = 1
    penalties: tuple[float, ...] = PENALTIES

    requires: ClassVar[frozenset[str]] = frozenset({"train"})

    def __post_init__(self) -> None:
        """Check the settings."""
        if (
            self.estimator not in ESTIMATORS
            or self.repeats < 1
            or self.subsets.count < 3
            or not self.penalties
        ):
            raise BadInput(
                "dl-710",
                asked=f"a datamodel by {self.estimator!r} from {self.subsets.count} subsets x {self.repeats} seeds",
                found="an unknown estimator, fewer than 3 subsets, no seeds or no penalties",
                do=f"use one of {', '.join(ESTIMATORS)}, at least 3 subsets and 1 seed",
            )

    def needs(self, question: Question) -> Needs:
        """One training per subset and seed."""
        trainings = self.subsets.count * self.repeats
        share = self.subsets.fraction
        return Needs(trainings=trainings, fraction=share, disk_bytes=4 * trainings * question.m)

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:
        """Ask for the outcomes and fit them."""
        if self.subsets.n != question.n:
            raise BadInput(
                "dl-710",
                asked=f"a datamodel on subsets of {self.subsets.n} examples",
                found=f"{question.n} training examples",
                do="give Subsets(n=len(train), ...)",
            )
        asked = lab.outcomes(question, self.subsets, repeats=self.repeats)
        return fit(asked, self.estimator, self.penalties, self.settings())


def fit(
    outcomes: Outcomes, estimator: str, penalties: tuple[float, ...], settings: Facts
) -> DenseAttribution:
    """The datamodel of outcomes that are there already."""
    kept = outcomes.complete()
    masks, values = kept.subsets.masks(), kept.mean().astype(np.float64)
    solver = {"ridge": _ridge, "lasso": _lasso, "means": _means}[estimator]
    weights, bias, uncertainty, certificate = solver(masks, values, penalties)
    left_out = outcomes.subsets.count - kept.subsets.count
    info = Info(
        method=f"Datamodel ({estimator})",
        settings=settings,
        certificate={"subsets": kept.subsets.count, "left_out": left_out, **certificate},
        cost={"trainings": outcomes.status.size},
        removal=outcomes.removal,
        fraction=float(masks.mean()),
        note=f"{left_out} subsets with a diverged run were left out" if left_out else "",
    )
    return DenseAttribution(
        weights.astype(np.float32), info, bias=bias.astype(np.float32), uncertainty=uncertainty
    )


Fitted = tuple[Float[np.ndarray, "m n"], Float[np.ndarray, " m"], Uncertainty | None, Facts]


def _ridge(
    masks: Bool[np.ndarray, "k n"], y: Float[np.ndarray, "k m"], penalties: tuple[float, ...]
) -> Fitted:
    found = ridge(masks, y, penalties)
    relative = found.penalty / found.eigenvalues.mean()
    basis = found.basis.astype(np.float32)
    error = Uncertainty(found.spread, basis=basis, spectrum=found.spectrum)
    facts = {
        "residual": float(found.residual.max()),
        "relative_penalty": _quartiles(relative),
        "leave_one_out_r2": _quartiles(found.explained),
    }
    return found.weights, found.bias, error, facts


def _lasso(
    masks: Bool[np.ndarray, "k n"], y: Float[np.ndarray, "k m"], penalties: tuple[float, ...]
) -> Fitted:
    del penalties  # the lasso's path is relative to each target's own largest penalty
    fold = folds_of(len(y), min(FOLDS, len(y) // 2))
    folds = SuffStats.split(blocks_of(masks, y), fold, int(fold.max()) + 1)
    found = lasso(functools.reduce(operator.add, folds), folds=folds)
    facts = {
        "gap": float(found.gap.max()),
        "penalty": _quartiles(found.penalty),
        "held_out_r2": _quartiles(found.explained),
        "nonzero": _quartiles((found.weights != 0).sum(axis=1).astype(np.float64)),
    }
    return found.weights, found.bias, Uncertainty(found.sigma2 / (found.deviation**2).mean()), facts


def _means(
    masks: Bool[np.ndarray, "k n"], y: Float[np.ndarray, "k m"], penalties: tuple[float, ...]
) -> Fitted:
    del penalties  # nothing is penalised
    found = means(SuffStats.stream(blocks_of(masks, y)))
    spread = (found.error**2).mean(axis=1)
    return found.weights, found.bias, Uncertainty(spread), {"standard_error": float(np.sqrt(spread.mean()))}


def _quartiles(values: Float[np.ndarray, " m"]) -> list[float]:
    return [float(f"{v:.4g}") for v in np.quantile(values, [0.25, 0.5, 0.75])]
