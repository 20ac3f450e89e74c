"""Features a second beside a plain forward and backward pass, by model, device and precision.

    python bench/gpu.py            # a GPU if there is one, else this CPU
    python bench/gpu.py --small    # seconds, anywhere

Random weights and rows: time and memory do not depend on them (the precision error does; it is told, and nothing refused). The plain pass is the gradient of the summed output in all
parameters, same batches (as large as ours), same precision, no gradient of any one example. Each number is the median of
five turns, the way from and to the host included.
Where triton is there, the kernels are held against their references and compiled for GPUs that need not be here.
"""

# ruff: noqa: ARG002  (the protocol hands every output the model, the rows and the draw)

import argparse
import dataclasses
import importlib.util
import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import dataloupe as dl
from dataloupe.core import Examples, Question, TorchModel
from dataloupe.engine import Compute, Featuriser, Pass
from dataloupe.kernels import bucket_add, bucket_add_reference, fold_add, fold_add_reference
from dataloupe.learners import Checkpoints
from dataloupe.solve import FactoredSketch
from dataloupe.solve._sketch import hash_tables

HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Size:
    """How large everything is."""

    rows: int = 4096
    width: int = 64
    length: int = 128
    hidden: int = 256
    words: int = 4096
    dim: int = 2048
    turns: int = 5


SMALL = Size(rows=24, width=4, length=12, hidden=16, words=40, dim=64, turns=1)


def cnn(_: Size) -> nn.Module:
    """The network of examples/fashion.py."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def block(a: int, b: int, *after: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), *after)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(block(width, width), block(width, width))

    def forward(self, x):
        return x + self.inner(x)


def resnet9(size: Size) -> nn.Module:
    """On 32x32 images: 2.3M parameters with width 64."""
    w = size.width
    return nn.Sequential(
        *(block(3, w), block(w, 2 * w, nn.MaxPool2d(2)), Residual(2 * w)),
        *(block(2 * w, 4 * w, nn.MaxPool2d(2)), block(4 * w, 4 * w, nn.MaxPool2d(2)), Residual(4 * w)),
        *(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4 * w, 10)),
    )


class LM(nn.Module):
    """A decoder of four layers, with a head tied to its table."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.table, self.place = nn.Embedding(size.words, size.hidden), nn.Embedding(size.length, size.hidden)
        h = size.hidden
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "before": nn.LayerNorm(h),
                    "qkv": nn.Linear(h, 3 * h),
                    "out": nn.Linear(h, h),
                    "after": nn.LayerNorm(h),
                    "up": nn.Linear(h, 4 * h),
                    "down": nn.Linear(4 * h, h),
                }
            )
            for _ in range(4)
        )
        self.norm = nn.LayerNorm(h)

    def forward(self, ids):
        x = self.table(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))
        for one in self.layers:
            q, k, v = (
                t.unflatten(2, (4, -1)).transpose(1, 2) for t in one["qkv"](one["before"](x)).chunk(3, 2)
            )
            x = x + one["out"](
                F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            )
            x = x + one["down"](F.gelu(one["up"](one["after"](x))))
        return F.linear(self.norm(x), self.table.weight)


class SequenceLoss:
    """Minus the mean log-probability of every next word."""

    name, repeats = "sequence loss", 1

    def value(self, model, rows, draw=None):
        logits = model.predict(rows.inputs)[:, :-1]
        return F.cross_entropy(logits.transpose(1, 2), rows.inputs[:, 1:], reduction="none").mean(1)

    def slope(self, model, rows, values, draw=None):
        return -torch.ones_like(values)

    def valid(self, rows):
        return torch.ones(len(rows.inputs), 1, dtype=torch.bool)


