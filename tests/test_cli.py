"""The command line says what the library says, to people and to programs, and its exit codes mean something."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run

from dataloupe import apps, judge
from dataloupe.cli import _demo, _doctor, _plan, main
from dataloupe.cli._base import load_question
from dataloupe.cli._folder import attributions, judged_outcomes, keep_looks
from dataloupe.cli._main import carry_out
from dataloupe.cli._show import picture_of
from dataloupe.core import DenseAttribution, Examples, Info, Question, SteppedLearner, Subsets
from dataloupe.engine import Backend, Choice
from dataloupe.formats import read_attribution, to_sparse
from dataloupe.lab import Lab
from dataloupe.methods import TRAK, Datamodel, Influence, RandomScores
from dataloupe.store import LocalStore

QUESTION = """
import dataloupe.data
from dataloupe import core, learners, outputs
from torch import nn

def make_model():
    return nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))

train, test = dataloupe.data.digits()
learner = learners.SGD(make_model, epochs=3, lr=0.2, batch_size=10)
question = core.Question(learner, train[:60], test[:5], outputs.margin)
"""

RIDGE = """
import dataloupe.data
from dataloupe import core, outputs, testing

train, test = dataloupe.data.digits()
learner = testing.RidgeLearner(penalty=10.0, classes=10)
question = core.Question(learner, train[:40], test[:4], outputs.margin)
"""


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The back end is settled: timing it takes longer than these trainings."""

    def settled(question: Question, *_: Any) -> Choice:
        stacked = isinstance(question.learner, SteppedLearner)
        backend = Backend("stacked", group=8, unit=8) if stacked else Backend("loop", unit=8)
        return Choice(backend, seconds=1e-3, measured={})

    monkeypatch.setattr("dataloupe.lab._lab.choose", settled)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "digits.py").write_text(QUESTION)
    (folder / "ridge.py").write_text(RIDGE)
    return folder


@pytest.fixture
def asked(place: Path) -> str:
    return f"{place}/digits.py:question"


@pytest.fixture(scope="module")
def lab(place: Path) -> Path:
    """A lab that holds a datamodel and TRAK."""
    folder = place / "lab"
    question = load_question(f"{place}/digits.py:question")
    made = Lab(folder, backend="stacked", progress=False)
    keep_looks(made, question)
    Datamodel(Subsets(n=60, count=80)).attribute(question, made)
    TRAK(models=3, dim=256).attribute(question, made)
    return folder


# --- the verbs say what the library says -------------------------------------------------------------------


def test_attribute(run: Run, asked: str, lab: Path, tmp_path: Path) -> None:
    code, out, _ = run(
        "attribute", asked, "--with", "trak", "--models", 3, "--dim", 256, "--lab", tmp_path, "--json"
    )
    facts = json.loads(out)
    question = load_question(asked)
    assert (code, facts["method"], facts["units"], facts["n"], facts["m"]) == (0, "TRAK", "relative", 60, 5)
    assert facts["question"] == question.identity
    (ours,) = attributions(Lab(tmp_path, progress=False), question)
    theirs = next(a for a in attributions(Lab(lab, progress=False), question) if a.info.method == "TRAK")
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-3, atol=1e-4 * np.abs(theirs.scores).max())


def test_attribute_by_influence(run: Run, asked: str, tmp_path: Path) -> None:
    words = ("--with", "influence", "--models", 2, "--damping", 0.5, "--uncurved")
    code, out, _ = run("attribute", asked, *words, "--lab", tmp_path, "--json")
    facts = json.loads(out)
    assert (code, facts["method"], facts["units"]) == (0, "Influence", "relative")
    assert facts["settings"] == Influence(models=2, damping=0.5, curved=False).settings()


def test_trak_takes_its_options_a_precision_and_a_device_that_is_there(
    run: Run, asked: str, tmp_path: Path
) -> None:
    words = ("--with", "trak", "--models", 3, "--dim", 64, "--sketches", 2, "--leverage", "--threshold")
    code, out, _ = run("attribute", asked, *words, "--precision", "bf16", "--lab", tmp_path, "--json")
    facts = json.loads(out)
    assert code == 0 and 0 < facts["certificate"]["precision_error"] < 0.1
    assert facts["settings"] == TRAK(models=3, dim=64, sketches=2, leverage=True, threshold=True).settings()
    code, _, err = run("attribute", asked, "--with", "trak", "--device", "abacus", "--lab", tmp_path)
    assert code == 2 and "dl-231" in err and "'abacus'" in err
    code, out, _ = run(
        "attribute", asked, "--with", "trak", "--models", 2, "--by-layer", "--lab", tmp_path, "--json"
    )
    assert code == 0 and json.loads(out)["settings"]["blocks"] == "layer"


