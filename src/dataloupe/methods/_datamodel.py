"""Datamodels: regress what retrainings did on which examples they kept."""

import dataclasses
from typing import Any, ClassVar, Literal

import numpy as np

from dataloupe._errors import BadInput
from dataloupe.core import (
    AbstractAttributor,
    DenseAttribution,
    Info,
    Lab,
    Needs,
    Question,
    Subsets,
    check_settings,
    trainings_record,
)
from dataloupe.methods._amount import check_amount, with_amount
from dataloupe.methods._fits import STREAMED, Fitted, by_ridge, streamed
from dataloupe.methods._prior import (
    Prior,
    ask_prior,
    check_prior,
    identity_of,
    mixed,
    notes_on,
    toward,
    with_prior,
)
from dataloupe.solve import PENALTIES, Selection

ESTIMATORS = ("ridge", *STREAMED)

ONE_SIZE = (
    "subsets of one size cannot tell what all rows have in common: weights are against the average row "
    "(amount=, some subsets of another size, tells it)"
)
"""Said of fixed-size subsets, whose membership always sums to the same."""


@dataclasses.dataclass(frozen=True)
class Datamodel(AbstractAttributor):
    """A linear function of membership, fitted to retrainings: f_j(w) = bias_j + scores_j . w.

    ``estimator``: ``ridge`` (each target's penalty by exact leave-one-out among ``penalties``, which are relative
    to the mean non-zero eigenvalue; with the posterior as the error), ``lasso`` (each target's penalty by
    ``select``: hold-out, k-fold or gcv), ``ols``, ``means`` (difference of means). All but ridge read the lab's
    outcomes once, block by block. Units are the output's. ``repeats`` seeds a subset are averaged; new subsets
    teach more than repeats. Subsets with a diverged run are left out and counted in ``info.certificate``.

    Subsets of one size (the default kind, fixed) tell what a row does against the average row, not what all rows have in
    common, such as the amount of data. ``amount``, a few subsets of another size, tells that: a constant in every weight,
    so that predictions meet the mean output of both sizes. ``Subsets(kind="bernoulli")`` tells both by itself.

    ``exclude_self``, for targets that are training examples (lasso): each is fitted on all the others, so that
    what it does to itself, by far its largest score, does not hide what the others do.

    ``prior`` is another attribution of the question, or a method that gives one (``TRAK(models=10)``), in any
    units: ridge then shrinks toward a multiple of its scores instead of toward 0, and takes examples that it
    scores alike to err alike (:func:`dataloupe.solve.prior_ridge`). Multiple, similarity and penalties are chosen
    by leave-one-out on these subsets; the certificate tells the R2 of prior, datamodel and both. With few
    retrainings it is about as good as the prior, with many as the datamodel, in between better than either. With
    ``estimator="lasso"`` this ridge and the lasso are averaged, in the proportion that held-out subsets ask for
    (:func:`dataloupe.solve.prior_lasso`): mostly better still, and slower.

    Raises ``BadInput`` dl-710 (an unknown estimator, subsets of other data), dl-713 (a prior of other data),
    dl-714 (a prior for ols or means), dl-725 (``amount``), dl-719 (``exclude_self`` where it has no meaning) and what the solver raises.
    Source: Ilyas et al. 2022 (datamodels).

    >>> Datamodel(Subsets(n=100, count=500)).estimator
    'ridge'
    """

    subsets: Subsets
    estimator: Literal["ridge", "lasso", "ols", "means"] = "ridge"
    repeats: int = 1
    penalties: tuple[float, ...] = PENALTIES
    prior: Prior | None = None
    select: Selection = "hold-out"
    exclude_self: bool = False
    amount: Subsets | None = None

    requires: ClassVar[frozenset[str]] = frozenset({"train"})

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-710")
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
        if self.exclude_self and (self.estimator != "lasso" or self.prior is not None):
            asked = f"the estimator {self.estimator}" + " with a prior" * (self.prior is not None)
            raise self._not_itself(asked, 'use estimator="lasso", without a prior')
        check_amount(self.amount, self.subsets, self.estimator)
        if self.prior is not None:
            check_prior(self.prior, self.estimator)
            needed = self.prior.requires if isinstance(self.prior, AbstractAttributor) else frozenset()
            object.__setattr__(self, "requires", type(self).requires | needed)

    def __identity__(self) -> dict[str, Any]:
        """The settings that decide something."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["prior"] = None if self.prior is None else identity_of(self.prior)
        unused = {"penalties"} if self.estimator != "ridge" and self.prior is None else set()
        unused |= {"select", "exclude_self"} if self.estimator != "lasso" else set()
        return {name: value for name, value in fields.items() if name not in unused and value is not None}

    def needs(self, question: Question) -> Needs:
        """One training per subset and seed, and what the prior needs."""
        designs = [self.subsets, *([] if self.amount is None else [self.amount])]
        each = [design.count * self.repeats for design in designs]
        trainings = sum(each)
        share = sum(k * design.fraction for k, design in zip(each, designs, strict=True)) / trainings
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
        own = None
        if self.exclude_self:
            if question.targets.fingerprint != question.train.fingerprint:
                raise self._not_itself("targets that are other examples", "ask with targets=train")
            own = question.index[:, 0]
        if self.estimator != "ridge" and self.prior is None:
            blocks = lab.blocks(question, self.subsets, repeats=self.repeats)
            fitted = streamed(blocks, self.subsets.count, self.estimator, self.select, own)
            return self._told(self._with_amount(fitted, question, lab))
        prior = None if self.prior is None else ask_prior(self.prior, question, lab)
        outcomes = lab.outcomes(question, self.subsets, repeats=self.repeats)
        kept = outcomes.complete()
        masks, values = kept.subsets.masks(), kept.mean().astype(np.float64)
        if prior is None:
            fitted = by_ridge(masks, values, self.penalties, outcomes.removal)
            return self._told(self._with_amount(fitted, question, lab))
        given = masks, values, self.penalties, outcomes.removal
        if self.estimator == "lasso":
            found = self._told(mixed(*given, prior=prior, select=self.select))
        else:
            found = self._told(self._with_amount(toward(*given, prior=prior), question, lab))
        notes = [note for note in (found.info.note, *notes_on(prior, question)) if note]
        info = dataclasses.replace(
            found.info,
            method=f"Datamodel ({'lasso and ' * (self.estimator == 'lasso')}toward {prior.info.method})",
            note="; ".join(notes),
            cost={**found.info.cost, "prior": prior.info.cost},
            fitted=[*found.info.fitted, *prior.info.fitted],
        )
        return dataclasses.replace(found, info=info)

    def _with_amount(self, fitted: Fitted, question: Question, lab: Lab) -> Fitted:
        """The fit, meeting the mean output of both sizes."""
        if self.amount is None:
            return fitted
        designs = (self.subsets, self.amount)
        outcomes = (lab.outcomes(question, design, repeats=self.repeats) for design in designs)
        return with_amount(fitted, *outcomes)

    def _not_itself(self, found: str, do: str) -> BadInput:
        return BadInput("dl-719", asked="each training example explained by the others", found=found, do=do)

    def _told(self, found: Fitted) -> DenseAttribution:
        """A fit as an attribution."""
        left_out = self.subsets.count - found.rows
        notes = [f"{left_out} subsets with a diverged run were left out"] if left_out else []
        if self.subsets.kind == "fixed" and self.amount is None:
            notes.append(ONE_SIZE)
        designs = [self.subsets, *([] if self.amount is None else [self.amount])]
        info = Info(
            method=f"Datamodel ({self.estimator})",
            settings=self.settings(),
            certificate={"subsets": found.rows, "left_out": left_out, **found.facts},
            cost={"trainings": sum(design.count for design in designs) * self.repeats},
            removal=found.removal,
            fraction=found.fraction,
            note="; ".join(notes),
            fitted=[trainings_record("fit", design, self.repeats) for design in designs],
        )
        weights, bias = found.weights.astype(np.float32), found.bias.astype(np.float32)
        return DenseAttribution(weights, info, bias=bias, uncertainty=found.uncertainty)
