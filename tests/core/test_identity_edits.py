"""An edit of what decides an answer gives another identity; what decides nothing does not."""

import importlib.util
import linecache
import os
import subprocess
import sys
import types

import pytest
from edited_code import EDITS, HEAD, LOOP

from dataloupe._errors import BadInput
from dataloupe._fingerprints._source import code_digest
from dataloupe._identity import canonical, differences, identity


@pytest.fixture
def load(tmp_path, monkeypatch):
    """A function that writes a text into a folder of its own and imports it."""
    count = iter(range(100))

    def loaded(text, name="job"):
        folder = tmp_path / f"place {next(count)}" / "deep"
        folder.mkdir(parents=True)
        first, *others = text.split("# file: ")
        for part in others:
            file, _, body = part.partition("\n")
            (folder / file).write_text(body)
            monkeypatch.delitem(sys.modules, file.removesuffix(".py"), raising=False)
        (folder / f"{name}.py").write_text(HEAD + first)
        monkeypatch.syspath_prepend(str(folder))
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return loaded


@pytest.mark.parametrize("place", EDITS)
def test_an_edit_is_seen_and_nothing_else(place, load):
    text, before, after = EDITS[place]
    first = identity(load(text.replace("@@", before)).thing)
    assert identity(load(text.replace("@@", after)).thing) != first
    # other folder, other name, other comments: the same code
    again = load(
        "# a comment\n\n" + text.replace("@@", before).replace("\ndef ", "\n\n# why\ndef "), name="another"
    )
    assert identity(again.thing) == first


def test_equal_code_under_two_decorators_is_told_apart(load):
    text = "class A:\n    @@\n    def lr(self): return 1\nthing = A"
    first = load(text.replace("@@", "@property"))
    second = load(text.replace("@@", "@staticmethod"), name="other")
    codes = first.thing.lr.fget.__code__, second.thing.lr.__code__
    assert codes[0] == codes[1]
    assert code_digest(codes[0], vars(first)) != code_digest(codes[1], vars(second))


def test_there_are_enough_places():
    assert len(EDITS) > 70


FIT = "LR = 0.1\ndef fit(data, weights, seed):\n    'says why'\n    return weights * LR  # so" + LOOP


def test_comments_docstrings_and_layout_do_not_count(load):
    other = (
        "LR = (\n  0.1\n)\ndef fit(\n    data, weights, seed\n):\n    'why not'\n    return (weights * LR)"
        + LOOP
    )
    assert identity(load(FIT).thing) == identity(load(other).thing)


def test_a_global_changed_while_the_program_runs_is_seen(load):
    job = load(FIT)
    before = identity(job.thing)
    job.LR = 0.2
    changed = identity(job.thing)
    job.LR = 0.1
    assert identity(job.thing) == before != changed
    job.fit = lambda *_: 1
    assert identity(job.thing) != before


def test_a_method_of_the_library_that_was_replaced_is_seen(load, monkeypatch):
    job = load("thing = dl.outputs.Margin()\ndef value(self, model, rows, draw=None): return 2")
    before = identity(job.thing)
    monkeypatch.setattr(type(job.thing), "value", job.value)
    assert identity(job.thing) != before


def test_a_function_put_into_an_installed_module_is_followed(load, monkeypatch):
    text = "import torch.nn.functional as F\ndef mine(x): return x * @@\ndef fit(data, weights, seed): return F.relu(weights)"
    found = []
    for value in "12":
        job = load(text.replace("@@", value) + LOOP)
        plain = identity(job.thing)
        monkeypatch.setattr(job.F, "relu", job.mine)
        found += [plain, identity(job.thing)]
        monkeypatch.undo()
    assert found[0] == found[2] and len(set(found)) == 3


def test_what_is_not_read_does_not_count(load):
    unread = "train = torch.ones(3)\nEPOCHS = @@\ndef other(): return EPOCHS\ndef fit(data, weights, seed): return data.train"
    assert identity(load(unread.replace("@@", "1") + LOOP).thing) == identity(
        load(unread.replace("@@", "2") + LOOP).thing
    )


def test_equal_objects_are_one(load):
    job = load(
        "class C:\n    def __init__(self, lr): self.lr = [lr, lr]\n    def train(self): return self.lr\n"
        "shared = [1]\none, two = C(0.1), C(0.1)\nthree, four = [shared, shared], [[1], [1]]\n"
        "def outer(k): return lambda: k\n"
    )
    assert identity(job.one) == identity(job.two) != identity(job.C(0.2))
    assert identity(job.outer(1)) == identity(job.outer(1)) != identity(job.outer(2))
    assert identity(job.three) == identity(job.four)


def test_what_meets_itself_ends(load):
    job = load(
        "class Node:\n    def __init__(self): self.me = self\n    def train(self): return NODE, a()\n"
        "NODE = Node()\ndef a(): return b()\ndef b(): return a()\n"
        "class Told:\n    def __identity__(self): return {'told': told, 'by': canonical(told)}\n"
        "from dataloupe._identity import canonical\ntold = Told()\n"
    )
    assert identity(job.NODE) == identity(job.Node())
    assert identity(job.told) == identity(job.told)


