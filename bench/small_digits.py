"""The setting of the statistical audit: 500 digits, an MLP 64-32-10, some hundred trainings a second on one core."""

import argparse
from collections.abc import Callable
from pathlib import Path

from torch import nn

import dataloupe as dl
from dataloupe.engine import Backend

RUNS = Path(__file__).parent.parent / "runs" / "audit"
"""Where retrainings stay between runs; git ignores it."""


def make_model() -> nn.Module:
    """A small network for 8 x 8 pixels."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def small_digits(first: int = 0, count: int = 100, *, epochs: int = 10, batch_size: int = 50) -> dl.Question:
    """How do 500 digits move the margins of ``count`` others, from the ``first`` test digit on?"""
    train, test = dl.data.digits()
    learner = dl.SGD(make_model, epochs=epochs, lr=0.1, momentum=0.9, batch_size=batch_size)
    return dl.Question(learner, train[:500], test[first : first + count], dl.outputs.margin)


def small_lab(name: str) -> dl.Lab:
    """A lab that trains 100 networks in one program, in one process."""
    return dl.Lab(RUNS / name, workers=1, backend=Backend("stacked", group=100, unit=200), progress=False)


def print_table(about: str | None, measure: Callable[..., list[tuple[str, str, str]]]) -> None:
    """A part of the audit by itself: its rows, the quick tier with ``--quick``."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    for row in measure(quick=parser.parse_args().quick):
        print(*row, sep=" | ")
