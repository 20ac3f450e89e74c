"""``what-if``: what would this prediction be without those examples? Predicted, then verified by retraining."""

import dataclasses
from typing import Annotated

import tyro
from rich.markup import escape

from dataloupe._errors import BadInput
from dataloupe._typing import Ids
from dataloupe.apps import WhatIf as Answer
from dataloupe.apps import check_what_if, what_if
from dataloupe.cli._base import Asking, MaybeNumber, Number, Out, Result, Text
from dataloupe.cli._folder import attributions, keep_looks, keep_what_if, one
from dataloupe.core import DenseAttribution, laws_in
from dataloupe.methods import calibrate, calibration_removals

SEEDS = 2
"""Trainings of each calibration removal."""

COLOURS = {
    "agree": "green",
    "disagree": "red",
    "undecided": "yellow",
    "uninformative": "yellow",
    "unverified": "dim",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WhatIf(Asking):
    """Predict how a target changes when examples are removed, and verify it by retraining.

    dataloupe what-if fashion.py:question --lab runs/fashion --target 7 --remove-top 50 --verify 8

    Ends with 1 if the retrainings disagree.
    """

    target: Number
    """the target row"""
    remove: Annotated[tuple[int, ...], tyro.conf.arg(metavar="ROW ...")] = ()
    """the training rows to take away"""
    remove_top: MaybeNumber = None
    """or: so many rows that help this target most"""
    verify: Number = 8
    """how many pairs of retrainings check the prediction (0: none)"""
    calibration: Number = 30
    """on how many removals, 2 seeds each, effects are calibrated: (30 + 4) * 2 trainings (0: on none)"""
    only: Text = ""
    """use the attribution whose method's name begins so"""
    seed: Number = 0
    """of the pairs of retrainings"""

    def run(self, out: Out) -> Result:
        """Calibrate if need be, predict, retrain in pairs, compare."""
        question, lab = self.open()
        self._check()
        attribution = one(attributions(lab, question, self.only))
        rows = self._rows(attribution)
        check_what_if(question, attribution, self.target, rows, verify=self.verify)
        keep_looks(lab, question)
        if self.calibration and not calibrated_on_removals(attribution):
            removals = calibration_removals(attribution, count=self.calibration, seed=2)
            price = f"{removals.count * SEEDS} trainings"
            with out.step(f"{attribution.info.method} calibrated on {self.calibration} removals, {price}"):
                attribution = calibrate(attribution, lab.outcomes(question, removals, repeats=SEEDS))
        with out.step(f"{self.verify} pairs of retrainings, with and without the examples"):
            answer = what_if(
                question,
                lab,
                attribution,
                target=self.target,
                remove=rows,
                verify=self.verify,
                seed=self.seed,
            )
        keep_what_if(lab, question, answer)
        out.say(f"target {self.target} without {len(answer.removed)} of {question.n:,} examples:")
        out.say(verdict_line(answer))
        for note in answer.notes:
            out.say(f"  [yellow]note[/] {escape(note)}")
        return Result(answer.to_json(), failed=answer.verdict == "disagree")

    def _check(self) -> None:
        if bool(self.remove) == (self.remove_top is not None):
            raise BadInput(
                "dl-986",
                asked="which examples to remove",
                found="both --remove and --remove-top"
                if self.remove
                else "neither --remove nor --remove-top",
                do="give one: --remove 3 14 15, or --remove-top 50",
            )

    def _rows(self, attribution: DenseAttribution) -> Ids:
        return self.remove or attribution.top(self.target, self.remove_top or 0)


def calibrated_on_removals(attribution: DenseAttribution) -> bool:
    """Whether removals taught it how large effects are."""
    known = attribution.uncertainty
    return known is not None and bool(laws_in(known.laws))


def verdict_line(answer: Answer) -> str:
    """A what-if in a line of its verdict's colour."""
    return f"  [bold {COLOURS[answer.verdict]}]{escape(str(answer))}[/]"
