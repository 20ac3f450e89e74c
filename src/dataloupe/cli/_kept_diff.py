"""Differences of two algorithms that a lab remembers, for ``diff show``, ``diff test`` and ``report``."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int

from dataloupe._typing import Array, Facts
from dataloupe.apps import (
    Chance,
    Counterfactual,
    Difference,
    Directions,
    DoseResponse,
    Enriched,
    Enrichment,
    TransformEffect,
)
from dataloupe.core import Question, restoring
from dataloupe.lab import Lab

KIND, TEST = "difference", "counterfactual"
SIDES = ("first", "second")
Pair = tuple[Question, Question]


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
    """A difference with what its ends have in common, the hashes of its questions, and the example of every target row."""

    questions: tuple[str, str]
    found: Enrichment
    index: Int[np.ndarray, "m 2"]


def keep_difference(lab: Lab, asked: Pair, found: Enrichment) -> None:
    """Remember what tells the algorithms of two questions apart, and what its ends have in common."""
    whole = found.difference
    arrays = {**_arrays(whole), "at.index": asked[0].index}
    for name, side in zip(SIDES, whole.sides, strict=True):
        arrays |= {f"{name}.{field}": array for field, array in _arrays(side).items()}
    facts: Facts = {
        "names": list(whole.names),
        "by": whole.by,
        "chance": None if whole.chance is None else dataclasses.asdict(whole.chance),
        "notes": list(whole.notes),
        "provenance": whole.provenance,
        "enrichment": found.to_json(),
    }
    questions = [question.identity for question in asked]
    made_by = {"questions": questions, "facts": facts, "arrays": arrays}
    lab.put(KIND, made_by, arrays, {"questions": questions, **facts})


def differences(lab: Lab, *questions: str) -> list[Kept]:
    """The differences that a lab remembers of these questions (by their hashes), whichever side they are on."""
    return [
        _kept(facts, load())
        for facts, load in lab.entries(KIND)
        if set(questions) <= set(facts.get("questions", ()))
    ]


def keep_counterfactual(lab: Lab, asked: Pair, found: Counterfactual) -> None:
    """Remember what a change of inputs did to the models of two algorithms."""
    facts = {name: value for name, value in found.to_json().items() if name not in ("examples", "by_example")}
    arrays = {f"values.{name}": values for name, values in found.values.items()}
    arrays["examples"] = found.examples
    questions = [question.identity for question in asked]
    made_by = {"questions": questions, "facts": facts, "examples": found.examples}
    lab.put(TEST, made_by, arrays, {"questions": questions, **facts})


def counterfactuals(lab: Lab, *questions: str) -> list[Counterfactual]:
    """The counterfactual tests that a lab remembers of these questions (by their hashes)."""
    return [
        _counterfactual(facts, load())
        for facts, load in lab.entries(TEST)
        if set(questions) <= set(facts.get("questions", ()))
    ]


@restoring("counterfactual test")
def _counterfactual(facts: Facts, arrays: dict[str, Array]) -> Counterfactual:
    values = {name: _tupled(value) for name, value in facts.items() if name != "questions"}
    for name, kind in (
        ("effects", TransformEffect),
        ("interactions", TransformEffect),
        ("doses", DoseResponse),
    ):
        values[name] = tuple(kind(**{key: _tupled(v) for key, v in one.items()}) for one in facts[name])
    values["values"] = _under("values", arrays)
    return Counterfactual(**values, examples=arrays["examples"])


def _arrays(holder: Any) -> dict[str, Array]:
    fields = {field.name: getattr(holder, field.name) for field in dataclasses.fields(holder)}
    return {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}


@restoring("difference")
def _kept(facts: Facts, arrays: dict[str, Array]) -> Kept:
    one, two = facts["names"]
    chance = facts["chance"]
    known = None if chance is None else Chance(**{k: _tupled(v) for k, v in chance.items()})
    found = Difference(
        (one, two),
        facts["by"],
        (Directions(one, two, **_under("first", arrays)), Directions(two, one, **_under("second", arrays))),
        chance=known,
        notes=tuple(facts["notes"]),
        provenance=facts.get("provenance", {}),
        **{name: array for name, array in arrays.items() if "." not in name},
    )
    told = facts["enrichment"]
    enriched = Enrichment(
        found,
        tuple((side, component) for side, component in told["directions"]),
        tuple(_line(line) for line in told["lines"]),
        told["level"],
        tuple(told["notes"]),
    )
    return Kept((facts["questions"][0], facts["questions"][1]), enriched, arrays["at.index"])


def _under(prefix: str, arrays: dict[str, Array]) -> dict[str, Array]:
    """The arrays of one side."""
    parts = [(name.partition("."), array) for name, array in arrays.items()]
    return {field: array for (above, _, field), array in parts if above == prefix}


def _line(facts: Facts) -> Enriched:
    """A line; of an infinite odds ratio JSON says null."""
    values = dict(facts)
    if values["interval"] is not None:
        low, high = values["interval"]
        values["interval"] = (low, np.inf if high is None else high)
        values["odds"] = np.inf if values["odds"] is None else values["odds"]
    return Enriched(**values)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
