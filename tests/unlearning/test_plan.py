"""What unlearning would cost: shares as the ledger books them, totals against retraining, and how hard it looks."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe import BadInput, CapabilityError, outputs, unlearning
from dataloupe.core import Examples, MemoryLab, Question, Subsets, TorchModel, torch_model
from dataloupe.learners import SGD, SklearnLearner
from dataloupe.unlearning import (
    DMM,
    Context,
    DMDirect,
    Mix,
    OracleMatching,
    PlannedCost,
    Regression,
    plan_unlearning,
    unlearn,
)

N, FORGET = 60, [3, 8, 20, 41]
BASELINES = (
    "Retrain",
    "GradientDescent",
    "GradientAscent",
    "AscentDescent",
    "NegGradPlus",
    "SCRUB",
    "L1Sparse",
    "CFk",
    "EUk",
)


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))


@pytest.fixture(scope="module")
def question() -> Question:
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(N + 20, 5)).astype(np.float32))
    data = Examples(inputs, labels=torch.arange(N + 20) % 3)
    learner = SGD(make_model, epochs=6, lr=0.05, momentum=0.9, batch_size=16)
    return Question(learner, data[:N], data[N:], outputs.margin)


@dataclasses.dataclass(frozen=True)
class Told:
    """Changes that somebody tells."""

    changed: np.ndarray
    trainings: int = 10

    def changes(self, context: Context) -> np.ndarray:
        assert context.question.n == N
        return self.changed


@pytest.fixture
def by() -> Told:
    return Told(np.random.default_rng(1).normal(size=(N + 20, 3)))


def booked(method: unlearning.Unlearner, question: Question) -> float:
    """The share that the method reports when it runs."""
    lab = MemoryLab()
    models: list[TorchModel] = [torch_model(one) for one in lab.models(question, Subsets.full(N, 3))]
    return unlearn(models, FORGET, method=method, lab=lab, question=question).share


@pytest.mark.parametrize("mix", [Mix(), Mix(epochs=2, ratio=1.0, least=0.0), Mix(forget_share=0.7)])
def test_the_share_of_matching_is_what_it_books(question: Question, by: Told, mix: Mix) -> None:
    methods = {"DMM": DMM(by, mix), "oracles": OracleMatching(mix), "direct": DMDirect(by)}
    plan = plan_unlearning(question, FORGET, methods=methods)
    for name, method in methods.items():
        assert plan.costs[name].share == pytest.approx(booked(method, question), rel=0.02, abs=1e-9)


@pytest.mark.parametrize("name", BASELINES)
def test_the_share_of_a_baseline_is_what_it_books(question: Question, name: str) -> None:
    kind = getattr(unlearning, name)
    plan = plan_unlearning(question, FORGET, methods={name: kind()})
    assert plan.costs[name].share == pytest.approx(booked(kind(), question), rel=1e-6)


def test_a_newton_step_costs_at_most_what_is_planned(question: Question) -> None:
    kind = unlearning.NewtonStep
    cost = plan_unlearning(question, FORGET, methods={"newton": kind(iterations=4)}).costs["newton"]
    assert cost.most
    assert cost.share is not None
    assert booked(kind(iterations=4), question) <= cost.share + 1e-9


def test_an_unknown_method_costs_an_unknown_share(question: Question) -> None:
    class Own:
        name = "own"

        def __call__(self, model: TorchModel, context: Context, /) -> TorchModel:
            raise AssertionError(f"a plan runs nothing, not {model} in {context}")

    plan = plan_unlearning(question, FORGET, methods={"own": Own()}, requests=3)
    cost = plan.costs["own"]
    assert (cost.share, cost.total, cost.break_even, cost.begins) == (None, None, None, None)
    assert plan.verdict == "retrain"
    assert "unknown" in str(plan)


@pytest.mark.parametrize(
    ("share", "trainings", "begins"),
    [(0.5, 10, 21), (0.25, 10, 14), (0.0, 7, 8), (0.3, 0, 1), (1.0, 0, None), (1.5, 10, None)],
)
def test_the_number_of_requests_that_pays(share: float, trainings: int, begins: int | None) -> None:
    cost = PlannedCost(share, trainings, 1)
    assert cost.begins == begins
    assert cost.break_even == (math.inf if share >= 1 else trainings / (1 - share))
    if begins is not None:
        now, before = (PlannedCost(share, trainings, k).total for k in (begins, begins - 1))
        assert now is not None and before is not None
        assert now < begins
        assert before >= begins - 1, "a tie is a retraining"


def test_the_cheapest_wins_and_ties_go_to_retraining(question: Question, by: Told) -> None:
    methods = {"DMM": DMM(by, Mix(epochs=1, ratio=2.0, least=0.0)), "direct": DMDirect(by)}
    begins = plan_unlearning(question, FORGET, methods=methods).costs["DMM"].begins
    assert begins is not None
    assert plan_unlearning(question, FORGET, methods=methods, requests=begins - 1).verdict == "retrain"
    plan = plan_unlearning(question, FORGET, methods=methods, requests=begins)
    assert plan.verdict == "DMM", "DM-Direct is cheaper and leaves the weights as they are"
    assert "weights keep them" in str(plan)
    assert f"cheapest for {begins} requests: DMM" in str(plan)
    facts = json.loads(json.dumps(plan.to_json()))
    assert facts["verdict"] == "DMM"
    assert facts["costs"]["DMM"]["begins"] == begins
    assert facts["forget"] == FORGET
    oracle = plan_unlearning(question, FORGET, methods={"o": OracleMatching()}).to_json()
    assert oracle["costs"]["o"]["break_even"] is None


def test_rows_that_stay_are_counted(question: Question) -> None:
    inputs = question.train.inputs.clone()
    inputs[[10, 50]] = inputs[3].clone()
    inputs[20] = inputs[41].clone()
    twins = dataclasses.replace(question, train=dataclasses.replace(question.train, inputs=inputs))
    plan = plan_unlearning(twins, FORGET, methods={"o": OracleMatching()})
    assert plan.duplicates.tolist() == [10, 50], "20 and 41 go together"
    assert "2 retained rows (10, 50) have the inputs of a row to forget: these stay" in str(plan)
    assert plan_unlearning(question, FORGET, methods={"o": OracleMatching()}).duplicates.tolist() == []


def test_the_difficulty_is_the_predicted_change_of_margins(question: Question) -> None:
    changed = np.zeros((N + 20, 3))
    changed[FORGET, np.array(FORGET) % 3] = [-1.0, -4.0, 2.0, 0.0]
    plan = plan_unlearning(
        question, FORGET, methods={"o": OracleMatching()}, lab=MemoryLab(), by=Told(changed)
    )
    found = plan.difficulty
    assert found is not None
    assert found.forget[0] == pytest.approx(7 / 4)
    assert [row for row, _ in found.largest] == [8, 20, 3, 41]
    assert [change for _, change in found.largest] == pytest.approx([4, 2, 1, 0])
    assert (found.retained, found.targets) == (0.0, 0.0)
    assert "predicted change of the own margin: 1.75 on rows to forget" in str(plan)


def test_a_regression_predicts_it_from_trainings(question: Question) -> None:
    by = Regression(Subsets(n=N, count=20, fraction=0.75))
    plan = plan_unlearning(question, FORGET, methods={"DMM": DMM(by)}, lab=MemoryLab(), by=by)
    assert plan.costs["DMM"].trainings == 20
    assert plan.difficulty is not None
    assert np.isfinite([*plan.difficulty.forget, plan.difficulty.retained]).all()


def test_of_regression_values_it_is_the_change_of_the_value() -> None:
    rng = np.random.default_rng(2)
    inputs = torch.from_numpy(rng.normal(size=(30, 4)).astype(np.float32))
    data = Examples(inputs, labels=inputs[:, 0])
    learner = SGD(lambda: nn.Linear(4, 1), epochs=2, lr=0.01, loss="squared")
    asked = Question(learner, data[:20], data[20:], outputs.value)
    changed = np.zeros((30, 1))
    changed[5] = -2.5

    class Fixed:
        def changes(self, _: Context) -> np.ndarray:
            return changed

    plan = plan_unlearning(asked, [5], methods={"o": OracleMatching()}, lab=MemoryLab(), by=Fixed())
    assert plan.difficulty is not None
    assert plan.difficulty.largest == ((5, pytest.approx(2.5)),)


def test_what_cannot_be_planned(question: Question, by: Told) -> None:
    with pytest.raises(BadInput, match="dl-682"):
        plan_unlearning(question, FORGET, methods={})
    with pytest.raises(BadInput, match="dl-682"):
        plan_unlearning(question, FORGET, methods={"o": OracleMatching()}, requests=0)
    with pytest.raises(BadInput, match="dl-683"):
        plan_unlearning(question, FORGET, methods={"o": OracleMatching()}, by=by)
    with pytest.raises(BadInput, match="dl-109"):
        plan_unlearning(question, [N], methods={"o": OracleMatching()})
    with pytest.raises(BadInput, match="dl-661"):
        plan_unlearning(question, range(N), methods={"o": OracleMatching()})
    other = dataclasses.replace(question, learner=SklearnLearner.ridge_classifier())
    with pytest.raises(CapabilityError, match="dl-662"):
        plan_unlearning(other, FORGET, methods={"o": OracleMatching()})
