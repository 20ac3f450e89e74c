"""Sketches whose columns fall into blocks that are whitened apart: several of everything, or one a layer."""

import dataclasses
import itertools
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe.core import Contribution, Direct, Outer, Picked, Projection
from dataloupe.solve._factored import FactoredSketch


@dataclasses.dataclass(frozen=True)
class Beside:
    """Several sketches of the same gradients side by side, from one pass, each times B^-1/2: one sketch of all their width.

    >>> Beside((FactoredSketch(8), FactoredSketch(8, seed=1))).bind({"w": torch.Size([5, 7])}).blocks
    (slice(0, 8, None), slice(8, 16, None))
    """

    sketches: tuple[FactoredSketch, ...]

    def bind(self, shapes: Mapping[str, torch.Size]) -> "Parted":
        """All of them, of a model whose parameters have these shapes."""
        bound = [sketch.bind(shapes) for sketch in self.sketches]
        return Parted([(one, frozenset(shapes)) for one in bound], len(bound) ** -0.5)


@dataclasses.dataclass(frozen=True)
class ByLayer:
    """A sketch of at most ``dim`` dimensions of each module's own parameters.

    >>> ByLayer(8).bind({"a.weight": torch.Size([5, 7]), "a.bias": torch.Size([5]), "b.weight": torch.Size([3])}).blocks
    (slice(0, 8, None), slice(8, 11, None))
    """

    dim: int
    seed: int = 0

    def bind(self, shapes: Mapping[str, torch.Size]) -> "Parted":
        """A sketch a layer, of a model whose parameters have these shapes."""
        return Parted(
            [(FactoredSketch(self.dim, self.seed).bind(own), frozenset(own)) for own in _layers(shapes)]
        )


class Parted:
    """Projections side by side, each of some of the parameters; ``blocks`` are the columns of each."""

    def __init__(self, parts: list[tuple[Projection, frozenset[str]]], factor: float = 1.0) -> None:
        ends = [0, *itertools.accumulate(one.width for one, _ in parts)]
        self.blocks = tuple(slice(a, b) for a, b in itertools.pairwise(ends))
        self.width = ends[-1]
        self._factor = factor
        self._parts = [(one, names, cut) for (one, names), cut in zip(parts, self.blocks, strict=True)]

    def add(self, out: Float[Tensor, "b d"], name: str, *found: Contribution) -> None:
        """Add the sketches of contributions to ``out``."""
        scaled = found if self._factor == 1.0 else [_times(self._factor, one) for one in found]
        for one, names, cut in self._parts:
            if name in names:
                one.add(out[:, cut], name, *scaled)


def _times(factor: float, found: Contribution) -> Contribution:
    if isinstance(found, Outer):
        return found._replace(left=factor * found.left)
    if isinstance(found, Picked):
        return found._replace(right=factor * found.right)
    return Direct(factor * found.values)


def _layers(shapes: Mapping[str, torch.Size]) -> list[dict[str, torch.Size]]:
    """The parameters of every module by itself, in order."""
    found: dict[str, dict[str, torch.Size]] = {}
    for name, shape in shapes.items():
        found.setdefault(name.rpartition(".")[0], {})[name] = shape
    return list(found.values())
