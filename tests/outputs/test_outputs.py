"""Outputs: their contract, closed forms, extremes, and their sign against retraining on the ridge oracle."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dataloupe import outputs
from dataloupe._errors import BadInput
from dataloupe._identity import Stream, identity
from dataloupe.core import Examples, Question, Rows, TorchModel
from dataloupe.testing import OutputContract, RidgeLearner, blobs

BARE = TorchModel(nn.Identity(), {})
SCALARS = [outputs.margin, outputs.hard_margin, outputs.log_prob, outputs.loss]
OUTPUTS = [*SCALARS, outputs.Logits(3)]


def by_name(output):
    return output.name


# --- the contract ---


class TestMargin(OutputContract):
    def output(self):
        return outputs.margin


class TestLogProb(OutputContract):
    def output(self):
        return outputs.log_prob


class TestLoss(OutputContract):
    def output(self):
        return outputs.loss


class TestLogits(OutputContract):
    def output(self):
        return outputs.Logits(3)


class TestHardMargin(OutputContract):
    def output(self):
        return outputs.hard_margin

    def training_loss(self, model, rows):
        """Cross-entropy of the binary problem against the runner-up."""
        z = model.predict(rows.inputs)
        own = nn.functional.one_hot(rows.labels, 3).bool()
        rival = z.masked_fill(own, -torch.inf).argmax(1)
        pair = torch.stack([z.gather(1, y[:, None])[:, 0] for y in (rows.labels, rival)], 1)
        return nn.functional.cross_entropy(pair, torch.zeros(len(pair), dtype=torch.int64), reduction="none")


class TestHardMarginOfTwoClasses(OutputContract):
    """Nothing is lost with two classes: the loss is the plain cross-entropy."""

    def output(self):
        return outputs.hard_margin

    def model(self):
        wide = super().model()
        params = {name: p[:2] for name, p in wide.params.items()}
        return TorchModel(nn.Linear(6, 2).double(), params)

    def rows(self):
        wide = super().rows()
        return Rows(wide.inputs, wide.labels % 2)


class TestValue(OutputContract):
    columns = 1

    def output(self):
        return outputs.Value(self.columns)

    def model(self):
        wide = super().model()
        params = {name: p[: self.columns] for name, p in wide.params.items()}
        return TorchModel(nn.Linear(6, self.columns).double(), params)

    def rows(self):
        wide = super().rows()
        labels = torch.stack([wide.labels.double(), -wide.labels.double()], 1)
        return Rows(wide.inputs, labels[:, 0] if self.columns == 1 else labels)

    def training_loss(self, model, rows):
        return 0.5 * ((model.predict(rows.inputs) - rows.labels.reshape(-1, self.columns)) ** 2).sum(1)


class TestTwoValues(TestValue):
    columns = 2


# --- closed forms ---

logit_rows = st.lists(st.floats(-30, 30), min_size=2, max_size=6)


@settings(max_examples=60, deadline=None)
@given(logit_rows, st.data())
def test_values_are_their_formulas(z, data):
    y = data.draw(st.integers(0, len(z) - 1))
    p = np.exp(np.array(z) - np.max(z))
    p /= p.sum()
    rest = np.delete(p, y).sum()
    rows = Rows(torch.tensor([z], dtype=torch.float64), torch.tensor([y]))
    values = {output.name: float(output.value(BARE, rows)[0]) for output in SCALARS}
    assert values["margin"] == pytest.approx(np.log(p[y] / rest), abs=1e-9)
    assert values["hard margin"] == pytest.approx(z[y] - max(np.delete(z, y)), abs=1e-9)
    assert values["log probability"] == pytest.approx(np.log(p[y]), abs=1e-9)
    assert values["loss"] == pytest.approx(-np.log(p[y]), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(logit_rows, st.data())
def test_slope_is_minus_the_numerical_derivative_of_the_loss(z, data):
    """The label's own logit moves the value and the cross-entropy together: their ratio is the slope."""
    y, step = data.draw(st.integers(0, len(z) - 1)), 1e-5
    bump = torch.zeros(1, len(z), dtype=torch.float64)
    bump[0, y] = step
    middle = torch.tensor([z], dtype=torch.float64)
    labels = torch.tensor([y])

    def entropy(at):
        return float(nn.functional.cross_entropy(at, labels))

    fall = -(entropy(middle + bump) - entropy(middle - bump)) / (2 * step)
    for output in [outputs.margin, outputs.log_prob, outputs.loss]:
        value = output.value(BARE, Rows(middle, labels))
        ends = [float(output.value(BARE, Rows(middle + s * bump, labels))) for s in (1, -1)]
        slope = float(output.slope(BARE, Rows(middle, labels), value))
        assert slope * (ends[0] - ends[1]) / (2 * step) == pytest.approx(fall, abs=1e-6)
    for c in range(len(z)):
        bump = torch.zeros_like(bump)
        bump[0, c] = step
        fall = -(entropy(middle + bump) - entropy(middle - bump)) / (2 * step)
        slope = outputs.Logits(len(z)).slope(BARE, Rows(middle, labels), middle)[0, c]
        assert float(slope) == pytest.approx(fall, abs=1e-6)


