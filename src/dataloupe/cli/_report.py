"""``report``: everything a lab knows about a question, as one file."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from dataloupe.cli._base import Folder, Number, Out, Place, Result, Text, Verb
from dataloupe.cli._folder import attributions, judged_outcomes, told_apart, what_ifs
from dataloupe.cli._uses import uses
from dataloupe.lab import Lab
from dataloupe.report import report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(Verb):
    """Write the lab's attributions, judgements, what-ifs and findings into one HTML file that needs nothing else.

    dataloupe report runs/fashion --out fashion.html
    """

    lab: Annotated[Place, tyro.conf.Positional]
    """the folder or URL"""
    out: Folder = Path("report.html")
    """the file"""
    title: Text = ""
    """its title (default: the folder's name)"""
    targets: Annotated[tuple[int, ...], tyro.conf.arg(metavar="ROW ...")] = ()
    """the target rows to show (default: a spread)"""
    top: Number = 8
    """how many examples of each kind"""
    only: Text = ""
    """only methods whose name begins so"""

    def run(self, out: Out) -> Result:
        """Read the folder, write the file."""
        lab = Lab(self.lab)
        found = attributions(lab, only=self.only)
        question = found[0].info.question
        same = told_apart([attribution for attribution in found if attribution.info.question == question])
        with out.step("the report"):
            path = report(
                self.out,
                *same,
                *judged_outcomes(lab, question)[:1],
                *what_ifs(lab, question),
                *uses(lab, question),
                title=self.title or f"dataloupe: {name_of(self.lab)}",
                targets=list(self.targets) or None,
                top=self.top,
            )
        if len(same) < len(found):
            out.say(
                f"  [yellow]note[/] {len(found) - len(same)} attributions of other questions are left out"
            )
        out.say(f"  [bold]{path}[/]")
        return Result({"path": str(path), "attributions": [attribution.info.method for attribution in same]})


def name_of(lab: str) -> str:
    """The last part of where a lab lies."""
    return lab.rstrip("/").rpartition("/")[2] if "://" in lab else Path(lab).resolve().name
