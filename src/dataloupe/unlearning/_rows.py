"""Every output of every row, as one question: what oracles are measured on, and what is predicted of them."""

# ruff: noqa: ARG002  (the protocol hands every output the model, the rows and the draw)

import dataclasses
import hashlib
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array, Inputs
from dataloupe.core import Examples, Lab, Model, Question, Rows, Subsets, input_leaves
from dataloupe.unlearning._context import predicted, stepped


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a model predicts, as it is: ``value [b, c]`` is ``model.predict`` (logits, or regression values)."""

    columns: int
    name: ClassVar[str] = "predictions"
    repeats: ClassVar[int] = 1

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, "b c"]:
        """The predictions."""
        return model.predict(rows.inputs)

    def slope(
        self, model: Model, rows: Rows, values: Tensor, draw: Stream | None = None
    ) -> Float[Tensor, "b c"]:
        """Minus dLoss/dprediction: of the cross-entropy for class labels, of half the squared error for numbers, else 0."""
        if rows.labels is None:
            return torch.zeros_like(values)
        if rows.labels.is_floating_point():
            return rows.labels.reshape(values.shape) - values
        return functional.one_hot(rows.labels.long(), self.columns) - values.softmax(1)

    def valid(self, rows: Rows) -> Bool[Tensor, "b c"]:
        """All of them."""
        return torch.ones((len(input_leaves(rows.inputs)[0]), self.columns), dtype=torch.bool)


def everything(question: Question) -> Question:
    """The question whose targets are all rows, training rows first and the question's targets after, and all predictions.

    Raises ``BadInput`` dl-664 if the two cannot stand in one (other shapes, or predictions that are no ``[b, c]``).
    """
    learner = stepped(question)
    probe = learner.model(learner.init(seed=0)).predict(question.train.take([0]).inputs)
    train, targets = question.train, question.targets
    shapes = [[(part.dtype, part.shape[1:]) for part in input_leaves(one.inputs)] for one in (train, targets)]
    if probe.ndim != 2 or shapes[0] != shapes[1] or (train.labels is None) != (targets.labels is None):
        raise BadInput(
            "dl-664",
            asked="the predictions of training rows and targets side by side",
            found=f"predictions of shape {tuple(probe.shape)}, inputs {shapes[0]} and {shapes[1]}",
            do="give targets like the training rows, and a model that predicts [b, c]",
        )
    labels = None if train.labels is None else torch.cat([train.labels, targets.labels])
    rows = Examples(_joined(train.inputs, targets.inputs), labels=labels)
    on_train = question.on_train
    return Question(question.learner, train, rows, Predictions(probe.shape[1]), train_output=on_train)


def row_keys(inputs: Inputs) -> list[bytes]:
    """A hash of every row's contents."""
    leaves = [np.ascontiguousarray(leaf.detach().cpu().numpy()) for leaf in input_leaves(inputs)]
    return [
        hashlib.blake2b(b"".join(leaf[i].tobytes() for leaf in leaves), digest_size=16).digest()
        for i in range(len(leaves[0]))
    ]


def _joined(a: Inputs, b: Inputs) -> Inputs:
    if isinstance(a, dict):
        return {name: torch.cat([part, b[name]]) for name, part in a.items()}  # type: ignore[call-overload, index]
    if isinstance(a, tuple):
        return tuple(torch.cat(pair) for pair in zip(a, b, strict=True))
    return torch.cat([a, b])  # type: ignore[list-item]


def measured(every: Question, lab: Lab, subsets: Subsets) -> Float[np.ndarray, "k rows c"]:
    """The predictions of models trained on the subsets, diverged ones left out."""
    kept = lab.outcomes(every, subsets).complete()
    return kept.values.reshape(len(kept.values), len(every.targets), -1)


def predictions_of(model: Model, every: Question) -> Array:
    """The predictions of one model for every row, ``[rows, c]``."""
    return predicted(model, every.targets, np.arange(len(every.targets))).numpy()
