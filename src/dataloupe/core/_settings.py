"""Settings that can be meant: words from their list, whole numbers that are whole, numbers that are numbers.

What a setting may be is read from its annotation, so that a new setting is checked without a further line.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import reprlib
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from dataloupe._errors import BadInput

P = ParamSpec("P")
R = TypeVar("R")

Rule = Callable[[Any], str | None]
"""From a value to what is wrong with it, or None."""


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

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError:  # too many, or missing: the function says so itself
                return function(*args, **kwargs)
            _check(function, given, code)
            return function(*args, **kwargs)

        return call

    return decorate


def check_settings(settings: Any, code: str = "dl-511") -> None:
    """Refuse a dataclass whose fields are not of the kind that their annotations name.

    Raises:
        BadInput: with ``code``: a word that is not in the list (``Literal``), a count that is no whole number (``int``; NaN,
            2.5 and True are none), a number that is none (``float``), a switch that is no ``bool``.
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
        if rule is not None:
            found[name] = rule
    return found


def _rule(hint: Any) -> Rule | None:
    """What is wrong with a value of this annotation; None where the annotation says nothing to check."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        parts = [part for part in get_args(hint) if part is not type(None)]
        rules = [rule for rule in map(_rule, parts) if rule is not None]
        if len(rules) < len(parts):
            return None
        return functools.partial(_of_any, rules=rules, none=type(None) in get_args(hint))
    if origin is Literal:
        return functools.partial(_word, words=get_args(hint))
    return {int: _whole, float: _number, bool: _switch}.get(hint) if isinstance(hint, type) else None


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


def _kind(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return "None" if value is None else f"a {type(value).__name__}"
