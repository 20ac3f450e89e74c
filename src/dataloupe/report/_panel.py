"""What a panel of the page is made of, and the pictures that stand on it."""

import dataclasses

from dataloupe.report._cards import Picture, Scored, picture
from dataloupe.report._judged import Chart, Plot, Verdict
from dataloupe.report._parts import Method


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Examples that stand together, and what they have in common."""

    title: str
    kind: str
    pictures: tuple[Picture, ...]
    lines: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Ends:
    """One direction: what is known of it, and who stands at its ends."""

    title: str
    facts: tuple[tuple[str, str], ...]
    galleries: tuple[Gallery, ...]
    steps: int = 0
    """Of galleries that are read column by column, how many columns they have."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A target, the training examples that belong to it, and what is known of them."""

    target: int
    face: Picture
    examples: tuple[Picture, ...]
    rest: str
    facts: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table: its cells, an example that may stand before them, and how it is drawn."""

    cells: tuple[str, ...]
    picture: Picture | None = None
    tone: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Numbers side by side; the first ``words`` columns are words."""

    title: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    words: int = 1
    sentence: str = ""


@dataclasses.dataclass(frozen=True)
class Panel:
    """One use as it stands on the page."""

    title: str
    sentence: str
    verdict: Verdict | None = None
    plots: tuple[Plot, ...] = ()
    charts: tuple[tuple[str, Chart], ...] = ()
    entries: tuple[Entry, ...] = ()
    pairs: bool = False
    cards: tuple[Scored, ...] = ()
    ends: tuple[Ends, ...] = ()
    tables: tuple[Table, ...] = ()
    rest: str = ""
    notes: tuple[str, ...] = ()


def target_of(main: Method | None, row: int) -> Picture:
    """The example of a target row as a picture, or its number alone."""
    if main is None:
        return Picture(row, "")
    return picture(main.targets, row if main.index is None else int(main.index[row][0]), "target", 220)


def example_of(main: Method | None, row: int) -> Picture:
    """A training example as a picture, or its number alone."""
    return Picture(row, "") if main is None else picture(main.train, row, "training example", 120)
