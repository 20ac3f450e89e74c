"""Supports, leaks, wrong labels and influences of groups that a lab remembers for ``show`` and ``report``."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from dataloupe._typing import Array, Facts
from dataloupe.apps import Counterfactual, Enrichment, GroupInfluences, Leaks, Mislabels, Support, SupportCase
from dataloupe.cli._kept_diff import KIND, TEST, counterfactuals, differences
from dataloupe.core import Question, restoring
from dataloupe.lab import Lab

Use = Support | Leaks | Mislabels | GroupInfluences
KINDS: dict[str, type[Use]] = {
    "support": Support,
    "leaks": Leaks,
    "mislabels": Mislabels,
    "groups": GroupInfluences,
}


def keep_use(lab: Lab, question: Question, found: Use) -> None:
    """Remember what one of these verbs found."""
    (kind,) = (name for name, known in KINDS.items() if isinstance(found, known))
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    facts = {name: value for name, value in fields.items() if name not in arrays}
    if isinstance(found, Support):
        facts["cases"] = [case.to_json() for case in found.cases]
    made_by = {"question": question.identity, "facts": facts, "arrays": arrays}
    lab.put(kind, made_by, arrays, {"question": question.identity, **facts})


def uses(lab: Lab, question: str) -> list[Use | Enrichment | Counterfactual]:
    """What was found about this question (by its hash)."""
    own = [
        _use(kind, facts, load)
        for name, kind in KINDS.items()
        for facts, load in lab.entries(name)
        if facts.get("question") == question
    ]
    told = [kept.found for kept in differences(lab, question)]
    return [*own, *told, *counterfactuals(lab, question)]


def kept(lab: Lab) -> dict[str, int]:
    """How many answers of each verb a lab holds."""
    counts = {name: len(lab.entries(name)) for name in ("what-if", *KINDS, KIND, TEST)}
    return {name: count for name, count in counts.items() if count}


@restoring("answer")
def _use(kind: type[Use], facts: Facts, load: Callable[[], dict[str, Array]]) -> Use:
    arrays = load()
    values = {name: _tupled(value) for name, value in {**facts, **arrays}.items() if name != "question"}
    if kind is Support:
        values["cases"] = tuple(_case(case) for case in facts["cases"])
    return kind(**values)


def _case(facts: Facts) -> SupportCase:
    values = {field.name: _tupled(facts[field.name]) for field in dataclasses.fields(SupportCase)}
    values["rows"] = np.asarray(facts["rows"], dtype=np.int64)
    values["values"] = np.asarray(facts["values"], dtype=np.float64)
    return SupportCase(**values)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
