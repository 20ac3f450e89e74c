"""Changes of texts, as token ids: their length stays."""

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._identity import mix64_torch
from dataloupe._typing import Inputs
from dataloupe.core import check_settings
from dataloupe.transforms._checks import refused, settings, strength_within

IDS = "input_ids"
"""The tokens among inputs that are a dict, as Hugging Face's models take it."""


@dataclasses.dataclass(frozen=True)
class InsertToken:
    """Put a token in, as often as the strength says: ``x_0 .. x_(p-1), token * s, x_p ..``, cut at the old length.

    Inputs ``[b, t]`` whole numbers, or a dict with ``input_ids``; the strength s is a whole number of copies, 0 to t.
    The place p is ``place``, or keyed: any from ``first`` to t - 1, the same at every strength. What stands behind
    moves on and falls off the end; padding falls first. Labels stay, so labels of single tokens no longer fit: for
    these use :class:`ReplaceToken`.

    Raises ``BadInput`` dl-790 (settings, strength), dl-791 (no token ids, a place outside).

    >>> InsertToken(9, place=1)(torch.tensor([[1, 2, 3, 4]]), 2.0, torch.zeros(1, 1))
    tensor([[1, 9, 9, 2]])
    """

    token: int
    place: int | None = None
    first: int = 0
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-790")
        good = min(self.token, self.first, 0 if self.place is None else self.place) >= 0
        settings(f"{self}", good, "give a token, and places, from 0")

    def __call__(self, inputs: Inputs, strength: float, uniforms: Float[Tensor, "b draws"]) -> Inputs:
        """The texts with the token put in."""
        ids = _tokens("InsertToken", inputs)
        length = ids.shape[1]
        strength_within("InsertToken", strength, 0.0, float(length), whole=True)
        least = self.first if self.place is None else self.place
        if least >= length:
            raise refused("InsertToken", ids, f"name a place below {length}")
        open_places = length - least if self.place is None else 1
        start = least + (uniforms[:, :1].to(ids.device) * open_places).long().clamp(max=open_places - 1)
        places = torch.arange(length, device=ids.device)
        behind = places >= start
        old = ids.gather(1, torch.where(behind, places - int(strength), places).clamp(min=0))
        return _given_back(inputs, torch.where(behind & (places < start + int(strength)), self.token, old))


@dataclasses.dataclass(frozen=True)
class ReplaceToken:
    """Put a token in the place of others: each place with probability s, all of them at s = 1.

    Inputs ``[b, t]`` whole numbers, or a dict with ``input_ids``; the strength s in 0..1 is the expected share of the
    places that may change: those that hold ``old`` if it is given, and never those that hold one of ``keep`` (padding,
    separators). A place changes where its uniform number lies below s: what changes at some strength does at every
    greater one. The numbers of the places are hashed from one per example.

    Raises ``BadInput`` dl-790 (settings, strength), dl-791 (no token ids).

    >>> ReplaceToken(9, old=2, keep=(0,))(torch.tensor([[1, 2, 2, 0]]), 1.0, torch.zeros(1, 1))
    tensor([[1, 9, 9, 0]])
    """

    token: int
    old: int | None = None
    keep: tuple[int, ...] = ()
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-790")
        good = (
            min(self.token, 0 if self.old is None else self.old, *self.keep, 0) >= 0
            and self.old not in self.keep
        )
        settings(f"{self}", good, "give tokens from 0, and an old one that is not kept")

    def __call__(self, inputs: Inputs, strength: float, uniforms: Float[Tensor, "b draws"]) -> Inputs:
        """The texts with the token in those places."""
        ids = _tokens("ReplaceToken", inputs)
        strength_within("ReplaceToken", strength, 0.0, 1.0)
        open_places = torch.ones_like(ids, dtype=torch.bool) if self.old is None else ids == self.old
        for token in self.keep:
            open_places &= ids != token
        chosen = _numbers_of_places(uniforms.to(ids.device), ids.shape[1]) < strength
        return _given_back(inputs, torch.where(open_places & chosen, self.token, ids))


def _numbers_of_places(uniforms: Float[Tensor, "b draws"], length: int) -> Float[Tensor, "b t"]:
    """One uniform number per place, float64, hashed from the first of every example."""
    keys = mix64_torch((uniforms[:, :1].double() * 2.0**24).long() + 1)
    places = mix64_torch(torch.arange(1, length + 1, dtype=torch.int64, device=uniforms.device))
    return ((mix64_torch(keys ^ places) >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


def _tokens(name: str, inputs: Inputs) -> Int[Tensor, "b t"]:
    ids = inputs.get(IDS) if isinstance(inputs, dict) else inputs
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point() or ids.dtype == torch.bool:
        raise refused(name, ids, f"give token ids [b, t] as whole numbers, or a dict with {IDS}")
    return ids


def _given_back(inputs: Inputs, ids: Int[Tensor, "b t"]) -> Inputs:
    if isinstance(inputs, dict):
        return {**inputs, IDS: ids.to(inputs[IDS].dtype)}
    return ids
