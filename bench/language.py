"""A language model of characters: retraining truth (100 half-size subsets x 2 seeds), and what each method scores on it.

    python bench/language.py                             # judges on the committed truth (Debian's package jargon-text)
    python bench/language.py --fresh --lab runs/language # trains the truth (about 20 minutes on one core) and writes it

One training measures loss and margin at once. Methods have their default settings; nothing is chosen on the truth, which
lies in bench/results/language-truth.npz so that another machine can judge without retraining.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dataloupe as dl
from dataloupe.run import load_module

HERE = Path(__file__).parent
TRUTH = HERE / "results" / "language-truth.npz"
OUTPUTS: dict[str, Any] = {"loss": dl.outputs.sequence_loss, "margin": dl.outputs.sequence_margin}


@dataclasses.dataclass(frozen=True)
class Both:
    """Loss and margin of a sequence, side by side: for measuring only."""

    name = "sequence loss and margin"
    repeats = 1

    def value(self, model, rows, draw=None):  # noqa: ARG002
        return torch.stack([output.value(model, rows) for output in OUTPUTS.values()], 1)

    def slope(self, model, rows, values, draw=None):
        raise NotImplementedError("nothing is explained with this output")

    def valid(self, rows):
        return torch.cat([output.valid(rows) for output in OUTPUTS.values()], 1)


def truth(lab: dl.Lab, question: dl.Question, *, fresh: bool) -> dict[str, dl.Outcomes]:
    """The outcomes of each output: retrained and written, or read and checked against the question that made them."""
    asked = dataclasses.replace(question, output=Both())
    subsets = dl.Subsets(n=question.n, count=100, seed=1)
    if fresh:
        found = lab.outcomes(asked, subsets, repeats=2)
        np.savez_compressed(TRUTH, values=found.values, status=found.status, question=asked.identity)
    with np.load(TRUTH) as known:
        if str(known["question"]) != asked.identity:
            raise SystemExit(f"{TRUTH} holds the truth of another question: use --fresh")
        values, status = known["values"], known["status"]
    places = {name: values[:, :, i :: len(OUTPUTS)] for i, name in enumerate(OUTPUTS)}
    return {name: dl.Outcomes(subsets, part, status) for name, part in places.items()}


def methods() -> dict[str, dl.AbstractAttributor]:
    """Everything at its defaults."""
    found: dict[str, dl.AbstractAttributor] = {
        "random": dl.RandomScores(),
        "sequence length": dl.SequenceLength(),
        "BM25": dl.BM25(),
    }
    for models in (1, 5, 10):
        found[f"TRAK, models: {models}"] = dl.TRAK(models=models)
        found[f"Influence (EK-FAC), models: {models}"] = dl.Influence(models=models)
    return found


def judged(lab: dl.Lab, question: dl.Question, outcomes: dl.Outcomes) -> dict[str, Any]:
    """The LDS of every method on one output, and the ceiling."""
    rows: dict[str, Any] = {"mean": float(outcomes.values.mean()), "methods": {}}
    for name, method in methods().items():
        start = time.perf_counter()
        found = method.attribute(question, lab)
        score = dl.lds(found, outcomes)
        rows["ceiling"] = dl.ceiling(outcomes).to_json()
        rows["methods"][name] = {
            k: v for k, v in score.to_json().items() if k in ("value", "interval", "ceiling")
        }
        rows["methods"][name]["certificate"] = found.info.certificate
        print(
            f"{question.output.name:16s} {name:32s} {score}   ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
    return rows


def main() -> None:
    """Every output and method against the retraining truth, told line by line."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--lab", default="runs/bench-language")
    arguments.add_argument("--fresh", action="store_true")
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "language.json")
    given = arguments.parse_args()
    question = load_module(HERE.parent / "examples" / "language.py").question
    lab = dl.Lab(given.lab, backend="loop")
    outcomes = truth(lab, question, fresh=given.fresh)
    result = {
        name: judged(lab, dataclasses.replace(question, output=output), outcomes[name])
        for name, output in OUTPUTS.items()
    }
    given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
