"""A small job for a lab: the tests run it here, and in processes that they kill."""

import sys

import torch
from torch import nn

from dataloupe import outputs
from dataloupe.core import Examples, Outcomes, Question, Subsets
from dataloupe.engine import Backend
from dataloupe.lab import Lab
from dataloupe.learners import SGD

SUBSETS = Subsets(n=60, count=24, seed=1)
BACKEND = Backend("stacked", group=2, threads=1, unit=2)


def make_model():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def points(n, seed):
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    return Examples(torch.randn(n, 6, generator=draws) + labels[:, None], labels)


def question(**settings):
    learner = SGD(make_model, **{"epochs": 2, "lr": 0.1, "momentum": 0.9, "batch_size": 8} | settings)
    return Question(learner, points(60, 0), points(7, 1), outputs.margin)


def run(where, *, progress=False, **settings) -> Outcomes:
    return Lab(where, backend=BACKEND, progress=progress).outcomes(question(**settings), SUBSETS)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write("training\n")
    sys.stdout.flush()
    run(sys.argv[1], epochs=int(sys.argv[2]))
