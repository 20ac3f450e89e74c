"""`forget` and `unlearn` on the command line say what the library says."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from safetensors.torch import load_file

from dataloupe.cli._base import load_question
from dataloupe.cli._unlearners import CLASSES, Behind, grid_of, made, there, with_settings
from dataloupe.core import Question
from dataloupe.lab import Lab
from dataloupe.methods import TRAK
from dataloupe.unlearning import (
    Calibrated,
    Integrated,
    Regression,
    audit,
    pick_random,
    pick_where,
    plan_unlearning,
    rows_digest,
)
from dataloupe.unlearning._audit import trainings_behind

DIGITS = """

from torch import nn

import dataloupe.data
from dataloupe import core, learners, outputs, testing


def make_model():
    return nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))


train, test = dataloupe.data.digits()
learner = learners.SGD(make_model, epochs=3, lr=0.1, momentum=0.9, batch_size=32)
question = core.Question(learner, train[:120], test[:30], outputs.margin)
later = core.Question(learner, train[120:240], test[:30], outputs.margin)
ridge = core.Question(testing.RidgeLearner(penalty=10.0, classes=10), train[:120], test[:30], outputs.margin)
"""
FEW = ("--models", 10, "--oracles", 10, "--estimator", "gaussian", "--workers", 1)
BEHIND = ("--subsets", 12, "--prior", "none", "--scale", "none")


pytestmark = pytest.mark.usefixtures("no_probe")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A question, rows to forget, and the place of a lab."""
    folder = tmp_path_factory.mktemp("cli-unlearn")
    (folder / "digits.py").write_text(DIGITS)
    (folder / "rows.json").write_text('{"ids": [3, 14, 15, 92]}')
    return folder


@pytest.fixture
def question(place: Path) -> Question:
    return load_question(f"{place}/digits.py:question")


@pytest.fixture
def asked(place: Path) -> tuple[object, ...]:
    return f"{place}/digits.py:question", "--forget", place / "rows.json"


# --- forget ------------------------------------------------------------------------------------------------


def test_pick_writes_the_rows(run: Run, place: Path, tmp_path: Path, question: Question) -> None:
    out = tmp_path / "forget.json"
    words = ("forget", "pick", f"{place}/digits.py:question", "--random", 7, "--seed", 2, "--out", out)
    code, said, _ = run(*words)
    ids = pick_random(question.n, 7, 2)
    facts = json.loads(out.read_text())
    assert code == 0
    assert facts["ids"] == ids.tolist()
    assert (facts["digest"], facts["train"]) == (rows_digest(ids), question.train.fingerprint)
    assert "7 of 120 rows (5.8%) to forget, at random, seed 2" in said
    assert facts["digest"] in said
    code, said, _ = run("forget", "show", f"{place}/digits.py:question", "--forget", out, "--json")
    shown = json.loads(said)
    assert code == 0
    assert shown["ids"] == ids.tolist()
    assert sum(shown["classes"].values()) == 7


def test_pick_by_label_and_by_attribution(run: Run, place: Path, tmp_path: Path, question: Question) -> None:
    words = ("forget", "pick", f"{place}/digits.py:question", "--out", tmp_path / "f.json", "--json")
    code, said, _ = run(*words, "--where", "label=7")
    facts = json.loads(said)
    assert code == 0
    assert facts["ids"] == pick_where(question.train, "label", "7").tolist()
    assert facts["classes"] == {"7": facts["count"]}
    asking = ("--models", 2, "--lab", tmp_path / "lab")
    code, said, _ = run(*words, "--like", 5, "--count", 6, *asking)
    alike = json.loads(said)
    assert (code, alike["count"], 5 in alike["ids"]) == (0, 6, True)
    code, said, _ = run(*words, "--component", 1, "--top", 4, "--bottom", 2, *asking)
    ends = json.loads(said)
    assert (code, ends["count"]) == (0, 6)
    assert "component 1, 4 at the top and 2 at the bottom, by TRAK" in ends["how"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "dl-996"),
        (("--random", 5, "--where", "label=7"), "dl-996"),
        (("--component", 0), "dl-996"),
        (("--component", 0, "--top", 3), "dl-996"),
        (("--like", 3, "--count", 4), "dl-996"),
        (("--like", 3, "--lab", "lab"), "dl-996"),
        (("--where", "label"), "dl-996"),
        (("--where", "label=Shirt"), "dl-695"),
        (("--where", "colour=red"), "dl-695"),
        (("--random", 0), "dl-694"),
        (("--random", 120), "dl-694"),
        (("--like", 500, "--count", 4, "--lab", "lab"), "dl-109"),
        (("--random", 5, "--out", "nowhere/f.json"), "dl-998"),
    ],
)
def test_what_cannot_be_picked(run: Run, place: Path, tmp_path: Path, words: tuple, error: str) -> None:
    given = [str(tmp_path / word) if word in ("lab", "nowhere/f.json") else word for word in words]
    out = () if "--out" in words else ("--out", tmp_path / "f.json")
    code, said, _ = run("forget", "pick", f"{place}/digits.py:question", *given, *out, "--json")
    assert code == 2
    assert json.loads(said)["error"]["code"] == error
    assert not (tmp_path / "f.json").exists()
    assert not (tmp_path / "lab").exists(), "refused before any work"


