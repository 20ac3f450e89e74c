"""`diff run`, `diff show` and `diff test` on the command line say what the library says."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Run

from dataloupe.apps import AA, CounterfactualTest, Enrichment, compare, enrichment
from dataloupe.cli._base import load_question
from dataloupe.cli._diff_change import names_of
from dataloupe.cli._kept_diff import counterfactuals, differences, keep_counterfactual, keep_difference
from dataloupe.cli._uses import uses
from dataloupe.core import Question
from dataloupe.lab import Lab
from dataloupe.methods import TRAK
from dataloupe.store import LocalStore
from dataloupe.transforms import Occlude

TWO = """
import dataclasses

from torch import nn

import dataloupe.data
from dataloupe import core, learners, outputs, transforms


def make_model():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def pictures(data):
    ink = data.inputs.sum(1).tolist()
    return dataclasses.replace(data, inputs=data.inputs.view(-1, 1, 8, 8), meta={"ink": ink})


train, test = (pictures(data) for data in dataloupe.data.digits())
settings = {"epochs": 8, "lr": 0.3, "batch_size": 20}
plain = core.Question(learners.SGD(make_model, **settings), train[:200], test[:40], outputs.margin)
moved = learners.SGD(make_model, **settings, augment=learners.Shift(2))
shifted = core.Question(moved, train[:200], test[:40], outputs.margin)
elsewhere = core.Question(moved, train[:200], test[40:80], outputs.margin)
later = core.Question(moved, train[200:400], test[:40], outputs.margin)
square = transforms.Occlude(1.0)
"""
METHOD = ("--with", "trak", "--models", 9, "--dim", 128)
RUN = (*METHOD, "--components", 2, "--deals", 99, "--level", 0.95, "--workers", 1)
TEST = ("--models", 3, "--strengths", 1, 3, "--workers", 1)


pytestmark = pytest.mark.usefixtures("no_probe")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of two algorithms, and the place of their lab."""
    folder = tmp_path_factory.mktemp("cli-diff")
    (folder / "two.py").write_text(TWO)
    return folder


@pytest.fixture
def asked(place: Path) -> tuple[Question, Question]:
    return load_question(f"{place}/two.py:plain"), load_question(f"{place}/two.py:shifted")


@pytest.fixture
def both(place: Path) -> tuple[object, ...]:
    return f"{place}/two.py:plain", f"{place}/two.py:shifted", "--lab", place / "lab"


def by_the_library(place: Path, asked: tuple[Question, Question]) -> Enrichment:
    lab = Lab(place / "lab", progress=False)
    own = [TRAK(models=9, dim=128).attribute(question, lab).info.certificate["ridge"] for question in asked]
    assert own[0] != own[1], "each chose its own: both get the larger"
    a, b = (TRAK(models=9, dim=128, ridge=max(own)).attribute(question, lab) for question in asked)
    found = compare(a, b, 2, null=AA(deals=99, level=0.95), names=("plain", "shifted"))
    question = asked[0]
    return enrichment(found, question.train, question.targets, index=question.index)


def test_run_is_compare_and_enrichment(run: Run, place: Path, asked, both) -> None:
    code, out, _ = run("diff", "run", *both, *RUN, "--json")
    facts = json.loads(out)
    expected = by_the_library(place, asked)
    assert code == 0
    assert facts["answer"] == str(expected.difference) and expected.difference.found
    assert facts["cosine"] == pytest.approx(expected.difference.cosine.tolist(), rel=1e-6)
    assert facts["sides"][1]["values"] == pytest.approx(expected.difference.sides[1].values.tolist())
    assert facts["enrichment"] == json.loads(json.dumps(expected.to_json()))
    code, out, _ = run("diff", "run", *both, *RUN)
    words = " ".join(out.split())
    assert code == 0
    assert (
        str(expected.difference) in words
        and "direction value in plain in shifted ratio p ratio p stable kept" in words
    )
    for side, component in expected.difference.found:
        assert f"direction {component} of {side.of}" in words


