"""``diff``: how two learning algorithms use the same data differently, held against chance."""

import dataclasses
from typing import Annotated, Any

import numpy as np
import tyro

from dataloupe._errors import BadInput
from dataloupe.apps import AA, Enrichment, compare, enrichment
from dataloupe.cli._base import MaybeNumber, Number, Out, Place, Result, Verb
from dataloupe.cli._diff_change import AskingTwo, DiffTest, say_test
from dataloupe.cli._diff_tables import DETAILED, say
from dataloupe.cli._folder import keep_looks, looks_of
from dataloupe.cli._kept_diff import counterfactuals, differences, keep_difference
from dataloupe.cli._methods import Settings
from dataloupe.core import DenseAttribution, Question
from dataloupe.lab import Lab
from dataloupe.solve import By


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(AskingTwo):
    """Attribute two questions that differ in their learner, compare, and say what their differences have in common.

    dataloupe diff run plain.py:question shifted.py:question --lab runs/x --with trak --models 10

    Ends with 0 whether or not a difference is found.
    """

    settings: Annotated[Settings, tyro.conf.arg(name="")]
    components: Number = 10
    """how many directions of each side"""
    by: Annotated[By, tyro.conf.arg(metavar="NAME")] = "residual"
    """how directions are found: residual, contrastive, generalised or sparse"""
    level: Annotated[float, tyro.conf.arg(metavar="X")] = 0.99
    """which directions are above chance"""
    deals: Number = 200
    """how many times the models of both are dealt anew to say what chance is (0: do not ask)"""
    k: MaybeNumber = None
    """how many targets and rows an end is (default: 50, or a tenth if that is fewer)"""
    show: Number = DETAILED
    """of how many directions of each side the ends are shown"""
    other_seed: MaybeNumber = None
    """the seed of the other question's models: another one compares an algorithm with itself"""

    def run(self, out: Out) -> Result:
        """Attribute both, compare, enrich, keep."""
        asked, names, lab = self.both()
        _alike(*asked)
        null = AA(deals=self.deals, level=self.level) if self.deals else None
        both = self.settings, self.settings
        if self.other_seed is not None:
            both = self.settings, dataclasses.replace(self.settings, seed=self.other_seed)
        attributors = [one.attributor(question) for one, question in zip(both, asked, strict=True)]
        if asked[0].identity == asked[1].identity and both[0] == both[1]:
            raise BadInput(
                "dl-991",
                asked="a comparison of two algorithms",
                found="the same question and the same models twice",
                do="name another question, or give --other-seed 1 to hold an algorithm against itself",
            )
        found: list[DenseAttribution] = []
        for question, name, attributor in zip(asked, names, attributors, strict=True):
            with out.step(
                f"{self.settings.method} of {name}: {question.n:,} examples on {question.m:,} target rows"
            ):
                found.append(attributor.attribute(question, lab))
                keep_looks(lab, question)
        with out.step(f"the directions of both, and {self.deals} deals of their models"):
            a, b = found
            difference = compare(a, b, self.components, by=self.by, null=null, names=names)
        question = asked[0]
        enriched = enrichment(difference, question.train, question.targets, index=question.index, k=self.k)
        keep_difference(lab, asked, enriched)
        out.say("")
        say(out, enriched, (question.train, question.targets), question.index, self.show)
        return Result(facts_of(enriched))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Show(Verb):
    """Say again what `diff run` and `diff test` found, and compute nothing.

    dataloupe diff show runs/x
    """

    lab: Annotated[Place, tyro.conf.Positional]
    """the folder or URL"""
    show: Number = DETAILED
    """of how many directions of each side the ends are shown"""

    def run(self, out: Out) -> Result:
        """Read, never write."""
        lab = Lab(self.lab)
        found, tests = differences(lab), counterfactuals(lab)
        if not found and not tests:
            raise BadInput(
                "dl-992",
                asked=f"the differences in {lab.where}",
                found="none",
                do="make one: dataloupe diff run A.py:NAME B.py:NAME --with trak --lab FOLDER",
            )
        for kept in found:
            question, _ = kept.questions
            looks = looks_of(lab, question, "train"), looks_of(lab, question, "targets")
            say(out, kept.found, looks, kept.index, self.show)
            out.say("")
        for test in tests:
            say_test(out, test)
        every = [facts_of(kept.found) for kept in found]
        return Result({"differences": every, "counterfactuals": [test.to_json() for test in tests]})


Verbs = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[DiffTest, tyro.conf.subcommand("test")]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diff:
    """Compare two learning algorithms through the data they use (ModelDiff), and test what tells them apart."""

    verb: Annotated[Verbs, tyro.conf.arg(name="")]


def facts_of(found: Enrichment) -> dict[str, Any]:
    """A difference and its enrichment as JSON."""
    return {**found.difference.to_json(), "answer": str(found.difference), "enrichment": found.to_json()}


def _alike(one: Question, other: Question) -> None:
    """The same training data and target rows, asked before any work."""
    found = None
    for what in ("train", "targets"):
        if getattr(one, what).fingerprint != getattr(other, what).fingerprint:
            found = f"other {'training data' if what == 'train' else 'targets'}"
    if found is None and not np.array_equal(one.index, other.index):
        found = "other target rows"
    if found is not None:
        raise BadInput(
            "dl-990",
            asked="two questions about the same data",
            found=found,
            do="give both the same `train` and `targets`; only the learner differs",
        )
