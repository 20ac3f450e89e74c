"""What a lab remembers for verbs that only read: attributions, judged outcomes, answers, and how examples look."""

import dataclasses
import re

import numpy as np

from dataloupe._errors import BadInput
from dataloupe._typing import Facts
from dataloupe.apps import WhatIf
from dataloupe.cli._looks import keep_looks as keep_looks
from dataloupe.cli._looks import looks_of as looks_of
from dataloupe.core import DenseAttribution, Outcomes, Question, Subsets, restoring
from dataloupe.lab import Lab


def is_baseline(attribution: DenseAttribution) -> bool:
    """Whether it is here as a control, as its method says."""
    return attribution.info.role == "control"


def attributions(lab: Lab, question: Question | None = None, only: str = "") -> list[DenseAttribution]:
    """The attributions in a lab (of one question; of methods whose name begins with `only`).

    Raises ``BadInput`` dl-984 if there is none.
    """
    found = []
    seen = set()
    for facts, load in lab.entries("attribution"):
        asked, method = _question_and_method(facts)
        seen.add(method)
        if question is not None and asked != question.identity:
            continue
        looks = {side: looks_of(lab, asked, side) for side in ("train", "targets")}
        with restoring(f"attribution by {method}"):
            found.append(DenseAttribution.from_arrays(load(), facts, **looks))
    found = _chosen(found, only)
    if not found:
        here = "none" if lab.store.exists else "none: no lab there"
        raise BadInput(
            "dl-984",
            asked=f"the attributions in {lab.where}" + (f" by {only}" if only else ""),
            found=f"{', '.join(sorted(seen))}, of other questions or methods" if seen else here,
            do="make one: dataloupe attribute FILE.py:NAME --with trak --lab FOLDER",
        )
    return sorted(found, key=lambda a: (is_baseline(a), a.info.method))


def _chosen(found: list[DenseAttribution], only: str) -> list[DenseAttribution]:
    """Those whose name is this, with or without their settings; or whose name begins so."""
    names = [
        (_slug(one.info.method), _slug(named.info.method))
        for one, named in zip(found, told_apart(found), strict=True)
    ]
    word = _slug(only)
    if only and not word:  # signs that no name has
        return []
    exact = [one for one, known in zip(found, names, strict=True) if word in known]
    return exact or [
        one for one, known in zip(found, names, strict=True) if any(name.startswith(word) for name in known)
    ]


@restoring("attribution")
def _question_and_method(facts: Facts) -> tuple[str, str]:
    return str(facts["info"]["question"]), str(facts["info"]["method"])


def told_apart(found: list[DenseAttribution]) -> list[DenseAttribution]:
    """The same under names of their own: of methods that are there more than once, with the settings that differ."""
    named = []
    for attribution in found:
        info = attribution.info
        like = [other.info.settings for other in found if other.info.method == info.method]
        own = {
            name: value
            for name, value in info.settings.items()
            if value is not None and any(other.get(name) != value for other in like)
        }
        method = ", ".join([info.method, *(f"{name} {value}" for name, value in own.items())])
        named.append(dataclasses.replace(attribution, info=dataclasses.replace(info, method=method)))
    return named


def one(found: list[DenseAttribution]) -> DenseAttribution:
    """The only attribution that is no baseline (dl-985 if there are several, or baselines alone)."""
    methods = [attribution for attribution in found if not is_baseline(attribution)]
    if len(methods) == 1:
        return methods[0]
    if not methods and len(found) == 1:
        return found[0]
    names = [_slug(attribution.info.method) for attribution in told_apart(methods or found)]
    several = len(set(names)) == len(names)
    raise BadInput(
        "dl-985",
        asked="the attribution to use",
        found=f"several: {', '.join(attribution.info.method for attribution in found)}",
        do=f"say which: --only {names[0]}" + (f" (or {', '.join(names[1:])})" if names[1:] else "")
        if several
        else "they differ in their questions or data alone: use a verb that takes FILE.py:NAME, or a lab for each",
    )


def _slug(method: str) -> str:
    """A method's name as one word that a shell takes as it is.

    >>> _slug("Datamodel (ridge)"), _slug("TRAK, dim 256")
    ('datamodel-ridge', 'trak-dim-256')
    """
    return re.sub(r"[^a-z0-9.+_]+", "-", method.lower()).strip("-")


def keep_outcomes(lab: Lab, question: Question, outcomes: Outcomes) -> None:
    """Remember outcomes that attributions were judged on."""
    subsets = outcomes.subsets
    arrays = {
        "values": outcomes.values,
        "status": outcomes.status,
        "bits": np.packbits(subsets.masks(), axis=1),
    }
    facts = {
        **outcomes.facts,
        "n": subsets.n,
        "removal": outcomes.removal,
        "question": question.identity,
    }
    made_by = {"question": question.identity, "subsets": subsets.recipe, "shape": list(outcomes.values.shape)}
    lab.put("judged", made_by, arrays, facts)


def judged_outcomes(lab: Lab, question: str) -> list[Outcomes]:
    """The outcomes that attributions of this question (by its hash) were judged on."""
    found = []
    for facts, load in lab.entries("judged"):
        if facts.get("question") == question:
            with restoring("outcomes that attributions were judged on"):
                arrays = load()
                masks = np.unpackbits(arrays["bits"], axis=1, count=facts["n"]).astype(bool)
                made: Facts = {
                    name: facts[name] for name in ("question", "provenance", "trainings") if name in facts
                }
                subsets = Subsets.listed(masks)
                found.append(Outcomes(subsets, arrays["values"], arrays["status"], facts["removal"], made))
    return found


def keep_what_if(lab: Lab, question: Question, answer: WhatIf) -> None:
    """Remember the answer to a what-if."""
    facts = {**answer.to_json(), "question": question.identity}
    lab.put("what-if", facts, {}, facts)


def what_ifs(lab: Lab, question: str) -> list[WhatIf]:
    """The what-ifs of this question (by its hash)."""
    return [_what_if(facts) for facts, _ in lab.entries("what-if") if facts.get("question") == question]


@restoring("what-if")
def _what_if(facts: Facts) -> WhatIf:
    values = {name: value for name, value in facts.items() if name != "question"}
    for name in ("predicted_interval", "verified_interval", "notes"):
        values[name] = None if values[name] is None else tuple(values[name])
    values["removed"] = np.asarray(values["removed"], dtype=np.int64)
    if values["differences"] is not None:
        values["differences"] = np.asarray(values["differences"])
    return WhatIf(**values)
