"""What methods of a few models share: one part a model, remembered, and the product of averages."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._identity import NUMERICS, canonical
from dataloupe._typing import Facts
from dataloupe.core import (
    AbstractAttributor,
    CurvedOutput,
    DenseAttribution,
    Info,
    Lab,
    Question,
    Subsets,
    model_subsets,
)
from dataloupe.methods._models import all_diverged, shares_in_words

LEAST = 1e-8
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


def combined(
    method: AbstractAttributor,
    ensemble: Ensemble,
    question: Question,
    part: Callable[[Subsets, int], Part | None],
) -> DenseAttribution:
    """mean_k values_k * mean_k slope_k over the models that are finite (dl-712 if none is)."""
    subsets, share = model_subsets(question, ensemble.models, ensemble.fraction, ensemble.seed)
    every = [part(subsets, k) for k in range(ensemble.models)]
    parts = [one for one in every if one is not None]
    if not parts:
        raise all_diverged(ensemble.name, ensemble.models)
    values, slope = parts[0].values.copy(), parts[0].slope.astype(np.float64)
    for one in parts[1:]:
        values += one.values
        slope += one.slope
    left_out = len(every) - len(parts)
    info = Info(
        method=ensemble.name,
        settings=method.settings(),
        certificate=_certificate(parts, left_out),
        cost={"models": ensemble.models},
        removal=getattr(question.learner, "removal", "repack"),
        fraction=share,
        note=shares_in_words(share, left_out),
    )
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
    return lambda slopes: output.curvature(slopes).clamp(min=LEAST).sqrt()


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
