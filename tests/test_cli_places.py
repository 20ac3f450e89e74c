"""Labs at URLs, commands that can be pasted, and question files that misbehave."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from command_line import RIDGE, Run, by_hand, with_scores

from dataloupe._errors import BadInput
from dataloupe.cli import _plan
from dataloupe.cli._base import load_question
from dataloupe.cli._folder import attributions, one
from dataloupe.cli._methods import METHODS
from dataloupe.core import Info
from dataloupe.lab import Lab

pytestmark = pytest.mark.usefixtures("no_probe", "here")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, with a question, in which the command line is used."""
    (tmp_path / "q.py").write_text(RIDGE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")


# --- labs at URLs -------------------------------------------------------------------------------------------


def test_every_verb_takes_a_lab_at_a_url(here: Path, run: Run) -> None:
    url = f"memory://{here.name}/lab"
    code, _, err = run("attribute", "q.py:question", "--with", "random", "--lab", url)
    assert code == 0, err
    assert run("what-if", "q.py:question", "--lab", url, "--target", 1, "--remove-top", 2)[0] in (0, 2)
    code, said, _ = run("show", url, "--json")
    assert code == 0 and json.loads(said)["attributions"]
    assert run("export", url, "--to", "a.npz")[0] == 0
    assert run("report", url, "--out", "a.html")[0] == 0
    assert "dataloupe: lab" in (here / "a.html").read_text()
    code, said, _ = run("doctor", url, "--json")
    assert code == 0 and json.loads(said)["folder"]["units"] > 0
    assert names(here) == ["a.html", "a.npz", "q.py"]
    assert fsspec.core.url_to_fs(url)[0].exists(f"/{here.name}/lab/dataloupe.json")


@pytest.mark.parametrize(
    "words",
    [
        "attribute q.py:question --with random --lab {}",
        "judge q.py:question --lab {}",
        "show {}",
        "report {}",
        "export {} --to a.npz",
        "diff show {}",
        "doctor {}",
        "forget pick q.py:itself --like 3 --count 2 --lab {}",
        "unlearn plan q.py:question --forget f.json --lab {}",
    ],
)
def test_a_url_that_cannot_be_opened_makes_no_folder(here: Path, run: Run, words: str) -> None:
    (here / "f.json").write_text('{"ids": [1]}')
    code, _, err = run(*words.format("nosuch://bucket/lab").split())
    assert code == 2 and "dl-611" in err and "nosuch" in err
    assert names(here) == ["f.json", "q.py"]


@pytest.mark.parametrize(
    "words", ["demo --folder {}", "unlearn run q.py:question --forget f.json --method dmm --lab l --out {}"]
)
def test_results_at_a_url_are_refused(here: Path, run: Run, words: str) -> None:
    (here / "f.json").write_text('{"ids": [1]}')
    code, _, err = run(*words.format("s3://bucket/x").split())
    assert code == 2 and "dl-975" in err and "s3://" in err
    assert names(here) == ["f.json", "q.py"]


def test_the_doctor_says_that_there_is_nothing(here: Path, run: Run) -> None:
    for place in (str(here / "nothing"), f"memory://{here.name}/nothing"):
        code, said, _ = run("doctor", place, "--json")
        facts = json.loads(said)
        assert code == 1 and facts["folder"]["exists"] is False
        assert facts["failed"] == [f"no lab in {place}"]
        code, said, _ = run("doctor", place)
        assert code == 1 and "no lab there" in said
    code, _, err = run("show", here / "nothing")
    assert code == 2 and "no lab there" in err


def test_the_doctor_lists_what_other_programs_left(here: Path, run: Run) -> None:
    with_scores(here)
    (here / "lab/about (copy).json").write_text("{}")
    code, said, _ = run("doctor", here / "lab")
    assert code == 0 and "ignored" in said and "about (copy).json" in said.replace("\n", "")


# --- commands that can be pasted ----------------------------------------------------------------------------


def test_what_is_proposed_chooses_one(here: Path) -> None:
    """Of methods alike but for settings, and of names that begin others."""
    lab, question = Lab(here / "lab", progress=False), load_question("q.py:question")
    scores = by_hand(question)
    for name, settings in [
        ("Datamodel (ridge)", {}),
        ("Datamodel (toward input similarity)", {}),
        ("TRAK", {"models": 3, "dim": 64}),
        ("TRAK", {"models": 5, "dim": 64}),
        ("TRAK by proxy", {}),
    ]:
        info = Info(name, settings=settings, question=question.identity, output="margin")
        arrays, facts = scores.to_arrays()
        lab.put("attribution", {"by": [name, settings]}, arrays, {**facts, "info": vars(info)})
    with pytest.raises(BadInput, match="dl-985") as told:
        one(attributions(lab))
    words = re.findall(r"[\w.+-]+", told.value.do.partition("--only ")[2].replace("(or", ""))
    assert len(words) == 5
    assert shlex.split(told.value.do.partition(" (or")[0])  # a shell takes it
    chosen = [one(attributions(lab, only=word)).info for word in words]
    assert len({json.dumps(vars(info), sort_keys=True) for info in chosen}) == 5
    assert not set("()'\" ;&|<>$`") & set("".join(words))


def test_attributions_of_two_questions_are_told_apart_in_words(here: Path) -> None:
    with_scores(here)
    with pytest.raises(BadInput, match=r"dl-985.*questions.*FILE\.py:NAME"):
        one(attributions(Lab(here / "lab", progress=False)))


@pytest.mark.parametrize("method", METHODS)
def test_settings_are_named_as_they_are_typed(run: Run, method: str) -> None:
    wrong = "--sketches" if method == "datamodel" else "--subsets"
    _, _, err = run("plan", "q.py:question", "--with", method, wrong, 3)
    assert "dl-983" in err and "_" not in err.partition("found")[2]


def test_paths_with_spaces_are_quoted(here: Path, run: Run) -> None:
    (here / "my files").mkdir()
    (here / "my files/q.py").write_text(RIDGE)
    code, said, _ = run("attribute", "my files/q.py:question", "--with", "random", "--lab", "my lab")
    command = said.partition("next:")[2].strip()
    assert code == 0
    assert shlex.split(command) == ["dataloupe", "judge", "my files/q.py:question", "--lab", "my lab"]
    _, said, _ = run("show", "my lab")
    command = said.partition("one target:")[2].strip()
    assert shlex.split(command) == ["dataloupe", "show", "my lab", "--target", "0"]


OWN = """
import dataclasses
from dataloupe.methods import RandomScores

@dataclasses.dataclass(frozen=True)
class Mine(RandomScores):
    pass

mine = Mine(seed=3)
"""


def test_a_method_of_the_users_own(here: Path, run: Run) -> None:
    (here / "mine.py").write_text(OWN)
    words = ("attribute", "q.py:question", "--lab", "lab", "--with")
    code, _, err = run(*words, "mine.py:mine")
    assert code == 0, err
    assert len(attributions(Lab(here / "lab", progress=False))) == 1
    for word, error in (("mine.py:other", "dl-982"), ("none.py:mine", "dl-980"), ("track", "dl-978")):
        code, _, err = run(*words, word)
        assert code == 2 and error in err, err
    code, _, err = run(*words, "mine.py:mine", "--models", 3)
    assert code == 2 and "dl-983" in err and "--models" in err


# --- everyday trouble ---------------------------------------------------------------------------------------


def test_effects_are_planned_on_a_slow_machine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clock says, the probe trains enough models to see how far outputs vary."""
    monkeypatch.setattr(_plan, "PROBE_SECONDS", 0.0)
    code, said, err = run("plan", "q.py:question", "--with", "datamodel", "--effect", 0.5, "--json")
    assert code == 0, err
    assert json.loads(said)["pilot"] >= _plan.PILOT


@pytest.mark.parametrize("line", ["import sys; sys.exit(7)", "raise SystemExit('no GPU')", "exit()"])
def test_a_question_file_that_exits_is_named(here: Path, run: Run, line: str) -> None:
    (here / "bad.py").write_text(line)
    code, _, err = run("attribute", "bad.py:question", "--with", "random", "--lab", "lab")
    assert code == 2 and "dl-981" in err and "SystemExit" in err and "line 1" in err


LEARNER = """
import dataclasses, sys
import dataloupe.data
from dataloupe import core, outputs

@dataclasses.dataclass(frozen=True)
class Leaving:
    removal: str = "repack"
    def train(self, data, weights, *, seed):
        {}

train, test = dataloupe.data.digits()
question = core.Question(Leaving(), train[:40], test[:4], outputs.margin)
"""


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [("sys.exit(7)", "dl-976", "sys.exit(7)"), ("raise MemoryError('8 TiB')", "dl-977", "8 TiB")],
)
def test_a_learner_that_ends_the_program_is_named(
    here: Path, run: Run, line: str, error: str, words: str
) -> None:
    """In this process, and as one object where a program listens."""
    (here / "leaving.py").write_text(LEARNER.format(line))
    command = ("attribute", "leaving.py:question", "--with", "datamodel", "--subsets", 10, "--lab", "lab")
    code, _, err = run(*command)
    assert code == 2 and error in err and words in err
    code, said, _ = run(*command, "--json")
    assert code == 2 and json.loads(said)["error"]["code"] == error


@pytest.mark.parametrize(
    "contents",
    [
        "[" * 100_000,
        '{"ids": ' + "[" * 100_000,
        '{"ids": [1' + "0" * 30 + "]}",
        '{"ids": [-1]}',
        '{"ids": [0.5]}',
        "\0",
        '{"ids": {}}',
    ],
    ids=range(7),
)
def test_files_of_rows_that_cannot_be_read_are_named(here: Path, run: Run, contents: str) -> None:
    (here / "f.json").write_text(contents)
    code, _, err = run("forget", "show", "q.py:question", "--forget", "f.json")
    assert code == 2 and re.search(r"dl-\d{3}", err), err
    assert "Traceback" not in err


@pytest.mark.parametrize("count", ["1e20", "100000000000000000000", "-3", "nan", "2.5", "0"])
def test_impossible_numbers_are_named(run: Run, count: str) -> None:
    code, said, err = run(
        "attribute", "q.py:question", "--with", "datamodel", "--subsets", count, "--lab", "lab"
    )
    assert code == 2, (said, err)
    assert "Traceback" not in err


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dataloupe", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "what-if" in done.stdout
