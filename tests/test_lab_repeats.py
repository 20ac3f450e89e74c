"""Two undisturbed runs are the same files, and the same page; results are checked when they are read."""

import json
from pathlib import Path
from typing import Any

import lab_job
import numpy as np
import pytest
from test_lab_hostile import folder_of

from dataloupe import outputs
from dataloupe._errors import StoreError
from dataloupe.core import DenseAttribution, Question, Subsets
from dataloupe.lab import Lab
from dataloupe.learners import SklearnLearner
from dataloupe.methods import Datamodel
from dataloupe.report import report
from dataloupe.store import LocalStore, open_store

DATA = lab_job.points(40, 0)
QUESTION = Question(SklearnLearner.ridge_classifier(), DATA, lab_job.points(5, 1), outputs.margin)
METHOD = Datamodel(Subsets(n=40, count=12))


def attributed(root: Path) -> DenseAttribution:
    return METHOD.attribute(QUESTION, Lab(root, progress=False, backend="loop"))


def test_two_runs_are_the_same_files_and_the_same_page(tmp_path: Path) -> None:
    """Seconds are kept, apart from what is compared."""
    for name in ("one", "two"):
        report(tmp_path / f"{name}.html", attributed(tmp_path / name), title="same")
    assert open_store(tmp_path / "one").digest() == open_store(tmp_path / "two").digest()
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert attributed(tmp_path / "one").info.cost["seconds"] >= 0
    kept = [path for path in (tmp_path / "one").rglob("times*.json") if "attribution" in str(path)]
    assert len(kept) == 1 and "cost/seconds" in kept[0].read_text()


def about_of(store: LocalStore) -> tuple[str, dict[str, Any]]:
    folder = folder_of(store, "attribution")
    return folder, store.read_facts(folder, "about") or {}


@pytest.mark.parametrize(
    "change",
    [
        lambda _: {},
        lambda about: {**about, "facts": 3},
        lambda about: {**about, "made_by": {"attributor": "another"}},
        lambda about: {**about, "arrays": {"scores": ["float32", [1, 1]]}},
    ],
)
def test_a_result_of_other_facts_is_refused(tmp_path: Path, change: Any) -> None:
    attributed(tmp_path)
    store = LocalStore(tmp_path)
    folder, about = about_of(store)
    store.write_facts(folder, "about", change(about))
    with pytest.raises(StoreError, match=r"dl-614.*about\.json"):
        attributed(tmp_path)


CHANGES: dict[str, Any] = {
    "scores of one row": lambda a, f: ({**a, "scores": a["scores"][:1].copy()}, f),
    "scores of fewer rows": lambda a, f: ({**a, "scores": a["scores"][:, 1:].copy()}, f),
    "whole numbers": lambda a, f: ({**a, "scores": np.zeros_like(a["scores"], np.int8)}, f),
    "NaN": lambda a, f: ({**a, "scores": a["scores"] * np.nan}, f),
    "no scores": lambda a, f: ({k: v for k, v in a.items() if k != "scores"}, f),
    "another bias": lambda a, f: ({**a, "bias": a["bias"][:2].copy()}, f),
    "other errors": lambda a, f: ({**a, "error_odd": a["bias"]}, f),
    "index out of range": lambda a, f: ({**a, "index": a["index"] + 1000}, f),
    "no info": lambda a, _: (a, {"units": "output"}),
    "info of another form": lambda a, f: (a, {**f, "info": {"method": 3, "odd": 1}}),
    "unknown units": lambda a, f: (a, {**f, "units": "inches"}),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", CHANGES)
def test_an_attribution_that_does_not_fit_its_question_is_refused(tmp_path: Path, name: str) -> None:
    attributed(tmp_path)
    store = LocalStore(tmp_path)
    folder, about = about_of(store)
    arrays, _ = store.read(folder, "result") or ({}, {})
    arrays, facts = CHANGES[name](arrays, about["facts"])
    (tmp_path / folder / "units/result.safetensors").unlink()
    store.write(folder, "result", arrays, {})
    types = {name: [array.dtype.name, list(array.shape)] for name, array in arrays.items()}
    store.write_facts(folder, "about", {**about, "facts": facts, "arrays": types})
    with pytest.raises(StoreError, match=r"dl-616.*attribution.*remove"):
        attributed(tmp_path)


def test_facts_of_a_lab_are_plain_json(tmp_path: Path) -> None:
    """What is put comes back: nested seconds as well as all else."""
    lab = Lab(tmp_path, progress=False)
    facts = {"seconds": 1.5, "cost": {"seconds": 2, "deep": {"seconds": 0.25, "x": [1]}}, "seconds_a": 3}
    lab.put("kind", {"a": 1}, {"x": np.arange(3)}, facts)
    found = lab.get("kind", {"a": 1})
    assert found is not None and found[1] == facts
    assert [one for one, _ in lab.entries("kind")] == [facts]
    assert json.loads((next(tmp_path.glob("kind-*")) / "about.json").read_text())["facts"]["facts"] == {
        "cost": {"deep": {"x": [1]}},
        "seconds_a": 3,
    }


def test_a_copied_folder_of_a_result_is_passed_over(tmp_path: Path) -> None:
    lab = Lab(tmp_path, progress=False)
    lab.put("kind", {"a": 1}, {}, {"x": 1})
    (folder,) = tmp_path.glob("kind-*")
    for name in (f"{folder.name} (copy)", f"{folder.name}-conflict", "kind-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "about.json").write_bytes((folder / "about.json").read_bytes())
    assert len(lab.entries("kind")) == 1
