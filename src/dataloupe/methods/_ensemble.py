"""What methods of a few models share: which models, what these know of each other, what is said of them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dataloupe._typing import Facts, Ids
from dataloupe.core import (
    AbstractAttributor,
    Chunked,
    CurvedOutput,
    DenseAttribution,
    Info,
    Lab,
    ModelSource,
    ProbedOutput,
    Question,
    Rows,
    Scale,
    Sketch,
    Subsets,
    capabilities,
    input_leaves,
    model_subsets,
    trainings_record,
)
from dataloupe.methods._loss_facts import loss_facts
from dataloupe.methods._models import shares_in_words
from dataloupe.solve import LEAST

TRACE = 1e-8
"""The least weight of a row."""


class Ensemble(NamedTuple):
    """The settings that every method of a few models has."""

    name: str
    models: int
    fraction: float
    seed: int

    def subsets(self, question: Question) -> Subsets:
        """What its models saw, or all of the data where nobody knows."""
        return model_subsets(question, self.models, self.fraction, self.seed)[0]


def told(
    method: AbstractAttributor,
    ensemble: Ensemble,
    question: Question,
    lab: Lab,
    certificate: Facts,
    *,
    chosen: bool,
) -> Info:
    """What an attribution of a few models says of itself; ``chosen``: a setting was chosen by these models' outputs."""
    subsets, share = model_subsets(question, ensemble.models, ensemble.fraction, ensemble.seed)
    loss, note = loss_facts(question, lambda: lab.models(question, subsets)[0])
    return Info(
        method=ensemble.name,
        settings=method.settings(),
        certificate=certificate | loss,
        cost={"models": ensemble.models},
        removal=getattr(question.learner, "removal", "repack"),
        fraction=share,
        note="; ".join([shares_in_words(share, certificate["left_out"]), *note]),
        fitted=[trainings_record("choice", subsets, seeded="train" in capabilities(question))]
        if chosen
        else (),
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


@runtime_checkable
class Removing(Protocol):
    """One model, of which rows can be taken out together."""

    @property
    def slope(self) -> Float[np.ndarray, " n"]:
        """Minus dLoss/doutput of every training row."""
        ...

    def removed(
        self, ids: Int[np.ndarray, " s"], slope: Float[np.ndarray, " n"], ridge: float, /
    ) -> Float[np.ndarray, " m"]:
        """What removing some rows together does to every target."""
        ...


def in_its_lab(
    found: DenseAttribution,
    single: Callable[[int], DenseAttribution],
    models: Callable[[], Sequence[Removing]],
    ridge: float,
) -> DenseAttribution:
    """An attribution that tells single models, and groups as groups: model by model, then the mean."""

    def group(removals: Sequence[Ids]) -> Float[np.ndarray, "k m"]:
        slope = np.stack([one.slope for one in models()]).mean(axis=0)
        each = [[one.removed(np.asarray(ids), slope, ridge) for ids in removals] for one in models()]
        return np.stack(each).mean(axis=0)

    count = int(found.info.certificate["models"])
    return dataclasses.replace(found, pieces=Singles(single, count), group=group)


def roots(question: Question, curved: bool) -> Scale | None:
    """From slopes to the roots of the curvature there; None (1) where the output knows of none, or it is not wanted.

    Rows that are sure keep a trace of weight. Slopes that are not finite pass, to be found in the gradients.
    """
    output = question.on_train
    if not curved or not isinstance(output, CurvedOutput):
        return None

    def root(slopes: Tensor, rows: Rows) -> Tensor:
        found = output.curvature(slopes, rows)
        return found.clamp(min=TRACE).sqrt()

    return root


def curvatures(question: Question, curved: bool, slopes: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The curvature of every training row at its slope, as :func:`roots` tells it."""
    root = roots(question, curved)
    if root is None:
        return np.ones_like(slopes)
    given = torch.from_numpy(slopes)
    found = torch.empty_like(given)
    for start, rows in question.blocks(question.train):
        place = slice(start, start + len(input_leaves(rows.inputs)[0]))
        found[place] = root(given[place], rows) ** 2
    return found.numpy()


def probe_questions(question: Question, curved: bool) -> list[Question]:
    """The question with each probe of the train output in its place; none where one gradient tells the curvature, or it is not wanted."""
    output = question.on_train
    if not curved or not isinstance(output, ProbedOutput):
        return []
    return [dataclasses.replace(question, train_output=probe) for probe in output.probes()]


def probe_features(
    question: Question, lab: Lab, subsets: Subsets, k: int, sketch: Sketch, *, curved: bool
) -> Chunked | None:
    """Features of the probes ``[n q, d]``, the q of a row side by side: what the Gram matrix holds in place of the row's own."""
    sides = [lab.features(one, subsets, k, sketch).train for one in probe_questions(question, curved)]
    if not sides:
        return None
    q, width = len(sides), sides[0].width

    def read(i: int) -> Float[np.ndarray, "b d"]:
        return np.stack([one.read(i) for one in sides], axis=1).reshape(-1, width)

    return Chunked(tuple(q * size for size in sides[0].sizes), width, read)