def test_attribute_with_a_prior(run: Run, asked: str, tmp_path: Path) -> None:
    words = (
        "--with",
        "datamodel",
        "--subsets",
        80,
        "--prior",
        "trak",
        "--models",
        3,
        "--dim",
        256,
        "--uncurved",
    )
    code, out, _ = run("attribute", asked, *words, "--lab", tmp_path, "--json")
    facts, question, made = json.loads(out), load_question(asked), Lab(tmp_path, progress=False)
    method = Datamodel(Subsets(n=60, count=80), prior=TRAK(models=3, dim=256, curved=False))
    assert (code, facts["method"], facts["units"]) == (0, "Datamodel (toward TRAK)", "output")
    assert facts["settings"] == method.settings()
    assert facts["certificate"] == method.attribute(question, made).info.certificate


def test_judge_is_lds(run: Run, asked: str, lab: Path) -> None:
    code, out, _ = run("judge", asked, "--lab", lab, "--subsets", 12, "--repeats", 2, "--json")
    judged = json.loads(out)["judged"]
    question, made = load_question(asked), Lab(lab, progress=False)
    fresh = made.outcomes(question, Subsets(n=60, count=12, seed=1), repeats=2)
    methods = {
        "Datamodel (ridge)": Datamodel(Subsets(n=60, count=80)),
        "TRAK": TRAK(models=3, dim=256),
    }
    assert {score["method"] for score in judged} == set(methods)
    for score in judged:
        expected = judge.lds(methods[score["method"]].attribute(question, made), fresh)
        assert score["value"] == pytest.approx(expected.value)
        assert score["interval"] == pytest.approx(list(expected.interval))
        assert set(score["controls"]) == {"random", "gradient similarity (dot)", "feature similarity"}
    assert code == int(any(score["interval"][0] <= 0 for score in judged))


def test_judging_chance_fails(run: Run, asked: str, tmp_path: Path) -> None:
    question, made = load_question(asked), Lab(tmp_path, backend="stacked", progress=False)
    RandomScores().attribute(question, made)
    code, out, err = run("judge", asked, "--lab", tmp_path, "--subsets", 20, "--repeats", 1)
    assert code == 1
    assert "random" in out
    assert "20 subsets x 1 seeds" in out
    assert "Traceback" not in err


def test_what_if_is_what_if(run: Run, asked: str, lab: Path) -> None:
    words = (
        "what-if",
        asked,
        "--lab",
        lab,
        "--only",
        "datamodel",
        "--target",
        2,
        "--remove-top",
        5,
        "--verify",
        3,
        "--calibration",
        0,
    )
    code, out, _ = run(*words, "--json")
    facts = json.loads(out)
    question, made = load_question(asked), Lab(lab, progress=False)
    datamodel = Datamodel(Subsets(n=60, count=80)).attribute(question, made)
    expected = apps.what_if(question, made, datamodel, target=2, remove=datamodel.top(2, 5), verify=3)
    assert facts == json.loads(json.dumps(expected.to_json()))
    assert code == int(expected.verdict == "disagree")
    code, out, _ = run(*words)
    assert str(expected) in out.replace("\n", " ")


def test_what_if_calibrates_relative_scores(run: Run, asked: str, lab: Path) -> None:
    words = ("--only", "trak", "--target", 0, "--remove", 3, 14, 15, "--verify", 0, "--calibration", 10)
    code, out, _ = run("what-if", asked, "--lab", lab, *words, "--json")
    facts = json.loads(out)
    assert (code, facts["verdict"], facts["removed"]) == (0, "unverified", [3, 14, 15])
    assert "calibrated" in facts["method"]
    assert facts["predicted_interval"][0] < facts["predicted"] < facts["predicted_interval"][1]


