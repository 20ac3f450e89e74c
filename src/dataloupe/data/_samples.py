"""Small pictures of Fashion-MNIST as samples for diffusion models."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dataloupe._errors import BadInput
from dataloupe.core import ANY, Examples, checked
from dataloupe.data._fashion import NAMES, fashion_mnist


@checked("dl-511")
def fashion_samples(
    train: int = 1000,
    test: int = 100,
    classes: Sequence[str] = ("trouser", "sneaker", "bag", "ankle boot"),
    seed: int = 0,
    folder: str | Path | None = None,
) -> tuple[Examples, Examples]:
    """Fashion-MNIST of some classes, 16 x 16 pixels from -1 to 1, as (training, test) samples to add noise to.

    Inputs ``{"sample": float32 [n, 1, 16, 16], "timestep": int64 [n]}``, every timestep -1 (any); no labels;
    ``images`` uint8 ``[n, 16, 16]``; ``meta["class"]`` the garments. Pictures are framed by two pixels of background and averaged two by two. Which
    rows: the first of these classes in the order of :func:`fashion_mnist`.

    Raises ``BadInput`` dl-820 to dl-824, as :func:`fashion_mnist`, dl-829 (a class that there is not).

    ::

        train, test = fashion_samples(1000, 100)

    Source: Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747.
    """
    unknown = [name for name in classes if name not in NAMES]
    if unknown or not classes:
        raise BadInput(
            "dl-829",
            asked=f"Fashion-MNIST's classes {list(classes)}",
            found=f"no class {unknown[0]!r}" if unknown else "no class at all",
            do=f"name some of {', '.join(NAMES)}",
        )
    both = fashion_mnist(None, None, seed=seed, folder=folder)
    numbers = [NAMES.index(name) for name in classes]
    first, second = (
        _samples(data, np.flatnonzero(np.isin(data.labels.numpy(), numbers)), count)
        for data, count in zip(both, (train, test), strict=True)
    )
    return first, second


def _samples(data: Examples, rows: np.ndarray, count: int) -> Examples:
    if not 1 <= count <= len(rows):
        raise BadInput(
            "dl-820",
            asked=f"{count} pictures of these classes",
            found=f"{len(rows)}",
            do=f"ask for 1 to {len(rows)}",
        )
    ids = torch.from_numpy(rows[:count])
    framed = torch.nn.functional.pad(data.inputs[ids].float(), (2, 2, 2, 2))
    small = torch.nn.functional.avg_pool2d(framed, 2)
    return Examples(
        {"sample": small / 127.5 - 1, "timestep": torch.full((count,), ANY)},
        images=small[:, 0].round().to(torch.uint8).numpy(),
        meta={"class": [NAMES[label] for label in data.labels[ids].tolist()]},
    )
