"""TRAK: linearise a few models, sketch their gradients, whiten, average."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe._identity import NUMERICS, canonical
from dataloupe._typing import Facts
from dataloupe.core import (
    AbstractAttributor,
    DenseAttribution,
    Info,
    Lab,
    Needs,
    Question,
    Subsets,
    capabilities,
    model_subsets,
)
from dataloupe.methods._models import all_diverged, check_models, shares_in_words, sketch_of
from dataloupe.solve import check_penalty, whitened


class Part(NamedTuple):
    """What one model says: ``values [m, n]`` whitened inner products, ``slope [n]``, and its certificate."""

    values: Float[np.ndarray, "m n"]
    slope: Float[np.ndarray, " n"]
    facts: Facts


@dataclasses.dataclass(frozen=True)
class TRAK(AbstractAttributor):
    """Product of averages over models k of sketched gradients X_k of the train output and phi_k of the target's:

        tau_ji = mean_k [phi_kj (X_k' X_k + ridge tr(X_k' X_k) / d I)^-1 x_ki]  *  mean_k [slope_ki]

    ``slope`` is minus dLoss/doutput. Each model has a sketch of its own, of ``dim`` dimensions (gradients stay
    exact where the model has no more parameters). ``fraction`` of the data trains each model; a model source gives
    its own models. Units are relative: :func:`dataloupe.calibrate` gives the scale. ``parts()`` are the
    single-model attributions, right after the computation (a remembered attribution has none).

    ``curved`` weighs each row of X_k' X_k by slope (1 - slope): the curvature p (1 - p) of the logistic loss in the
    margin, which the paper derives and then leaves out. Scores and their scale are better where models are sure.

    A model whose gradients are not finite is left out and counted. Finished models are remembered by the lab, so
    a killed run resumes at the next one, and more models reuse the first ones.

    Raises ``BadInput`` dl-711 (settings), dl-701 (ridge), dl-715 (an output without such a curvature),
    ``TrainingError`` dl-712 (no model is finite).
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
    curved: bool = False

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
        subsets, share = model_subsets(question, self.models, self.fraction, self.seed)
        every = [self._part(question, lab, subsets, k) for k in range(self.models)]
        parts = [part for part in every if part is not None]
        if not parts:
            raise all_diverged("TRAK", self.models)
        values, slope = parts[0].values.copy(), parts[0].slope.astype(np.float64)
        for part in parts[1:]:
            values += part.values
            slope += part.slope
        scores = values * (slope / len(parts) ** 2).astype(np.float32)
        info = Info(
            method="TRAK",
            settings=self.settings(),
            certificate=_certificate(parts, left_out=len(every) - len(parts)),
            cost={"models": self.models},
            removal=getattr(question.learner, "removal", "repack"),
            fraction=share,
            note=shares_in_words(share, len(every) - len(parts)),
        )
        single = [
            DenseAttribution(part.values * part.slope, dataclasses.replace(info, note=""), units="relative")
            for part in parts
        ]
        return DenseAttribution(scores, info, units="relative", pieces=tuple(single))

    def _part(self, question: Question, lab: Lab, subsets: Subsets, k: int) -> Part | None:
        """One model's part, remembered from before if it is there; None where gradients are not finite."""
        made_by = self._made_by(question, subsets, k)
        known = lab.get("trak-part", made_by)
        if known is None:
            x, slope, phi = lab.features(question, subsets, k, sketch_of(self.dim, self.seed, k))
            if not all(np.isfinite(a).all() for a in (x, slope, phi)):
                return None
            root = np.sqrt(_curvature(slope)) if self.curved else np.ones_like(slope)
            rows = (x * root[:, None]).astype(np.float32)
            found = whitened(rows, phi.astype(np.float32), self.ridge)
            arrays = {"values": (found.values / root).astype(np.float32), "slope": slope.astype(np.float32)}
            facts = {name: value for name, value in found._asdict().items() if name != "values"}
            lab.put("trak-part", made_by, arrays, facts)
            known = arrays, facts
        return Part(known[0]["values"], known[0]["slope"], known[1])

    def _made_by(self, question: Question, subsets: Subsets, k: int) -> dict[str, Any]:
        """All that decides one part: not how many models there are."""
        return {
            "question": canonical(question),
            "model": {"k": k, "mask": subsets.digest([k]), "seed": subsets.train_seed(k, 0)},
            "sketch": {"dim": self.dim, "seed": self.seed},
            "ridge": self.ridge,
            "numerics": NUMERICS,
            **({"curved": True} if self.curved else {}),
        }


def _curvature(slope: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """p (1 - p) from the margin's slope 1 - p; rows that are sure keep a trace of weight."""
    found = slope * (1.0 - slope)
    if found.min() < 0.0 or not found.max() > 0.0:
        raise BadInput(
            "dl-715",
            asked="TRAK with the curvature of the logistic loss",
            found=f"slopes from {slope.min():g} to {slope.max():g}, which are no probabilities",
            do="use outputs.margin as the train output, or curved=False",
        )
    return np.maximum(found, 1e-8)


def _certificate(parts: list[Part], left_out: int) -> Facts:
    return {
        "models": len(parts),
        "left_out": left_out,
        "residual": max(part.facts["residual"] for part in parts),
        "effective_dimension": [round(part.facts["dimension"], 1) for part in parts],
        "zero_rows": max(part.facts["zero_rows"] for part in parts),
    }
