"""Training many small models: model-steps per second on one core, beside a plain PyTorch loop; bookkeeping.

    python bench/engine.py [--json FILE]

The plain loop is what a user would write: an nn.Module, torch.optim.SGD, zero_grad, backward, step, batches by
`x[ids]`. Both train with momentum and weight decay on the same data, one thread, in turn; ratios are medians of pairs.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import dataloupe as dl
from dataloupe.engine import Backend, rates, train_stack

ROUNDS = 7


def mlp(inputs: int, hidden: int):
    return lambda: nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def cnn():
    layers = [
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
    ]
    return nn.Sequential(
        *layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1568, 64), nn.ReLU(), nn.Linear(64, 10)
    )


def plain_rate(learner: dl.SGD, data: dl.Examples, steps: int) -> float:
    """Steps per second of the usual loop."""
    module, x, y = learner.module(), data.inputs, data.labels
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    loss, size = nn.CrossEntropyLoss(), learner.batch_size
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    for step in range(steps):
        ids = order[step * size % (len(x) - size) :][:size]
        optimizer.zero_grad()
        loss(module(x[ids]), y[ids]).backward()
        optimizer.step()
    return steps / (time.perf_counter() - start)


def stacked_rate(learner: dl.SGD, data: dl.Examples, group: int, steps: int) -> float:
    """Model-steps per second of a stack, its start and schedule included."""
    weights = torch.ones(group, len(data))
    start = time.perf_counter()
    train_stack(learner, data, weights, list(range(group)), steps=steps)
    return group * steps / (time.perf_counter() - start)


def case(
    name: str, module, shape: tuple[int, ...], batch: int, *, groups: list[int], seconds: float = 0.6
) -> dict:
    draws = torch.Generator().manual_seed(0)
    data = dl.Examples(
        torch.rand(1437, *shape, generator=draws), torch.randint(0, 10, (1437,), generator=draws)
    )
    learner = dl.SGD(
        module, epochs=1000, lr=0.05, momentum=0.9, weight_decay=5e-4, batch_size=batch, schedule="linear"
    )
    plain_rate(learner, data, 3)
    few = max(3, round(plain_rate(learner, data, 5) * seconds))
    tried = {g: stacked_rate(learner, data, g, max(2, few // g)) for g in groups}
    group = max(tried, key=tried.get)
    steps = max(3, round(tried[group] * seconds / group))
    pairs = [
        (plain_rate(learner, data, few), stacked_rate(learner, data, group, steps)) for _ in range(ROUNDS)
    ]
    return {
        "case": name,
        "plain steps/s": statistics.median(p for p, _ in pairs),
        "ours model-steps/s": statistics.median(s for _, s in pairs),
        "models at once": group,
        "ratio": statistics.median(s / p for p, s in pairs),
    }


def bookkeeping() -> dict:
    """Share of a lab's wall time that is not training: the lab against the bare engine, 1,000 digit models."""
    train, test = dl.data.digits()
    learner = dl.SGD(mlp(64, 32), epochs=15, lr=0.1, momentum=0.9, batch_size=64)
    question = dl.Question(learner, train, test, dl.outputs.margin)
    subsets = dl.Subsets(n=question.n, count=512)
    shares, writing = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            lab = dl.Lab(folder, backend=BACKEND, progress=False)
            start = time.perf_counter()
            lab.outcomes(question, subsets)
            whole = time.perf_counter() - start
            [name] = [f for f in lab.store.folders() if f.startswith("outcomes-")]
            [times] = lab.store.read_facts(name, "times")["runs"]
            shares.append(1 - (times["seconds"] - times["writing"]) / whole)
            writing.append(times["writing"] / whole)
    return {
        "case": "store and bookkeeping, share of 512 digit models",
        "share": statistics.median(shares),
        "writing": statistics.median(writing),
    }


def chosen_cnn() -> dict:
    """What the probe picks for the small CNN, and its rate against the plain loop's."""
    row = case(
        "CNN conv16-conv32-fc64 on 28x28, batch 64, loop", cnn, (1, 28, 28), 64, groups=[1], seconds=1.5
    )
    draws = torch.Generator().manual_seed(0)
    data = dl.Examples(
        torch.rand(640, 1, 28, 28, generator=draws), torch.randint(0, 10, (640,), generator=draws)
    )
    question = dl.Question(dl.SGD(cnn, epochs=4, lr=0.05, momentum=0.9), data, data[:8], dl.outputs.margin)
    found = rates(question, dl.Subsets(n=640, count=100), 100)
    return {**row, "chosen": max(found, key=found.get), "probe": found}


BACKEND = Backend("stacked", group=32, unit=256)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    rows = [
        case("MLP 64-32-10, batch 64", mlp(64, 32), (64,), 64, groups=[16, 32, 64, 128]),
        case("MLP 784-128-10, batch 128", mlp(784, 128), (784,), 128, groups=[2, 4, 8]),
        chosen_cnn(),
        bookkeeping(),
    ]
    for row in rows:
        print("  ".join(f"{k}: {v:,.3g}" if isinstance(v, float) else f"{k}: {v}" for k, v in row.items()))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
