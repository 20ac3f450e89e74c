"""``forget``: which rows a request names, written down in a file that every other verb of unlearning takes."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from jaxtyping import Int
from rich.markup import escape
from rich.table import Table
from rich.text import Text as Line

from dataloupe._atomic import write_json
from dataloupe._errors import BadInput, StoreError
from dataloupe.cli._base import MaybeNumber, MaybePlace, Number, Out, Result, Text, Verb, load_question, local
from dataloupe.cli._methods import Method, Settings
from dataloupe.core import Attribution, Question, check_ids
from dataloupe.lab import Lab
from dataloupe.unlearning import pick_ends, pick_like, pick_random, pick_where, rows_digest

File = Annotated[Path, tyro.conf.arg(metavar="FILE")]
WAYS = (
    "--random K, --component J with --top A or --bottom B, --like ROW with --count K, or --where COLUMN=VALUE"
)
CLASSES = 12
"""So many classes are told apart in the table."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pick(Verb):
    """Choose the rows to forget: at random, along a direction of the attribution, like a row, or by a column.

    dataloupe forget pick fashion.py:question --where label=Shirt --out forget.json
    """

    question: Annotated[Text, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.py:NAME")]
    """the question: a Python file and the name it has there"""
    random: MaybeNumber = None
    """so many rows at random: the easy kind"""
    component: MaybeNumber = None
    """or: the ends of this principal component of the attribution of training rows by training rows: the hard kind"""
    top: Number = 0
    """of a component, so many rows at the top"""
    bottom: Number = 0
    """and so many at the bottom"""
    like: MaybeNumber = None
    """or: this row and those whose attributions are most like its own"""
    count: MaybeNumber = None
    """so many rows, with --like"""
    where: Text = ""
    """or: the rows of a label (label=Shirt) or another column (COLUMN=VALUE)"""
    seed: Number = 0
    """of rows at random"""
    method: Annotated[Method, tyro.conf.arg(name="with", metavar="METHOD")] = "trak"
    """by which method the attribution is made, for --component and --like"""
    models: MaybeNumber = 5
    """over how many models"""
    lab: MaybePlace = None
    """the folder (or URL) that remembers the attribution, for --component and --like"""
    out: File = Path("forget.json")
    """the file"""

    def run(self, out: Out) -> Result:
        """Check, choose, write."""
        self._check()
        question = load_question(self.question)
        place = writable(self.out)
        ids, how = self._rows(question, out)
        facts = {
            "ids": ids.tolist(),
            "digest": rows_digest(ids),
            "how": how,
            "n": question.n,
            "train": question.train.fingerprint,
        }
        write_result(place, facts)
        counts = classes_of(question, ids)
        say_rows(out, question, ids, counts, how)
        out.say(f"  request {facts['digest']} in [bold]{place}[/]")
        return Result({**facts, "count": len(ids), "classes": counts, "path": str(place)})

    def _check(self) -> None:
        """One way, with what it needs."""
        given = {
            "--random": self.random is not None,
            "--component": self.component is not None,
            "--like": self.like is not None,
            "--where": bool(self.where),
        }
        ways = [name for name, there in given.items() if there]
        found = "" if len(ways) == 1 else " and ".join(ways) or "no way to choose them"
        if not found and self.component is not None and self.top + self.bottom < 1:
            found = "--component without --top or --bottom"
        if not found and self.like is not None and self.count is None:
            found = "--like without --count"
        if not found and self.where and not all(self.where.partition("=")):
            found = f"--where {self.where}"
        if not found and self.lab is None and (self.like is not None or self.component is not None):
            found = f"{ways[0]} without --lab FOLDER"
        if found:
            raise BadInput("dl-996", asked="rows to forget", found=found, do=f"give one of {WAYS}")

    def _rows(self, question: Question, out: Out) -> tuple[Int[np.ndarray, " f"], str]:
        """The rows, and how they were chosen."""
        if self.random is not None:
            return pick_random(question.n, self.random, self.seed), f"at random, seed {self.seed}"
        if self.where:
            column, _, value = self.where.partition("=")
            return pick_where(question.train, column, value), f"where {column} is {value}"
        if self.like is not None:
            check_ids([self.like], question.n, "a row")
        attribution = self._attribution(question, out)
        by = attribution.info.method
        if self.like is not None:
            return pick_like(attribution, self.like, self.count or 0), f"like row {self.like}, by {by}"
        ends = pick_ends(attribution, self.component or 0, top=self.top, bottom=self.bottom)
        return (
            ends,
            f"component {self.component}, {self.top} at the top and {self.bottom} at the bottom, by {by}",
        )

    def _attribution(self, question: Question, out: Out) -> Attribution:
        """Of the training rows by the training rows."""
        itself = Question(question.learner, question.train, question.train, question.output)
        attributor = Settings(method=self.method, models=self.models).attributor(itself)
        with out.step(f"{self.method} of {question.n:,} rows on themselves"):
            return attributor.attribute(itself, Lab(self.lab or ""))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowRows(Verb):
    """Say again what a file of rows to forget holds; checks that it fits the question.

    dataloupe forget show fashion.py:question --forget forget.json
    """

    question: Annotated[Text, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.py:NAME")]
    """the question: a Python file and the name it has there"""
    forget: File = Path("forget.json")
    """the file"""

    def run(self, out: Out) -> Result:
        """Read, never write."""
        question = load_question(self.question)
        ids = read_forget(self.forget, question)
        counts = classes_of(question, ids)
        say_rows(out, question, ids, counts)
        out.say(f"  request {rows_digest(ids)} in [bold]{self.forget}[/]")
        return Result({"ids": ids.tolist(), "digest": rows_digest(ids), "count": len(ids), "classes": counts})


Verbs = Annotated[Pick, tyro.conf.subcommand("pick")] | Annotated[ShowRows, tyro.conf.subcommand("show")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forget:
    """Choose the rows that unlearning is asked to forget."""

    verb: Annotated[Verbs, tyro.conf.arg(name="")]


def read_forget(file: Path, question: Question) -> Int[np.ndarray, " f"]:
    """The rows of a file that ``forget pick`` wrote, or of one with ``{"ids": [3, 14]}`` (dl-994).

    Where the file tells its digest and its data, they must be those of the rows and of the question.
    """
    facts: Any = None
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        found = (
            "" if isinstance(facts, dict) and isinstance(facts.get("ids"), list) else "no list `ids` in it"
        )
    except (OSError, ValueError, RecursionError) as error:
        found = f"{type(error).__name__}: {error}"
    if not found and not facts["ids"]:
        found = "no rows"
    if not found and any(type(i) is not int or abs(i) >= 2**62 for i in facts["ids"]):
        found = "ids that are no numbers of rows"
    if not found and facts.get("train", question.train.fingerprint) != question.train.fingerprint:
        found = f"rows of other training data ({facts['train']})"
    if not found and facts.get("digest") not in (None, rows_digest(np.array(facts["ids"]))):
        found = "rows that are not those of its digest: it was edited"
    if found:
        raise BadInput(
            "dl-994",
            asked=f"the rows to forget in {file}",
            found=found,
            do="make it: dataloupe forget pick FILE.py:NAME --random 50 --out forget.json",
        )
    return np.sort(check_ids(facts["ids"], question.n, "rows to forget"))


def writable(path: Path) -> Path:
    """A place where a file can stand, asked before any work (dl-998)."""
    if local(path).is_dir() or not path.parent.is_dir():
        raise BadInput(
            "dl-998",
            asked=f"to write {path}",
            found="a folder of that name" if path.is_dir() else f"no folder {path.parent}",
            do="name a file in a folder that exists",
        )
    return path


def write_result(path: Path, facts: dict[str, Any]) -> None:
    """The facts of a verb as a file, whole or not at all. Raises ``StoreError`` dl-617."""
    try:
        write_json(path, facts)
    except OSError as error:
        raise unwritten(path, error) from error


def unwritten(path: Path, error: Exception) -> StoreError:
    """dl-617."""
    return StoreError(
        "dl-617",
        asked=f"to write {path}",
        found=str(error),
        do="free some space or name another place, then run the same again: the lab keeps what is done",
    )


def say_rows(
    out: Out, question: Question, ids: Int[np.ndarray, " f"], counts: dict[str, int], how: str = ""
) -> None:
    """How many rows, which share, how chosen, of which classes."""
    said = f"[bold]{len(ids):,}[/] of {question.n:,} rows ({len(ids) / question.n:.1%}) to forget"
    out.say(f"{said}, {escape(how)}" if how else said)
    if counts:
        out.say(classes_table(question, counts))


def classes_of(question: Question, ids: Int[np.ndarray, " f"]) -> dict[str, int]:
    """How many rows of every label, the most first; nothing where labels are no classes."""
    labels = question.train.labels
    if labels is None or labels.is_floating_point() or labels.ndim != 1:
        return {}
    return dict(Counter(question.train.label_name(int(i)) for i in ids).most_common())


def classes_table(question: Question, counts: dict[str, int]) -> Table:
    """Rows of every class, and their share of it."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("class", "rows", "of the class"):
        table.add_column(column, justify="left" if column == "class" else "right")
    whole = classes_of(question, np.arange(question.n))
    for name, number in list(counts.items())[:CLASSES]:
        table.add_row(Line(name), f"{number:,}", f"{number / whole[name]:.1%}")
    if len(counts) > CLASSES:
        table.add_row(f"{len(counts) - CLASSES} more", f"{sum(list(counts.values())[CLASSES:]):,}", "")
    return table
