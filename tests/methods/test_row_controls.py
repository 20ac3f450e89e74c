"""Controls of single rows: their formulas, and the same for every target."""

import dataclasses

import numpy as np
import pytest
import torch

from dataloupe import outputs
from dataloupe._errors import BadInput
from dataloupe.cli._methods import Settings
from dataloupe.core import Examples, MemoryLab, Question, Subsets
from dataloupe.learners import SGD
from dataloupe.methods import (
    BM25,
    FeatureSimilarity,
    GradientNorm,
    InputSimilarity,
    SequenceLength,
    TrainingLoss,
)
from dataloupe.testing import AttributorContract, blobs

N = 40


def question(output=outputs.margin):
    data = blobs(n=N)
    learner = SGD(lambda: torch.nn.Linear(data.inputs.shape[1], 3), epochs=3, lr=0.3, batch_size=10)
    return Question(learner, data, data[:5], output)


class TestGradientNorm(AttributorContract):
    least = None

    def attributor(self):
        return GradientNorm(models=2)


class TestInputSimilarity(AttributorContract):
    least = None

    def attributor(self):
        return InputSimilarity()


class TestTrainingLoss(AttributorContract):
    least = None

    def attributor(self):
        return TrainingLoss(models=2)


@pytest.mark.parametrize(("output", "turned"), [(outputs.margin, 1.0), (outputs.loss, -1.0)])
def test_the_length_of_a_softmax_gradient_by_hand(output, turned):
    """|d loss / d W, b| = |p - e_y| sqrt(|x|^2 + 1), in more dimensions than there are numbers."""
    asked, lab = question(output), MemoryLab()
    found = GradientNorm(models=2, dim=4096).attribute(asked, lab).scores
    expected = np.zeros(N)
    for model in lab.models(asked, Subsets(n=N, count=2, fraction=0.5, seed=0)):
        x, y = asked.train.inputs, asked.train.labels
        away = model.predict(x).softmax(1) - torch.nn.functional.one_hot(y, 3)
        expected += (away.norm(dim=1) * (x.square().sum(1) + 1).sqrt()).detach().numpy() / 2
    np.testing.assert_allclose(found, np.tile(turned * expected, (5, 1)), rtol=1e-4)


@pytest.mark.parametrize("output", [outputs.margin, outputs.loss])
def test_what_is_badly_fit(output):
    asked, lab = question(output), MemoryLab()
    found = TrainingLoss(models=2).attribute(asked, lab).scores
    own = dataclasses.replace(asked, targets=asked.train)
    measured = [
        own.measure(model) for model in lab.models(asked, Subsets(n=N, count=2, fraction=0.5, seed=0))
    ]
    np.testing.assert_allclose(found, np.tile(-np.mean(measured, axis=0), (5, 1)), rtol=1e-5)


@pytest.mark.parametrize(("output", "turned"), [(outputs.margin, 1.0), (outputs.loss, -1.0)])
def test_the_cosine_of_inputs_by_hand(output, turned):
    asked = question(output)
    x, y = (data.inputs.double() for data in (asked.train, asked.targets))
    x, y = x - x.mean(0), y - asked.train.inputs.double().mean(0)
    expected = turned * torch.nn.functional.cosine_similarity(y[:, None], x[None], dim=-1)
    found = InputSimilarity().attribute(asked, MemoryLab()).scores
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_inputs_that_have_no_cosine():
    tokens = Examples(torch.arange(6).reshape(3, 2), torch.tensor([0, 1, 2]))
    images = Examples(torch.zeros(3, 2, dtype=torch.uint8), torch.tensor([0, 1, 2]))
    wide = Examples(torch.zeros(3, 4), torch.tensor([0, 1, 2]))
    for train, targets in ((tokens, tokens), (images, wide)):
        asked = dataclasses.replace(question(outputs.margin), train=train, targets=targets)
        with pytest.raises(BadInput, match="dl-723"):
            InputSimilarity().compute(asked, NoLab())
    mixed = Examples(
        {"pixels": images.inputs + torch.eye(3, 2, dtype=torch.uint8), "at": tokens.inputs}, images.labels
    )
    same = dataclasses.replace(question(outputs.margin), train=mixed, targets=mixed)
    scores = InputSimilarity().compute(same, NoLab()).scores
    np.testing.assert_allclose(np.diag(scores), 1, rtol=1e-6)


class NoLab(MemoryLab):
    """Never asked for a model."""

    def models(self, *_):
        raise AssertionError("a control without models asked for one")


def test_settings_that_cannot_be_meant():
    for method in (GradientNorm, TrainingLoss):
        with pytest.raises(BadInput, match="dl-711"):
            method(models=0)


def test_every_control_has_a_word_on_the_command_line():
    words = {
        "gradient-norm": GradientNorm,
        "training-loss": TrainingLoss,
        "bm25": BM25,
        "input-similarity": InputSimilarity,
        "sequence-length": SequenceLength,
    }
    for word, kind in words.items():
        assert type(Settings(method=word).attributor(question())) is kind
    assert Settings(method="training-loss", models=3).attributor(question()).models == 3


def test_feature_similarity_is_turned_for_a_loss():
    of_margin, of_loss = (
        FeatureSimilarity(models=2).attribute(question(output), MemoryLab()).scores
        for output in (outputs.margin, outputs.loss)
    )
    np.testing.assert_array_equal(of_loss, -of_margin)
    same = blobs(n=N).labels[:5, None] == blobs(n=N).labels
    assert of_margin[same.numpy()].mean() > 0 > of_margin[~same.numpy()].mean()
