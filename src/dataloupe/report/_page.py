"""The page: parts in, one HTML file out."""

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from dataloupe._atomic import replacing
from dataloupe._errors import StoreError
from dataloupe._identity import NUMERICS
from dataloupe._typing import Ids
from dataloupe.apps import WhatIf
from dataloupe.core import Attribution, Outcomes, checked
from dataloupe.judge import LDS, Calibration, RemovalTest
from dataloupe.report._answers import answer_sentence, answer_views
from dataloupe.report._cards import check_targets, choose_targets, target_cards
from dataloupe.report._judged import plots, rank_chart, removal_views
from dataloupe.report._origin import origins
from dataloupe.report._parts import Parts, Use, judged, sort_parts
from dataloupe.report._receipt import receipt_counts
from dataloupe.report._uses import panels, use_sentence
from dataloupe.report._words import between, capital, count, fixed, joined, quoted
from dataloupe.unlearning import Receipt

READING = {
    "output": "Scores are in the output's own units: a score is a change of the output.",
    "relative": "Scores are in relative units: only their order and proportion within one target mean something, "
    "until they are calibrated.",
}

Part = Attribution | Outcomes | LDS | Calibration | RemovalTest | WhatIf | Use


@checked("dl-955")
def report(
    path: str | os.PathLike[str],
    *parts: Part,
    title: str | None = None,
    targets: Ids | None = None,
    top: int = 8,
    date: str | None = None,
) -> Path:
    """Write attributions, outcomes, judgements, answers and findings as one HTML file that opens anywhere, offline.

    With :class:`Outcomes` among the parts, the LDS and the calibration of every attribution are computed;
    attributions whose ``info.role`` is "control" are its controls. ``targets`` chooses the target rows to show
    (default: a cross-section from the best to the least predicted), ``top`` how many helping and hurting
    examples each. The bytes depend on the arguments only; ``date`` is printed as it is given. The file appears
    whole or not at all. Returns its path.

    Raises ``BadInput`` dl-950 (no parts), dl-951 (an unknown part), dl-952 (an attribution without examples),
    dl-953 (parts of different sizes), dl-512 and dl-513 (of different questions), dl-954 (images that cannot be shown), dl-955 (``top`` or ``targets``
    that cannot be meant), dl-108 to dl-111 (target rows); ``StoreError`` dl-956 (the file cannot be written).

    >>> import tempfile, torch
    >>> import numpy as np
    >>> from dataloupe.core import DenseAttribution, Examples, Info
    >>> data = Examples(torch.eye(3), labels=torch.tensor([0, 1, 0]), texts=["a fox", "an owl", "a hare"])
    >>> scores = DenseAttribution(np.eye(3) - 0.5, Info("by hand"), train=data, targets=data)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = report(folder + "/page.html", scores, top=1)
    ...     path.name, "an owl" in path.read_text()
    ('page.html', True)
    """
    path = _writable(Path(path))
    sorted_parts = sort_parts(parts)
    chosen = check_targets(sorted_parts, targets, top)
    html = render(judged(sorted_parts), title=title, targets=chosen, top=top, date=date)
    _write(path, html.encode())
    return path


def render(parts: Parts, *, title: str | None, targets: list[int] | None, top: int, date: str | None) -> str:
    """The page as text; everything that comes from data is escaped."""
    rows, why = choose_targets(parts, targets)
    main = parts.main
    context: Mapping[str, Any] = {
        "title": title or "What the training data did",
        "date": date,
        "summary": _summary(parts),
        "counts": _counts(parts),
        "units": "" if main is None else READING[main.attribution.units],
        "named": f" (here: the {main.attribution.info.output})"
        if main and main.attribution.info.output
        else "",
        "better": main.attribution.info.better if main else None,
        "why": why,
        "cards": target_cards(parts, rows, top),
        "answers": answer_views(parts.answers, main),
        "panels": panels(parts.uses, main),
        "receipts": any(isinstance(use, Receipt) for use in parts.uses),
        "scores": not all(isinstance(use, Receipt) for use in parts.uses) or _scored(parts),
        "ranks": rank_chart(parts.ranks),
        "plots": plots(parts.ranks, parts.calibrations),
        "removals": removal_views(parts.removals),
        "origins": origins(parts),
        "numerics": NUMERICS,
    }
    files = resources.files("dataloupe.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = Markup(files.joinpath("page.css").read_text(encoding="utf-8"))
    template = environment.from_string(files.joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(context, style=style)


def _summary(parts: Parts) -> str:
    """What was found, in one plain sentence."""
    found = []
    best = max(parts.ranks, key=lambda rank: rank.value, default=None)
    if best is not None:
        limit = (
            "" if best.ceiling is None else f", where retraining noise lets nobody pass {fixed(best.ceiling)}"
        )
        found.append(
            f"over {count(best.subsets, 'retraining subset')}, {quoted(best.method)} orders the measured outputs of "
            f"{count(best.targets, 'target')} with a rank correlation of {fixed(best.value)} "
            f"{between(best.interval)}{limit}"
        )
    for answer in parts.answers[:1]:
        gone = count(len(answer.removed), "training example")
        found.append(f"{answer_sentence(answer, gone)} ({answer.verdict})")
    if not found:
        found += [use_sentence(use) for use in parts.uses[:1]]
    if not found and parts.every:
        names = joined(quoted(method.name) for method in parts.every)
        found.append(f"scores of the training data by {names}, not yet judged by any retraining")
    if not found:
        found.append("judgements of attributions, shown without the examples they speak of")
    return capital("; ".join(found))


def _scored(parts: Parts) -> bool:
    """Whether the page speaks of scores at all."""
    return bool(parts.every or parts.ranks or parts.calibrations or parts.removals or parts.answers)


def _counts(parts: Parts) -> list[tuple[str, str]]:
    """The few numbers that stand under the title."""
    main, outcomes = parts.main, parts.outcomes
    found = []
    if main is not None:
        found += [(f"{main.n:,}", "training examples"), (f"{main.m:,}", "target rows")]
        found.append((str(len(parts.methods)), "method" if len(parts.methods) == 1 else "methods"))
    if main is None and parts.uses and isinstance(parts.uses[0], Receipt):
        found += receipt_counts(parts.uses[0])
    if outcomes is not None:
        found.append((f"{outcomes.subsets.count * outcomes.repeats:,}", "fresh retrainings"))
    return found


def _writable(path: Path) -> Path:
    """The path, if a file can stand there (dl-956): asked before any work."""
    if path.is_dir() or not path.parent.is_dir():
        found = "a folder of that name" if path.is_dir() else f"no folder {path.parent}"
        raise StoreError(
            "dl-956", asked=f"a report at {path}", found=found, do="name a file in a folder that exists"
        )
    return path


def _write(path: Path, content: bytes) -> None:
    """Publish the file whole or not at all (dl-956)."""
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise StoreError(
            "dl-956",
            asked=f"a report of {len(content):,} bytes at {path}",
            found=str(error),
            do="free some space, or name a place that can be written",
        ) from error