# --- plan, run ---------------------------------------------------------------------------------------------


def test_plan_is_the_librarys(run: Run, asked: tuple, question: Question, tmp_path: Path) -> None:
    words = ("unlearn", "plan", *asked, "--methods", "dmm,scrub,gradient-ascent", *BEHIND, "--requests", 50)
    code, said, _ = run(*words, "--json")
    methods = made(
        ["dmm", "scrub", "gradient-ascent"], Behind(subsets=12, prior="none", scale="none"), question
    )
    expected = plan_unlearning(question, [3, 14, 15, 92], methods=methods, requests=50)
    assert code == 0
    assert json.loads(said) == json.loads(json.dumps(expected.to_json()))
    code, said, _ = run(*words)
    assert code == 0
    assert f"cheapest for 50 requests: {expected.verdict}" in said
    assert "predicted change" not in said
    code, said, _ = run(*words, "--lab", tmp_path / "lab")
    assert "predicted change of the own margin" in said


def test_run_writes_what_is_left(run: Run, asked: tuple, tmp_path: Path) -> None:
    out = tmp_path / "models"
    words = ("unlearn", "run", *asked, "--lab", tmp_path / "lab", "--out", out, "--workers", 1)
    settings = ("--settings", "lr=0.01", "epochs=2")
    code, said, _ = run(*words, "--method", "gradient-descent", "--models", 2, *settings)
    assert code == 0
    assert "4 rows forgotten by 2 models" in said and "2 of 2 models" in said
    facts = json.loads((out / "unlearned.json").read_text())
    assert (facts["settings"]["lr"], facts["settings"]["epochs"]) == (0.01, 2)
    assert facts["share"] == pytest.approx(2 / 3)
    assert facts["files"] == ["model-0.safetensors", "model-1.safetensors"]
    tensors = load_file(out / "model-1.safetensors")
    assert {name: tuple(t.shape) for name, t in tensors.items()}["0.weight"] == (8, 64)
    assert all(t.isfinite().all() for t in tensors.values())
    code, said, _ = run(*words, "--method", "dmm", *BEHIND, "--settings", "epochs=1", "ratio=2", "--json")
    facts = json.loads(said)
    assert (code, facts["method"]) == (0, "DMM")
    assert facts["settings"]["mix"]["epochs"] == 1


def test_a_model_that_diverges_is_not_written(run: Run, asked: tuple, tmp_path: Path) -> None:
    words = ("unlearn", "run", *asked, "--lab", tmp_path / "lab", "--out", tmp_path / "m", "--workers", 1)
    code, said, _ = run(*words, "--method", "gradient-ascent", "--settings", "lr=1e30", "--json")
    assert code == 1
    facts = json.loads(said)
    assert (facts["diverged"], facts["files"]) == (1, [])


# --- audit, sweep ------------------------------------------------------------------------------------------


def test_audit_is_the_librarys_and_writes_a_receipt(
    run: Run, place: Path, asked: tuple, question: Question, tmp_path: Path
) -> None:
    page = tmp_path / "receipt.html"
    words = ("unlearn", "audit", *asked, "--lab", place / "lab", *FEW, "--out", page, *BEHIND)
    code, said, _ = run(*words, "--methods", "retrain,gradient-ascent", "--gate", "none", "--json")
    facts = json.loads(said)
    methods = made(["retrain", "gradient-ascent"], Behind(), question)
    lab = Lab(place / "lab", progress=False)
    receipt = audit(
        methods, [3, 14, 15, 92], question=question, lab=lab, models=10, oracles=10, estimator="gaussian"
    )
    assert code == 0
    assert facts["audit"] == json.loads(json.dumps(receipt.to_json()))["audit"]
    assert (facts["words"], facts["gates"]) == ("evidence, not proof", {"forget": 0.25, "elsewhere": 2.0})
    written = json.loads((tmp_path / "receipt.json").read_text())
    assert written == {name: value for name, value in facts.items() if name != "path"}
    assert f"Unlearning receipt {receipt.digest}" in page.read_text()
    code, said, _ = run(*words, "--methods", "retrain,gradient-ascent")
    assert "evidence, not proof" in said and "norm." in said
    assert receipt.digest in said


