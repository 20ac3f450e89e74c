"""Matching reaches aims that can be reached, costs what its formula says, and leaves the given model alone."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from unlearning_cases import FORGET, assert_same, context, digits, norms, numbers

from dataloupe._errors import BadInput, CapabilityError
from dataloupe.core import Subsets
from dataloupe.lab import Lab
from dataloupe.unlearning import DMM, DMDirect, Mix, OracleMatching, Retrain, Unlearner, everything, unlearn
from dataloupe.unlearning._context import predicted

QUICK = Mix(epochs=3, lr=0.005, ratio=4.0)


class Given:
    """A predictor that is told the changes."""

    def __init__(self, changes):
        self._changes = changes

    def changes(self, context):  # noqa: ARG002
        return self._changes


def truth(case):
    """What retraining does on average, to every prediction of every row."""
    every, n = everything(case.question), case.question.n
    mask = np.ones((8, n), dtype=bool)
    mask[:, FORGET] = False
    without = case.lab.outcomes(every, Subsets.listed(mask, seed=1)).values.mean((0, 1))
    before = case.lab.outcomes(every, Subsets.full(n, 8, seed=2)).values.mean((0, 1))
    return (without - before).reshape(len(every.targets), -1)


def away(models, aims, ids, data):
    return np.mean(
        [float((predicted(m, data, ids) - a[ids]).square().mean()) for m, a in zip(models, aims, strict=True)]
    )


def test_dmm_comes_near_to_its_aims_on_the_rows_to_forget():
    case = digits()
    changes = 3 * truth(case)
    aims = [
        predicted(m, case.question.train, np.arange(300)) + torch.from_numpy(changes[:300])
        for m in case.models
    ]
    before = [numbers(model) for model in case.models]
    found = DMM(Given(changes), Mix(epochs=6, lr=0.01, ratio=4.0)).many(case.models, context(case))
    start, end = (away(models, aims, FORGET, case.question.train) for models in (case.models, found))
    assert end < 0.4 * start
    for model, kept in zip(case.models, before, strict=True):
        assert_same(numbers(model), kept)


def test_a_reach_is_that_much_more_of_the_change_of_rows_to_forget_alone():
    case = digits()
    changes, further = truth(case), truth(case)
    further[FORGET] *= 1.4
    reached = DMM(Given(changes), dataclasses.replace(QUICK, reach=1.4)).many(case.models, context(case))
    told = DMM(Given(further), dataclasses.replace(QUICK, reach=1.0)).many(case.models, context(case))
    for one, other in zip(reached, told, strict=True):
        assert_same(numbers(one), numbers(other), 1e-4)


def test_no_change_asked_for_is_no_change_made():
    case = digits()
    still = np.zeros((400, 10))
    found = DMM(Given(still), QUICK).many(case.models, context(case))
    for model, own in zip(found, case.models, strict=True):
        assert_same(numbers(model), numbers(own), 1e-6)


@pytest.mark.parametrize("case", [digits, norms])
def test_many_are_what_one_after_the_other_is_in_either_lab(case, tmp_path):
    case = case()
    method = DMM(Given(truth(case)), QUICK)
    asked = context(case)
    together = method.many(case.models, asked)
    labelled = context(case)
    object.__setattr__(labelled, "lab", Lab(tmp_path, progress=False))
    stacked = method.many(case.models, labelled)
    for i, model in enumerate(case.models):
        alone = method(model, asked.at(i))
        assert_same(numbers(alone), numbers(together[i]), 1e-5)
        assert_same(numbers(stacked[i]), numbers(together[i]), 1e-4)


def test_matching_costs_what_it_shows_and_a_third_of_the_rows_it_aims_at():
    case = digits()
    asked = context(case)
    DMM(Given(np.zeros((400, 10))), QUICK).many(case.models, asked)
    draw, repeat = QUICK.sizes(len(FORGET), 260)
    shown = QUICK.epochs * (draw + repeat * len(FORGET))
    assert shown < asked.ledger.passes <= shown + (300 + len(FORGET)) / 3
    done = unlearn(case.models, FORGET, method=OracleMatching(QUICK), lab=case.lab, question=case.question)
    assert 1.0 < done.share < 2.0


def test_oracle_matching_goes_to_a_true_oracle():
    case = digits()
    asked = context(case)
    oracles = Retrain().many(case.models, asked)
    assert all(not model.origin.kept[FORGET].any() for model in oracles)
    aims = [predicted(m, case.question.train, np.arange(300)) for m in oracles]
    found = OracleMatching(Mix(epochs=6, lr=0.01, ratio=4.0)).many(case.models, context(case))
    start, end = (away(models, aims, FORGET, case.question.train) for models in (case.models, found))
    assert end < 0.5 * start


def test_direct_is_the_prediction_itself_and_refuses_rows_it_does_not_know():
    case = digits()
    changes = np.random.default_rng(0).standard_normal((400, 10))
    model = DMDirect(Given(changes))(case.models[0], context(case))
    for data, start in ((case.question.train, 0), (case.question.targets, 300)):
        rows = data.take([5, 2]).inputs
        expected = case.models[0].predict(rows).detach() + torch.from_numpy(changes[[start + 5, start + 2]])
        torch.testing.assert_close(
            model.predict(rows).detach().double(), expected.double(), rtol=1e-5, atol=1e-5
        )
    with pytest.raises(CapabilityError, match="dl-691"):
        model.predict(torch.full((1, 64), 0.123))


@given(forget=st.integers(1, 500), retained=st.integers(1, 5000), share=st.floats(0.05, 0.9))
def test_the_mix_holds_at_least_the_share_asked_for_and_no_more_than_there_is(forget, retained, share):
    draw, repeat = Mix(forget_share=share).sizes(forget, retained)
    assert draw <= retained
    got = repeat * forget / (repeat * forget + draw)
    assert got >= share - 1e-6
    assert repeat == 1 or (repeat - 1) * forget / ((repeat - 1) * forget + draw) < share


def test_a_mix_that_cannot_be_meant():
    for settings in (
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": -1.0},
        {"forget_share": 1.0},
        {"ratio": -1.0},
        {"least": 2.0},
        {"reach": 0.0},
    ):
        with pytest.raises(BadInput, match="dl-690"):
            Mix(**settings)
    assert all(isinstance(m, Unlearner) for m in (DMM(Given(None)), OracleMatching(), DMDirect(Given(None))))


@pytest.mark.parametrize("forget", [3, 40, 400])
def test_batches_stay_small_whatever_the_request(forget):
    """Large requests take more steps: larger ones at as many steps do not reach their aims."""
    rows = np.arange(4000)
    mix = Mix(epochs=2)
    epochs = mix.batches(rows[:forget], rows[forget:])
    draw, repeat = mix.sizes(forget, 4000 - forget)
    for epoch in epochs:
        sizes = [len(turn.ids) for turn in epoch(0)]
        assert max(sizes) <= 8 and len(sizes) == -(-(draw + repeat * forget) // 8)
