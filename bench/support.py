"""Do the removals that are predicted to flip a prediction flip it when retrained?

    python bench/support.py [--lab FOLDER] [--json FILE]

The digits and the network of examples/digits.py, all 360 test targets, hard margins: a flip is another predicted
class in the mean of 10 retrainings. The bar: at least 85 % of at least 100 removals of at most 10 % of the data,
sizes inflated by 1.2. Beside it: the raw sizes, calibrated TRAK, the same sizes by two control rankings, and the
smallest removals and label flips of 60 targets by bisection.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

import dataloupe as dl
from dataloupe.run import load_module

HERE = Path(__file__).parent
SUBSETS, SEARCHED, VERIFY, BAR = 8_000, 60, 10, 0.85
SIZES = (1, 2, 5, 10, 20, 30, 50, 70, 100, 143)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--lab", default="runs/bench-support")
    arguments.add_argument("--workers", type=int)
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    digits = load_module(HERE.parent / "examples" / "digits.py")
    question = dataclasses.replace(digits.question, targets=digits.test, output=dl.outputs.hard_margin)
    rows = measure(question, dl.Lab(given.lab, workers=given.workers))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure(question: dl.Question, lab: dl.Lab) -> dict[str, Any]:
    datamodel = dl.Datamodel(dl.Subsets(n=question.n, count=SUBSETS)).attribute(question, lab)
    trak = dl.TRAK(models=10).attribute(question, lab)
    trak = dl.calibrate(
        trak, lab.outcomes(question, dl.Subsets(n=question.n, count=200, fraction=0.9, seed=2))
    )
    rows: dict[str, Any] = {"bar": BAR}
    for attribution, name in (
        (datamodel, f"datamodel, {SUBSETS:,} half-size subsets"),
        (trak, "TRAK, calibrated"),
    ):
        for inflate in (1.0, 1.2):
            found = dl.support(question, lab, attribution, inflate=inflate, verify=VERIFY)
            rows[f"{name}, inflated by {inflate}"] = told(name, found)
    inflated = dl.support(question, lab, datamodel, verify=VERIFY)
    for control in (dl.FeatureSimilarity(), dl.RandomScores()):
        ranking = control.attribute(question, lab)
        rows[f"the datamodel's sizes, rows by {ranking.info.method}"] = same_sizes(
            question, lab, inflated, ranking
        )
    targets = np.arange(SEARCHED)
    rows["search"] = told("smallest removals", dl.smallest_support(question, lab, datamodel, targets))
    rows["relabel"] = told("smallest label flips", dl.relabel_support(question, lab, datamodel, targets))
    return rows


def told(name: str, found: dl.Support) -> dict[str, Any]:
    """Print a support, and give its figures without the removals."""
    curve = found.curve(SIZES)
    print(f"{name}: {found}", flush=True)
    sizes = [len(case.rows) for case in found.found]
    states = [case.state for case in found.found]
    print(f"  median size {np.median(sizes):g} of those; {states.count('undecided')} within the noise")
    for i, size in enumerate(curve.sizes):
        predicted = "" if curve.predicted is None else f"predicted {curve.predicted[i]:.2f}, "
        span = f"[{curve.low[i]:.2f}, {curve.high[i]:.2f}]"
        print(
            f"  {size:>5} rows: {predicted}verified {curve.verified[i]:.2f} {span} of {curve.targets} targets"
        )
    facts = {key: part for key, part in found.to_json().items() if key not in ("cases", "notes", "curve")}
    table = {key: part.tolist() for key, part in curve._asdict().items() if isinstance(part, np.ndarray)}
    return {**facts, "median_of_found": float(np.median(sizes)), "curve": table}


def same_sizes(
    question: dl.Question, lab: dl.Lab, found: dl.Support, ranking: dl.DenseAttribution
) -> dict[str, Any]:
    """How many of the targets flip when as many rows go, picked by another ranking."""
    cases = found.found
    removals = [ranking.top(case.target, len(case.rows)) for case in cases]
    outcomes = lab.outcomes(question, dl.Subsets.without(question.n, removals, seed=3), repeats=VERIFY)
    after = [float(outcomes.mean()[i, case.target]) for i, case in enumerate(cases)]
    flips = int(np.sum(np.array(after) <= 0))
    print(f"the same sizes, rows by {ranking.info.method}: {flips} of {len(cases)} flip", flush=True)
    return {"flips": flips, "judged": len(cases), "share": flips / len(cases)}


if __name__ == "__main__":
    main()
