"""Small drawings as inline SVG, coloured by the page's own variables.

Strips (one horizontal axis, full width) are laid out in percent, so that they bend to any width while lines
and text keep their size; plots (two axes) have a view box about as wide as a phone.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup

from dataloupe.report._words import fixed, in_scale

Interval = tuple[float, float]

WIDTH, HEIGHT = 400, 290
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 42
STRIP = 42
"""Pixels: the height of a strip."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """A range of numbers laid out from 0 to 1."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float], *, room: float = 0.06) -> "Scale":
        """The range that holds the values, with some room on both sides; never empty."""
        known = [float(v) for v in values]
        low, high = min(known), max(known)
        extra = room * (high - low) or 0.5 * abs(high) or 1.0
        return cls(low - extra, high + extra)

    def at(self, value: float) -> float:
        """Where a value stands, 0 to 1 inside the range."""
        return (value - self.low) / (self.high - self.low)

    def percent(self, value: float) -> str:
        """Where a value stands, for an attribute of SVG."""
        return f"{100 * self.at(value):.2f}%"

    def ticks(self, most: int = 5) -> list[float]:
        """At most so many round numbers inside the range: steps of 1, 2 or 5 times a power of ten."""
        low, high = sorted((self.low, self.high))
        raw = (high - low) / most
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * (1 - 1e-9))
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]

    def label(self, tick: float) -> str:
        """A tick in words, with as many digits as the step between ticks asks for."""
        ticks = self.ticks()
        step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(tick)
        if step and 1e-4 <= step < 1e6:
            return fixed(tick, max(0, -math.floor(math.log10(step) + 1e-9)))
        return in_scale(tick, max(map(abs, ticks)), 2)


@dataclasses.dataclass(frozen=True)
class Strip:
    """What one strip shows: a value with its interval, dots behind it, a reference line with its band."""

    scale: Scale
    value: float | None = None
    interval: Interval | None = None
    tone: str = "accent"
    bar: bool = False
    dots: tuple[float, ...] = ()
    line: float | None = None
    band: Interval | None = None


def strip(mark: Strip) -> Markup:
    """One strip, ``STRIP`` pixels high and as wide as its place."""
    at, middle = mark.scale.percent, STRIP / 2
    parts = []
    if mark.band is not None:
        parts.append(_bar(mark.scale, mark.band, 0.0, float(STRIP), "band"))
    if mark.scale.low <= 0 <= mark.scale.high:
        parts.append(f'<line class="zero" x1="{at(0.0)}" x2="{at(0.0)}" y1="0" y2="{STRIP}"/>')
    if mark.bar and mark.value is not None:
        parts.append(_bar(mark.scale, (0.0, mark.value), middle - 6, 12.0, f"bar {mark.tone}"))
    if mark.line is not None:
        parts.append(f'<line class="ceiling" x1="{at(mark.line)}" x2="{at(mark.line)}" y1="0" y2="{STRIP}"/>')
    for i, dot in enumerate(mark.dots):
        parts.append(
            f'<circle class="dot {mark.tone}" cx="{at(dot)}" cy="{middle + (-7, 7)[i % 2]:g}" r="2.5"/>'
        )
    if mark.interval is not None:
        low, high = at(mark.interval[0]), at(mark.interval[1])
        parts.append(
            f'<line class="span {mark.tone}" x1="{low}" x2="{high}" y1="{middle:g}" y2="{middle:g}"/>'
        )
    if mark.value is not None:
        parts.append(f'<circle class="point {mark.tone}" cx="{at(mark.value)}" cy="{middle:g}" r="4.5"/>')
    return _svg(parts, f'class="strip" width="100%" height="{STRIP}"')


def axis(scale: Scale) -> Markup:
    """The ticks below a stack of strips."""
    parts = []
    for tick in scale.ticks():
        place = scale.at(tick)
        anchor = "start" if place < 0.04 else "end" if place > 0.96 else "middle"
        x = scale.percent(tick)
        parts.append(f'<line class="tick" x1="{x}" x2="{x}" y1="0" y2="5"/>')
        parts.append(f'<text x="{x}" y="19" text-anchor="{anchor}">{scale.label(tick)}</text>')
    return _svg(parts, 'class="strip axis" width="100%" height="24"')


def meter(value: float, half_width: float | None, largest: float, tone: str) -> Markup:
    """A score's size beside the largest one, with its interval as a whisker: a bar of 10 pixels."""
    scale, size = Scale(0.0, largest or 1.0), abs(value)
    parts = [_bar(scale, (0.0, size), 3.0, 4.0, f"fill {tone}")]
    if half_width is not None:
        low, high = scale.percent(max(size - half_width, 0.0)), scale.percent(size + half_width)
        parts.append(f'<line class="whisker" x1="{low}" x2="{high}" y1="5" y2="5"/>')
    return _svg(parts, 'class="meter" width="100%" height="10"')


