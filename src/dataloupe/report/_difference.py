"""How two learning algorithms differ: the directions above chance, who stands at their ends, what that has in common."""

from collections.abc import Iterator

import numpy as np

from dataloupe._typing import Array
from dataloupe.apps import Difference, Directions, Enrichment
from dataloupe.report._charts import overlaid
from dataloupe.report._judged import Plot, Verdict
from dataloupe.report._log_charts import Dot, log_scatter
from dataloupe.report._panel import Ends, Gallery, Panel, example_of, target_of
from dataloupe.report._parts import Method
from dataloupe.report._words import capital, count, fixed, in_scale, quoted

SHOWN = 4
"""Directions of each side whose ends are shown; the rest is counted."""
WIDE, NARROW, WORDS = 13, 6, 4
"""Pictures over the whole width and over half of it; texts and table rows at an end."""
LINES = 4
"""Over-represented values of one end; the rest is counted."""


def difference_sentence(found: Difference) -> str:
    """A difference in one clause: how alike the rows are, and what stands out."""
    a, b = map(quoted, found.names)
    alike = f"the score rows of {a} and {b} have a mean cosine of {fixed(float(np.mean(found.cosine)))}"
    if found.denoised_mean is not None:
        alike += f" ({fixed(found.denoised_mean)} without noise)"
    if found.chance is None:
        return f"{alike}; nothing was held against chance"
    told = [_told(side) for side in found.sides if side.kept is not None and side.kept.any()]
    return f"{alike}; {' and '.join(told) if told else 'no direction is above chance'}"


def difference_panel(found: Difference, enriched: Enrichment | None, main: Method | None) -> Panel:
    """The answer, both variances of every direction, cosines, and the ends of the directions above chance."""
    shown = [pair for side in found.sides for pair in _of(found, side)[:SHOWN]]
    left = len(found.found) - len(shown)
    a, b = map(quoted, found.names)
    return Panel(
        f"What do {a} and {b} do differently with the same data?",
        capital(difference_sentence(found)),
        _verdict(found),
        plots=(_variances(found), _cosines(found)),
        ends=tuple(_ends(found, side, c, enriched, main) for side, c in shown),
        rest=f"{count(left, 'more direction')} above chance not shown." if left > 0 else "",
        notes=(*found.notes, *(() if enriched is None else enriched.notes)),
    )


def _verdict(found: Difference) -> Verdict:
    """Whether any direction is above what chance gives."""
    if found.chance is None:
        sentence = "no direction was held against what one algorithm differs from itself by"
        return Verdict("unverified", sentence)
    law = f"the largest that {found.chance.deals} deals of the same models give, at {found.chance.level:g}"
    if not found.found and found.chance.apart <= 1 - found.chance.level + 1e-12:
        words = f"rows are less alike than those of deals (p {found.chance.apart:.2g}), but no direction is above {law}"
        return Verdict("different", words, "agree")
    if not found.found:
        return Verdict("no difference found", f"no direction is above {law}", "undecided")
    several = len(found.found) > 1
    return Verdict(
        "different",
        f"{count(len(found.found), 'direction')} {'are' if several else 'is'} above {law}",
        "agree",
    )


def _told(side: Directions) -> str:
    number = 0 if side.kept is None else int(side.kept.sum())
    ratios = side.ratio[side.kept]
    most = "without bound" if np.isinf(ratios).any() else f"up to {_times(float(ratios.max()))}"
    return (
        f"{count(number, 'direction')} of training rows {'moves' if number == 1 else 'move'} {quoted(side.of)} "
        f"more than {quoted(side.against)} ({most} in variance)"
    )


def _times(ratio: float) -> str:
    return f"{ratio:.2g} times" if ratio < 100 else f"{ratio:,.0f} times"


def _of(found: Difference, side: Directions) -> list[tuple[Directions, int]]:
    return [pair for pair in found.found if pair[0] is side]


