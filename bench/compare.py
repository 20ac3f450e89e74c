"""ModelDiff on planted attributions: is the direction found, is chance left alone, and what does it cost.

    python bench/compare.py                      # all three, about a quarter of an hour on two cores
    python bench/compare.py --only planted       # one of planted, same, large

planted   500 targets x 5,000 training rows, 10 models each; A moves 50 targets along 100 training rows. For several sizes of
          that move: |cos| of the first direction with the truth, precision among the 50 targets of largest coordinate.
same      100 pairs of ensembles of one algorithm (500 x 5,000, 10 models): how many report any direction at level .99.
large     2,000 targets x 50,000 training rows, 20 components: seconds and peak memory without and with the null, single
          models on disk (8 GB in a temporary folder).
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

import dataloupe as dl

HERE = Path(__file__).parent
SHAPE, MODELS = (500, 5000), 10
Rows = Float[np.ndarray, "m n"]


def shared(draws: np.random.Generator, shape: tuple[int, int]) -> Rows:
    """Rows of length 1 in 30 sparse directions."""
    found = draws.standard_normal((shape[0], 30)) @ (
        draws.standard_normal((30, shape[1])) * (draws.random((30, shape[1])) < 0.1)
    )
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def ensemble(signal: Rows, seed: int, noise: float = 1.0) -> dl.DenseAttribution:
    """Models that see the signal (rows of about length 1) with noise of that length."""
    draws, info = torch.Generator().manual_seed(seed), dl.Info("planted")
    parts = []
    for _ in range(MODELS):
        part = torch.randn(signal.shape, generator=draws).mul_(noise / signal.shape[1] ** 0.5)
        parts.append(dl.DenseAttribution(part.add_(torch.from_numpy(signal)).numpy(), info))
    return dl.pooled(parts)


def planted(size: float, seed: int) -> dict[str, float]:
    """A direction of 100 training rows that A uses on the first 50 targets."""
    draws = np.random.default_rng(seed)
    signal = shared(draws, SHAPE)
    u = np.zeros(SHAPE[1], dtype=np.float32)
    u[draws.permutation(SHAPE[1])[:100]] = 0.1
    moved = np.where(np.arange(SHAPE[0]) < 50, size, 0.0).astype(np.float32)
    a, b = ensemble(signal + np.outer(moved, u), 2 * seed), ensemble(signal, 2 * seed + 1)
    found = dl.compare(a, b, components=10)
    side = found.sides[0]
    return {
        "size": size,
        "cosine with the truth": float(abs(side.vectors[0] @ u)),
        "precision at 50": float(np.mean(side.most(0, 50) < 50)),
        "kept of A": int(side.kept.sum()),
        "kept of B": int(found.sides[1].kept.sum()),
        "ratio": float(side.ratio[0]),
        "stability": float(side.stability[0]),
    }


def same(seed: int) -> dict[str, float]:
    """Two ensembles of one algorithm."""
    signal = shared(np.random.default_rng(seed), SHAPE)
    start = time.perf_counter()
    found = dl.compare(ensemble(signal, 2 * seed + 1000), ensemble(signal, 2 * seed + 1001), components=10)
    least = min(float(np.maximum(side.p, side.ratio_p).min()) for side in found.sides)
    values = min(float(side.p.min()) for side in found.sides)
    return {
        "found": len(found.found),
        "least p": least,
        "least p of values": values,
        "seconds": time.perf_counter() - start,
    }


def on_disk(signal: Rows, folder: str, seed: int) -> dl.DenseAttribution:
    """The same, in files."""
    draws, info, parts = torch.Generator().manual_seed(seed), dl.Info("planted"), []
    total = np.zeros_like(signal)
    for k in range(MODELS):
        part = np.lib.format.open_memmap(f"{folder}/{seed}-{k}.npy", "w+", np.float32, signal.shape)
        for rows in np.array_split(np.arange(len(signal)), 20):
            noise = torch.randn((len(rows), signal.shape[1]), generator=draws).numpy()
            part[rows] = signal[rows] + noise / signal.shape[1] ** 0.5
            total[rows] += part[rows]
        part.flush()
        parts.append(dl.DenseAttribution(np.load(f"{folder}/{seed}-{k}.npy", mmap_mode="r"), info))
    return dl.DenseAttribution(total / MODELS, info, pieces=tuple(parts))


def large() -> dict[str, dict[str, float]]:
    """Without and with the null: seconds, and memory (pages of files, which the system can take back, do not count)."""
    signal, found = shared(np.random.default_rng(0), (2000, 50_000)), {}
    with tempfile.TemporaryDirectory() as folder:
        a, b = (on_disk(signal, folder, seed) for seed in (0, 1))
        del signal
        for name, null in (("without", None), ("with the null", dl.AA())):
            stop, peak = threading.Event(), [0.0]
            watch = threading.Thread(target=_watched, args=(stop, peak))
            watch.start()
            start = time.perf_counter()
            dl.compare(a, b, components=20, null=null)
            found[name] = {"seconds": time.perf_counter() - start, "peak GB": peak[0]}
            stop.set()
            watch.join()
            print(name, found[name], flush=True)
    return found


def _watched(stop: threading.Event, peak: list[float]) -> None:
    """The largest memory of this process that is its own, in GB, looked at ten times a second."""
    while not stop.wait(0.1):
        (line,) = (
            line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")
        )
        peak[0] = max(peak[0], int(line.split()[1]) / 1024**2)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--only", choices=("planted", "same", "large"))
    arguments.add_argument("--runs", type=int, default=100)
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "compare.json")
    asked = arguments.parse_args()
    result = json.loads(asked.json.read_text()) if asked.json.exists() else {}
    if asked.only in (None, "planted"):
        result["planted"] = [planted(size, seed) for size in (0.1, 0.15, 0.2, 0.3, 0.5) for seed in range(2)]
    if asked.only in (None, "same"):
        runs = [same(seed) for seed in range(asked.runs)]
        result["same"] = {
            "runs": len(runs),
            "runs with a direction": sum(run["found"] > 0 for run in runs),
            "least p": min(run["least p"] for run in runs),
            "runs whose values alone are beyond chance": sum(
                run["least p of values"] <= 0.01 for run in runs
            ),
            "seconds a run": float(np.median([run["seconds"] for run in runs])),
        }
    if asked.only in (None, "large"):
        result["large"] = large()
    for name, found in result.items():
        for row in found if isinstance(found, list) else [found]:
            print(name, row)
    asked.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
