"""The contract suite for methods, judged on ridge regression, where retraining is algebra."""

import abc
import dataclasses
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dataloupe._errors import CapabilityError
from dataloupe._identity import Stream, canonical
from dataloupe.core import (
    AbstractAttributor,
    DenseAttribution,
    Examples,
    MemoryLab,
    Model,
    Needs,
    Question,
    Removal,
    Rows,
    Subsets,
    TorchModel,
    capabilities,
)
from dataloupe.testing._contracts import must
from dataloupe.testing._oracles import RidgeLearner


@dataclasses.dataclass(frozen=True)
class _Prediction:
    """The value of a regression, so that this room needs no other."""

    name: ClassVar[str] = "prediction"
    repeats: ClassVar[int] = 1

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:  # noqa: ARG002
        return model.predict(rows.inputs)[:, 0]

    def slope(
        self,
        model: Model,  # noqa: ARG002
        rows: Rows,
        values: Float[Tensor, " b"],
        draw: Stream | None = None,  # noqa: ARG002
    ) -> Float[Tensor, " b"]:
        return torch.as_tensor(rows.labels) - values

    def valid(self, rows: Rows) -> Bool[Tensor, "b 1"]:
        return torch.ones((len(torch.as_tensor(rows.labels)), 1), dtype=torch.bool)


@dataclasses.dataclass(frozen=True)
class ShutRidge:
    """Ridge regression that trains and shows no parameters."""

    removal: Removal = "repack"

    def train(self, data: Examples, weights: Float[Tensor, " n"], *, seed: int) -> "_Shut":
        """A model that only predicts."""
        return _Shut(RidgeLearner().train(data, weights, seed=seed))


@dataclasses.dataclass(frozen=True, eq=False)
class _Shut:
    inner: TorchModel

    def predict(self, inputs: Any) -> Tensor:
        return self.inner.predict(inputs)


@dataclasses.dataclass(frozen=True)
class RidgeSource:
    """Finished ridge regressions of known subsets of the data: models that can be read, not made."""

    data: Examples
    count: int = 32
    fraction: float = 0.5

    def models(self) -> list[Model]:
        """One a subset."""
        subsets = self.subsets(len(self.data))
        masks = torch.from_numpy(subsets.masks().astype(np.float32))
        return [
            RidgeLearner().train(self.data, mask, seed=subsets.train_seed(k, 0))
            for k, mask in enumerate(masks)
        ]

    def subsets(self, n: int) -> Subsets:
        """What each saw."""
        return Subsets(n=n, count=self.count, fraction=self.fraction, seed=5)


@dataclasses.dataclass(frozen=True)
class OpenRidge(RidgeSource):
    """Both: ridge regression that trains, and models that show their parameters."""

    removal: Removal = "repack"

    def train(self, data: Examples, weights: Float[Tensor, " n"], *, seed: int) -> TorchModel:
        """The exact solution."""
        return RidgeLearner().train(data, weights, seed=seed)


class _Sealed(MemoryLab):
    """A lab that refuses work once it is sealed, and still remembers."""

    sealed = False

    def _model(self, *args: Any) -> Model:
        must(not self.sealed, "nothing is trained here: this should be remembered, or refused before work")
        return super()._model(*args)

    def models(self, *args: Any) -> Any:
        must(not self.sealed, "no model is looked at here: this should be remembered, or refused before work")
        return super().models(*args)


def ridge_data(n: int, seed: int, d: int = 6) -> Examples:
    """Points of d dimensions and noisy linear labels."""
    draws = Stream.root(seed)("ridge data").numpy()
    inputs = draws.standard_normal((n, d))
    weights = Stream.root(0)("ridge weights").numpy().standard_normal(d)
    labels = inputs @ weights + draws.standard_normal(n)
    return Examples(torch.from_numpy(inputs).float(), torch.from_numpy(labels).float())


def ridge_truth(question: Question) -> Float[np.ndarray, "m n"]:
    """What having each training example does to each target row: with it minus without it, by algebra."""
    weights = torch.ones(question.n)
    oracle = RidgeLearner()
    whole = question.measure(oracle.train(question.train, weights, seed=0)).astype(np.float64)
    found = np.empty((question.m, question.n))
    for i in range(question.n):
        weights[i] = 0.0
        found[:, i] = whole - question.measure(oracle.train(question.train, weights, seed=0))
        weights[i] = 1.0
    return found


