"""How far to trust it: ranks against retraining, calibration, removal tests, as drawings with their numbers."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from dataloupe.judge import LDS, Calibration, RemovalTest
from dataloupe.report._charts import Scale, Strip, axis, histogram, scatter, strip
from dataloupe.report._words import (
    HARD_SPACE,
    NORMAL_95,
    between,
    capital,
    count,
    fixed,
    in_scale,
    share,
    signed,
)


@dataclasses.dataclass(frozen=True)
class Line:
    """One row of a chart: a name, a strip, the same in numbers."""

    name: str
    strip: Markup
    value: str
    remark: str = ""
    quiet: bool = False


@dataclasses.dataclass(frozen=True)
class Chart:
    """Rows over one axis, and the sentences that belong to them."""

    lines: tuple[Line, ...]
    axis: Markup
    sentences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plot:
    """A drawing with two axes and what it says."""

    method: str
    title: str
    drawing: Markup
    sentence: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A judgement in one word, and in a sentence."""

    word: str
    sentence: str
    tone: str = ""
    """Drawn as this word is; empty: as its own."""


@dataclasses.dataclass(frozen=True)
class Removal:
    """A removal test: what the method's own choice did against a random one."""

    method: str
    chart: Chart
    verdict: Verdict


_WORDS = {
    True: {"help": "help most", "helps": "helps most", "worsens": "worsens"},
    False: {"help": "raise it most", "helps": "raises it most", "worsens": "lowers"},
}
"""Of an output that says which way it is better, and of one that does not."""

REMOVAL_WORDS = {
    "agree": "removing the examples that {help} {worsens} the output more than removing as many at random",
    "disagree": "removing as many at random {worsens} the output more than removing the examples that {help}",
    "undecided": "the retrainings are too few, or too noisy, to tell the two removals apart",
}


def rank_chart(ranks: Sequence[LDS]) -> Chart | None:
    """Every LDS and every control over one axis, before the noise ceiling."""
    if not ranks:
        return None
    known: list[float] = [0.0]
    for rank in ranks:
        known += [rank.value, *rank.interval, *_ends(rank.ceiling_interval)]
        known += [] if rank.ceiling is None else [rank.ceiling]
        known += [v for control in rank.controls.values() for v in (control.value, *control.interval)]
    scale = Scale.around(known, room=0.04)
    first = ranks[0]
    line, band = first.ceiling, _pair(first.ceiling_interval)
    lines = [_rank_line(rank, scale) for rank in ranks]
    shown = {rank.method for rank in ranks}
    for rank in ranks:
        for name, control in rank.controls.items():
            if name not in shown:
                shown.add(name)
                mark = Strip(scale, control.value, _pair(control.interval), "quiet", True, (), line, band)
                value = f"{fixed(control.value)} {between(control.interval)}"
                lines.append(Line(name, strip(mark), value, "control", quiet=True))
    notes = dict.fromkeys(note for rank in ranks for note in rank.notes)
    return Chart(tuple(lines), axis(scale), _rank_sentences(ranks), tuple(notes))


def plots(ranks: Sequence[LDS], lines: Sequence[Calibration]) -> list[Plot]:
    """The spread of every LDS over targets and every calibration, those of one method side by side."""
    said = {note for rank in ranks for note in rank.notes}
    found = [*map(_spread_plot, ranks), *(_calibration_plot(line, said) for line in lines)]
    methods = list(dict.fromkeys(plot.method for plot in found))
    return sorted(found, key=lambda plot: methods.index(plot.method))


def removal_views(tests: Sequence[RemovalTest]) -> list[Removal]:
    """The removal tests, each a pair of strips."""
    return [_removal(test) for test in tests]


def ceiling_words(rank: LDS) -> str:
    """The noise ceiling in words, or why there is none."""
    if rank.ceiling is not None:
        band = "" if rank.ceiling_interval is None else f" {between(rank.ceiling_interval)}"
        return f"{fixed(rank.ceiling)}{band}"
    if rank.repeats == 1:
        return "not known: it takes a second seed per subset, and these outcomes have one"
    return "not known: see the notes"


def _rank_line(rank: LDS, scale: Scale) -> Line:
    band = _pair(rank.ceiling_interval)
    mark = Strip(scale, rank.value, _pair(rank.interval), "accent", True, (), rank.ceiling, band)
    remark = "" if rank.disattenuated is None else f"{fixed(rank.disattenuated)} of the ceiling"
    return Line(rank.method, strip(mark), f"{fixed(rank.value)} {between(rank.interval)}", remark)