@pytest.mark.parametrize("wrong", [("--target", 99), ("--target", 0, "--verify", 1)])
def test_a_what_if_that_cannot_be_meant_trains_nothing(
    run: Run, asked: str, tmp_path: Path, wrong: tuple
) -> None:
    assert run("attribute", asked, "--with", "trak", "--models", 2, "--lab", tmp_path)[0] == 0
    before = LocalStore(tmp_path).digest()
    assert run("what-if", asked, "--lab", tmp_path, "--remove-top", 3, *wrong)[0] == 2
    assert LocalStore(tmp_path).digest() == before


def test_a_wrong_claim_ends_with_1(run: Run, place: Path, tmp_path: Path) -> None:
    asked = f"{place}/ridge.py:question"
    question, made = load_question(asked), Lab(tmp_path, progress=False)
    wrong = DenseAttribution(np.full((4, 40), 5.0, np.float32), Info("by hand", question=question.identity))
    made.put("attribution", {"by": "hand"}, *wrong.to_arrays())
    code, out, _ = run(
        "what-if",
        asked,
        "--lab",
        tmp_path,
        "--target",
        0,
        "--remove",
        1,
        2,
        "--verify",
        2,
        "--calibration",
        0,
    )
    assert code == 1
    assert "disagree" in out


def supportable(place: Path, folder: Path) -> tuple[str, Question, Lab]:
    """A question with hard margins above 0, and a lab that holds a datamodel of it."""
    right = RIDGE.replace("outputs.margin", "outputs.hard_margin")
    right = right.replace("train[:40]", "train[:100]").replace("test[:4]", "test[:8]")
    (place / "right.py").write_text(right)
    asked = f"{place}/right.py:question"
    question, made = load_question(asked), Lab(folder, progress=False)
    Datamodel(Subsets(n=100, count=150)).attribute(question, made)
    return asked, question, made


def test_support_is_support(run: Run, place: Path, tmp_path: Path) -> None:
    asked, question, made = supportable(place, tmp_path)
    words = ("support", asked, "--lab", tmp_path, "--limit", 0.5, "--verify", 2, "--inflate", 1.5)
    code, out, _ = run(*words, "--json")
    datamodel = Datamodel(Subsets(n=100, count=150)).attribute(question, made)
    expected = apps.support(question, made, datamodel, inflate=1.5, limit=0.5, verify=2)
    assert json.loads(out) == json.loads(json.dumps(expected.to_json()))
    assert expected.judged > 0
    assert code == int(expected.interval is not None and expected.interval[1] < 0.5)
    _, out, _ = run(*words)
    said = out.replace("\n", " ")
    assert str(expected) in said
    assert all(case.state in said and f"{case.margin:.2f}" in said for case in expected.found)
    assert "linearised at 50% of the data" in said


def test_support_calibrates_relative_scores(run: Run, asked: str, lab: Path) -> None:
    words = ("--only", "trak", "--targets", 0, 3, "--verify", 0, "--calibration", 10)
    code, out, _ = run("support", asked, "--lab", lab, *words, "--json")
    facts = json.loads(out)
    assert (code, facts["method"], facts["share"]) == (0, "TRAK, calibrated", None)
    assert [case["target"] for case in facts["cases"]] == [0, 3]


@pytest.mark.parametrize(
    ("flag", "find"), [("--search", "smallest_support"), ("--relabel", "relabel_support")]
)
def test_support_searches(run: Run, place: Path, tmp_path: Path, flag: str, find: str) -> None:
    asked, question, made = supportable(place, tmp_path)
    words = ("support", asked, "--lab", tmp_path, flag, "--targets", 0, 2, "--limit", 0.5, "--verify", 2)
    _, out, _ = run(*words, "--json")
    datamodel = Datamodel(Subsets(n=100, count=150)).attribute(question, made)
    expected = getattr(apps, find)(question, made, datamodel, [0, 2], limit=0.5, verify=2)
    assert json.loads(out) == json.loads(json.dumps(expected.to_json()))
    assert expected.flips == 2
    _, out, _ = run(*words)
    assert str(expected) in out.replace("\n", " ")


def test_supports_that_do_not_flip_end_with_1(run: Run, place: Path, tmp_path: Path) -> None:
    asked, question, made = supportable(place, tmp_path)
    wrong = DenseAttribution(np.full((8, 100), 99.0, np.float32), Info("hand", question=question.identity))
    made.put("attribution", {"by": "hand"}, *wrong.to_arrays())
    code, out, _ = run("support", asked, "--lab", tmp_path, "--only", "hand", "--verify", 2)
    assert code == 1
    assert "retrained, 0 of " in out.replace("\n", " ")


