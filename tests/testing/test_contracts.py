"""The contract suites themselves: what keeps to them passes, and every breach is caught by name."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import (
    AbstractAttributor,
    Batch,
    DenseAttribution,
    Examples,
    Info,
    Needs,
    Rows,
    Slot,
    State,
    Subsets,
    TorchModel,
    make_batch,
    torch_model,
)
from dataloupe.testing import (
    AttributorContract,
    LearnerContract,
    OutputContract,
    RidgeLearner,
    ridge_data,
)

# --- learners ---


class TestRidge(LearnerContract):
    seeded = False

    def learner(self):
        return RidgeLearner()


class TestNoisyRidge(LearnerContract):
    seeded = True

    def learner(self):
        return RidgeLearner(noise=0.1)

    def data(self):
        return ridge_data(48, seed=1)


@dataclasses.dataclass(frozen=True)
class Descent:
    """Plain gradient descent on the kept rows: the smallest stepped learner."""

    steps: int = 5
    removal: str = "repack"
    couples_rows: bool = False

    def init(self, *, seed):
        draws = Stream.root(seed)("init").numpy()
        params = {"weight": torch.from_numpy(draws.standard_normal((3, 6)).astype(np.float32))}
        return State(params, {}, {}, torch.tensor(0), torch.tensor(seed))

    def batches(self, weights, *, seed):  # noqa: ARG002
        kept = np.flatnonzero(weights.numpy())
        return [Slot(kept, epoch, epoch / self.steps) for epoch in range(self.steps)]

    def step(self, state: State, batch: Batch):
        weight = state.params["weight"]
        target = nn.functional.one_hot(batch.data.labels, 3).float()
        residual = batch.data.inputs @ weight.T - target
        gradient = (batch.weights[:, None] * residual).T @ batch.data.inputs / batch.total
        return state._replace(params={"weight": weight - 0.1 * gradient}, step=state.step + 1)

    def model(self, state):
        return TorchModel(nn.utils.skip_init(nn.Linear, 6, 3, bias=False), state.params)

    def train(self, data, weights, *, seed):
        state = self.init(seed=seed)
        for slot in self.batches(weights, seed=seed):
            state = self.step(state, make_batch(data, weights, slot, "repack"))
        return self.model(state)


class TestDescent(LearnerContract):
    seeded = True

    def learner(self):
        return Descent()


class Peeks(Descent):
    """Standardises with constants fitted on all rows."""

    def train(self, data, weights, *, seed):
        scaled = data.inputs / data.inputs.abs().amax(0)
        return super().train(Examples(scaled, data.labels), weights, seed=seed)


class Global(Descent):
    def init(self, *, seed):
        return super().init(seed=seed)._replace(params={"weight": torch.randn(3, 6)})


class Deaf(Descent):
    def step(self, state, batch):  # noqa: ARG002
        return state


class Shortcut(Descent):
    def train(self, data, weights, *, seed):
        return Descent(steps=self.steps + 1).train(data, weights, seed=seed)


class InPlace(Descent):
    def step(self, state, batch):
        moved = super().step(state, batch)
        state.params["weight"].copy_(moved.params["weight"])
        return moved


class Batchwise(Descent):
    """Predicts through the mean of the batch."""

    def model(self, state):
        inner = super().model(state)

        class Centred(nn.Linear):
            def forward(self, x):
                return super().forward(x - x.mean(0))

        return TorchModel(nn.utils.skip_init(Centred, 6, 3, bias=False), inner.params)


@pytest.mark.parametrize(
    ("learner", "test", "sentence"),
    [
        (Peeks(), "test_excluded_rows_are_never_read", "never read"),
        (Global(), "test_same_in_same_out", "same bits"),
        (Global(), "test_no_global_generator_is_read_or_moved", "global generators"),
        (Deaf(), "test_the_data_decides", "depends on the examples"),
        (Shortcut(), "test_steps_are_the_plain_loop", "plain loop"),
        (InPlace(), "test_steps_are_the_plain_loop", "leaves the state|pure function"),
        (Batchwise(), "test_predicts_a_row_for_every_row", "its own"),
        (Descent(removal="drop"), "test_is_a_learner_and_declares_its_removal", "repack or mask"),
        (object(), "test_is_a_learner_and_declares_its_removal", "`train"),
    ],
)
def test_a_learner_that_breaks_the_contract_is_caught(learner, test, sentence):
    class Broken(LearnerContract):
        def learner(self):
            return learner

    with torch.random.fork_rng(devices=[]), pytest.raises(AssertionError, match=sentence):
        getattr(Broken(), test)()


def test_a_wrong_word_about_the_seed_is_caught():
    class Wrong(TestRidge):
        seeded = True

    with pytest.raises(AssertionError, match="`seeded` is True"):
        Wrong().test_the_seed_does_what_it_says()


# --- outputs ---


@dataclasses.dataclass(frozen=True)
class LogOfLabel:
    """log p of the label; ``fault`` spoils one thing."""

    fault: str = ""
    name: ClassVar[str] = "test"
    better = "higher"
    repeats: ClassVar[int] = 1

    def value(self, model, rows, draw=None):  # noqa: ARG002
        z = model.predict(rows.inputs)
        if self.fault == "batch":
            z = z - z.mean(0)
        found = z.log_softmax(1).gather(1, rows.labels[:, None])[:, 0]
        if self.fault == "detached":
            found = found.detach() + 0 * z[:, 0]
        return found

    def slope(self, model, rows, values, draw=None):  # noqa: ARG002
        if self.fault == "shape":
            return torch.ones_like(values)[:, None]
        return (-1 if self.fault == "sign" else 1) * torch.ones_like(values)

    def valid(self, rows):
        return torch.ones((len(rows.labels), 2 if self.fault == "valid" else 1), dtype=torch.bool)


class TestLogOfLabel(OutputContract):
    def output(self):
        return LogOfLabel()


@pytest.mark.parametrize(
    ("fault", "test", "sentence"),
    [
        ("sign", "test_slope_is_minus_the_derivative_of_the_loss", "MINUS"),
        ("shape", "test_shapes_agree", "slope has the shape"),
        ("valid", "test_shapes_agree", "valid tells every component"),
        ("batch", "test_rows_do_not_feel_each_other", "does not depend on the others"),
    ],
)
def test_an_output_that_breaks_the_contract_is_caught(fault, test, sentence):
    class Broken(OutputContract):
        def output(self):
            return LogOfLabel(fault)

    with pytest.raises(AssertionError, match=sentence):
        getattr(Broken(), test)()


# --- attributors ---


@dataclasses.dataclass(frozen=True)
class Influence(AbstractAttributor):
    """Ridge influence x_t' (X'X + I)^-1 x_i r_i at the mean model; ``fault`` spoils one thing."""

    models: int = 4
    fault: str = ""
    requires = frozenset({"train", "models"})

    def needs(self, question):  # noqa: ARG002
        return Needs(trainings=self.models)

    def compute(self, question, lab):
        models = lab.models(question, Subsets(n=question.n, count=self.models))
        x = question.train.inputs.double()
        residual = question.train.labels.double() - sum(
            model.predict(question.train.inputs)[:, 0].double() for model in models
        ) / len(models)
        gram = x.T @ x + torch.eye(x.shape[1], dtype=torch.float64)
        scores = question.targets.inputs.double() @ torch.linalg.solve(gram, (x * residual[:, None]).T)
        found = scores.float().numpy()
        if self.fault == "sign":
            found = -found
        if self.fault == "shape":
            found = found[:, 1:]
        if self.fault == "random":
            found = (
                np.random.default_rng().standard_normal(found.shape).astype(np.float32)
            )  # keyed by nothing
        return DenseAttribution(found, Info("" if self.fault == "name" else "influence by hand"))


class TestInfluence(AttributorContract):
    least = 0.9

    def attributor(self):
        return Influence()


@pytest.mark.parametrize(
    ("fault", "test", "sentence"),
    [
        ("sign", "test_sign_and_size_on_the_ridge_oracle", "negative: the sign is wrong"),
        ("random", "test_sign_and_size_on_the_ridge_oracle", "below 0.3"),
        ("random", "test_same_in_same_out", "same bits"),
        ("shape", "test_shapes_units_and_provenance", "12 target rows x 59 training examples"),
        ("name", "test_shapes_units_and_provenance", "names its method"),
    ],
)
def test_a_method_that_breaks_the_contract_is_caught(fault, test, sentence):
    class Broken(AttributorContract):
        def attributor(self):
            return Influence(fault=fault)

    with pytest.raises(
        (AssertionError, BadInput), match=sentence
    ):  # scores that do not fit are refused as they are made
        getattr(Broken(), test)()


@pytest.mark.parametrize("claimed", [frozenset(), frozenset({"train"}), frozenset({"models"})])
def test_a_method_that_needs_more_than_it_requires_is_caught(claimed):
    class Greedy(Influence):
        requires = claimed

        def compute(self, question, lab):
            lab.outcomes(question, Subsets(n=question.n, count=1))
            torch_model(lab.models(question, Subsets(n=question.n, count=1))[0])
            return super().compute(question, lab)

    class Broken(AttributorContract):
        def attributor(self):
            return Greedy()

    Broken().test_missing_capabilities_are_refused_before_work()
    with pytest.raises(AssertionError, match="`requires` names all"):
        Broken().test_what_it_requires_is_enough()


def test_rows_reach_an_output_unlabelled_too():
    class Unlabelled(OutputContract):
        def output(self):
            return Plain()

        def rows(self):
            return Rows(super().rows().inputs, None)

    suite = Unlabelled()
    names = [name for name in dir(OutputContract) if name.startswith("test_")]
    assert names
    for name in names:
        getattr(suite, name)()  # a breach raises


@dataclasses.dataclass(frozen=True)
class Plain:
    name: ClassVar[str] = "plain"
    repeats: ClassVar[int] = 1

    def value(self, model, rows, draw=None):  # noqa: ARG002
        return model.predict(rows.inputs)

    def slope(self, model, rows, values, draw=None):  # noqa: ARG002
        return torch.ones_like(values)

    def valid(self, rows):
        return torch.ones((len(rows.inputs), 3), dtype=torch.bool)
