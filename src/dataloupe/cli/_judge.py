"""``judge``: do the attributions rank fresh retrainings as they come out?"""

import dataclasses
from collections.abc import Sequence

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text as Line

from dataloupe.cli._base import Asking, Number, Out, Result, Text
from dataloupe.cli._folder import attributions, is_baseline, keep_outcomes
from dataloupe.core import AbstractAttributor, DenseAttribution, Lab, Question, Subsets, capabilities
from dataloupe.judge import LDS, fidelity, lds
from dataloupe.methods import FeatureSimilarity, GradientSimilarity, RandomScores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge(Asking):
    """Judge the lab's attributions of a question on fresh retrainings: LDS, ceiling, controls.

    dataloupe judge fashion.py:question --lab runs/fashion --subsets 100 --repeats 2

    Ends with 1 if the interval of an attribution reaches down to 0.
    """

    subsets: Number = 100
    """how many fresh subsets"""
    repeats: Number = 2
    """how many seeds each (the ceiling needs two)"""
    fraction: float = 0.5
    """the share of the data each subset keeps"""
    seed: Number = 1
    """of the fresh subsets: another than the attributions were made with"""
    only: Text = ""
    """only methods whose name begins so"""

    def run(self, out: Out) -> Result:
        """Retrain, then rank."""
        question, lab = self.open()
        judged = attributions(lab, question, self.only)
        fresh = Subsets(n=question.n, count=self.subsets, fraction=self.fraction, seed=self.seed)
        with out.step(f"{self.subsets} fresh subsets x {self.repeats} seeds"):
            outcomes = lab.outcomes(question, fresh, repeats=self.repeats)
            keep_outcomes(lab, question, outcomes)
        held_against = controls(question, lab)
        scores = [lds(a, outcomes, controls=held_against) for a in judged if not is_baseline(a)]
        if not scores:
            scores = [lds(a, outcomes) for a in judged]
        out.say(lds_table(scores))
        for score in scores:
            for note in score.notes:
                out.say(f"  [yellow]{score.method}[/] {escape(note)}")
        close = [fidelity(a, outcomes) for a in judged if a.units == "output" and a.bias is not None]
        for found in close:
            out.say(f"  {escape(found.method)}: {escape(str(found))}")
        failed = any(score.interval[0] <= 0 for score in scores)
        facts = {"judged": [score.to_json() for score in scores], "fidelity": [f.to_json() for f in close]}
        return Result(facts, failed)


def controls(question: Question, lab: Lab) -> dict[str, DenseAttribution]:
    """What any attribution should beat: random scores, and similarities where models can be seen."""
    methods: list[AbstractAttributor] = [RandomScores()]
    if "models" in capabilities(question):
        methods += [GradientSimilarity(), FeatureSimilarity()]
    found = [method.attribute(question, lab) for method in methods]
    return {control.info.method: control for control in found}


WIDTH = 15


def lds_table(scores: Sequence[LDS]) -> Group:
    """LDS with intervals as bars from 0 to 1, under the ceiling."""
    first = scores[0]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("LDS", "value", "95 %", "of ceiling"):
        table.add_column(column, justify="left" if column == "LDS" else "right", no_wrap=True)
    table.add_column(f"0{'1':>{WIDTH - 1}}", no_wrap=True)
    for score in scores:
        cells = _numbers(score.value, score.interval, score.ceiling)
        table.add_row(f"[bold]{score.method}[/]", *cells, style="cyan")
    for name, control in first.controls.items():
        table.add_row(name, *_numbers(control.value, control.interval, first.ceiling), style="dim")
    if first.ceiling is not None and first.ceiling_interval is not None:
        table.add_row("noise ceiling", *_numbers(first.ceiling, first.ceiling_interval, None), style="dim")
    basis = f"{first.targets} targets x {first.subsets} subsets x {first.repeats} seeds"
    stroke = "" if first.ceiling is None else "; │ is the noise ceiling"
    return Group(table, Line(f"{basis}{stroke}", "dim"))


def _numbers(value: float, interval: tuple[float, float], ceiling: float | None) -> tuple[Line, ...]:
    share = "" if not ceiling or ceiling <= 0 else f"{value / ceiling:.2f}"
    low, high = interval
    words = (f"{value:.2f}", f"[{low:.2f}, {high:.2f}]", share)
    return *(Line(word) for word in words), _bar(value, interval, ceiling)


def _bar(value: float, interval: tuple[float, float], ceiling: float | None) -> Line:
    """Full up to the lower end of the interval, light up to its higher end, a stroke at the ceiling."""

    def place(x: float) -> int:
        return min(max(round(x * WIDTH), 0), WIDTH)

    low, high = place(interval[0]), max(place(interval[1]), place(value))
    cells = ["█" if i < low else "▒" if i < high else "·" for i in range(WIDTH)]
    if ceiling is not None:
        cells[min(place(ceiling), WIDTH - 1)] = "│"
    return Line("".join(cells))
