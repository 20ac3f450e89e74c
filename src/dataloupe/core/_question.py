"""Questions: which learner, trained on what, and which numbers of the model we want to explain."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import Stream, attributes_read, canonical, identity
from dataloupe._typing import Facts
from dataloupe.core._diffusion import as_called
from dataloupe.core._direction import better_of
from dataloupe.core._examples import Examples, Rows
from dataloupe.core._isolation import isolated
from dataloupe.core._learner import Learner, ModelSource, TakesNaN
from dataloupe.core._model import Model
from dataloupe.core._output import CurvedOutput, Output
from dataloupe.core._settled import probe_training, settled, unchanged
from dataloupe.core._subsets import Subsets
from dataloupe.core._training_loss import train_side, training_loss_of

_ROWS, _PREDICTED = 1024, 1 << 26
"""A block has no more rows than this, and no more predicted numbers."""


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """What is asked: how do the training examples move the output of this learner on these targets?

    A target row is a pair (target example, component of the output); ``index`` lists them, ``m`` counts them.
    ``train_output`` is used on the training side where the two sides differ (diffusion, transfer).

    Raises ``CapabilityError`` dl-201 (no learner), ``BadInput`` dl-202 (the output does not fit the data), dl-105 (NaN in
    inputs, for a learner that takes none), dl-135 (data that are no :class:`Examples`).

    >>> from dataloupe import data, learners, outputs
    >>> train, test = data.digits()
    >>> question = Question(learners.SklearnLearner.ridge_classifier(), train, test[:5], outputs.margin)
    >>> question.n, question.m
    (1437, 5)
    """

    learner: Learner | ModelSource
    train: Examples
    targets: Examples
    output: Output
    train_output: Output | None = None

    def __post_init__(self) -> None:
        """Check the parts against each other before any work."""
        if not isinstance(self.learner, Learner | ModelSource):
            raise CapabilityError(
                "dl-201",
                asked="a question to a learner",
                found=f"{type(self.learner).__name__}, which has neither `train` with `removal` nor `models` with `subsets`",
                do="wrap it: dataloupe.SGD, dataloupe.SklearnLearner, dataloupe.Checkpoints, or write `train(data, weights, *, seed)`",
            )
        for output in [self.output, *([] if self.train_output is None else [self.train_output])]:
            if not isinstance(output, Output):
                raise CapabilityError(
                    "dl-203",
                    asked="a question about an output",
                    found=f"{output!r}",
                    do="use one of dataloupe.outputs, or an object with name, repeats, value, slope and valid",
                )
        self._check_data()
        self._check_curvature()
        loss = training_loss_of(self.learner)
        if loss is not None:
            loss.check(self.train)
        self.index  # noqa: B018  (computed and checked now)

    def _check_data(self) -> None:
        """Examples on both sides, without NaN unless the learner takes them (dl-135, dl-105)."""
        for side, data in (("train", self.train), ("targets", self.targets)):
            if not isinstance(data, Examples):
                raise BadInput(
                    "dl-135",
                    asked=f"{side}=Examples(...)",
                    found=f"a {type(data).__name__}",
                    do=f"give {side}=dataloupe.Examples(inputs, labels=...): rows to "
                    + ("train on" if side == "train" else "explain, not a column of labels"),
                )
            if not (isinstance(self.learner, TakesNaN) and self.learner.takes_nan):
                data.refuse_missing(
                    type(self.learner).__name__,
                    "clean or drop the row, or give a learner that takes NaN: a SklearnLearner of HistGradientBoosting, "
                    "XGBoost, or a pipeline that begins with an imputer (allow_nan=True if it does not say so itself)",
                )

    @property
    def n(self) -> int:
        """How many training examples."""
        return len(self.train)

    @property
    def m(self) -> int:
        """How many target rows."""
        return len(self.index)

    @property
    @isolated()
    def index(self) -> Int[np.ndarray, "m 2"]:
        """(target example, component) of every target row."""
        key = identity([self.targets, self.output])
        known_for, known = self.__dict__.get("_index", ("", None))
        if known is None or known_for != key:
            parts = [
                np.argwhere(self.output.valid(rows).cpu().numpy()) + np.array([start, 0])
                for start, rows in self.blocks(self.targets)
            ]
            known = np.concatenate(parts).astype(np.int64)
            if len(known) == 0:
                raise BadInput(
                    "dl-202",
                    asked=f"the output {self.output.name}",
                    found="no valid component on any target",
                    do="check the targets' labels",
                )
            object.__setattr__(self, "_index", (key, known))
        return known

    @property
    def on_train(self) -> Output:
        """The output on the training side, under the loss that the learner trains with (:func:`train_side`)."""
        loss = training_loss_of(self.learner)
        return train_side(
            self.train_output or self.output, loss, row_weights=self.train.row_weights is not None
        )

    def _check_curvature(self) -> None:
        """Refuse an output whose `curvature` does not take the rows (dl-837)."""
        output = self.train_output or self.output
        if not isinstance(output, CurvedOutput):
            return
        try:
            inspect.signature(output.curvature).bind(None, None)
        except TypeError as error:
            raise CapabilityError(
                "dl-837",
                asked=f"the curvature of the output {output.name}",
                found=f"`curvature{inspect.signature(output.curvature)}`",
                do="write `curvature(self, slopes, rows)`: rows have labels and row_weights",
            ) from error

    def with_train(self, train: Examples) -> "Question":
        """The same question about edited training data (same rows, other contents)."""
        if len(train) != self.n:
            raise BadInput(
                "dl-204",
                asked="edited training data",
                found=f"{len(train)} rows for {self.n}",
                do="keep the rows; remove through Subsets",
            )
        return dataclasses.replace(self, train=train)

    def measure(self, model: Model) -> Float[np.ndarray, " m"]:
        """The output of one model on every target row."""
        return flat_values(self, lambda rows: one_value(self.output, model, rows)[None], model)[0]

    def blocks(self, data: Examples, rows: int = _ROWS) -> Iterator[tuple[int, Rows]]:
        """The examples in blocks: (first row, rows)."""
        for start in range(0, len(data), rows):
            yield start, data.take(np.arange(start, min(start + rows, len(data))))

    @property
    def training_identity(self) -> dict[str, Any]:
        """What decides the models, as it is now: the learner and its code, the training data, and a probe of both.

        Nothing is taken from an earlier look: a setting, a helper or data changed since then give another identity.
        """
        facts = {"learner": settled(self.learner), "train": canonical(self.train)}
        for name in sorted({"texts", "images", "meta"} & attributes_read(self.learner)):
            facts[f"train.{name}"] = identity(getattr(self.train, name))  # this learner may train on it
        key = identity(facts)
        probed_for, probe = self.__dict__.get("_probed", ("", None))
        if probed_for != key:
            with unchanged(self):
                probe = probe_training(self.learner, self.train)
            object.__setattr__(self, "_probed", (key, probe))
        return {**facts, "probe": probe}

    def __identity__(self) -> dict[str, Any]:
        """Training, targets and outputs."""
        return {
            **self.training_identity,
            "targets": canonical(self.targets),
            "output": settled(self.output),
            "train_output": settled(self.train_output),
        }

    @property
    def identity(self) -> str:
        """The short hash of all that decides an answer."""
        return identity(self)

    @property
    def provenance(self) -> Facts:
        """The record that everything made from this question carries: a hash of every part, and what it is called.

        ``trains`` tells a learner from finished models, whose learner is not known. A learner without an identity is left
        out: what has no record is noted where it is compared.
        """
        record: Facts = {
            "train": identity(self.train),
            "targets": identity(self.targets),
            "output": identity(settled(self.output)),
            "trains": isinstance(self.learner, Learner),
            "learner_name": type(self.learner).__name__,
            "output_name": self.output.name,
            "better": better_of(self.output),
            "rows": self.m,
        }
        try:
            learner = identity(settled(self.learner))
        except BadInput:  # dl-102: nothing of it can be computed by a lab
            return record
        return record | {"question": self.identity, "learner": learner}


def model_key(question: Question, subsets: Subsets, k: int) -> dict[str, Any]:
    """What decides model k, and not how many models there are: its training, or (of a source) its own numbers."""
    learner = question.learner
    if isinstance(learner, ModelSource):
        return {"model": canonical(learner.models()[k])}
    return {
        **question.training_identity,
        "mask": subsets.digest([k]),
        "seed": subsets.train_seed(k, 0),
    }


def averaged(output: Output, model: Model, rows: Rows) -> Tensor:
    """The output on rows, its keyed draws averaged, differentiable."""
    if output.repeats == 1:
        return output.value(model, rows)
    return torch.stack([output.value(model, rows, draw) for draw in draws_of(output)]).mean(0)


def averaged_slope(output: Output, model: Model, rows: Rows, values: Tensor) -> Tensor:
    """The slope at the averaged output, its keyed draws averaged likewise."""
    if output.repeats == 1:
        return output.slope(model, rows, values)
    return torch.stack([output.slope(model, rows, values, draw) for draw in draws_of(output)]).mean(0)


def draws_of(output: Output) -> list[Stream]:
    """The keyed draws of an output: the same for every model, so that they share their randomness."""
    return [Stream.root(0)("draw", i) for i in range(output.repeats)]


def one_value(output: Output, model: Model, rows: Rows) -> Tensor:
    """The output on rows, ``[b, c]``, its keyed draws averaged, without gradients."""
    with torch.no_grad():
        values = averaged(output, model, rows).float()
    return values.reshape(len(values), -1)


def flat_values(
    question: Question, values: Callable[[Rows], Tensor], model: Model, k: int = 1
) -> Float[np.ndarray, "k m"]:
    """Values ``[k, b, c]`` of k models (one of them is given), block by block of targets, as one row of target rows per model.

    A block has no more rows than fit with all that the models predict: a language model does for every token.
    """
    with torch.no_grad():
        predicted = k * model.predict(as_called(question.targets.take([0]).inputs)).numel()
    found = []
    for _, rows in question.blocks(question.targets, max(1, min(_ROWS, _PREDICTED // max(1, predicted)))):
        valid = question.output.valid(rows)
        block = values(rows)
        if block.shape[1:] != valid.shape:
            raise BadInput(
                "dl-202",
                asked=f"the output {question.output.name}",
                found=f"values of shape {tuple(block.shape[1:])} for components of shape {tuple(valid.shape)}",
                do="make the output's `valid` tell the components that `value` gives (is the number of classes right?)",
            )
        found.append(block[:, valid].float().cpu().numpy())
    return np.concatenate(found, axis=1)