def test_show_says_it_again_and_writes_nothing(run: Run, place: Path, both) -> None:
    run("diff", "run", *both, *RUN)
    before = LocalStore(place / "lab").digest()
    _, first, _ = run("diff", "run", *both, *RUN)
    code, again, _ = run("diff", "show", place / "lab")
    assert code == 0
    assert again.strip() in first
    _, out, _ = run("diff", "show", place / "lab", "--json")
    (one,) = json.loads(out)["differences"]
    assert one["names"] == ["plain", "shifted"]
    code, out, _ = run("diff", "show", place / "lab", "--show", 0)
    assert "more above chance" in out and "targets at the top" not in out
    assert LocalStore(place / "lab").digest() == before


def test_what_is_kept_comes_back(run: Run, place: Path, tmp_path: Path, asked, both) -> None:
    run("diff", "run", *both, *RUN)
    run("diff", "test", *both, *TEST, "--transform", f"{place}/two.py:square")
    lab, again = Lab(place / "lab", progress=False), Lab(tmp_path, progress=False)
    (kept,) = differences(lab, *(question.identity for question in asked))
    test = counterfactuals(lab)[0]
    for _ in range(2):
        keep_difference(again, asked, kept.found)
        keep_counterfactual(again, asked, test)
    (twice,), (same,) = differences(again), counterfactuals(again)
    assert json.dumps(kept.found.to_json()) == json.dumps(twice.found.to_json())
    assert (str(kept.found), str(test)) == (str(twice.found), str(same))
    np.testing.assert_array_equal(kept.index, twice.index)
    for one, other in zip(kept.found.difference.sides, twice.found.difference.sides, strict=True):
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    assert json.dumps(test.to_json()) == json.dumps(same.to_json())
    np.testing.assert_array_equal(test.values["plain"], same.values["plain"])
    assert [type(use).__name__ for use in uses(again, asked[1].identity)] == ["Enrichment", "Counterfactual"]
    assert differences(again, "another") == counterfactuals(again, "another") == []


def test_test_is_the_counterfactual_test(run: Run, place: Path, asked, both) -> None:
    words = ("diff", "test", *both, *TEST, "--transform", f"{place}/two.py:square", "--component", 3)
    code, out, _ = run(*words, "--json")
    facts = json.loads(out)
    test = CounterfactualTest(Occlude(1.0), (1.0, 3.0), component=3)
    lab = Lab(place / "lab", progress=False)
    expected = test.run(dict(zip(("plain", "shifted"), asked, strict=True)), lab, models=3)
    assert facts["verdict"] == expected.verdict and facts["identity"] == test.identity
    assert code == int(expected.verdict == "disagree")
    assert facts["by_example"]["shifted"] == pytest.approx(expected.values["shifted"].mean(axis=0))
    code, out, _ = run(*words)
    assert str(expected) in " ".join(out.split()) and "plain - shifted" in out
    _, out, _ = run("diff", "show", place / "lab")
    assert str(expected) in " ".join(out.split())


def test_a_direction_names_the_examples(run: Run, place: Path, both) -> None:
    run("diff", "run", *both, *RUN)
    words = ("--transform", f"{place}/two.py:square", "--direction", 1, "--k", 6, "--json")
    (kept,) = differences(Lab(place / "lab", progress=False))
    side = kept.found.difference.sides[1]
    for end, rows in (("most", side.most(1, 6)), ("bottom", side.targets(1, 6)[1])):
        _, out, _ = run("diff", "test", *both, *TEST, *words, "--of", "shifted", "--end", end)
        assert json.loads(out)["examples"] == rows.tolist()
    _, out, _ = run("diff", "test", *both, *TEST, *words[:2], "--examples", 3, 5, "--json")
    assert json.loads(out)["examples"] == [3, 5]


def test_report_finds_them(run: Run, place: Path, tmp_path: Path, both) -> None:
    run("diff", "run", *both, *RUN)
    run("diff", "test", *both, *TEST, "--transform", f"{place}/two.py:square")
    code, out, err = run("report", place / "lab", "--out", tmp_path / "page.html", "--only", "trak")
    assert code == 0, err
    page = (tmp_path / "page.html").read_text()
    assert code == 0
    assert "TRAK, ridge" in page, "the one of its own ridge and the one of both's have names of their own"
    assert "What do plain and shifted do differently" in page and "Does Occlude move plain" in page
    _, out, _ = run("show", place / "lab", "--json")
    assert json.loads(out)["answers"]["difference"] == 1