@pytest.mark.parametrize("output", OUTPUTS, ids=by_name)
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_confident_rows_keep_exact_values_and_gradients(output, size):
    z = torch.tensor([[size, 0.0, -3.0]], requires_grad=True)
    rows = Rows(z, torch.tensor([0]))
    value = output.value(BARE, rows)
    expected = {
        "margin": size - np.log(1 + np.exp(-3.0)),
        "hard margin": size,
        "log probability": min(size, 0.0),
        "loss": -min(size, 0.0),
    }
    wanted = expected.get(output.name, [size, 0.0, -3.0])
    np.testing.assert_allclose(value.detach()[0], wanted, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert gradient.isfinite().all()
    slope = output.slope(BARE, rows, value.detach())
    assert slope.isfinite().all()
    right = 0.0 if size > 0 else 1.0
    wanted = {"margin": [right], "hard margin": [right], "log probability": [1.0], "loss": [-1.0]}
    p_rival = 1 / (1 + np.exp(-3.0))
    logits = [0, 0, 0] if size > 0 else [1, -p_rival, p_rival - 1]
    np.testing.assert_allclose(slope.reshape(-1), wanted.get(output.name, logits), atol=1e-5)


@pytest.mark.parametrize("output", SCALARS, ids=by_name)
def test_half_precision_predictions_are_read_in_single(output):
    z = torch.tensor([[9.0, 0.125, -3.0]])
    low, high = (output.value(BARE, Rows(x, torch.tensor([0]))) for x in (z.bfloat16(), z))
    assert low.dtype == torch.float32
    assert torch.equal(low, high)


def test_outputs_are_told_apart_by_their_identity():
    every = [*OUTPUTS, outputs.Logits(4), outputs.value, outputs.Value(2)]
    assert len({identity(output) for output in every}) == len(every)
    assert identity(outputs.Margin()) == identity(outputs.margin)


# --- the sign, against retraining ---


def influence(module, params, output, learner, train, targets):
    """First order: grad value(target)' H^-1 (-grad loss_i), loss half squared error on one-hot labels."""
    x, y = learner.arrays(train)
    model = TorchModel(module, params)
    residual = y - model.predict(train.inputs).double()
    hessian = x.T @ x + learner.penalty * torch.eye(x.shape[1], dtype=torch.float64)
    solved = torch.linalg.solve(hessian, x.T).T
    moves = residual[:, :, None] * solved[:, None, :]  # what example i does to the weights [n, c, d]
    found = []
    for j in range(len(targets)):
        live = {"weight": params["weight"].clone().requires_grad_()}
        values = output.value(model.with_params(live), targets.take([j])).reshape(-1)
        for component in values:
            (g,) = torch.autograd.grad(component, live["weight"], retain_graph=True)
            found.append(torch.einsum("ncd,cd->n", moves, g.double()))
    return torch.stack(found).numpy()


def signs_agree(output, learner, train, targets):
    question = Question(learner, train, targets, output)
    weights = torch.ones(len(train))
    whole = learner.train(train, weights, seed=0)
    # In float64, so that a small change is a change and no rounding.
    params = {"weight": exact(learner, train, weights)}
    guess = influence(whole.module.double(), params, output, learner, train, targets)
    truth = np.empty_like(guess)
    for i in range(len(train)):
        weights[i] = 0.0
        without = TorchModel(whole.module, {"weight": exact(learner, train, weights)})
        truth[:, i] = values(output, TorchModel(whole.module, params), targets) - values(
            output, without, targets
        )
        weights[i] = 1.0
    assert guess.shape == (question.m, question.n)
    clear = np.abs(truth) > 0.05 * np.abs(truth).max(axis=1, keepdims=True)
    assert clear.sum() > 100
    return float((np.sign(guess) == np.sign(truth))[clear].mean())


def exact(learner, data, weights):
    x, y = learner.arrays(data)
    gram = x.T @ (weights.double()[:, None] * x) + learner.penalty * torch.eye(x.shape[1])
    return torch.linalg.solve(gram.double(), x.T @ (weights.double()[:, None] * y)).T


def values(output, model, targets):
    with torch.no_grad():
        return output.value(model, targets.take(np.arange(len(targets)))).reshape(-1).double().numpy()


def doubled(data, labels=None):
    return Examples(data.inputs.double(), data.labels if labels is None else labels)


@pytest.mark.parametrize("output", OUTPUTS, ids=by_name)
def test_positive_means_that_having_the_example_raises_the_output(output):
    train, targets = doubled(blobs(60, seed=0)), doubled(blobs(12, seed=0)[6:])
    assert signs_agree(output, RidgeLearner(penalty=5.0), train, targets) >= 0.95


def test_positive_means_that_having_the_example_raises_the_value():
    draws = Stream.root(0)("test").numpy()
    train, targets = blobs(60, seed=0), blobs(8, seed=0)
    labels = torch.from_numpy(draws.standard_normal((60, 2)))
    learner = RidgeLearner(penalty=5.0)
    two = doubled(train, labels)
    unlabelled = Examples(targets.inputs.double())
    assert signs_agree(outputs.Value(2), learner, two, unlabelled) >= 0.95
    assert signs_agree(outputs.value, learner, doubled(train, labels[:, 0]), unlabelled) >= 0.95


def test_an_example_of_the_targets_own_class_helps_its_margin_and_hurts_its_loss():
    """In words, without any formula: a copy of the target with the right label."""
    train, target = blobs(30), blobs(30)[4:5]
    copied = Examples(torch.cat([train.inputs, target.inputs]), torch.cat([train.labels, target.labels]))
    weights = torch.ones(31)
    models = [RidgeLearner().train(copied, weights, seed=0)]
    weights[30] = 0.0
    models.append(RidgeLearner().train(copied, weights, seed=0))
    for output, sign in zip(SCALARS, [1, 1, 1, -1], strict=True):
        with_it, without = (float(output.value(model, target.take([0]))) for model in models)
        assert sign * (with_it - without) > 0


# --- refusals ---


def labelled(labels, columns=3):
    return Rows(torch.zeros(2, columns), labels)


@pytest.mark.parametrize("output", SCALARS, ids=by_name)
@pytest.mark.parametrize(
    ("labels", "code"),
    [
        (None, "dl-802"),
        (torch.tensor([0.5, 1.0]), "dl-803"),
        (torch.tensor([True, False]), "dl-803"),
        (torch.tensor([[0], [1]]), "dl-803"),
        (torch.tensor([0, -1]), "dl-804"),
    ],
)
def test_labels_that_are_no_classes_are_refused(output, labels, code):
    with pytest.raises(BadInput, match=f"{code}.*the {output.name}"):
        output.valid(labelled(labels))


@pytest.mark.parametrize("output", SCALARS, ids=by_name)
def test_a_label_without_a_column_is_refused(output):
    with pytest.raises(BadInput, match=r"dl-804.*the model has 3"):
        output.value(BARE, labelled(torch.tensor([0, 3])))


@pytest.mark.parametrize("output", [*SCALARS, outputs.Logits(2)], ids=by_name)
def test_a_single_logit_column_is_refused(output):
    with pytest.raises(BadInput, match=r"dl-801.*two columns"):
        output.value(BARE, labelled(torch.tensor([0, 0]), columns=1))


@pytest.mark.parametrize("found", [torch.zeros(2), torch.zeros(2, 3, 4), torch.zeros(2, 3).long()])
@pytest.mark.parametrize("output", [outputs.margin, outputs.value], ids=by_name)
def test_predictions_that_are_no_matrix_are_refused(output, found):
    with pytest.raises(BadInput, match=r"dl-800.*\[b, c\]"):
        output.value(BARE, Rows(found, torch.tensor([0, 1])))


def test_another_number_of_columns_is_refused():
    with pytest.raises(BadInput, match=r"dl-800.*outputs.Logits\(3\)"):
        outputs.Logits(4).value(BARE, labelled(None))
    with pytest.raises(BadInput, match=r"dl-800.*outputs.Value\(3\)"):
        outputs.value.value(BARE, labelled(None))
    with pytest.raises(BadInput, match=r"dl-804.*0 to 2"):
        outputs.Logits(3).valid(labelled(torch.tensor([0, 3])))


def test_settings_that_cannot_be_meant_are_refused():
    with pytest.raises(BadInput, match="dl-805"):
        outputs.Logits(1)
    with pytest.raises(BadInput, match="dl-805"):
        outputs.Value(0)


def test_regression_labels_must_have_the_components():
    with pytest.raises(BadInput, match=r"dl-806.*\(2,\)"):
        outputs.value.valid(Rows(torch.zeros(3, 1), torch.zeros(3, 2)))
    with pytest.raises(BadInput, match="dl-806"):
        outputs.Value(2).slope(BARE, Rows(torch.zeros(2, 2), torch.zeros(2)), torch.zeros(2, 2))


@pytest.mark.parametrize("output", [outputs.Logits(3), outputs.Value(3)], ids=by_name)
def test_unlabelled_targets_have_values_and_no_slope(output):
    rows = labelled(None)
    values = output.value(BARE, rows)
    assert output.valid(rows).shape == values.shape
    with pytest.raises(BadInput, match=r"dl-802.*slope"):
        output.slope(BARE, rows, values)


def test_outputs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        outputs.Logits(3).classes = 4
