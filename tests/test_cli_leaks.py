"""`leaks` and `mislabels` on the command line say what the library says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataloupe.apps import leaks, mislabels
from dataloupe.cli import main
from dataloupe.cli._base import load_question
from dataloupe.core import DenseAttribution, Info, Subsets
from dataloupe.engine import Backend, Choice
from dataloupe.lab import Lab

RIDGE = """
import dataloupe.data
from dataloupe import core, outputs, testing

train, test = dataloupe.data.digits()
learner = testing.RidgeLearner(penalty=10.0, classes=10)
question = core.Question(learner, train[:40], test[:31], outputs.margin)
itself = core.Question(learner, train[:40], train[:40], outputs.margin)
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line, in this process: (exit code, stdout, stderr)."""

    def words(*given: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in given])
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    return words


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The back end is settled: timing it takes longer than these trainings."""
    settled = Choice(Backend("loop", unit=8), seconds=1e-3, measured={})
    monkeypatch.setattr("dataloupe.lab.choose", lambda *_: settled)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two questions and a lab that holds scores by hand for both."""
    folder = tmp_path_factory.mktemp("cli-leaks")
    (folder / "ridge.py").write_text(RIDGE)
    made = Lab(folder / "lab", progress=False)
    for name in ("question", "itself"):
        question = load_question(f"{folder}/ridge.py:{name}")
        made.put("attribution", {"by": name}, *by_hand(question).to_arrays())
    return folder


def by_hand(question: Any) -> DenseAttribution:
    """Inner products of the images."""
    scores = question.targets.inputs.numpy() @ question.train.inputs.numpy().T
    info = Info("by hand", question=question.identity, output="margin")
    return DenseAttribution(scores, info, index=question.index)


def test_leaks_is_leaks(run: Run, place: Path) -> None:
    words = ("leaks", f"{place}/ridge.py:question", "--lab", place / "lab", "--k", 5)
    code, out, _ = run(*words, "--json")
    question = load_question(f"{place}/ridge.py:question")
    expected = leaks(by_hand(question), k=5)
    facts = json.loads(out)
    assert code == 0
    assert facts["rows"] == expected.rows.tolist()
    assert facts["scores"] == pytest.approx(expected.scores)
    assert facts["row_labels"] == [question.train.label_name(int(row)) for row in expected.rows]
    code, out, _ = run(*words)
    assert code == 0
    assert all(str(row) in out for row in expected.rows)
    assert str(expected) in out


def test_a_target_is_not_its_own_leak(run: Run, place: Path) -> None:
    words = ("--lab", place / "lab", "--by", "weight", "--k", 40, "--json")
    _, out, _ = run("leaks", f"{place}/ridge.py:itself", *words)
    facts = json.loads(out)
    assert all(target != row for target, row in zip(facts["targets"], facts["rows"], strict=True))
    assert "sensitivity" in facts["notes"][0]


def test_mislabels_is_mislabels(run: Run, place: Path) -> None:
    asked = f"{place}/ridge.py:question"
    words = ("mislabels", asked, "--lab", place / "lab", "--by", "held-out", "--subsets", 30, "--k", 3)
    code, out, _ = run(*words, "--workers", 1, "--json")
    question = load_question(asked)
    lab = Lab(place / "lab", progress=False)
    expected = mislabels(question, lab, by="held-out", subsets=Subsets(40, 30, fraction=0.8))
    facts = json.loads(out)
    assert code == 0
    assert facts["order"] == expected.order.tolist()
    assert len(facts["first_labels"]) == 3
    code, out, _ = run(*words)
    assert code == 0
    assert all(str(row) in out for row in expected.order[:3])
    assert str(expected) in out.replace("\n", " ")


def test_mislabels_by_effect_reads_the_lab(run: Run, place: Path) -> None:
    words = ("--lab", place / "lab", "--by", "effect", "--json")
    code, out, _ = run("mislabels", f"{place}/ridge.py:question", *words)
    facts = json.loads(out)
    scores = by_hand(load_question(f"{place}/ridge.py:question")).scores
    assert (code, facts["trainings"], facts["errors"]) == (0, 0, None)
    assert facts["scores"] == pytest.approx((-np.mean(scores, axis=0)).tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("leaks", "--k", 0), "dl-750"),
        (("leaks", "--only", "trak"), "dl-984"),
        (("mislabels", "--k", 0), "dl-754"),
        (("mislabels", "--subsets", 1), "dl-756"),
    ],
)
def test_what_cannot_be_meant_ends_with_2(run: Run, place: Path, words: tuple, error: str) -> None:
    verb, *more = words
    code, out, err = run(verb, f"{place}/ridge.py:question", "--lab", place / "lab", *more, "--json")
    assert code == 2
    assert json.loads(out)["error"]["code"] == error
    assert error in err
