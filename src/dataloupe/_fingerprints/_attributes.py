"""What objects hold besides their fields."""

import dataclasses
import functools
from typing import Any

from dataloupe._fingerprints import _origin


def attributes(thing: Any) -> dict[str, Any]:
    """What an object holds besides its fields, caches left out."""
    cached = cached_names(type(thing))
    return {name: part for name, part in getattr(thing, "__dict__", {}).items() if name not in cached}


def added_to_house(thing: Any) -> dict[str, Any]:
    """What an object of the user's own holds beyond what a class of dataloupe's, whose ``__identity__`` it has, knows of."""
    kind = type(thing)
    told_by = next(base for base in kind.__mro__ if "__identity__" in vars(base))
    if not _origin.is_house(told_by):
        return {}
    known = {f.name for f in dataclasses.fields(thing)} if dataclasses.is_dataclass(thing) else set()
    held = attributes(thing)
    return {name: part for name, part in held.items() if name not in known and not name.startswith("_")}


def cached_names(kind: type) -> set[str]:
    every = (vars(base).items() for base in kind.__mro__)
    return {
        name for members in every for name, part in members if isinstance(part, functools.cached_property)
    }
