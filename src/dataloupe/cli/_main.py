"""Words in, exit code out: 0 done, 1 a judged claim failed, 2 bad use, 70 a defect of ours, 130 interrupted."""

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import tyro
from rich.console import Console

from dataloupe._errors import BadInput, DataloupeError
from dataloupe.cli._attribute import Attribute
from dataloupe.cli._base import Out, Verb
from dataloupe.cli._demo import Demo
from dataloupe.cli._diff import Diff
from dataloupe.cli._doctor import Doctor
from dataloupe.cli._export import Export
from dataloupe.cli._forget import Forget
from dataloupe.cli._groups import Groups
from dataloupe.cli._journey import Journey
from dataloupe.cli._judge import Judge
from dataloupe.cli._leaks import Leaks
from dataloupe.cli._mislabels import Mislabels
from dataloupe.cli._plan import Plan
from dataloupe.cli._predict import Predict
from dataloupe.cli._report import Report
from dataloupe.cli._show import Show
from dataloupe.cli._space import Space
from dataloupe.cli._support import Support
from dataloupe.cli._unlearn import Unlearn
from dataloupe.cli._what_if import WhatIf

MEMORY_ADVICE = "ask for fewer subsets or targets, or use a machine with more memory; finished units are kept"
EXIT_ADVICE = "raise an exception where training cannot go on; finished units are kept"
DONE, CLAIM_FAILED, BAD_USE, DEFECT, INTERRUPTED = 0, 1, 2, 70, 130

Verbs = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Attribute, tyro.conf.subcommand("attribute")]
    | Annotated[Judge, tyro.conf.subcommand("judge")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[WhatIf, tyro.conf.subcommand("what-if")]
    | Annotated[Support, tyro.conf.subcommand("support")]
    | Annotated[Groups, tyro.conf.subcommand("groups")]
    | Annotated[Leaks, tyro.conf.subcommand("leaks")]
    | Annotated[Mislabels, tyro.conf.subcommand("mislabels")]
    | Annotated[Space, tyro.conf.subcommand("space")]
    | Annotated[Journey, tyro.conf.subcommand("journey")]
    | Annotated[Diff, tyro.conf.subcommand("diff")]
    | Annotated[Forget, tyro.conf.subcommand("forget")]
    | Annotated[Unlearn, tyro.conf.subcommand("unlearn")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Plan, tyro.conf.subcommand("plan")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)
"""A new verb is one file and one line here."""
ABOUT = "Ask a training run a what-if question about its data: predicted, then verified by retraining."


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.SuppressFixed)
    verb = tyro.cli(Verbs, prog="dataloupe", description=ABOUT, args=words, config=config)
    sys.exit(carry_out(verb.verb if isinstance(verb, Diff | Forget | Unlearn) else verb))


def carry_out(verb: Verb) -> int:
    """The exit code of a verb; errors become a message on stderr and, under ``--json``, an object on stdout."""
    out = Out(as_json=verb.json)
    try:
        result = verb.run(out)
    except DataloupeError as error:
        return refuse(out, error)
    except SystemExit as error:
        found = f"sys.exit({error.code!r}) in code of the question: a learner, an output or a file that it imports"
        return refuse(
            out, BadInput("dl-976", asked="a verb that ends by itself", found=found, do=EXIT_ADVICE)
        )
    except MemoryError as error:
        found = f"more memory than there is ({error})"
        return refuse(out, BadInput("dl-977", asked="to hold the results", found=found, do=MEMORY_ADVICE))
    except Exception as error:
        traceback.print_exc()
        complain(
            "defect", "this is dataloupe's fault or a learner's, not your command's; finished units are kept"
        )
        out.give({"error": {"code": "defect", "found": f"{type(error).__name__}: {error}"}})
        return DEFECT
    except KeyboardInterrupt:
        complain("stopped", "every finished unit is kept; the same command goes on from there")
        out.give({"error": {"code": "interrupted"}})
        return INTERRUPTED
    out.give(result.facts)
    return CLAIM_FAILED if result.failed else DONE


def refuse(out: Out, error: DataloupeError) -> int:
    """Say an error to people and to programs."""
    complain("asked", error.asked, "found", error.found, "do", error.do, code=error.code)
    for note in getattr(error, "__notes__", []):
        complain("", note)
    parts = {"code": error.code, "asked": error.asked, "found": error.found, "do": error.do}
    out.give({"error": parts})
    return BAD_USE


def complain(*words: str, code: str = "") -> None:
    """Pairs of a word and a sentence, on stderr."""
    console = Console(stderr=True, highlight=False)
    if code:
        console.print(f"[bold red]error[/] [dim]{code}[/]")
    for word, sentence in zip(words[::2], words[1::2], strict=True):
        console.print(f"[bold]{word:>7}[/]  ", end="")
        console.print(sentence, markup=False, soft_wrap=True)
