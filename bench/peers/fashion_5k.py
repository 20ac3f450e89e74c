"""What the attribution peers are given: the network of examples/fashion.py, its data, and trained tensors of it."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn


class Scale(nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.to(torch.float32) / 255 - 0.286) / 0.353


def make_model() -> nn.Module:
    return nn.Sequential(
        Scale(),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


class Problem(NamedTuple):
    """Pictures and labels of both sides, and where the models lie."""

    train: tuple[torch.Tensor, torch.Tensor]
    targets: tuple[torch.Tensor, torch.Tensor]
    folder: Path

    def state(self, k: int) -> dict[str, torch.Tensor]:
        return load_file(self.folder / f"model-{k:02d}.safetensors")


def problem(folder: str, rows: int | None) -> Problem:
    """The first rows of the training data (all, if None), and all targets."""
    with np.load(Path(folder) / "problem.npz") as held:
        train, targets = (
            (torch.from_numpy(held[f"{side}_x"]), torch.from_numpy(held[f"{side}_y"]))
            for side in ("train", "targets")
        )
    return Problem((train[0][:rows], train[1][:rows]), targets, Path(folder))


def batches(side: tuple[torch.Tensor, torch.Tensor], size: int):
    return zip(*(part.split(size) for part in side), strict=True)


def margin(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """log p / (1 - p) of the label, row by row."""
    own = z.gather(1, y[:, None]).squeeze(1)
    others = torch.where(y[:, None] == torch.arange(z.shape[1]), -torch.inf, z)
    return own - others.logsumexp(1)


class Clock:
    """CPU seconds on one core since it was made: what else the machine does counts less than by a clock on the wall."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.start = time.process_time()

    @property
    def seconds(self) -> float:
        return time.process_time() - self.start
