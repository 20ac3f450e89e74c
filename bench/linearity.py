"""How linear is a small network's margin in its training data? The estimate without a datamodel, beside a big datamodel.

    python bench/linearity.py [--lab runs/bench-linearity]

300 digits, 100 targets, the network of examples/digits.py. `linear_residual` trains 600 models, then 2,800, and fits
nothing; the datamodels are ridge regressions on up to 6,000 half-size Bernoulli subsets. Each is scored on 300 fresh
subsets x 2 seeds by the share of the variance that is not seed noise which it explains,

    1 - (mean squared error - noise) / (variance - noise),    sums over targets, noise: of the mean of the seeds,

with a bootstrap over the fresh subsets. The best linear datamodel would reach the estimate; fitted ones stay below.
Takes about two minutes on one core.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

import dataloupe as dl
from dataloupe.judge import Bootstrap
from dataloupe.run import load_module

HERE = Path(__file__).parent
N, FRESH, PAIRS, SIZES = 300, 300, (150, 700), (500, 1000, 2000, 4000, 6000)


def explained(attribution: dl.DenseAttribution, fresh: dl.Outcomes) -> tuple[float, tuple[float, float]]:
    """The noise-free share of the variance that is explained, with its interval."""
    values, r = fresh.values.astype(np.float64), fresh.repeats
    y = values.mean(axis=1)
    noise = values.var(axis=1, ddof=1).sum(axis=1) / r
    wrong = np.square(y - attribution.predict(fresh.subsets)).sum(axis=1)
    plan = Bootstrap.draw(len(y), 1, resamples=500)
    shares = plan.subsets / len(y)
    mean = shares @ y
    spread = shares @ np.square(y).sum(axis=1) - np.square(mean).sum(axis=1)
    found = 1 - (shares @ (wrong - noise)) / (spread * len(y) / (len(y) - 1) - shares @ noise)
    return float(found[0]), plan.interval(found)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--lab", default="runs/bench-linearity")
    arguments.add_argument("--workers", type=int, default=1)
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "linearity.json")
    given = arguments.parse_args()
    whole = load_module(HERE.parent / "examples" / "digits.py").question
    question = dataclasses.replace(whole, train=whole.train[:N])
    lab = dl.Lab(given.lab, workers=given.workers)
    residuals = []
    for pairs in PAIRS:
        residuals.append(dl.linear_residual(question, lab, pairs=pairs))
        print(residuals[-1], flush=True)
    fresh = lab.outcomes(question, dl.Subsets(n=N, count=FRESH, kind="bernoulli", seed=1), repeats=2)
    rows = []
    for count in SIZES:
        subsets = dl.Subsets(n=N, count=count, kind="bernoulli")
        share, interval = explained(dl.Datamodel(subsets).attribute(question, lab), fresh)
        rows.append({"subsets": count, "explained": share, "interval": interval})
        print(f"datamodel on {count:5d} subsets explains {share:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]")
    facts = {
        "training examples": N,
        "targets": question.m,
        "linear_residuals": [r.to_json() for r in residuals],
    }
    given.json.write_text(json.dumps({**facts, "datamodels": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
