"""Lasso datamodels of 1,000 targets on 10,000 subsets of 5,000 examples: statistics, path, selection; peers beside.

    python bench/lasso.py [--json FILE] [--targets N] [--peers PYTHON]

Masks are half-size subsets; a target's weights are Laplace on 5 % of the examples, and the noise has twice the variance
of what they do (two seeds would agree by 1/3, as they do on fashion-5k). 30 penalties from each target's largest down to
0.06 of it, where nearly all have passed their best, to a duality gap of 1e-4 |y|^2 / 2, the
penalty chosen on a held-out fifth, then all rows once more. "whole path" walks to the end; "lasso()" stops a target's
path 5 steps after its best, as the library does. Ours runs on all cores (targets are independent), each peer in one
process as a user calls it; "per core" divides by the cores. Peers walk the same penalties to the same end on the same fitting
rows, for the first targets; `--peers` names a Python that has celer and skglm (`pip install celer skglm`).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np

from dataloupe.core import Subsets
from dataloupe.kernels import co_occurrences, pack_columns
from dataloupe.kernels._counts import _ones
from dataloupe.solve import Path as Penalties
from dataloupe.solve import SuffStats, blocks_of, folds_of, lasso
from dataloupe.solve._lasso import _walk, top_penalty

K, N, STEPS, END, GAP, NOISE = 10_000, 5_000, 30, 0.06, 1e-4, 2**0.5
SAMPLE = 3
PEER = Path(__file__).parent / "peers" / "lasso.py"


def problem(targets: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks, outputs and the planted weights."""
    rng = np.random.default_rng(0)
    masks = Subsets(n=N, count=K).masks()
    truth = (rng.laplace(size=(N, targets)) * (rng.random((N, targets)) < 0.05)).astype(np.float32)
    y = masks.astype(np.float32) @ truth
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    return masks, y + NOISE * rng.standard_normal(y.shape, dtype=np.float32), truth


def timed(work, *arguments, **settings):
    start = time.perf_counter()
    found = work(*arguments, **settings)
    return found, time.perf_counter() - start


def counting(masks: np.ndarray) -> dict:
    """The co-occurrences, as many words met with one that stays in a register, and a float32 product."""
    bits = pack_columns(masks)
    co_occurrences(bits)
    counts = min(timed(co_occurrences, bits)[1] for _ in range(5))
    packing = min(timed(pack_columns, masks)[1] for _ in range(3))
    dense = masks.astype(np.float32)
    product = min(timed(lambda: dense.T @ dense)[1] for _ in range(2))
    words, rate = N * N / 2 * bits.shape[1], _rate()
    return {
        "co-occurrences s": counts,
        "floor of the multiplier s": words / rate,
        "floor of memory s": 4.0 * N * N / _bandwidth(),
        "packing s": packing,
        "float32 product s": product,
        "words met": words,
    }


def _rate() -> float:
    """Words per second that all cores AND, count and add with no second one to fetch and nothing to write."""
    cores, rounds = os.cpu_count(), 100_000
    words = np.random.default_rng(0).integers(0, 2**63, (cores, 2048), dtype=np.uint64)
    _meet_one(words[0], words[0, 0], 1)
    with ThreadPoolExecutor(cores) as pool:
        seconds = min(
            timed(lambda: list(pool.map(lambda own: _meet_one(own, own[0], rounds), words)))[1]
            for _ in range(5)
        )
    return cores * rounds * words.shape[1] / seconds


@numba.njit(nogil=True)
def _meet_one(words, other, rounds):
    total = np.uint64(0)
    for turn in range(rounds):
        found = np.uint64(0)
        for w in range(len(words)):
            found += _ones(words[w] & other)
        words[turn % len(words)] += found  # else a compiler does one round and multiplies
        total += found
    return total


def _bandwidth() -> float:
    """Bytes written per second."""
    big = np.empty(64_000_000, dtype=np.uint8)
    big.fill(1)
    return len(big) / min(timed(big.fill, value)[1] for value in (2, 3, 4))


def peers(python: str, fit: np.ndarray, y: np.ndarray, penalties: np.ndarray) -> dict[str, dict]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "problem.npz"
        np.savez(file, x=fit, y=y, penalties=penalties)
        found = {}
        for name in ("sklearn", "celer", "skglm") if python != sys.executable else ("sklearn",):
            run = subprocess.run(
                [python, str(PEER), name, str(file)], capture_output=True, text=True, check=True
            )
            found[name] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--peers", default=sys.executable)
    given = parser.parse_args()
    masks, y, truth = problem(given.targets)
    path = Penalties(steps=STEPS, end=END, patience=STEPS, gap=GAP)
    fold = (folds_of(K, 5) == 4).astype(np.int64)
    warm = SuffStats.split(blocks_of(masks[:600], y[:600, :2]), folds_of(600, 2), 2)
    lasso(warm[0] + warm[1], folds=warm, path=path)  # compiles

    parts, reading = timed(SuffStats.split, blocks_of(masks, y, 1000), fold, 2)
    fit, held = parts[0].centred(), parts[1].centred()
    penalties = path.penalties(top_penalty(fit))
    nobody = np.full(given.targets, -1)
    walked, walking = timed(_walk, fit, penalties, path, nobody, held=held, choose=True)
    whole = parts[0] + parts[1]
    found, choosing = timed(lasso, whole, folds=parts, path=Penalties(steps=STEPS, end=END, gap=GAP))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    rows = fold == 0
    others = peers(given.peers, masks[rows], y[rows][:, :SAMPLE], penalties[:SAMPLE])
    share = [float(np.corrcoef(found.weights[j], truth[:, j])[0, 1]) for j in range(given.targets)]
    result = {
        "targets": given.targets,
        "cores": os.cpu_count(),
        "statistics s": reading,
        "whole path s": walking,
        "lasso() s": choosing,
        "memory GB": memory,
        "largest gap": float(np.max(walked.gap)),
        "best step": [int(v) for v in np.quantile(walked.best, [0, 0.5, 1])],
        "non-zeros at the end": float(np.median(walked.nonzero[:, -1])),
        "correlation with the planted weights": float(np.mean(share)),
        **{f"{name}: s a target": other["seconds"] for name, other in others.items()},
        **{f"{name}: gap": other["gap"] for name, other in others.items()},
        **{f"{name} / whole path": o["seconds"] * given.targets / walking for name, o in others.items()},
        **{
            f"{name} / whole path, per core": o["seconds"] * given.targets / walking / os.cpu_count()
            for name, o in others.items()
        },
        **counting(masks),
    }
    for name, value in result.items():
        print(f"{name:45} {value:,.4g}" if isinstance(value, float) else f"{name:45} {value}")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
