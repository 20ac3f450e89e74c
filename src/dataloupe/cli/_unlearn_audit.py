"""``unlearn audit`` and ``unlearn sweep``: methods held against models that never saw the rows."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from jaxtyping import Int
from rich.markup import escape
from rich.table import Table
from rich.text import Text as Line

from dataloupe._errors import BadInput
from dataloupe.cli._base import Number, Out, Result, Text
from dataloupe.cli._forget import File, writable, write_result
from dataloupe.cli._unlearners import (
    Forgetting,
    grid_of,
    made,
    points_of,
    settings_of,
    with_settings,
    words_of,
)
from dataloupe.core import Question
from dataloupe.judge import klom
from dataloupe.report import report
from dataloupe.unlearning import Gates, Receipt, Unlearner, audit, plan_unlearning

Estimator = Literal["quantile", "gaussian", "a2d", "easydub"]
Gate = Literal["first", "all", "none"]
DIVERGED = "dl-697"
WIDE = 104
"""A terminal of so many columns has room for the whole table."""
LEFT_OUT = ("p50", "p99", "retrained", "dist.")
"""Columns that a narrower one does without."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judging(Forgetting):
    """A verb that holds unlearned models against retrained ones."""

    models: Number = 100
    """how many models on all rows, unlearned by every method"""
    oracles: Number = 100
    """how many models that never saw the rows"""
    estimator: Annotated[Estimator, tyro.conf.arg(metavar="NAME")] = "quantile"
    """how distributions of margins are compared: quantile, gaussian (for 8 models and more), a2d or easydub"""

    def check(self, methods: Mapping[str, Unlearner], question: Question, ids: Int[np.ndarray, " f"]) -> None:
        """Rows, learner and numbers of models, refused before any work."""
        plan_unlearning(question, ids, methods=methods)
        sides = [np.arange(max(k, 1), dtype=np.float64)[:, None] for k in (self.models, self.oracles)]
        klom(*sides, estimator=self.estimator)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditThem(Judging):
    """Hold unlearned models against models that never saw the rows, and write a receipt.

    dataloupe unlearn audit fashion.py:question --forget forget.json --methods dmm,scrub --lab runs/x --out receipt.html

    Writes receipt.json beside it. Ends with 1 if a gate fails for the first method (--gate all: for any of them).
    """

    methods: Text = "dmm"
    """which methods, with commas between them; the first is the one that is meant, the others are for comparison"""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...", help_behavior_hint="")] = ()
    """settings of the first method that are not its own: lr=0.003 epochs=8"""
    gate: Annotated[Gate, tyro.conf.arg(metavar="NAME")] = "first"
    """whose gates decide the exit code: first, all or none"""
    gate_forget: Annotated[float, tyro.conf.arg(metavar="X")] = 0.25
    """on rows to forget: the normalised KLoM is at most this (0: like retraining, 1: like doing nothing)"""
    gate_elsewhere: Annotated[float, tyro.conf.arg(metavar="X")] = 2.0
    """on all others: the 95th percentile of KLoM is at most so many floors"""
    seed: Number = 0
    """of models, oracles and methods"""
    out: File = Path("receipt.html")
    """the page; its numbers are written beside it, as .json"""

    def run(self, out: Out) -> Result:
        """Train with and without, unlearn, compare, write."""
        words, settings = words_of(self.methods), settings_of(self.settings)
        question, ids = self.asked()
        place = writable(self.out)
        if place.suffix == ".json":
            place = place.with_suffix(".html")
        methods = made(words, self.behind, question)
        methods[words[0]] = with_settings(words[0], methods[words[0]], settings)
        self.check(methods, question, ids)
        with out.step(f"{self.models} models on all rows, {self.oracles} without {len(ids):,} of them"):
            receipt = audit(
                methods,
                ids,
                question=question,
                lab=self.opened(),
                models=self.models,
                oracles=self.oracles,
                estimator=self.estimator,
                seed=self.seed,
            )
        receipt = dataclasses.replace(receipt, gates=Gates(self.gate_forget, self.gate_elsewhere))
        facts = receipt.to_json()
        report(place, receipt, title=f"Unlearning receipt {receipt.digest}")
        beside = place.with_suffix(".json")
        write_result(beside, facts)
        say_receipt(out, receipt)
        out.say(f"  [bold]{place}[/], {beside.name}")
        judged = {"first": words[:1], "all": words, "none": []}[self.gate]
        failed = any(receipt.failed(word) for word in judged)
        return Result({**facts, "path": str(place)}, failed=failed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep(Judging):
    """Audit one method over a grid of settings, and name the one whose worst split is nearest to retraining.

    dataloupe unlearn sweep fashion.py:question --forget forget.json --method scrub --grid lr=0.001,0.003 epochs=3,5 --lab runs/x

    Its seed is 1, that of `audit` 0: settings chosen on some models are reported on others.
    """

    method: Text
    """the method"""
    grid: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=V,V ...")]
    """values of its settings: lr=0.001,0.003 epochs=2,4"""
    seed: Number = 1
    """of models, oracles and methods"""

    def run(self, out: Out) -> Result:
        """One audit a setting; models and oracles are trained once."""
        words, grid = words_of(self.method), grid_of(self.grid)
        if len(words) > 1 or not grid:
            raise BadInput(
                "dl-997",
                asked=f"a sweep of {self.method} over {len(grid)} settings",
                found="several methods, or an empty grid",
                do="name one method and its settings: --method scrub --grid lr=0.001,0.003",
            )
        question, ids = self.asked()
        (method,) = made(words, self.behind, question).values()
        tried = {name: with_settings(words[0], method, one) for name, one in points_of(grid).items()}
        self.check(tried, question, ids)
        lab, rows = self.opened(), []
        for name, one in tried.items():
            with out.step(f"{words[0]}, {name}"):
                found = self._tried(name, one, question, ids, lab)
            rows.append({"name": name, "settings": points_of(grid)[name], **found})
        finite = [row for row in rows if row["worst"] is not None]
        best = min(finite, key=lambda row: (row["p95"], row["share"]), default=None)
        say_sweep(out, rows, best)
        facts = {"method": words[0], "rows": rows, "best": None if best is None else best["name"]}
        return Result({**facts, "seed": self.seed, "forget": ids.tolist()}, failed=best is None)

    def _tried(
        self, name: str, method: Unlearner, question: Question, ids: Int[np.ndarray, " f"], lab: Any
    ) -> dict[str, Any]:
        """One setting's numbers; of one that diverges everywhere, None."""
        try:
            receipt = audit(
                {name: method},
                ids,
                question=question,
                lab=lab,
                models=self.models,
                oracles=self.oracles,
                estimator=self.estimator,
                seed=self.seed,
            )
        except BadInput as error:
            if error.code != DIVERGED:
                raise
            return {
                "share": None,
                "normalised": None,
                "elsewhere": None,
                "worst": None,
                "split": None,
                "diverged": self.models,
            }
        judged = receipt.audit.methods[name]
        p95 = {split: at.oracle_first.p95 for split, at in judged.splits.items()}
        floor = judged.floor.oracle_first.p95
        split = max(p95, key=lambda one: p95[one])
        return {
            "share": receipt.costs[name].share,
            "normalised": judged.splits["forget"].normalised,
            "elsewhere": max(value for one, value in p95.items() if one != "forget") / floor,
            "worst": p95[split],
            "split": split,
            "p95": sorted(p95.values(), reverse=True),
            "most": None if np.isinf(receipt.audit.most) else receipt.audit.most,
            "diverged": receipt.audit.diverged.get(name, 0),
        }


def say_receipt(out: Out, receipt: Receipt) -> None:
    """The judged table, what every method cost, and whether it passes."""
    rows = f"{len(receipt.forget):,} of {receipt.rows:,} rows ({len(receipt.forget) / receipt.rows:.1%})"
    judged = receipt.audit
    out.say(f"{rows} to forget, request {receipt.digest}")
    out.say(f"[dim]KLoM ({judged.estimator}) from {judged.oracles} oracles; p95 with its interval[/]")
    out.say(audit_table(receipt, wide=out.console.width >= WIDE))
    if judged.idle:
        names = ", ".join(judged.idle)
        out.say(f"[dim]nothing to unlearn on {names}: doing nothing is below twice the floor[/]")
    for name, cost in receipt.costs.items():
        failed = receipt.failed(name)
        verdict = "; ".join(failed) or (
            "passes, as doing nothing would" if "forget" in judged.idle else "passes"
        )
        colour = "red" if failed else "yellow" if "forget" in judged.idle else "green"
        out.say(
            f"[bold]{name}[/]  {cost.share:.1%} of a retraining, {cost.verdict}: [bold {colour}]{escape(verdict)}[/]"
        )
    out.say("evidence, not proof")


def audit_table(receipt: Receipt, *, wide: bool) -> Table:
    """One line for every method and split; the accuracy of retrained models beside."""
    accuracy = receipt.audit.accuracy or {}
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name, method in receipt.audit.methods.items():
        for place, (split, at) in enumerate(method.splits.items()):
            first = at.oracle_first
            cells = {
                "method": name if place == 0 else "",
                "split": split,
                "p50": _two(first.p50),
                "p95": _two(first.p95),
                "": "" if at.interval is None else f"[{at.interval[0]:.2f}, {at.interval[1]:.2f}]",
                "p99": _two(first.p99),
                "floor": _two(method.floor.oracle_first.p95),
                "norm.": _two(at.normalised),
                "acc.": _two(at.accuracy, 3),
                "retrained": _two(accuracy.get(split), 3),
                "dist.": _two(at.distance, 3),
            }
            shown = [column for column in cells if wide or column not in LEFT_OUT]
            if not table.columns:
                for column in shown:
                    left = column in ("method", "split", "")
                    table.add_column(column, justify="left" if left else "right", no_wrap=column != "method")
            table.add_row(*(Line(cells[column], "dim" if name == "nothing" else "") for column in shown))
    return table


def say_sweep(out: Out, rows: list[dict[str, Any]], best: dict[str, Any] | None) -> None:
    """One line a setting, the chosen one marked."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in (
        "settings",
        "of a retraining",
        "forget, norm.",
        "elsewhere / floor",
        "worst p95",
        "on",
        "",
    ):
        left = column in ("settings", "on", "")
        table.add_column(column, justify="left" if left else "right", no_wrap=column == "")
    for row in rows:
        chosen = best is not None and row is best
        share = "-" if row["share"] is None else f"{row['share']:.1%}"
        told = [_two(row[name]) for name in ("normalised", "elsewhere", "worst")]
        mark = "best" if chosen else f"{row['diverged']} diverged" if row["diverged"] else ""
        cells = (row["name"], share, *told, row["split"] or "-", mark)
        table.add_row(*(Line(cell, "bold green" if chosen else "") for cell in cells))
    out.say(table)
    out.say(
        "[dim]cost: of a retraining; elsewhere: the worst p95 of the other splits in floors; best: the least of the worst split's p95, over rows to forget, retained rows and targets alike (then of the "
        "next, then the cheapest); chosen on these models, so report it by `unlearn audit` with another seed[/]"
    )
    if best is not None and best["most"] is not None and best["worst"] > 0.99 * best["most"]:
        out.say(
            "  [yellow]note[/] the worst p95 is the most that KLoM can be with so few models: --estimator gaussian, or more "
            "--models and --oracles, tell settings apart"
        )


def _two(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
