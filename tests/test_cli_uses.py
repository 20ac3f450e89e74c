"""What `support`, `leaks`, `mislabels` and `groups` find stays in the lab, for `show` and `report`."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Run

from dataloupe.apps import Support
from dataloupe.cli import main
from dataloupe.cli._base import load_question
from dataloupe.cli._uses import KINDS, keep_use, kept, uses
from dataloupe.core import DenseAttribution, Info
from dataloupe.engine import Backend, Choice
from dataloupe.lab import Lab
from dataloupe.store import LocalStore

RIDGE = """
import dataloupe.data
from dataloupe import core, outputs, testing

train, test = dataloupe.data.digits()
learner = testing.RidgeLearner(penalty=10.0, classes=10)
question = core.Question(learner, train[:80], test[:12], outputs.hard_margin)
"""

VERBS = {
    "support": ("--verify", 3, "--limit", 0.3),
    "leaks": ("--k", 4),
    "mislabels": ("--subsets", 12),
    "groups": ("--models", 30),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a question and a lab in which every verb has been asked once."""
    folder = tmp_path_factory.mktemp("cli-uses")
    (folder / "ridge.py").write_text(RIDGE)
    asked = f"{folder}/ridge.py:question"
    question = load_question(asked)
    same = question.train.labels.numpy() == question.targets.labels.numpy()[:, None]
    scores = DenseAttribution(
        np.where(same, 0.2, -0.02)
        + 0.001 * question.targets.inputs.numpy() @ question.train.inputs.numpy().T,
        Info("by hand", question=question.identity, output="hard margin", fraction=1.0),
        index=question.index,
    )
    with pytest.MonkeyPatch.context() as patch:
        settled = Choice(Backend("loop", unit=8), seconds=1e-3, measured={})
        patch.setattr("dataloupe.lab._lab.choose", lambda *_: settled)
        lab = Lab(folder / "lab", progress=False)
        lab.put("attribution", {"by": "hand"}, *scores.to_arrays())
        for verb, words in VERBS.items():
            with pytest.raises(SystemExit):
                main([verb, asked, "--lab", f"{folder}/lab", "--workers", "1", *map(str, words)])
    return folder


def test_what_is_kept_comes_back(place: Path, tmp_path: Path) -> None:
    question = load_question(f"{place}/ridge.py:question")
    found = uses(Lab(place / "lab", progress=False), question.identity)
    assert [type(use) for use in found] == list(KINDS.values())
    again = Lab(tmp_path, progress=False)
    for use in found + found:
        keep_use(again, question, use)
    for one, other in zip(found, uses(again, question.identity), strict=True):
        assert json.dumps(one.to_json()) == json.dumps(other.to_json()) and str(one) == str(other)
        for field in dataclasses.fields(one):
            here, there = getattr(one, field.name), getattr(other, field.name)
            if isinstance(here, np.ndarray):
                assert here.dtype == there.dtype
                np.testing.assert_array_equal(here, there)
    assert uses(again, "another question") == []
    assert kept(again) == dict.fromkeys(KINDS, 1)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_keeps_what_it_says(run: Run, place: Path, verb: str) -> None:
    asked = f"{place}/ridge.py:question"
    code, out, _ = run(verb, asked, "--lab", place / "lab", "--workers", 1, *VERBS[verb], "--json")
    facts = json.loads(out)
    found = uses(Lab(place / "lab", progress=False), load_question(asked).identity)
    (mine,) = [use for use in found if isinstance(use, KINDS[verb])]
    said = facts["overall"] if verb == "groups" else facts
    assert code in (0, 1)
    expected = json.loads(json.dumps(mine.to_json()))
    assert {name: said[name] for name in expected} == expected
    if isinstance(mine, Support):
        assert mine.judged > 0


def test_report_and_show_read_them_and_write_nothing(run: Run, place: Path, tmp_path: Path) -> None:
    before = LocalStore(place / "lab").digest()
    code, _, _ = run("report", place / "lab", "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert code == 0
    assert page.count('class="card finding"') == len(VERBS)
    assert page.count("data:image/png") > 30
    code, out, _ = run("show", place / "lab")
    assert (code, "1 support, 1 leaks, 1 mislabels, 1 groups" in out) == (0, True)
    _, out, _ = run("show", place / "lab", "--json")
    assert json.loads(out)["answers"] == dict.fromkeys(VERBS, 1)
    assert LocalStore(place / "lab").digest() == before
