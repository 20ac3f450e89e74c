"""What every example's sketched gradient costs beside one plain forward and backward pass over the same data.

    python bench/featurise.py

Three networks in evaluation mode, two cores: fashion-5k's CNN (105,866 parameters); a network of the size of ResNet-9
(2.3 million) on synthetic pictures 32 x 32 x 3; a language model of four layers on synthetic sequences of 128. The plain
pass is the floor that a user knows: the gradient of the summed output in all parameters, none of any one example.
Medians of turns taken one after the other, so that a slow moment meets all alike. The floor in operations: the plain
pass makes three products of each weight's size (forward, for the input, for the weight), ours the same three, the last
one example by example, and one addition per parameter and example for the fold. Peak memory is that of a process which
does this and nothing else, above what it holds before: a training step (batch as the plain pass, SGD with momentum)
against featurising all examples, less their features.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import dataloupe as dl
from dataloupe.core import Examples, Question, TorchModel
from dataloupe.engine import gradients
from dataloupe.kernels import fold_add
from dataloupe.run import load_module
from dataloupe.solve import FactoredSketch, HashSketch

HERE = Path(__file__).parent
DIM = 2048
BARS = {"fashion-5k CNN": 1.2, "ResNet-9": 1.5, "language model": 1.5}


@dataclasses.dataclass(frozen=True)
class Case:
    """A network at work, and the batch that a user would train it with."""

    question: Question
    model: TorchModel
    batch: int
    turns: int


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def convolved(before: int, after: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


def resnet() -> nn.Module:
    return nn.Sequential(
        convolved(3, 64),
        convolved(64, 128, 5, 2, 2),
        Residual(convolved(128, 128), convolved(128, 128)),
        convolved(128, 256),
        nn.MaxPool2d(2),
        Residual(convolved(256, 256), convolved(256, 256)),
        convolved(256, 128, padding=0),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10, bias=False),
    )


class Attention(nn.Module):
    """Causal attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Language(nn.Module):
    """Four layers, a head tied to the table of words."""

    def __init__(self, width: int = 192, heads: int = 6, words: int = 1000, length: int = 128) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        self.layers = nn.Sequential()
        for _ in range(4):
            mixed = [nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)]
            self.layers.append(Residual(nn.LayerNorm(width), Attention(width, heads)))
            self.layers.append(Residual(nn.LayerNorm(width), *mixed))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.layers(self.words(ids) + self.places(torch.arange(ids.shape[1])))
        return F.linear(self.norm(x), self.words.weight)


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """The log-probability of a sequence, all words but the first."""

    name: str = "log-probability of a sequence"
    repeats: int = 1

    def value(self, model, rows, draw=None) -> Tensor:  # noqa: ARG002
        ids = rows.inputs
        logits = model.predict(ids[:, :-1])
        return -F.cross_entropy(logits.mT, ids[:, 1:], reduction="none").sum(1)

    def slope(self, model, rows, values, draw=None) -> Tensor:  # noqa: ARG002
        return torch.ones_like(values)

    def valid(self, rows) -> Tensor:
        return torch.ones(len(rows.inputs), 1, dtype=torch.bool)


def case(name: str) -> Case:
    """A network with its data."""
    if name == "fashion-5k CNN":
        question = load_module(HERE.parent / "examples" / "fashion.py").question
        return Case(question, question.learner.model(question.learner.init(seed=0)), 250, 9)
    draws = torch.Generator().manual_seed(0)
    if name == "ResNet-9":
        pictures = torch.randn(512, 3, 32, 32, generator=draws)
        data = Examples(pictures, torch.randint(10, (len(pictures),), generator=draws))
        make, output, batch = resnet, dl.outputs.margin, 64
    else:
        data = Examples(torch.randint(1000, (256, 129), generator=draws))
        make, output, batch = Language, Likelihood(), 16
    learner = dl.SGD(make, epochs=1, lr=0.05, momentum=0.9, batch_size=batch)
    question = Question(learner, data, data[:4], output)
    return Case(question, learner.model(learner.init(seed=0)), batch, 3)


def plain(given: Case) -> None:
    """One forward and backward pass over all examples."""
    live = given.model.with_params(
        {name: p.clone().requires_grad_() for name, p in given.model.params.items()}
    )
    for ids in torch.arange(given.question.n).split(given.batch):
        value = given.question.output.value(live, given.question.train.take(ids)).sum()
        torch.autograd.grad(value, list(live.params.values()))


