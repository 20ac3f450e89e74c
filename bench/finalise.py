"""Scores of 1,000 targets on 1,000,000 training rows from features on disk: seconds of every step, and peak memory.

    python bench/finalise.py                       # 2 models of 1,024 dimensions: 8 GB of features, 4 GB of scores on disk
    python bench/finalise.py --rows 100000         # a tenth

The features are synthetic (a spectrum that falls off as 1/i). The floor is the two products that cannot be avoided, timed
on one chunk: the Gram matrix and the scores.
"""

import argparse
import json
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

import dataloupe as dl
from dataloupe.core import Chunked, room_for
from dataloupe.solve import Linearised, product_of_averages
from dataloupe.store import open_store

HERE = Path(__file__).parent
CHUNK = 1024


def write(store, k: int, n: int, d: int) -> Chunked:
    """Features of model k, in units of 1,024 rows."""
    fall = (1.0 / np.arange(1, d + 1)).astype(np.float32)
    sizes = tuple(min(CHUNK, n - start) for start in range(0, n, CHUNK))
    for i, size in enumerate(sizes):
        rows = np.random.default_rng([k, i]).standard_normal((size, d), dtype=np.float32) * fall
        store.write(f"features-{k}", f"{i:06d}", {"features": rows}, {})
    return Chunked(sizes, d, lambda i: store.read(f"features-{k}", f"{i:06d}")[0]["features"])


def peak() -> float:
    """GB that this process has held at most, pages of files among them."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--targets", type=int, default=1000)
    arguments.add_argument("--dim", type=int, default=1024)
    arguments.add_argument("--models", type=int, default=2)
    arguments.add_argument("--where", default=None)
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "finalise.json")
    given = arguments.parse_args()
    n, m, d = given.rows, given.targets, given.dim
    folder = Path(tempfile.mkdtemp(dir=given.where))
    tempfile.tempdir = str(folder)
    seconds: dict[str, float] = {}

    def timed(name, work):
        start = time.perf_counter()
        found = work()
        seconds[name] = round(time.perf_counter() - start, 2)
        print(f"{name:44s} {seconds[name]:8.1f} s   {peak():.2f} GB at most so far", flush=True)
        return found

    try:
        store, lab = open_store(folder / "features"), dl.Lab(folder / "lab", progress=False)
        rng = np.random.default_rng(0)
        features = timed("writing the features", lambda: [write(store, k, n, d) for k in range(given.models)])
        models = [
            Linearised(
                one,
                rng.random(n, dtype=np.float32),
                np.full(n, 0.1),
                rng.standard_normal((m, d), dtype=np.float32) / np.arange(1, d + 1, dtype=np.float32),
            )
            for one in features
        ]
        start = time.perf_counter()
        timed("whitening", lambda: [one.whitenings for one in models])
        scores = room_for((m, n))
        timed("scores to disk", lambda: product_of_averages(models, 1.0, scores))
        found = timed("checked", lambda: dl.DenseAttribution(scores, dl.Info("TRAK"), units="relative"))
        timed("remembered", lambda: lab.put("attribution", {"bench": 1}, *found.to_arrays()))
        whole = time.perf_counter() - start
        rows = features[0].read(0).astype(np.float64)
        begun = time.perf_counter()
        _ = rows.T @ rows
        gram = time.perf_counter() - begun
        weights = rng.standard_normal((d, m), dtype=np.float32)
        begun = time.perf_counter()
        _ = rows.astype(np.float32) @ weights
        floor = (gram / 2 + time.perf_counter() - begun) * len(features[0].sizes) * given.models
    finally:
        shutil.rmtree(folder)
    result = {"rows": n, "targets": m, "dim": d, "models": given.models, "seconds": seconds}
    result |= {
        "finalise s": round(whole, 1),
        "products alone s": round(floor, 1),
        "peak GB": round(peak(), 2),
    }
    print(f"finalised in {whole:.0f} s; the products alone {floor:.0f} s; {peak():.2f} GB at most")
    given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
