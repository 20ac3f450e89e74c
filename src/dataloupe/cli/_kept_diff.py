"""Differences of two algorithms that a lab remembers, for ``diff show``, ``diff test`` and ``report``."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int

from dataloupe._typing import Array, Facts
from dataloupe.apps import Chance, Difference, Directions, Enriched, Enrichment
from dataloupe.core import Question
from dataloupe.lab import Lab

KIND = "difference"
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
        "enrichment": found.to_json(),
    }
    questions = [question.identity for question in asked]
    made_by = {"questions": questions, "facts": facts, "arrays": arrays}
    lab.put(KIND, made_by, arrays, {"questions": questions, **facts})


def differences(lab: Lab, *questions: str) -> list[Kept]:
    """The differences that a lab remembers of these questions (by their hashes), whichever side they are on."""
    return [
        _kept(facts, load()) for facts, load in lab.entries(KIND) if set(questions) <= set(facts["questions"])
    ]


def _arrays(holder: Any) -> dict[str, Array]:
    fields = {field.name: getattr(holder, field.name) for field in dataclasses.fields(holder)}
    return {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}


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
