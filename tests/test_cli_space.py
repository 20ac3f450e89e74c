"""`space` and `predict` on the command line say what the library says."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, by_hand, with_scores

from dataloupe.apps import clusters, neighbours, principal, removal_of_direction
from dataloupe.cli._base import load_question
from dataloupe.core import DenseAttribution, Info, MemoryLab
from dataloupe.lab import Lab

pytestmark = pytest.mark.usefixtures("no_probe")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two questions, and a lab with scores for both."""
    return with_scores(tmp_path_factory.mktemp("scores"))


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
    question = load_question(f"{place}/ridge.py:question")
    scores = by_hand(question)
    direction = (principal(scores, 3), 1)
    expected = removal_of_direction(question, MemoryLab(), scores, direction, k=4, verify=2)
    assert found["top_rows"] == expected.top_rows.tolist()
    for told, effect in zip(found["effects"], expected.effects, strict=True):
        assert told["change"] == pytest.approx(effect.change, rel=1e-3, abs=1e-5)
    assert (code, found["verdict"]) == (int(expected.verdict == "disagree"), expected.verdict)


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
