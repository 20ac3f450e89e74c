"""Settings that can be meant: words from their list, whole numbers that are whole, questions that are questions.

What a setting may be is read from its annotation, so that a new setting is checked without a further line.
"""

import dataclasses
import functools
import inspect
import reprlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.core._rules import Rule, is_of_arrays, rule_of, whole, whole_of_any_size

P = ParamSpec("P")
R = TypeVar("R")


def checked(code: str = "dl-511", *, arrays: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function that refuses settings of another kind than their annotations name, before any work.

    Raises ``BadInput`` with ``code`` (of what should be an array: with ``arrays``), as :func:`check_settings` does.

    >>> from typing import Literal
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
            single = {name: value for name, value in given.items() if name not in several}
            _check(function, single, code, arrays or code)
            return function(*args, **kwargs)

        return call

    return decorate


def check_settings(settings: Any, code: str = "dl-511") -> None:
    """Refuse a dataclass whose fields are not of the kind that their annotations name; lists become the tuples they name.

    Raises:
        BadInput: with ``code``: a word that is not in the list (``Literal``), a count that is no whole number (``int``; NaN,
            2.5 and True are none), a number that is none (``float``), a switch that is no ``bool``, a text or path that
            is none, or something else than the class of this library that is named (a question, an attribution ...).
    """
    fields = [field.name for field in dataclasses.fields(settings) if field.init]
    kind: Any = type(settings)
    given = {name: getattr(settings, name) for name in fields}
    _check(kind, given, code, code)
    for name in _tuples(kind):
        value = given[name]
        if isinstance(value, np.ndarray | Tensor | list):
            parts = value if isinstance(value, list) else value.tolist()
            object.__setattr__(settings, name, tuple(parts))


def _check(owner: Any, given: Mapping[str, Any], code: str, arrays: str) -> None:
    rules = _rules(owner)
    for name, value in given.items():
        wrong = rules[name](value) if name in rules else None
        if wrong is not None:
            found, do = wrong.split("; ", 1)
            asked = f"{owner.__name__} with {name}={reprlib.repr(value)}"
            raise BadInput(arrays if is_of_arrays(rules[name]) else code, asked=asked, found=found, do=do)


@functools.cache
def _tuples(owner: Any) -> Collection[str]:
    """The fields that may be tuples, and neither lists nor arrays."""
    found, hints = [], get_type_hints(owner)
    for field in dataclasses.fields(owner):
        hint = hints[field.name]
        kinds = [get_origin(part) or part for part in (hint, *get_args(hint))]
        if (
            field.init
            and tuple in kinds
            and not any(kind in kinds for kind in (list, np.ndarray, Tensor, Any))
        ):
            found.append(field.name)
    return found


@functools.cache
def _rules(owner: Any) -> dict[str, Rule]:
    """The rules of a class's fields, or of a function's parameters, by name."""
    found: dict[str, Rule] = {}
    for name, hint in get_type_hints(owner).items():
        rule = rule_of(hint) if name != "return" else None
        rule = whole_of_any_size if name == "seed" and rule is whole else rule  # seeds are hashed
        if rule is not None:
            found[name] = rule
    return found
