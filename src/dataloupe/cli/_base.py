"""What every verb is: settings from the command line, and a run that says things and gives facts."""

import abc
import dataclasses
import json
import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from dataloupe._errors import BadInput
from dataloupe.core import Question
from dataloupe.engine import Precision
from dataloupe.lab import Lab
from dataloupe.run import load_module

Text = Annotated[str, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
Folder = Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
Place = Annotated[str, tyro.conf.arg(metavar="FOLDER")]
"""Where a lab lies, a folder or a URL: text, since a path would swallow a slash of ``s3://bucket``."""
MaybePlace = Annotated[str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")]
Number = Annotated[int, tyro.conf.arg(metavar="N")]
MaybeNumber = Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")]
MaybeShare = Annotated[float | None, tyro.conf.arg(metavar="X", help_behavior_hint="")]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a verb found: facts for ``--json``, and whether a judged claim failed (exit code 1)."""

    facts: dict[str, Any]
    failed: bool = False


class Out:
    """Where a verb speaks: to people on stdout, or (``--json``) one object on stdout and nothing else there."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(quiet=as_json, highlight=False)
        self.pictures = self.console.is_terminal and not as_json

    def say(self, *things: Any) -> None:
        """A line, a table or a picture for people."""
        self.console.print(*things, soft_wrap=all(isinstance(thing, str) for thing in things))

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        """A stretch of work: its name before, its name with the time it took after."""
        start = time.perf_counter()
        yield
        self.say(f"[green]✓[/] {doing} [dim]{time.perf_counter() - start:.1f} s[/]")

    def give(self, facts: dict[str, Any]) -> None:
        """The JSON object, if it was asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verb(abc.ABC):
    """A verb of the command line: its fields are its arguments, its docstring is its help."""

    json: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    """print one JSON object on stdout and nothing else there"""

    @abc.abstractmethod
    def run(self, out: Out) -> Result:
        """Do it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asking(Verb):
    """A verb that computes: it takes a question and a lab."""

    question: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.py:NAME")]
    """the question: a Python file and the name it has there"""
    lab: Place
    """the folder (or URL) that remembers everything; it resumes by itself"""
    workers: MaybeNumber = None
    """how many processes train at once (default: one per core)"""
    force: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    """go on where a guard on gradients would stop; the certificate tells"""
    device: Annotated[str, tyro.conf.arg(metavar="X")] = "cpu"
    """where gradients are computed: cpu, cuda, cuda:1 ..."""
    precision: Annotated[Precision, tyro.conf.arg(metavar="X")] = "model"
    """in which precision gradients are computed: model (as it is), fp32, tf32 (on a GPU) or bf16"""

    def open(self) -> tuple[Question, Lab]:
        """The question and the lab."""
        lab = Lab(
            self.lab,
            workers=self.workers,
            device=self.device,
            precision=self.precision,
            force=self.force,
        )
        return load_question(self.question), lab


def check_counts(least: int, **counts: int | None) -> None:
    """Refuse counts below `least` (dl-979); None is the default's."""
    for name, count in counts.items():
        if count is not None and count < least:
            raise BadInput(
                "dl-979",
                asked=f"--{name.replace('_', '-')} {count}",
                found=f"a number below {least}",
                do=f"give {least} or more",
            )


def quoted(*words: str) -> str:
    """Words as a shell takes them, so that what is proposed can be pasted.

    >>> quoted("--only", "datamodel", "a b.py:q")
    "--only datamodel 'a b.py:q'"
    """
    return shlex.join(words)


def local(path: Path) -> Path:
    """The path, unless it is what is left of a URL (dl-975): files of results lie on this machine."""
    scheme = re.match(r"([a-z][a-z0-9+.-]+):/", str(path))
    if scheme is None:
        return path
    raise BadInput(
        "dl-975",
        asked=f"to write {path}",
        found=f"a URL ({scheme[1]}://), where only a lab can lie",
        do="name a file or folder of this machine",
    )


def load_question(where: str) -> Question:
    """The question of ``file.py:name``.

    Raises ``BadInput`` dl-980 (no such file), dl-981 (the file cannot be run), dl-982 (no question of that name).
    """
    found: Question = load_named(where, Question, "question", "dataloupe.Question(...)")
    return found


def load_named(where: str, kind: type, what: str, how: str) -> Any:
    """The thing of that kind in ``file.py:name``; ``how`` it is made. Raises as :func:`load_question`."""
    file, _, name = where.partition(":")
    path, name = Path(file), name or what
    if path.suffix != ".py" or not path.is_file():
        raise BadInput(
            "dl-980",
            asked=f"the {what} {where}",
            found=f"no Python file {path}",
            do=f"write FILE.py:NAME, a file that defines the {what} under that name",
        )
    try:
        module = load_module(path)
    except (Exception, SystemExit) as error:
        line = _line_in(error, path)
        raise BadInput(
            "dl-981",
            asked=f"the {what} {where}",
            found=f"{type(error).__name__} in {path}{line}: {error}",
            do=f"make `python {path}` run",
        ) from error
    every = {key: value for key, value in vars(module).items() if isinstance(value, kind)}
    every = {key: value for key, value in every.items() if not isinstance(value, type)}
    if name not in every:
        raise BadInput(
            "dl-982",
            asked=f"the {what} {name} of {path}",
            found=f"{what}s {', '.join(every)}" if every else f"no {what} at all",
            do=f"write {quoted(f'{path}:{next(iter(every))}')}" if every else f"add `{name} = {how}` to it",
        )
    return every[name]


def _line_in(error: BaseException, path: Path) -> str:
    """The line of the file where an error came from, in words."""
    trace, line = error.__traceback__, ""
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path.resolve():
            line = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return line
