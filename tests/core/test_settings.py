"""Every setting at a public door is of the kind that its annotation names, or refused: words, whole numbers, numbers, switches."""

import collections.abc
import dataclasses
import importlib
import inspect
import types
import typing
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints
from unittest.mock import MagicMock

import numpy as np
import pytest

import dataloupe as dl
from dataloupe._errors import BadInput, DataloupeError
from dataloupe.core import check_settings, checked

ROOMS = (
    "",
    "apps",
    "judge",
    "methods",
    "unlearning",
    "learners",
    "outputs",
    "transforms",
    "data",
    "formats",
    "report",
)

RESULTS = {
    *(
        "Counterfactual",
        "DoseResponse",
        "TransformEffect",
        "Chance",
        "DirectionRemoval",
        "GroupEffect",
        "Enriched",
    ),
    *(
        "Enrichment",
        "GroupInfluences",
        "Journey",
        "Likelihoods",
        "Leaks",
        "LinearResidual",
        "Mislabels",
        "Regenerated",
    ),
    *(
        "Spread",
        "Neighbours",
        "Principal",
        "Support",
        "SupportCase",
        "WhatIf",
        "Audit",
        "MethodAudit",
        "SplitAudit",
    ),
    *(
        "WorstPoint",
        "Calibration",
        "Ceiling",
        "Fidelity",
        "Floor",
        "KLoM",
        "Levels",
        "Control",
        "LDS",
        "RemovalTest",
    ),
    *(
        "ULiRA",
        "Bootstrap",
        "Growth",
        "Plan",
        "PlannedCost",
        "Difficulty",
        "MethodCost",
        "Receipt",
        "Unlearned",
    ),
    *("Context", "Ledger", "Predictions"),
}
"""What functions give and nobody makes by hand."""

ELSEWHERE = {"SGD", "Lab", "crossed_mean", "crossed_difference", "ensembles_for", "correlated_subsets"}
"""SGD and the lab check their settings by tests of their own; the others are steps of public functions."""


def kinds(hint: object) -> set[object]:
    """int, float, bool or Literal, without None; empty where another kind is possible."""
    parts = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    found = {Literal if get_origin(part) is Literal else part for part in parts if part is not type(None)}
    return found if found <= {int, float, bool, Literal} else set()


def settings_of(thing: object) -> dict[str, object]:
    """The settings of a public function or dataclass, with their annotations."""
    if inspect.isclass(thing) and not dataclasses.is_dataclass(thing):
        return {}
    names = (
        [field.name for field in dataclasses.fields(thing) if field.init]
        if inspect.isclass(thing)
        else list(inspect.signature(thing).parameters)
    )
    hints = get_type_hints(inspect.unwrap(thing))
    return {name: hints[name] for name in names if name in hints and kinds(hints[name])}


def doors() -> dict[str, tuple[object, dict[str, object]]]:
    found = {}
    for room in ROOMS:
        module = importlib.import_module(f"dataloupe.{room}".strip("."))
        for name in dir(module):
            thing = getattr(module, name)
            ours = callable(thing) and str(getattr(thing, "__module__", "")).startswith("dataloupe")
            if name.startswith("_") or not ours or name in RESULTS | ELSEWHERE:
                continue
            if settings := settings_of(thing):
                found[name] = (thing, settings)
    return found


DOORS = doors()
WRONG = {
    int: (2.5, float("nan"), True, "3"),
    float: (float("nan"), "0.5", True, 1j),
    bool: ("yes", 2, None),
    Literal: ("no such word", 3, "SUM"),
}


PLAIN = {int: 5, float: 0.5, bool: True, str: "x"}


def sample(hint: object) -> object:
    """A value of the right kind."""
    part = (
        next(one for one in (get_args(hint) or (hint,)) if one is not type(None))
        if get_origin(hint) is not Literal
        else hint
    )
    if get_origin(part) is Literal:
        return get_args(part)[0]
    return PLAIN.get(part)


