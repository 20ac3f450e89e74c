"""A change of inputs, asked of two algorithms: effects by strength, their difference, and the verdict."""

from dataloupe.apps import Counterfactual, TransformEffect
from dataloupe.report._charts import Scale, Strip, axis, strip
from dataloupe.report._judged import Chart, Line, Verdict
from dataloupe.report._panel import Panel
from dataloupe.report._words import between, capital, count, in_scale, quoted, share, signed

TONES = ("accent", "warm")


def counterfactual_sentence(found: Counterfactual) -> str:
    """What the change did at its strongest, in one clause."""
    a, b, *_ = found.algorithms
    effects = [found.of(a), found.of(b), found.of(f"{a} - {b}")]
    scale = _largest(found)
    said = [f"{_number(effect, scale)} under {quoted(effect.algorithm)}" for effect in effects[:2]]
    models = " and ".join(str(number) for number in found.models[:2])
    return (
        f"{_name(found)} at strength {found.strongest:g} changes {found.measured} by {' and '.join(said)}, a difference of "
        f"{_number(effects[2], scale)}, on {count(len(found.examples), 'example')} and {models} models"
    )


def counterfactual_panel(found: Counterfactual) -> Panel:
    """The claim, and a chart for every algorithm and for the difference, strength by strength."""
    a, b, *rest = found.algorithms
    names = [a, b, *rest, f"{a} - {b}"]
    known = [end for effect in (*found.effects, *found.interactions) for end in effect.interval]
    scale, largest = Scale.around([0.0, *known]), _largest(found)
    charts = []
    for name in names:
        tone = "quiet" if name not in (a, b) else TONES[name == b]
        charts.append((_title(found, name), _chart(found, name, tone, scale, largest)))
    return Panel(
        f"Does {_name(found)} move {quoted(a)} and not {quoted(b)}?",
        capital(counterfactual_sentence(found)),
        Verdict(found.verdict, _why(found)),
        charts=tuple(charts),
        notes=(*_registered(found), *found.notes),
    )


def _chart(found: Counterfactual, name: str, tone: str, scale: Scale, largest: float) -> Chart:
    """One strip a strength, then the slope in words."""
    lines = []
    for strength in found.strengths:
        effect = found.of(name, strength)
        drawn = strip(Strip(scale, effect.mean, effect.interval, tone, bar=True))
        lines.append(Line(f"strength {strength:g}", drawn, _number(effect, largest)))
    said: tuple[str, ...] = ()
    if found.doses:
        dose = found.dose(name)
        size = max(abs(dose.slope), *map(abs, dose.interval))
        slope = f"{signed(in_scale(dose.slope, size))} {between(dose.interval, size)}"
        said = (f"Slope {slope} per unit of strength: {dose.course}.",)
    return Chart(tuple(lines), axis(scale), said)


def _title(found: Counterfactual, name: str) -> str:
    a, b, *_ = found.algorithms
    if name == f"{a} - {b}":
        return f"{a} minus {b}, {'taken within pairs of models' if found.paired else 'models independent'}."
    return f"{name}."


def _why(found: Counterfactual) -> str:
    """What the three intervals say: the end of the result's own sentence."""
    return str(found).rpartition(" (")[2].rstrip(")")


def _registered(found: Counterfactual) -> tuple[str, ...]:
    level = found.registered["level"]
    return (
        f"Written down before it was measured ({found.identity[:12]}); intervals of {share(level)} over models and "
        "examples, of one strength each.",
    )


def _name(found: Counterfactual) -> str:
    return str(found.registered["transform"]["kind"]).rpartition(".")[2]


def _number(effect: TransformEffect, scale: float) -> str:
    return f"{signed(in_scale(effect.mean, scale))} {between(effect.interval, scale)}"


def _largest(found: Counterfactual) -> float:
    return max(
        abs(end)
        for effect in (*found.effects, *found.interactions)
        for end in (*effect.interval, effect.mean)
    )