SCRIPT = (
    HEAD
    + FIT
    + "\nSET = {'a', 'b', 'c'}\nfrom dataloupe._identity import identity\nprint(identity([thing, sorted]))"
)


def test_another_process_and_a_script_and_a_notebook_see_the_same(load, tmp_path):
    job = load(FIT)
    here = identity([job.thing, sorted])
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = {**os.environ, "PYTHONHASHSEED": "3"}
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, env=env, check=True)
    assert told.stdout.strip() == here
    assert identity([notebook(FIT, "<ipython-input-3-abc>").thing, sorted]) == here


def notebook(text, name, *, remembered=True):
    """A cell as IPython runs it: no file, its lines in `linecache`."""
    cell = HEAD + text
    if remembered:
        linecache.cache[name] = len(cell), None, cell.splitlines(keepends=True), name
    module = types.ModuleType("__main__")
    exec(compile(cell, name, "exec"), vars(module))
    return module


def test_code_without_source_is_known_by_its_bytecode():
    def made(text):
        return identity(notebook(text, "<string>", remembered=False).fit)

    text = "def fit(x): return x * 2"
    assert made(text) == made("\n\n" + text) != made(text.replace("2", "3"))
    assert (
        identity(eval("lambda x: x + 1"))
        == identity(eval("lambda x:  x + 1"))
        != identity(eval("lambda x: x + 2"))
    )


def test_a_file_edited_after_it_was_imported_is_known_by_the_code_that_runs(load):
    """The old code runs on: what it gives must not be found by the new text."""
    job = load("def fit(data, weights, seed): return weights * 1" + LOOP)
    edited = HEAD + "def fit(data, weights, seed): return weights * 2" + LOOP
    with open(job.__file__, "w") as file:  # noqa: PTH123
        file.write(edited + "# longer\n")
    old, new = identity(job.thing), identity(load(edited.removeprefix(HEAD)).thing)
    assert old != new


# --- what cannot be followed ---


@pytest.mark.parametrize(
    "made", ["(i for i in [1])", "open(__file__); X.close()", "__import__('mmap').mmap(-1, 8)"]
)
def test_what_cannot_be_followed_asks_for_a_version(made, load):
    text = f"X = {made}\ndef fit(data, weights, seed): return X"
    with pytest.raises(BadInput, match=r"dl-102.*`X` in fit: a (generator|TextIOWrapper|mmap).*version"):
        canonical(load(text + LOOP).thing)
    versioned = [
        load(
            text + LOOP.replace('removal: str = "repack"', f'removal: str = "repack"; version: str = "{v}"')
        ).thing
        for v in "112"
    ]
    keys = [identity(thing) for thing in versioned]
    assert keys[0] == keys[1] != keys[2]


def test_an_object_may_say_its_state_and_even_its_code(load):
    state = (
        "class C:\n    def __init__(self): self.x = (i for i in [1])\n    def __identity__(self): return {'x': 1@@}\n"
        "    def train(self): return @@\nthing = C()"
    )
    assert identity(load(state.replace("@@", "")).thing) != identity(
        load(state.replace("return @@", "return 2").replace("@@", "")).thing
    )
    whole = state.replace("1@@", "1, 'code': 'v3'")
    assert identity(load(whole.replace("@@", "1")).thing) == identity(load(whole.replace("@@", "2")).thing)


def test_loggers_locks_and_hints_decide_nothing(load):
    job = load(
        "import logging, threading, typing, sys, weakref\nlog = logging.getLogger('x')\nlock = threading.Lock()\n"
        "Kind = typing.Literal['a']\nMaybe = int | None\nout = sys.__stderr__\n"
        "def fit(data, weights, seed): return log, lock, Kind, Maybe, out" + LOOP
    )
    assert identity(job.thing) == identity(job.MyLoop())


def test_places_in_memory_and_of_files_do_not_count(load):
    text = "from pathlib import Path\nHERE = Path(__file__).parent / 'x'\nclass Odd: pass\nODD = Odd()\n"
    text += "def fit(data, weights, seed): return HERE, ODD, str(HERE)" + LOOP
    one, two = load(text).thing, load(text).thing
    assert identity(one) == identity(two)
    assert "0x" not in str(canonical(one)) and "deep" not in str(canonical(one))


def test_a_difference_names_what_changed(load):
    text = "LR = @@\ndef fit(data, weights, seed): return @@ * LR" + LOOP
    old, new = (canonical(load(text.replace("@@", value)).thing) for value in ("0.1", "0.2"))
    assert differences(new, old) == ["fit.reads.LR: 0.1 -> 0.2", "fit changed"]
    assert differences({"question": {"learner": new}}, {"question": {"learner": old}})[1] == "fit changed"


def test_settings_of_built_in_parts_are_told_as_before():
    import dataloupe as dl

    assert canonical(dl.outputs.margin) == {"kind": "Margin"}
    assert dl.TRAK(models=3).settings()["models"] == 3 and "code" not in dl.TRAK(models=3).settings()
    ridge = canonical(dl.SklearnLearner.ridge_classifier())
    assert ridge["estimator"]["class"].startswith("sklearn.linear_model._ridge.RidgeClassifier ")
    assert set(ridge) == {"kind", "estimator", "fit", "predict", "classes", "floor"}
