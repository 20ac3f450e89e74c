"""``space``: which targets are moved by the same examples, and along which directions they differ."""

import dataclasses
from typing import Any

from rich.markup import escape
from rich.table import Table

from dataloupe._errors import BadInput
from dataloupe.apps import Clusters, Principal, clusters, neighbours, principal, removal_of_direction
from dataloupe.cli._base import Asking, MaybeNumber, Number, Out, Result, Text
from dataloupe.cli._folder import attributions, keep_looks, one
from dataloupe.core import Question


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space(Asking):
    """Group the targets by what moves them, show the directions along which they differ, and test one by retraining.

    dataloupe space fashion.py:question --lab runs/fashion --clusters 8 --components 3 --test 0 --rows 50

    Ends with 1 if the retrainings disagree with the tested direction.
    """

    clusters: Number = 5
    """how many groups of targets"""
    components: Number = 3
    """how many principal directions"""
    target: MaybeNumber = None
    """also this target's neighbours: examples and targets"""
    k: Number = 5
    """how many neighbours, and rows and targets at either end of a direction"""
    test: MaybeNumber = None
    """remove the examples at either end of this direction and retrain"""
    rows: Number = 50
    """how many examples the test removes"""
    verify: Number = 8
    """how many seeds the test takes"""
    only: Text = ""
    """use the attribution whose method's name begins so"""

    def run(self, out: Out) -> Result:
        """Read an attribution; retrain only for a test."""
        question, lab = self.open()
        attribution = one(attributions(lab, question, self.only))
        if self.test is not None and not 0 <= self.test < self.components:
            raise BadInput(
                "dl-987",
                asked=f"a test of direction {self.test}",
                found=f"{self.components} directions, counted from 0",
                do=f"give --test 0 to {self.components - 1}, or more --components",
            )
        keep_looks(lab, question)
        groups, directions = clusters(attribution, self.clusters), principal(attribution, self.components)
        facts: dict[str, Any] = {"clusters": groups.to_json(), "principal": directions.to_json()}
        out.say(_groups(groups, question), _directions(directions, self.k))
        out.say(f"[dim]{escape(str(directions))}; {escape(attribution.info.method)}[/]")
        if self.target is not None:
            near = neighbours(attribution, self.target, self.k)
            facts["neighbours"] = near.to_json()
            out.say(escape(str(near)))
        if self.test is None:
            return Result(facts)
        with out.step(f"{4 * self.verify} retrainings, without either end, random rows, and nothing"):
            found = removal_of_direction(
                question, lab, attribution, (directions, self.test), k=self.rows, verify=self.verify
            )
        facts["test"] = found.to_json()
        out.say(escape(str(found)))
        for note in found.notes:
            out.say(f"  [yellow]note[/] {escape(note)}")
        return Result(facts, failed=found.verdict == "disagree")


def _groups(found: Clusters, question: Question) -> Table:
    """One line a group: how many targets, which is typical, and what moves them most."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("group", "targets", "typical", "label", "examples that raise them most"):
        table.add_column(
            column, justify="left" if column in ("label", "examples that raise them most") else "right"
        )
    for g, size in enumerate(found.sizes.tolist()):
        label = question.targets.label_name(int(question.index[found.central[g], 0])) if size else None
        rows = " ".join(str(i) for i in found.top[g]) if size else ""
        table.add_row(str(g), str(size), str(found.central[g]), str(label or ""), rows)
    return table


def _directions(found: Principal, k: int) -> Table:
    """One line an end of a direction."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("direction", "variance", "end", "targets", "examples"):
        table.add_column(column, justify="right" if column in ("direction", "variance") else "left")
    for c, share in enumerate(found.explained.tolist()):
        ends = zip(("top", "bottom"), found.targets(c, k), found.rows(c, k), strict=True)
        for end, targets, rows in ends:
            words = [" ".join(str(i) for i in ids) for ids in (targets, rows)]
            table.add_row(str(c) if end == "top" else "", f"{share:.1%}" if end == "top" else "", end, *words)
    return table
