"""``groups`` and the effect size of ``plan``, on the command line."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Run

from dataloupe import apps
from dataloupe.cli import _plan
from dataloupe.cli._base import load_question
from dataloupe.cli._groups import _overall_table
from dataloupe.core import Outcomes, Subsets
from dataloupe.lab import Lab
from dataloupe.store import LocalStore

QUESTION = """
import dataclasses
import torch
import dataloupe.data
from dataloupe import core, outputs, testing

train, test = dataloupe.data.digits()
few = dataclasses.replace(train[:120], meta={"source": ["a", "b", "c"] * 40, "same": [1] * 120})
learner = testing.RidgeLearner(penalty=10.0, classes=10)
question = core.Question(learner, few, test[:12], outputs.margin)
numbers = core.Examples(few.inputs, few.labels.double(), meta=few.meta)
regression = core.Question(testing.RidgeLearner(penalty=10.0), numbers, numbers[:3], outputs.value)
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("groups") / "digits.py"
    file.write_text(QUESTION)
    return f"{file}:question"


def test_groups_is_group_influences(run: Run, asked: str, tmp_path: Path) -> None:
    words = ("groups", asked, "--lab", tmp_path, "--models", 40, "--workers", 1)
    code, out, _ = run(*words, "--json")
    facts = json.loads(out)
    question = load_question(asked)
    labels = question.train.labels.numpy()
    subsets = Subsets(n=120, count=40, kind="groups", groups=labels)
    outcomes = Lab(tmp_path, progress=False).outcomes(question, subsets)
    expected = apps.group_influences(apps.pool_targets(outcomes), labels)
    assert code == 0 and facts["by"] == "label" and facts["detectable"] > 0
    np.testing.assert_allclose(facts["overall"]["influence"], expected.influence)
    np.testing.assert_allclose(facts["overall"]["low"], expected.low)
    own = question.targets.labels.numpy()
    by_class = apps.group_influences(apps.pool_targets(outcomes, own), labels)
    np.testing.assert_allclose(facts["by_class"]["influence"], by_class.influence)
    assert facts["targets"] == [str(c) for c in np.unique(own)]
    code, out, _ = run(*words)
    assert code == 0 and "influence on the mean margin, from 40 models" in out
    assert "by class of the targets" in out and "average other group" in out.replace("\n", " ")


def test_groups_by_a_column_kept_independently(run: Run, asked: str, tmp_path: Path) -> None:
    words = ("--by", "source", "--kind", "independent", "--estimator", "regression", "--models", 30)
    code, out, _ = run("groups", asked, "--lab", tmp_path, *words, "--workers", 1, "--json")
    overall = json.loads(out)["overall"]
    assert (code, overall["groups"], overall["contrast"]) == (0, ["a", "b", "c"], False)
    assert overall["notes"] == [] and overall["estimator"] == "regression"


def test_targets_without_classes_have_one_table(run: Run, asked: str, tmp_path: Path) -> None:
    question = asked.replace(":question", ":regression")
    words = ("groups", question, "--lab", tmp_path, "--by", "source", "--models", 20, "--workers", 1)
    code, out, _ = run(*words, "--json")
    assert code == 0 and "by_class" not in json.loads(out)
    assert "by class" not in run(*words)[1]


@pytest.mark.parametrize(
    ("wrong", "code", "found"),
    [
        (("--by", "colour"), "dl-767", "label, source, same"),
        (("--by", "same"), "dl-760", "the same for every example"),
        (("--models", 2), "dl-761", "of 2 subsets"),
        (("--models", 11, "--estimator", "regression"), "dl-761", "11 subsets"),
        (("--fraction", 0.0), "dl-301", "outside"),
        (("--kind", "independent", "--fraction", 1.0), "dl-762", "outside"),
    ],
)
def test_groups_that_cannot_be_asked_train_nothing(
    run: Run, asked: str, tmp_path: Path, wrong: tuple, code: str, found: str
) -> None:
    before = LocalStore(tmp_path).digest()
    done, out, err = run("groups", asked, "--lab", tmp_path, *wrong, "--json")
    error = json.loads(out)["error"]
    assert done == 2 and error["code"] == code and found in error["found"]
    assert "Traceback" not in err and LocalStore(tmp_path).digest() == before


def test_numbers_as_labels_are_no_groups(run: Run, asked: str, tmp_path: Path) -> None:
    question = asked.replace(":question", ":regression")
    code, out, _ = run("groups", question, "--lab", tmp_path, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (2, "dl-767")


# --- plan ---


@pytest.mark.parametrize(
    ("better", "colours"),
    [
        ("higher", ["bold green", "bold red"]),
        ("lower", ["bold red", "bold green"]),
        (None, ["bold green", "bold red"]),
    ],
)
def test_a_group_that_helps_is_green(better: str | None, colours: list[str]) -> None:
    """What raises a loss hurts."""
    groups = np.arange(12) % 4
    masks = Subsets(12, 40, kind="groups", groups=groups).masks()
    values = (masks[:, 0] * 1.0 - masks[:, 1])[:, None]
    noise = np.random.default_rng(0).normal(size=values.shape) * 0.01
    found = apps.group_influences(Outcomes.from_arrays(masks, values + noise), groups)
    table = _overall_table(dataclasses.replace(found, provenance={"better": better}), "output")
    names, styles = list(table.columns[0].cells), [str(row.style) for row in table.rows]
    assert (names[0], names[-1]) == ("0", "1") and [styles[0], styles[-1]] == colours


def test_plan_says_which_weight_is_found(run: Run, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plan, "PROBE_SECONDS", 1e-9)
    words = ("plan", asked, "--with", "datamodel", "--subsets", 300, "--workers", 1)
    assert "detectable" not in json.loads(run(*words, "--json")[1]), "two models are no pilot"
    monkeypatch.setattr(_plan, "PROBE_SECONDS", 1e9)
    monkeypatch.setattr(_plan, "PROBE_MODELS", 16)
    facts = json.loads(run(*words, "--effect", 0.25, "--json")[1])
    sigma, n = facts["sigma"], 120
    assert facts["pilot"] == 16 and sigma > 0
    assert facts["detectable"] == pytest.approx(apps.detectable(300, sigma, comparisons=n))
    assert facts["models_for_effect"] == apps.models_needed(0.25, sigma, comparisons=n)
    out = run(*words, "--effect", 0.25)[1]
    assert "smallest weight they find, about" in out and "to find a weight of 0.25, about" in out


def test_an_effect_is_planned_for_datamodels_alone(run: Run, asked: str) -> None:
    code, out, _ = run("plan", asked, "--with", "random", "--effect", 0.5, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (2, "dl-983")
    code, out, _ = run("plan", asked, "--with", "datamodel", "--effect", 0.0, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (2, "dl-763")
