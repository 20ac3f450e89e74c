"""Bad values at the public doors: does each get a named error, a raw one, or is it taken?

    python bench/audit_fuzz.py [--quick] [--list]

Every public function below is called with valid arguments, of which one at a time is replaced by each of some thirty values that
a user could hand over by mistake. ``clear`` is a DataloupeError; ``raw`` any other error; ``taken`` none at all. Values that no
slip of a pen makes (None, complex numbers, bytes, an object) are counted apart as implausible. ``--list`` prints every raw
error and every acceptance.
"""

import argparse
import contextlib
import fnmatch
import io
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_doors import WORDS, Door, doors, verbs, world_in

import dataloupe as dl

PLAUSIBLE: dict[str, Any] = {
    "-1": -1,
    "0": 0,
    "1.5": 1.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "1e30": 1e30,
    "10**20": 10**20,
    "True": True,
    "'x'": "x",
    "''": "",
    "[]": [],
    "[-1]": [-1],
    "[10**6]": [10**6],
    "[0, 0]": [0, 0],
    "[0.5]": [0.5],
    "['a']": ["a"],
    "nested": [[0], [1, 2]],
    "NaN array": np.array([np.nan, 1.0]),
    "empty array": np.array([]),
    "3-d array": np.zeros((2, 2, 2)),
    "text array": np.array(["a", "b"]),
    "object array": np.array([1, None], dtype=object),
    "bool array": np.array([True, False]),
    "float tensor": torch.tensor([0.5, 2.0]),
    "0-d tensor": torch.tensor(3),
    "dict": {"a": 1},
}
IMPLAUSIBLE: dict[str, Any] = {
    "None": None,
    "1j": 1j,
    "bytes": b"x",
    "object": object(),
    "lambda": lambda: None,
}


REASONS: dict[str, str] = {
    "*(*seed=*)": "seeds are hashed: every whole number is one",
    "*(*=True)": "a switch, or a weight",
    "*(*=empty array)": "an empty list: none of them",
    "*(target=0*)": "the first",
    "*(row=0)": "the first",
    "*(component=0)": "the first",
    "*(column=0)": "the first",
    "*(token=0)": "a token",
    "*(target=0-d tensor)": "one whole number, in a tensor",
    "*take(ids=*)": "-1 is a row of zeros; a row may come twice",
    "*masks(rows=*)": "NumPy's ways of counting: -1 is the last, and one may come twice",
    "*(removals=nested)": "two removals",
    "Lab(where='x')": "a folder of that name",
    "report(path='x')": "a file of that name",
    "Info(*='')": "nothing said (the contract of methods asks for a name)",
    "Info(*='x')": "a word",
    "SGD(version=*)": "a text",
    "Custom(version=*)": "a text",
    "*(epochs=10[*][*]20)": "long, and to be interrupted",
    "*(batch_size=10[*][*]20)": "all rows in one batch",
    "*(lr=*)": "may diverge, which is counted",
    "*(weight_decay=*)": "may diverge, which is counted",
    "*(momentum=0)": "none",
    "*(warmup=0)": "none",
    "*(label_smoothing=0)": "none",
    "*(focal_gamma=*)": "a power from 0",
    "*(probability=0)": "never",
    "*(pixels=0)": "no shift",
    "*(class_weights=*)": "weights from 0; that there is one a class is checked with the data",
    "*(pos_weight=*)": "weights above 0; that there is one a label is checked with the data",
    "*(ignore_index=*)": "a label that is ignored",
    "*(mask=*)": "a weight for every pixel, from 0",
    "*(eta=0)": "no noise (DDIM)",
    "*(clip=*)": "pixels within +-clip",
    "*(low=*)": "the range of pixels or of a column",
    "*(high=*)": "the range of pixels or of a column",
    "*(colour=*)": "a colour within the range",
    "*(patch=*)": "a colour within the range",
    "*(value=*)": "a value of a column",
    "*(deviation=*)": "a shift of a column",
    "*(centre=[[]0, 0[]])": "the first pixel",
    "*(place=*)": "the first place",
    "*(first=0)": "the first place",
    "*(old=0)": "a token",
    "*(keep=*)": "tokens",
    "CounterfactualTest(strengths=*)": "finite strengths; the transform's own range is checked with the questions",
    "CounterfactualTest(component=*)": "checked with the questions",
    "*(tolerance=*)": "from 0",
    "*(alpha=*)": "a weight from 0",
    "*(gamma=*)": "a weight from 0",
    "*(temperature=*)": "above 0",
    "*(decays=*)": "epochs at which the rate falls",
    "Mix(*)": "numbers within their range",
    "*(damping=*)": "from 0, or relative and above 0",
    "*(l2=*)": "from 0",
    "Gates(*)": "numbers; a negative one never holds",
    "*(ridge=*)": "relative, above 0",
    "*(penalties=*)": "relative, above 0",
    "BM25(*)": "k1 from 0, b in 0..1",
    "*(worst=0)": "none shown",
    "*(*=None)": "the default: nothing of the kind",
    "*(*='None')": "the default",
    "*(*=lambda)": "a function, checked when it runs",
    "*=[[][]])": "an empty list: none of them",
    "dataloupe *(--lab=*)": "a folder of that name",
    "dataloupe *(the question or lab=*)": "a folder of that name, which an earlier call made",
    "dataloupe *(--only='')": "any method",
    "dataloupe *(--out=*)": "a file of that name",
    "dataloupe *(--title=*)": "a title",
    "dataloupe *(--target='0')": "the first",
    "dataloupe *(--targets='0')": "the first",
    "dataloupe *(--remove='0')": "the first",
    "dataloupe *(--show=*)": "all there are, or none",
    "dataloupe mislabels(--k=*)": "all there are",
    "dataloupe what-if(--calibration='0')": "an uncalibrated prediction",
    "dataloupe support(--calibration=*)": "not needed by scores in units of the output",
    "dataloupe support(--inflate=*)": "a factor",
    "dataloupe leaks(--threshold=*)": "scores that reach it, of any size",
    "dataloupe plan(--effect=*)": "an effect, by its size",
    "*(verify=0)": "a prediction without retraining",
    "*(--verify='0')": "a prediction without retraining",
    "support(inflate=*)": "a factor",
    "leaks(threshold=*)": "scores that reach it, of any size",
    "linear_residual(rhos=*)": "one correlation",
    "*(effect=*)": "an effect, by its size",
    "*(sigma=*)": "a spread above 0",
    "compare(names=text array)": "two names",
    "group*(groups=*)": "names of groups: texts, numbers or booleans",
    "answered(*)": "rows of tokens; texts",
    "pick_ends(bottom=0)": "none of that end",
    "*(above=*)": "scores above it; 0 keeps all",
}
"""Why a value is taken that could be a mistake: by "door(parameter=value)", where "*" stands for any."""


