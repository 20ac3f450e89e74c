"""Settings that can be meant: words from their list, whole numbers that are whole, questions that are questions.

What a setting may be is read from its annotation, so that a new setting is checked without a further line.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import os
import reprlib
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from dataloupe._errors import BadInput

P = ParamSpec("P")
R = TypeVar("R")

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


def checked(code: str = "dl-511") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function that refuses settings of another kind than their annotations name, before any work.

    Raises ``BadInput`` with ``code``, as :func:`check_settings` does.

    >>> @checked()
    ... def ask(count: int, kind: Literal["sum", "group"] = "sum"): ...
    >>> ask(3, kind="gruop")
    Traceback (most recent call last):
    dataloupe._errors.BadInput: [dl-511] asked: ask with kind='gruop'; found: not one of 'sum', 'group'; do: use one of 'sum', 'group'
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        several = {name for name, parameter in signature.parameters.items() if parameter.kind in kinds}

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError:  # too many, or missing: the function says so itself
                return function(*args, **kwargs)
            _check(function, {name: value for name, value in given.items() if name not in several}, code)
            return function(*args, **kwargs)

        return call

    return decorate


def check_settings(settings: Any, code: str = "dl-511") -> None:
    """Refuse a dataclass whose fields are not of the kind that their annotations name.

    Raises:
        BadInput: with ``code``: a word that is not in the list (``Literal``), a count that is no whole number (``int``; NaN,
            2.5 and True are none), a number that is none (``float``), a switch that is no ``bool``, a text or path that
            is none, or something else than the class of this library that is named (a question, an attribution ...).
    """
    fields = [field.name for field in dataclasses.fields(settings) if field.init]
    _check(type(settings), {name: getattr(settings, name) for name in fields}, code)


def _check(owner: Any, given: Mapping[str, Any], code: str) -> None:
    rules = _rules(owner)
    for name, value in given.items():
        wrong = rules[name](value) if name in rules else None
        if wrong is not None:
            found, do = wrong.split("; ", 1)
            asked = f"{owner.__name__} with {name}={reprlib.repr(value)}"
            raise BadInput(code, asked=asked, found=found, do=do)


@functools.cache
def _rules(owner: Any) -> dict[str, Rule]:
    """The rules of a class's fields, or of a function's parameters, by name."""
    found: dict[str, Rule] = {}
    for name, hint in get_type_hints(owner).items():
        rule = _rule(hint) if name != "return" else None
        rule = _whole_of_any_size if name == "seed" and rule is _whole else rule  # seeds are hashed
        if rule is not None:
            found[name] = rule
    return found


def _rule(hint: Any) -> Rule | None:
    """What is wrong with a value of this annotation; None where the annotation says nothing to check."""
    origin = get_origin(hint)
    if origin is os.PathLike:
        return _path
    if origin in (Union, types.UnionType):
        parts = [part for part in get_args(hint) if part is not type(None)]
        rules = [rule for rule in map(_rule, parts) if rule is not None]
        if len(rules) < len(parts):
            return None
        return functools.partial(_of_any, rules=rules, none=type(None) in get_args(hint))
    if origin is Literal:
        return functools.partial(_word, words=get_args(hint))
    if not isinstance(hint, type):
        return None
    if hint.__module__.split(".")[0] == _HOUSE and "[" not in hint.__name__:
        return functools.partial(_noun, kind=hint)
    return {int: _whole, float: _number, bool: _switch, str: _words, Path: _path}.get(hint)


def _of_any(value: Any, *, rules: list[Rule], none: bool) -> str | None:
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


def _whole(value: Any) -> str | None:
    wrong = _whole_of_any_size(value)
    return "more than 64 bits hold; give a smaller number" if wrong is None and abs(value) >= 2**63 else wrong


def _whole_of_any_size(value: Any) -> str | None:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_):
        return None
    return f"{_kind(value)}, no whole number; give a whole number"


def _number(value: Any) -> str | None:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if real and not math.isnan(value):
        return None
    return f"{_kind(value)}, no number; give a number"


def _switch(value: Any) -> str | None:
    if isinstance(value, bool | np.bool_):
        return None
    return f"{_kind(value)}, neither True nor False; give True or False"


def _words(value: Any) -> str | None:
    return None if isinstance(value, str) else f"{_kind(value)}, no text; give a text"


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
    return frozenset(name for name in names if not name.startswith("_"))


def _has(value: Any, name: str) -> bool:
    """Whether an object has an attribute, without computing a property that it has."""
    missing = object()
    return inspect.getattr_static(value, name, missing) is not missing or hasattr(value, name)


def _kind(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    name = type(value).__name__
    return "None" if value is None else f"an {name}" if name[0] in "aeiouAEIO" else f"a {name}"
