"""The linear residual: planted polynomials of known Fourier weights, and what a seed adds."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import torch

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import Stream
from dataloupe.apps import correlated_subsets, linear_residual
from dataloupe.core import Examples, MemoryLab, Outcomes, Question
from dataloupe.testing import RidgeLearner

pytestmark = pytest.mark.usefixtures("unchecked")  # many trainings: shapes are checked by other tests

N, M = 40, 12


@dataclasses.dataclass(frozen=True)
class Told:
    """A model that answers what it was told, whatever the inputs."""

    answers: torch.Tensor

    def predict(self, inputs):
        return self.answers[inputs.long().flatten()][:, None]


@functools.cache
def planted(weights):
    """Of every degree: which memberships each term multiplies, and its coefficient for every target."""
    rng, found = np.random.default_rng(7), []
    for degree, weight in enumerate(weights, start=1):
        drawn = [rng.choice(N, degree, replace=False) for _ in range(60)]
        terms = np.unique(np.sort(drawn, axis=1), axis=0)
        c = rng.standard_normal((M, len(terms)))
        found.append((terms, c * np.sqrt(weight / np.square(c).sum(axis=1, keepdims=True))))
    return found


@dataclasses.dataclass(frozen=True)
class Polynomial:
    """Outputs that are a polynomial in the memberships: degree d has the variance ``weights[d - 1]`` at ``p``."""

    weights: tuple = (1.0,)
    p: float = 0.5
    noise: float = 0.0
    removal: str = "repack"

    def train(self, data, weights, *, seed):  # noqa: ARG002
        z = (weights.double().numpy() - self.p) / np.sqrt(self.p * (1 - self.p))
        found = 3.0 + sum(c @ z[terms].prod(axis=1) for terms, c in planted(self.weights))
        drawn = Stream.root(seed)("noise").numpy().standard_normal(M)
        return Told(torch.from_numpy(found + np.sqrt(self.noise) * drawn).float())


def ask(learner, **settings):
    train = Examples(torch.zeros(N, 1), torch.zeros(N))
    question = Question(learner, train, Examples(torch.arange(M)[:, None], torch.zeros(M)), outputs.value)
    return linear_residual(question, MemoryLab(), **settings)


@pytest.mark.parametrize("p", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("weights", [(1.0,), (0.8, 0.2), (0.5, 0.5)])
def test_known_weights_are_found(p, weights):
    found = ask(Polynomial(weights, p, noise=0.25), pairs=120, fraction=p, seed=2)
    low, high = found.linear_interval
    assert low - 0.02 <= weights[0] <= high + 0.02
    assert found.linear == pytest.approx(weights[0], abs=0.12)
    assert found.noise == pytest.approx(0.2, abs=0.05)
    assert found.noise_interval[0] < 0.2 < found.noise_interval[1]
    assert sum(found.by_degree) == pytest.approx(1.0) and found.residual == pytest.approx(1 - found.linear)


def test_intervals_over_many_worlds():
    truth, inside, found = 0.7, [], []
    for seed in range(8):
        answer = ask(Polynomial((0.7, 0.3), noise=0.5), pairs=60, seed=seed)
        inside.append(answer.linear_interval[0] <= truth <= answer.linear_interval[1])
        found.append(answer.linear)
    assert np.mean(inside) >= 0.75
    assert np.mean(found) == pytest.approx(truth, abs=0.06)


def test_a_linear_learner_without_a_seed_is_linear():
    found = ask(Polynomial((2.0,)), pairs=150)
    assert found.noise == 0.0
    assert found.linear > 0.9 and found.linear_interval[1] > 0.98
    even = ask(Polynomial((0.0, 1.0)), pairs=100)
    assert even.linear < 0.15


def test_the_families_have_the_correlations_that_were_asked_for():
    subsets = correlated_subsets(400, 50, 0.3, (0.5, 0.8), seed=3)
    base, again, half, close = subsets.masks().reshape(4, 50, 400)
    assert (base == again).all()
    assert len({subsets.train_seed(k, 0) for k in range(200)}) == 200, "every training has a seed of its own"
    for copy, rho in ((half, 0.5), (close, 0.8)):
        assert np.corrcoef(base.ravel(), copy.ravel())[0, 1] == pytest.approx(rho, abs=0.03)
        assert copy.mean() == pytest.approx(0.3, abs=0.01)
    assert np.corrcoef(half.ravel(), close.ravel())[0, 1] == pytest.approx(0.4, abs=0.03)
    longer = correlated_subsets(400, 60, 0.3, (0.5, 0.8), seed=3).masks().reshape(4, 60, 400)
    assert (longer[:, :50] == subsets.masks().reshape(4, 50, 400)).all()


def test_it_is_reproducible_reads_and_goes_to_json():
    one, two = (ask(Polynomial((0.8, 0.2), noise=0.3), pairs=40, seed=5) for _ in range(2))
    assert one == two
    assert str(one).startswith("the best linear datamodel explains 0.")
    assert str(one).endswith("12 targets, 160 models")
    facts = json.loads(json.dumps(one.to_json()))
    assert facts["linear"] == one.linear and facts["linear_interval"] == list(one.linear_interval)
    assert facts["residual"] == one.residual and len(facts["by_degree"]) == 3


class Diverging(MemoryLab):
    """A lab where some trainings of each family diverge."""

    def __init__(self, bad):
        super().__init__()
        self.bad = bad

    def outcomes(self, question, subsets, *, repeats=1):
        found = super().outcomes(question, subsets, repeats=repeats)
        values = found.values.copy()
        values[: self.bad] = np.nan
        return Outcomes.from_arrays(subsets.masks(), values)


def test_families_with_a_diverged_run_are_left_out():
    train = Examples(torch.zeros(N, 1), torch.zeros(N))
    question = Question(
        Polynomial(noise=0.1), train, Examples(torch.arange(M)[:, None], torch.zeros(M)), outputs.value
    )
    found = linear_residual(question, Diverging(4), pairs=30)
    assert (found.families, found.models) == (26, 120) and "4 of 30 families" in found.notes[0]
    with pytest.raises(BadInput, match=r"dl-766.*9 families"):
        linear_residual(question, Diverging(21), pairs=30)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pairs": 9},
        {"rhos": ()},
        {"rhos": (1.0,)},
        {"rhos": (0.5, 0.0)},
        {"fraction": 1.0},
        {"fraction": 0.01},
        {"level": 95.0},
        {"resamples": 5},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong):
    with pytest.raises(BadInput, match="dl-765"):
        ask(Polynomial(), **wrong)


def test_outputs_that_do_not_vary_are_refused():
    with pytest.raises(BadInput, match="dl-766"):
        ask(Polynomial((0.0,)), pairs=20)


def test_finished_models_cannot_be_asked():
    class Finished:
        def models(self):
            return []

        def subsets(self, n):  # noqa: ARG002
            return None

    data = Examples(torch.eye(4), torch.ones(4))
    question = Question(RidgeLearner(), data, data, outputs.value)
    with pytest.raises(CapabilityError, match="dl-207"):
        linear_residual(
            dataclasses.replace(question, learner=Finished()), MemoryLab(), pairs=20, fraction=0.9
        )


@dataclasses.dataclass(frozen=True)
class Batched(Polynomial):
    """The same, with a batch size to read."""

    batch_size: int = 10


@pytest.mark.parametrize(("batch", "told"), [(10, True), (40, False)])
def test_a_jump_in_the_number_of_steps_is_told(batch, told):
    """Halves of 40 examples have about 20, which batches of 10 cut into 2 or 3 steps, and batches of 40 into one."""
    found = ask(Batched(batch_size=batch), pairs=40)
    assert any("steps of 10 examples" in note for note in found.notes) == told
