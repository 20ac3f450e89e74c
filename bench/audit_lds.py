"""Do 95 % intervals of the LDS, of its ceiling and of their ratio hold what many subsets and targets give?

    python bench/audit_lds.py [--quick]

Two worlds: simulated outcomes, whose targets share noise and differ in how well they are predicted, and the small
digits (2,000 half-size subsets x 2 seeds, 360 targets, calibrated TRAK), of which k subsets and m targets are
drawn. The truth is the LDS of all subsets and targets; with one target it is that target's. The bar is .93 in
every cell. About four minutes on one core.
"""

from collections.abc import Callable, Iterator

import numpy as np
from small_digits import print_table, small_digits, small_lab

import dataloupe as dl

KS, MS, SEEDS = (10, 20, 50, 100), (1, 5, 25, 100), (1, 2)
WORLDS, DRAWS, MANY = 200, 200, 3000
BAR = 0.93
SHARED = 3
"""Directions in which the targets of a world are moved alike."""

Drawn = tuple[dl.Attribution, dl.Outcomes, dict[str, float]]


def measure(*, quick: bool) -> list[tuple[str, str, str]]:
    """The lowest coverage over k, m and seeds of every interval, in both worlds."""
    counts = 40 if quick else WORLDS
    cells = {
        f"{world}, {name}": shares
        for world, draws in (("simulated", simulated), ("small digits", _digits(500 if quick else 2000)))
        for name, shares in coverage(draws, counts).items()
    }
    rows = []
    for name, shares in cells.items():
        where = min(shares, key=lambda cell: shares[cell])
        text = ", ".join(f"{part}={value}" for part, value in zip(("k", "m", "r"), where, strict=True))
        low, mean = shares[where], float(np.mean(list(shares.values())))
        rows.append((f"95 % interval of {name}", f">= {BAR}", f"{low:.3f} at {text}; mean {mean:.3f}"))
    return rows


def coverage(
    draw: Callable[[int, int, int, int], Drawn], counts: int
) -> dict[str, dict[tuple[int, int, int], float]]:
    """The share of worlds whose intervals hold the truth, by interval and by (k, m, seeds)."""
    found: dict[str, dict[tuple[int, int, int], float]] = {}
    for k in KS:
        for m in MS:
            for r in SEEDS:
                held: dict[str, list[bool]] = {}
                for world in range(counts):
                    attribution, outcomes, truth = draw(world, k, m, r)
                    score = dl.lds(attribution, outcomes, seed=world)
                    for name, interval in _intervals(score):
                        if interval is not None:
                            held.setdefault(name, []).append(interval[0] <= truth[name] <= interval[1])
                for name, hits in held.items():
                    found.setdefault(name, {})[k, m, r] = float(np.mean(hits))
    return found


def _intervals(score: dl.LDS) -> Iterator[tuple[str, tuple[float, float] | None]]:
    yield "LDS", score.interval
    if score.repeats > 1:
        yield "ceiling", score.ceiling_interval
        yield "LDS / ceiling", score.disattenuated_interval


def simulated(world: int, k: int, m: int, r: int) -> Drawn:
    """Gaussian outcomes: signal, misfit and seed noise each shared in part by all targets."""
    rng = np.random.default_rng([world, k, m, r])
    if m == 1:
        attribution, everything = _world(rng, MANY, 1, r)
        part = everything.subsets.masks(slice(0, k))
        few = dl.Outcomes.from_arrays(part, everything.values[:k])
        return attribution, few, _truth(attribution, everything)
    attribution, outcomes = _world(rng, k, m, r)
    return attribution, outcomes, _POPULATION.setdefault(r, _population(r))


_POPULATION: dict[int, dict[str, float]] = {}


def _population(r: int) -> dict[str, float]:
    """The mean over many worlds of many subsets."""
    each = [_truth(*_world(np.random.default_rng([7, i, r]), 1500, 50, r)) for i in range(16)]
    means = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    return means | ({"LDS / ceiling": means["LDS"] / means["ceiling"]} if r > 1 else {})


def _truth(attribution: dl.Attribution, outcomes: dl.Outcomes) -> dict[str, float]:
    score = dl.lds(attribution, outcomes, resamples=2)
    if score.ceiling is None or score.disattenuated is None:
        return {"LDS": score.value}
    return {"LDS": score.value, "ceiling": score.ceiling, "LDS / ceiling": score.disattenuated}


def _world(rng: np.random.Generator, k: int, m: int, r: int) -> tuple[dl.Attribution, dl.Outcomes]:
    """Predictions are carried by a 'training example' per target whose membership is a number: by scores one."""
    right = np.clip(0.6 + 0.15 * rng.standard_normal(m), -0.2, 0.98)
    signal, misfit = _shared(rng, (k,), m), _shared(rng, (k,), m)
    predicted = right * signal + np.sqrt(1 - right**2) * misfit
    values = signal[:, None] + 0.8 * _shared(rng, (k, r), m)
    return Predicted(predicted), dl.Outcomes.from_arrays(np.ones((k, 1), dtype=bool), values)


def _shared(rng: np.random.Generator, shape: tuple[int, ...], m: int) -> np.ndarray:
    """Unit normal numbers [*shape, m], a part of them common to all targets."""
    load = 0.5 * rng.standard_normal((SHARED, m))
    numbers = rng.standard_normal((*shape, m)) + rng.standard_normal((*shape, SHARED)) @ load
    return numbers / np.sqrt(1 + (load**2).sum(axis=0))


class Predicted(dl.DenseAttribution):
    """An attribution whose predictions are given."""

    def __init__(self, predicted: np.ndarray, n: int = 1) -> None:
        super().__init__(np.zeros((predicted.shape[1], n)), dl.Info("given"))
        object.__setattr__(self, "given", predicted)

    def predict(self, subsets: dl.Subsets) -> np.ndarray:
        """The first rows of what is given."""
        return self.given[: subsets.count]  # type: ignore[attr-defined]


def _digits(count: int) -> Callable[[int, int, int, int], Drawn]:
    """Draws of k subsets and m targets from many retrainings of the small digits."""
    question, lab = small_digits(count=360), small_lab("lds")
    subsets = dl.Subsets(n=question.n, count=count, seed=11)
    outcomes = lab.outcomes(question, subsets, repeats=2)
    attribution = dl.TRAK(models=5).attribute(question, lab)
    predicted, masks = attribution.predict(subsets), subsets.masks()
    truths: dict[tuple[int, ...], dict[str, float]] = {}

    def part(targets: np.ndarray, rows: np.ndarray, r: int) -> tuple[dl.Attribution, dl.Outcomes]:
        values = outcomes.values[rows][:, :r][:, :, targets]
        return Predicted(predicted[rows][:, targets], question.n), dl.Outcomes.from_arrays(
            masks[rows], values
        )

    def draw(world: int, k: int, m: int, r: int) -> Drawn:
        rng = np.random.default_rng([world, k, m, r])
        targets = rng.choice(question.m, m, replace=False)
        rows, everything = rng.choice(count, k, replace=False), np.arange(count)
        of = targets if m == 1 else np.arange(question.m)
        key = (r, *targets.tolist()) if m == 1 else (r,)
        if key not in truths:
            truths[key] = _truth(*part(of, everything, r))
        return *part(targets, rows, r), truths[key]

    return draw


if __name__ == "__main__":
    print_table(__doc__, measure)
