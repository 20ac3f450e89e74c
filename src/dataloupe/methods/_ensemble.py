"""What methods of a few models share: one part a model, remembered, and the product of averages."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dataloupe._identity import NUMERICS, canonical
from dataloupe._typing import Facts
from dataloupe.core import (
    AbstractAttributor,
    CurvedOutput,
    DenseAttribution,
    Info,
    Lab,
    ModelSource,
    Question,
    Subsets,
    model_subsets,
)
from dataloupe.methods._models import all_diverged, shares_in_words
from dataloupe.solve import LEAST

TRACE = 1e-8
"""The least weight of a row."""


class Part(NamedTuple):
    """What one model says: ``values [m, n]`` products in its metric, ``slope [n]``, and its certificate."""

    values: Float[np.ndarray, "m n"]
    slope: Float[np.ndarray, " n"]
    facts: Facts


class Ensemble(NamedTuple):
    """The settings that every method of a few models has."""

    name: str
    models: int
    fraction: float
    seed: int

    def subsets(self, question: Question) -> Subsets:
        """What its models saw, or all of the data where nobody knows."""
        return model_subsets(question, self.models, self.fraction, self.seed)[0]


def told(method: AbstractAttributor, ensemble: Ensemble, question: Question, certificate: Facts) -> Info:
    """What an attribution of a few models says of itself."""
    _, share = model_subsets(question, ensemble.models, ensemble.fraction, ensemble.seed)
    return Info(
        method=ensemble.name,
        settings=method.settings(),
        certificate=certificate,
        cost={"models": ensemble.models},
        removal=getattr(question.learner, "removal", "repack"),
        fraction=share,
        note=shares_in_words(share, certificate["left_out"]),
    )


def witnesses(
    question: Question, lab: Lab, subsets: Subsets, used: list[int]
) -> tuple[Bool[np.ndarray, "k n"], Float[np.ndarray, "k m"]] | None:
    """What the models saw and their outputs on the targets: outcomes that cost no training.

    None with fewer than three of them, or where nobody knows what they saw, or all saw the same.
    """
    learner = question.learner
    known = not isinstance(learner, ModelSource) or learner.subsets(question.n) is not None
    masks = subsets.masks(used)
    if len(used) < LEAST or not known or not (masks != masks[0]).any():
        return None
    every = lab.models(question, subsets)
    return masks, np.stack([question.measure(every[k]) for k in used]).astype(np.float64)


class Singles(Sequence[DenseAttribution]):
    """Attributions of single models, made when they are asked for."""

    def __init__(self, make: Callable[[int], DenseAttribution], count: int) -> None:
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(self._count))]
        return self._make(range(self._count)[k])


def combined(
    method: AbstractAttributor,
    ensemble: Ensemble,
    question: Question,
    part: Callable[[Subsets, int], Part | None],
) -> DenseAttribution:
    """mean_k values_k * mean_k slope_k over the models that are finite (dl-712 if none is)."""
    subsets = ensemble.subsets(question)
    every = [part(subsets, k) for k in range(ensemble.models)]
    parts = [one for one in every if one is not None]
    if not parts:
        raise all_diverged(ensemble.name, ensemble.models)
    values, slope = parts[0].values.copy(), parts[0].slope.astype(np.float64)
    for one in parts[1:]:
        values += one.values
        slope += one.slope
    info = told(method, ensemble, question, _certificate(parts, len(every) - len(parts)))
    alone = dataclasses.replace(info, note="")
    single = [DenseAttribution(one.values * one.slope, alone, units="relative") for one in parts]
    scores = values * (slope / len(parts) ** 2).astype(np.float32)
    return DenseAttribution(scores, info, units="relative", pieces=tuple(single))


def remembered(lab: Lab, kind: str, made_by: dict[str, Any], make: Callable[[], Part | None]) -> Part | None:
    """One model's part, known from before if it is there; None (and nothing kept) where it is not finite."""
    known = lab.get(kind, made_by)
    if known is not None:
        return Part(known[0]["values"], known[0]["slope"], known[1])
    found = make()
    if found is not None:
        lab.put(kind, made_by, {"values": found.values, "slope": found.slope}, found.facts)
    return found


def model_made_by(question: Question, subsets: Subsets, k: int) -> dict[str, Any]:
    """What decides model k and what is asked of it: not how many models there are."""
    return {
        "question": canonical(question),
        "model": {"k": k, "mask": subsets.digest([k]), "seed": subsets.train_seed(k, 0)},
        "numerics": NUMERICS,
    }


def roots(question: Question, curved: bool) -> Callable[[Tensor], Tensor]:
    """From slopes to the roots of the curvature there; 1 where the output knows of none, or it is not wanted.

    Rows that are sure keep a trace of weight. Slopes that are not finite pass, to be found in the gradients.
    """
    output = question.on_train
    if not curved or not isinstance(output, CurvedOutput):
        return torch.ones_like
    return lambda slopes: output.curvature(slopes).clamp(min=TRACE).sqrt()


def curvatures(
    question: Question, curved: bool
) -> Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]:
    """From slopes to the curvature there, as :func:`roots` tells it."""
    root = roots(question, curved)
    return lambda slopes: (root(torch.from_numpy(slopes)) ** 2).numpy()


def _certificate(parts: list[Part], left_out: int) -> Facts:
    """The worst of every certificate, and every model's effective dimension."""
    worst = {
        name: max(part.facts[name] for part in parts)
        for name in parts[0].facts
        if name in ("residual", "zero_rows", "gradient_error")
    }
    return {
        "models": len(parts),
        "left_out": left_out,
        **worst,
        "coverage": parts[0].facts["coverage"],
        "effective_dimension": [round(part.facts["dimension"], 1) for part in parts],
    }
