"""Methods: from a question to an attribution."""

import abc
import dataclasses
import time
from typing import Any, ClassVar, final

import numpy as np

from dataloupe._errors import CapabilityError
from dataloupe._identity import NUMERICS, canonical
from dataloupe.core._attribution import DenseAttribution
from dataloupe.core._direction import better_of
from dataloupe.core._isolation import isolated
from dataloupe.core._lab import Lab
from dataloupe.core._learner import Learner, ModelSource, SteppedLearner
from dataloupe.core._question import Question
from dataloupe.core._restore import check_fits_question, restoring
from dataloupe.core._subsets import Subsets

CAPABILITIES = {
    "train": "a learner with `train` (dataloupe.SGD, dataloupe.SklearnLearner, or your own)",
    "models": "models whose parameters can be seen (dataloupe.SGD or dataloupe.Checkpoints)",
}


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a method will ask of a lab, for `plan`: trainings (of a data share) and gradient passes."""

    trainings: int = 0
    fraction: float = 1.0
    gradient_passes: int = 0
    disk_bytes: int = 0


class AbstractAttributor(abc.ABC):
    """A method: frozen hyperparameters, what it requires, and ``compute``. Subclasses are final dataclasses."""

    requires: ClassVar[frozenset[str]] = frozenset()
    penalty: ClassVar[str | None] = None
    """The setting (a ridge, a damping) that the method may choose itself, and can be solved again at for no gradient."""

    @abc.abstractmethod
    def needs(self, question: Question) -> Needs:
        """What it will cost, before anything starts."""

    @abc.abstractmethod
    def compute(self, question: Question, lab: Lab) -> DenseAttribution:
        """The attribution, asked of the lab. Called by :meth:`attribute` when nothing is remembered."""

    def extended(
        self,
        found: DenseAttribution,
        question: Question,  # noqa: ARG002  (for methods that keep what they need in the lab)
        lab: Lab,  # noqa: ARG002
    ) -> DenseAttribution:
        """The attribution with what it can tell only while its lab is there: computed or remembered, the same."""
        return found

    @final
    @isolated()
    def attribute(self, question: Question, lab: Lab) -> DenseAttribution:
        """The attribution of this question, computed by the lab or remembered from before.

        Raises ``CapabilityError`` dl-205 before any work if the learner lacks what the method requires.
        """
        self.check_capabilities(question)
        made_by = {"attributor": canonical(self), "question": canonical(question), "numerics": NUMERICS}
        known = lab.get("attribution", made_by)
        if known is not None:
            with restoring(f"attribution by {type(self).__name__}"):
                found = DenseAttribution.from_arrays(*known, train=question.train, targets=question.targets)
                check_fits_question(known[0], (question.m, question.n), question.index)
            return self._in_its_lab(found, question, lab)
        start = time.perf_counter()
        found = self.compute(question, lab)
        cost = {**found.info.cost, "seconds": round(time.perf_counter() - start, 2)}
        info = dataclasses.replace(
            found.info,
            cost=cost,
            question=question.identity,
            output=question.output.name,
            better=better_of(question.output),
            provenance=question.provenance,
        )
        found = dataclasses.replace(
            found, info=info, train=question.train, targets=question.targets, index=question.index
        )
        lab.put("attribution", made_by, *found.to_arrays())
        return self._in_its_lab(found, question, lab)

    def with_penalty(self, value: float) -> "AbstractAttributor | None":
        """The method with another ridge or damping; None of a method without one."""
        return None if self.penalty is None else dataclasses.replace(self, **{self.penalty: value})  # type: ignore[type-var]

    def _in_its_lab(self, found: DenseAttribution, question: Question, lab: Lab) -> DenseAttribution:
        """What :meth:`extended` adds, and how to solve again at another penalty."""
        found = self.extended(found, question, lab)
        if self.with_penalty(1.0) is None:
            return found

        def at_penalty(value: float) -> DenseAttribution:
            other = self.with_penalty(value)
            return found if other is None else other.attribute(question, lab)

        return dataclasses.replace(found, at_penalty=at_penalty)

    def check_capabilities(self, question: Question) -> None:
        """Refuse a learner that lacks what the method requires (dl-205)."""
        missing = self.requires - capabilities(question)
        if missing:
            raise CapabilityError(
                "dl-205",
                asked=f"{type(self).__name__} of {type(question.learner).__name__}",
                found=f"no {' and no '.join(sorted(missing))}",
                do="it needs " + "; ".join(CAPABILITIES[name] for name in sorted(missing)),
            )

    def settings(self) -> dict[str, Any]:
        """The hyperparameters as JSON."""
        return {name: value for name, value in canonical(self).items() if name not in ("kind", "code")}


def capabilities(question: Question) -> frozenset[str]:
    """Which of :data:`CAPABILITIES` the question's learner has."""
    learner = question.learner
    found = set()
    if isinstance(learner, Learner):
        found.add("train")
    if isinstance(learner, SteppedLearner | ModelSource):
        found.add("models")
    return frozenset(found)


def model_subsets(question: Question, count: int, fraction: float, seed: int) -> tuple[Subsets, float | None]:
    """Which models a gradient method looks at, and the share of the data that they saw (None: nobody knows).

    A model source gives its own models, whatever the fraction asked for.

    Raises ``CapabilityError`` dl-206 if it holds fewer than asked for.
    """
    learner = question.learner
    if not isinstance(learner, ModelSource):
        return Subsets(n=question.n, count=count, fraction=fraction, seed=seed), fraction
    held = len(learner.models())
    if held < count:
        raise CapabilityError(
            "dl-206", asked=f"{count} models", found=f"{held} checkpoints", do=f"ask for at most {held}"
        )
    known = learner.subsets(question.n)
    if known is None:
        return Subsets.full(question.n, count), None
    return known.first(count), float(np.mean(known.first(count).masks()))
