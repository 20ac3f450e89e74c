"""Influence (EK-FAC) on fashion-5k: what it scores with 1, 5 and 10 models, its scale, and what a model costs.

    python bench/influence.py --lab runs/bench-fashion

The truth is read from bench/results/fashion-5k-truth.npz (bench/fashion.py makes it). Calibration is on 40 other
subsets, one seed each, which the lab trains. Raw slope: of the truth on the prediction before calibration. Seconds: one
model that is there, nothing remembered, beside a plain forward and backward pass; of the machine at hand.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from fashion import truth_of

import dataloupe as dl
from dataloupe.run import load_module

HERE = Path(__file__).parent
ROWS = {
    "1 half-data model": dl.Influence(models=1),
    "5 half-data models": dl.Influence(models=5),
    "10 half-data models": dl.Influence(models=10),
    "10 full-data models": dl.Influence(models=10, fraction=1.0),
}


def cost(question: dl.Question, model: dl.TorchModel) -> dict[str, float]:
    """Seconds for one model in a lab of its own, and for a plain pass over the training data."""
    live = model.with_params({name: p.clone().requires_grad_() for name, p in model.params.items()})

    def plain() -> None:
        for start in range(0, question.n, 250):
            rows = question.train.take(np.arange(start, min(start + 250, question.n)))
            torch.autograd.grad(dl.outputs.margin.value(live, rows).sum(), list(live.params.values()))

    source = dl.Checkpoints(model.module, [dict(model.params)])
    asked, one = dataclasses.replace(question, learner=source), dl.Influence(models=1)
    with tempfile.TemporaryDirectory() as folder:
        taken = []
        for work in (plain, plain, lambda: one.attribute(asked, dl.Lab(folder, progress=False))):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return {"threads": torch.get_num_threads(), "plain pass s": taken[1], "one model s": taken[2]}


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--lab", default="runs/bench-fashion")
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "influence.json")
    arguments.add_argument(
        "--cost", action="store_true", help="only the seconds, into the results that are there"
    )
    given = arguments.parse_args()
    question = load_module(HERE.parent / "examples" / "fashion.py").question
    lab = dl.Lab(given.lab)
    rows = json.loads(given.json.read_text()) if given.json.exists() else {}
    if given.cost:
        rows["cost"] = cost(question, lab.models(question, dl.Subsets(n=question.n, count=10))[0])
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
        print(rows["cost"])
        return
    outcomes = truth_of(lab, question)
    others = lab.outcomes(question, dl.Subsets(n=question.n, count=40, seed=2))
    for name, method in ROWS.items():
        lab.models(question, dl.Subsets(n=question.n, count=method.models, fraction=method.fraction))
        found = method.attribute(question, lab)
        score, raw = dl.lds(found, outcomes), dl.calibration(found, outcomes)
        after = dl.calibration(dl.calibrate(found, others), outcomes)
        rows[name] = {
            **{k: v for k, v in score.to_json().items() if k != "per_target"},
            "raw_slope": raw.slope,
            "calibrated_slope": [after.slope, *after.slope_interval],
            "certificate": found.info.certificate,
        }
        chosen = f"damping {found.info.certificate['damping']:g} {found.info.certificate['damping_chosen']}"
        print(f"{name:20s} {score}\n  {chosen}; raw {raw}\n  calibrated {after}", flush=True)
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
