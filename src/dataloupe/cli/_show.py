"""``show``: what is in a lab, and who helps and hurts a target, in the terminal."""

import dataclasses
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Group
from rich.markup import escape
from rich.style import Style
from rich.table import Table
from rich.text import Text as Line

from dataloupe._typing import Array
from dataloupe.cli._attribute import facts_of
from dataloupe.cli._base import MaybeNumber, Number, Out, Place, Result, Text, Verb, quoted
from dataloupe.cli._folder import attributions, one
from dataloupe.cli._uses import kept
from dataloupe.core import DenseAttribution, Examples, Sign, raises_output, sign_words
from dataloupe.lab import Lab

PIXELS = 14
"""A picture in the terminal is at most so wide."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Show(Verb):
    """Show what a lab holds; with a target, the examples that help and hurt it most.

    dataloupe show runs/fashion --target 7 --top 8
    """

    lab: Annotated[Place, tyro.conf.Positional]
    """the folder or URL"""
    target: MaybeNumber = None
    """the target row"""
    top: Number = 5
    """how many examples of each kind"""
    only: Text = ""
    """the attribution whose method's name begins so"""

    def run(self, out: Out) -> Result:
        """Read, never write."""
        lab = Lab(self.lab)
        found = attributions(lab, only=self.only)
        if self.target is None:
            out.say(contents(found))
            if answers := kept(lab):
                told = ", ".join(f"{number} {name}" for name, number in answers.items())
                out.say(f"  answers that `report` shows: {told}")
            out.say(
                f"  one target: [bold]{escape(quoted('dataloupe', 'show', self.lab, '--target', '0'))}[/]"
            )
            return Result(
                {"attributions": [facts_of(attribution) for attribution in found], "answers": answers}
            )
        attribution = one(found)
        facts = top_facts(attribution, self.target, self.top)
        out.say(top_tables(attribution, self.target, self.top, pictures=out.pictures))
        return Result({"target": self.target, **facts})


def contents(found: list[DenseAttribution]) -> Table:
    """The attributions of a lab."""
    table = Table(box=None, title="Attributions", title_justify="left")
    for column in ("method", "targets x examples", "units", "models saw", "seconds"):
        table.add_column(column, justify="left" if column in ("method", "units") else "right")
    for attribution in found:
        info = attribution.info
        table.add_row(
            f"[bold]{info.method}[/]",
            f"{attribution.m:,} x {attribution.n:,}",
            attribution.units,
            "?" if info.fraction is None else f"{info.fraction:.0%}",
            f"{info.cost.get('seconds', 0):.1f}",
        )
    return table


def top_facts(attribution: DenseAttribution, target: int, k: int) -> dict[str, Any]:
    """Who helps and hurts (of an output of no direction: who raises and lowers it), as JSON."""
    scores = attribution.rows([target])[0]
    facts: dict[str, Any] = {"method": attribution.info.method, "units": attribution.units}
    for sign in sign_words(attribution.info.better):
        facts[sign] = [
            {"row": row, "score": float(scores[row]), "label": label_of(attribution.train, row)}
            for row in _strongest(attribution, target, k, sign)
        ]
    return facts


def top_tables(attribution: DenseAttribution, target: int, k: int, *, pictures: bool) -> Group:
    """The target, then its helping and hurting examples side by side."""
    units = "" if attribution.units == "output" else ", relative units"
    example = int(attribution.index[target, 0]) if attribution.index is not None else target
    head = Line(f"target {target}", style="bold") + Line(f"  {label_of(attribution.targets, example)}")
    picture = picture_of(attribution.targets, example) if pictures else None
    sides = Table.grid(padding=(0, 6))
    sides.add_row(
        *(_side(attribution, target, k, word, pictures) for word in sign_words(attribution.info.better))
    )
    words = Line(f"{attribution.info.method}{units}. {meaning(attribution)}", "dim")
    return Group(*[part for part in (head, picture, Line(), sides, words) if part is not None])


def meaning(attribution: DenseAttribution) -> str:
    """What the words over the two sides mean of this output."""
    output = attribution.info.output or "output"
    if attribution.info.better is None:
        return f"raises: having it raises the {output}; lowers: lowers it"
    ways = ("lowers", "raises") if attribution.info.better == "lower" else ("raises", "lowers")
    return f"helps: having it {ways[0]} the {output}; hurts: {ways[1]} it"


def _strongest(attribution: DenseAttribution, target: int, k: int, sign: Sign) -> list[int]:
    """The k rows that do most of what the word says; those that do the opposite, or nothing, left out."""
    scores = attribution.rows([target])[0]
    turn = 1 if raises_output(sign, attribution.info.better) else -1
    return [row for row in attribution.top(target, k, sign=sign).tolist() if turn * scores[row] > 0]


def _side(attribution: DenseAttribution, target: int, k: int, sign: Sign, pictures: bool) -> Table:
    colour = "cyan" if sign in ("helps", "raises") else "dark_orange"
    scores = attribution.rows([target])[0]
    data = attribution.train
    table = Table(box=None, header_style=f"bold {colour}", padding=(0, 2, 0, 0))
    shown = pictures and data is not None and data.images is not None
    for column in (sign, "label", "score", *([""] if shown else [])):
        table.add_column(column, justify="right" if column == "score" else "left", vertical="middle")
    for row in _strongest(attribution, target, k, sign):
        cells: list[Any] = [str(row), Line(label_of(data, row)), f"{scores[row]:+.3g}"]
        table.add_row(*cells, *([picture_of(data, row)] if shown else []))
    if not table.row_count:
        table.add_row("none")
    return table


def label_of(data: Examples | None, row: int) -> str:
    if data is None:
        return ""
    card = data.show(row)
    text = f"  {card.text[:60]}" if card.text else ""
    return f"{card.title}{text}"


def picture_of(data: Examples | None, row: int) -> Line | None:
    """An image in half blocks: two pixels a character."""
    image = data.show(row).image if data is not None else None
    if image is None:
        return None
    pixels = _small(image)
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        line = Line()
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            line.append("▀", Style(color=_colour(above), bgcolor=_colour(below)))
        lines.append(line)
    return Line("\n").join(lines)


def _small(image: Array) -> Array:
    """At most PIXELS wide and an even number of rows, ``[h, w, 3]``, by averaging blocks."""
    rgb = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    step = max(1, -(-rgb.shape[1] // PIXELS))
    h, w = rgb.shape[0] // (2 * step) * 2 * step, rgb.shape[1] // step * step
    blocks = rgb[:h, :w].reshape(h // step, step, w // step, step, 3)
    return blocks.mean(axis=(1, 3)).astype(np.uint8)


def _colour(pixel: list[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*pixel)
