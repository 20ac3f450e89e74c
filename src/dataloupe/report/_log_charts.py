"""Points over two axes of powers of ten."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from dataloupe.report._charts import Scale, frame, identity_line, x_at, y_at
from dataloupe.report._words import in_scale


class Dot(NamedTuple):
    """A point, its tone, and what stands beside it."""

    x: float
    y: float
    tone: str = "quiet"
    name: str = ""


@dataclasses.dataclass(frozen=True)
class LogScale(Scale):
    """A range of powers of ten; ``low`` and ``high`` are their exponents.

    >>> LogScale(-1.0, 1.0).at(1.0), LogScale(-2.0, 2.0).ticks()
    (0.5, [0.01, 0.1, 1.0, 10.0, 100.0])
    """

    def at(self, value: float) -> float:
        """Where a value stands, 0 to 1 inside the range."""
        return (math.log10(value) - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[float]:
        """Powers of ten, with 2 and 5 times them where these are few."""
        first, last = math.floor(self.low), math.ceil(self.high)
        powers = [10.0**e for e in range(first, last + 1)]
        every = [step * power for power in powers for step in (1, 2, 5)]
        inside = [tick for tick in every if self.low <= math.log10(tick) + 1e-12 <= self.high + 1e-9]
        plain = [tick for tick in powers if self.low <= math.log10(tick) + 1e-12 <= self.high + 1e-9]
        chosen = inside if len(inside) <= most + 2 else plain
        return chosen[:: max(1, math.ceil(len(chosen) / (most + 2)))]

    def label(self, tick: float) -> str:
        """A tick with the digits it needs."""
        return f"{tick:g}" if 1e-4 <= tick < 1e5 else in_scale(tick, tick, 1)


def log_scatter(dots: Sequence[Dot], *, names: tuple[str, str]) -> Markup:
    """Dots over equal axes of logarithms, with the line of equality; what is not above 0 stands at the edge.

    A name that would stand on another one, or on a dot, is left out.
    """
    known = [value for dot in dots for value in (dot.x, dot.y) if value > 0] or [1.0]
    floor = min(known)
    around = Scale.around([math.log10(value) for value in known], room=0.08)
    scale = LogScale(around.low, around.high)
    parts = [identity_line(10.0**scale.low, 10.0**scale.high, scale)]
    named: list[tuple[float, float]] = []
    places = [(x_at(scale, max(dot.x, floor)), y_at(scale, max(dot.y, floor))) for dot in dots]
    for dot in sorted(dots, key=lambda dot: dot.tone != "quiet"):
        x, y = x_at(scale, max(dot.x, floor)), y_at(scale, max(dot.y, floor))
        size = 4.5 if dot.name else 3.5
        parts.append(f'<circle class="point {dot.tone}" cx="{x:.2f}" cy="{y:.2f}" r="{size:g}"/>')
        if dot.name and _free((x + 9, y - 9), named + places):
            named.append((x + 9, y - 9))
            parts.append(f'<text class="mark" x="{x + 6:.2f}" y="{y - 5:.2f}">{escape(dot.name)}</text>')
    x_name, y_name = (str(escape(name)) for name in names)
    return frame(parts, scale, scale, x_name, y_name)


def _free(place: tuple[float, float], others: Sequence[tuple[float, float]]) -> bool:
    """Whether a digit has room there."""
    return all(abs(place[0] - x) > 7 or abs(place[1] - y) > 8 for x, y in others)
