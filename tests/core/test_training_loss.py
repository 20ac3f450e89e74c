"""What a training loss makes of an output on the training side, and the probes that carry its curvature."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe import losses, outputs
from dataloupe._errors import BadInput, CapabilityError
from dataloupe.core import (
    Examples,
    LossAsTrained,
    LossProbe,
    Question,
    Rows,
    TorchModel,
    WeightedSlope,
    content_keys,
    train_side,
)
from dataloupe.learners import SGD, Checkpoints
from dataloupe.testing import OutputContract, blobs

SMOOTHED = losses.CrossEntropy(label_smoothing=0.1)
PLAIN = losses.CrossEntropy(ignore_index=None)


def question(loss, output=outputs.margin, train=None, **settings):
    source = Checkpoints(nn.Linear(6, 3), nn.Linear(6, 3).state_dict(), loss=loss)
    return Question(source, train or blobs(), blobs(n=6, seed=1), output, **settings)


class TestLossAsTrained(OutputContract):
    def output(self):
        return LossAsTrained(SMOOTHED)

    def training_loss(self, model, rows):
        z = model.predict(rows.inputs)
        return nn.functional.cross_entropy(z, rows.labels, reduction="none", label_smoothing=0.1)


class TestWeightedSlope(OutputContract):
    weights = torch.tensor([1.0, 2.0, 8.0], dtype=torch.float64)

    def output(self):
        return WeightedSlope(outputs.margin, losses.CrossEntropy(self.weights))

    def rows(self):
        return super().rows()._replace(row_weights=torch.linspace(0, 2, 12))

    def training_loss(self, model, rows):
        each = nn.functional.cross_entropy(
            model.predict(rows.inputs), rows.labels, self.weights, reduction="none"
        )
        return each * rows.row_weights

    # row weights change slopes, and nothing of the value: its gradient is no other than that of the plain output
    test_gradients_under_vmap_are_the_plain_ones = None


@pytest.mark.parametrize(
    ("output", "loss", "wanted"),
    [
        (outputs.margin, None, outputs.margin),
        (
            outputs.margin,
            losses.CrossEntropy([1, 2, 8]),
            WeightedSlope(outputs.margin, losses.CrossEntropy([1, 2, 8])),
        ),
        (outputs.loss, losses.CrossEntropy(), WeightedSlope(outputs.loss, losses.CrossEntropy())),
        (outputs.margin, SMOOTHED, LossAsTrained(SMOOTHED)),
        (outputs.margin, losses.SquaredError(), LossAsTrained(losses.SquaredError())),
        (outputs.value, losses.SquaredError(), outputs.value),
        (outputs.margin, PLAIN, outputs.margin),
        (outputs.sequence_margin, losses.CrossEntropy(), outputs.sequence_margin),
        (outputs.pixel_margin, None, LossAsTrained(losses.CrossEntropy())),
        (outputs.multilabel_loss, None, LossAsTrained(losses.BinaryCrossEntropy())),
        (outputs.LabelMargins(2), losses.SquaredError(), LossAsTrained(losses.SquaredError())),
        (outputs.sequence_loss, losses.CrossEntropy([1, 2]), LossAsTrained(losses.CrossEntropy([1, 2]))),
        (outputs.SequenceLoss("sum"), PLAIN, LossAsTrained(PLAIN)),
    ],
)
def test_the_rule(output, loss, wanted):
    found = train_side(output, loss, row_weights=False)
    assert found == wanted
    if found != output:  # once is enough
        assert train_side(found, losses.SquaredError(), row_weights=True) == found


@pytest.mark.parametrize("output", [outputs.margin, outputs.log_prob, outputs.loss, outputs.hard_margin])
def test_a_multiple_multiplies_slope_and_curvature(output):
    rows = blobs(n=9).take(np.arange(9))._replace(row_weights=torch.linspace(0, 2, 9))
    ignored = rows.labels.clone()
    ignored[4] = -100
    weights = torch.tensor([1.0, 2.0, 8.0])
    w = weights[rows.labels] * rows.row_weights
    w[4] = 0
    model = TorchModel(nn.Linear(6, 3), dict(nn.Linear(6, 3).named_parameters()))
    weighted, values = WeightedSlope(output, losses.CrossEntropy(weights)), output.value(model, rows).detach()
    given = rows._replace(labels=ignored)
    plain = output.slope(model, rows, values)
    torch.testing.assert_close(weighted.slope(model, given, values), w * plain)
    known = output.curvature(plain, rows) if hasattr(output, "curvature") else torch.ones_like(plain)
    torch.testing.assert_close(weighted.curvature(w * plain, given), w * known)
    assert weighted.valid(given).all()
    others = torch.arange(9) != 4
    torch.testing.assert_close(weighted.value(model, given)[others], values[others])


def test_plain_losses_change_nothing():
    sgd = SGD(lambda: nn.Linear(6, 3))
    data = blobs()
    for learner in (sgd, dataclasses.replace(sgd, loss="squared")):
        output = outputs.value if learner.loss == "squared" else outputs.margin
        train = data if output is outputs.margin else Examples(data.inputs, data.labels.float())
        question = Question(learner, train, train[:3], output)
        assert question.on_train is output


def test_probes_average_to_the_curvature():
    z, rows = torch.randn(5, 3, dtype=torch.float64), blobs(n=5).take(np.arange(5))
    z.requires_grad_()
    model = TorchModel(nn.Identity(), {})
    given = Rows(z, rows.labels, torch.linspace(0.5, 2, 5))
    directions = [
        torch.autograd.grad(p.value(model, given).sum(), z)[0] for p in LossAsTrained(SMOOTHED).probes()
    ]
    mean = torch.stack([d[:, :, None] * d[:, None] for d in directions]).mean(0)
    p = z.detach().softmax(1)
    exact = (torch.diag_embed(p) - p[:, :, None] * p[:, None]) * given.row_weights.double()[:, None, None]
    torch.testing.assert_close(mean, exact)


def test_probes_of_many_numbers_average_to_the_curvature_over_rows():
    z = torch.zeros(4000, 8, dtype=torch.float64)
    inputs = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    rows = Rows(inputs, torch.zeros(4000, 8))
    zs = z.clone().requires_grad_()
    source = TorchModel(nn.Identity(), {})

    class Same(nn.Module):
        def forward(self, _):
            return zs

    total = torch.zeros(8, 8, dtype=torch.float64)
    for number in range(4):
        value = LossProbe(losses.SquaredError(), number).value(
            dataclasses.replace(source, module=Same()), rows
        )
        y = torch.autograd.grad(value.sum(), zs)[0]
        total += y.T @ y / (4 * len(z))
    assert (total - torch.eye(8)).abs().max() < 0.06


def test_keys_follow_the_contents():
    inputs = torch.randn(6, 4)
    keys = content_keys(Rows(inputs, None))
    assert len(set(keys.tolist())) == 6
    assert torch.equal(content_keys(Rows(inputs[[4, 1]], torch.zeros(2))), keys[[4, 1]])
    assert torch.equal(content_keys(Rows(inputs.double(), None)), keys)
    parts = {"a": inputs[:, :2], "b": inputs[:, 2:]}
    turned = {"a": inputs[:, 2:], "b": inputs[:, :2]}
    assert not torch.equal(content_keys(Rows(parts, None)), content_keys(Rows(turned, None)))


def test_row_weights_go_with_their_rows():
    data = Examples(torch.eye(4), torch.arange(4), row_weights=[1, 2, 3, 4])
    assert data.take([3, -1, 0]).row_weights.tolist() == [4, 0, 1]
    assert data[[2, 1]].row_weights.tolist() == [3, 2]
    assert data.fingerprint != Examples(torch.eye(4), torch.arange(4)).fingerprint
    assert data.fingerprint != dataclasses.replace(data, row_weights=[1, 2, 3, 5]).fingerprint


@pytest.mark.parametrize(
    "weights", [[1.0, -1.0], [0.0, 0.0], [1.0, float("nan")], [[1.0], [2.0]], [1.0, float("inf")]]
)
def test_what_is_no_weight_is_refused(weights):
    with pytest.raises(BadInput) as caught:
        Examples(torch.eye(2), row_weights=weights)
    assert caught.value.code in ("dl-832", "dl-105")


def test_labels_are_looked_at_when_the_question_is_asked():
    train = Examples(torch.zeros(4, 6), torch.tensor([0, 1, 5, 1]))
    with pytest.raises(BadInput) as caught:
        question(losses.CrossEntropy([1, 2, 3]), train=train)
    assert caught.value.code == "dl-834"


def test_a_curvature_that_sees_no_rows_is_refused():
    class Old(outputs.Margin):
        def curvature(self, slopes):
            return slopes

    with pytest.raises(CapabilityError) as caught:
        question(None, Old())
    assert caught.value.code == "dl-837"


def test_the_loss_is_part_of_the_identity():
    asked = [question(loss) for loss in (None, losses.CrossEntropy([1, 2, 3]), SMOOTHED)]
    states = nn.Linear(6, 3).state_dict()
    same = [
        dataclasses.replace(one, learner=Checkpoints(nn.Linear(6, 3), states, loss=one.learner.loss))
        for one in asked
    ]
    assert len({one.identity for one in same}) == 3
