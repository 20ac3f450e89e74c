"""Transforms: pure changes of inputs, each example changed alike for every model that looks at it."""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._identity import Stream
from dataloupe._typing import Ids, Inputs


@runtime_checkable
class Transform(Protocol):
    """A change of inputs by a strength: a pure function of them, and of ``draws`` uniform numbers per example.

    The uniforms are an example's own, whatever the model, the algorithm or the strength: a patch that falls somewhere
    falls there for all of them, so that effects are paired by place. An example's change must not depend on the
    others of its batch, and shape and type stay. At strength 0 those of ``dataloupe.transforms`` change nothing.

    A transform whose values may leave those of the data says so: see :class:`BoundedTransform`.

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class Brighter:
    ...     draws: int = 0
    ...     def __call__(self, inputs, strength, uniforms):
    ...         return (inputs + strength).clamp(0, 1)
    >>> isinstance(Brighter(), Transform)
    True
    """

    @property
    def draws(self) -> int:
        """How many uniform numbers in [0, 1) it wants per example."""
        ...

    def __call__(self, inputs: Inputs, strength: float, uniforms: Float[Tensor, "b draws"]) -> Inputs:
        """The changed inputs ``[b, ...]``: no randomness but the uniforms, and the inputs given stay as they are."""
        ...


@runtime_checkable
class BoundedTransform(Transform, Protocol):
    """A transform that names the range of the values it may give, in place of the data's own."""

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest value of what it changes."""
        ...


def keyed_uniforms(ids: Ids, draws: int, *, seed: int) -> Float[Tensor, "b draws"]:
    """Uniform numbers in [0, 1), float32: a pure function of (seed, example id, draw).

    >>> bool((keyed_uniforms([7], 2, seed=0)[0] == keyed_uniforms([3, 7], 2, seed=0)[1]).all())
    True
    """
    bits = Stream.root(seed)("transform").bits(np.asarray(ids)[:, None], np.arange(draws)[None, :])
    return torch.from_numpy((bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24))
