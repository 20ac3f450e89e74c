"""An audit tells retraining from doing nothing, counts what diverged, and writes a receipt of what was asked."""

import json

import numpy as np
import pytest
from unlearning_cases import Poison, digits

from dataloupe import outputs
from dataloupe._errors import BadInput
from dataloupe.core import Question, Subsets
from dataloupe.methods import TRAK
from dataloupe.report import report
from dataloupe.unlearning import (
    DoNothing,
    Gates,
    GradientDescent,
    MethodCost,
    Regression,
    Retrain,
    audit,
    rows_digest,
)
from dataloupe.unlearning._audit import trainings_behind

FORGET = np.flatnonzero(digits().question.train.labels.numpy() == 3)


@pytest.fixture(scope="module")
def receipt():
    case = digits()
    methods = {
        "as it was": DoNothing(),
        "retrain": Retrain(),
        "poison": Poison(),
        "descent": GradientDescent(epochs=1),
    }
    return audit(
        methods, FORGET, question=case.question, lab=case.lab, models=16, oracles=16, estimator="gaussian"
    )


def test_retraining_is_at_the_floor_and_nothing_is_at_one(receipt):
    split = {name: method.splits["forget"] for name, method in receipt.audit.methods.items()}
    assert split["nothing"].normalised == 1.0
    assert split["as it was"].normalised == pytest.approx(1.0)
    assert abs(split["retrain"].normalised) < 0.1
    assert split["retrain"].accuracy < 0.2 < split["nothing"].accuracy


def test_the_receipt_names_what_was_asked_and_what_it_cost(receipt):
    assert receipt.digest == rows_digest(FORGET[::-1])
    assert receipt.forget.tolist() == FORGET.tolist()
    assert receipt.costs["retrain"].share == pytest.approx(1.0)
    assert receipt.costs["retrain"].verdict == "no cheaper than retraining"
    assert 0 < receipt.costs["descent"].share < 0.5
    found = json.loads(json.dumps(receipt.to_json()))
    assert found["request"]["forget"] == FORGET.tolist()
    assert found["words"] == "evidence, not proof"
    assert "evidence, not proof" in str(receipt)


def test_gates_say_why(receipt):
    assert receipt.failed("retrain", Gates(forget=0.25, elsewhere=6.0)) == []
    failed = receipt.failed("as it was")
    assert failed[0].startswith("forget: normalised KLoM 1.00")
    assert receipt.failed("poison")[-1] == "8 models diverged"
    assert receipt.audit.diverged["poison"] == 8


def test_a_method_of_which_all_models_diverged_is_told_and_the_others_judged(tmp_path):
    case = digits()
    many = {"question": case.question, "lab": case.lab, "models": 12, "oracles": 12, "estimator": "gaussian"}
    found = audit({"wreck": Poison(every=1), "descent": GradientDescent(epochs=1)}, FORGET, **many)
    assert found.audit.lost == ("wreck",) and "wreck: all 12 models diverged" in str(found)
    assert found.failed("wreck") == ["all 12 models diverged"] and "wreck" not in found.audit.methods
    assert json.loads(json.dumps(found.to_json()))["failed"]["wreck"] == ["all 12 models diverged"]
    page = report(tmp_path / "receipt.html", found).read_text()
    assert "wreck: all 12 models diverged. This is evidence, not proof" in page
    with pytest.raises(BadInput, match="dl-697"):
        audit({"wreck": Poison(every=1)}, FORGET, **many)


def test_break_even_is_trainings_over_what_a_request_saves():
    cost = MethodCost(share=0.05, passes=1.0, seconds=1.0, trainings=1900, settings={})
    assert cost.requests == pytest.approx(2000)
    assert cost.verdict == "cheaper than retraining from 2,001 requests"
    assert trainings_behind(Regression(Subsets(n=9, count=100), prior=TRAK(models=7))) == 107


def test_an_audit_that_cannot_be_meant():
    case = digits()
    many = {"question": case.question, "lab": case.lab, "models": 12, "oracles": 12, "estimator": "gaussian"}
    with pytest.raises(BadInput, match="dl-698"):
        audit([DoNothing(), DoNothing()], FORGET, **many)
    with pytest.raises(BadInput, match="dl-922"):
        audit([GradientDescent(epochs=1)], FORGET, **{**many, "oracles": 3})
    with pytest.raises(BadInput, match="dl-661"):
        audit([GradientDescent()], np.arange(300), **many)
    unnamed = type(case.question.targets)(case.question.targets.inputs)
    odd = Question(
        case.question.learner, case.question.train, unnamed, outputs.Logits(10), train_output=outputs.margin
    )
    with pytest.raises(BadInput, match="dl-696"):
        audit([GradientDescent()], FORGET, **{**many, "question": odd})
