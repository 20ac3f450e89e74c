"""How a difference looks in a terminal: its directions, what stands at their ends, and what that has in common."""

from collections.abc import Iterator

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text as Line

from dataloupe._typing import Array
from dataloupe.apps import Difference, Directions, Enriched, Enrichment
from dataloupe.cli._base import Out
from dataloupe.cli._show import label_of, picture_of
from dataloupe.core import Examples

SHOWN = 8
"""Targets and rows at an end."""
DETAILED = 2
"""Directions of each side whose ends are shown, where nobody says."""
LONG = 12
"""Letters of a name that a column has room for."""
LINES = 4
"""Over-represented values of an end that are said; the rest is counted."""


def say(
    out: Out,
    found: Enrichment,
    looks: tuple[Examples | None, Examples | None],
    index: Array | None = None,
    show: int = DETAILED,
) -> None:
    """The answer, the directions of both sides, and the ends of the first ``show`` of each above chance.

    ``looks``: how training rows and targets look; ``index``: the example of every target row.
    """
    difference = found.difference
    out.say(f"[bold]{escape(str(difference))}[/]")
    out.say("", directions_table(difference))
    out.say(f"[dim]{escape(_legend(difference))}[/]")
    told = [found for one in difference.sides for found in _of(difference, one)[:show]]
    for side, component in told:
        number = difference.sides.index(side)
        out.say("")
        out.say(f"[bold]direction {component} of {escape(side.of)}[/]")
        lines = found.of(number, component)
        for part in _ends(side, component, lines, looks, index, pictures=out.pictures):
            out.say(part)
    left = len(difference.found) - len(told)
    if left:
        most = max(len(_of(difference, side)) for side in difference.sides)
        out.say("")
        out.say(f"[dim]{left} more above chance: --show {most} shows the ends of all[/]")
    for note in (*difference.notes, *found.notes):
        out.say(f"  [yellow]note[/] {escape(note)}")


def _of(difference: Difference, side: Directions) -> list[tuple[Directions, int]]:
    """The directions of one side above chance."""
    return [found for found in difference.found if found[0] is side]


def directions_table(difference: Difference) -> Table:
    """One line a direction, the first side's before the second's."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    a, b = short = _short(difference)
    told = difference.chance is not None
    columns = ("direction", "value", f"in {a}", f"in {b}", "ratio")
    for column in (*columns, *(("p", "ratio p", "stable", "kept") if told else ())):
        table.add_column(Line(column), justify="left" if column == "kept" else "right")
    for i, side in enumerate(difference.sides):
        for c, value in enumerate(side.values.tolist()):
            variances = (side.own[c], side.other[c])
            kept = side.kept is not None and bool(side.kept[c])
            style = "" if kept or not told else "dim"
            cells = [f"{short[i]} {c}", f"{value:.3g}"]
            cells += [f"{v:.2g}" for v in (variances if i == 0 else reversed(variances))]
            cells += [f"{side.ratio[c]:.1f}", *_judged(side, c)]
            table.add_row(
                *(Line(cell, style) for cell in cells),
                *([Line("yes" if kept else "", "bold green")] if told else []),
            )
    return table


def _short(difference: Difference) -> tuple[str, str]:
    """The names, or A and B where they are too long for a table."""
    return difference.names if max(map(len, difference.names)) <= LONG else ("A", "B")


def _judged(side: Directions, c: int) -> list[str]:
    if side.p is None or side.ratio_p is None or side.stability is None:
        return []
    return [f"{side.p[c]:.2g}", f"{side.ratio_p[c]:.2g}", f"{side.stability[c]:.2f}"]


def _legend(difference: Difference) -> str:
    """What the columns are, and what the null was."""
    a, b = _short(difference)
    chance = difference.chance
    said = "" if (a, b) == difference.names else "A: {}, B: {}; ".format(*difference.names)
    said += f"in {a}, in {b}: the variance of score rows of length 1 along the direction"
    if chance is None:
        return said
    ratio = "without bound" if chance.ratio is None else f"{chance.ratio:.2f}"
    dealt = "in pairs of one subset" if chance.paired else "freely"
    return (
        f"{said}; stable: |cosine| of the direction from two halves of the models; p: against the largest value that "
        f"{chance.deals} deals of the models of {a} and {b} give, {chance.models} to either side, {dealt} "
        f"({chance.value:.3g} at {chance.level:g}); ratio p: against the ratio of that direction ({ratio}); "
        "kept: p at the level, and twice the variance"
    )


def _ends(
    side: Directions,
    component: int,
    lines: tuple[Enriched, ...],
    looks: tuple[Examples | None, Examples | None],
    index: Array | None,
    *,
    pictures: bool,
) -> Iterator[Group | Table | str]:
    """Every end: who stands there, and what they have in common."""
    train, targets = looks
    k, rows = min(SHOWN, len(side.coordinates) // 2), min(SHOWN, side.vectors.shape[1] // 2)
    top, bottom = side.targets(component, k)
    above, below = side.rows(component, rows)
    ends = (
        ("targets", "most", "targets of largest size", side.most(component, k), targets),
        ("targets", "top", "targets at the top", top, targets),
        ("targets", "bottom", "targets at the bottom", bottom, targets),
        ("rows", "top", "training rows at the top", above, train),
        ("rows", "bottom", "training rows at the bottom", below, train),
    )
    for of, end, words, ids, data in ends:
        examples = ids if of == "rows" or index is None else index[ids, 0]
        yield f"  [bold]{words}[/]"
        yield _gallery(data, ids, examples, pictures=pictures)
        own = [line for line in lines if (line.of, line.end) == (of, end)]
        for line in own[:LINES]:
            yield f"    [green]{escape(_in_common(line))}[/]"
        if len(own) > LINES:
            yield f"    [dim]and {len(own) - LINES} more values (--json tells all)[/]"


def _in_common(line: Enriched) -> str:
    """One line without its place, which stands above it."""
    return str(line).partition(": ")[2]


def _gallery(data: Examples | None, ids: Array, examples: Array, *, pictures: bool) -> Table | Group:
    """Numbers and labels, with pictures above them; texts one below the other."""
    if data is not None and data.images is None and (data.texts is not None or data.meta):
        told = zip(ids.tolist(), examples.tolist(), strict=True)
        return Group(*[Line(f"    {row}  {label_of(data, example)}") for row, example in told])
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(len(ids) + 1):
        grid.add_column(justify="left")
    cells = [Line(f"{row}", "dim") for row in ids.tolist()]
    labels = [Line("" if data is None else data.label_name(int(i)), "bold") for i in examples]
    if pictures and data is not None and data.images is not None:
        grid.add_row(Line("   "), *(picture_of(data, int(i)) for i in examples))
    grid.add_row(
        Line("   "), *(Line.assemble(label, " ", cell) for label, cell in zip(labels, cells, strict=True))
    )
    return grid
