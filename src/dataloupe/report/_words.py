"""Numbers and lists as a person reads them: true minus signs, as many digits as the scale asks for."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
HARD_SPACE = "\xa0"
NORMAL_95 = 1.959964
"""Standard errors on either side of a 95 % interval."""
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def fixed(value: float, digits: int = 2) -> str:
    """A number with so many decimals; what rounds to zero carries no sign.

    >>> fixed(-0.414), fixed(-0.001)
    ('−0.41', '0.00')
    """
    text = f"{value:.{digits}f}"
    if text.startswith("-") and not text.strip("-0."):
        text = text[1:]
    return text.replace("-", MINUS)


def in_scale(value: float, scale: float, digits: int = 3) -> str:
    """A number with as many decimals as gives `scale`, the largest of its company, that many digits.

    >>> in_scale(-1.2345, 10.0), in_scale(0.5, 80.0), in_scale(1.5e-7, 3e-6)
    ('−1.2', '0.5', '0.15×10⁻⁶')
    """
    power = math.floor(math.log10(abs(scale))) if scale else 0
    if -4 <= power <= 5:
        return fixed(value, max(0, digits - 1 - power))
    return fixed(value / 10.0**power, digits - 1) + f"{TIMES}10" + str(power).translate(_RAISED)


def signed(text: str) -> str:
    """The same number with a plus where it is above zero."""
    return text if text.startswith(MINUS) or not text.strip("0.") else f"+{text}"


def between(interval: tuple[float, float], scale: float | None = None) -> str:
    """An interval in brackets that no line break parts, with two decimals or as many as the scale asks for.

    >>> between((-0.5, 0.25))
    '[−0.50,\\xa00.25]'
    """
    ends = (fixed(end) if scale is None else in_scale(end, scale) for end in interval)
    return f"[{f',{HARD_SPACE}'.join(ends)}]"


def count(number: int, word: str, plural: str | None = None) -> str:
    """A number of things.

    >>> count(1, "subset"), count(1437, "example")
    ('1 subset', '1,437 examples')
    """
    return f"{number:,} {word if number == 1 else plural or word + 's'}"


def share(fraction: float) -> str:
    """A part of the whole in percent.

    >>> share(0.5), share(0.125)
    ('50\\xa0%', '12.5\\xa0%')
    """
    return f"{100 * fraction:.4g}{HARD_SPACE}%"


def joined(parts: Iterable[str]) -> str:
    """A list as speech: a, b and c.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    *most, last = list(parts)
    return f"{', '.join(most)} and {last}" if most else last


def capital(sentence: str) -> str:
    """A clause as a sentence of its own."""
    return f"{sentence[0].upper()}{sentence[1:]}."


def quoted(name: str) -> str:
    """A name, in quotes where it would run into the sentence around it."""
    return f"“{name}”" if "," in name or " " in name else name


def clipped(text: str, length: int) -> str:
    """The beginning of a long text, with a mark where it was cut."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def facts(things: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested facts as a flat list of (name, value in words).

    >>> facts({"models": 10, "ridge": {"kind": "relative", "by": 0.25}})
    [('models', '10'), ('ridge · kind', 'relative'), ('ridge · by', '0.25')]
    """
    found = []
    for name, value in things.items():
        label = f"{above} · {name}" if above else str(name)
        if isinstance(value, Mapping) and value:
            found += facts(value, label)
        else:
            found.append((label.replace("_", " "), clipped(_said(value), 160)))
    return found


def _said(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", MINUS)
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    if isinstance(value, list | tuple):
        return ", ".join(_said(item) for item in value) or "none"
    return str(value)
