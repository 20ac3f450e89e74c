"""A request to forget: refused where it cannot be meant, counted, and undone where it diverges."""

import numpy as np
import pytest
import torch
from unlearning_cases import FORGET, Poison, assert_same, context, digits, numbers

from dataloupe import data, outputs
from dataloupe._errors import BadInput, CapabilityError
from dataloupe.core import Question, Subsets
from dataloupe.learners import SklearnLearner
from dataloupe.testing import RidgeLearner
from dataloupe.unlearning import GradientAscent, GradientDescent, NewtonStep, rows_digest, unlearn


def forgotten(forget=FORGET, models=None, method=None, **more):
    case = digits()
    given = {"method": method or GradientDescent(epochs=1), "lab": case.lab, "question": case.question}
    return unlearn(models if models is not None else case.models[0], forget, **(given | more))


@pytest.mark.parametrize(
    ("forget", "code"),
    [
        ([], "dl-108"),
        ([300], "dl-109"),
        ([-1], "dl-109"),
        ([1, 2, 1], "dl-110"),
        (np.arange(300) < 10, "dl-111"),
        (np.arange(300), "dl-661"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_rows_that_cannot_be_meant(forget, code):
    with pytest.raises(BadInput, match=code):
        forgotten(forget)


def test_nothing_is_forgotten_twice():
    once = forgotten([4, 5])
    with pytest.raises(BadInput, match="dl-661.*row 5"):
        forgotten([5, 6], models=once.model)
    again = forgotten([6], models=once.model)
    assert np.flatnonzero(~again.model.origin.kept).tolist() == [4, 5, 6]


def test_all_that_is_left_cannot_go():
    once = forgotten(np.arange(299))
    with pytest.raises(BadInput, match="dl-661.*every training row"):
        forgotten([299], models=once.model)


def test_models_of_other_data_are_refused():
    case = digits()
    other = Question(case.question.learner, data.digits()[1], case.question.targets, outputs.margin)
    with pytest.raises(BadInput, match="dl-666.*trained on the data"):
        forgotten([1], models=case.models[0], question=other)


def test_models_of_several_subsets_are_refused():
    case = digits()
    halves = case.lab.models(case.question, Subsets(n=300, count=2))
    both = np.flatnonzero(halves[0].origin.kept & halves[1].origin.kept)
    with pytest.raises(BadInput, match="dl-666.*other rows"):
        forgotten(both[:3], models=halves)
    with pytest.raises(BadInput, match="dl-661"):
        forgotten(np.flatnonzero(~halves[0].origin.kept)[:1], models=halves[0])
    assert forgotten(both[:3], models=halves[0]).retraining == 5 * 147


def test_no_models_and_models_of_several_structures():
    case = digits()
    with pytest.raises(BadInput, match="dl-666.*none"):
        forgotten(models=[])
    model = case.models[0]
    narrow = model.with_params({name: p[:1] for name, p in model.params.items()})
    with pytest.raises(BadInput, match="dl-666.*several structures"):
        forgotten(models=[model, narrow])


@pytest.mark.parametrize(
    "learner", [SklearnLearner.ridge_classifier(), RidgeLearner()], ids=["sklearn", "ridge"]
)
def test_a_learner_without_steps_is_refused(learner):
    case = digits()
    question = Question(learner, case.question.train, case.question.targets, outputs.margin)
    with pytest.raises(CapabilityError, match="dl-662"):
        forgotten(question=question)


def test_a_model_of_unknown_origin_is_taken_to_know_all_rows():
    case = digits()
    bare = type(case.models[0])(case.models[0].module, case.models[0].params)
    found = forgotten(models=bare)
    assert "nobody knows" in found.notes[0]
    assert found.model.origin.kept.sum() == 300 - len(FORGET)


@pytest.mark.parametrize(
    "method",
    [GradientDescent(epochs=2, lr=1e30), GradientAscent(epochs=2, lr=1e30)],
    ids=["descent", "ascent"],
)
def test_a_model_that_diverges_comes_back_as_it_was(method):
    case = digits()
    before = [numbers(model) for model in case.models]
    found = forgotten(models=case.models, method=method)
    assert not found.finite.any() and "3 of 3 diverged" in found.notes[0] and "3 diverged" in str(found)
    for model, given, known in zip(found.models, case.models, before, strict=True):
        assert_same(numbers(model), known)
        assert_same(numbers(given), known)
        assert model.origin.kept.all(), "it still knows the rows"


def test_one_of_several_may_diverge():
    case = digits()
    found = forgotten(models=case.models, method=Poison())
    assert found.finite.tolist() == [True, False, True]
    assert_same(numbers(found.models[1]), numbers(case.models[1]))
    assert [one.origin.kept[FORGET].any() for one in found.models] == [False, True, False]


def test_what_it_says():
    found = forgotten()
    assert str(found) == "gradient descent: 40 rows forgotten by a model, 20.0% of a retraining each"
    assert (found.passes, found.retraining, found.share) == (260, 1300, 0.2)
    assert found.facts["settings"]["epochs"] == 1 and found.facts["forget"] == rows_digest(FORGET[::-1])
    assert [name for name, _ in found.stages] == ["descent"]


def test_a_method_of_ones_own_is_called_model_by_model():
    class Own:
        name = "own"
        settings = 1

        def __call__(self, model, context):
            context.ledger.book(10 * (1 + context.first))
            context.ledger.stages.append(("step", [float(context.first)]))
            return model

        def __identity__(self):
            return {"settings": 1}

    case = digits()
    found = forgotten(models=case.models, method=Own())
    assert found.passes == 20 and found.stages == [("step", [0.0, 1.0, 2.0])]


def test_a_method_that_cannot_be_told_is_refused_before_it_works():
    class Secret:
        name = "secret"
        source = (number for number in range(3))

        def __call__(self, model, context):
            raise AssertionError(f"{model} in {context}: it worked before it was refused")

    with pytest.raises(BadInput, match="dl-102.*`source`"):
        forgotten(method=Secret())


def test_several_have_no_single_model():
    case = digits()
    with pytest.raises(BadInput, match="dl-665"):
        _ = forgotten(models=case.models).model


def test_seeds_matter_and_nothing_else():
    a, b, c = (forgotten(seed=seed).model for seed in (0, 0, 1))
    assert_same(numbers(a), numbers(b))
    assert not torch.equal(a.params["0.weight"], c.params["0.weight"])


def test_rows_are_forgotten_in_any_order():
    a, b = (forgotten(ids, method=NewtonStep(rows=50, iterations=2)).model for ids in (FORGET, FORGET[::-1]))
    assert_same(numbers(a), numbers(b))


def test_a_context_knows_what_stays():
    asked = context(digits())
    assert np.intersect1d(asked.retained, FORGET).size == 0
    assert len(asked.retained) + len(FORGET) == 300
