"""``attribute``: how every training example moves every target."""

import dataclasses
from typing import Annotated, Any

import tyro
from rich.markup import escape

from dataloupe.cli._base import Asking, Out, Result, quoted
from dataloupe.cli._folder import keep_looks
from dataloupe.cli._methods import Settings
from dataloupe.core import DenseAttribution


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attribute(Asking):
    """Compute an attribution and keep it in the lab.

    dataloupe attribute fashion.py:question --with trak --models 10 --lab runs/fashion
    """

    settings: Annotated[Settings, tyro.conf.arg(name="")]

    def run(self, out: Out) -> Result:
        """Ask the method; remember how the examples look."""
        question, lab = self.open()
        attributor = self.settings.attributor(question)
        with out.step(f"{self.settings.method} of {question.n:,} examples on {question.m:,} target rows"):
            attribution = attributor.attribute(question, lab)
            keep_looks(lab, question)
        out.say(f"  {about(attribution)}")
        out.say(f"  next: [bold]{escape(quoted('dataloupe', 'judge', self.question, '--lab', self.lab))}[/]")
        return Result(facts_of(attribution))


def about(attribution: DenseAttribution) -> str:
    """An attribution in a line."""
    info = attribution.info
    share = "an unknown share" if info.fraction is None else f"{info.fraction:.0%}"
    units = "units of the output" if attribution.units == "output" else "relative units: ranks only"
    return f"{info.method}, {units}; its models saw {share} of the data"


def facts_of(attribution: DenseAttribution) -> dict[str, Any]:
    """An attribution's provenance as JSON."""
    return {
        **dataclasses.asdict(attribution.info),
        "units": attribution.units,
        "n": attribution.n,
        "m": attribution.m,
    }