def histogram(values: Float[np.ndarray, " m"], mean: float, name: str, bins: int = 24) -> Markup:
    """How values are spread: counts per bin, the mean as a line."""
    scale = Scale(min(-0.2, float(values.min()) - 0.02), max(1.0, float(values.max()) + 0.02))
    counts, edges = np.histogram(values, bins=bins, range=(scale.low, scale.high))
    tall = Scale(0.0, float(counts.max()) * 1.05)
    parts = []
    for number, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        if number:
            x0, x1, y = x_at(scale, float(left)), x_at(scale, float(right)), y_at(tall, float(number))
            tone = "accent" if (left + right) / 2 >= 0 else "warm"
            parts.append(
                f'<rect class="fill {tone}" x="{x0 + 0.75:.2f}" y="{y:.2f}" width="{x1 - x0 - 1.5:.2f}" '
                f'height="{HEIGHT - BOTTOM - y:.2f}"/>'
            )
    x = x_at(scale, mean)
    parts.append(f'<line class="ceiling" x1="{x:.2f}" x2="{x:.2f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    return frame(parts, scale, tall, name, "targets")


def overlaid(
    values: Float[np.ndarray, " m"], outlined: Float[np.ndarray, " o"] | None, name: str, bins: int = 24
) -> Markup:
    """How values are spread, their mean as a line, and others as an outline over the same bins."""
    every = values if outlined is None else np.concatenate([values, outlined])
    scale = Scale(min(0.0, float(every.min()) - 0.02), max(1.0, float(every.max())) + 0.02)
    span = (scale.low, scale.high)
    counts, edges = np.histogram(values, bins=bins, range=span)
    above = None if outlined is None else np.histogram(outlined, bins=bins, range=span)[0]
    tall = Scale(0.0, float(max(counts.max(), 0 if above is None else above.max())) * 1.05)
    parts = []
    for number, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if number:
            x0, x1, y = x_at(scale, left), x_at(scale, right), y_at(tall, float(number))
            parts.append(
                f'<rect class="fill accent" x="{x0 + 0.75:.2f}" y="{y:.2f}" width="{x1 - x0 - 1.5:.2f}" '
                f'height="{HEIGHT - BOTTOM - y:.2f}"/>'
            )
    if above is not None:
        corners = [(edges[0], 0.0)]
        for number, left, right in zip(above.tolist(), edges[:-1], edges[1:], strict=True):
            corners += [(left, number), (right, number)]
        places = [
            f"{x_at(scale, float(x)):.2f},{y_at(tall, float(y)):.2f}" for x, y in [*corners, (edges[-1], 0)]
        ]
        parts.append(f'<polyline class="outline" points="{" ".join(places)}"/>')
    x = x_at(scale, float(values.mean()))
    parts.append(f'<line class="ceiling" x1="{x:.2f}" x2="{x:.2f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    return frame(parts, scale, tall, name, "targets")


def scatter(
    points: Sequence[tuple[float, float, float]],
    *,
    slope: float,
    identity: bool,
    names: tuple[str, str],
) -> Markup:
    """Points (x, y, half width of y), the fitted line through the origin, the identity where units are shared."""
    x_scale = Scale.around(x for x, _, _ in points)
    heights = [y + sign * half for _, y, half in points for sign in (-1, 1)]
    y_scale = Scale.around(heights + ([x_scale.low, x_scale.high] if identity else []))
    parts = []
    if identity:
        parts.append(_line(x_scale, y_scale, 1.0, "identity"))
    parts.append(_line(x_scale, y_scale, slope, "fit"))
    for x_value, y_value, half in points:
        x, y = x_at(x_scale, x_value), y_at(y_scale, y_value)
        low, high = y_at(y_scale, y_value - half), y_at(y_scale, y_value + half)
        parts.append(f'<line class="error" x1="{x:.2f}" x2="{x:.2f}" y1="{low:.2f}" y2="{high:.2f}"/>')
        parts.append(f'<circle class="point accent" cx="{x:.2f}" cy="{y:.2f}" r="3"/>')
    return frame(parts, x_scale, y_scale, *names)


def stairs(
    x: Int[np.ndarray, " s"],
    solid: Float[np.ndarray, " s"] | None,
    dashed: Float[np.ndarray, " s"] | None,
    *,
    band: tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]] | None,
    names: tuple[str, str],
) -> Markup:
    """Shares that step up at some sizes: a solid line with its band, a dashed line."""
    known = [*([] if band is None else [band[1]]), *(line for line in (solid, dashed) if line is not None)]
    highest = max((float(line.max()) for line in known), default=0.0)
    end = float(x[-1])
    x_scale, y_scale = Scale(0.0, max(1.04 * end, 1.0)), Scale(0.0, 1.05 * highest or 1.0)

    def steps(line: Float[np.ndarray, " s"]) -> list[str]:
        sizes = x.astype(np.float64).tolist()
        ends = zip(sizes, [*sizes[1:], end], line.tolist(), strict=True)
        corners = [(size, value) for left, right, value in ends for size in (left, right)]
        return [f"{x_at(x_scale, size):.2f},{y_at(y_scale, value):.2f}" for size, value in corners]

    parts = []
    if band is not None:
        low, high = map(steps, band)
        parts.append(f'<polygon class="wash" points="{" ".join([*low, *reversed(high)])}"/>')
    floor = f"{y_at(y_scale, 0.0):.2f}"
    start = f"{x_at(x_scale, 0.0):.2f},{floor} {x_at(x_scale, float(x[0])):.2f},{floor}"
    for line, name in ((dashed, "stairs dashed"), (solid, "stairs")):
        if line is not None:
            parts.append(f'<polyline class="{name}" points="{start} {" ".join(steps(line))}"/>')
    return frame(parts, x_scale, y_scale, *names)


