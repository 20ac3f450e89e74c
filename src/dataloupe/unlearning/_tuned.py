"""What methods that fine-tune share: batches keyed by example, and the way from one model to many."""

import abc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from dataloupe._identity import Stream, canonical
from dataloupe._typing import Array
from dataloupe.core import TorchModel, Turn
from dataloupe.unlearning._context import Context


class Tuner(abc.ABC):
    """A method that says how to tune; subclasses are frozen dataclasses with ``name`` and ``many``."""

    def __call__(self, model: TorchModel, context: Context) -> TorchModel:
        """One model: a run of one."""
        return self.many([model], context)[0]

    @abc.abstractmethod
    def many(self, models: Sequence[TorchModel], context: Context) -> list[TorchModel]:
        """Many models at once: the answer of one after the other."""


Batches = Callable[[int], Iterator[Turn]]
"""From a model's seed to its batches."""


def shuffled(ids: Int[np.ndarray, " r"], size: int, epoch: int) -> Batches:
    """One epoch over some rows, in an order keyed by (seed, epoch, example id)."""
    return lambda seed: _cut(_order(ids, seed, epoch), size)


def mixed(forget: Array, retained: Array, draw: int, repeat: int, size: int, epoch: int) -> Batches:
    """An epoch over the rows to forget, ``repeat`` times each, and ``draw`` retained ones, drawn anew each epoch."""

    def batches(seed: int) -> Iterator[Turn]:
        bits = Stream.root(seed)("retained", epoch).bits(retained)
        sample = retained[np.argsort(bits)][:draw]
        rows = np.concatenate([np.repeat(forget, repeat), sample])
        places = Stream.root(seed)("mix", epoch).bits(np.arange(len(rows)))
        return _cut(rows[np.argsort(places)], size)

    return batches


def _order(ids: Array, seed: int, epoch: int) -> Array:
    return ids[np.argsort(Stream.root(seed)("order", epoch).bits(ids))]


def _cut(rows: Array, size: int) -> Iterator[Turn]:
    for start in range(0, len(rows), size):
        ids = rows[start : start + size]
        yield Turn(ids, np.ones(len(ids), np.float32))


def settings_of(method: Any) -> dict[str, Any]:
    """A method's settings as JSON holds them."""
    found = canonical(method)
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if name not in ("kind", "code")}
