"""Datamodels with a prior, on the oracle whose outputs are exactly linear in the weights of its examples."""

import dataclasses

import numpy as np
import pytest
import torch

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import identity
from dataloupe.core import DenseAttribution, Examples, Info, MemoryLab, Question, Subsets
from dataloupe.judge import lds
from dataloupe.methods import TRAK, Datamodel, RandomScores
from dataloupe.methods._prior import check_prior
from dataloupe.solve import prior_lasso, prior_ridge
from dataloupe.testing import RidgeLearner

N, M = 40, 6
SUBSETS = Subsets(n=N, count=30)


def question(noise=0.0, penalty=5.0):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.standard_normal((N, 3)), dtype=torch.float32)
    y = x @ torch.tensor([1.0, -2.0, 0.5]) + torch.tensor(rng.standard_normal(N), dtype=torch.float32)
    phi = torch.tensor(rng.standard_normal((M, 3)), dtype=torch.float32)
    return Question(
        RidgeLearner(penalty, noise), Examples(x, y), Examples(phi, torch.zeros(M)), outputs.value
    )


def guess(seed=0, scale=1.0):
    return DenseAttribution(
        scale * np.random.default_rng(seed).standard_normal((M, N)), Info("a guess"), units="relative"
    )


@pytest.fixture(scope="module")
def lab():
    return MemoryLab()


def test_it_is_the_solver_on_the_outcomes(lab):
    asked, prior = question(), guess()
    found = Datamodel(SUBSETS, prior=prior).attribute(asked, lab)
    values = lab.outcomes(asked, SUBSETS).mean().astype(np.float64)
    solved = prior_ridge(SUBSETS.masks(), values, prior.scores)
    np.testing.assert_allclose(found.scores, solved.weights, rtol=1e-6)
    assert (found.units, found.info.method) == ("output", "Datamodel (toward a guess)")
    assert found.info.certificate["similarity"] == solved.similarity
    assert found.error([[0, 1]]).shape == (1, M)


def test_a_prior_helps_where_models_are_few(lab):
    asked = question(noise=1.0)
    prior = Datamodel(Subsets(n=N, count=300, seed=5)).attribute(asked, lab)
    fresh = lab.outcomes(question(), Subsets(n=N, count=60, seed=1))
    alone, both = [], []
    for seed in (4, 6, 7, 8, 9):  # 25 models choose how far to lean on it: not well in every draw
        few = Subsets(n=N, count=25, seed=seed)
        alone.append(lds(Datamodel(few).attribute(asked, lab), fresh).value)
        both.append(lds(Datamodel(few, prior=prior).attribute(asked, lab), fresh).value)
    assert np.median(both) > np.median(alone) + 0.1
    assert np.median(both) > lds(prior, fresh).value - 0.1


def test_a_method_as_the_prior_is_asked_in_the_same_lab(lab):
    asked = question()
    given = RandomScores(seed=3).attribute(asked, lab)
    one = Datamodel(SUBSETS, prior=RandomScores(seed=3)).attribute(asked, lab)
    np.testing.assert_array_equal(one.scores, Datamodel(SUBSETS, prior=given).attribute(asked, lab).scores)
    assert one.info.cost["prior"] == given.info.cost


def test_what_it_needs_is_what_both_need():
    asked = dataclasses.replace(question(), learner=RidgeLearner())
    alone, both = Datamodel(SUBSETS), Datamodel(SUBSETS, prior=RandomScores())
    assert both.needs(asked) == alone.needs(asked)
    its = TRAK(models=10, fraction=1.0)
    needs = Datamodel(SUBSETS, prior=its).needs(asked)
    assert needs.trainings == SUBSETS.count + its.needs(asked).trainings
    assert needs.gradient_passes == 10
    assert needs.fraction * needs.trainings == pytest.approx(15 + its.needs(asked).trainings)


def test_the_prior_is_part_of_what_it_is():
    names = [
        identity(Datamodel(SUBSETS)),
        identity(Datamodel(SUBSETS, prior=guess())),
        identity(Datamodel(SUBSETS, prior=guess(seed=1))),
        identity(Datamodel(SUBSETS, prior=TRAK(models=2))),
        identity(Datamodel(SUBSETS, prior=TRAK(models=3))),
    ]
    assert len(set(names)) == len(names)
    assert "prior" not in Datamodel(SUBSETS).settings()
    assert identity(Datamodel(SUBSETS, prior=guess())) == names[1]


def test_notes_say_what_does_not_match(lab):
    odd = dataclasses.replace(guess(), info=Info("a guess", removal="mask", question="another"))
    found = Datamodel(SUBSETS, prior=odd).attribute(question(), lab)
    assert "made under mask, the retrainings under repack" in found.info.note
    assert "answers another question" in found.info.note


@pytest.mark.parametrize(
    ("shape", "code"),
    [((M, N - 1), "dl-713"), ((M + 1, N), "dl-713")],
)
def test_a_prior_of_other_data_is_refused_before_anything_trains(shape, code):
    lab = MemoryLab()
    lab.outcomes = None
    prior = DenseAttribution(np.zeros(shape), Info("zeros"))
    with pytest.raises(BadInput, match=code):
        Datamodel(SUBSETS, prior=prior).attribute(question(), lab)


def test_a_prior_without_models_is_refused_before_anything_trains():
    lab = MemoryLab()
    lab.outcomes = None
    with pytest.raises(CapabilityError, match="dl-205"):
        Datamodel(SUBSETS, prior=TRAK()).attribute(question(), lab)


def test_with_the_lasso_it_is_the_mixture_of_the_solvers(lab):
    asked, prior = question(), guess()
    found = Datamodel(SUBSETS, estimator="lasso", prior=prior).attribute(asked, lab)
    values = lab.outcomes(asked, SUBSETS).mean().astype(np.float64)
    solved = prior_lasso(SUBSETS.masks(), values, prior.scores)
    np.testing.assert_allclose(found.scores, solved.weights, rtol=1e-5, atol=1e-7)
    assert (found.units, found.info.method) == ("output", "Datamodel (lasso and toward a guess)")
    assert found.info.certificate["share_of_lasso"] == pytest.approx(solved.share, abs=1e-4)
    assert found.info.certificate["gap"] < 1e-4
    assert found.error([[0, 1]]).shape == (1, M)


@pytest.mark.parametrize("estimator", ["ols", "means"])
def test_only_ridge_and_lasso_take_a_prior(estimator):
    with pytest.raises(BadInput, match="dl-714"):
        Datamodel(SUBSETS, estimator=estimator, prior=guess())


def test_a_name_is_no_prior():
    with pytest.raises(BadInput, match="dl-714"):
        check_prior("trak", "ridge")
