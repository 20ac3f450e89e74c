"""Is a group more than the sum of its rows? Predicted and retrained effects of removing rows that resemble each other.

    python bench/removal_of_groups.py

digits, MLP 64-32-10, TRAK of 10 half-data models, calibrated on 40 halves. For each of 40 targets: the 20, 80 and 320 training rows
that help it most are removed, as are as many of its class at random; truth is the mean of 8 pairs of retrainings on all the rest. Printed: the
slope of truth on prediction (1 is right, above 1 too timid), the relative error |predicted - truth| / |truth|, and the
rank correlation, of sums of scores and of groups as groups.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import stats

import dataloupe as dl
from dataloupe.run import load_module

HERE = Path(__file__).parent
SIZES = (20, 80, 320)
TARGETS, PAIRS = 40, 8


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--lab", default="runs/bench-groups")
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "removal_of_groups.json")
    given = arguments.parse_args()
    question = load_module(HERE.parent / "examples" / "digits.py").question
    lab, n = dl.Lab(given.lab), question.n
    raw = dl.TRAK(models=10).attribute(question, lab)
    found = dl.calibrate(raw, lab.outcomes(question, dl.Subsets(n=n, count=40, seed=2)))
    labels, asked = question.train.labels.numpy(), np.linspace(0, question.m - 1, TARGETS).astype(int)
    draws = np.random.default_rng(0)
    groups: dict[tuple[str, int], list] = {}
    for size in SIZES:
        groups["most helpful", size] = [found.top(int(j), size) for j in asked]
        groups["of its class", size] = [
            draws.permutation(np.flatnonzero(labels == int(question.targets.labels[j])))[:size] for j in asked
        ]
    removals = [[], *(ids for kind in groups.values() for ids in kind)]
    values = lab.outcomes(question, dl.Subsets.without(n, removals, seed=5), repeats=PAIRS).values
    moved = (values[1:] - values[:1]).mean(axis=1)
    rows, place = [], 0
    for (kind, size), members in groups.items():
        at = np.arange(place, place + len(members))
        truth = moved[at, asked]
        place += len(members)
        for way in ("sum", "group"):
            told = found.effect(members, kind=way)[np.arange(len(members)), asked].astype(float)
            row = {
                "rows": kind,
                "removed": size,
                "way": way,
                "slope": float((told * truth).sum() / (told**2).sum()),
                "relative error": float(np.linalg.norm(told - truth) / np.linalg.norm(truth)),
                "rank correlation": float(stats.spearmanr(told, truth).statistic),
                "mean truth": float(truth.mean()),
                "mean told": float(told.mean()),
            }
            rows.append(row)
            print(
                "  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{v}" for k, v in row.items()),
                flush=True,
            )
    given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
