"""``mislabels``: which training examples carry a wrong label."""

import dataclasses
from typing import Annotated, Any, Literal

import tyro
from rich.markup import escape
from rich.table import Table
from rich.text import Text as Line

from dataloupe._errors import BadInput
from dataloupe.apps import Mislabels as Found
from dataloupe.apps import mislabels
from dataloupe.cli._base import Asking, MaybeNumber, Number, Out, Result, Text, check_counts
from dataloupe.cli._folder import attributions, keep_looks, one
from dataloupe.cli._leaks import with_error
from dataloupe.cli._show import label_of, picture_of
from dataloupe.cli._uses import keep_use
from dataloupe.core import Question, Subsets

By = Literal["mean", "held-out", "full", "memorisation", "effect"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mislabels(Asking):
    """Rank the training examples by how likely their label is wrong.

    dataloupe mislabels fashion.py:question --lab runs/fashion --k 20

    Trains on subsets, but for `--by effect`, which reads an attribution of the lab.
    """

    k: Number = 20
    """how many examples to show"""
    by: Annotated[By, tyro.conf.arg(metavar="NAME")] = "mean"
    """what is suspicious: mean, held-out, full, memorisation or effect"""
    subsets: MaybeNumber = None
    """how many trainings (default: 100 on 80 % of the data; 10 on all of it for full)"""
    only: Text = ""
    """effect: use the attribution whose method's name begins so"""
    seed: Number = 0
    """of the subsets"""

    def run(self, out: Out) -> Result:
        """Train, rank, show."""
        question, lab = self.open()
        if self.k < 1:
            raise BadInput(
                "dl-754", asked=f"the first {self.k} examples", found="no example", do="ask for at least 1"
            )
        if self.by == "effect":
            found = mislabels(
                question, lab, by="effect", attribution=one(attributions(lab, question, self.only))
            )
        else:
            with out.step(f"how right models are on the {question.n:,} training examples"):
                found = mislabels(question, lab, by=self.by, subsets=self._subsets(question))
        keep_looks(lab, question)
        keep_use(lab, question, found)
        out.say(mislabel_table(found, question, self.k, pictures=out.pictures))
        out.say(f"[dim]{escape(str(found))}[/]")
        for note in found.notes:
            out.say(f"  [yellow]note[/] {escape(note)}")
        labels = [question.train.label_name(int(row)) for row in found.order[: self.k]]
        return Result({**found.to_json(), "first_labels": labels})

    def _subsets(self, question: Question) -> Subsets | None:
        """The recipe asked for; None for the default one."""
        check_counts(1, subsets=self.subsets)
        if self.subsets is None and self.seed == 0:
            return None
        if self.by == "full":
            return Subsets.full(question.n, self.subsets or 10, seed=self.seed)
        return Subsets(question.n, self.subsets or 100, fraction=0.8, seed=self.seed)


def mislabel_table(found: Found, question: Question, k: int, *, pictures: bool) -> Table:
    """One line an example: its row, its label, its score."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("training row", "label", f"suspicion ({found.by})"):
        table.add_column(column, justify="left" if column == "label" else "right", vertical="middle")
    shown = pictures and question.train.images is not None
    if shown:
        table.add_column("", vertical="middle")
    for row in found.order[:k].tolist():
        cells: list[Any] = [str(row), Line(label_of(question.train, row))]
        cells.append(with_error(found.scores[row], None if found.errors is None else found.errors[row]))
        table.add_row(*cells, *([picture_of(question.train, row)] if shown else []))
    return table
