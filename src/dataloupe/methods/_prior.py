"""What a datamodel makes of another attribution: a guess to shrink toward, where retrainings are few."""

from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from dataloupe._errors import BadInput
from dataloupe._identity import array_digest, canonical
from dataloupe._typing import Facts
from dataloupe.core import (
    AbstractAttributor,
    Attribution,
    Lab,
    Needs,
    Question,
    Removal,
    Uncertainty,
    check_same,
)
from dataloupe.methods._fits import Fitted, quartiles
from dataloupe.solve import PriorRidge, Selection, prior_lasso, prior_ridge

Prior: TypeAlias = Attribution | AbstractAttributor


def check_prior(prior: Any, estimator: str) -> None:
    """Refuse what is no prior, and estimators that take none (dl-714)."""
    known = isinstance(prior, Attribution | AbstractAttributor)
    if not known or estimator not in ("ridge", "lasso"):
        raise BadInput(
            "dl-714",
            asked=f"a datamodel by {estimator} with a prior",
            found="an estimator that shrinks toward zero" if known else f"a prior of {type(prior).__name__}",
            do="use ridge or lasso, and as the prior an attribution or a method such as TRAK(models=10)",
        )


def ask_prior(prior: Prior, question: Question, lab: Lab) -> Attribution:
    """The prior's attribution, before the datamodel trains anything. Raises dl-713 (other sizes), dl-512 (other data)."""
    found = prior.attribute(question, lab) if isinstance(prior, AbstractAttributor) else prior
    if (found.m, found.n) != (question.m, question.n):
        raise BadInput(
            "dl-713",
            asked=f"a prior for {question.m} targets x {question.n} examples",
            found=f"{found.info.method} of {found.m} targets x {found.n} examples",
            do="give an attribution of the same question",
        )
    check_same("a datamodel with a prior", found, question, parts=("train", "targets"), learner="ignore")
    return found


def identity_of(prior: Prior) -> Any:
    """A method's settings, or what an attribution is and says; one that cannot tell, by all its scores."""
    if isinstance(prior, AbstractAttributor) or hasattr(type(prior), "__identity__"):
        return canonical(prior)
    info = prior.info
    facts = {"method": info.method, "settings": info.settings, "question": info.question}
    return {**facts, "scores": array_digest(np.asarray(prior.rows(slice(None))))}


def with_prior(needs: Needs, prior: Prior, question: Question) -> Needs:
    """What both cost. Where a lab keeps models, those of the same recipe are trained once."""
    if not isinstance(prior, AbstractAttributor):
        return needs
    its = prior.needs(question)
    trainings = needs.trainings + its.trainings
    share = (needs.trainings * needs.fraction + its.trainings * its.fraction) / trainings
    return Needs(
        trainings,
        share,
        gradient_passes=needs.gradient_passes + its.gradient_passes,
        disk_bytes=needs.disk_bytes + its.disk_bytes,
    )


def notes_on(prior: Attribution, question: Question) -> list[str]:
    """What a reader must know of the prior."""
    notes, removal = [], getattr(question.learner, "removal", "repack")
    if prior.info.removal != removal:
        notes.append(f"its prior was made under {prior.info.removal}, the retrainings under {removal}")
    if prior.info.question not in ("", question.identity):
        notes.append("its prior answers another question, of another learner or output")
    return notes


def toward(
    masks: Bool[np.ndarray, "k n"],
    y: Float[np.ndarray, "k m"],
    penalties: tuple[float, ...],
    removal: Removal,
    *,
    prior: Attribution,
) -> Fitted:
    """Ridge toward the prior."""
    found = prior_ridge(masks, y, prior.rows(slice(None)), penalties)
    facts = {"prior": prior.info.method, **_facts(found)}
    return Fitted(found.weights, found.bias, _error(found), facts, len(y), float(masks.mean()), removal)


def mixed(
    masks: Bool[np.ndarray, "k n"],
    y: Float[np.ndarray, "k m"],
    penalties: tuple[float, ...],
    removal: Removal,
    *,
    prior: Attribution,
    select: Selection,
) -> Fitted:
    """Lasso and ridge toward the prior, averaged; the error is ridge's."""
    found = prior_lasso(masks, y, prior.rows(slice(None)), penalties, select=select)
    names = ("held_out_r2_of_ridge", "held_out_r2_of_lasso", "held_out_r2")
    facts = {
        "prior": prior.info.method,
        "share_of_lasso": round(found.share, 4),
        **{name: quartiles(values) for name, values in zip(names, found.held_out, strict=True)},
        "gap": float(found.lasso.gap.max()),
        **_facts(found.ridge),
    }
    error = _error(found.ridge)
    return Fitted(found.weights, found.bias, error, facts, len(y), float(masks.mean()), removal)


def _facts(found: PriorRidge) -> Facts:
    return {
        "slope": quartiles(found.slope),
        "similarity": found.similarity,
        "relative_penalty": quartiles(found.penalty / found.eigenvalues.mean()),
        "leave_one_out_r2": quartiles(found.explained),
        "leave_one_out_r2_of_the_prior": quartiles(found.explained_prior),
        "leave_one_out_r2_without_it": quartiles(found.explained_alone),
    }


def _error(found: PriorRidge) -> Uncertainty:
    return Uncertainty(found.spread, basis=found.basis.astype(np.float32), spectrum=found.spectrum)
