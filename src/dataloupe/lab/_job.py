"""What a lab is asked to train: a recipe, and the folder and units that it names."""

from typing import NamedTuple

from dataloupe._errors import BadInput
from dataloupe._identity import NUMERICS, canonical, identity
from dataloupe._typing import Facts
from dataloupe.core import Question, Removal, Subsets, must_train, outcome_facts


class Job(NamedTuple):
    """Trainings of one recipe, and the folder that what made them names."""

    folder: str
    made_by: Facts
    question: Question
    subsets: Subsets
    repeats: int

    @property
    def source(self) -> tuple[Removal, Facts]:
        """What outcomes say of where they come from."""
        facts = outcome_facts(self.question, self.subsets, self.repeats)
        return must_train(self.question.learner).removal, facts


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
    return Job(f"{kind}-{identity(made_by)}", made_by, question, subsets, repeats)
