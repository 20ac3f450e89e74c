"""`leaks` and `mislabels` on the command line say what the library says."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, by_hand, with_scores

from dataloupe.apps import leaks, mislabels
from dataloupe.cli._base import load_question
from dataloupe.core import Subsets
from dataloupe.lab import Lab

pytestmark = pytest.mark.usefixtures("no_probe")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two questions, and a lab with scores for both."""
    return with_scores(tmp_path_factory.mktemp("scores"))


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
