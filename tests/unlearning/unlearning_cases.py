"""What the tests of unlearning share: a small network on digits, a linear model, every method with short settings."""

import dataclasses
import functools
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from dataloupe import data, outputs
from dataloupe.core import Examples, MemoryLab, Question, Subsets
from dataloupe.learners import SGD
from dataloupe.unlearning import (
    SCRUB,
    AscentDescent,
    CFk,
    Context,
    DoNothing,
    EUk,
    GradientAscent,
    GradientDescent,
    L1Sparse,
    NegGradPlus,
    NewtonStep,
    Retrain,
)
from dataloupe.unlearning._context import predicted, row_losses

FORGET = np.arange(3, 43)
METHODS = [
    DoNothing(),
    Retrain(),
    GradientDescent(epochs=2, lr=0.02),
    GradientAscent(epochs=2, lr=0.02),
    AscentDescent(epochs=2, ascents=1, lr=0.02, forget_batch=16),
    NegGradPlus(epochs=2, alpha=0.9, lr=0.02, forget_batch=16),
    L1Sparse(epochs=2, lr=0.02),
    SCRUB(epochs=3, max_epochs=2, lr=0.02, decays=(2,)),
    SCRUB(epochs=3, max_epochs=2, lr=0.02, rewind=True),
    CFk(k=1, epochs=2),
    EUk(k=1, epochs=2),
    NewtonStep(rows=100, iterations=5),
]
TUNED = [method for method in METHODS if not isinstance(method, DoNothing | Retrain | NewtonStep)]


def mlp():
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def normed():
    return nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


def small_cnn():
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    )


def asked(module=mlp, rows=300, **settings):
    """A question about digits, its lab, and a few models of it."""
    train, test = data.digits()
    learner = SGD(module, **({"epochs": 5, "lr": 0.1, "momentum": 0.9, "batch_size": 20} | settings))
    question = Question(learner, train[:rows], test[:100], outputs.margin)
    lab = MemoryLab()
    return SimpleNamespace(
        question=question, lab=lab, models=lab.models(question, Subsets.full(question.n, 3))
    )


@functools.cache
def digits():
    return asked()


@functools.cache
def norms():
    return asked(normed)


def context(case, forget=FORGET, **more):
    return Context.of(case.question, case.lab, forget, **more)


def loss(model, rows, ids):
    """The mean training loss of some rows."""
    labels = rows.labels[torch.as_tensor(ids)]
    return float(row_losses(predicted(model, rows, np.asarray(ids))[None], labels[None]).mean())


def numbers(model):
    """All tensors of a model, copied."""
    return {name: tensor.clone() for name, tensor in {**model.params, **model.buffers}.items()}


def assert_same(a, b, tolerance=0.0):
    """Whether two sets of tensors agree: bit for bit, or up to a tolerance."""
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], rtol=tolerance, atol=tolerance)


@dataclasses.dataclass(frozen=True)
class Poison:
    """A method that gives a model of NaN for every second model, or as many as asked."""

    every: int = 2
    name: ClassVar[str] = "poison"

    def __call__(self, model, context):
        if (context.first + 1) % self.every:
            return model
        return model.with_params({name: torch.full_like(p, torch.nan) for name, p in model.params.items()})


def linear_data(n=40, d=5, seed=0, columns=2):
    """Numbers to regress."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, d, generator=draw)
    labels = inputs @ torch.randn(d, columns, generator=draw) + torch.randn(n, columns, generator=draw)
    return Examples(inputs, labels=labels)