@pytest.mark.parametrize(
    ("methods", "gates", "code"),
    [
        ("retrain,gradient-ascent", ("--gate-elsewhere", 1e6, "--gate-forget", 1e6), 0),
        ("retrain,gradient-ascent", ("--gate-elsewhere", -1e6), 1),
        ("retrain,gradient-ascent", ("--gate-elsewhere", -1e6, "--gate", "none"), 0),
    ],
)
def test_a_failed_gate_ends_with_1(
    run: Run, place: Path, asked: tuple, tmp_path: Path, methods: str, gates: tuple, code: int
) -> None:
    words = ("unlearn", "audit", *asked, "--lab", place / "lab", *FEW, "--out", tmp_path / "r.html")
    assert run(*words, "--methods", methods, *gates)[0] == code


def test_only_the_first_method_decides_unless_told(
    run: Run, place: Path, asked: tuple, tmp_path: Path
) -> None:
    words = ("unlearn", "audit", *asked, "--lab", place / "lab", *FEW, "--out", tmp_path / "r.html")
    words = (*words, "--gate-elsewhere", 4)
    destroyed = ("--settings", "lr=30", "epochs=3")
    code, said, _ = run(*words, "--methods", "gradient-descent,retrain", *destroyed, "--json")
    failed = json.loads(said)["failed"]
    assert (code, bool(failed["gradient-descent"]), failed["retrain"]) == (1, True, [])
    code, _, _ = run(*words, "--methods", "retrain,gradient-descent")
    assert code == 0


def test_sweep_chooses_by_the_worst_split(run: Run, place: Path, asked: tuple) -> None:
    words = ("unlearn", "sweep", *asked, "--lab", place / "lab", *FEW, "--method", "gradient-descent")
    grid = ("--grid", "lr=0.001,1e30", "epochs=1,2")
    code, said, _ = run(*words, *grid, "--json")
    facts = json.loads(said)
    rows = {row["name"]: row for row in facts["rows"]}
    assert code == 0
    assert list(rows) == [
        "lr 0.001, epochs 1",
        "lr 0.001, epochs 2",
        "lr 1e+30, epochs 1",
        "lr 1e+30, epochs 2",
    ]
    assert rows["lr 1e+30, epochs 1"]["worst"] is None
    assert rows["lr 1e+30, epochs 1"]["diverged"] == 10
    finite = [row for row in facts["rows"] if row["worst"] is not None]
    assert facts["best"] == min(finite, key=lambda row: row["p95"])["name"]
    assert facts["seed"] == 1
    for row in finite:
        assert row["worst"] == max(row["p95"])
    code, said, _ = run(*words, *grid)
    assert "best" in said and "10 diverged" in said
    code, _, _ = run(*words, "--grid", "lr=1e30")
    assert code == 1, "every setting diverged"


# --- what cannot be meant ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "words", "error"),
    [
        ("plan", ("--methods", "dmm,newton"), "dl-995"),
        ("plan", ("--methods", ","), "dl-995"),
        ("plan", ("--methods", "scrub,scrub"), "dl-995"),
        ("plan", ("--requests", 0), "dl-682"),
        ("plan", ("--methods", "dmm", "--subsets", 2), "dl-680"),
        ("run", ("--method", "dm-direct"), "dl-995"),
        ("run", ("--method", "scrub,retrain"), "dl-995"),
        ("run", ("--method", "scrub", "--models", 0), "dl-995"),
        ("run", ("--method", "scrub", "--settings", "speed=3"), "dl-997"),
        ("run", ("--method", "scrub", "--settings", "lr"), "dl-997"),
        ("run", ("--method", "scrub", "--settings", "lr=fast"), "dl-997"),
        ("run", ("--method", "scrub", "--settings", "lr=1,2"), "dl-997"),
        ("run", ("--method", "scrub", "--settings", "lr=1", "lr=2"), "dl-997"),
        ("run", ("--method", "scrub", "--settings", "epochs=1.5"), "dl-997"),
        ("run", ("--method", "scrub", "--settings", "lr=none"), "dl-997"),
        ("run", ("--method", "scrub", "--settings", "lr=-1"), "dl-670"),
        ("run", ("--method", "scrub", "--out", "rows.json"), "dl-998"),
        ("audit", ("--methods", "nothing"), "dl-995"),
        ("audit", ("--methods", "retrain", "--models", 3), "dl-922"),
        ("audit", ("--methods", "retrain", "--oracles", 0), "dl-922"),
        ("audit", ("--methods", "retrain", "--out", "nowhere/r.html"), "dl-998"),
        ("audit", ("--methods", "retrain", "--out", "."), "dl-998"),
        ("sweep", ("--method", "scrub", "--grid", "lr"), "dl-997"),
        ("sweep", ("--method", "scrub,retrain", "--grid", "lr=1,2"), "dl-997"),
        ("sweep", ("--method", "retrain", "--grid", "lr=1,2"), "dl-997"),
    ],
)
def test_what_cannot_be_meant_ends_with_2(
    run: Run, place: Path, asked: tuple, tmp_path: Path, verb: str, words: tuple, error: str
) -> None:
    places = {
        "rows.json": place / "rows.json",
        "nowhere/r.html": tmp_path / "nowhere" / "r.html",
        ".": tmp_path,
    }
    given = [places.get(word, word) for word in words]
    lab = tmp_path / "lab"
    code, said, err = run(
        "unlearn", verb, *asked, *(("--lab", lab) if verb != "plan" else ()), *given, "--json"
    )
    assert code == 2, err
    assert json.loads(said)["error"]["code"] == error
    assert not lab.exists(), "refused before any work"
    if error == "dl-995" and "newton" in str(words):
        assert "newton-step" in err and "scrub" in err, "the names there are"


