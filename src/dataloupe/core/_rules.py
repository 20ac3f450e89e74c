"""What is wrong with a value that an annotation does not allow, in words."""

import collections.abc
import functools
import inspect
import math
import numbers
import os
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.core._arrays import as_array

Rule = Callable[[Any], str | None]
"""From a value to what is wrong with it, or None."""

_HOUSE = __name__.split(".")[0]

_GIVE = {
    "Attribution": "what `method.attribute(question, lab)` returns, such as dataloupe.TRAK().attribute(question, lab)",
    "Outcomes": "what `lab.outcomes(question, subsets)` returns, or dataloupe.Outcomes.from_arrays(masks, values)",
    "Subsets": "dataloupe.Subsets(n=..., count=...), or Subsets.listed(masks) for a boolean matrix",
    "Examples": "dataloupe.Examples(inputs, labels=...)",
    "Question": "dataloupe.Question(learner, train, targets, output)",
    "Lab": 'a lab, such as dataloupe.Lab("folder")',
    "Info": 'dataloupe.Info("the method\'s name")',
}
"""Where the nouns come from; of other classes the name has to do."""

_TOLD_BETTER = ("Model",)
"""What functions refuse themselves, since they know what a user wanted to give."""

_LONGEST = 10_000
"""Of longer lists the parts are left to the function."""


def rule_of(hint: Any) -> Rule | None:
    """What is wrong with a value of this annotation; None where the annotation says nothing to check."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _union(get_args(hint))
    if origin is Literal:
        return functools.partial(_word, words=get_args(hint))
    if origin is tuple:
        return _tuple_of(get_args(hint))
    if origin in (os.PathLike, collections.abc.Callable):
        return _path if origin is os.PathLike else _callable
    if origin in (collections.abc.Sequence, list):
        return functools.partial(_list, part=rule_of(get_args(hint)[0]))
    if origin in (collections.abc.Mapping, dict):
        return functools.partial(_mapping, part=rule_of(get_args(hint)[1]))
    return _class(hint) if isinstance(hint, type) else None


def is_of_arrays(rule: Rule) -> bool:
    """Whether it is arrays that a rule looks at."""
    return getattr(rule, "func", rule) is _array


def _class(hint: Any) -> Rule | None:
    if hasattr(hint, "array_type"):  # jaxtyping's
        axes = (
            len(hint.dims)
            if all(hasattr(axis, "name") and "Variadic" not in type(axis).__name__ for axis in hint.dims)
            else None
        )
        return functools.partial(_array, axes=axes) if hint.array_type is np.ndarray else _tensor
    if hint.__module__.split(".")[0] == _HOUSE and "[" not in hint.__name__:
        if hint.__name__ in _TOLD_BETTER:
            return None
        return functools.partial(_noun, kind=hint)
    arrays: dict[type, Rule] = {
        np.ndarray: functools.partial(_array, axes=None),
        Tensor: _tensor,
        slice: _slice,
    }
    plain: dict[type, Rule] = {int: whole, float: _number, bool: _switch, str: _text, Path: _path}
    return (plain | arrays).get(hint)


def _union(parts: tuple[Any, ...]) -> Rule | None:
    """The rule of a union; None for row numbers, which :func:`check_ids` tells better, and where a part has none."""
    if np.ndarray in parts and Sequence[int] in parts:
        return None
    some = [part for part in parts if part is not type(None)]
    rules = [rule for rule in map(rule_of, some) if rule is not None]
    if len(rules) < len(some):
        return None
    return functools.partial(_of_any, rules=rules, none=type(None) in parts)


def _tuple_of(parts: tuple[Any, ...]) -> Rule:
    if len(parts) == 2 and parts[1] is Ellipsis:
        return functools.partial(_list, part=rule_of(parts[0]))
    return functools.partial(_places, rules=[rule_of(part) for part in parts])


def _of_any(value: Any, *, rules: Collection[Rule], none: bool) -> str | None:
    if value is None and none:
        return None
    wrongs = [rule(value) for rule in rules]
    return None if any(wrong is None for wrong in wrongs) else wrongs[0]


def _word(value: Any, *, words: tuple[Any, ...]) -> str | None:
    known = [word for word in words if type(word) is type(value)]
    if value in known:
        return None
    quoted = ", ".join(map(repr, words))
    return f"not one of {quoted}; use one of {quoted}"


def whole(value: Any) -> str | None:
    """A whole number that 64 bits hold."""
    wrong = whole_of_any_size(value)
    return "more than 64 bits hold; give a smaller number" if wrong is None and abs(value) >= 2**63 else wrong


def whole_of_any_size(value: Any) -> str | None:
    """A whole number."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_):
        return None
    return f"{_kind(value)}, no whole number; give a whole number"


