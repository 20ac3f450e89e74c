"""KLoM by four estimators: what no difference gives, how they answer to a shift, to one outlier, and how fast.

    python bench/klom.py [--json bench/results/klom.json]

Margins of N unlearned models and N oracles are Gaussian. "published" is what the code of the unlearning benchmark
(EasyDUB: unlearning_bench/eval.py) was measured to give on the same kind of margins before this library had it; a
shift of s standard deviations has the true divergence s^2 / 2. All values are KL(oracle || unlearned): the mean over
points / the 95th percentile for the null, the mean for the others. Takes about half a minute on one core.
"""

import argparse
import json
import time
import typing
from pathlib import Path

import numpy as np

from dataloupe.judge import klom
from dataloupe.judge._divergences import Estimator, divergences
from dataloupe.judge._klom import floor_of

HERE = Path(__file__).parent
ESTIMATORS = typing.get_args(Estimator)
BINS = 10
PUBLISHED_NULL = {
    10: (5.6, 8.2),
    20: (3.1, 5.1),
    50: (0.84, 1.69),
    100: (0.33, 0.62),
    200: (0.14, 0.27),
    500: (0.05, 0.10),
    1000: (0.02, 0.04),
}
PUBLISHED_SHIFT = {0.5: 0.56, 1.0: 1.21, 2.0: 3.57, 3.0: 6.6, 4.0: 8.6, 6.0: 9.5}


def margins(models: int, points: int, *, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((models, points))


def null() -> list[dict]:
    print(
        f"no difference at all, mean / p95\n{'models':>8}  {'published':>13}",
        *(f"{e:>13}" for e in ESTIMATORS),
    )
    rows = []
    for models, told in PUBLISHED_NULL.items():
        found = {}
        for estimator in ESTIMATORS:
            levels = floor_of(estimator, models, models, BINS, 0).oracle_first
            found[estimator] = (levels.mean, levels.p95)
        cells = [f"{mean:5.2f} / {high:5.2f}" for mean, high in (told, *found.values())]
        print(f"{models:8d}  {'  '.join(cells)}", flush=True)
        rows.append({"models": models, "published": told, **found})
    return rows


def mean(estimator: Estimator, unlearned: np.ndarray, oracles: np.ndarray) -> float:
    return float(divergences(estimator, unlearned, oracles, BINS)[0].mean())


def shifts(models: int = 100, points: int = 4000) -> list[dict]:
    print(
        f"\na shift, {models} models\n{'sigmas':>8}  {'truth':>7}  {'published':>9}",
        *(f"{e:>9}" for e in ESTIMATORS),
    )
    unlearned, oracles = margins(models, points, seed=1), margins(models, points, seed=2)
    rows = []
    for shift, told in PUBLISHED_SHIFT.items():
        found = {estimator: mean(estimator, unlearned + shift, oracles) for estimator in ESTIMATORS}
        cells = "".join(f" {value:9.3f}" for value in found.values())
        print(f"{shift:8.1f}  {shift**2 / 2:7.3f}  {told:9.2f}{cells}")
        rows.append({"sigmas": shift, "truth": shift**2 / 2, "published": told, **found})
    return rows


def outlier(models: int = 100, points: int = 4000) -> dict:
    unlearned, oracles = margins(models, points, seed=1) + 2.0, margins(models, points, seed=2)
    hit = unlearned.copy()
    hit[0] = -100.0
    print(f"\na shift of 2 sigmas, then one of {models} unlearned margins set to -100")
    found = {}
    for estimator in ESTIMATORS:
        found[estimator] = (mean(estimator, unlearned, oracles), mean(estimator, hit, oracles))
        print(f"{estimator:>10}  {found[estimator][0]:.2f} -> {found[estimator][1]:.2f}")
    return found


def spreads(models: int = 100, points: int = 4000) -> list[dict]:
    print(f"\nanother spread, KL(oracle || unlearned) / KL(unlearned || oracle), {models} models")
    unlearned, oracles = margins(models, points, seed=1), margins(models, points, seed=2)
    rows = []
    for spread in (1 / 20, 1 / 2, 2.0, 4.0):
        found = {
            estimator: tuple(
                float(side.mean()) for side in divergences(estimator, unlearned * spread, oracles, BINS)
            )
            for estimator in ESTIMATORS
        }
        print(f"{spread:8.2f}", "  ".join(f"{e} {a:.2f} / {b:.2f}" for e, (a, b) in found.items()))
        rows.append({"spread": spread, **found})
    return rows


def times(models: int = 100, points: int = 5500) -> dict:
    unlearned, oracles = margins(models, points, seed=1), margins(models, points, seed=2)
    print(f"\nseconds for {points} points x {models} models (median of 5, floor apart)")
    found = {}
    for estimator in ESTIMATORS:
        klom(unlearned, oracles, estimator=estimator)  # the floor is remembered
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            klom(unlearned, oracles, estimator=estimator)
            taken.append(time.perf_counter() - start)
        found[estimator] = float(np.median(taken))
        print(f"{estimator:>10}  {found[estimator]:.3f}")
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "klom.json")
    given = arguments.parse_args()
    facts = {
        "null": null(),
        "shift": shifts(),
        "outlier": outlier(),
        "spread": spreads(),
        "seconds": times(),
    }
    given.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
