"""``unlearn``: what forgetting would cost, the unlearned models, and whether they have forgotten."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.markup import escape
from rich.table import Table
from rich.text import Text as Line
from safetensors import SafetensorError
from safetensors.torch import save_file

from dataloupe._atomic import replacing
from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.cli._base import Folder, MaybePlace, Number, Out, Result, Text, Verb, load_question
from dataloupe.cli._forget import File, read_forget, unwritten, write_result
from dataloupe.cli._unlearn_audit import AuditThem, Sweep
from dataloupe.cli._unlearners import Behind, Forgetting, made, place_of, settings_of, words_of
from dataloupe.core import Subsets, TorchModel, torch_model
from dataloupe.lab import Lab
from dataloupe.unlearning import Plan as Planned
from dataloupe.unlearning import Unlearned, plan_unlearning, unlearn

STAGES = 12
"""So many stages are said; the rest is counted."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Verb):
    """Say what every method would cost for so many requests, against retraining, before anything starts.

    dataloupe unlearn plan fashion.py:question --forget forget.json --methods dmm,scrub --requests 100

    With --lab also how hard the request looks, by the changes that dmm's predictor tells; its trainings are done for it.
    """

    question: Annotated[Text, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.py:NAME")]
    """the question: a Python file and the name it has there"""
    forget: File
    """the rows to forget: a file of `forget pick`, or {"ids": [3, 14]}"""
    behind: Annotated[Behind, tyro.conf.arg(name="")]
    methods: Text = "dmm,scrub,gradient-descent"
    """which methods, with commas between them"""
    requests: Number = 1
    """how many requests of this size will come: trainings behind a method are paid once for all"""
    lab: MaybePlace = None
    """the folder (or URL) that remembers everything; with it the difficulty is predicted"""

    def run(self, out: Out) -> Result:
        """Work the shares out; train nothing, unless a lab is given."""
        words = words_of(self.methods)
        question = load_question(self.question)
        ids = read_forget(self.forget, question)
        by = None if self.lab is None else self.behind.predictor(question)
        lab = None if self.lab is None else Lab(self.lab)
        methods = made(words, self.behind, question)
        plan_unlearning(question, ids, methods=methods, requests=self.requests)  # refuses before any work
        plan = plan_unlearning(question, ids, methods=methods, requests=self.requests, lab=lab, by=by)
        say_plan(out, plan)
        return Result(plan.to_json())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Forgetting):
    """Train models (or read them), make them forget, and write what is left as safetensors.

    dataloupe unlearn run fashion.py:question --forget forget.json --method dmm --lab runs/fashion --out forgotten

    Ends with 1 if a model diverged: that one is not written. Whether anything was forgotten is for `unlearn audit`.
    """

    method: Text
    """the method"""
    models: Number = 1
    """how many models, trained on all rows"""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...", help_behavior_hint="")] = ()
    """settings of the method that are not its own: lr=0.003 epochs=8"""
    seed: Number = 0
    """of the models and of the method"""
    out: Folder = Path("unlearned")
    """the folder that models are written into"""

    def run(self, out: Out) -> Result:
        """Check, train, unlearn, write."""
        words, settings = words_of(self.method), settings_of(self.settings)
        if len(words) > 1 or words[0] == "dm-direct" or self.models < 1:
            raise BadInput(
                "dl-995",
                asked=f"{self.models} models unlearned by {self.method}",
                found="dm-direct, which leaves the weights as they are"
                if words == ["dm-direct"]
                else "no model, or several methods",
                do="name one method that changes weights, and at least one model: --method dmm --models 1",
            )
        question, ids = self.asked()
        place = place_of(self.out)
        (method,) = made(words, self.behind, question, settings).values()
        plan_unlearning(
            question, ids, methods={words[0]: method}
        )  # refuses rows and learners before any work
        lab = self.opened()
        with out.step(f"{self.models} models on all {question.n:,} rows"):
            seed = Stream.root(self.seed)("audit")("full").seed()
            trained = [
                torch_model(one)
                for one in lab.models(question, Subsets.full(question.n, self.models, seed=seed))
            ]
        with out.step(f"{words[0]}: {len(ids):,} rows forgotten by each"):
            done = unlearn(trained, ids, method=method, lab=lab, question=question, seed=self.seed)
        written = write_models(place, done)
        facts = facts_of(done, written)
        write_result(place / "unlearned.json", facts)
        say_unlearned(out, done)
        out.say(f"  {len(written)} of {len(done.models)} models in [bold]{place}[/]")
        return Result({**facts, "path": str(place)}, failed=not done.finite.all())


Verbs = (
    Annotated[Plan, tyro.conf.subcommand("plan")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[AuditThem, tyro.conf.subcommand("audit")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unlearn:
    """Make models forget rows, after a plan and before an audit against retraining."""

    verb: Annotated[Verbs, tyro.conf.arg(name="")]


def say_plan(out: Out, plan: Planned) -> None:
    """The table of costs and what follows from it."""
    head, *_ = str(plan).splitlines()
    out.say(escape(head))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    top, *rows, last = plan.table()
    for column in top:
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in rows:
        table.add_row(*(Line(cell, "bold green" if row[0] == plan.verdict else "") for cell in row))
    style = "bold green" if plan.verdict == "retrain" and "retrain" not in plan.costs else ""
    table.add_row(*(Line(cell, style) for cell in last))
    out.say(table)
    for line in plan.told():
        out.say(escape(line))


def write_models(place: Path, done: Unlearned) -> list[str]:
    """One file a model that did not diverge; their names. Raises ``StoreError`` dl-617."""
    names = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for number, (model, fine) in enumerate(zip(done.models, done.finite, strict=True)):
            if fine and isinstance(model, TorchModel):
                names.append(f"model-{number}.safetensors")
                tensors = {**model.params, **model.buffers}
                with replacing(place / names[-1]) as temporary:
                    save_file(
                        {
                            name: tensor.detach().cpu().contiguous().clone()
                            for name, tensor in tensors.items()
                        },
                        temporary,
                        metadata={"forget": str(done.facts["forget"]), "method": done.method},
                    )
    except (OSError, SafetensorError) as error:  # the library's own error of a full disk
        raise unwritten(place, error) from error
    return names


def facts_of(done: Unlearned, written: list[str]) -> dict[str, Any]:
    """A run as JSON."""
    return {
        "method": done.method,
        "forgotten": done.forget.tolist(),
        "models": len(done.models),
        "diverged": int((~done.finite).sum()),
        "share": done.share,
        "passes": done.passes,
        "retraining": done.retraining,
        "seconds": done.seconds,
        "stages": [{"name": name, "objective": values} for name, values in done.stages],
        "files": written,
        "notes": list(done.notes),
        **done.facts,
    }


def say_unlearned(out: Out, done: Unlearned) -> None:
    """What it cost, and how its stages went."""
    out.say(
        f"[bold]{escape(str(done))}[/] [dim]({done.passes:,.0f} rows gone over, of {done.retraining:,})[/]"
    )
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("stage")
    table.add_column("mean over models", justify="right")
    for name, values in list(done.stages)[:STAGES]:
        table.add_row(Line(name), f"{float(np.mean(values)):.4g}" if values else "-")
    if done.stages:
        out.say(table)
    if len(done.stages) > STAGES:
        out.say(f"[dim]and {len(done.stages) - STAGES} more stages (--json tells all)[/]")
    for note in done.notes:
        out.say(f"  [yellow]note[/] {escape(note)}")
