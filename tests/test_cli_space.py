"""`space` and `predict` on the command line say what the library says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataloupe.apps import clusters, neighbours, principal
from dataloupe.cli import main
from dataloupe.cli._base import load_question
from dataloupe.core import DenseAttribution, Info
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
    return DenseAttribution(scores, info, bias=np.arange(len(scores), dtype=np.float32), index=question.index)


def test_space_is_clusters_principal_and_neighbours(run: Run, place: Path) -> None:
    asked = f"{place}/ridge.py:question"
    words = ("space", asked, "--lab", place / "lab", "--clusters", 3, "--components", 2, "--target", 4)
    code, out, _ = run(*words, "--json")
    scores, facts = by_hand(load_question(asked)), json.loads(out)
    assert code == 0 and "test" not in facts
    assert facts["clusters"]["labels"] == clusters(scores, 3).labels.tolist()
    assert facts["principal"]["explained"] == pytest.approx(principal(scores, 2).explained.tolist(), rel=1e-4)
    assert facts["neighbours"]["helps"] == neighbours(scores, 4).helps.tolist()
    code, out, _ = run(*words)
    assert code == 0
    assert "direction" in out and str(neighbours(scores, 4)) in out.replace("\n", " ")


def test_a_direction_is_tested_by_retraining(run: Run, place: Path) -> None:
    words = ("--lab", place / "lab", "--test", 1, "--rows", 4, "--k", 3, "--verify", 2, "--workers", 1)
    code, out, _ = run("space", f"{place}/ridge.py:question", *words, "--json")
    found = json.loads(out)["test"]
    assert found["component"] == 1 and len(found["top_rows"]) == 4
    assert code == int(found["verdict"] == "disagree")


def test_predict_is_the_attribution(run: Run, place: Path, tmp_path: Path) -> None:
    asked = f"{place}/ridge.py:question"
    scores = by_hand(load_question(asked))
    masks = np.random.default_rng(0).random((3, 40)) < 0.5
    np.save(tmp_path / "masks.npy", masks)
    mask = np.zeros(40, dtype=bool)
    mask[[3, 7]] = True
    for words, rows in (
        (("--masks", tmp_path / "masks.npy"), masks),
        (("--keep", 3, 7), mask[None]),
        (("--remove", 3, 7), ~mask[None]),
    ):
        code, out, _ = run("predict", asked, "--lab", place / "lab", *words, "--json")
        expected = rows @ scores.scores.T + scores.bias
        assert code == 0
        np.testing.assert_allclose(json.loads(out)["predicted"], expected, rtol=1e-4)
    code, out, _ = run("predict", asked, "--lab", place / "lab", "--keep", 3, 7, "--show", 2)
    assert code == 0 and "2 of 40 examples kept" in out and f"{expected[0, 0]:+.3f}" not in out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("space", "--test", 3), "dl-987"),
        (("space", "--clusters", 1), "dl-759"),
        (("predict",), "dl-989"),
        (("predict", "--keep", 1, "--remove", 2), "dl-989"),
        (("predict", "--masks", "nowhere.npy"), "dl-989"),
        (("predict", "--keep", 40), "dl-109"),
    ],
)
def test_what_cannot_be_meant_ends_with_2(run: Run, place: Path, words: tuple, error: str) -> None:
    verb, *more = words
    code, _, err = run(verb, f"{place}/ridge.py:question", "--lab", place / "lab", *more)
    assert code == 2
    assert error in err


def test_changes_are_no_outputs(run: Run, place: Path) -> None:
    asked = f"{place}/ridge.py:itself"
    question = load_question(asked)
    info = Info("changes", question=question.identity, output="margin")
    scores = DenseAttribution(by_hand(question).scores, info, index=question.index)
    Lab(place / "lab", progress=False).put("attribution", {"by": "changes"}, *scores.to_arrays())
    code, _, err = run("predict", asked, "--lab", place / "lab", "--keep", 1, "--only", "changes")
    assert (code, "dl-988" in err) == (2, True)
