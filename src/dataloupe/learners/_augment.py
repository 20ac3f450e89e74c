"""Augmentations as pure functions of the inputs and of keyed uniform numbers."""

import dataclasses
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.core import check_settings


@runtime_checkable
class Augment(Protocol):
    """A random change of images: ``draws`` uniform numbers per example decide all of it."""

    @property
    def draws(self) -> int:
        """How many uniform numbers in [0, 1) it wants per example."""
        ...

    def __call__(self, images: Tensor, uniforms: Float[Tensor, "b draws"]) -> Tensor:
        """The changed images, ``[b, c, h, w]`` in and out: no randomness but the uniforms."""
        ...


@dataclasses.dataclass(frozen=True)
class Flip:
    """Mirror left and right with the given probability. Raises ``BadInput`` dl-511 (settings).

    >>> Flip(1.0)(torch.arange(4.0).view(1, 1, 2, 2), torch.zeros(1, 1)).flatten().tolist()
    [1.0, 0.0, 3.0, 2.0]
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self)
        if not 0 <= self.probability <= 1:
            raise BadInput(
                "dl-511", asked=f"{self}", found="no probability", do="give a probability from 0 to 1"
            )

    @property
    def draws(self) -> int:
        """One coin."""
        return 1

    def __call__(self, images: Tensor, uniforms: Float[Tensor, "b draws"]) -> Tensor:
        """Mirrored where the coin falls below the probability."""
        _check_images(images, "Flip")
        mirrored = uniforms[:, 0, None, None, None] < self.probability
        return torch.where(mirrored, images.flip(-1), images)


@dataclasses.dataclass(frozen=True)
class Shift:
    """Move by up to `pixels` in each direction, zeros coming in at the edge. Raises ``BadInput`` dl-511 (settings).

    >>> Shift(1)(torch.ones(1, 1, 2, 2), torch.tensor([[0.0, 0.5]])).flatten().tolist()
    [0.0, 0.0, 1.0, 1.0]
    """

    pixels: int = 2

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self)
        if self.pixels < 0:
            raise BadInput("dl-511", asked=f"{self}", found="a number below 0", do="give 0 pixels or more")

    @property
    def draws(self) -> int:
        """One for each direction."""
        return 2

    def __call__(self, images: Tensor, uniforms: Float[Tensor, "b draws"]) -> Tensor:
        """The window of every image, moved by whole pixels."""
        _check_images(images, "Shift")
        _, _, height, width = images.shape
        moves = (uniforms * (2 * self.pixels + 1)).long().clamp(max=2 * self.pixels)
        padded = torch.nn.functional.pad(images, (self.pixels,) * 4)
        rows = moves[:, 0, None] + torch.arange(height, device=images.device)
        columns = moves[:, 1, None] + torch.arange(width, device=images.device)
        picked = torch.take_along_dim(padded, rows[:, None, :, None], dim=2)
        return torch.take_along_dim(picked, columns[:, None, None, :], dim=3)


@dataclasses.dataclass(frozen=True)
class Chain:
    """One augmentation after the other, each with its own numbers."""

    steps: tuple[Augment, ...]

    @property
    def draws(self) -> int:
        """The sum of the steps' draws."""
        return sum(step.draws for step in self.steps)

    def __call__(self, images: Tensor, uniforms: Float[Tensor, "b draws"]) -> Tensor:
        """All steps in order."""
        start = 0
        for step in self.steps:
            images = step(images, uniforms[:, start : start + step.draws])
            start += step.draws
        return images


def _check_images(images: Tensor, name: str) -> None:
    if images.ndim != 4:
        raise BadInput(
            "dl-215",
            asked=f"the augmentation {name}",
            found=f"inputs of shape {tuple(images.shape)}",
            do="give images [b, c, h, w], or an augmentation of your own",
        )
