"""``support``: the fewest examples that a prediction hangs on. Predicted, then verified by retraining."""

import dataclasses
from typing import Annotated, Any

import tyro
from rich.markup import escape
from rich.table import Table
from rich.text import Text as Line

from dataloupe._errors import BadInput
from dataloupe._typing import Ids
from dataloupe.apps import Support as Found
from dataloupe.apps import SupportCase, check_support, relabel_support, smallest_support, support
from dataloupe.cli._base import Asking, MaybeShare, Number, Out, Result, Text, check_counts
from dataloupe.cli._folder import attributions, keep_looks, one
from dataloupe.cli._uses import keep_use
from dataloupe.core import DenseAttribution, Lab, Question, Subsets
from dataloupe.methods import calibrate

COLOURS = {"flipped": "green", "kept": "red", "undecided": "yellow"}
SHOWN, WIDTH = 15, 30
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
FACTOR = 1.2
Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Support(Asking):
    """Find the smallest removals that flip predictions, and verify them by retraining.

    dataloupe support digits.py:question --lab runs/digits --only datamodel --verify 10

    Ends with 1 if the retrainings say that fewer than half of the removals flip.
    """

    targets: Annotated[tuple[int, ...], tyro.conf.arg(metavar="ROW ...", help_behavior_hint="")] = ()
    """the target rows (default: all)"""
    inflate: MaybeShare = None
    """the factor on predicted sizes (default: 1.2)"""
    limit: Annotated[float, tyro.conf.arg(metavar="X")] = 0.1
    """the largest removal, as a share of the data"""
    verify: Number = 10
    """how many retrainings judge each removal (0: none)"""
    search: Flag = False
    """find the smallest size that flips by bisection on retrainings, from the ranking alone"""
    relabel: Flag = False
    """flip the examples' labels instead of removing them; found by bisection, too"""
    calibration: Number = 20
    """on how many subsets, 2 seeds each, relative scores get the output's units"""
    only: Text = ""
    """use the attribution whose method's name begins so"""
    seed: Number = 0
    """of the retrainings"""

    def run(self, out: Out) -> Result:
        """Calibrate if need be, predict or search, retrain."""
        question, lab = self.open()
        attribution = one(attributions(lab, question, self.only))
        targets = self._check(question, attribution)
        check_counts(0, calibration=self.calibration)
        keep_looks(lab, question)
        if self.search or self.relabel:
            find = relabel_support if self.relabel else smallest_support
            with out.step(f"bisection over sizes, {self.verify} retrainings each, {len(targets)} targets"):
                found = find(
                    question,
                    lab,
                    attribution,
                    targets,
                    limit=self.limit,
                    verify=self.verify,
                    seed=self.seed,
                )
        else:
            found = self._predicted(out, question, lab, attribution, targets)
        keep_use(lab, question, found)
        show(out, found)
        claim_failed = found.interval is not None and found.interval[1] < 0.5
        return Result(found.to_json(), failed=claim_failed)

    def _predicted(
        self, out: Out, question: Question, lab: Lab, attribution: DenseAttribution, targets: Ids
    ) -> Found:
        if attribution.units != "output":
            with out.step(
                f"the scale of {attribution.info.method}, from {self.calibration} subsets x 2 seeds"
            ):
                subsets = Subsets(n=question.n, count=self.calibration, seed=2)
                attribution = calibrate(attribution, lab.outcomes(question, subsets, repeats=2))
        with out.step(f"{self.verify} retrainings with all the data, and of each predicted removal"):
            return support(
                question,
                lab,
                attribution,
                targets,
                inflate=FACTOR if self.inflate is None else self.inflate,
                limit=self.limit,
                verify=self.verify,
                seed=self.seed,
            )

    def _check(self, question: Question, attribution: DenseAttribution) -> Ids:
        searched = self.search or self.relabel
        if searched and self.inflate is not None:
            raise BadInput(
                "dl-746",
                asked=f"sizes inflated by {self.inflate:g}",
                found="a search, which measures sizes and predicts none",
                do="leave out --inflate, or --search and --relabel",
            )
        return check_support(
            question,
            attribution,
            self.targets or None,
            limit=self.limit,
            verify=self.verify,
            inflate=FACTOR if self.inflate is None else self.inflate,
            rounds=1 if searched else None,
        )


def show(out: Out, found: Found) -> None:
    """The supports from the smallest on, the curve, and the sentence that sums them up."""
    cases = sorted(found.found, key=lambda case: (len(case.rows), case.target))
    if cases:
        out.say(cases_table(found, cases[:SHOWN]))
        if len(cases) > SHOWN:
            out.say(f"  [dim]... and {len(cases) - SHOWN} more (--json tells all, with their rows)[/]")
    if found.right:
        out.say(curve_table(found))
    out.say(f"[bold]{escape(str(found))}[/]")
    already = len(found.cases) - len(found.right)
    if already:
        out.say(f"  [dim]wrong with all the data: {already} of {len(found.cases)} targets[/]")
    for note in found.notes:
        out.say(f"  [yellow]note[/] {escape(note)}")


def cases_table(found: Found, cases: list[SupportCase]) -> Table:
    """One line a target."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    edited = "removed" if found.kind == "remove" else "relabelled"
    told = ("predicted",) if found.predicts else ()
    searched = ("bracket",) if found.inflate is None else ()
    for column in ("target", "margin", edited, *searched, *told, "verified", "95 %"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for case in cases:
        more = "" if case.relabelled is None else f" as class {case.relabelled}"
        span = "" if case.interval is None else f"[{case.interval[0]:.2f}, {case.interval[1]:.2f}]"
        cells = [str(case.target), f"{case.margin:.2f}", f"{len(case.rows)}{more}"]
        cells += [f"{case.bracket[0]} to {case.bracket[1]}"] if searched and case.bracket else []
        cells += [_number(case.predicted)] if told else []
        cells += [_number(case.verified), span]
        table.add_row(*(Line(cell) for cell in cells), Line(case.state, COLOURS.get(case.state, "dim")))
    return table


def curve_table(found: Found) -> Table:
    """The share of targets flipped against the size: a full bar if retrained, a light one if only predicted."""
    sizes = [size for size in STEPS if size < found.limit] + [found.limit]
    curve = found.curve(sizes)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("rows", *(("predicted",) if found.predicts else ()), "flipped", "95 %"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column(f"0{f'1 of {curve.targets} targets':>{WIDTH - 1}}", no_wrap=True)
    for i, size in enumerate(curve.sizes.tolist()):
        told: Any = 0.0 if curve.predicted is None else float(curve.predicted[i])
        judged = found.judged > 0
        share = float(curve.verified[i]) if judged else 0.0
        cells = [str(size), *([f"{told:.2f}"] if found.predicts else [])]
        cells += [f"{share:.2f}", f"[{curve.low[i]:.2f}, {curve.high[i]:.2f}]"] if judged else ["", ""]
        full, light = round(share * WIDTH), round(told * WIDTH)
        bar = "█" * full + "▒" * max(light - full, 0)
        table.add_row(*(Line(cell) for cell in cells), Line(f"{bar:·<{WIDTH}}"))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
