"""Questions check their parts before any work, and are found by what decides their answers."""

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError
from dataloupe.core import Examples, MemoryLab, Question, Subsets, _question
from dataloupe.learners import SGD
from dataloupe.testing import RidgeLearner


def data(n=6, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return Examples(torch.randn(n, 3, generator=draws), torch.arange(n) % 2)


def question(**settings):
    parts = {
        "learner": RidgeLearner(classes=2),
        "train": data(),
        "targets": data(3, 1),
        "output": outputs.margin,
    }
    return Question(**parts | settings)


def test_target_rows_are_pairs_of_example_and_component():
    assert question().index.tolist() == [[0, 0], [1, 0], [2, 0]]
    asked = question(output=outputs.Logits(2))
    assert asked.m == 6 and asked.index.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]]
    model = asked.learner.train(asked.train, torch.ones(6), seed=0)
    np.testing.assert_allclose(asked.measure(model), model.predict(asked.targets.inputs).flatten(), rtol=1e-5)


def test_the_wrong_number_of_components_is_refused():
    asked = question(output=outputs.Logits(3))
    with pytest.raises(BadInput, match="dl-(202|8)"):
        MemoryLab().outcomes(asked, Subsets(n=6, count=1))


def test_many_predicted_numbers_are_measured_in_smaller_blocks(monkeypatch):
    asked, sizes = question(targets=data(9, 1)), []
    model = asked.learner.train(asked.train, torch.ones(6), seed=0)

    class Watched:
        def predict(self, inputs):
            sizes.append(len(inputs))
            return model.predict(inputs)

    whole = asked.measure(Watched())
    monkeypatch.setattr(_question, "_PREDICTED", 8)  # two classes: four rows
    assert (asked.measure(Watched()) == whole).all()
    assert sizes == [1, 9, 1, 4, 4, 1]


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_learner_or_output_is_refused():
    with pytest.raises(CapabilityError, match="dl-201.*Linear"):
        question(learner=nn.Linear(2, 2))
    with pytest.raises(CapabilityError, match="dl-203.*max"):
        question(output=max)


def test_edited_training_data_keep_their_rows():
    edited = question().with_train(data().with_labels([0], [1]))
    assert edited.identity != question().identity
    with pytest.raises(BadInput, match="dl-204"):
        question().with_train(data(5))


def test_found_by_learner_data_targets_and_output():
    asked = [
        question(),
        question(learner=RidgeLearner(classes=2, penalty=2.0)),
        question(train=data(6, 3)),
        question(targets=data(2, 1)),
        question(output=outputs.loss),
        question(train_output=outputs.loss),
    ]
    assert len({one.identity for one in asked}) == len(asked)
    assert question().identity == question().identity


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.layer, self.factor = nn.Linear(3, 2), factor

    def forward(self, x):
        return self.factor * self.layer(x)


def test_the_probe_sees_a_forward_that_the_source_of_the_factory_hides():
    hidden = {"factor": 1.0}

    def make():
        return Times(hidden["factor"])

    before = question(learner=SGD(make, version="same")).identity
    hidden["factor"] = 2.0
    assert question(learner=SGD(make, version="same")).identity != before
