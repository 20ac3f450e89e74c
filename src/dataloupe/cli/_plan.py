"""``plan``: how many models, how long, how much disk, before anything starts."""

import dataclasses
import tempfile
import time
from typing import Annotated

import tyro
from rich.table import Table

from dataloupe.cli._base import MaybeNumber, Out, Result, Text, Verb, load_question
from dataloupe.cli._methods import Settings
from dataloupe.core import Learner, Question, Subsets
from dataloupe.lab import Lab
from dataloupe.methods import GradientSimilarity

PROBE_SECONDS = 3.0
PROBE_MODELS = 64
PROBE_ROWS = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Verb):
    """Say what a method will cost on this machine, from what it asks for and a short timed probe.

    dataloupe plan fashion.py:question --with trak --models 10
    """

    question: Annotated[Text, tyro.conf.Positional]
    """the question, FILE.py:NAME"""
    settings: Annotated[Settings, tyro.conf.arg(name="")]
    workers: MaybeNumber = None
    """how many processes train at once (default: one per core)"""

    def run(self, out: Out) -> Result:
        """Ask the method what it needs; time a little of it in a lab that is thrown away."""
        question = load_question(self.question)
        needs = self.settings.attributor(question).needs(question)
        train, gradient = 0.0, 0.0
        with tempfile.TemporaryDirectory() as folder, out.step("a short probe on this machine"):
            lab = Lab(folder, workers=self.workers, progress=False)
            if needs.trainings and isinstance(question.learner, Learner):
                train = seconds_per_training(question, lab, needs.fraction, needs.trainings)
            if needs.gradient_passes:
                gradient = seconds_per_gradient_pass(question, lab)
        seconds = needs.trainings * train + needs.gradient_passes * gradient
        facts = {
            "method": self.settings.method,
            "trainings": needs.trainings,
            "fraction": needs.fraction,
            "seconds_per_training": train,
            "gradient_passes": needs.gradient_passes,
            "seconds_per_gradient_pass": gradient,
            "seconds": seconds,
            "disk_bytes": needs.disk_bytes,
        }
        table = Table(box=None, title=f"{self.settings.method} of {self.question}", title_justify="left")
        table.add_column("")
        table.add_column("", justify="right")
        table.add_row("models to train", f"{needs.trainings:,}, each on {needs.fraction:.0%} of the data")
        table.add_row("gradient passes over all examples", f"{needs.gradient_passes:,}")
        table.add_row("time on this machine, about", f"[bold]{span(seconds)}[/]")
        table.add_row("disk, about", size(needs.disk_bytes))
        out.say(table)
        return Result(facts)


def seconds_per_training(question: Question, lab: Lab, fraction: float, wanted: int) -> float:
    """The time of one more model: twice as many again and again, until the last step says enough."""
    count, seconds = 0, 0.0
    for more in (2**i for i in range(1, 20)):
        count = min(more, PROBE_MODELS, max(wanted, 2))
        start = time.perf_counter()
        lab.outcomes(question, Subsets(n=question.n, count=count, fraction=fraction, seed=-more))
        seconds = time.perf_counter() - start
        if seconds > PROBE_SECONDS / 2 or count < more:
            break
    return seconds / count


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
