"""``leaks``: which training examples are nearly a target, or each other."""

import dataclasses
import math
from typing import Annotated, Any, Literal

import tyro
from rich.markup import escape
from rich.table import Table
from rich.text import Text as Line

from dataloupe.apps import Leaks as Found
from dataloupe.apps import leaks
from dataloupe.cli._base import Asking, MaybeShare, Number, Out, Result, Text
from dataloupe.cli._folder import attributions, keep_looks, one
from dataloupe.cli._show import label_of, picture_of
from dataloupe.cli._uses import keep_use
from dataloupe.core import Question

By = Literal["profile", "row", "weight"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaks(Asking):
    """Rank the pairs of a target and a training example that is nearly the target itself.

    dataloupe leaks fashion.py:question --lab runs/fashion --k 20

    Trains nothing: it reads an attribution of the lab. Where the targets are the training data, it finds duplicates.
    """

    k: Number = 20
    """how many pairs"""
    only: Text = ""
    """use the attribution whose method's name begins so"""
    by: Annotated[By, tyro.conf.arg(metavar="NAME")] = "profile"
    """what stands out: profile, row or weight"""
    threshold: MaybeShare = None
    """only pairs whose score reaches it"""

    def run(self, out: Out) -> Result:
        """Read an attribution, rank its pairs."""
        question, lab = self.open()
        attribution = one(attributions(lab, question, self.only))
        keep_looks(lab, question)
        found = leaks(attribution, self.k, by=self.by, threshold=self.threshold, own=own_rows(question))
        keep_use(lab, question, found)
        out.say(leak_table(found, question, pictures=out.pictures))
        out.say(f"[dim]{escape(str(found))}[/]")
        for note in found.notes:
            out.say(f"  [yellow]note[/] {escape(note)}")
        return Result(facts_of(found, question))


def own_rows(question: Question) -> list[int] | None:
    """The training row that each target is, where the targets are the training data."""
    same = question.targets.fingerprint == question.train.fingerprint
    return question.index[:, 0].tolist() if same else None


def facts_of(found: Found, question: Question) -> dict[str, Any]:
    """The pairs as JSON, with their labels."""
    facts = found.to_json()
    facts["target_labels"] = [question.targets.label_name(int(j)) for j in question.index[found.targets, 0]]
    facts["row_labels"] = [question.train.label_name(int(i)) for i in found.rows]
    return facts


def leak_table(found: Found, question: Question, *, pictures: bool) -> Table:
    """One line a pair: the target, the training row, their labels, score and weight."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("target", "label", "training row", "label", "score", "weight"):
        table.add_column(
            column, justify="left" if column == "label" else "right", vertical="middle", overflow="fold"
        )
    shown = pictures and question.train.images is not None and question.targets.images is not None
    if shown:
        table.add_column("target", vertical="middle")
        table.add_column("row", vertical="middle")
    examples = question.index[found.targets, 0]
    for p, (example, row) in enumerate(zip(examples.tolist(), found.rows.tolist(), strict=True)):
        table.add_row(
            str(found.targets[p]),
            Line(label_of(question.targets, example)),
            str(row),
            Line(label_of(question.train, row), style="" if same_label(question, example, row) else "red"),
            f"{found.scores[p]:.3f}",
            with_error(found.weights[p], None if found.errors is None else found.errors[p]),
            *([picture_of(question.targets, example), picture_of(question.train, row)] if shown else []),
        )
    return table


def same_label(question: Question, example: int, row: int) -> bool:
    """Whether a target and a training row are called the same (or have no labels)."""
    return question.targets.label_name(example) == question.train.label_name(row)


def with_error(value: float, error: float | None) -> str:
    """A number, and its standard error where there is one."""
    if error is None or not error > 0:
        return f"{value:+.3g}"
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:+.{decimals}f} ± {error:.{decimals}f}"
