"""Which trainings scores rest on, so that nothing is judged on what it was fitted to."""

import dataclasses
import hashlib
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int

from dataloupe._errors import BadInput
from dataloupe._identity import canonical
from dataloupe._typing import Facts
from dataloupe.core._attribution import Attribution
from dataloupe.core._outcomes import Outcomes
from dataloupe.core._question import Question
from dataloupe.core._subsets import Subsets

Role: TypeAlias = Literal["fit", "calibration", "choice"]
"""What scores took from trainings: all of themselves, their scale, or a hyperparameter."""

IN_WORDS = {"fit": "fitted to", "calibration": "calibrated on", "choice": "tuned on"}

DRAWN, REBUILT = ("fixed", "bernoulli", "groups"), ("fixed", "bernoulli")
"""Kinds of subsets that are drawn from a seed (two seeds give two draws), and those that a stored recipe gives again."""

MOST = 0.5
"""From this share on, judged subsets that scores were fitted to are refused and not only noted."""


class Overlap(NamedTuple):
    """How many judged subsets were seen before: the very trainings, or the same subsets under other seeds."""

    same: int
    other_seeds: int


def fitted_to(role: Role, outcomes: Outcomes) -> Facts:
    """The record, for ``Info.fitted``, of the outcomes that scores were fitted to."""
    known = outcomes.facts.get("trainings")
    if known is None:  # a user's own arrays: which seeds trained them is not known
        return trainings_record(role, outcomes.subsets, outcomes.repeats, seeded=False)
    record = {"role": role, "seeded": True, **known}
    return record if _rebuilt(record) else record | {"masks": mask_digests(outcomes.subsets)}


def trainings_record(role: Role, subsets: Subsets, repeats: int = 1, *, seeded: bool = True) -> Facts:
    """The record of trainings on subsets; ``seeded``: they were trained with the recipe's seeds, not elsewhere."""
    record: Facts = {"role": role, "seeded": seeded, **subsets_record(subsets, repeats)}
    return record if _rebuilt(record) else record | {"masks": mask_digests(subsets)}


def subsets_record(subsets: Subsets, repeats: int) -> Facts:
    """The recipe of trainings, as outcomes carry it."""
    return {"recipe": canonical(subsets.recipe), "count": subsets.count, "repeats": repeats}


def outcome_facts(question: Question, subsets: Subsets, repeats: int) -> Facts:
    """What outcomes say of where they come from."""
    return {
        "question": question.identity,
        "provenance": question.provenance,
        "trainings": subsets_record(subsets, repeats),
    }


def mask_digests(subsets: Subsets) -> list[str]:
    """A short hash of every subset."""
    packed = np.packbits(subsets.masks(), axis=1)
    return [hashlib.sha256(row.tobytes()).hexdigest()[:12] for row in packed]


def overlap(record: Facts, outcomes: Outcomes) -> Overlap:
    """How many of the outcomes' subsets are among the trainings of the record."""
    judged = outcomes.facts.get("trainings")
    if judged is not None and record["seeded"]:
        ours, theirs = (one["recipe"] for one in (judged, record))
        common = len(np.intersect1d(_rows(judged), _rows(record)))
        if ours == theirs:
            return Overlap(common, 0)
        if _drawn(ours) and _drawn(theirs):
            return Overlap(0, common if _without_seeds(ours) == _without_seeds(theirs) else 0)
    places: dict[str, list[int]] = {}
    for place, digest in zip(_rows(record), _digests(record), strict=True):
        places.setdefault(digest, []).append(int(place))
    pairs = [
        (k, places[digest]) for k, digest in enumerate(mask_digests(outcomes.subsets)) if digest in places
    ]
    if judged is None or not record["seeded"]:
        # Drawn subsets of one kind do not coincide by chance; listed ones (leave-one-out, say) do by design.
        return Overlap(len(pairs), 0) if _rebuilt(record) else Overlap(0, len(pairs))
    rows = _rows(judged).tolist()
    same = sum(bool(_seeds(judged, [rows[k]]) & _seeds(record, numbers)) for k, numbers in pairs)
    return Overlap(same, len(pairs) - same)


def check_unseen(
    purpose: str, attribution: Attribution, outcomes: Outcomes, *refused: Role
) -> tuple[str, ...]:
    """Refuse to judge scores on trainings that they were fitted to; notes on those seen in part.

    ``refused``: which roles are refused; of the others a note is given.

    Raises ``BadInput`` dl-514.
    """
    notes, count = [], outcomes.subsets.count
    for record in attribution.info.fitted:
        seen, words = overlap(record, outcomes), IN_WORDS[record["role"]]
        if record["role"] in refused and seen.same >= MOST * count:
            raise BadInput(
                "dl-514",
                asked=purpose,
                found=f"{seen.same} of {count} subsets that {attribution.info.method} was {words}: "
                "how well it predicts them says nothing of others",
                do="measure outcomes of other subsets: lab.outcomes(question, Subsets(..., seed=1), repeats=2)",
            )
        if seen.same:
            notes.append(
                f"{attribution.info.method} was {words} {seen.same} of the {count} subsets judged here"
            )
        elif seen.other_seeds:
            notes.append(
                f"{attribution.info.method} was {words} {seen.other_seeds} of the {count} subsets judged here, "
                "trained with other seeds"
            )
    return tuple(notes)


def _drawn(recipe: Facts) -> bool:
    return recipe["kind"] in DRAWN


def _rebuilt(record: Facts) -> bool:
    return record["recipe"]["kind"] in REBUILT


def _rows(record: Facts) -> Int[np.ndarray, " k"]:
    """The numbers of the subsets within their recipe."""
    rows = record.get("rows")
    return np.arange(record["count"]) if rows is None else np.asarray(rows, dtype=np.int64)


def _without_seeds(recipe: Facts) -> Facts:
    return {name: value for name, value in recipe.items() if name not in ("paired", "seeds")}


def _digests(record: Facts) -> list[str]:
    """A hash of every subset of the record: kept, or made again from the recipe."""
    if "masks" in record:
        return list(record["masks"])
    rows = _rows(record)
    recipe = {name: record["recipe"][name] for name in ("n", "fraction", "kind", "seed")}
    return mask_digests(Subsets(**recipe, count=int(rows.max()) + 1).part(rows))


def _seeds(record: Facts, rows: list[int]) -> set[int]:
    """The training seeds of some subsets of a recipe: they do not depend on what the subsets hold."""
    recipe = record["recipe"]
    shared = recipe.get("seeds")
    if isinstance(shared, str):  # one seed number for every subset, of which only the hash is recorded
        return set()
    every = Subsets.full(1, max(rows) + 1, seed=recipe["seed"])
    subsets = dataclasses.replace(every, paired=recipe["paired"], seeds=shared)
    return {subsets.train_seed(row, repeat) for row in rows for repeat in range(record["repeats"])}
