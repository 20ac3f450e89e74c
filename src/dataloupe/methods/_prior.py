"""What a datamodel makes of another attribution: a guess to shrink toward, where retrainings are few."""

from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from dataloupe._errors import BadInput
from dataloupe._identity import array_digest, canonical
from dataloupe.core import AbstractAttributor, Attribution, Lab, Needs, Question, Removal, Uncertainty
from dataloupe.methods._fits import Fitted, quartiles
from dataloupe.solve import prior_ridge

Prior: TypeAlias = Attribution | AbstractAttributor


def check_prior(prior: Any, estimator: str) -> None:
    """Refuse what is no prior, and estimators that take none (dl-714)."""
    known = isinstance(prior, Attribution | AbstractAttributor)
    if not known or estimator != "ridge":
        raise BadInput(
            "dl-714",
            asked=f"a datamodel by {estimator} with a prior",
            found="an estimator that shrinks toward zero" if known else f"a prior of {type(prior).__name__}",
            do="use ridge, and as the prior an attribution or a method such as TRAK(models=10)",
        )


def ask_prior(prior: Prior, question: Question, lab: Lab) -> Attribution:
    """The prior's attribution, before the datamodel trains anything. Raises dl-713 if it is of other data."""
    found = prior.attribute(question, lab) if isinstance(prior, AbstractAttributor) else prior
    if (found.m, found.n) != (question.m, question.n):
        raise BadInput(
            "dl-713",
            asked=f"a prior for {question.m} targets x {question.n} examples",
            found=f"{found.info.method} of {found.m} targets x {found.n} examples",
            do="give an attribution of the same question",
        )
    return found


def identity_of(prior: Prior) -> Any:
    """A method's settings, or what an attribution is and says."""
    if isinstance(prior, AbstractAttributor):
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
        notes.append("its prior answers another question")
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
    facts = {
        "prior": prior.info.method,
        "slope": quartiles(found.slope),
        "similarity": found.similarity,
        "relative_penalty": quartiles(found.penalty / found.eigenvalues.mean()),
        "leave_one_out_r2": quartiles(found.explained),
        "leave_one_out_r2_of_the_prior": quartiles(found.explained_prior),
        "leave_one_out_r2_without_it": quartiles(found.explained_alone),
    }
    error = Uncertainty(found.spread, basis=found.basis.astype(np.float32), spectrum=found.spectrum)
    return Fitted(found.weights, found.bias, error, facts, len(y), float(masks.mean()), removal)
