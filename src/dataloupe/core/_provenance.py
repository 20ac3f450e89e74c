"""What belongs together: the data, targets, output and learner that made a thing, compared part by part.

Questions, outcomes, attributions and findings carry the same small record of hashes. Shapes agree by chance (two
splits of one data set, two orders of targets, two learning rates); hashes do not, and a record tells *which* part differs.
"""

from collections.abc import Sequence
from typing import Any, Literal, NoReturn, Protocol, TypeAlias, runtime_checkable

from dataloupe._errors import BadInput
from dataloupe._identity import identity
from dataloupe._typing import Facts
from dataloupe.core._attribution import Attribution
from dataloupe.core._examples import Examples
from dataloupe.core._outcomes import Outcomes
from dataloupe.core._question import Question

DATA = ("train", "targets", "output")
"""Parts that must agree wherever two things are put together."""

IN_WORDS = {"train": "training data", "targets": "targets", "output": "output", "learner": "learner"}

OtherLearner: TypeAlias = Literal["refuse", "note", "ignore"]
"""What another learner means: refused where units are claimed, a note where only ranks count."""


@runtime_checkable
class Recorded(Protocol):
    """Something that carries a record of what made it: questions, outcomes, findings."""

    @property
    def provenance(self) -> Facts: ...


def provenance_of(thing: Recorded | Attribution) -> Facts:
    """The record of what made a thing; empty where nothing is recorded.

    An attribution that was made by hand is known by the examples attached to it, if there are any.
    """
    if isinstance(thing, Attribution):
        return _of_attribution(thing)
    return thing.provenance


def check_same(
    purpose: str,
    first: Recorded | Attribution,
    second: Recorded | Attribution,
    *,
    parts: Sequence[str] = DATA,
    learner: OtherLearner = "note",
) -> tuple[str, ...]:
    """Refuse two things of other training data, targets or output, and tell what could not be compared.

    Args:
        purpose: what the two are put together for, in words.
        first: an attribution, outcomes, a question or a finding.
        second: likewise.
        parts: which parts must agree.
        learner: whether another learner is refused, noted or of no interest. Finished models (``Checkpoints``) are
            no other learner: nothing tells which learner made them, which is a note at most.

    Returns:
        Notes for a reader.

    Raises:
        BadInput: dl-512 (other training data, targets or output), dl-513 (another learner).
    """
    one, other = provenance_of(first), provenance_of(second)
    names = name_of(first), name_of(second)
    for part in parts:
        if _differ(part, one, other):
            _refuse_part(purpose, part, names, (one, other))
    wanted = parts if learner == "ignore" else (*parts, "learner")
    missing = [part for part in wanted if not (one.get(part) and other.get(part))]
    notes = []
    if missing:
        notes += _not_compared(purpose, missing, names, (one, other), learner)
    if learner != "ignore":
        notes += _learner_notes(purpose, names, (one, other), learner)
    return tuple(notes)


def name_of(thing: Any) -> str:
    """The word for a thing in a message."""
    if isinstance(thing, Attribution):
        return thing.info.method
    if isinstance(thing, Outcomes | Question):
        return f"the {type(thing).__name__.lower()}"
    return f"a {type(thing).__name__}"


def _of_attribution(attribution: Attribution) -> Facts:
    info = attribution.info
    record = dict(info.provenance)
    if not record and not info.question:
        for part in ("train", "targets"):
            examples = getattr(attribution, part, None)
            if isinstance(examples, Examples):
                record[part] = identity(examples)
    if info.question:
        record.setdefault("question", info.question)
    if info.output:
        record.setdefault("output_name", info.output)
    return of_rows(record, attribution.m)


def of_rows(record: Facts, m: int) -> Facts:
    """The record of a thing with m target rows: whoever took some of the rows away has other targets now."""
    if record.get("rows", m) == m:
        return record
    return {name: value for name, value in record.items() if name not in ("targets", "rows", "question")}


def _differ(part: str, one: Facts, other: Facts) -> bool:
    """Whether a part is known to differ: by its hash, or where one side has none, by its name."""
    name = part if one.get(part) and other.get(part) else f"{part}_name"
    return bool(one.get(name) and other.get(name) and one[name] != other[name])


def _refuse_part(purpose: str, part: str, names: tuple[str, str], records: tuple[Facts, Facts]) -> NoReturn:
    words = IN_WORDS[part]
    told = [_in_words(part, record) for record in records]
    raise BadInput(
        "dl-512",
        asked=purpose,
        found=f"other {words}: {names[0]} is of {told[0]}, {names[1]} of {told[1]}",
        do=f"put together what has the same {words}: attribute the question that is asked, "
        "or measure the question that was attributed",
    )


def _in_words(part: str, record: Facts) -> str:
    """A part by its name and its hash, where it has them."""
    name, digest = record.get(f"{part}_name"), record.get(part, "")[:8]
    return f"{name} ({digest})" if name and digest else name or digest


def _not_compared(
    purpose: str,
    missing: list[str],
    names: tuple[str, str],
    records: tuple[Facts, Facts],
    learner: OtherLearner,
) -> list[str]:
    """What to say of parts that one side has no record of: the hash of the whole question may still tell."""
    whole = [record.get("question") for record in records]
    if all(whole):
        if whole[0] == whole[1]:
            return []
        if learner == "refuse":
            raise BadInput(
                "dl-512",
                asked=purpose,
                found=f"another question: {names[0]} is of {whole[0]}, {names[1]} of {whole[1]}",
                do="attribute or measure the question again: an earlier version kept no record of its parts",
            )
        return [f"{names[0]} and {names[1]} are of other questions: which part differs was not recorded"]
    silent = [name for name, record in zip(names, records, strict=True) if not _has(record, missing)]
    *most, last = [IN_WORDS[part] for part in missing]
    words = f"{', '.join(most)} and {last} are" if most else f"the {last} is"
    return [f"nothing records what made {' and '.join(silent)}: that {words} the same was not checked"]


def _has(record: Facts, parts: list[str]) -> bool:
    return all(record.get(part) for part in parts)


def _learner_notes(
    purpose: str, names: tuple[str, str], records: tuple[Facts, Facts], learner: OtherLearner
) -> list[str]:
    one, other = (record.get("learner") for record in records)
    if not one or not other or one == other:
        return []
    finished = [name for name, record in zip(names, records, strict=True) if not record.get("trains", True)]
    if finished:
        return [f"{finished[0]} is of finished models: which learner made them is not known"]
    told = [_in_words("learner", record) for record in records]
    if learner == "refuse":
        raise BadInput(
            "dl-513",
            asked=purpose,
            found=f"another learner: {names[0]} is of {told[0]}, {names[1]} of {told[1]}",
            do="attribute with the learner that is asked about: a size in one learner's units says nothing of another's",
        )
    return [f"another learner: {names[0]} is of {told[0]}, {names[1]} of {told[1]}"]


def with_learner_of(record: Facts, measured: Facts) -> Facts:
    """The record of scores that outcomes gave their units: the learner is the one that was measured."""
    if not measured.get("learner") or measured["learner"] == record.get("learner"):
        return record
    learner = ("learner", "learner_name", "trains", "question")
    return measured | record | {name: measured[name] for name in learner if name in measured}
