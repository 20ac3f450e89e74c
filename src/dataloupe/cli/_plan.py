"""``plan``: how many models, how long, how much disk, before anything starts."""

import dataclasses
import tempfile
import time
from typing import Annotated

import numpy as np
import tyro
from rich.table import Table

from dataloupe._errors import BadInput
from dataloupe._typing import Facts
from dataloupe.apps import detectable, models_needed, sigma_of
from dataloupe.cli._base import MaybeNumber, MaybeShare, Out, Result, Text, Verb, load_question
from dataloupe.cli._methods import Settings
from dataloupe.core import OK, Learner, Outcomes, Question, Subsets, boundary_note
from dataloupe.lab import Lab
from dataloupe.methods import Datamodel, GradientSimilarity

PROBE_SECONDS = 3.0
PROBE_MODELS = 64
PROBE_ROWS = 128
PILOT = 8
"""Models of the probe that tell how far outputs vary."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Verb):
    """Say what a method will cost on this machine, from what it asks for and a short timed probe.

    dataloupe plan fashion.py:question --with trak --models 10
    """

    question: Annotated[Text, tyro.conf.Positional]
    """the question, FILE.py:NAME"""
    settings: Annotated[Settings, tyro.conf.arg(name="")]
    effect: MaybeShare = None
    """datamodel: a weight that should be found, in units of the output (a change of the margin, say)"""
    workers: MaybeNumber = None
    """how many processes train at once (default: one per core)"""

    def run(self, out: Out) -> Result:
        """Ask the method what it needs; time a little of it in a lab that is thrown away."""
        question = load_question(self.question)
        self._check()
        method = self.settings.attributor(question)
        needs = method.needs(question)
        fraction = method.subsets.fraction if isinstance(method, Datamodel) else needs.fraction
        train, gradient, pilot = 0.0, 0.0, None
        with tempfile.TemporaryDirectory() as folder, out.step("a short probe on this machine"):
            lab = Lab(folder, workers=self.workers, progress=False)
            if needs.trainings and isinstance(question.learner, Learner):
                train, pilot = seconds_per_training(
                    question, lab, fraction, needs.trainings, 2 if self.effect is None else PILOT
                )
            if needs.gradient_passes:
                gradient = seconds_per_gradient_pass(question, lab)
        seconds = needs.trainings * train + needs.gradient_passes * gradient
        found: Facts = {}
        if pilot is not None and isinstance(method, Datamodel):
            found = detection(question, method.subsets, pilot, self.effect)
        facts = {
            "method": self.settings.method,
            "trainings": needs.trainings,
            "fraction": needs.fraction,
            "seconds_per_training": train,
            "gradient_passes": needs.gradient_passes,
            "seconds_per_gradient_pass": gradient,
            "seconds": seconds,
            "disk_bytes": needs.disk_bytes,
            "boundary": boundary_note(question),
            **found,
        }
        table = Table(box=None, title=f"{self.settings.method} of {self.question}", title_justify="left")
        table.add_column("")
        table.add_column("", justify="right")
        table.add_row("models to train", f"{needs.trainings:,}, each on {needs.fraction:.0%} of the data")
        table.add_row("gradient passes over all examples", f"{needs.gradient_passes:,}")
        table.add_row("time on this machine, about", f"[bold]{span(seconds)}[/]")
        table.add_row("disk, about", size(needs.disk_bytes))
        if "detectable" in found:
            table.add_row("smallest weight they find, about", f"{found['detectable']:.2g}")
        if "models_for_effect" in found:
            models = found["models_for_effect"]
            time_for_effect = f"{models:,} models, {span(models * train)}"
            table.add_row(f"to find a weight of {self.effect:g}, about", time_for_effect)
        out.say(table)
        if facts["boundary"]:
            out.say(f"  [yellow]note[/] {facts['boundary']}")
        return Result(facts)

    def _check(self) -> None:
        method = self.settings.method
        if self.effect is not None and method != "datamodel":
            raise BadInput(
                "dl-983",
                asked=f"--effect with {method}",
                found=f"{method}, whose models are no sample of subsets",
                do="leave --effect out, or plan a datamodel",
            )
        if self.effect is not None:
            models_needed(self.effect, sigma=1.0)  # refuses what is no effect


def detection(question: Question, subsets: Subsets, pilot: Outcomes, effect: float | None) -> Facts:
    """Which weight of an example so many models find, and how many find ``effect``; sigma is the median target's.

    Power 80 %, level 5 % over all examples. Nothing where the pilot is too small or says that nothing varies.
    """
    if (pilot.status == OK).all(axis=1).sum() < PILOT and effect is None:
        return {}
    sigma = float(np.median(sigma_of(pilot).value))
    if sigma == 0:
        return {}
    facts: Facts = {"sigma": sigma, "pilot": pilot.subsets.count, "effect": effect}
    facts["detectable"] = detectable(subsets.count, sigma, fraction=subsets.fraction, comparisons=question.n)
    if effect is not None:
        facts["models_for_effect"] = models_needed(
            effect, sigma, fraction=subsets.fraction, comparisons=question.n
        )
    return facts


def seconds_per_training(
    question: Question, lab: Lab, fraction: float, wanted: int, least: int = 2
) -> tuple[float, Outcomes]:
    """The time of one more model, and what the last ones did: ``least`` models, then twice as many until a step takes long."""
    count = 0
    for more in (least * 2**i for i in range(20)):
        count = min(more, PROBE_MODELS, max(wanted, least))
        start = time.perf_counter()
        outcomes = lab.outcomes(question, Subsets(n=question.n, count=count, fraction=fraction, seed=-more))
        seconds = time.perf_counter() - start
        if seconds > PROBE_SECONDS / 2 or count < more:
            break
    return seconds / count, outcomes


def seconds_per_gradient_pass(question: Question, lab: Lab) -> float:
    """The time of all gradients at one model, from a few rows of a model trained on those rows."""
    few = dataclasses.replace(
        question, train=question.train[:PROBE_ROWS], targets=question.targets[:PROBE_ROWS]
    )
    method = GradientSimilarity()
    method.attribute(few, lab)
    start = time.perf_counter()
    dataclasses.replace(method, seed=1).attribute(few, lab)
    seconds = time.perf_counter() - start
    return seconds * (question.n + question.m) / (few.n + few.m)


def span(seconds: float) -> str:
    """A stretch of time in words."""
    for limit, unit, length in ((90, "s", 1), (5400, "min", 60), (129600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def size(count: int) -> str:
    """Bytes in words."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} B"
