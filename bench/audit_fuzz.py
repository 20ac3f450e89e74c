"""Bad values at the public doors: does each get a named error, a raw one, or is it taken?

    python bench/audit_fuzz.py [--quick] [--list]

Every public function below is called with valid arguments, of which one at a time is replaced by each of some thirty values that
a user could hand over by mistake. ``clear`` is a DataloupeError; ``raw`` any other error; ``taken`` none at all. Values that no
slip of a pen makes (None, complex numbers, bytes, an object) are counted apart as implausible. ``--list`` prints every raw
error and every acceptance.
"""

import argparse
import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

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


def make_model() -> nn.Module:
    return nn.Linear(8, 3)


def doors(folder: Path) -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """(name, function, valid arguments) of every door."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(48, 8, generator=draws)
    y = x[:, :3].argmax(1)
    train, targets = dl.Examples(x[:40], labels=y[:40]), dl.Examples(x[40:], labels=y[40:])
    question = dl.Question(
        dl.SGD(make_model, epochs=2, lr=0.1, batch_size=10), train, targets, dl.outputs.margin
    )
    lab = dl.Lab(folder, backend="loop", progress=False)
    subsets = dl.Subsets(n=40, count=12)
    outcomes = lab.outcomes(question, subsets, repeats=2)
    fresh = lab.outcomes(question, dl.Subsets(n=40, count=12, seed=1), repeats=2)
    datamodel = dl.Datamodel(subsets).attribute(question, lab)
    trak = dl.TRAK(models=2, dim=64).attribute(question, lab)
    info = dl.Info("by hand")
    scores = np.random.default_rng(0).normal(size=(8, 40)).astype(np.float32)
    yield "Examples", dl.Examples, {"inputs": x, "labels": y, "texts": None, "names": None, "meta": {}}
    yield "Examples.take", train.take, {"ids": [0, 1]}
    yield "Subsets", dl.Subsets, {"n": 40, "count": 4, "fraction": 0.5, "kind": "fixed", "seed": 0}
    yield "Subsets.first", subsets.first, {"count": 3}
    yield "Subsets.masks", subsets.masks, {"rows": [0, 1]}
    yield (
        "SGD",
        dl.SGD,
        {
            "module": make_model, "epochs": 2, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "batch_size": 10,
            "schedule": "constant", "optimizer": "sgd", "label_smoothing": 0.0, "warmup": 0.0, "loss": "cross_entropy",
        },
    )  # fmt: skip
    yield (
        "Question",
        dl.Question,
        {"learner": question.learner, "train": train, "targets": targets, "output": dl.outputs.margin},
    )
    yield (
        "Lab",
        dl.Lab,
        {"where": str(folder), "backend": "loop", "workers": 1, "device": "cpu", "precision": "model"},
    )
    yield "Lab.outcomes", lab.outcomes, {"question": question, "subsets": subsets, "repeats": 1}
    yield (
        "TRAK",
        lambda **named: dl.TRAK(**named).attribute(question, lab),
        {"models": 2, "dim": 64, "ridge": 1.0},
    )
    yield (
        "Influence",
        lambda **named: dl.Influence(**named).attribute(question, lab),
        {"models": 1, "damping": 0.1},
    )
    yield (
        "Datamodel",
        lambda **named: dl.Datamodel(**named).attribute(question, lab),
        {"subsets": subsets, "estimator": "ridge"},
    )
    yield (
        "DenseAttribution",
        dl.DenseAttribution,
        {"scores": scores, "info": info, "bias": np.zeros(8, np.float32), "units": "output"},
    )
    yield "top", datamodel.top, {"target": 0, "k": 3, "sign": "helps"}
    yield "effect", datamodel.effect, {"removals": [[0, 1]], "kind": "sum", "targets": [0]}
    yield "error", datamodel.error, {"removals": [[0, 1]], "targets": [0]}
    yield "predict", datamodel.predict, {"subsets": subsets}
    yield "rows", datamodel.rows, {"targets": [0]}
    yield (
        "Outcomes.from_arrays",
        dl.Outcomes.from_arrays,
        {"masks": subsets.masks(), "values": outcomes.values},
    )
    yield (
        "lds",
        dl.lds,
        {"attribution": datamodel, "outcomes": fresh, "resamples": 20, "seed": 0, "level": 0.95},
    )
    yield (
        "fidelity",
        dl.fidelity,
        {"attribution": datamodel, "outcomes": fresh, "resamples": 20, "level": 0.95},
    )
    yield "calibrate", dl.calibrate, {"attribution": trak, "outcomes": fresh}
    yield (
        "what_if",
        dl.what_if,
        {
            "question": question, "lab": lab, "attribution": datamodel, "target": 0, "remove": [0, 1], "verify": 2,
            "seed": 0, "level": 0.95,
        },
    )  # fmt: skip
    yield "leaks", dl.leaks, {"attribution": trak, "threshold": 0.5}
    yield "report", lambda path, attribution, outcomes: dl.report(path, attribution, outcomes), {
        "path": str(folder / "page.html"), "attribution": datamodel, "outcomes": fresh,
    }  # fmt: skip
    yield "Checkpoints", dl.Checkpoints, {"module": make_model, "sources": [make_model().state_dict()]}
    yield (
        "models_needed",
        dl.models_needed,
        {"effect": 0.5, "sigma": 1.0, "fraction": 0.5, "power": 0.8, "level": 0.05},
    )


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
    counts: dict[tuple[str, str], int] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
    ):  # what is taken as a path lands there
        for name, function, valid in doors(Path(folder)):
            kind, what = verdict(function, valid)
            if kind != "taken":
                raise SystemExit(f"the valid call of {name} fails: {what}")
            for parameter in list(valid)[: 2 if quick else None]:
                for group, values in (("plausible", PLAUSIBLE), ("implausible", IMPLAUSIBLE)):
                    for label, value in values.items():
                        kind, what = verdict(function, valid | {parameter: value})
                        counts[group, kind] = counts.get((group, kind), 0) + 1
                        if listed and kind != "clear":
                            print(f"{group:12s} {kind:6s} {name}({parameter}={label}) {what}", flush=True)
    rows = []
    for group in ("plausible", "implausible"):
        each = {kind: counts.get((group, kind), 0) for kind in ("clear", "raw", "taken")}
        text = ", ".join(f"{count} {kind}" for kind, count in each.items())
        rows.append(
            (
                f"{sum(each.values())} {group} bad values at public functions",
                "0 raw" if group == "plausible" else "",
                text,
            )
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    torch.set_num_threads(1)
    given = parser.parse_args()
    for line in measure(quick=given.quick, listed=given.list):
        print(*line, sep=" | ")
