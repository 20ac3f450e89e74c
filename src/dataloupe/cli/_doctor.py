"""``doctor``: versions, devices, a self-test; and whether a folder is whole."""

import dataclasses
import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.markup import escape
from torch import nn

from dataloupe._errors import DataloupeError, StoreError
from dataloupe.cli._base import MaybePlace, Out, Result, Verb
from dataloupe.core import Examples, Outcomes, Question, Subsets
from dataloupe.lab import Lab
from dataloupe.learners import SGD
from dataloupe.outputs import margin
from dataloupe.store import LocalStore, open_store

PACKAGES = ("dataloupe", "torch", "numpy", "scipy", "numba", "safetensors", "scikit-learn")
ROUNDING = 1e-4
"""Many models in one program may sum in another order; which back end was used is on record in every folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doctor(Verb):
    """Say what this machine has, try it, and look whether a folder is whole.

    dataloupe doctor runs/fashion
    """

    lab: Annotated[MaybePlace, tyro.conf.Positional] = None
    """a lab to look through: its folder or URL"""

    def run(self, out: Out) -> Result:
        """Look and try; repair nothing."""
        facts = machine()
        for name, value in facts.items():
            out.say(f"  [dim]{name:>14}[/]  {value}")
        checks = {
            "two back ends train the same models": same_models,
            "a folder gives back what it took": store_whole,
        }
        failed = [name for name, check in checks.items() if not report_check(out, name, check)]
        if self.lab is not None:
            damage = damaged_units(self.lab)
            units = f"{damage['units']} units" if damage["exists"] else "no lab there, nothing to check"
            out.say(f"  [dim]{'folder':>14}[/]  {escape(self.lab)}: {units}")
            for line in damage["damaged"]:
                out.say(f"[red]✗[/] {escape(line)}")
            for line in damage["leftovers"]:
                out.say(f"[yellow]•[/] left over by an interrupted write, safe to delete: {escape(line)}")
            for line in damage["strangers"]:
                out.say(f"[yellow]•[/] not written by dataloupe, ignored: {escape(line)}")
            facts["folder"] = damage
            failed += damage["damaged"] if damage["exists"] else [f"no lab in {self.lab}"]
        out.say("[bold green]all well[/]" if not failed else f"[bold red]{len(failed)} found[/]")
        return Result({**facts, "failed": failed}, failed=bool(failed))


def machine() -> dict[str, Any]:
    """Versions, cores and devices."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        **versions,
        "cores": f"{os.cpu_count()}, of which torch uses {torch.get_num_threads()}",
        "accelerators": ", ".join(cuda) or "none",
    }


def report_check(out: Out, name: str, check: Callable[[], str | None]) -> bool:
    """Run a check that gives None, or what is wrong."""
    try:
        wrong = check()
    except DataloupeError as error:
        wrong = str(error)
    out.say(f"[green]✓[/] {name}" if wrong is None else f"[red]✗[/] {name}: {escape(wrong)}")
    return wrong is None


def make_model() -> nn.Module:
    """A network small enough for a self-test."""
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def same_models() -> str | None:
    """The plain loop and the stacked engine train six tiny models: the same but for the last bits."""
    inputs = torch.sin(torch.arange(160.0)).reshape(40, 4)
    train = Examples(inputs, labels=(inputs.sum(1) > 0).long())
    learner = SGD(make_model, epochs=3, lr=0.1, momentum=0.9, batch_size=8)
    question = Question(learner, train, train[:10], margin)
    found: dict[str, Outcomes] = {}
    with tempfile.TemporaryDirectory() as folder:
        for backend in ("loop", "stacked"):
            lab = Lab(Path(folder) / backend, backend=backend, progress=False)
            found[backend] = lab.outcomes(question, Subsets(n=40, count=6))
    gap = float(np.abs(found["loop"].values - found["stacked"].values).max())
    return None if gap < ROUNDING else f"their outputs differ by up to {gap:.1e}"


def store_whole() -> str | None:
    """Write a unit, read it back, damage it, and see that the damage is noticed."""
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder) / "store")
        array = np.arange(100, dtype=np.float32)
        store.write("check", "unit", {"a": array}, {"made_by": "doctor"})
        known = store.read("check", "unit")
        if known is None or not np.array_equal(known[0]["a"], array):
            return "what was read is not what was written"
        file = next(path for path in Path(folder).rglob("*") if path.suffix == ".safetensors")
        damaged = bytearray(file.read_bytes())
        damaged[-1] ^= 1
        file.write_bytes(damaged)
        try:
            store.read("check", "unit")
        except StoreError:
            return None
        return "a damaged unit was read as if it were whole"


def damaged_units(place: str) -> dict[str, Any]:
    """Every unit of a lab read once: how many, which are damaged, what an interrupted write left behind."""
    store = open_store(place)
    return {
        "exists": store.exists,
        "units": sum(len(store.units(name)) for name in store.folders()),
        "damaged": [str(error) for error in store.damaged()],
        "leftovers": store.leftovers(),
        "strangers": store.strangers(),
    }
