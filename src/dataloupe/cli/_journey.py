"""``journey``: samples of a diffusion model on their way from noise, and what every step is attributed to."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.markup import escape
from rich.table import Table

from dataloupe._errors import BadInput
from dataloupe.apps import Journey as Way
from dataloupe.apps import Likelihoods, Regenerated, Sampler, check_regenerate, likelihoods, regenerate
from dataloupe.cli._base import Asking, Folder, MaybeNumber, Number, Out, Result, Text, load_named
from dataloupe.cli._forget import writable
from dataloupe.cli._methods import Flag, Settings, diffusion_of
from dataloupe.core import DenseAttribution, Question, Subsets, helping
from dataloupe.lab import Lab
from dataloupe.report import report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Journey(Asking):
    """Make samples of a diffusion model, step by step from noise, and attribute every step to training examples.

    dataloupe journey examples/diffusion.py:question --with influence --models 5 --lab runs/diffusion --remove 100

    With --classify it tells when each sample's class was decided; with --remove it retrains without the rows that the samples are attributed
    to, samples again from the same noise, and ends with 1 if as many random rows move them further.
    """

    settings: Annotated[Settings, tyro.conf.arg(name="")]
    samples: Number = 8
    """how many samples"""
    steps: Number = 50
    """in how many steps noise is taken away"""
    looks: Number = 8
    """at how many of them to ask"""
    latents: Flag = False
    """the samples are latents: hold them in no range"""
    classify: Text = ""
    """FILE.py:NAME, a function from samples [b, ...] to probabilities of classes [b, c]"""
    remove: MaybeNumber = None
    """retrain without so many of the rows that each sample is attributed to"""
    step: Number = 0
    """sample again from where the samples stood at this step"""
    repeats: Number = 3
    """with how many seeds to retrain"""
    out: Folder = Path("journey.html")
    """the page that shows it"""
    noise: Number = 0
    """the seed of the noise that samples are made of"""

    def run(self, out: Out) -> Result:
        """Sample, attribute, classify, retrain, write the page."""
        question, lab = self.open()
        sampler = Sampler(diffusion_of(question), steps=self.steps, clip=None if self.latents else 1.0)
        looks, classify = self._looks(), self._classifier()
        if self.remove is not None:
            check_regenerate(question, self.remove, self.repeats)
        writable(self.out)
        model = lab.models(question, Subsets.full(question.n))[0]
        given = _told(question, self.samples)
        with out.step(f"{self.samples} samples in {self.steps} steps"):
            shape = question.train.inputs["sample"].shape[1:]
            way = sampler.journey(model, shape, self.samples, seed=self.noise, given=given)
        asked = dataclasses.replace(question, targets=way.targets(looks))
        with out.step(f"{self.settings.method} of {question.n:,} examples on {asked.m:,} (sample, timestep)"):
            found = self.settings.attributor(asked).attribute(asked, lab)
        facts = _facts(found, asked, way, looks)
        shown: list[Any] = [found]
        likely = None
        if classify is not None:
            with out.step("other ends from every step asked about"):
                likely = likelihoods(sampler, model, way, classify, steps=looks)
            facts["likelihoods"] = {
                "ending": likely.ending.tolist(),
                "classes": likely.classes.tolist(),
                "decided": likely.timesteps[likely.decisions].tolist(),
            }
            shown.append(likely)
        out.say("  the training example that each sample is attributed to most, by timestep:")
        out.say(_table(asked, facts, likely))
        test = None
        if self.remove is not None:
            test = self._without(question, lab, way, sampler, out)
            facts["regenerated"] = test.to_json()
            shown.append(test)
        with out.step("the page"):
            path = report(self.out, *shown, title="The way of samples from noise")
        out.say(f"  [bold]{path}[/]")
        return Result({**facts, "path": str(path)}, failed=test is not None and test.verdict == "disagree")

    def _looks(self) -> list[int]:
        """The steps asked about, spread over all."""
        if not 1 <= self.looks <= self.steps or not 0 <= self.step < self.steps or self.samples < 1:
            raise BadInput(
                "dl-747",
                asked=f"{self.samples} samples, {self.looks} looks at their way, new ones from step {self.step}",
                found=f"a way of {self.steps} steps, numbered from 0",
                do=f"ask for at least one sample, 1 to {self.steps} looks, and a step below {self.steps}",
            )
        return np.round(np.linspace(0, self.steps - 1, self.looks)).astype(int).tolist()

    def _classifier(self) -> Callable[..., Any] | None:
        """The function of ``--classify``."""
        kind: Any = Callable
        return load_named(self.classify, kind, "function", "a function") if self.classify else None

    def _without(self, question: Question, lab: Lab, way: Way, sampler: Sampler, out: Out) -> Regenerated:
        """The same noise without the rows that each sample is attributed to, where it stands at the step."""
        targets = way.ends() if self.step == 0 else way.targets([self.step])
        asked = dataclasses.replace(question, targets=targets)
        with out.step(
            f"{(self.samples + 2) * self.repeats} retrainings, without its top rows, random rows, and nothing"
        ):
            found = self.settings.attributor(asked).attribute(asked, lab)
            test = regenerate(
                asked, lab, found, way, sampler, remove=self.remove or 0, repeats=self.repeats, step=self.step
            )
        out.say(f"  {escape(str(test))}")
        return test


def _told(question: Question, count: int) -> dict[str, Any]:
    """What else the model is told of a sample: what it was told of the training examples, one after the other."""
    every = question.train.inputs
    ids = np.arange(count) % question.n
    return {name: part[ids] for name, part in every.items() if name not in ("sample", "timestep")}


def _facts(found: DenseAttribution, question: Question, way: Way, looks: list[int]) -> dict[str, Any]:
    """At every step of every sample, the training example that pushes it there most."""
    best = np.array([found.top(j, 1, sign=helping(question.output))[0] for j in range(found.m)])
    shape = (len(way), len(looks))
    return {
        "method": found.info.method,
        "timesteps": way.timesteps[looks].tolist(),
        "top": best.reshape(shape).tolist(),
        "scores": found.scores[np.arange(found.m), best].reshape(shape).tolist(),
    }


def _table(question: Question, facts: dict[str, Any], likely: Likelihoods | None) -> Table:
    """One line a sample: at every step the example it leans on most; what it became, and when that was decided."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    said = ("class", "decided") if likely is not None else ()
    for column in ("sample", *map(str, facts["timesteps"]), *said):
        table.add_column(column, justify="right")
    for j, row in enumerate(facts["top"]):
        told = [str(likely.classes[j]), str(likely.timesteps[likely.decisions[j]])] if likely else []
        table.add_row(str(j), *(_named(question, i) for i in row), *told)
    return table


def _named(question: Question, row: int) -> str:
    """A training example by its number and, where it has one, its label."""
    return f"{row} {question.train.label_name(row)}".rstrip()