def stand_in(hint: object) -> object:
    """What passes for a value of this kind, and cannot be used."""
    if get_origin(hint) in (typing.Union, types.UnionType):
        return stand_in(get_args(hint)[0])
    if hasattr(hint, "array_type"):
        return np.zeros((2,) * len(hint.dims))
    if isinstance(hint, type) and hint.__module__.startswith("dataloupe"):
        return MagicMock(spec=hint, **dict.fromkeys(getattr(hint, "__annotations__", {})))
    kind = get_origin(hint) or hint
    if kind is tuple and Ellipsis not in get_args(hint):
        return tuple(stand_in(part) for part in get_args(hint))
    made = {
        tuple: (),
        collections.abc.Callable: len,
        collections.abc.Mapping: {},
        collections.abc.Sequence: [],
    }
    return made.get(kind) if kind in made else {**PLAIN, np.ndarray: np.zeros(2), Path: "x"}.get(hint)


def arguments(thing: object, settings: dict[str, object]) -> dict[str, object]:
    """What has no default: settings of the right kind, and nothing else that could be used."""
    every = inspect.signature(thing).parameters.values()
    needed = [p for p in every if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    hints = get_type_hints(inspect.unwrap(thing))
    return {
        p.name: sample(settings[p.name]) if p.name in settings else stand_in(hints.get(p.name))
        for p in needed
    }


def test_the_doors_are_there():
    assert len(DOORS) > 80
    assert {"lds", "what_if", "TRAK", "Subsets", "SCRUB", "Patch", "jargon", "report"} <= set(DOORS)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", sorted(DOORS))
def test_a_setting_of_another_kind_is_refused_before_any_work(name):
    thing, settings = DOORS[name]
    for setting, hint in settings.items():
        optional = type(None) in get_args(hint)
        for kind in kinds(hint):
            for wrong in WRONG[kind]:
                if (wrong is None and optional) or any(_fits(wrong, other) for other in kinds(hint)):
                    continue
                with pytest.raises(DataloupeError) as raised:
                    thing(**{**arguments(thing, settings), setting: wrong})
                assert setting in raised.value.asked, f"{name}({setting}={wrong!r}): {raised.value}"


def _fits(value: object, kind: object) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value
    return False


@pytest.mark.usefixtures("unchecked")
def test_a_negative_count_is_refused():
    data = dl.data.digits()[0]
    for bad in (
        lambda: dl.Subsets(n=10, count=-3),
        lambda: dl.TRAK(models=-1),
        lambda: dl.Influence(models=0),
        lambda: dl.Datamodel(dl.Subsets(10, 5), repeats=0),
        lambda: dl.AA(deals=-1),
        lambda: dl.outputs.Logits(-2),
        lambda: dl.unlearning.SCRUB(epochs=-1),
        lambda: dl.learners.Shift(-1),
        lambda: dl.learners.Flip(1.5),
        lambda: dl.group_subsets(np.arange(6), -1),
        lambda: dl.unlearning.pick_random(10, -1),
        lambda: dl.generate(None, [[1]], most=-1),
        lambda: dl.data.digits(seed=-1) and dl.Subsets(n=len(data), count=0),
    ):
        with pytest.raises(BadInput):
            bad()


@pytest.mark.usefixtures("unchecked")
def test_numbers_of_numpy_are_numbers():
    assert dl.Subsets(n=np.int64(10), count=np.int32(3), fraction=np.float32(0.5)).masks().shape == (3, 10)


def test_the_kind_is_read_from_the_annotation():
    @checked("dl-904")
    def ask(
        count: int, share: float | None = 0.5, kind: Literal["sum", "group"] = "sum", *, quiet: bool = True
    ) -> int:
        del share, kind, quiet
        return count

    assert ask(3) == ask(3, None, "group", quiet=False) == 3
    for bad in ({"count": 1.0}, {"share": "x"}, {"kind": "gruop"}, {"quiet": 1}):
        with pytest.raises(BadInput, match=f"dl-904.*{next(iter(bad))}="):
            ask(**{"count": 3, **bad})
    with pytest.raises(TypeError):
        ask(3, nothing=1)

    @dataclasses.dataclass
    class Settings:
        count: int
        thing: object = None

    check_settings(Settings(3, thing=1j))
    with pytest.raises(BadInput, match=r"dl-511.*Settings with count=nan.*NaN"):
        check_settings(Settings(float("nan")))