def cases(size: Size) -> dict[str, Question]:
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (size.rows,), generator=draws)
    pictures = [
        Examples(torch.randn(size.rows, *s, generator=draws), labels) for s in ((1, 28, 28), (3, 32, 32))
    ]
    text = Examples(torch.randint(size.words, (size.rows // 4, size.length), generator=draws))
    made = {
        "CNN 28x28": (cnn, pictures[0], dl.outputs.margin),
        "ResNet-9 32x32": (resnet9, pictures[1], dl.outputs.margin),
        "LM, 4 layers": (LM, text, SequenceLoss()),
    }
    found = {}
    for name, (make, data, output) in made.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = make(size)
        learner = Checkpoints(lambda make=make: make(size), [model.state_dict()])
        found[name] = Question(learner, data, data[:2], output)
    return found


def median(work, device: torch.device, turns: int) -> tuple[float, float | None]:
    """Seconds, and the largest MiB on the GPU, after one turn to warm up."""
    work()
    seconds, gpu = [], device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(turns):
        if gpu:
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if gpu:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if gpu else None
    return statistics.median(seconds), peak


def measured(question: Question, compute: Compute, size: Size) -> dict[str, float | None]:
    """Rows a second of both passes, and their largest memory."""
    ready = Pass(question, question.learner.models()[0], "train", compute)
    featuriser, live = Featuriser(ready, FactoredSketch(size.dim)), ready.live

    def plain() -> None:
        params = {name: p.detach().clone().requires_grad_() for name, p in live.params.items()}
        with_grad: TorchModel = live.with_params(params)
        for ids in torch.arange(question.n).split(ready.at_once):
            rows = compute.rows(question.train.take(ids))
            with compute.running():
                total = question.output.value(with_grad, rows).sum()
                torch.autograd.grad(total, list(params.values()))

    floor, memory = median(plain, compute.on, size.turns)
    ours, peak = median(lambda: featuriser.rows(slice(0, None)), compute.on, size.turns)
    return {
        "parameters": sum(p.numel() for p in live.params.values()),
        "plain rows/s": question.n / floor,
        "features/s": question.n / ours,
        "features / plain time": ours / floor,
        "plain MiB": memory,
        "features MiB": peak,
        "precision error": ready.facts.get("precision_error", 0.0),
    }


def sums(device: torch.device, size: Size) -> dict[str, float]:
    """Sums into buckets: seconds here (triton on a GPU that has it) and of the plain reference, and how far apart."""
    p = size.hidden * size.words // 4
    x = torch.randn(64, p, generator=torch.Generator().manual_seed(0)).to(device)
    tables = [part[0] for part in hash_tables(0, 1, size.dim, p, device)]
    found, plain = (torch.zeros(64, size.dim, device=device) for _ in range(2))
    bucket_add(found, x, *tables)
    bucket_add_reference(plain, x, *tables)
    apart = float((found - plain).abs().max() / plain.abs().max())
    fast = median(lambda: bucket_add(found, x, *tables), device, size.turns)[0]
    slow = median(lambda: bucket_add_reference(plain, x, *tables), device, size.turns)[0]
    return {"bucket_add s": fast, "its reference s": slow, "relative difference": apart}


def folds(device: torch.device, size: Size) -> dict[str, float]:
    """Folds of the gradients of a square weight, whole: seconds as above, and of reading them once."""
    draws, h = torch.Generator().manual_seed(0), size.hidden
    rows = torch.randn(size.rows // 16, h, h, generator=draws).to(device)
    turns = torch.randint(size.dim, (1, h), generator=draws).to(device)
    ones = torch.ones(h, device=device)
    found, plain = (torch.zeros(len(rows), size.dim, device=device) for _ in range(2))
    fold_add(found, rows, ones[None], turns, ones)
    fold_add_reference(plain, rows, ones[None], turns, ones)
    apart = float((found - plain).abs().max() / plain.abs().max())
    fast = median(lambda: fold_add(found, rows, ones[None], turns, ones), device, size.turns)[0]
    slow = median(lambda: fold_add_reference(plain, rows, ones[None], turns, ones), device, size.turns)[0]
    read = median(rows.sum, device, size.turns)[0]
    return {"fold_add s": fast, "its reference s": slow, "a sum s": read, "relative difference": apart}


def compiled() -> dict[str, dict[str, int]]:
    """Bytes of every kernel on GPUs that need not be here; raises if one does not compile, or adds atomically."""
    from triton import compile as build
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from dataloupe.kernels import _triton_sketch as kernels

    sizes = dict.fromkeys(("b", "p", "d", "stride"), "i32")
    every = {
        "bucket_add": (
            kernels._bucket_add,
            {"rows": "*fp32", "order": "*i64", "starts": "*i64", "signs": "*fp32", "out": "*fp32"} | sizes,
            {"ROWS": kernels._ROWS, "BUCKETS": kernels._BUCKETS},
        ),
        "fold_add": (
            kernels._fold_add,
            {
                "rows": "*fp32",
                "scales": "*fp32",
                "met": "*i64",
                "order": "*i64",
                "signs": "*fp32",
                "out": "*fp32",
            }
            | dict.fromkeys(
                ("k", "c", "d", "stride", "per_example", "per_line", "per_scales", "per_turns"), "i32"
            ),
            {"LINES": kernels._LINES, "PLACES": kernels._PLACES},
        ),
        "sign_add": (
            kernels._sign_add,
            {"rows": "*fp32", "out": "*fp32", "key": "i64", "first": "i64"} | sizes | {"scale": "fp32"},
            {"TILE": kernels._TILE, "WORD": kernels._WORD, "PRODUCT": "tf32x3"},
        ),
    }
    found: dict[str, dict[str, int]] = {name: {} for name in every}
    for name, (kernel, types, constants) in every.items():
        signature = types | dict.fromkeys(constants, "constexpr")
        integers = [name for name, kind in types.items() if kind == "i32"]
        for ones in ({}, dict.fromkeys(integers, 1)):  # a size of 1 becomes a constant
            given = signature | dict.fromkeys(ones, "constexpr")
            fixed = {(list(given).index(k),): v for k, v in (constants | ones).items()}
            for capability in (80, 90):
                built = build(ASTSource(kernel, given, fixed), target=GPUTarget("cuda", capability, 32))
                if "atom" in built.asm["ptx"]:
                    raise RuntimeError(f"{name} adds atomically on sm_{capability}")
                found[name][f"sm_{capability}{', sizes of 1' if ones else ''}"] = len(built.asm["cubin"])
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--small", action="store_true")
    arguments.add_argument("--json", type=Path, help="write the table there")
    given = arguments.parse_args()
    gpu = torch.cuda.is_available()
    device, size = ("cuda" if gpu else "cpu"), SMALL if given.small else Size()
    table: dict[str, dict] = {}
    for precision in ("fp32", "tf32", "bf16") if gpu else ("fp32", "bf16"):
        compute = Compute(device, precision, force=True)
        for name, question in cases(size).items():
            table[f"{name}, {precision}"] = measured(question, compute, size)
    table["sums into buckets"] = sums(torch.device(device), size)
    table["folds"] = folds(torch.device(device), size)
    if importlib.util.find_spec("triton"):
        table |= {f"{name}, bytes": sizes for name, sizes in compiled().items()}
    card = compute.facts().get("device", f"CPU, {torch.get_num_threads()} threads")
    print(f"{card}, torch {torch.__version__}")
    for name, row in table.items():
        print(name.ljust(24), "  ".join(f"{k} {v:.4g}" for k, v in row.items() if v is not None))
    if given.json:
        given.json.write_text(
            json.dumps({"date": time.strftime("%Y-%m-%d"), "device": card} | table, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
