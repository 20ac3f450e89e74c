"""fashion-5k: retraining truth (100 half-size subsets x 2 seeds), and what each method scores on it.

    python bench/fashion.py                    # the methods, on the committed truth
    python bench/fashion.py --fresh            # trains the truth anew (about half an hour on two cores)
    python bench/fashion.py --only threshold   # some of the methods, into the same table

The truth lies in bench/results/fashion-5k-truth.npz, so that another machine can judge without retraining. The slope
of truth on prediction is told of the scores as they are, and after `calibrate` on 40 other subsets (one seed each), which
are committed as well.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import dataloupe as dl
from dataloupe.run import load_module

HERE = Path(__file__).parent
TRUTH = "fashion-5k-truth.npz"
SUBSETS = dl.Subsets(n=5000, count=100, seed=1)
SLOPES = ["slope", "slope_interval", "calibrated_slope", "calibrated_slope_interval"]
TOLD = [
    "ridge",
    "damping",
    "ridge_chosen",
    "held_out_slope",
    "effective_dimension",
    "sketch_error",
    "threshold",
    "held_out_correlation",
]
METHODS = {
    "random": dl.RandomScores(),
    "gradient similarity (dot)": dl.GradientSimilarity(),
    "gradient similarity (cosine)": dl.GradientSimilarity(kind="cosine"),
    "feature similarity (signed)": dl.FeatureSimilarity(),
    "TRAK, 1 half-data model": dl.TRAK(models=1),
    "TRAK, 5 half-data models": dl.TRAK(models=5),
    "TRAK, 10 half-data models": dl.TRAK(models=10),
    "TRAK, 10 full-data models": dl.TRAK(models=10, fraction=1.0),
    "TRAK, 1 half-data model, 4 sketches": dl.TRAK(models=1, sketches=4),
    "TRAK, 5 half-data models, 4 sketches": dl.TRAK(models=5, sketches=4),
    "TRAK, 10 half-data models, 4 sketches": dl.TRAK(models=10, sketches=4),
    "TRAK, 10 half-data models, by layer": dl.TRAK(models=10, blocks="layer"),
    "TRAK, 10 half-data models, leverage": dl.TRAK(models=10, leverage=True),
    "TRAK, 10 half-data models, threshold": dl.TRAK(models=10, threshold=True),
    "TRAK, 10 half-data models, no curvature": dl.TRAK(models=10, curved=False),
    "Influence, 1 half-data model": dl.Influence(models=1),
    "Influence, 5 half-data models": dl.Influence(models=5),
    "Influence, 10 half-data models": dl.Influence(models=10),
    "Influence, 10 full-data models": dl.Influence(models=10, fraction=1.0),
}


def known(lab: dl.Lab, question: dl.Question, subsets: dl.Subsets, repeats: int, name: str) -> dl.Outcomes:
    """Outcomes from a committed file (checked against the question that made them), or retrained into it."""
    file = HERE / "results" / name
    if not file.exists():
        made = lab.outcomes(question, subsets, repeats=repeats)
        np.savez_compressed(file, values=made.values, status=made.status, question=question.identity)
    with np.load(file) as held:
        if str(held["question"]) != question.identity:
            raise SystemExit(f"{file} is of another question: {held['question']}, not {question.identity}")
        return dl.Outcomes(subsets, held["values"], held["status"])


def truth_of(lab: dl.Lab, question: dl.Question) -> dl.Outcomes:
    """100 half-size subsets x 2 seeds."""
    return known(lab, question, SUBSETS, 2, TRUTH)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--lab", default="runs/bench-fashion")
    arguments.add_argument("--fresh", action="store_true", help="retrain the truth")
    arguments.add_argument("--only", help="methods whose names hold this")
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "fashion-5k.json")
    given = arguments.parse_args()
    question = load_module(HERE.parent / "examples" / "fashion.py").question
    lab = dl.Lab(given.lab)
    if given.fresh:
        (HERE / "results" / TRUTH).unlink(missing_ok=True)
    outcomes = truth_of(lab, question)
    others = known(lab, question, dl.Subsets(n=5000, count=40, seed=2), 1, "fashion-5k-calibration.npz")
    given.json.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(given.json.read_text()) if given.only and given.json.exists() else {}
    for name, method in METHODS.items():
        if given.only and given.only not in name:
            continue
        start = time.perf_counter()
        found = method.attribute(question, lab)
        score = dl.lds(found, outcomes)
        rows[name] = {**{k: v for k, v in score.to_json().items() if k != "per_target"}}
        rows[name] |= {"seconds": found.info.cost.get("seconds", 0.0)}
        if name != "random":
            rows[name] |= slopes(found, outcomes, others)
        certificate = found.info.certificate
        rows[name] |= {key: certificate[key] for key in TOLD if key in certificate}
        print(f"{name:34s} {score}   ({time.perf_counter() - start:.0f} s)", flush=True)
        print(
            f"{'':34s} {json.dumps({k: rows[name][k] for k in SLOPES + TOLD if k in rows[name]})}", flush=True
        )
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


def slopes(found: dl.DenseAttribution, outcomes: dl.Outcomes, others: dl.Outcomes) -> dict:
    """The slope of truth on prediction, raw and after calibration on other subsets, with intervals."""
    before, after = (dl.calibration(one, outcomes) for one in (found, dl.calibrate(found, others)))
    return {
        "slope": before.slope,
        "slope_interval": before.slope_interval,
        "calibrated_slope": after.slope,
        "calibrated_slope_interval": after.slope_interval,
    }


if __name__ == "__main__":
    main()