class AttributorContract(abc.ABC):
    """What every method keeps to, asked through a :class:`MemoryLab`.

    Override ``attributor`` (settings that suit 60 training points in 6 dimensions, up to 32 models), and
    ``question`` where the method wants another kind of output. ``least`` is the mean over targets of the
    correlation with the true leave-one-out effects that the scores must reach; None for controls.
    """

    least: float | None = 0.3

    @abc.abstractmethod
    def attributor(self) -> AbstractAttributor:
        """The method under test."""

    def question(self) -> Question:
        """Twelve predictions of a ridge regression, explained by its 60 training points."""
        train = ridge_data(60, seed=1)
        return Question(OpenRidge(train), train, ridge_data(12, seed=2), _Prediction())

    def attribution(self) -> DenseAttribution:
        """Computed in a fresh lab."""
        return self.attributor().attribute(self.question(), MemoryLab())

    def test_states_settings_needs_and_requirements(self) -> None:
        """Frozen settings with an identity, a cost before work, capabilities with known names."""
        method, question = self.attributor(), self.question()
        must(canonical(method) == canonical(self.attributor()), "two equal methods have one identity")
        frozen = dataclasses.is_dataclass(method) and method.__dataclass_params__.frozen
        must(frozen, "a method is a frozen dataclass of its settings")
        must(method.requires <= {"train", "models"}, f"unknown capabilities in {set(method.requires)}")
        must(isinstance(method.needs(question), Needs), "`needs` answers with Needs, before any work")

    def test_shapes_units_and_provenance(self) -> None:
        """Scores m x n, finite, with units and a method's name, attached to their question."""
        question, found = self.question(), self.attribution()
        must((found.m, found.n) == (question.m, question.n), f"scores are m x n, not {found.m} x {found.n}")
        must(np.isfinite(found.scores).all(), "every score is a number")
        must(found.units in ("output", "relative"), f"units are output or relative, not {found.units!r}")
        must(found.info.method, "an attribution names its method")
        must(found.info.question == question.identity, "an attribution knows its question")
        must(found.info.provenance == question.provenance, "an attribution carries its question's record")
        must(
            found.info.role in ("method", "control"), f"a role is method or control, not {found.info.role!r}"
        )
        sound = all(part.scores.shape == found.scores.shape for part in found.parts())
        must(sound, "the parts of single models have the shape of the whole")

    def test_same_in_same_out(self) -> None:
        """Two fresh labs, the same bits."""
        must(_equal(self.attribution(), self.attribution()), "two fresh labs give the same bits")

    def test_what_is_remembered_is_what_was_computed(self) -> None:
        """The second answer comes without work, and is the first."""
        lab, question = _Sealed(), self.question()
        first = self.attributor().attribute(question, lab)
        lab.sealed = True
        must(
            _equal(first, self.attributor().attribute(self.question(), lab)), "what is remembered is the same"
        )

    def test_edited_data_is_another_question(self) -> None:
        """Flipped labels are not answered from memory."""
        lab, question = MemoryLab(), self.question()
        before = self.attributor().attribute(question, lab)
        labels = -torch.as_tensor(question.train.labels)[:30]
        edited = question.with_train(question.train.with_labels(np.arange(30), labels))
        if isinstance(edited.learner, RidgeSource):
            learner = dataclasses.replace(edited.learner, data=edited.train)
            edited = dataclasses.replace(edited, learner=learner)
        after = self.attributor().attribute(edited, lab)
        must(after.info.question != before.info.question, "edited data is another question")
        again = self.attributor().attribute(edited, MemoryLab())
        must(_equal(after, again), "the answer on edited data does not depend on what was asked before")

    def poorer(self) -> list[Question]:
        """The question put to a learner that only trains, and to one that only shows finished models."""
        question = self.question()
        learners: list[Any] = [ShutRidge(), RidgeSource(question.train)]
        return [dataclasses.replace(question, learner=learner) for learner in learners]

    def test_missing_capabilities_are_refused_before_work(self) -> None:
        """A learner without what the method requires: CapabilityError dl-205, and nothing was trained."""
        method, lab = self.attributor(), _Sealed()
        lab.sealed = True
        for question in self.poorer():
            if not method.requires <= capabilities(question):
                try:
                    method.attribute(question, lab)
                except CapabilityError as error:
                    must(error.code == "dl-205", f"missing capabilities are dl-205, not {error.code}")
                else:
                    must(False, f"a learner without {set(method.requires)} is refused")

    def test_what_it_requires_is_enough(self) -> None:
        """A learner with what the method requires, and no more, gets an answer."""
        method = self.attributor()
        for question in self.poorer():
            if method.requires <= capabilities(question):
                try:
                    method.attribute(question, MemoryLab())
                except CapabilityError as error:
                    raise AssertionError(
                        f"`requires` names all that is needed, and here is more: {error}"
                    ) from error

    def test_sign_and_size_on_the_ridge_oracle(self) -> None:
        """Positive scores where having the example raises the output: correlation with the true effects."""
        if self.least is None:
            return
        scores, truth = self.attribution().rows(slice(None)), ridge_truth(self.question())
        found = float(np.mean([np.corrcoef(s, t)[0, 1] for s, t in zip(scores, truth, strict=True)]))
        must(
            found >= self.least,
            f"correlation {found:.2f} with the true effects, below {self.least} (negative: the sign is wrong)",
        )


def _equal(a: DenseAttribution, b: DenseAttribution) -> bool:
    bias = (a.bias is None) == (b.bias is None) and (
        a.bias is None or b.bias is None or np.array_equal(a.bias, b.bias)
    )
    return bias and a.units == b.units and np.array_equal(a.scores, b.scores)
