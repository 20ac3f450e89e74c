"""The module of an :class:`SGD`: drawn under keyed generators, and held without its numbers."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from dataloupe._errors import BadInput, CapabilityError, DataloupeError
from dataloupe._identity import Stream
from dataloupe.core import Removal, copied_module, isolated, training_errors, with_dense_gradients
from dataloupe.learners._stacked import channels_last


class Structure(NamedTuple):
    """The module without its numbers: in training mode, the same for one model at a time, in evaluation mode."""

    training: nn.Module
    alone: nn.Module
    evaluation: nn.Module
    couples_rows: bool


def drawn(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The module that the factory makes under generators keyed by the seed (dl-262, dl-264)."""
    with isolated(Stream.root(seed)("init").seed()), training_errors("the module that SGD trains"):
        module = factory()
    if not isinstance(module, nn.Module):
        raise BadInput(
            "dl-264",
            asked="the module that SGD trains",
            found=f"a function that gives a {type(module).__name__}",
            do="let it return a torch.nn.Module",
        )
    lazy = [
        name for name, p in module.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)
    ]
    if lazy:
        raise BadInput(
            "dl-264",
            asked="the module that SGD trains",
            found=f"{lazy[0]}, which has no size before a first forward pass (a lazy layer)",
            do="give the layer its input size, or call the module once inside the factory",
        )
    if not any(p.requires_grad for p in module.parameters()):
        raise BadInput(
            "dl-264",
            asked="the module that SGD trains",
            found=f"{type(module).__name__}, which has no parameter that wants a gradient",
            do="give it one, or call requires_grad_(True) on the part that is to be trained",
        )
    return module


def structure_of(factory: Callable[[], nn.Module], removal: Removal) -> Structure:
    """What the factory makes, if its training can be repeated (dl-212) and rows can be taken away (dl-213)."""
    training = own_module(factory).train()
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
    return Structure(
        training, channels_last(own_module(factory).train()), own_module(factory).eval(), couples
    )


def fresh_structure(known: Structure, factory: Callable[[], nn.Module]) -> Structure:
    """Copies of the modules, parameters and buffers shared: what a forward pass leaves in one reaches no other training."""
    try:
        training, alone, evaluation = (copied_module(module, sharing=True) for module in known[:3])
    except Exception:  # what a module holds may refuse to be copied in any way: the factory makes another
        return structure_of(factory, "repack")._replace(couples_rows=known.couples_rows)
    return Structure(training, alone, evaluation, known.couples_rows)


def own_module(factory: Callable[[], nn.Module], held: nn.Module | None = None) -> nn.Module:
    """A module that nobody else holds, a copy of the one ``held``: a factory may give the same one each time."""
    try:
        return with_dense_gradients(copied_module(drawn(factory, 0) if held is None else held))
    except DataloupeError:
        raise
    except Exception:  # what a module holds may refuse to be copied in any way: the factory makes another
        return with_dense_gradients(drawn(factory, 0))