def _rank_sentences(ranks: Sequence[LDS]) -> tuple[str, ...]:
    first = ranks[0]
    seeds = count(first.repeats, "seed")
    said = [
        f"LDS is the rank correlation between predicted and measured outputs over {count(first.subsets, 'retraining subset')} "
        f"({seeds} each), averaged over {count(first.targets, 'target')}. 1 is perfect order, 0 is chance; brackets are "
        f"bootstrap intervals over subsets and targets together (95{HARD_SPACE}% by default).",
        f"Noise ceiling: {ceiling_words(first)}.",
    ]
    if first.ceiling is not None:
        said.append(
            "The ceiling (dashed line, its interval shaded) is what a perfect predictor would score here, because another seed alone moves "
            "the outputs too."
        )
    for rank in ranks:
        if rank.reliability is not None:
            said.append(f"Two single seeds agree with a rank correlation of {fixed(rank.reliability)}.")
            break
    said += [_own_basis(rank) for rank in ranks if _basis(rank) != _basis(first)]
    left_out = max(rank.left_out for rank in ranks)
    if left_out:
        said.append(f"{count(left_out, 'subset')} with a diverged training left out.")
    return tuple(said)


def _basis(rank: LDS) -> tuple[object, ...]:
    """What an LDS rests on; two of one basis can be read side by side."""
    return rank.subsets, rank.repeats, rank.targets, rank.ceiling


def _own_basis(rank: LDS) -> str:
    return (
        f"{rank.method} was judged elsewhere: {count(rank.subsets, 'subset')}, {count(rank.repeats, 'seed')} each, "
        f"{count(rank.targets, 'target')}; noise ceiling {ceiling_words(rank)}."
    )


def _spread_plot(rank: LDS) -> Plot:
    """How the per-target LDS is spread."""
    values = np.asarray(rank.per_target, dtype=np.float64)
    low, middle, high = (fixed(float(q)) for q in np.quantile(values, [0.1, 0.5, 0.9]))
    sentence = (
        f"Half of the {count(len(values), 'target')} lie above {middle}, one in ten below {low} and one in ten above "
        f"{high}; {share(round(float((values < 0).mean()), 3))} are below zero. Dashed: the mean, {fixed(rank.value)}."
    )
    drawing = histogram(values, rank.value, "LDS of one target")
    return Plot(rank.method, "Spread over targets", drawing, sentence)


def _calibration_plot(line: Calibration, said: set[str]) -> Plot:
    """Predicted against measured; the calibration's notes follow, but for those said elsewhere."""
    points = [
        (float(x), float(y), NORMAL_95 * float(error))
        for x, y, error in zip(line.predicted, line.measured, line.measured_error, strict=True)
    ]
    absolute = line.units == "output"
    drawing = scatter(
        points, slope=line.slope, identity=absolute, names=("predicted, from the target's mean", "measured")
    )
    meaning = (
        "A slope of 1 (dashed line) says that predicted changes have the right size."
        if absolute
        else "The prediction is in relative units: the slope is the scale it lacks, so no identity line is drawn."
    )
    sentence = (
        f"Slope {_slope(line)}, R²{HARD_SPACE}{fixed(line.r2)} {between(line.r2_interval)}. {meaning} Points are bins, "
        f"both sides taken from each target's own mean, with 95{HARD_SPACE}% intervals."
    )
    notes = [capital(note) for note in line.notes if note not in said]
    return Plot(line.method, "Calibration", drawing, " ".join([sentence, *notes]))


def _slope(line: Calibration) -> str:
    scale = max(abs(line.slope), *(abs(end) for end in line.slope_interval))
    return f"{in_scale(line.slope, scale)} {between(line.slope_interval, scale)}"


def _removal(test: RemovalTest) -> Removal:
    words = _WORDS[test.provenance.get("better", "not recorded") is not None]
    rows = (
        (
            f"The {count(test.k, 'example')} that {words['helps' if test.k == 1 else 'help']}",
            test.top_mean,
            test.top_interval,
            test.top_change,
            False,
        ),
        (
            f"{count(test.k, 'random example')}",
            test.random_mean,
            test.random_interval,
            test.random_change,
            True,
        ),
    )
    known = [0.0, *(v for _, mean, ends, dots, _ in rows for v in (mean, *ends, *map(float, dots)))]
    scale, largest = Scale.around(known), max(map(abs, known))
    lines = []
    for name, mean, ends, dots, quiet in rows:
        tone = "quiet" if quiet else "accent"
        mark = Strip(scale, mean, _pair(ends), tone, dots=tuple(map(float, dots)))
        value = f"{signed(in_scale(mean, largest))} {between(ends, largest)}"
        lines.append(Line(name, strip(mark), value, quiet=quiet))
    sentence = (
        f"Mean change of the output over {count(len(test.targets), 'target')}, {count(test.repeats, 'retraining')} of "
        "each world; every dot is one target."
    )
    if test.left_out:
        sentence += f" {count(test.left_out, 'target')} with a diverged retraining left out."
    return Removal(
        test.method,
        Chart(tuple(lines), axis(scale), (sentence,), tuple(test.notes)),
        Verdict(test.verdict, REMOVAL_WORDS[test.verdict].format(**words)),
    )


def _pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (float(interval[0]), float(interval[1]))


def _ends(interval: Sequence[float] | None) -> list[float]:
    return [] if interval is None else [float(end) for end in interval]
