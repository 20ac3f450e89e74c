"""The module of an :class:`SGD`: drawn under a keyed generator, and held without its numbers."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from dataloupe._errors import CapabilityError
from dataloupe._identity import Stream
from dataloupe.core import Removal
from dataloupe.learners._stacked import channels_last


class Structure(NamedTuple):
    """The module without its numbers: in training mode, the same for one model at a time, in evaluation mode."""

    training: nn.Module
    alone: nn.Module
    evaluation: nn.Module
    couples_rows: bool


def drawn(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The module that the factory makes under a generator keyed by the seed."""
    with torch.random.fork_rng(devices=[]):
        # The factory is the user's and may draw from the global generator: forked here, and keyed.
        torch.random.default_generator.manual_seed(Stream.root(seed)("init").seed())
        return factory()


def structure_of(factory: Callable[[], nn.Module], removal: Removal) -> Structure:
    """What the factory makes, if its training can be repeated (dl-212) and rows can be taken away (dl-213)."""
    training = drawn(factory, 0).train()
    dropout = [
        name
        for name, m in training.named_modules()
        if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0
    ]
    if dropout:
        raise CapabilityError(
            "dl-212",
            asked=f"a training with dropout ({dropout[0]})",
            found="dropout draws from a generator that nothing keys",
            do="set p=0 or leave the layer out",
        )
    couples = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in training.modules())
    if couples and removal == "mask":
        raise CapabilityError(
            "dl-213",
            asked='removal="mask" with BatchNorm',
            found="a masked row would still enter the batch statistics",
            do='use removal="repack", or GroupNorm',
        )
    return Structure(training, channels_last(drawn(factory, 0).train()), drawn(factory, 0).eval(), couples)
