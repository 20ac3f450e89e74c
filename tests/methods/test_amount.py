"""What all rows have in common is told by subsets of another size, exactly where outputs are sums over rows."""

import dataclasses

import numpy as np
import pytest
import torch

from dataloupe._errors import BadInput
from dataloupe.core import Examples, MemoryLab, Question, Subsets
from dataloupe.methods import Datamodel, second_size
from dataloupe.outputs import value

N = 30


@dataclasses.dataclass(frozen=True)
class Sum:
    """A model whose output is the sum of x over its training rows, times the target's x, plus noise of the seed."""

    total: float

    def predict(self, inputs):
        return inputs * self.total


@dataclasses.dataclass(frozen=True)
class Summing:
    noise: float = 0.0
    removal: str = "mask"

    def train(self, data, weights, *, seed):
        draw = float(np.random.default_rng(seed).normal()) * self.noise
        return Sum(float((weights * data.inputs[:, 0]).sum()) + draw)


def question(noise=0.0):
    rows = np.random.default_rng(0).uniform(0.2, 1.0, (N, 1)).astype(np.float32)
    targets = torch.tensor([[1.0], [-2.0], [0.5]])
    return Question(Summing(noise), Examples(rows), Examples(targets), value)


def truth(asked):
    return asked.targets.inputs.numpy() @ asked.train.inputs.numpy().T  # [m, n]


@pytest.mark.parametrize("estimator", ["ridge", "ols"])
def test_weights_are_those_of_the_rows_and_not_against_the_average(estimator):
    asked, lab = question(), MemoryLab()
    halves, more = Subsets(n=N, count=200), Subsets(n=N, count=20, fraction=0.8)
    settings = {"estimator": estimator, "penalties": (1e-9,)}
    against = Datamodel(halves, **settings).attribute(asked, lab)
    found = Datamodel(halves, amount=more, **settings).attribute(asked, lab)
    exact = truth(asked)
    centred = exact - exact.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(against.scores, centred, atol=1e-4)
    added = (found.scores - against.scores).mean(axis=1)
    np.testing.assert_allclose(found.scores - against.scores, np.tile(added[:, None], N), atol=1e-5)
    np.testing.assert_allclose(found.scores, exact, atol=1e-4)
    np.testing.assert_allclose(found.predict(halves), against.predict(halves), atol=1e-4)
    assert "one size" in against.info.note and "one size" not in found.info.note
    assert found.info.cost["trainings"] == 220 and len(found.info.fitted) == 2


@pytest.mark.usefixtures("unchecked")
def test_its_error_is_that_of_the_means():
    """Over many draws of seeds, the sum of all weights misses by as much as its error says."""
    halves, more = Subsets(n=N, count=45), Subsets(n=N, count=12, fraction=0.8)
    exact = truth(question()).sum(axis=1)
    everything, misses = [np.arange(N)], []
    for draw in range(30):
        designs = {
            "subsets": dataclasses.replace(halves, seed=draw),
            "amount": dataclasses.replace(more, seed=1000 + draw),
        }
        found = Datamodel(**designs).attribute(question(noise=3.0), MemoryLab())
        predicted, error = -found.effect(everything)[0], found.error(everything)[0]
        misses.append((predicted - exact) / error)
    assert 0.8 < np.sqrt(np.mean(np.square(misses))) < 1.25


def test_the_second_size_of_the_default_design():
    more = second_size(Subsets(n=100, count=1000, seed=3))
    assert (more.count, more.size, more.seed) == (50, 95, 3)
    assert second_size(Subsets.full(100, 5)).size == 50
    assert second_size(Subsets(n=1, count=5, fraction=1.0)) is None


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"subsets": Subsets(n=N, count=40, kind="bernoulli")}, "sizes differ already"),
        ({"amount": Subsets(n=N, count=40)}, "40 subsets that keep 15 examples"),
        ({"amount": Subsets(n=N + 1, count=40, fraction=0.8)}, "fixed subsets of 31 examples"),
        ({"amount": Subsets(n=N, count=1, fraction=0.8)}, "1 subsets that keep 24"),
        ({"estimator": "lasso"}, "the lasso"),
    ],
)
def test_an_amount_that_tells_nothing_is_refused(settings, found):
    given = {"subsets": Subsets(n=N, count=40), "amount": Subsets(n=N, count=40, fraction=0.8)}
    with pytest.raises(BadInput, match=f"dl-725.*{found}"):
        Datamodel(**given | settings)