def test_show_is_top(run: Run, lab: Path, asked: str) -> None:
    code, out, _ = run("show", lab, "--only", "datamodel", "--target", 3, "--top", 4, "--json")
    facts = json.loads(out)
    question = load_question(asked)
    datamodel = Datamodel(Subsets(n=60, count=80)).attribute(question, Lab(lab, progress=False))
    assert code == 0
    for sign in ("helps", "hurts"):
        rows = datamodel.top(3, 4, sign=sign)  # type: ignore[arg-type]
        assert [example["row"] for example in facts[sign]] == rows.tolist()
        assert [example["label"] for example in facts[sign]] == [
            question.train.label_name(row) for row in rows.tolist()
        ]
        assert [example["score"] for example in facts[sign]] == pytest.approx(
            datamodel.scores[3, rows].tolist()
        )
    code, out, _ = run("show", lab, "--only", "datamodel", "--target", 3, "--top", 4)
    assert all(str(example["row"]) in out for example in facts["helps"] + facts["hurts"])


@pytest.mark.parametrize("better", ["higher", "lower", None])
def test_show_says_which_way_the_output_is_better(run: Run, tmp_path: Path, better: Any) -> None:
    """Of a loss the rows that lower it help, and no row stands where it does the opposite, or nothing."""
    words, first = (
        (("raises", "lowers") if better is None else ("helps", "hurts")),
        -1 if better == "lower" else 1,
    )
    scores = first * np.array([[2.0, 0.0, -1.0, 3.0], [1.0, 0.0, 0.0, 0.0]], np.float32)
    Lab(tmp_path).put(
        "attribution",
        {"by": "hand"},
        *DenseAttribution(scores, Info("hand", output="it", better=better)).to_arrays(),
    )
    _, out, _ = run("show", tmp_path, "--target", 0, "--top", 3, "--json")
    facts = json.loads(out)
    assert [[(one["row"], one["score"]) for one in facts[word]] for word in words] == [
        [(3, 3.0 * first), (0, 2.0 * first)],
        [(2, -1.0 * first)],
    ]
    _, out, _ = run("show", tmp_path, "--target", 1, "--top", 3)
    said = " ".join(out.split())
    assert f"{words[0]} label score {words[1]} label score 0 {first:+d} none" in said
    assert {
        "higher": "helps: having it raises the it; hurts: lowers it",
        "lower": "helps: having it lowers the it; hurts: raises it",
        None: "raises: having it raises the it; lowers: lowers it",
    }[better] in said


def test_show_lists_a_lab(run: Run, lab: Path) -> None:
    code, out, _ = run("show", lab)
    assert code == 0
    assert "Datamodel (ridge)" in out
    assert "TRAK" in out
    assert "relative" in out


def test_report(run: Run, lab: Path, asked: str, tmp_path: Path) -> None:
    run("judge", asked, "--lab", lab, "--subsets", 12, "--repeats", 2)
    code, out, _ = run(
        "report", lab, "--out", tmp_path / "page.html", "--targets", 1, "--title", "a title", "--json"
    )
    page = (tmp_path / "page.html").read_text()
    assert (code, json.loads(out)["path"]) == (0, str(tmp_path / "page.html"))
    assert "a title" in page
    assert "TRAK" in page
    assert "data:image/png" in page


def test_export_is_the_attribution(run: Run, lab: Path, tmp_path: Path) -> None:
    datamodel = next(a for a in attributions(Lab(lab, progress=False)) if "Datamodel" in a.info.method)
    words = ("export", lab, "--only", "datamodel")
    code, out, _ = run(*words, "--to", tmp_path / "a.safetensors", "--json")
    assert (code, json.loads(out)["path"]) == (0, str(tmp_path / "a.safetensors"))
    np.testing.assert_array_equal(read_attribution(tmp_path / "a.safetensors").scores, datamodel.scores)
    code, out, _ = run(*words, "--to", tmp_path / "a.parquet", "--top", 7)
    assert (code, "Datamodel (ridge), 5 targets x 60 examples" in out) == (0, True)
    part = read_attribution(tmp_path / "a.parquet")
    np.testing.assert_array_equal(part.scores, to_sparse(datamodel, k=7).toarray())
    assert run("export", lab, "--to", tmp_path / "b.npz")[0] == 2, "two attributions: which?"
    code, _, err = run(*words, "--to", tmp_path / "b.csv")
    assert (code, "dl-876" in err) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "a.safetensors"]


