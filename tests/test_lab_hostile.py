"""Folders of somebody else, signed anew: what is read back is held against the job. A checksum is no signature."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lab_job
import numpy as np
import pytest

from dataloupe._errors import BadInput, StoreError
from dataloupe.core import Subsets
from dataloupe.engine import Backend, environment
from dataloupe.lab import Lab, _lab
from dataloupe.solve import Exact
from dataloupe.store import LocalStore, open_store

SUBSETS = Subsets(n=60, count=4, seed=1)
QUESTION = lab_job.question(epochs=1)
UNIT = "0000000-0000002"
BACKEND = {"kind": "loop", "group": 1, "threads": 1, "unit": 2}
SKETCH = Exact()
Change = Callable[[dict[str, Any]], dict[str, Any]]


def lab_in(root: Path) -> Lab:
    return Lab(root, backend=Backend("loop", unit=2), progress=False)


def use(root: Path, kind: str) -> Any:
    """Something computed by the lab, of this kind of folder."""
    lab = lab_in(root)
    if kind == "outcomes":
        return lab.outcomes(QUESTION, SUBSETS).values
    if kind == "models":
        return [model.params for model in lab.models(QUESTION, SUBSETS)]
    return lab.features(QUESTION, SUBSETS, 0, SKETCH).whole


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lab")
    for kind in ("outcomes", "models", "features"):
        use(root, kind)
    return root


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "lab"))


def folder_of(store: LocalStore, kind: str, having: str = "") -> str:
    """The folder of this kind (with a unit whose name ends so)."""
    return next(
        name
        for name in store.folders()
        if name.startswith(f"{kind}-") and any(unit.endswith(having) for unit in store.units(name))
    )


def rewrite(root: Path, kind: str, unit: str, change: Change) -> None:
    """Sign a unit anew, its arrays (and, under "facts", its facts) changed."""
    store = LocalStore(root)
    folder = folder_of(store, kind)
    name = next(name for name in store.units(folder) if name.startswith(unit) or name.endswith(unit))
    arrays, facts = store.read(folder, name) or ({}, {})
    changed = change({**arrays, "facts": facts})
    (root / folder / "units" / f"{name}.safetensors").unlink()
    store.write(folder, name, {k: v for k, v in changed.items() if k != "facts"}, changed["facts"])


def without(name: str) -> Change:
    return lambda unit: {key: value for key, value in unit.items() if key != name}


def with_array(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda unit: {**unit, name: change(unit[name])}


@pytest.mark.parametrize(
    "wrong",
    [
        {"threads": 100_000},
        {"threads": 0},
        {"threads": "1"},
        {"threads": True},
        {"unit": -1},
        {"unit": 0},
        {"unit": 1.5},
        {"group": -3},
        {"kind": "evil"},
        {"kind": None},
        {"more": 1},
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_recorded_back_end_out_of_range_is_refused(copied: Path, wrong: dict[str, Any]) -> None:
    store = LocalStore(copied)
    folder = folder_of(store, "outcomes")
    shutil.rmtree(copied / folder / "units")
    store.write_facts(folder, "backend", {"backend": BACKEND | wrong, "environment": environment()})
    with pytest.raises(StoreError, match=r"dl-614.*backend\.json.*remove the folder"):
        Lab(copied, progress=False).outcomes(QUESTION, SUBSETS)


@pytest.mark.parametrize(
    "record",
    [{}, {"backend": BACKEND}, {"backend": [], "environment": {}}, {"backend": BACKEND, "environment": [1]}],
)
def test_a_back_end_of_another_form_is_refused(copied: Path, record: dict[str, Any]) -> None:
    store = LocalStore(copied)
    store.write_facts(folder_of(store, "outcomes"), "backend", record)
    with pytest.raises(StoreError, match="dl-614"):
        use(copied, "outcomes")


@pytest.mark.parametrize("setting", [{"kind": "evil"}, {"unit": -1}, {"group": 0}, {"threads": 1.5}])
@pytest.mark.usefixtures("unchecked")
def test_a_back_end_out_of_range_cannot_be_made(setting: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="dl-226"):
        Backend(**{"kind": "loop", **setting})


CHANGES: dict[str, tuple[str, str, Change]] = {
    "one column for all": ("outcomes", "0000000", with_array("values", lambda v: v[:, :1].copy())),
    "one row for all": (
        "outcomes",
        "0000000",
        lambda u: {**u, "values": u["values"][:1].copy(), "status": u["status"][:1].copy()},
    ),
    "no values": ("outcomes", "0000000", without("values")),
    "no status": ("outcomes", "0000000", without("status")),
    "bytes": ("outcomes", "0000000", with_array("values", lambda v: v.astype(np.int8))),
    "doubles": ("outcomes", "0000000", with_array("values", lambda v: v.astype(np.float64))),
    "unknown status": ("outcomes", "0000000", with_array("status", lambda s: s + 2)),
    "status of another type": ("outcomes", "0000000", with_array("status", lambda s: s.astype(np.int64))),
    "NaN marked ok": ("outcomes", "0000000", with_array("values", lambda v: v * np.nan)),
    "tensor missing": ("models", "0000000", without("0.weight")),
    "tensor of another shape": ("models", "0000000", with_array("0.weight", lambda w: w[:, :1].copy())),
    "tensor of one model": ("models", "0000000", with_array("0.weight", lambda w: w[:1].copy())),
    "tensor of another type": ("models", "0000000", with_array("0.bias", lambda b: b.astype(np.int32))),
    "features of one row": ("features", "", lambda u: {**u, "features": u["features"][:1].copy()}),
    "features of one column": ("features", "", with_array("features", lambda f: f[:, :1].copy())),
    "features of whole numbers": ("features", "", with_array("features", lambda f: f.astype(np.int32))),
    "features not finite": ("features", "", with_array("features", lambda f: f * np.nan)),
    "no features": ("features", "", without("features")),
    "slope of one row": ("features", ".slope", with_array("slope", lambda s: s[:1].copy())),
    "slope not finite": ("features", ".slope", with_array("slope", lambda s: s * np.inf)),
    "no slope": ("features", ".slope", without("slope")),
    "no width": ("features", ".slope", with_array("facts", lambda f: {**f, "width": -1})),
    "width of text": ("features", ".slope", with_array("facts", lambda f: {**f, "width": "3"})),
    "no count": (
        "features",
        ".slope",
        with_array("facts", lambda f: {k: v for k, v in f.items() if k != "not_finite"}),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_unit_that_does_not_fit_its_job_is_refused(copied: Path, name: str) -> None:
    kind, unit, change = CHANGES[name]
    rewrite(copied, kind, unit, change)
    with pytest.raises(StoreError, match=r"dl-615.*the array .* of the unit .*remove"):
        use(copied, kind)


def test_threads_of_features_are_checked(copied: Path) -> None:
    store = LocalStore(copied)
    for folder in [name for name in store.folders() if name.startswith("features-")]:
        record = store.read_facts(folder, "made_by") or {}
        record["on"]["threads"] = 100_000
        store.write_facts(folder, "made_by", record)
        shutil.rmtree(copied / folder / "units")
    with pytest.raises(StoreError, match=r"dl-614.*threads: 100000"):
        use(copied, "features")


@pytest.mark.parametrize(
    ("record", "facts"), [("times", {"runs": 3}), ("times-probe", {"seconds_per_model": "fast"})]
)
def test_times_of_another_form_are_refused(copied: Path, record: str, facts: dict[str, Any]) -> None:
    store = LocalStore(copied)
    folder = folder_of(store, "outcomes")
    (copied / folder / "units" / f"{UNIT}.safetensors").unlink()
    store.write_facts(folder, record, facts)
    with pytest.raises(StoreError, match=rf"dl-614.*{record}\.json"):
        use(copied, "outcomes")


@pytest.mark.parametrize(
    "name",
    [
        f"{UNIT} (copy)",
        f"{UNIT}-conflict",
        f"{UNIT}.sync-conflict-20260101-120000-ABCDEFG",
        "0000000-9999999",
        "0000000-99999999999999999999",
        "0000002-0000000",
        "notes",
    ],
)
def test_other_names_among_the_units_are_passed_over(copied: Path, name: str) -> None:
    right = use(copied, "outcomes")
    folder = copied / folder_of(LocalStore(copied), "outcomes") / "units"
    shutil.copy(folder / f"{UNIT}.safetensors", folder / f"{name}.safetensors")
    assert np.array_equal(use(copied, "outcomes"), right)


def test_a_folder_removed_while_the_lab_works_is_a_named_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def removed_after(work: Any, span: Any) -> Any:
        found = run_unit(work, span)
        if span[0] > 0:
            shutil.rmtree(tmp_path / "lab")
        return found

    run_unit = _lab.run_unit
    monkeypatch.setattr(_lab, "run_unit", removed_after)
    with pytest.raises(
        StoreError, match=r"dl-229.*0000000-0000002.*no such file any more.*run the same again"
    ):
        use(tmp_path / "lab", "outcomes")
    monkeypatch.undo()
    assert use(tmp_path / "lab", "outcomes").shape == (4, 1, 7)
    assert open_store(tmp_path / "lab").damaged() == []
