"""``diff test``: change the inputs, and see whether models of one algorithm mind and those of another do not."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.markup import escape
from rich.table import Table
from rich.text import Text as Line

from dataloupe._errors import BadInput
from dataloupe._typing import Array
from dataloupe.apps import Counterfactual, CounterfactualTest
from dataloupe.cli._base import (
    Asking,
    MaybeNumber,
    Number,
    Out,
    Result,
    Text,
    load_named,
    load_question,
)
from dataloupe.cli._folder import keep_looks
from dataloupe.cli._kept_diff import Kept, differences, keep_counterfactual
from dataloupe.cli._what_if import COLOURS
from dataloupe.core import Question, Transform
from dataloupe.lab import Lab

Measure = Literal["probability", "output"]
End = Literal["most", "top", "bottom"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskingTwo(Asking):
    """A verb that computes on two questions, of two algorithms on the same data."""

    other: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.py:NAME")]
    """the question of the other algorithm"""

    def both(self) -> tuple[tuple[Question, Question], tuple[str, str], Lab]:
        """The questions, what they are called, and the lab."""
        question, lab = self.open()
        return (question, load_question(self.other)), names_of(self.question, self.other), lab


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffTest(AskingTwo):
    """Test by changed inputs that a transform moves the first algorithm's models and not the other's.

    dataloupe diff test plain.py:question shifted.py:question --lab runs/x --transform changes.py:patch --strengths 1 2

    Ends with 1 if the claim fails: the other algorithm is moved as well, or alone.
    """

    transform: Annotated[str, tyro.conf.arg(metavar="FILE.py:NAME")]
    """the change of inputs: one of dataloupe.transforms, or your own"""
    strengths: Annotated[tuple[float, ...], tyro.conf.arg(metavar="X ...")] = (1.0,)
    """its doses; the verdict is about the strongest"""
    models: Number = 20
    """how many models of each algorithm"""
    measure: Annotated[Measure, tyro.conf.arg(metavar="NAME")] = "probability"
    """what is looked at: the probability of a class, or the question's output"""
    component: MaybeNumber = None
    """the class (default: each example's own label), or the component of the output"""
    examples: Annotated[tuple[int, ...], tyro.conf.arg(metavar="ROW ...", help_behavior_hint="")] = ()
    """the target examples to change (default: all)"""
    direction: MaybeNumber = None
    """or: those at an end of this direction of the difference that `diff run` left in the lab"""
    of: Text = ""
    """of which algorithm's directions, by its name (default: the first's)"""
    end: Annotated[End, tyro.conf.arg(metavar="NAME")] = "most"
    """which end: most (largest in size), top or bottom"""
    k: Number = 20
    """how many target rows an end is"""
    tolerance: Annotated[float, tyro.conf.arg(metavar="X")] = 0.0
    """effects within it count as none"""
    seed: Number = 0
    """of the models and of the places of the transform"""

    def run(self, out: Out) -> Result:
        """Write the test down, choose the examples, train, change, compare."""
        asked, names, lab = self.both()
        transform = load_named(
            self.transform, Transform, "transform", "dataloupe.transforms.Patch(1.0, size=2)"
        )
        test = CounterfactualTest(
            transform,
            self.strengths,
            measure=self.measure,
            component=self.component,
            tolerance=self.tolerance,
            seed=self.seed,
        )
        examples = self._examples(lab, asked, names)
        with out.step(
            f"{self.models} models of {names[0]} and of {names[1]}, asked with and without the change"
        ):
            questions = dict(zip(names, asked, strict=True))
            found = test.run(questions, lab, models=self.models, examples=examples)
        for question in asked:
            keep_looks(lab, question)
        keep_counterfactual(lab, asked, found)
        say_test(out, found)
        return Result(found.to_json(), failed=found.verdict == "disagree")

    def _examples(
        self, lab: Lab, asked: tuple[Question, Question], names: tuple[str, str]
    ) -> Array | tuple[int, ...] | None:
        """The target examples to change, None for all."""
        if self.direction is None:
            return self.examples or None
        if self.examples:
            raise _no_direction("both --examples and --direction", "give one of them")
        kept = differences(lab, asked[0].identity, asked[1].identity)
        if len(kept) != 1:
            found = f"{len(kept)} differences of these questions in {lab.where}"
            raise _no_direction(
                found, "make one: dataloupe diff run A.py:NAME B.py:NAME, or name --examples ROW ..."
            )
        return unique_examples(kept[0], self.of or names[0], self.direction, self.end, self.k)


def unique_examples(kept: Kept, of: str, direction: int, end: End, k: int) -> Array:
    """The target examples at an end of a direction, each once, the outermost first."""
    difference = kept.found.difference
    if of not in difference.names:
        raise _no_direction(f"directions of {' and '.join(difference.names)}", "name one of these: --of NAME")
    side = difference.sides[difference.names.index(of)]
    top, bottom = side.targets(direction, k)
    rows = {"most": side.most(direction, k), "top": top, "bottom": bottom}[end]
    return np.array(list(dict.fromkeys(kept.index[rows, 0].tolist())), dtype=np.int64)


def _no_direction(found: str, do: str) -> BadInput:
    return BadInput("dl-993", asked="the examples at an end of a direction", found=found, do=do)


def names_of(one: str, other: str) -> tuple[str, str]:
    """What two questions are called: by their names, or else their files, or else A and B."""
    parts = [where.partition(":") for where in (one, other)]
    for first, second in (
        [name or "question" for _, _, name in parts],
        [Path(file).stem for file, _, _ in parts],
    ):
        if first != second:
            return first, second
    return "A", "B"


def say_test(out: Out, found: Counterfactual) -> None:
    """Effects by strength, slopes, and the sentence that judges the claim."""
    out.say(effects_table(found))
    out.say(f"[bold {COLOURS[found.verdict]}]{escape(str(found))}[/]")
    for note in found.notes:
        out.say(f"  [yellow]note[/] {escape(note)}")


def effects_table(found: Counterfactual) -> Table:
    """One line for every algorithm, and for the difference, at every strength; then the slopes."""
    a, b, *between = found.algorithms
    names = [a, b, f"{a} - {b}", *between]
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    level = f"{100 * found.registered['level']:g} %"
    for column in ("strength", "algorithm", "effect", level, "claim"):
        table.add_column(column, justify="left" if column in ("algorithm", "claim") else "right")
    for strength, verdict in zip(found.strengths, found.verdicts, strict=True):
        for i, name in enumerate(names):
            effect = found.of(name, strength)
            first = f"{strength:g}" if i == 0 else ""
            claim = Line(verdict if i == 0 else "", COLOURS[verdict])
            table.add_row(first, Line(name), f"{effect.mean:+.3f}", Line(_ends(effect.interval)), claim)
    for i, dose in enumerate(found.dose(name) for name in (names if found.doses else ())):
        first = "slope" if i == 0 else ""
        cells = (first, dose.algorithm, f"{dose.slope:+.3f}", _ends(dose.interval), dose.course)
        table.add_row(*(Line(cell, "dim") for cell in cells))
    return table


def _ends(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:+.3f}, {interval[1]:+.3f}]"