def factors(given: Case) -> None:
    """Every example's gradient, not looked at."""
    gradients(given.question, given.model, "train", lambda *_: None)


def sketched(given: Case, sketch) -> None:
    """Every example's gradient, sketched."""
    bound = sketch.bind({name: p.shape for name, p in given.model.params.items()})
    out = torch.zeros(given.question.n, bound.width)

    def use(name, uses, place) -> None:
        for one in uses:
            bound.add(out[place], name, one)

    gradients(given.question, given.model, "train", use)


def seconds(turns: int, *works: Callable[[], None]) -> list[float]:
    """Medians, after one turn to warm up."""
    taken: list[list[float]] = [[] for _ in works]
    for turn in range(turns + 1):
        for work, mine in zip(works, taken, strict=True):
            start = time.perf_counter()
            work()
            if turn:
                mine.append(time.perf_counter() - start)
    return [statistics.median(mine) for mine in taken]


def timed(name: str, given: Case) -> dict[str, float]:
    """What the passes take, and the floor."""
    sketches = {"FactoredSketch": FactoredSketch(DIM)}
    if name == "fashion-5k CNN":
        sketches["HashSketch"] = HashSketch(DIM)
    works = [lambda: plain(given), lambda: factors(given)]
    works += [lambda sketch=sketch: sketched(given, sketch) for sketch in sketches.values()]
    taken = dict(zip(["plain", "factors", *sketches], seconds(given.turns, *works), strict=True))
    with FlopCounterMode(display=False) as counter:
        plain(given)
    folds = 2 * given.question.n * sum(p.numel() for p in given.model.params.values())
    operations = counter.get_total_flops()
    found = {f"{work} s": taken[work] for work in taken}
    found |= {f"{work} / plain": taken[work] / taken["plain"] for work in taken if work != "plain"}
    return found | {"plain GFLOP": operations / 1e9, "floor / plain": (operations + folds) / operations}


def held(which: str) -> float:
    """Memory of this process in MB: now (VmRSS), or at most since it was last reset (VmHWM)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) / 1024


def memory(name: str, work: str) -> float:
    """Peak memory in MB of a training step or of featurising, above what was there before (this process only)."""
    given = case(name)
    warm = torch.ones(8, 8).requires_grad_()
    (warm @ warm).sum().backward()
    fold_add(torch.ones(2, 3), torch.ones(2, 1, 3), torch.ones(1, 1), torch.zeros(1, 1).long(), torch.ones(3))
    start = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    if work == "sketch":
        sketched(given, FactoredSketch(DIM))
        return held("VmHWM") - start - given.question.n * DIM * 4 / 2**20
    learner, data = given.question.learner, given.question.train
    model = learner.model(learner.init(seed=0))
    module = model.module.eval()
    for p in module.parameters():
        p.requires_grad_()
    optimiser = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9)
    for step in range(2):
        ids = np.arange(given.batch) + step * given.batch
        live = model.with_params(dict(module.named_parameters()))
        optimiser.zero_grad()
        given.question.output.value(live, data.take(ids)).sum().backward()
        optimiser.step()
    return held("VmHWM") - start


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "featurise.json")
    arguments.add_argument("--only", nargs="*", default=list(BARS), choices=list(BARS))
    arguments.add_argument(
        "--memory", nargs=2, metavar=("NETWORK", "WORK"), help="one measurement, for itself"
    )
    asked = arguments.parse_args()
    torch.set_num_threads(2)
    if asked.memory:
        print(memory(*asked.memory))
        return
    result = json.loads(asked.json.read_text()) if asked.json.exists() else {}
    result = {name: one for name, one in result.items() if name in BARS}
    for name in asked.only:
        given = case(name)
        facts = {
            "parameters": sum(p.numel() for p in given.model.params.values()),
            "examples": given.question.n,
        }
        facts |= timed(name, given)
        for work in ("step", "sketch"):
            command = [sys.executable, __file__, "--memory", name, work]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            facts[f"{work} MB"] = float(said)
        facts["memory / step"] = facts["sketch MB"] / facts["step MB"]
        result[name] = facts | {"bar": BARS[name]}
        print(name)
        for what, value in facts.items():
            print(f"    {what:24s} {value:.4g}")
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