def test_plan_counts_what_the_method_needs(run: Run, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plan, "PROBE_SECONDS", 0.01)
    code, out, _ = run("plan", asked, "--with", "datamodel", "--subsets", 300, "--json")
    facts = json.loads(out)
    needs = Datamodel(Subsets(n=60, count=300)).needs(load_question(asked))
    assert (code, facts["trainings"], facts["disk_bytes"]) == (0, 300, needs.disk_bytes)
    assert facts["seconds"] == pytest.approx(300 * facts["seconds_per_training"])
    assert facts["seconds_per_training"] > 0
    code, out, _ = run("plan", asked, "--with", "trak", "--models", 4, "--json")
    facts = json.loads(out)
    assert (facts["trainings"], facts["gradient_passes"]) == (4, 4)
    assert facts["seconds_per_gradient_pass"] > 0


def test_doctor(run: Run, lab: Path, tmp_path: Path) -> None:
    code, out, _ = run("doctor", lab, "--json")
    facts = json.loads(out)
    assert (code, facts["failed"], facts["folder"]["damaged"]) == (0, [], [])
    assert facts["folder"]["units"] > 0
    hurt = tmp_path / "hurt"
    subprocess.run(["cp", "-r", str(lab), str(hurt)], check=True)
    unit = next(hurt.rglob("*.safetensors"))
    unit.write_bytes(unit.read_bytes()[:-1])
    code, out, _ = run("doctor", hurt)
    assert code == 1
    assert unit.name in out.replace("\n", "")


def test_doctor_notices_two_back_ends_that_differ(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_doctor, "ROUNDING", -1.0)
    code, out, _ = run("doctor")
    assert code == 1
    assert "their outputs differ" in out


