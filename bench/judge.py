"""How long a judgement takes, and how much longer with one scipy call per target.

    python bench/judge.py [--json FILE]

The case of the bars: 1,000 subsets x 1,000 targets x 5,000 examples, 2 seeds; under 2 s for the LDS (masks and
predictions included) and under 10 s for 200 two-way resamples more. Medians of 5 runs; the baseline is timed on
fewer targets and resamples in the same run, and compared per correlation.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from dataloupe.core import DenseAttribution, Info, Outcomes, Subsets
from dataloupe.judge import Bootstrap, ceiling, lds, spearman
from dataloupe.kernels import dense_ranks, rank_correlations

K, M, N, RUNS, RESAMPLES, FEW = 1_000, 1_000, 5_000, 5, 200, 50


def median_seconds(work: Callable[[], object]) -> float:
    work()  # compiled and warm
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def case() -> tuple[DenseAttribution, Outcomes]:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((M, N), dtype=np.float32)
    attribution = DenseAttribution(scores, Info("planted"))
    subsets = Subsets(n=N, count=K)
    values = attribution.predict(subsets)[:, None] + 40 * rng.standard_normal((K, 2, M), dtype=np.float32)
    return attribution, Outcomes(subsets, values, np.zeros((K, 2), dtype=np.uint8))


def measure() -> list[dict[str, float | str]]:
    attribution, outcomes = case()
    predicted, measured = attribution.predict(outcomes.subsets), outcomes.mean()
    plan = Bootstrap.draw(K, M, resamples=RESAMPLES)
    x, y = dense_ranks(predicted), dense_ranks(measured)

    def naive() -> list[float]:
        return [spearmanr(predicted[:, j], measured[:, j]).statistic for j in range(FEW)]

    def point() -> object:
        return spearman(attribution.predict(outcomes.subsets), outcomes.mean())

    seconds = {
        "masks": median_seconds(outcomes.subsets.masks),
        "LDS, masks and predictions included": median_seconds(point),
        "rank correlations only": median_seconds(lambda: spearman(predicted, measured)),
        "200 resamples of the LDS": median_seconds(lambda: rank_correlations(x, y, plan.subsets)),
        "ceiling of 2 seeds with 200 resamples": median_seconds(lambda: ceiling(outcomes)),
        "lds(): all of the above": median_seconds(lambda: lds(attribution, outcomes)),
    }
    bars = {"LDS, masks and predictions included": 2.0, "lds(): all of the above": 12.0}
    rows: list[dict[str, float | str]] = [
        {"what": what, "seconds": round(found, 3), **({"bar": bars[what]} if what in bars else {})}
        for what, found in seconds.items()
    ]
    one = median_seconds(naive) / FEW
    plain = one * M / seconds["rank correlations only"]
    resampled = one * M * RESAMPLES / seconds["200 resamples of the LDS"]
    rows.append({"what": "scipy.stats.spearmanr per target / ours", "ratio": round(plain, 1)})
    rows.append({"what": "the same in every resample / ours", "ratio": round(resampled, 1)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the table there")
    options = parser.parse_args()
    rows = measure()
    print(f"{K} subsets x {M} targets x {N} examples, 2 seeds; medians of {RUNS} runs")
    for row in rows:
        figure = f"{row['seconds']:.3f} s" if "seconds" in row else f"{row['ratio']} x"
        print(f"{row['what']:<42}{figure:>10}" + (f"   (bar {row['bar']} s)" if "bar" in row else ""))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