def _number(value: Any) -> str | None:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if not real or math.isnan(value):
        return f"{_kind(value)}, no number; give a number"
    return whole(value) if isinstance(value, numbers.Integral) else None


def _switch(value: Any) -> str | None:
    if isinstance(value, bool | np.bool_):
        return None
    return f"{_kind(value)}, neither True nor False; give True or False"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else f"{_kind(value)}, no text; give a text"


def _callable(value: Any) -> str | None:
    return None if callable(value) else f"{_kind(value)}, which cannot be called; give a function"


def _slice(value: Any) -> str | None:
    return None if isinstance(value, slice) else f"{_kind(value)}, no slice; give slice(start, stop)"


def _tensor(value: Any) -> str | None:
    return None if isinstance(value, Tensor) else f"{_kind(value)}, no tensor; give a torch.Tensor"


def _array(value: Any, *, axes: int | None) -> str | None:
    """An array, or what becomes one; which numbers it holds is for the function to judge."""
    wanted = "an array of numbers" if axes is None else f"an array of numbers with {axes} axes"
    try:
        array = as_array(value, "the values")
    except BadInput:
        return f"{_kind(value)}; give {wanted}"
    if array.ndim == 0 or (axes is not None and array.ndim != axes):
        return f"{_kind(value)} of shape {array.shape}; give {wanted}"
    return None


def _list(value: Any, *, part: Rule | None) -> str | None:
    """A list, a tuple, or a one-dimensional array, of parts that keep a rule; a sequence that makes its parts stays unread."""
    if isinstance(value, np.ndarray | Tensor):
        value = value.tolist() if value.ndim == 1 else None
    several = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    if isinstance(value, str | bytes | Mapping) or not several:
        return f"{_kind(value)}, no list; give a list"
    if part is None or not isinstance(value, list | tuple) or len(value) > _LONGEST:
        return None
    return next((f"among its parts {wrong}" for wrong in map(part, value) if wrong), None)


def _places(value: Any, *, rules: Collection[Rule | None]) -> str | None:
    """A list with a rule for every place."""
    no_list = _list(value, part=None)
    if no_list is not None:
        return no_list
    if len(value) != len(rules):
        return f"{len(value)} values; give {len(rules)}"
    wrongs = [rule(one) for rule, one in zip(rules, value, strict=True) if rule is not None]
    return next((f"among its parts {wrong}" for wrong in wrongs if wrong), None)


def _mapping(value: Any, *, part: Rule | None) -> str | None:
    if not isinstance(value, Mapping):
        return f"{_kind(value)}, no mapping; give a dict of names and values"
    wrongs = (part(one) for one in value.values()) if part else ()
    return next((f"among its values {wrong}" for wrong in wrongs if wrong), None)


def _path(value: Any) -> str | None:
    return None if isinstance(value, os.PathLike | str) else f"{_kind(value)}, no path; give a path"


def _noun(value: Any, *, kind: type) -> str | None:
    """A class of this library, or what has all that a protocol asks for."""
    if getattr(kind, "_is_protocol", False):
        here = not isinstance(value, type) and all(_has(value, name) for name in _members(kind))
    else:
        here = isinstance(value, kind)
    return None if here else f"{_kind(value)}; give {_GIVE.get(kind.__name__, f'a {kind.__name__}')}"


@functools.cache
def _members(protocol: type) -> frozenset[str]:
    """The names that a protocol asks for."""
    parts = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False)]
    names = {name for part in parts for name in [*vars(part), *vars(part).get("__annotations__", {})]}
    return frozenset(name for name in names if not name.startswith("_") or name == "__call__")


def _has(value: Any, name: str) -> bool:
    """Whether an object has an attribute, without computing a property that it has."""
    missing = object()
    return inspect.getattr_static(value, name, missing) is not missing or hasattr(value, name)


def _kind(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    name = type(value).__name__
    return "None" if value is None else f"an {name}" if name[0] in "aeiouAEIO" else f"a {name}"