def test_demo(run: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = load_question(f"{place}/digits.py:question")
    small = dataclasses.replace(question, train=question.train[:50])
    monkeypatch.setattr(_demo, "make_question", lambda: small)
    code, out, _ = run("demo", "--folder", tmp_path, "--models", 60, "--workers", 1, "--json")
    facts = json.loads(out)
    assert [score["method"] for score in facts["judged"]] == ["Datamodel (ridge)", "TRAK, calibrated"]
    assert all(score["ceiling"] is not None and len(score["controls"]) == 3 for score in facts["judged"])
    assert facts["what_if"]["verified"] is not None
    assert "data:image/png" in Path(facts["report"]).read_text()
    assert code == int(facts["what_if"]["verdict"] == "disagree")


# --- reading never writes; what is remembered comes back ---------------------------------------------------


def test_reading_verbs_write_nothing(run: Run, lab: Path, tmp_path: Path) -> None:
    def state() -> dict[str, str]:
        return LocalStore(lab).digest() | {str(path): "" for path in lab.rglob("*")}

    before = state()
    run("show", lab)
    run("show", lab, "--target", 0, "--only", "trak")
    run("report", lab, "--out", tmp_path / "page.html")
    run("export", lab, "--only", "trak", "--to", tmp_path / "trak.npz")
    run("doctor", lab)
    assert state() == before


def test_judged_outcomes_come_back(run: Run, lab: Path, asked: str) -> None:
    run("judge", asked, "--lab", lab, "--subsets", 12, "--repeats", 2)
    question, made = load_question(asked), Lab(lab, progress=False)
    fresh = made.outcomes(question, Subsets(n=60, count=12, seed=1), repeats=2)
    (known,) = [o for o in judged_outcomes(made, question.identity) if o.values.shape == fresh.values.shape]
    np.testing.assert_array_equal(known.values, fresh.values)
    np.testing.assert_array_equal(known.subsets.masks(), fresh.subsets.masks())


def test_looks_come_back(lab: Path, asked: str) -> None:
    question = load_question(asked)
    for attribution in attributions(Lab(lab, progress=False)):
        assert attribution.train is not None
        assert attribution.targets is not None
        for known, true in ((attribution.train, question.train), (attribution.targets, question.targets)):
            assert [known.show(i).title for i in range(len(true))] == [
                true.show(i).title for i in range(len(true))
            ]
            np.testing.assert_array_equal(known.show(3).image, true.show(3).image)


def test_texts_are_kept_as_texts(tmp_path: Path) -> None:
    train = Examples(torch.eye(3, 64), labels=torch.tensor([0, 1, 0]), texts=["a [red]b", "c", "d"])
    question = dataclasses.replace(_demo.make_question(), train=train, targets=train)
    made = Lab(tmp_path, progress=False)
    keep_looks(made, question)
    scores = DenseAttribution(np.eye(3, dtype=np.float32), Info("by hand", question=question.identity))
    made.put("attribution", {"by": "hand"}, *scores.to_arrays())
    (known,) = attributions(made)
    assert known.train is not None
    assert known.train.show(0).text == "a [red]b"


def test_a_text_with_brackets_is_shown_as_it_is(run: Run, tmp_path: Path) -> None:
    test_texts_are_kept_as_texts(tmp_path)
    code, out, _ = run("show", tmp_path, "--target", 0, "--top", 1)
    assert code == 0
    assert "a [red]b" in out


# --- bad use -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "code", "words"),
    [
        (None, "question", "dl-980", ["no Python file"]),
        ("x = 1\nraise ValueError('seven')\n", "question", "dl-981", ["ValueError", "line 2", "seven"]),
        ("x = 1\n", "question", "dl-982", ["no question at all", "question = dataloupe.Question"]),
        (QUESTION, "other", "dl-982", ["questions question", "broken.py:question"]),
    ],
)
def test_a_bad_question(
    run: Run, tmp_path: Path, text: str | None, name: str, code: str, words: list[str]
) -> None:
    file = tmp_path / "broken.py"
    if text is not None:
        file.write_text(text)
    given = ("attribute", f"{file}:{name}", "--with", "random", "--lab", tmp_path / "lab")
    ended, out, err = run(*given)
    assert (ended, out) == (2, "")
    assert "Traceback" not in err
    assert all(word in err.replace("\n", "") for word in [code, "asked", "found", *words])
    assert not (tmp_path / "lab").exists()
    ended, out, _ = run(*given, "--json")
    assert (ended, json.loads(out)["error"]["code"]) == (2, code)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("attribute", "ASKED", "--with", "trak", "--estimator", "lasso", "--lab", "LAB"), "dl-983", "leave --estimator out"),
        (("attribute", "ASKED", "--with", "random", "--models", 3, "--lab", "LAB"), "dl-983", "random takes --seed"),
        (("attribute", "ASKED", "--with", "datamodel", "--models", 3, "--lab", "LAB"), "dl-983", "--prior"),
        (("attribute", "ASKED", "--with", "datamodel", "--prior", "random", "--dim", 3, "--lab", "LAB"), "dl-983", "random takes --seed"),
        (("attribute", "ASKED", "--with", "datamodel", "--prior", "trak", "--estimator", "means", "--lab", "EMPTY"), "dl-714", "use ridge or lasso"),
        (("judge", "ASKED", "--lab", "EMPTY"), "dl-984", "dataloupe attribute"),
        (("show", "EMPTY"), "dl-984", "found  none"),
        (("show", "LAB", "--only", "lasso"), "dl-984", "TRAK"),
        (("show", "LAB", "--target", 0), "dl-985", "--only datamodel"),
        (("show", "LAB", "--target", 5, "--only", "trak"), "dl-109", "5 rows"),
        (("show", "LAB", "--target", 0, "--only", "trak", "--top", 99), "dl-506", "60 training examples"),
        (("what-if", "ASKED", "--lab", "LAB", "--target", 0), "dl-986", "neither"),
        (("what-if", "ASKED", "--lab", "LAB", "--target", 0, "--remove", 1, "--remove-top", 2), "dl-986", "both"),
        (("what-if", "ASKED", "--lab", "LAB", "--only", "data", "--target", 0, "--remove", 1, 1), "dl-110", "once"),
        (("what-if", "ASKED", "--lab", "LAB", "--only", "data", "--target", 9, "--remove", 1), "dl-109", "5 rows"),
        (("what-if", "ASKED", "--lab", "LAB", "--only", "data", "--target", 0, "--remove-top", 0), "dl-506", "top 0"),
        (("support", "ASKED", "--lab", "LAB", "--only", "data", "--limit", 10), "dl-741", "outside (0, 1)"),
        (("support", "ASKED", "--lab", "LAB", "--only", "data", "--targets", 5), "dl-109", "5 rows"),
        (("support", "ASKED", "--lab", "LAB", "--only", "data", "--search", "--verify", 0), "dl-741", "search"),
        (("support", "ASKED", "--lab", "LAB", "--only", "data", "--search", "--inflate", 2), "dl-746", "--inflate"),
    ],
)  # fmt: skip
def test_bad_use(run: Run, asked: str, lab: Path, tmp_path: Path, words: tuple, code: str, said: str) -> None:
    places = {"ASKED": asked, "LAB": lab, "EMPTY": tmp_path / "empty"}
    ended, out, err = run(*(places.get(word, word) for word in words))
    assert ended == 2
    assert code in err
    assert said in err.replace("\n", "")
    assert "Traceback" not in err + out
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize(
    "words", [(), ("judge",), ("plot",), ("attribute", "a.py:q", "--with", "magic", "--lab", "x")]
)
def test_words_that_are_no_command(run: Run, words: tuple[str, ...]) -> None:
    code, out, _ = run(*words)
    assert (code, out) == (2, "")


