"""``demo``: a question asked, predicted and verified on data that ships with the install."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from torch import nn

from dataloupe import data, outputs
from dataloupe.apps import WhatIf, what_if
from dataloupe.cli._base import Folder, MaybeNumber, Number, Out, Result, Verb, local
from dataloupe.cli._folder import keep_looks, keep_outcomes, keep_what_if
from dataloupe.cli._judge import controls, lds_table
from dataloupe.cli._show import top_tables
from dataloupe.cli._what_if import verdict_line
from dataloupe.core import DenseAttribution, Question, Subsets
from dataloupe.judge import LDS, lds
from dataloupe.lab import Lab
from dataloupe.learners import SGD
from dataloupe.methods import TRAK, Datamodel, calibrate, calibration_removals, second_size
from dataloupe.report import report


def make_model() -> nn.Module:
    """A small network for 8 x 8 pixels."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def make_question() -> Question:
    """How do 1,437 handwritten digits move the margins of 360 others?"""
    train, test = data.digits()
    learner = SGD(make_model, epochs=15, lr=0.1, momentum=0.9, batch_size=64, schedule="linear")
    return Question(learner, train, test, outputs.margin)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo(Verb):
    """Train 2,000 networks on halves of the digits, explain predictions by their training data, judge the
    explanations on fresh retrainings, and verify one removal. A minute or so on two cores.

    The folder resumes: interrupt it and run it again.
    """

    folder: Folder = Path("dataloupe-demo")
    """where everything is kept, and the report written"""
    models: Number = 2000
    """how many networks the datamodel rests on"""
    workers: MaybeNumber = None
    """how many processes train at once (default: one per core)"""

    def run(self, out: Out) -> Result:
        """Predict, judge, verify, report."""
        question, lab = make_question(), Lab(local(self.folder), workers=self.workers)
        keep_looks(lab, question)
        asked = f"Which of {question.n:,} handwritten digits make a network read {question.m} others right?"
        out.say(f"[bold]{asked}[/]\n")
        with out.step(f"datamodel: {self.models:,} networks, each trained on its own half of the digits"):
            subsets = Subsets(n=question.n, count=self.models)
            datamodel = Datamodel(subsets, amount=second_size(subsets)).attribute(question, lab)
        with out.step("TRAK: the gradients of 10 networks, its scale from 30 removals x 2 seeds"):
            trak = TRAK(models=10).attribute(question, lab)
            trak = calibrate(trak, lab.outcomes(question, calibration_removals(trak, seed=2), repeats=2))
        with out.step("the truth to judge by: 100 fresh halves x 2 seeds, retrained"):
            fresh = lab.outcomes(question, Subsets(n=question.n, count=100, seed=1), repeats=2)
            keep_outcomes(lab, question, fresh)
        with out.step("judged, beside random scores and two similarities"):
            held_against = controls(question, lab)
            scores = [lds(attribution, fresh, controls=held_against) for attribution in (datamodel, trak)]
        out.say("")
        out.say(lds_table(scores))
        out.say("")
        with out.step("one removal predicted by TRAK, then verified by 8 pairs of retrainings"):
            answer = ask(question, lab, trak)
            keep_what_if(lab, question, answer)
        show_answer(out, trak, answer)
        with out.step("the report"):
            found = [trak, datamodel, *held_against.values()]
            path = report(
                self.folder / "report.html", *found, fresh, *scores, answer, title="dataloupe: digits"
            )
        out.say(f"\n  {path.resolve()}")
        return Result(facts(path, scores, answer), failed=answer.verdict == "disagree")


def ask(question: Question, lab: Lab, attribution: DenseAttribution) -> WhatIf:
    """What would the target be whose 40 most helpful digits are predicted to matter most, without them?"""
    removals = [attribution.top(target, 40) for target in range(attribution.m)]
    changes = [attribution.effect([ids], targets=[target])[0, 0] for target, ids in enumerate(removals)]
    target = int(np.argmin(changes))
    return what_if(question, lab, attribution, target=target, remove=removals[target], verify=8)


def show_answer(out: Out, attribution: DenseAttribution, answer: WhatIf) -> None:
    """The target, its helping and hurting digits, and what removing the helping ones did."""
    out.say("")
    out.say(top_tables(attribution, answer.target, 4, pictures=out.pictures))
    count, target = len(answer.removed), answer.target
    out.say(
        f"\nTrain without the {count} digits that help target {target} most, and its margin (the log-odds of being read right) changes:"
    )
    out.say(verdict_line(answer))
    for note in answer.notes:
        out.say(f"  [dim]{escape(note)}[/]")
    out.say("")


def facts(path: Path, scores: list[LDS], answer: WhatIf) -> dict[str, Any]:
    """The demo as JSON."""
    return {
        "report": str(path),
        "judged": [score.to_json() for score in scores],
        "what_if": answer.to_json(),
    }
