"""Influence functions in a Kronecker eigenbasis with corrected eigenvalues, without a projection (EK-FAC)."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dataloupe._typing import Facts
from dataloupe.core import (
    AbstractAttributor,
    DenseAttribution,
    Lab,
    ModelSource,
    Needs,
    Question,
    SteppedLearner,
    capabilities,
    check_settings,
    merged,
    room_for,
    torch_model,
)
from dataloupe.methods._curved import Curved
from dataloupe.methods._ensemble import Ensemble, in_its_lab, probe_questions, told, witnesses
from dataloupe.methods._models import all_diverged, check_models
from dataloupe.solve import Choice, check_penalty, held_out_ridge, kept_numbers

RULE = 1.0
"""The damping where too few models can tell one."""


@dataclasses.dataclass(frozen=True)
class Influence(AbstractAttributor):
    """Product of averages over models k of gradients g of the train output and phi of the target's:

        tau_ji = mean_k [phi_kj' (H_k + damping)^-1 g_ki]  *  mean_k [slope_ki],    H_k = sum_i w_i g_ki g_ki'

    H is block-diagonal by parameter. A weight's block is diagonal in the Kronecker product of the eigenvectors of
    its factors' second moments, with the eigenvalues that the gradients themselves have there; a small block
    is whole. w is as in :class:`TRAK`, and so is H of an output that is a mean over draws: the mean of the draws' own. Nothing is sketched. ``damping`` is relative to the mean eigenvalue of each
    block.

    ``damping=None`` chooses it on models held out in turn, as TRAK chooses its ridge. With fewer than three models,
    or where nobody knows what they saw, it is 1, the mean eigenvalue: the best for 10 held-out models of
    `bench/fashion.py`, in a wide valley.

    Three passes over the training rows a model. The lab keeps eigenvectors, eigenvalues, sums and products: another
    damping, further models or other targets cost the last pass, a killed run loses one, and the attribution
    tells the effect of groups as groups. Memory: pieces of 2^27 numbers.

    H takes directions as independent that are not, and may claim more of them than there are examples (the certificate's
    ``effective_dimension``): raw effects are then too large by about that factor. Calibrate before reading a size.

    A model whose gradients are not finite is left out and counted. Raises ``BadInput`` dl-711 (settings), dl-701
    (damping), dl-704 (no gradient at all), dl-738 (a group), ``TrainingError`` dl-712 (no model is finite).
    Source: George et al. 2018 (EK-FAC); Grosse et al. 2023, section 2.2, for influence functions.

    >>> Influence(models=5).fraction
    0.5
    """

    models: int = 10
    damping: float | None = None
    fraction: float = 0.5
    seed: int = 0
    curved: bool = True

    requires: ClassVar[frozenset[str]] = frozenset({"models"})
    penalty: ClassVar[str | None] = "damping"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-711")
        if self.damping is not None:
            check_penalty(self.damping)
        check_models(self.models, 1, self.fraction)

    def needs(self, question: Question) -> Needs:
        """A training (unless the models are there) and three gradient passes per model; what it keeps on disk."""
        trains = self.models if "train" in capabilities(question) else 0
        shapes = _matrices(question)
        p, sums = sum(r * c for r, c in shapes), self.models - 1 if self.damping is None else 0
        numbers = sum(kept_numbers(r, c) for r, c in shapes) + (2 + sums) * p + (question.m + 1) * question.n
        disk = 4 * (self.models * numbers + question.m * question.n)
        passes = 3 + 2 * len(probe_questions(question, self.curved))
        return Needs(trains, self.fraction, gradient_passes=passes * self.models, disk_bytes=disk)

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:
        """Curvatures of all models, the damping; then the product of averages, model after model."""
        every = self._every(question, lab)
        models = [one for one in every if one.finite]
        if not models:
            raise all_diverged("Influence", self.models)
        choice = self._choice(question, lab, models) if self.damping is None else None
        damping = choice.best if choice else self.damping or RULE
        scores = room_for((question.m, question.n))
        for one in models:
            for rows, values in one.values(damping):
                scores[rows] += values
        slope = np.mean([one.slope for one in models], axis=0)
        scores *= (slope / len(models)).astype(np.float32)
        certificate = _certificate(models, self.models - len(models), damping, choice)
        info = told(self, self._ensemble(), question, lab, certificate, chosen=choice is not None)
        return DenseAttribution(scores, info, units="relative")

    def extended(self, found: DenseAttribution, question: Question, lab: Lab) -> DenseAttribution:
        """What it can tell while its lab is there: single models, and groups as groups."""
        damping = float(found.info.certificate["damping"])
        models = functools.cache(lambda: [one for one in self._every(question, lab) if one.finite])
        alone = dataclasses.replace(found.info, note="")

        def single(k: int) -> DenseAttribution:
            scores = room_for((question.m, question.n))
            for rows, values in models()[k].values(damping):
                scores[rows] = values * models()[k].slope.astype(np.float32)
            return DenseAttribution(scores, alone, units="relative")

        return in_its_lab(found, single, models, damping)

    def _ensemble(self) -> Ensemble:
        return Ensemble("Influence", self.models, self.fraction, self.seed)

    def _every(self, question: Question, lab: Lab) -> list[Curved]:
        subsets = self._ensemble().subsets(question)
        return [Curved(question, lab, subsets, k, self.curved) for k in range(self.models)]

    def _choice(self, question: Question, lab: Lab, models: Sequence[Curved]) -> Choice | None:
        """The damping with which models predict the outputs of those held out in turn, as of TRAK's ridge."""
        seen = witnesses(question, lab, self._ensemble().subsets(question), [one.k for one in models])
        return held_out_ridge(models, *seen) if seen else None


def _matrices(question: Question) -> list[tuple[int, int]]:
    """Rows and columns of every parameter; none of a learner whose models cannot be seen before they are trained."""
    learner = question.learner
    if isinstance(learner, ModelSource):
        model = learner.models()[0]
    elif isinstance(learner, SteppedLearner):
        model = learner.model(learner.init(seed=0))
    else:
        return []
    shapes = (tensor.shape for tensor in torch_model(model).params.values())
    return [(shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape)) for shape in shapes]


def _certificate(models: Sequence[Curved], left_out: int, damping: float, choice: Choice | None) -> Facts:
    """What is known of the numerics and of the damping, with the worst of every error."""
    facts = merged(*(one.facts for one in models))
    found: Facts = {
        "models": len(models),
        "left_out": left_out,
        **{name: value for name, value in facts.items() if name not in ("finite", "shapes")},
        "effective_dimension": [round(one.curvature().dimension(damping), 1) for one in models],
        "damping": damping,
        "damping_chosen": "on held-out models" if choice else "as given, or by rule",
    }
    if choice:
        found |= {"held_out_correlation": choice.correlation, "held_out_slope": choice.slope}
    return found
