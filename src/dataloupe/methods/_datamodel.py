"""Datamodels: regress what retrainings did on which examples they kept."""

import dataclasses
import functools
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float

from dataloupe._errors import BadInput
from dataloupe._typing import Facts
from dataloupe.core import (
    AbstractAttributor,
    Attribution,
    DenseAttribution,
    Info,
    Lab,
    Needs,
    Outcomes,
    Question,
    Subsets,
    Uncertainty,
)
from dataloupe.methods._prior import (
    Prior,
    ask_prior,
    check_prior,
    identity_of,
    notes_on,
    quartiles,
    toward,
    with_prior,
)
from dataloupe.solve import PENALTIES, lasso, means, ridge

ESTIMATORS = ("ridge", "lasso", "means")


@dataclasses.dataclass(frozen=True)
class Datamodel(AbstractAttributor):
    """A linear function of membership, fitted to retrainings: f_j(w) = bias_j + scores_j . w.

    ``estimator``: ``ridge`` (each target's penalty by exact leave-one-out among ``penalties``, which are relative
    to the mean non-zero eigenvalue; with the posterior as the error), ``lasso`` (penalty by held-out subsets),
    ``means`` (difference of means). Units are the output's. ``repeats`` seeds a subset are averaged; new subsets
    teach more than repeats. Subsets with a diverged run are left out and counted in ``info.certificate``.

    ``prior`` is another attribution of the question, or a method that gives one (``TRAK(models=10)``), in any
    units: ridge then shrinks toward a multiple of its scores instead of toward 0, and takes examples that it
    scores alike to err alike (:func:`dataloupe.solve.prior_ridge`). Multiple, similarity and penalties are chosen
    by leave-one-out on these subsets; the certificate tells the R2 of prior, datamodel and both. With few
    retrainings it is about as good as the prior, with many as the datamodel, in between better than either.

    Raises ``BadInput`` dl-710 (an unknown estimator, subsets of other data), dl-713 (a prior of other data),
    dl-714 (a prior without ridge) and what the solver raises.
    Source: Ilyas et al. 2022 (datamodels).

    >>> Datamodel(Subsets(n=100, count=500)).estimator
    'ridge'
    """

    subsets: Subsets
    estimator: Literal["ridge", "lasso", "means"] = "ridge"
    repeats: int = 1
    penalties: tuple[float, ...] = PENALTIES
    prior: Prior | None = None

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
        if self.prior is not None:
            check_prior(self.prior, self.estimator)
            needed = self.prior.requires if isinstance(self.prior, AbstractAttributor) else frozenset()
            object.__setattr__(
                self, "requires", type(self).requires | needed
            )  # the method's, and its prior's

    def __identity__(self) -> dict[str, Any]:
        """The settings; without a prior, the same as ever."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "prior"}
        return fields if self.prior is None else {**fields, "prior": identity_of(self.prior)}

    def needs(self, question: Question) -> Needs:
        """One training per subset and seed, and what the prior needs."""
        trainings = self.subsets.count * self.repeats
        share = self.subsets.fraction
        needs = Needs(trainings=trainings, fraction=share, disk_bytes=4 * trainings * question.m)
        return needs if self.prior is None else with_prior(needs, self.prior, question)

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:
        """Ask for the outcomes and fit them."""
        if self.subsets.n != question.n:
            raise BadInput(
                "dl-710",
                asked=f"a datamodel on subsets of {self.subsets.n} examples",
                found=f"{question.n} training examples",
                do="give Subsets(n=len(train), ...)",
            )
        prior = None if self.prior is None else ask_prior(self.prior, question, lab)
        asked = lab.outcomes(question, self.subsets, repeats=self.repeats)
        found = fit(asked, self.estimator, self.penalties, self.settings(), prior)
        if prior is None:
            return found
        notes = [note for note in (found.info.note, *notes_on(prior, question)) if note]
        cost = {**found.info.cost, "prior": prior.info.cost}
        return dataclasses.replace(
            found, info=dataclasses.replace(found.info, note="; ".join(notes), cost=cost)
        )


def fit(
    outcomes: Outcomes,
    estimator: str,
    penalties: tuple[float, ...],
    settings: Facts,
    prior: Attribution | None = None,
) -> DenseAttribution:
    """The datamodel of outcomes that are there already."""
    kept = outcomes.complete()
    masks, values = kept.subsets.masks(), kept.mean().astype(np.float64)
    solver = {"ridge": _ridge, "lasso": _lasso, "means": _means}[estimator]
    if prior is not None:
        solver = functools.partial(toward, prior=prior)
    weights, bias, uncertainty, certificate = solver(masks, values, penalties)
    left_out = outcomes.subsets.count - kept.subsets.count
    info = Info(
        method=f"Datamodel ({estimator})" if prior is None else f"Datamodel (toward {prior.info.method})",
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
        "relative_penalty": quartiles(relative),
        "leave_one_out_r2": quartiles(found.explained),
    }
    return found.weights, found.bias, error, facts


def _lasso(
    masks: Bool[np.ndarray, "k n"], y: Float[np.ndarray, "k m"], penalties: tuple[float, ...]
) -> Fitted:
    del penalties  # the lasso's path is relative to each target's own largest penalty
    found = lasso(masks, y)
    facts = {
        "gap": float(found.gap.max()),
        "penalty": quartiles(found.penalty),
        "held_out_r2": quartiles(found.explained),
        "nonzero": quartiles((found.weights != 0).sum(axis=1).astype(np.float64)),
    }
    return found.weights, found.bias, None, facts


def _means(
    masks: Bool[np.ndarray, "k n"], y: Float[np.ndarray, "k m"], penalties: tuple[float, ...]
) -> Fitted:
    del penalties  # nothing is penalised
    found = means(masks, y)
    spread = (found.error**2).mean(axis=1)
    return found.weights, found.bias, Uncertainty(spread), {"standard_error": float(np.sqrt(spread.mean()))}