@pytest.mark.parametrize(
    ("content", "name", "error"),
    [
        (None, "question", "dl-994"),
        ("not json", "question", "dl-994"),
        ("[3, 14]", "question", "dl-994"),
        ('{"ids": []}', "question", "dl-994"),
        ('{"ids": [1.5]}', "question", "dl-994"),
        ('{"ids": [true]}', "question", "dl-994"),
        ('{"ids": [3], "digest": "abc"}', "question", "dl-994"),
        ('{"ids": [3], "train": "abc"}', "question", "dl-994"),
        ('{"ids": [500]}', "question", "dl-109"),
        ('{"ids": [3, 3]}', "question", "dl-110"),
        ('{"ids": [3]}', "ridge", "dl-662"),
        (json.dumps({"ids": list(range(120))}), "question", "dl-661"),
        ('{"ids": [3]}', "nothing", "dl-982"),
    ],
)
def test_a_file_of_rows_that_is_none(
    run: Run, place: Path, tmp_path: Path, content: str | None, name: str, error: str
) -> None:
    file = tmp_path / "rows.json"
    if content is not None:
        file.write_text(content)
    for verb, more in (("plan", ()), ("audit", ("--methods", "retrain", "--lab", tmp_path / "lab"))):
        words = ("unlearn", verb, f"{place}/digits.py:{name}", "--forget", file, *more, "--json")
        code, said, _ = run(*words)
        assert (code, json.loads(said)["error"]["code"]) == (2, error)
        assert not (tmp_path / "lab").exists()


def test_rows_of_other_data_are_refused(run: Run, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.json"
    run("forget", "pick", f"{place}/digits.py:question", "--random", 3, "--out", out)
    code, _, err = run("unlearn", "plan", f"{place}/digits.py:later", "--forget", out)
    assert (code, "dl-994" in err, "other training data" in err) == (2, True, True)


def test_every_method_can_be_made(question: Question) -> None:
    assert there() == list(CLASSES)
    methods = made(there(), Behind(subsets=12, scale="none"), question)
    assert len({method.name for method in methods.values()}) == len(CLASSES)
    assert methods["dmm"].by is methods["dm-direct"].by
    assert isinstance(methods["dmm"].by, Regression)
    assert methods["dmm"].by.prior is not None
    scaled = made(["dmm"], Behind(subsets=12, prior_models=3, scale="calibrate"), question)["dmm"].by
    assert isinstance(scaled, Calibrated) and scaled.gradients == scaled.by.prior == TRAK(models=3)
    assert trainings_behind(scaled) == 12 + 49 * 5 + 3
    grown = made(["dmm"], Behind(subsets=12, fraction=0.6, scale="integrate"), question)["dmm"].by
    assert isinstance(grown, Integrated) and grown.sparse.fraction == pytest.approx(0.2)
    assert (grown.by.subsets.count, grown.sparse.count, grown.trainings) == (12, 12, 24)
    both = made(["dmm"], Behind(subsets=12, prior_models=3), question)["dmm"].by
    assert isinstance(both, Calibrated) and isinstance(both.by, Integrated)
    assert trainings_behind(both) == 24 + 49 * 5 + 3
    assert made(["scrub"], Behind(subsets=1), question), "no predictor where nothing needs one"
    changed = with_settings("eu-k", methods["eu-k"], grid_of(["lr=1"]) | {"lr": 1, "epochs": None})
    assert changed.lr == 1
    np.testing.assert_equal(grid_of(["a=1,none", "b=true"]), {"a": [1, None], "b": [True]})
