"""fashion-5k: retraining truth (100 half-size subsets x 2 seeds), and what each method scores on it.

    python bench/fashion.py --lab runs/bench-fashion                # trains the truth (about half an hour on two cores)
    python bench/fashion.py --lab runs/bench-fashion --truth FILE   # reads it from a committed file instead

The truth is written to bench/results/fashion-5k-truth.npz, so that another machine can judge without retraining.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import dataloupe as dl
from dataloupe.run import load_module

HERE = Path(__file__).parent
TRUTH = HERE / "results" / "fashion-5k-truth.npz"
SUBSETS = dl.Subsets(n=5000, count=100, seed=1)


def truth(lab: dl.Lab, question: dl.Question, file: Path | None) -> dl.Outcomes:
    """The outcomes, retrained in the lab or read from a file (checked against the question that made them)."""
    if file is None:
        outcomes = lab.outcomes(question, SUBSETS, repeats=2)
        np.savez_compressed(
            TRUTH,
            values=outcomes.values,
            status=outcomes.status,
            question=question.identity,
        )
        return outcomes
    with np.load(file) as known:
        if str(known["question"]) != question.identity:
            raise SystemExit(
                f"{file} holds the truth of another question: {known['question']}, not {question.identity}"
            )
        return dl.Outcomes(SUBSETS, known["values"], known["status"])


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--lab", default="runs/bench-fashion")
    arguments.add_argument("--truth", type=Path)
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "fashion-5k.json")
    given = arguments.parse_args()
    question = load_module(HERE.parent / "examples" / "fashion.py").question
    lab = dl.Lab(given.lab)
    outcomes = truth(lab, question, given.truth)
    controls = {
        "random": dl.RandomScores(),
        "gradient similarity (dot)": dl.GradientSimilarity(),
        "gradient similarity (cosine)": dl.GradientSimilarity(kind="cosine"),
        "feature similarity (signed)": dl.FeatureSimilarity(),
    }
    methods = {"TRAK, 5 half-data models": dl.TRAK(models=5), "TRAK, 10 half-data models": dl.TRAK(models=10)}
    methods["TRAK, 10 full-data models"] = dl.TRAK(models=10, fraction=1.0)
    rows = {}
    for name, method in (controls | methods).items():
        start = time.perf_counter()
        found = method.attribute(question, lab)
        score = dl.lds(found, outcomes)
        rows[name] = {
            **{k: v for k, v in score.to_json().items() if k != "per_target"},
            "seconds": found.info.cost["seconds"],
        }
        print(f"{name:32s} {score}   ({time.perf_counter() - start:.0f} s)", flush=True)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