def test_without_a_null_nothing_is_above_chance(run: Run, place: Path, tmp_path: Path) -> None:
    questions = (f"{place}/two.py:plain", f"{place}/two.py:shifted", "--lab", tmp_path)
    code, out, _ = run("diff", "run", *questions, "--with", "random", "--deals", 0, "--components", 2)
    assert code == 0
    assert "no null" in out and "stable" not in out
    words = (f"{place}/two.py:plain", f"{place}/two.py:plain", "--lab", tmp_path, "--other-seed", 1)
    code, out, _ = run("diff", "run", *words, "--with", "random", "--deals", 0, "--components", 1)
    assert (code, "A and B" in out) == (0, True)


@pytest.mark.parametrize(
    ("first", "second", "called"),
    [
        ("a.py:plain", "a.py:shifted", ("plain", "shifted")),
        ("x/plain.py:question", "x/shifted.py:question", ("plain", "shifted")),
        ("plain.py", "shifted.py", ("plain", "shifted")),
        ("a.py:q", "a.py:q", ("A", "B")),
    ],
)
def test_names_are_what_differs(first: str, second: str, called: tuple[str, str]) -> None:
    assert names_of(first, second) == called


@pytest.mark.parametrize(
    ("verb", "other", "words", "error"),
    [
        ("run", "elsewhere", ("--with", "trak"), "dl-990"),
        ("run", "later", ("--with", "trak"), "dl-990"),
        ("run", "plain", ("--with", "trak"), "dl-991"),
        ("run", "shifted", ("--with", "trak", "--deals", 20), "dl-782"),
        ("run", "shifted", ("--with", "trak", "--subsets", 3), "dl-983"),
        ("run", "nothing", ("--with", "trak"), "dl-982"),
        ("run", "shifted", ("--with", "random"), "dl-783"),
        ("run", "shifted", ("--with", "random", "--deals", 0, "--components", 40), "dl-780"),
        ("test", "shifted", ("--transform", "two.py:nothing"), "dl-982"),
        ("test", "shifted", ("--transform", "nowhere.py:square"), "dl-980"),
        ("test", "shifted", ("--transform", "two.py:square", "--direction", 0), "dl-993"),
        ("test", "shifted", ("--transform", "two.py:square", "--direction", 0, "--examples", 1), "dl-993"),
        ("test", "shifted", ("--transform", "two.py:square", "--strengths", 1, 1), "dl-792"),
        ("test", "elsewhere", ("--transform", "two.py:square"), "dl-793"),
    ],
)
def test_what_cannot_be_meant_ends_with_2(
    run: Run, place: Path, tmp_path: Path, verb: str, other: str, words: tuple, error: str
) -> None:
    given = [f"{place}/{word}" if str(word).startswith("two.py") else word for word in words]
    questions = (f"{place}/two.py:plain", f"{place}/two.py:{other}", "--lab", tmp_path)
    code, out, err = run("diff", verb, *questions, *given, "--json")
    assert code == 2
    assert json.loads(out)["error"]["code"] == error
    assert error in err


def test_a_direction_of_nobody_is_named(run: Run, place: Path, both) -> None:
    run("diff", "run", *both, *RUN)
    words = ("--transform", f"{place}/two.py:square", "--direction", 0)
    code, _, err = run("diff", "test", *both, *words, "--of", "nobody")
    assert (code, "dl-993" in err, "plain and shifted" in err) == (2, True, True)
    code, _, err = run("diff", "test", *both, *words[:3], 7)
    assert (code, "dl-109" in err) == (2, True)


def test_nothing_to_show_is_said(run: Run, tmp_path: Path) -> None:
    code, _, err = run("diff", "show", tmp_path)
    assert (code, "dl-992" in err) == (2, True)