def _variances(found: Difference) -> Plot:
    """Every direction of both sides: its variance under the first algorithm against that under the second."""
    dots = []
    for i, side in enumerate(found.sides):
        for c, pair in enumerate(zip(side.own.tolist(), side.other.tolist(), strict=True)):
            x, y = pair if i == 0 else pair[::-1]
            kept = side.kept is not None and bool(side.kept[c])
            tone = ("accent", "warm")[i] if kept else "quiet"
            dots.append(Dot(100 * float(x), 100 * float(y), tone, str(c) if kept else ""))
    a, b = found.names
    drawing = log_scatter(dots, names=(f"variance under {a}, %", f"variance under {b}, %"))
    words = (
        f"In colour, with their numbers, those above chance: of {a} below the line, of {b} above it"
        if found.found
        else "None stands out from chance"
        if found.chance is not None
        else "None was held against chance"
    )
    sentence = f"The variance along every direction of score rows of length 1, in percent of that length squared; equal on the dashed line. {words}."
    return Plot(found.by, "Both algorithms along every direction", drawing, sentence)


def _cosines(found: Difference) -> Plot:
    """How alike the two score rows of every target are, raw and without noise."""
    raw = np.asarray(found.cosine, dtype=np.float64)
    denoised = (
        None if found.denoised is None else found.denoised[np.isfinite(found.denoised)].astype(np.float64)
    )
    sentence = f"Of {count(len(raw), 'target')}; their mean is {fixed(float(raw.mean()))} (dashed line)"
    if denoised is not None and len(denoised):
        sentence += (
            f". Filled: as measured; outlined: with the noise of finitely many models taken out, "
            f"mean {fixed(float(denoised.mean()))}"
        )
    drawing = overlaid(
        raw,
        denoised if denoised is not None and len(denoised) else None,
        "cosine of a target's two score rows",
    )
    return Plot("every target", "How alike the scores are", drawing, f"{sentence}.")


def _ends(
    found: Difference, side: Directions, component: int, enriched: Enrichment | None, main: Method | None
) -> Ends:
    number = found.sides.index(side)
    variances = (float(side.own[component]), float(side.other[component]))
    scale = max(variances)
    ratio = float(side.ratio[component])
    facts = [
        (f"variance under {side.of}", in_scale(variances[0], scale)),
        (f"under {side.against}", in_scale(variances[1], scale)),
        ("ratio", f"{ratio:.3g}" if np.isfinite(ratio) else "no bound"),
    ]
    if side.p is not None and side.ratio_p is not None and side.stability is not None:
        facts.append(("p", f"{side.p[component]:.2g}, of the ratio {side.ratio_p[component]:.2g}"))
        facts.append(("stability", fixed(float(side.stability[component]))))
    lines = () if enriched is None else enriched.of(number, component)
    galleries = []
    for of, end, title, ids in _places(side, component, main):
        own = [str(line).partition(": ")[2] for line in lines if (line.of, line.end) == (of, end)]
        if len(own) > LINES:
            own = [*own[:LINES], f"and {count(len(own) - LINES, 'more value')}"]
        picture_of = target_of if of == "targets" else example_of
        kind = "target example" if of == "targets" else "training example"
        galleries.append(Gallery(title, kind, tuple(picture_of(main, i) for i in ids.tolist()), tuple(own)))
    return Ends(f"Direction {component} of {side.of}", tuple(facts), tuple(galleries))


def _places(side: Directions, component: int, main: Method | None) -> Iterator[tuple[str, str, str, Array]]:
    """Every end with who stands there, outermost first."""
    words = main is not None and main.train.images is None
    m, n = len(side.coordinates), side.vectors.shape[1]
    wide = min(WORDS if words else WIDE, m)
    k, rows = (min(WORDS if words else NARROW, size // 2) for size in (m, n))
    yield "targets", "most", "Targets that it moves most, either way", side.most(component, wide)
    for end, ids in zip(("top", "bottom"), side.targets(component, k), strict=True):
        yield "targets", end, f"Targets at the {end}", ids
    for end, ids in zip(("top", "bottom"), side.rows(component, rows), strict=True):
        yield "rows", end, f"Training rows at the {end}", ids
