"""Every example's gradient against batch-of-one autograd, for over a hundred architectures, rows sorted and shuffled.

    python bench/audit_zoo.py [--quick]

A row of the table per group: how many architectures were right to 1e-5 (relative, on the worst of 64 rows), how many were refused by
name, and what went wrong. Rows are sorted by their first number, or in random order.
"""

import argparse
import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from zoo import DATA_DEPENDENT, REFUSED, ZOO, B

import dataloupe as dl
from dataloupe.core import Contribution, map_inputs
from dataloupe.engine import gradients

BOUND = 1e-5


def truth(module: nn.Module, data: dl.Examples) -> dict[str, Tensor]:
    """Gradients of the margin, one row after the other, by autograd; complex numbers as pairs."""
    module = copy.deepcopy(module).eval()
    params = {name: p for name, p in module.named_parameters() if p.requires_grad}
    rows: dict[str, list[Tensor]] = {name: [] for name in params}
    for i in range(len(data)):
        row = data.take([i])
        x: Any = row.inputs
        out = module(**x) if isinstance(x, dict) else module(*x) if isinstance(x, tuple) else module(x)
        z = (out.logits if hasattr(out, "logits") else out)[0]
        label = int(row.labels[0])
        margin = z[label] - torch.logsumexp(torch.cat([z[:label], z[label + 1 :]]), 0)
        found = torch.autograd.grad(margin, list(params.values()), allow_unused=True)
        for (name, p), g in zip(params.items(), found, strict=True):
            dense = torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g
            rows[name].append((torch.view_as_real(dense) if dense.is_complex() else dense).flatten().double())
    return {name: torch.stack(parts) for name, parts in rows.items()}


def error(module: nn.Module, data: dl.Examples) -> tuple[float, int]:
    """The largest relative error of a row, and how many rows were differentiated singly."""
    source = dl.Checkpoints(module, module.state_dict())
    question = dl.Question(source, data, data, dl.outputs.margin)
    exact = truth(module, data)
    own = {name: torch.zeros_like(part) for name, part in exact.items()}

    def use(name: str, uses: list[Contribution], place: slice) -> None:
        for contribution in uses:
            own[name][place] += contribution.product().flatten(1).double()

    facts = gradients(question, source.models()[0], "train", use).facts
    square = sum((own[name] - part).square().sum(1) for name, part in exact.items())
    size = sum(part.square().sum(1) for part in exact.values())
    return float((square / size.clamp(min=1e-30)).sqrt().max()), int(facts["single_rows"])


def ordered(inputs: Any, labels: Tensor, order: str) -> dl.Examples:
    """The rows sorted by their first number, or shuffled."""
    first = (
        next(iter(inputs.values()))
        if isinstance(inputs, dict)
        else inputs[0]
        if isinstance(inputs, tuple)
        else inputs
    )
    key = first.flatten(1)[:, 0] if first.ndim > 1 else first
    draws = torch.Generator().manual_seed(5)
    rows = key.argsort(stable=True) if order == "sorted" else torch.randperm(B, generator=draws)
    return dl.Examples(map_inputs(lambda part: part[rows], inputs), labels=labels[rows])


def verdict(name: str, order: str) -> tuple[str, str]:
    """("right" | "refused" | "WRONG" | "RAW", what)."""
    draws = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    module, inputs = ZOO[name](draws)
    data = ordered(inputs, torch.randint(0, 3, (B,), generator=draws), order)
    try:
        worst, singly = error(module, data)
    except dl.DataloupeError as refusal:
        return "refused", refusal.code
    except Exception as raw:
        return "RAW", f"{type(raw).__name__}: {raw}"
    return ("right" if worst < BOUND else "WRONG"), f"{worst:.1e}" + (
        f", {singly} rows singly" if singly else ""
    )


def measure(*, quick: bool) -> list[tuple[str, str, str]]:
    """Rows of the table."""
    names = [*DATA_DEPENDENT, *REFUSED] if quick else list(ZOO)
    counts = {"right": 0, "refused": 0, "WRONG": 0, "RAW": 0}
    for name in names:
        verdicts = {order: verdict(name, order) for order in ("sorted", "shuffled")}
        for kind, _ in verdicts.values():
            counts[kind] += 1
        print(
            f"{name:40s}",
            *(f"{order}: {kind} ({what})" for order, (kind, what) in verdicts.items()),
            sep="  ",
            flush=True,
        )
    total = f"{len(names)} architectures, rows sorted and shuffled"
    text = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return [(f"gradients of {total}", "0 WRONG, 0 RAW", text)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for line in measure(quick=parser.parse_args().quick):
        print(*line, sep=" | ")
