"""Controls that say the same of every target: how large a row's gradient is, and how badly it is fit."""

import abc
import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from dataloupe.core import (
    AbstractAttributor,
    DenseAttribution,
    Info,
    Lab,
    Needs,
    Question,
    Subsets,
    capabilities,
    check_settings,
    model_subsets,
    sign_of_better,
)
from dataloupe.methods._models import all_diverged, check_models, shares_in_words, sketch_of


class _OfRow(AbstractAttributor, abc.ABC):
    """One number for every training row, the mean over models; turned for an output that is better the lower."""

    name: ClassVar[str]
    requires: ClassVar[frozenset[str]] = frozenset({"models"})
    models: int
    fraction: float
    seed: int

    @abc.abstractmethod
    def _of_model(self, question: Question, lab: Lab, subsets: Subsets, k: int) -> Float[np.ndarray, " n"]:
        """The numbers by one model."""

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:
        """Model after model, then the mean; the same row for every target."""
        subsets, share = model_subsets(question, self.models, self.fraction, self.seed)
        found = [self._of_model(question, lab, subsets, k) for k in range(self.models)]
        used = [one for one in found if np.isfinite(one).all()]
        if not used:
            raise all_diverged(self.name, self.models)
        scores = sign_of_better(question.output) * np.mean(used, axis=0)
        info = Info(
            self.name,
            self.settings(),
            certificate={"models": len(used), "left_out": self.models - len(used)},
            removal=getattr(question.learner, "removal", "repack"),
            fraction=share,
            note=shares_in_words(share, self.models - len(used)),
            role="control",
        )
        whole = np.broadcast_to(scores.astype(np.float32), (question.m, question.n))
        return DenseAttribution(whole, info, units="relative")


@dataclasses.dataclass(frozen=True)
class GradientNorm(_OfRow):
    """How strongly training row i pulls, whatever the target: ``tau_ji = mean_k |slope_ki x_ki|``.

    x is the gradient of the training output, sketched to ``dim`` numbers. Turned for a loss. Relative units.

    Raises ``BadInput`` dl-711 (settings), ``TrainingError`` dl-712 (no model is finite).

    >>> GradientNorm().settings()
    {'models': 1, 'dim': 2048, 'fraction': 0.5, 'seed': 0}
    """

    models: int = 1
    dim: int = 2048
    fraction: float = 0.5
    seed: int = 0
    name: ClassVar[str] = "gradient norm"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-711")
        check_models(self.models, self.dim, self.fraction)

    def needs(self, question: Question) -> Needs:
        """A training (unless the models are there) and a gradient pass per model."""
        trains = self.models if "train" in capabilities(question) else 0
        return Needs(trains, self.fraction, gradient_passes=self.models)

    def _of_model(self, question: Question, lab: Lab, subsets: Subsets, k: int) -> Float[np.ndarray, " n"]:
        features = lab.features(question, subsets, k, sketch_of(self.dim, self.seed, k))
        length = np.linalg.norm(features.train.whole().astype(np.float64), axis=1)
        return length * np.abs(features.slope)


@dataclasses.dataclass(frozen=True)
class TrainingLoss(_OfRow):
    """How badly training row i is fit, whatever the target: ``tau_ji = mean_k`` of its training output, the worse the more.

    Of an output that is better the higher (a margin), minus it. Turned once more for targets' outputs that are losses. Relative units.

    Raises ``BadInput`` dl-711 (settings), ``TrainingError`` dl-712 (no model is finite).

    >>> TrainingLoss(models=3).settings()
    {'models': 3, 'fraction': 0.5, 'seed': 0}
    """

    models: int = 1
    fraction: float = 0.5
    seed: int = 0
    name: ClassVar[str] = "training loss"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-711")
        check_models(self.models, 1, self.fraction)

    def needs(self, question: Question) -> Needs:
        """A training per model (unless the models are there)."""
        return Needs(self.models if "train" in capabilities(question) else 0, self.fraction)

    def _of_model(self, question: Question, lab: Lab, subsets: Subsets, k: int) -> Float[np.ndarray, " n"]:
        own = dataclasses.replace(
            question, targets=question.train, output=question.on_train, train_output=None
        )
        return -sign_of_better(own.output) * own.measure(lab.models(question, subsets)[k])
