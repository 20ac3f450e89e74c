"""How work travels: mapped files are mapped again, and what workers would not find is told before they start."""

import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dataloupe._errors import CapabilityError, StoreError
from dataloupe.core import Examples
from dataloupe.run import Processes, why_not_sendable
from dataloupe.run._mapped import MIN_BYTES, packed, region_of
from dataloupe.run._sendable import _names_of_import
from dataloupe.run._worker import _unpacked

ROWS = MIN_BYTES // 8 // 4 + 10


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "a b.npy", np.arange(ROWS * 4, dtype=np.float64).reshape(ROWS, 4))
    return tmp_path / "a b.npy"


def mapped(file: Path) -> np.ndarray:
    return np.load(file, mmap_mode="r")


def look(context: Any, _: int) -> dict[str, Any]:
    """What a worker has: the sum, the file that holds it, its type and whether it is in shared memory."""
    x = context["x"]
    address = x.data_ptr() if torch.is_tensor(x) else x.__array_interface__["data"][0]
    size = x.nbytes
    found = region_of(address, size)
    return {
        "sum": float(x.sum()),
        "path": None if found is None else found.path,
        "shape": tuple(x.shape),
        "type": str(x.dtype),
        "shared": torch.is_tensor(x) and x.is_shared(),
    }


FORMS: dict[str, Callable[[Path], Any]] = {
    "memory map": mapped,
    "slice": lambda file: mapped(file)[7:],
    "examples": lambda file: Examples(mapped(file)).inputs,
    "tensor from file": lambda file: torch.from_file(
        str(file), shared=True, size=ROWS * 4, dtype=torch.float64
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_mapped_data_are_not_copied(file: Path, form: str) -> None:
    x = FORMS[form](file)
    assert len(packed({"x": x})) < 2000
    right = {"sum": float(x.sum()), "path": str(file), "shape": tuple(x.shape), "type": str(x.dtype)}
    again = _unpacked(packed({"x": x}))
    assert look(again, 0) == {**right, "shared": False}
    assert np.array_equal(np.asarray(again["x"]), np.asarray(x))


def test_workers_map_the_file_again(file: Path) -> None:
    context = {"x": Examples(mapped(file)).inputs}
    found = [seen for _, seen in Processes(workers=2).map(look, context, [0, 1])]
    assert [(seen["path"], seen["shared"]) for seen in found] == [(str(file), False)] * 2


def test_what_is_not_as_its_file_is_copied(file: Path) -> None:
    """Changed in memory only, small, removed, or of other strides."""
    changed = np.load(file, mmap_mode="c")
    changed[0] = 7.0
    gone = file.with_name("gone.npy")
    gone.write_bytes(file.read_bytes())
    removed = mapped(gone)
    gone.unlink()
    for x in (changed, mapped(file)[:100], removed, mapped(file)[:, :2], mapped(file).T):
        again = _unpacked(packed({"x": x}))["x"]
        assert np.array_equal(again, x)
        assert region_of(again.__array_interface__["data"][0], again.nbytes) is None


def test_a_plain_tensor_travels_as_before() -> None:
    x = torch.arange(float(ROWS * 4))
    assert region_of(x.data_ptr(), x.nbytes) is None
    parameter = torch.nn.Parameter(x.clone())
    again = _unpacked(packed({"x": x, "p": parameter}))
    assert torch.equal(again["x"], x)
    assert isinstance(again["p"], torch.nn.Parameter) and again["p"].requires_grad


@pytest.mark.parametrize("fate", ["removed", "replaced", "cut"])
def test_a_file_that_changed_meanwhile_is_named(file: Path, fate: str) -> None:
    sent = packed({"x": mapped(file)})
    data = file.read_bytes()
    if fate == "cut":
        file.write_bytes(data[:-8])
    else:
        file.rename(file.with_name("other"))
    if fate == "replaced":
        file.write_bytes(data)
    with pytest.raises(StoreError, match=r"dl-658.*a b\.npy"):
        _unpacked(sent)


def test_mapping_again_warns_of_nothing(file: Path) -> None:
    sent = packed({"x": Examples(mapped(file)).inputs})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _unpacked(sent)


# --- names that workers do not find -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("class A: pass\ndef f(): pass", {"A", "f"}),
        ("import a.b, c as d\nfrom e import g as h", {"a", "d", "h"}),
        ("if True:\n  class A: pass\nelse:\n  B = 1", {"A", "B"}),
        ("try:\n  A = 1\nexcept E as e:\n  B = 2", {"A", "B"}),
        ("with x as (A, B): pass\nfor C in D: pass", {"A", "B", "C"}),
        ("if __name__ == '__main__':\n  class A: pass\nelse:\n  B = 1", {"B"}),
        ("if '__main__' == __name__:\n  A = 1", set()),
        ("if __name__ == '__main__' and x:\n  A = 1", set()),
        ("if __name__ != '__main__':\n  A = 1", {"A"}),
        ("from a import *", None),
        ("a b", None),
        ("def f():\n  global A\n  class A: pass", {"f"}),
    ],
)
def test_names_that_an_import_binds(text: str, names: set[str] | None) -> None:
    assert _names_of_import(text) == names


def test_a_worker_that_does_not_find_a_class_says_so() -> None:
    """Whatever the look before overlooked."""
    module = types.ModuleType("not_a_module_of_workers")
    made = type("Made", (), {"__module__": module.__name__})
    module.Made = made
    sys.modules[module.__name__] = module
    sent = packed((made, None))
    del sys.modules[module.__name__]
    with pytest.raises(CapabilityError, match=r"dl-650.*not_a_module_of_workers.*top of a module"):
        _unpacked(sent)
    assert why_not_sendable({"x": 1}) is None
