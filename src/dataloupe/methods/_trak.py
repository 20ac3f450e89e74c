"""TRAK: linearise a few models, sketch their gradients, whiten, average."""

import dataclasses
from typing import ClassVar

import numpy as np
import torch

from dataloupe.core import AbstractAttributor, DenseAttribution, Lab, Needs, Question, Subsets, capabilities
from dataloupe.methods._ensemble import Ensemble, Part, combined, model_made_by, remembered, roots
from dataloupe.methods._models import check_models, sketch_of
from dataloupe.solve import check_penalty, whitened


@dataclasses.dataclass(frozen=True)
class TRAK(AbstractAttributor):
    """Product of averages over models k of sketched gradients X_k of the train output and phi_k of the target's:

        tau_ji = mean_k [phi_kj (X_k' X_k + ridge tr(X_k' X_k) / d I)^-1 x_ki]  *  mean_k [slope_ki]

    ``slope`` is minus dLoss/doutput. Each model has a sketch of its own, of ``dim`` dimensions (gradients stay
    exact where the model has no more parameters): :class:`dataloupe.solve.FactoredSketch`, for which no example's
    gradient is ever made where its factors are smaller. ``fraction`` of the data trains each model; a model source gives
    its own models. Units are relative: :func:`dataloupe.calibrate` gives the scale. ``parts()`` are the
    single-model attributions, right after the computation (a remembered attribution has none).

    ``curved`` weighs each row of X_k' X_k by the curvature w of the training loss in the output, which the paper
    derives and then leaves out: p (1 - p) for margins, 1 for regression, and 1 where an output knows of none.
    Without it rows of which the model is sure, where the loss is flat, count as much as all others.

    A model whose gradients are not finite is left out and counted. Finished models are remembered by the lab, so
    a killed run resumes at the next one, and more models reuse the first ones.

    Raises ``BadInput`` dl-711 (settings), dl-701 (ridge), ``TrainingError`` dl-712 (no model is finite).
    Source: Park et al. 2023 (TRAK), algorithm 1, with a relative ridge and without soft thresholding; the
    curvature is R of its section 3.

    >>> TRAK(models=5).dim
    2048
    """

    models: int = 10
    dim: int = 2048
    ridge: float = 1.0
    fraction: float = 0.5
    seed: int = 0
    curved: bool = True

    requires: ClassVar[frozenset[str]] = frozenset({"models"})

    def __post_init__(self) -> None:
        """Check the settings."""
        check_penalty(self.ridge)
        check_models(self.models, self.dim, self.fraction)

    def needs(self, question: Question) -> Needs:
        """A training (unless the models are there) and a gradient pass per model."""
        trains = self.models if "train" in capabilities(question) else 0
        disk = 4 * self.models * (question.m + 1) * question.n
        return Needs(trains, self.fraction, gradient_passes=self.models, disk_bytes=disk)

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:
        """Model after model, then the product of averages."""
        ensemble = Ensemble("TRAK", self.models, self.fraction, self.seed)
        return combined(self, ensemble, question, lambda subsets, k: self._part(question, lab, subsets, k))

    def _part(self, question: Question, lab: Lab, subsets: Subsets, k: int) -> Part | None:
        """One model's part; None where gradients are not finite."""
        made_by = {
            **model_made_by(question, subsets, k),
            "sketch": {"dim": self.dim, "seed": self.seed},
            "ridge": self.ridge,
            "curved": self.curved,
        }

        def make() -> Part | None:
            x, slope, phi, made = lab.features(question, subsets, k, sketch_of(self.dim, self.seed, k))
            if not all(np.isfinite(a).all() for a in (x, slope, phi)):
                return None
            root = roots(question, self.curved)(torch.from_numpy(slope)).numpy()
            found = whitened((x * root[:, None]).astype(np.float32), phi.astype(np.float32), self.ridge)
            facts = {name: value for name, value in found._asdict().items() if name != "values"} | made
            return Part((found.values / root).astype(np.float32), slope.astype(np.float32), facts)

        return remembered(lab, "trak-part", made_by, make)
