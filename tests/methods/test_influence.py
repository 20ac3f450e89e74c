"""Influence (EK-FAC): its damping chosen by brute force, its pieces remembered, its groups retrained."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe import outputs
from dataloupe._errors import BadInput, TrainingError
from dataloupe.core import Direct, Examples, MemoryLab, Question, Subsets, Swept
from dataloupe.learners import Checkpoints
from dataloupe.methods import Influence
from dataloupe.testing import RidgeLearner

N, M, K = 30, 5, 4
MASKS = Subsets(n=N, count=K, seed=5).masks()


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def states():
    """Four small networks, each with numbers of its own."""
    shapes = {name: p.shape for name, p in network().state_dict().items()}
    return [
        {name: numbers(*shape, seed=10 * k + i) for i, (name, shape) in enumerate(shapes.items())}
        for k in range(K)
    ]


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def question(models=range(K), known=True, targets=1):
    asked = numbers(M, 3, seed=targets)
    few = [states()[k] for k in models]
    train = Examples(numbers(N, 3), numbers(N, seed=2))
    source = Checkpoints(network, few, kept=MASKS[list(models)] if known else None)
    return Question(source, train, Examples(asked, torch.zeros(M)), outputs.value)


class Counting(MemoryLab):
    """Counts its passes, and stops at one if told to."""

    def __init__(self, stop=-1):
        super().__init__()
        self.passes = []
        self.stop = stop

    def gradients(self, question, subsets, k, side, use, scale=None):
        if side == "train" and sum(one == "train" for _, one in self.passes) == self.stop:
            raise KeyboardInterrupt
        self.passes.append((k, side))
        return super().gradients(question, subsets, k, side, use, scale)

    def taken(self):
        """The models of the passes over training rows since it was asked last."""
        found = [k for k, side in self.passes if side == "train"]
        self.passes.clear()
        return found


def test_the_damping_is_the_one_that_predicts_held_out_models_best():
    """Brute force: for every damping, K attributions by the other models, each asked about the one left out."""
    grid = (0.1, 3.0, 30.0)
    lab, asked = MemoryLab(), question()
    measured = np.stack([asked.measure(model) for model in asked.learner.models()]).astype(np.float64)
    reached = {}
    for damping in grid:
        guess = []
        for k in range(K):
            others = question([i for i in range(K) if i != k])
            scores = Influence(models=K - 1, damping=damping).attribute(others, lab).scores
            guess.append(scores.astype(np.float64) @ (MASKS[k] - MASKS.mean(0)))
        guess = np.stack(guess)
        reached[f"{damping:g}"] = np.mean(
            [np.corrcoef(a, b)[0, 1] for a, b in zip(guess.T, measured.T, strict=True)]
        )
    found = Influence(models=K).attribute(asked, lab)
    told = found.info.certificate
    assert told["damping_chosen"] == "on held-out models"
    every = told["held_out_correlation"]
    assert {name: every[name] for name in reached} == {
        name: pytest.approx(r, abs=2e-4) for name, r in reached.items()
    }
    assert len(set(reached.values())) == len(grid)
    assert every[f"{told['damping']:g}"] >= max(every.values()) - 0.01
    given = Influence(models=K, damping=told["damping"]).attribute(asked, lab)
    np.testing.assert_array_equal(found.scores, given.scores)


def test_where_held_out_models_cannot_tell_a_rule_does():
    few = Influence(models=2).attribute(question(), MemoryLab()).info.certificate
    unknown = Influence(models=K).attribute(question(known=False), MemoryLab()).info.certificate
    for told in (few, unknown):
        assert told["damping"] == 1.0 and "rule" in told["damping_chosen"]
        assert "held_out_correlation" not in told


def test_pieces_are_remembered_and_give_the_same_bits():
    """Another damping, other targets and further models cost the last pass, a second answer none."""
    lab = Counting()
    Influence(models=2, damping=0.3).attribute(question(), lab)
    assert sorted(lab.taken()) == [0, 0, 0, 1, 1, 1]
    three = Influence(models=3, damping=0.3).attribute(question(), lab)
    assert lab.taken() == [2, 2, 2]
    other = Influence(models=3, damping=1.0).attribute(question(), lab)
    assert lab.taken() == [0, 1, 2]
    asked = question(targets=3)
    elsewhere = Influence(models=3, damping=0.3).attribute(asked, lab)
    assert lab.taken() == [0, 1, 2]
    three.parts()[1].scores  # noqa: B018  (read from what is remembered)
    Influence(models=3, damping=0.3).attribute(question(), lab)
    assert not lab.passes
    for found, method, which in (
        (three, Influence(models=3, damping=0.3), question()),
        (other, Influence(models=3, damping=1.0), question()),
        (elsewhere, Influence(models=3, damping=0.3), asked),
    ):
        np.testing.assert_array_equal(found.scores, method.attribute(which, MemoryLab()).scores)


def test_needs_tell_what_is_kept():
    """Array by array; what names the target rows does not count."""
    for method in (Influence(models=3), Influence(models=3, damping=0.3)):
        lab = MemoryLab()
        method.attribute(question(), lab)
        kept = [arrays.items() for arrays, _ in lab._known.values()]
        needs = method.needs(question())
        assert needs.disk_bytes == sum(array.nbytes for one in kept for name, array in one if name != "index")
        assert needs.gradient_passes == 9 and needs.trainings == 0
    assert Influence().needs(dataclasses.replace(question(), learner=RidgeLearner())).trainings == 10


def test_chosen_on_other_targets_it_costs_the_last_pass():
    lab = Counting()
    Influence(models=3).attribute(question(), lab)
    assert sorted(lab.taken()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    Influence(models=3).attribute(question(targets=3), lab)
    assert lab.taken() == [0, 1, 2]


def test_a_killed_run_loses_one_pass():
    """Stopped before each of its passes over the training rows in turn, it makes none of them twice."""
    expected = Influence(models=3).attribute(question(), MemoryLab()).scores
    lab = Counting()
    for lab.stop in range(9):
        with pytest.raises(KeyboardInterrupt):
            Influence(models=3).attribute(question(), lab)
    lab.stop = -1
    np.testing.assert_array_equal(Influence(models=3).attribute(question(), lab).scores, expected)
    assert lab.taken() == [0, 1, 2, 0, 1, 2, 0, 1, 2]


def test_single_models_are_its_parts():
    found = Influence(models=3, damping=0.3).attribute(question(), MemoryLab())
    alone = [Influence(models=1, damping=0.3).attribute(question([k]), MemoryLab()).scores for k in range(3)]
    assert len(found.parts()) == 3
    for part, scores in zip(found.parts(), alone, strict=True):
        np.testing.assert_allclose(part.scores, scores, rtol=1e-5, atol=1e-7)


@dataclasses.dataclass(frozen=True)
class Solved(RidgeLearner):
    """Least squares that shows the model of all the data."""

    def models(self):
        return [self.train(least_squares(), torch.ones(N), seed=0)]

    def subsets(self, n):
        return Subsets.full(n, 1)


def least_squares():
    x = numbers(N, 3)
    return Examples(x, x @ numbers(3, seed=1) + numbers(N, seed=2))


def test_groups_as_groups_are_what_retraining_without_them_gives():
    """Least squares: one Newton step is exact, and a cluster does more than the sum of its rows."""
    asked = Question(
        Solved(penalty=1e-6), least_squares(), Examples(numbers(M, 3, seed=3), torch.zeros(M)), outputs.value
    )
    lab, method = MemoryLab(), Influence(models=1, damping=1e-6, curved=False)
    found = method.attribute(asked, lab)
    groups = [[3], [0, 1, 2, 3, 4], list(range(15))]
    values = MemoryLab().outcomes(asked, Subsets.without(N, [[], *groups])).values[:, 0].astype(np.float64)
    truth = values[1:] - values[0]
    told = found.effect(groups, kind="group")
    np.testing.assert_allclose(told, truth, atol=2e-3 * np.abs(truth).max())
    assert np.abs(found.effect(groups) - truth).max() > 20 * np.abs(told - truth).max()
    again = method.attribute(asked, lab)  # remembered
    np.testing.assert_array_equal(again.effect(groups, kind="group"), told)


def test_a_group_that_leaves_no_curvature_is_refused():
    """Rows between the coordinates: each takes more there than the diagonal holds."""
    asked = question()
    found = Influence(models=1, damping=1e-6, curved=False).attribute(asked, MemoryLab())
    with pytest.raises(BadInput, match=r"dl-738.*larger damping"):
        found.effect([list(range(N))], kind="group")


class Broken(MemoryLab):
    """The gradients of some models are not finite, on one side."""

    def __init__(self, bad, side):
        super().__init__()
        self.bad, self.side = bad, side

    def gradients(self, question, subsets, k, side, use, scale=None):
        broken = k in self.bad and side == self.side

        def through(name, found, place):
            use(name, [Direct(one.product() * np.nan) for one in found] if broken else found, place)

        return Swept(*super().gradients(question, subsets, k, side, through, scale))


@pytest.mark.parametrize("side", ["train", "targets"])
def test_a_diverged_model_is_left_out_and_counted(side):
    found = Influence(models=3, damping=0.3).attribute(question(), Broken({1}, side))
    assert found.info.certificate["left_out"] == 1 and "1 models without finite" in found.info.note
    without = Influence(models=2, damping=0.3).attribute(question([0, 2]), MemoryLab())
    np.testing.assert_allclose(found.scores, without.scores, rtol=1e-5, atol=1e-7)
    with pytest.raises(TrainingError, match="dl-712"):
        Influence(models=2).attribute(question(), Broken({0, 1}, side))
