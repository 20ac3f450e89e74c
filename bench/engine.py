"""Training many small models: model-steps per second on one core, beside a plain PyTorch loop; bookkeeping.

    python bench/engine.py [--json FILE]

The plain loop is what a user would write: an nn.Module, torch.optim.SGD, zero_grad, backward, step, batches by
`x[ids]`. Both train whole models with momentum and weight decay on the same data, one thread, in turn; ratios are medians
of pairs.
"On all cores" is the chosen back end in one process per core, their start included, beside the plain loop with as many
threads.
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
from dataloupe.engine import Backend, Work, choose, run_unit, threads, train_stack
from dataloupe.run import Processes

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


def plain_rate(learner: dl.SGD, data: dl.Examples) -> float:
    """Steps per second of the usual loop: one whole training at a constant rate, the module's making included."""
    start = time.perf_counter()
    module, x, y = learner.module(), data.inputs, data.labels
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    loss, draws, steps = nn.CrossEntropyLoss(), torch.Generator().manual_seed(0), 0
    for _ in range(learner.epochs):
        for ids in torch.randperm(len(x), generator=draws).split(learner.batch_size):
            optimizer.zero_grad()
            loss(module(x[ids]), y[ids]).backward()
            optimizer.step()
            steps += 1
    return steps / (time.perf_counter() - start)


def stacked_rate(learner: dl.SGD, data: dl.Examples, group: int) -> float:
    """Model-steps per second of whole trainings, their start and schedule included."""
    steps = learner.epochs * -(-len(data) // learner.batch_size)
    start = time.perf_counter()
    train_stack(learner, data, torch.ones(group, len(data)), list(range(group)))
    return group * steps / (time.perf_counter() - start)


def case(name: str, module, shape: tuple[int, ...], batch: int, *, epochs: int, groups: list[int]) -> dict:
    """Pairs of (plain loop, ours) in turn, whole trainings each."""
    draws = torch.Generator().manual_seed(0)
    data = dl.Examples(
        torch.rand(1437, *shape, generator=draws), torch.randint(0, 10, (1437,), generator=draws)
    )
    settings = {"epochs": epochs, "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "linear"}
    learner = dl.SGD(module, batch_size=batch, **settings)
    plain_rate(learner, data)
    tried = {group: max(stacked_rate(learner, data, group) for _ in range(2)) for group in groups}
    group = max(tried, key=tried.get)
    pairs = [(plain_rate(learner, data), stacked_rate(learner, data, group)) for _ in range(ROUNDS)]
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
    """The back end that the probe picks for the small CNN, on all cores, beside the plain loop there."""
    draws = torch.Generator().manual_seed(0)
    data = dl.Examples(
        torch.rand(1437, 1, 28, 28, generator=draws), torch.randint(0, 10, (1437,), generator=draws)
    )
    learner = dl.SGD(cnn, epochs=8, lr=0.05, momentum=0.9, weight_decay=5e-4)
    question, subsets = dl.Question(learner, data, data[:8], dl.outputs.margin), dl.Subsets.full(1437, 24)
    with threads(1):
        found = choose(question, subsets, 1000, 1)
    cores, steps = Processes().workers, 8 * 23
    ratios = []
    for _ in range(3):
        with threads(cores):
            plain = plain_rate(learner, data)
        start = time.perf_counter()
        spans = [(k, k + 1) for k in range(subsets.count)]
        list(Processes(cores).map(run_unit, Work(question, subsets, 1, found.backend, False), spans))
        ratios.append(subsets.count * steps / (time.perf_counter() - start) / plain)
    chosen = {"chosen": found.backend.kind, "cores": cores, "ratio on all cores": statistics.median(ratios)}
    return {**chosen, "probe": found.measured}


BACKEND = Backend("stacked", group=32, unit=256)


CASES = [
    ("MLP 64-32-10, batch 64", mlp, (64, 32), (64,), 64, 15, [32, 64, 128]),
    ("MLP 784-128-10, batch 128", mlp, (784, 128), (784,), 128, 15, [8, 32]),
    ("CNN conv16-conv32-fc64 on 28x28, batch 64", cnn, (), (1, 28, 28), 64, 4, [1]),
]


def run_case(_: None, number: int) -> dict:
    """One case in a worker of the library's own, where a lab would train too."""
    name, make, sizes, shape, batch, epochs, groups = CASES[number]
    return case(name, make(*sizes) if sizes else make, shape, batch, epochs=epochs, groups=groups)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    rows = [row for _, row in Processes(1).map(run_case, None, range(len(CASES)))]
    rows[2] |= chosen_cnn()
    rows.append(bookkeeping())
    for row in rows:
        print("  ".join(f"{k}: {v:,.3g}" if isinstance(v, float) else f"{k}: {v}" for k, v in row.items()))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()  # workers import this file too
