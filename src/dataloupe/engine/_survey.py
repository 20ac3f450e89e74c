"""How a model uses its parameters: two small passes tell, before the large ones."""

import dataclasses
import warnings
from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dataloupe._errors import CapabilityError, DataloupeError
from dataloupe.core import TorchModel
from dataloupe.engine._alone import Unit, units_of
from dataloupe.engine._rules import RULES
from dataloupe.engine._tape import Tape, Where, places_of

Forward = Callable[[TorchModel, int], Tensor]
"""The outputs of so many examples."""


class LayersDiffer(Exception):  # noqa: N818  (never reaches a user)
    """Three examples pass other layers than two: nothing is learnt from them about larger batches."""


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the forward pass does with the parameters.

    ``ruled`` are those all of whose uses have a rule, and ``places`` where each of these calls has its batch;
    ``alone`` the modules that use the others, which ``why`` names with the function that has no rule.
    Parameters in neither are not used by these examples. ``uses`` counts the ruled calls of each, ``numbers``
    the numbers of all values of these calls for one example, ``largest`` those of the largest. ``names`` are the
    parameters of every watched call in order, ``elsewhere`` counts the uses of those in ``why``: what every batch is
    compared with.
    """

    ruled: frozenset[str]
    places: tuple[Where, ...]
    alone: tuple[Unit, ...]
    why: Mapping[str, str]
    uses: Mapping[str, int]
    numbers: int
    largest: int
    names: tuple[frozenset[str], ...] = ()
    elsewhere: Mapping[str, int] = dataclasses.field(default_factory=dict)


def survey(model: TorchModel, forward: Forward) -> Survey:
    """Passes with two and with three examples, until nothing new is learnt."""
    why: dict[str, str] = {
        name: "complex numbers" for name, tensor in model.params.items() if tensor.is_complex()
    }
    places: tuple[Where, ...] = ()
    longer: list[set[str]] = []
    while True:
        try:
            (two, first), (three, second) = (
                _watch(model, forward, b, places, frozenset(why)) for b in (2, 3)
            )
        except RuntimeError as error:
            newest = longer[len(places) - 1] if places else set()
            if isinstance(error, DataloupeError) or not newest:
                raise
            # what follows the newest constant takes its axes by number, and one per example has one more
            why, places = why | dict.fromkeys(newest, "a value of all examples alike"), ()
            continue
        _check_apart(first, second[:2])
        found = places_of(two.values, three.values)
        lost = dict(two.unruled) | dict(three.unruled)
        longer = two.names if len(two.names) >= len(three.names) else three.names
        for names, where in zip(longer, found, strict=True):
            lost |= dict.fromkeys(names, "a batch along no axis of its own") if where.place == "odd" else {}
        constants = [i for i, where in enumerate(found) if where.place == "none"]
        known = sum(where.place == "none" for where in places)
        if lost:
            why, places = why | lost, ()
        elif len(constants) > known:
            places = found[: constants[known] + 1]  # from here on the next pass sees one per example
        else:
            uses = Counter(name for names in two.names for name in names)
            sizes = [value.numel() // 3 for value in three.values]
            alone = units_of(model, forward, frozenset(why))
            calls, elsewhere = tuple(map(frozenset, two.names)), dict(two.uses_elsewhere)
            if (two.names, two.uses_elsewhere) != (three.names, three.uses_elsewhere):
                raise LayersDiffer
            return Survey(
                frozenset(uses), found, alone, why, uses, sum(sizes), max(sizes, default=0), calls, elsewhere
            )


def _watch(
    model: TorchModel, forward: Forward, b: int, places: tuple[Where, ...], elsewhere: frozenset[str]
) -> tuple[Tape, Tensor]:
    with (
        torch.enable_grad(),
        warnings.catch_warnings(),
        Tape(model.params, b, RULES, places, elsewhere=elsewhere) as tape,
    ):
        warnings.filterwarnings(
            "ignore", "The use of `x.T`"
        )  # of a value that has one more axis here: it breaks what follows
        values = forward(model, b)
    return tape, values.detach()


def _check_apart(two: Tensor, three: Tensor) -> None:
    """Refuse a model whose output for an example depends on the others of its batch (dl-242)."""
    apart = (two - three).abs().max() / two.abs().max().clamp(min=1e-30)
    if bool(apart > 1e-3):
        raise CapabilityError(
            "dl-242",
            asked="every example's own gradient",
            found=f"outputs of two examples that change by {float(apart):.1%} when a third joins their batch",
            do="make the forward pass treat examples apart (no statistics of the batch in evaluation)",
        )
