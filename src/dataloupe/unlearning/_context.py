"""What a method of unlearning is told: the question, the rows to forget, and the lab that does the work."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import Stream
from dataloupe._typing import Array, Ids
from dataloupe.core import (
    Examples,
    Lab,
    Model,
    Question,
    SteppedLearner,
    Subsets,
    TorchModel,
    Tuned,
    Tuning,
    check_ids,
)

FORWARD = 1 / 3
"""A forward pass costs a third of forward and back."""
_ROWS = 1024


@dataclasses.dataclass
class Ledger:
    """What a method has spent: ``passes``, rows that one model went forward and back over; and how its stages went."""

    passes: float = 0.0
    stages: list[tuple[str, list[float]]] = dataclasses.field(default_factory=list)

    def book(self, passes: int | float) -> None:
        """Count so many rows for every model."""
        self.passes += passes


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """A request to forget: ``forget`` are rows of the question's training data, ``kept`` those the model was trained on.

    Models of a run are numbered from ``first``; each has a random stream of its own, keyed by ``seed`` and number, so
    that many models at once give what one after the other gives.
    """

    question: Question
    lab: Lab
    forget: Int[np.ndarray, " f"]
    kept: Int[np.ndarray, " n"] | Array
    seed: int = 0
    first: int = 0
    ledger: Ledger = dataclasses.field(default_factory=Ledger)

    @classmethod
    def of(
        cls, question: Question, lab: Lab, forget: Ids, *, kept: Array | None = None, seed: int = 0
    ) -> "Context":
        """The context of a request that can be meant.

        Raises ``BadInput`` dl-108 to dl-111 (rows), dl-661 (all of it, or a row that the model was not trained on).
        """
        ids = np.sort(check_ids(forget, question.n, "rows to forget"))
        kept = np.ones(question.n, dtype=bool) if kept is None else kept
        absent = ids[~kept[ids]]
        if len(absent):
            raise BadInput(
                "dl-661",
                asked=f"to forget row {absent[0]}",
                found="a model that was not trained on it, or has been made to forget it before",
                do="leave the row out: there is nothing to forget",
            )
        if len(ids) == int(kept.sum()):
            raise BadInput(
                "dl-661",
                asked="to forget every training row",
                found="nothing left to be trained on",
                do="start from an untrained model: it knows none of them",
            )
        return cls(question, lab, ids, kept, seed)

    @property
    def data(self) -> Examples:
        """The training data."""
        return self.question.train

    @cached_property
    def retained(self) -> Int[np.ndarray, " r"]:
        """The rows that stay."""
        mask = self.kept.copy()
        mask[self.forget] = False
        return np.flatnonzero(mask)

    @cached_property
    def retraining(self) -> int:
        """Rows that a training on the retained data goes over: what shares of the cost are of."""
        learner = stepped(self.question)
        weights = np.zeros(self.question.n, np.float32)
        weights[self.retained] = 1.0
        return sum(len(slot.ids) for slot in learner.batches(torch.from_numpy(weights), seed=0))

    def without(self, count: int, seed: int) -> Subsets:
        """The retained rows ``count`` times, each with a training seed of its own: oracles."""
        mask = np.zeros((1, self.question.n), dtype=bool)
        mask[0, self.retained] = True
        return Subsets.listed(mask.repeat(count, axis=0), seed=seed)

    @property
    def batch_size(self) -> int:
        """The learner's own, or 64."""
        return int(getattr(self.question.learner, "batch_size", 64))

    def seeds(self, count: int) -> list[int]:
        """A seed for each model of this run."""
        root = Stream.root(self.seed)("unlearn")
        return [root(self.first + i).seed() for i in range(count)]

    def at(self, place: int) -> "Context":
        """The same request for model ``place`` of this run alone, with a ledger of its own."""
        return dataclasses.replace(self, first=self.first + place, ledger=Ledger())

    def predictions(self, models: Sequence[Model], ids: Array) -> Float[Tensor, "M b c"]:
        """What the models predict for some training rows (as they are, without gradients); counted in the ledger."""
        self.ledger.book(FORWARD * len(ids))
        return torch.stack([predicted(model, self.data, ids) for model in models])

    def finetune(self, models: Sequence[TorchModel], tuning: Tuning) -> list[TorchModel]:
        """The models tuned by the lab; what it took is in the ledger. A diverged model comes back as it is."""
        found: Tuned = self.lab.finetune(self.question, models, tuning, self.seeds(len(models)))
        self.ledger.book(found.passes)
        self.ledger.stages += [
            (stage.name, loss.tolist()) for stage, loss in zip(tuning.stages, found.losses, strict=True)
        ]
        return list(found.models)


@runtime_checkable
class Unlearner(Protocol):
    """A method of unlearning: a model and a context in, a model out. The model given is not touched.

    One that has ``many(models, context)`` may do many at once; the answer is that of one after the other.
    """

    @property
    def name(self) -> str:
        """The word for it in tables."""
        ...

    def __call__(self, model: TorchModel, context: Context, /) -> Model:
        """The model without the rows to forget."""
        ...


def stepped(question: Question) -> SteppedLearner:
    """The question's learner, if it can say what a training costs (dl-662)."""
    if isinstance(question.learner, SteppedLearner):
        return question.learner
    raise CapabilityError(
        "dl-662",
        asked="unlearning",
        found=f"{type(question.learner).__name__}, which shows no steps",
        do="ask the question of a learner that trains step by step, such as dataloupe.SGD",
    )


def predicted(model: Model, data: Examples, ids: Array) -> Float[Tensor, "b c"]:
    """A model's predictions for some rows, block by block, without gradients."""
    with torch.no_grad():
        parts = [
            model.predict(data.take(ids[start : start + _ROWS]).inputs) for start in range(0, len(ids), _ROWS)
        ]
    return torch.cat(parts)


def row_losses(predicted: Float[Tensor, "M b c"], labels: Tensor) -> Float[Tensor, "M b"]:
    """The training loss of every row: cross-entropy of class labels (without smoothing), half the squared error of numbers."""
    if labels.is_floating_point():
        return 0.5 * (predicted - labels.reshape(predicted.shape)).square().sum(-1)
    return functional.cross_entropy(
        predicted.flatten(0, 1), labels.long().flatten(), reduction="none"
    ).reshape(labels.shape)