def test_an_interrupt_says_that_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    class Stopped(_demo.Demo):
        def run(self, _: Any) -> Any:
            raise KeyboardInterrupt

    assert carry_out(Stopped()) == 130
    assert "kept" in capsys.readouterr().err


def test_a_defect_is_no_failed_claim(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(_demo.Demo):
        def run(self, _: Any) -> Any:
            raise ZeroDivisionError("ours")

    assert carry_out(Broken(json=True)) == 70
    said = capsys.readouterr()
    assert "ZeroDivisionError" in said.err
    assert json.loads(said.out)["error"]["code"] == "defect"


def test_ctrl_c_in_the_middle(tmp_path: Path) -> None:
    """A real interrupt while models are trained: exit 130, and the folder is whole; also where a shell's "&" had it ignored."""
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from dataloupe.cli import main; main()"
    words = [sys.executable, "-c", code, "demo", "--folder", str(tmp_path / "demo"), "--models", "100000"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        seen = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert "of 100000" in seen.replace(",", "")
    assert process.returncode == 130
    assert "every finished unit is kept" in rest
    assert "Traceback" not in rest
    assert LocalStore(tmp_path / "demo").damaged() == []


# --- what people see ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb", ["demo", "attribute", "judge", "what-if", "groups", "show", "report", "plan", "doctor"]
)
def test_every_word_of_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    rows = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    options = [row for row in rows if row.startswith("--") and row[2].isalpha()]
    assert any(row.startswith("--json ") for row in options)
    assert [row for row in options if len(row.split("  ", 1)) < 2] == []


def test_a_picture_has_two_pixels_a_character() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    data = Examples(torch.zeros(1, 2), images=image)
    picture = picture_of(data, 0)
    assert picture is not None
    assert [len(line) for line in picture.plain.split("\n")] == [8] * 4
    first = picture.spans[0].style
    assert (first.color.triplet.red, first.bgcolor.triplet.red) == (0, 8)  # type: ignore[union-attr]


def test_a_wide_picture_is_made_small() -> None:
    data = Examples(torch.zeros(1, 2), images=np.full((1, 28, 28, 3), 200, np.uint8))
    picture = picture_of(data, 0)
    assert picture is not None
    lines = picture.plain.split("\n")
    assert (len(lines), len(lines[0])) == (7, 14)


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.2, "3 s"), (600.0, "10 min"), (7200.0, "2 h"), (864000.0, "10.0 days")]
)
def test_time_in_words(seconds: float, words: str) -> None:
    assert _plan.span(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(12, "12 B"), (2_500_000, "2.5 MB"), (3e9, "3.0 GB")])
def test_bytes_in_words(count: float, words: str) -> None:
    assert _plan.size(int(count)) == words


def test_output_is_plain_text_in_a_pipe(lab: Path) -> None:
    code = "from dataloupe.cli import main; main()"
    words = [sys.executable, "-c", code, "show", str(lab), "--target", "1", "--only", "trak"]
    plain = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=plain)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "▀" not in done.stdout
