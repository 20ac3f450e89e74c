"""Controls: what a method has to beat."""

import dataclasses
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Int

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array
from dataloupe.core import (
    AbstractAttributor,
    DenseAttribution,
    Examples,
    Info,
    Lab,
    Needs,
    Question,
    capabilities,
    check_settings,
    model_subsets,
    sign_of_better,
)
from dataloupe.methods._models import all_diverged, check_models, shares_in_words, sketch_of, unit_rows


@dataclasses.dataclass(frozen=True)
class RandomScores(AbstractAttributor):
    """Independent standard normal scores: what chance looks like. Relative units.

    >>> RandomScores(seed=1).settings()
    {'seed': 1}
    """

    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-711")

    def needs(self, question: Question) -> Needs:  # noqa: ARG002  (the same for every question)
        """Nothing."""
        return Needs()

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:  # noqa: ARG002  (asks nothing of it)
        """Draw the scores."""
        draws = Stream.root(self.seed)("random scores").numpy()
        scores = draws.standard_normal((question.m, question.n), dtype=np.float32)
        return DenseAttribution(scores, Info("random", self.settings(), role="control"), units="relative")


@dataclasses.dataclass(frozen=True)
class GradientSimilarity(AbstractAttributor):
    """Inner product (``dot``) or cosine of the target's gradient and minus the training loss's gradient:

        tau_ji = mean_k <phi_kj, slope_ki x_ki>    (cosine: both of length 1)

    the first-order effect of one step on example i (TracIn at the last checkpoint). Relative units. Gradients
    of length 0 have cosine 0 and are counted in ``info.certificate``.

    Raises ``BadInput`` dl-711 (settings), ``TrainingError`` dl-712 (no model is finite).
    Source: Charpiat et al. 2019; Pruthi et al. 2020 (TracIn).

    >>> GradientSimilarity(kind="cosine").models
    1
    """

    kind: Literal["dot", "cosine"] = "dot"
    models: int = 1
    dim: int = 2048
    fraction: float = 0.5
    seed: int = 0

    requires: ClassVar[frozenset[str]] = frozenset({"models"})

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-711")
        check_models(self.models, self.dim, self.fraction)
        if self.kind not in ("dot", "cosine"):
            raise BadInput(
                "dl-711",
                asked=f"a gradient similarity of kind {self.kind!r}",
                found="a word that is neither",
                do='use "dot" or "cosine"',
            )

    def needs(self, question: Question) -> Needs:
        """A training (unless the models are there) and a gradient pass per model."""
        trains = self.models if "train" in capabilities(question) else 0
        return Needs(trains, self.fraction, gradient_passes=self.models)

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:
        """Model after model, then the mean."""
        subsets, share = model_subsets(question, self.models, self.fraction, self.seed)
        total = np.zeros((question.m, question.n), dtype=np.float32)
        used, zero = 0, 0
        for k in range(self.models):
            features = lab.features(question, subsets, k, sketch_of(self.dim, self.seed, k))
            if not features.finite:
                continue
            x, phi = features.train.whole() * features.slope[:, None], features.targets
            if self.kind == "cosine":
                (x, none), (phi, no_target) = unit_rows(x), unit_rows(phi)
                zero = max(zero, none + no_target)
            total += phi.astype(np.float32) @ x.T.astype(np.float32)
            used += 1
        if not used:
            raise all_diverged("gradient similarity", self.models)
        info = Info(
            f"gradient similarity ({self.kind})",
            self.settings(),
            certificate={"models": used, "left_out": self.models - used, "zero_gradients": zero},
            removal=getattr(question.learner, "removal", "repack"),
            fraction=share,
            note=shares_in_words(share, self.models - used),
            role="control",
        )
        return DenseAttribution(total / np.float32(used), info, units="relative")


@dataclasses.dataclass(frozen=True)
class FeatureSimilarity(AbstractAttributor):
    """Cosine of what the last layer sees, with the sign of the label:

        tau_ji = mean_k cos(h_k(target j), h_k(example i)) * (+1 if the labels are equal, else -1)

    Without class labels on both sides (or with ``signed=False``) there is no sign. Turned for an output that is better the lower. Relative units. All-zero
    features have cosine 0 and are counted in ``info.certificate``.

    Raises ``BadInput`` dl-711 (settings), ``TrainingError`` dl-712 (no model is finite).
    Source: the representation similarity of Hanawa et al. 2021.

    >>> FeatureSimilarity().signed
    True
    """

    models: int = 1
    signed: bool = True
    fraction: float = 0.5
    seed: int = 0

    requires: ClassVar[frozenset[str]] = frozenset({"models"})

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-711")
        check_models(self.models, 1, self.fraction)

    def needs(self, question: Question) -> Needs:
        """A training per model (unless the models are there)."""
        return Needs(self.models if "train" in capabilities(question) else 0, self.fraction)

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:
        """Model after model, then the mean, then the sign."""
        subsets, share = model_subsets(question, self.models, self.fraction, self.seed)
        total = np.zeros((len(question.targets), question.n), dtype=np.float32)
        used, zero = 0, 0
        for k in range(self.models):
            seen = lab.embeddings(question, subsets, k)
            if not all(np.isfinite(a).all() for a in seen):
                continue
            (x, none), (phi, no_target) = unit_rows(seen.train), unit_rows(seen.targets)
            total += phi.astype(np.float32) @ x.T.astype(np.float32)
            zero, used = max(zero, none + no_target), used + 1
        if not used:
            raise all_diverged("feature similarity", self.models)
        signs = label_signs(question.targets, question.train) if self.signed else None
        means = sign_of_better(question.output) * total / np.float32(used) * (1.0 if signs is None else signs)
        unsigned = (
            "; no sign: there are no class labels on both sides" if self.signed and signs is None else ""
        )
        info = Info(
            "feature similarity",
            self.settings(),
            certificate={"models": used, "left_out": self.models - used, "zero_features": zero},
            removal=getattr(question.learner, "removal", "repack"),
            fraction=share,
            note=shares_in_words(share, self.models - used) + unsigned,
            role="control",
        )
        return DenseAttribution(means[question.index[:, 0]].astype(np.float32), info, units="relative")


def label_signs(targets: Examples, train: Examples) -> Int[np.ndarray, "t n"] | None:
    """+1 where a target and a training example have the same class, else -1; None without classes."""
    classes: list[Array] = []
    for data in (targets, train):
        if data.labels is None or data.labels.ndim != 1 or data.labels.is_floating_point():
            return None
        classes.append(data.labels.cpu().numpy())
    return np.where(classes[0][:, None] == classes[1], 1, -1)