def reason(door: str, parameter: str, label: str) -> str:
    """The reason why a value is taken; empty where nobody gave one."""
    called = f"{door}({parameter}={label})"
    return next((why for pattern, why in REASONS.items() if fnmatch.fnmatchcase(called, pattern)), "")


def verdict(function: Callable[..., Any], arguments: dict[str, Any]) -> tuple[str, str]:
    """("clear" | "raw" | "taken", what)."""
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            function(**arguments)
    except dl.DataloupeError as error:
        return "clear", error.code
    except Exception as error:
        return "raw", f"{type(error).__name__}: {str(error).splitlines()[0][:90] if str(error) else ''}"
    return "taken", ""


def measure(*, quick: bool, listed: bool = False) -> list[tuple[str, str, str]]:
    """Rows of the table."""
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):  # what is taken as a path lands there
        folder = Path(name)
        for door in doors(world_in(folder)):
            knock(door, ("plausible", PLAUSIBLE), counts, quick=quick, listed=listed)
            knock(door, ("implausible", IMPLAUSIBLE), counts, quick=quick, listed=listed)
        for door in verbs(folder):
            knock(
                door, ("at verbs", {repr(word): word for word in WORDS}), counts, quick=quick, listed=listed
            )
    rows = []
    for group in ("plausible", "at verbs", "implausible"):
        each = {kind: counts[group, kind] for kind in ("clear", "raw", "taken", "without a reason")}
        total = each["clear"] + each["raw"] + each["taken"]
        text = ", ".join(f"{count} {kind}" for kind, count in each.items())
        where = group if group == "at verbs" else f"{group} at public functions"
        rows.append((f"{total} bad values {where}", "0 raw" * (group != "implausible"), text))
    return rows


def knock(
    door: Door,
    values: tuple[str, dict[str, Any]],
    counts: Counter[tuple[str, str]],
    *,
    quick: bool,
    listed: bool,
) -> None:
    """Try every value in every parameter of a door, and count what happens."""
    kind, what = verdict(door.function, door.given)
    if kind != "taken":
        raise SystemExit(f"the valid call of {door.name} fails: {what}")
    group, each = values
    for parameter in list(door.given)[: 2 if quick else None]:
        for label, value in each.items():
            kind, what = verdict(door.function, door.given | {parameter: value})
            counts[group, kind] += 1
            if kind == "taken":
                what = reason(door.name, parameter, label)
                counts[group, "without a reason"] += not what
            if listed and kind != "clear":
                print(f"{group:12s} {kind:6s} {door.name}({parameter}={label}) {what}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    torch.set_num_threads(1)
    given = parser.parse_args()
    for line in measure(quick=given.quick, listed=given.list):
        print(*line, sep=" | ")