def courses(
    x: Float[np.ndarray, " s"], lines: Float[np.ndarray, "k s"], *, names: tuple[str, str], low: float = 0.0
) -> Markup:
    """Lines over values that fall from left to right, from ``low`` to 1."""
    x_scale, y_scale = Scale(float(x.max()), min(0.0, float(x.min()))), Scale(low - 0.02, 1.02)
    parts = []
    for line in lines:
        points = " ".join(
            f"{x_at(x_scale, a):.2f},{y_at(y_scale, b):.2f}"
            for a, b in zip(x.tolist(), line.tolist(), strict=True)
        )
        parts.append(f'<polyline class="course" points="{points}"/>')
    return frame(parts, x_scale, y_scale, *names)


def frame(parts: Sequence[str], x: Scale, y: Scale, x_name: str, y_name: str) -> Markup:
    """The marks inside a frame of two axes with their names."""
    frame, bottom = [], HEIGHT - BOTTOM
    for tick in y.ticks():
        at = y_at(y, tick)
        frame.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.2f}" y2="{at:.2f}"/>')
        frame.append(f'<text x="{LEFT - 7}" y="{at + 3.5:.2f}" text-anchor="end">{y.label(tick)}</text>')
    for tick in x.ticks():
        at = x_at(x, tick)
        frame.append(f'<line class="tick" x1="{at:.2f}" x2="{at:.2f}" y1="{bottom}" y2="{bottom + 4}"/>')
        frame.append(f'<text x="{at:.2f}" y="{bottom + 16}" text-anchor="middle">{x.label(tick)}</text>')
    frame.append(f'<line class="tick" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    middle = (TOP + bottom) / 2
    frame.append(
        f'<text class="name" x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{HEIGHT - 7}" text-anchor="middle">{x_name}</text>'
        f'<text class="name" transform="translate(11 {middle:g}) rotate(-90)" text-anchor="middle">{y_name}</text>'
    )
    return _svg([*frame, *parts], f'class="plot" viewBox="0 0 {WIDTH} {HEIGHT}"')


def identity_line(low: float, high: float, scale: Scale) -> str:
    """The line of equality over two axes of one scale."""
    (x1, x2), (y1, y2) = ([place(scale, end) for end in (low, high)] for place in (x_at, y_at))
    return f'<line class="identity" x1="{x1:.2f}" x2="{x2:.2f}" y1="{y1:.2f}" y2="{y2:.2f}"/>'


def _line(x: Scale, y: Scale, slope: float, name: str) -> str:
    """The part of the line through the origin that lies inside the frame."""
    ends = [x.low, x.high]
    if slope:
        inside = sorted(bound / slope for bound in (y.low, y.high))
        ends = [max(x.low, inside[0]), min(x.high, inside[1])]
    if ends[0] >= ends[1]:
        return ""
    (x1, x2), (y1, y2) = ([x_at(x, e) for e in ends], [y_at(y, slope * e) for e in ends])
    return f'<line class="{name}" x1="{x1:.2f}" x2="{x2:.2f}" y1="{y1:.2f}" y2="{y2:.2f}"/>'


def _bar(scale: Scale, ends: Interval, y: float, height: float, name: str) -> str:
    low, high = (scale.at(end) for end in sorted(ends))
    return f'<rect class="{name}" x="{100 * low:.2f}%" width="{100 * (high - low):.2f}%" y="{y:g}" height="{height:g}"/>'


def x_at(scale: Scale, value: float) -> float:
    """The place of a value on the horizontal axis of a plot."""
    return LEFT + scale.at(value) * (WIDTH - LEFT - RIGHT)


def y_at(scale: Scale, value: float) -> float:
    """The place of a value on the vertical axis of a plot."""
    return HEIGHT - BOTTOM - scale.at(value) * (HEIGHT - TOP - BOTTOM)


def _svg(parts: Iterable[str], attributes: str) -> Markup:
    """Drawings hold numbers and our own words only, so nothing in them needs escaping."""
    return Markup(f'<svg {attributes} aria-hidden="true" focusable="false">{"".join(parts)}</svg>')
