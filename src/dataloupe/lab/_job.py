"""What a lab is asked to train: a recipe, and the folder and units that it names."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from dataloupe._errors import BadInput
from dataloupe._identity import NUMERICS, canonical, identity
from dataloupe._typing import Facts
from dataloupe.core import Question, Removal, Subsets, must_train, outcome_facts, unchanged

P = ParamSpec("P")
T = TypeVar("T")


class Job(NamedTuple):
    """Trainings of one recipe, and the folder that what made them names."""

    folder: str
    made_by: Facts
    question: Question
    subsets: Subsets
    repeats: int
    facts: Facts
    """What outcomes say of where they come from, as it was when they were asked for."""

    @property
    def source(self) -> tuple[Removal, Facts]:
        """What outcomes say of where they come from."""
        return must_train(self.question.learner).removal, self.facts


@contextmanager
def unchanged_since(job: Job) -> Iterator[Callable[[], None]]:
    """:func:`core.unchanged` for a job's question, if that is what it was when the job was made (dl-115)."""
    if job.question.identity != job.facts["question"]:
        raise BadInput(
            "dl-115",
            asked=f"trainings of {type(job.question.learner).__name__}",
            found="that its data or code changed after the question was asked, before these trainings",
            do="ask the lab again: nothing is trained under the name of what was there before",
        )
    with unchanged(job.question) as check:
        yield check


def guarded(method: Callable[Concatenate[Any, Question, P], T]) -> Callable[Concatenate[Any, Question, P], T]:
    """A method of a lab within :func:`core.unchanged` of its question."""

    @functools.wraps(method)
    def within(lab: Any, question: Question, *args: P.args, **words: P.kwargs) -> T:
        with unchanged(question):
            return method(lab, question, *args, **words)

    return within


def unit_name(start: int, stop: int) -> str:
    """The name of the unit of these models."""
    return f"{start:07d}-{stop:07d}"


def mask_digest(job: Job, start: int, stop: int) -> str:
    """The digest of a unit's masks; a recipe goes on past the count asked for now."""
    last = -(-stop // job.repeats)
    subsets = job.subsets if job.subsets.bits is not None else job.subsets.first(max(last, job.subsets.count))
    return subsets.digest(slice(start // job.repeats, last))


def job_of(kind: str, question: Question, subsets: Subsets, repeats: int) -> Job:
    """The trainings of a question on subsets, found by what makes them (dl-227; dl-302 for an empty subset)."""
    if subsets.n != question.n:
        raise BadInput(
            "dl-227",
            asked=f"trainings on subsets of {subsets.n} examples",
            found=f"training data of {question.n}",
            do=f"make the subsets with n={question.n}",
        )
    if repeats < 1:
        raise BadInput(
            "dl-227",
            asked=f"{repeats} seeds per subset",
            found="a number below 1",
            do="ask for at least one",
        )
    subsets.refuse_empty()
    by = question.training_identity if kind == "models" else canonical(question)
    made_by = {"question": by, "subsets": subsets.recipe, "repeats": repeats, "numerics": NUMERICS}
    facts = outcome_facts(question, subsets, repeats)
    return Job(f"{kind}-{identity(made_by)}", made_by, question, subsets, repeats, facts)
