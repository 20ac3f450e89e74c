"""Fine-tuning as data: stages of batches, each with an objective, for any number of models at once."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.core._model import TorchModel


class Turn(NamedTuple):
    """One step's rows, and the weight of each."""

    ids: Int[np.ndarray, " b"]
    weights: Float[np.ndarray, " b"]


class Seen(NamedTuple):
    """What an objective sees of M models at one step: ``models`` are their places among all that are tuned."""

    predicted: Float[Tensor, "M b c"]
    labels: Tensor | None
    ids: Int[np.ndarray, "M b"]
    weights: Float[Tensor, "M b"]
    models: slice
    params: dict[str, Tensor]


Objective: TypeAlias = Callable[[Seen], Float[Tensor, " M"]]
"""What each model makes smaller."""


class Stage(NamedTuple):
    """A run of steps with one objective: ``batches(seed)`` are a model's own rows, as many steps for every seed.

    ``rate`` times the tuning's learning rate is the stage's.
    """

    name: str
    batches: Callable[[int], Iterable[Turn]]
    objective: Objective
    rate: float = 1.0


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How a fine-tuning moves: Adam, or SGD with momentum and weight decay added to the gradient.

    Raises ``BadInput`` dl-660.

    >>> Optimizer("sgd", lr=0.01, momentum=0.9).kind
    'sgd'
    """

    kind: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-4
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings."""
        sane = self.lr > 0 and 0 <= self.momentum < 1 and self.weight_decay >= 0
        if self.kind not in ("adam", "sgd") or not sane:
            raise BadInput(
                "dl-660",
                asked=f"the optimizer {self.kind!r} with lr {self.lr:g}, momentum {self.momentum:g}, weight decay {self.weight_decay:g}",
                found="an unknown kind, or a number outside its range",
                do="use adam or sgd, lr above 0, momentum in [0, 1), weight decay at least 0",
            )

    def over(self, params: list[Tensor]) -> torch.optim.Optimizer:
        """torch's own, over these parameters (of a stack of models, too: it moves every number by itself)."""
        if self.kind == "adam":
            return torch.optim.Adam(params, lr=self.lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(params, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)


@dataclasses.dataclass(frozen=True, eq=False)
class Tuning:
    """Stages in order, by one optimizer; parameters in ``still`` stay; BatchNorm uses its own statistics if ``frozen_norms``.

    One state of the optimizer goes through all stages.
    """

    stages: Sequence[Stage]
    optimizer: Optimizer
    still: frozenset[str] = frozenset()
    frozen_norms: bool = True


class Tuned(NamedTuple):
    """Models after a tuning: ``losses [stages, M]`` are the mean objectives, ``passes`` the rows each model went forward and back over."""

    models: Sequence[TorchModel]
    finite: Bool[np.ndarray, " M"]
    losses: Float[np.ndarray, "stages M"]
    passes: int
