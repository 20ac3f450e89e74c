"""What retraining would do, predicted from attributions: gradients of a few models, or any in units of the output."""

import dataclasses
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe.core import (
    AbstractAttributor,
    Attribution,
    Lab,
    Question,
    Subsets,
    check_same,
    check_settings,
    needs_units,
)
from dataloupe.unlearning._context import Context
from dataloupe.unlearning._predictors import (
    after_what_is_gone,
    check_blocks,
    design_of,
    multiple_of,
    remembered,
)
from dataloupe.unlearning._rows import everything


@dataclasses.dataclass(frozen=True, eq=False)
class Gradients:
    """The same from the gradients of a few models: TRAK, per prediction, in the scale that a few trainings give it.

    ``effect="group"`` takes the rows' curvature out together (:meth:`solve.Linearised.removed`), ``sum`` adds single
    effects. ``subsets`` are the trainings that give the scale: 40 are enough. Raises ``BadInput`` dl-680.

    Source: Park et al. 2023 (TRAK); Georgiev et al. 2024, DMM-TRAK.
    """

    method: AbstractAttributor
    subsets: Subsets
    effect: Literal["sum", "group"] = "sum"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-680")
        known = self.effect in ("sum", "group") and hasattr(self.method, "factored")
        if not known or self.subsets.count < 3:
            raise BadInput(
                "dl-680",
                asked=f"predictions by {type(self.method).__name__} with effect={self.effect!r}, scaled by {self.subsets.count} subsets",
                found="a method without factors, an effect other than sum or group, or fewer than 3 subsets",
                do="use TRAK, sum or group, and 40 subsets for the scale",
            )
        check_blocks(self.subsets)

    def changes(self, context: Context) -> Float[np.ndarray, "rows c"]:
        """Scaled effects of the removal."""
        prior, multiple = self._scaled(context.question, context.lab)
        rows = context.question.n + len(context.question.targets)
        return after_what_is_gone(
            lambda ids: (
                multiple * prior.effect([ids], kind=self.effect)[0].reshape(rows, -1).astype(np.float64)
            ),
            context,
        )

    def of_removed(
        self, question: Question, lab: Lab, removed: Int[np.ndarray, " f"]
    ) -> Float[np.ndarray, "f c"]:
        """What :meth:`changes` gives for the removed rows themselves, at a fraction of the cost."""
        prior, multiple = self._scaled(question, lab)
        columns = prior.m // (question.n + len(question.targets))
        own = prior.on((removed[:, None] * columns + np.arange(columns)).ravel())
        found = own.effect([removed], kind=self.effect)[0].reshape(len(removed), columns)
        return multiple * found.astype(np.float64)

    def scores(self, question: Question, lab: Lab) -> Any:
        """The method's, as factors."""
        return self._scaled(question, lab)[0]

    @property
    def prior(self) -> AbstractAttributor:
        """The method."""
        return self.method

    def _scaled(self, question: Question, lab: Lab) -> tuple[Any, float]:
        """The method's scores as factors, and their scale; made once for a question."""
        return remembered(self, question.identity, lambda: self._scale(question, lab))

    def _scale(self, question: Question, lab: Lab) -> tuple[Any, float]:
        every = everything(question)
        kept = lab.outcomes(every, self.subsets).complete()
        prior = self.method.factored(every, lab)  # type: ignore[attr-defined]
        design = design_of(kept.subsets)
        outputs = design.centred(kept.values.reshape(len(kept.values), -1))
        return prior, multiple_of(design, outputs, prior)

    @property
    def trainings(self) -> int:
        """How many trainings the scale takes; those of the method come on top."""
        return self.subsets.count


@dataclasses.dataclass(frozen=True, eq=False)
class Attributed:
    """Any attribution of :func:`everything`'s question, in units of the output.

    Raises ``UnitsError`` dl-507 (relative units), ``BadInput`` dl-686 (of other sizes), dl-512 (other training data, targets
    or output), dl-513 (another learner).
    """

    attribution: Attribution
    effect: Literal["sum", "group"] = "sum"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-680")

    def changes(self, context: Context) -> Float[np.ndarray, "rows c"]:
        """Its effects."""
        needs_units(self.attribution, "predictions of oracles")
        every, known = everything(context.question), self.attribution
        if (known.n, known.m) != (every.n, every.m):
            raise BadInput(
                "dl-686",
                asked=f"changes of {every.m} predictions by {every.n} training rows",
                found=f"an attribution of {known.m} by {known.n}",
                do="ask its method the question dataloupe.unlearning.everything(question)",
            )
        check_same("predictions of oracles", known, every, learner="refuse")
        rows = len(every.targets)
        return after_what_is_gone(
            lambda ids: (
                self.attribution.effect([ids], kind=self.effect)[0].reshape(rows, -1).astype(np.float64)
            ),
            context,
        )
