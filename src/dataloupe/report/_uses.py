"""What attributions and retrainings were used for: supports, leaks, wrong labels, groups, differences of algorithms."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from dataloupe.apps import (
    Counterfactual,
    Difference,
    Enrichment,
    GroupInfluences,
    Leaks,
    Likelihoods,
    Mislabels,
    Regenerated,
    Support,
    SupportCase,
)
from dataloupe.report._cards import Scored
from dataloupe.report._charts import Scale, Strip, axis, stairs, strip
from dataloupe.report._counterfactual import counterfactual_panel, counterfactual_sentence
from dataloupe.report._difference import difference_panel, difference_sentence
from dataloupe.report._journey import (
    journey_panel,
    journey_sentence,
    regenerated_panel,
    regenerated_sentence,
)
from dataloupe.report._judged import Chart, Line, Plot, Verdict
from dataloupe.report._panel import Entry, Panel, example_of, target_of
from dataloupe.report._parts import Method, Use
from dataloupe.report._receipt import receipt_panel, receipt_sentence
from dataloupe.report._tokens import tone_of
from dataloupe.report._words import HARD_SPACE, between, capital, count, fixed, in_scale, share, signed
from dataloupe.unlearning import Receipt

SUPPORTS, ROWS, PAIRS, CARDS = 10, 6, 10, 16
"""How many are shown: supports, training examples of each, pairs, suspicious labels; the rest is counted."""

GROUPS, OUTPUTS = 12, 10
"""How many groups are shown from either end, and for how many outputs."""

HALF = {
    "agree": "more than half of these removals flip their target when retrained",
    "disagree": "fewer than half of these removals flip their target when retrained",
    "undecided": "whether half of these removals flip their target, the retrainings cannot tell",
    "unverified": "no retraining has judged these removals, so they are predictions only",
}
NEAR = {
    "profile": "1 where the example moves the targets as a copy of this one would",
    "row": "the weight, in robust standard deviations of the target's weights",
    "weight": "the weight as it is",
}


def panels(uses: Sequence[Use], main: Method | None) -> list[Panel]:
    """The uses in the order given; examples are pictures where an attribution holds them."""
    shown = [use.difference for use in uses if isinstance(use, Enrichment)]
    once = [use for use in uses if not any(use is difference for difference in shown)]
    return [_panel(use, main) for use in once]


def use_sentence(use: Use) -> str:
    """A use in one clause."""
    match use:
        case Support():
            return str(use)
        case Leaks():
            if not len(use):
                return f"no training example stands out as one of {count(len(use.best), 'target')}, by {use.method}"
            return (
                f"{count(len(use), 'pair')} of a target and the training example that is most nearly the target "
                f"itself, by {use.method}"
            )
        case Mislabels():
            ranked = f"{count(len(use.order), 'training example')} ranked by how likely their label is wrong"
            trained = f", from {count(use.trainings, 'training')}" if use.trainings else ""
            return f"{ranked}: by {use.by} {use.output}{trained}"
        case GroupInfluences():
            found = int(use.found.sum())
            stand = "stands" if found == 1 else "stand"
            return (
                f"of {count(use.found.size, 'influence')} ({count(len(use.groups), 'group')} on "
                f"{count(len(use.influence), 'output')}) from {count(use.subsets, 'subset')}, {found} {stand} out "
                f"at a false discovery rate of {share(use.discovery)}"
            )
        case Difference():
            return difference_sentence(use)
        case Enrichment():
            return difference_sentence(use.difference)
        case Counterfactual():
            return counterfactual_sentence(use)
        case Receipt():
            return receipt_sentence(use)
        case Likelihoods():
            return journey_sentence(use)
        case Regenerated():
            return regenerated_sentence(use)


def _panel(use: Use, main: Method | None) -> Panel:
    match use:
        case Support():
            return _support(use, main)
        case Leaks():
            return _leaks(use, main)
        case Mislabels():
            return _mislabels(use, main)
        case GroupInfluences():
            return _groups(use)
        case Difference():
            return difference_panel(use, None, main)
        case Enrichment():
            return difference_panel(use.difference, use, main)
        case Counterfactual():
            return counterfactual_panel(use)
        case Receipt():
            return receipt_panel(use)
        case Likelihoods():
            return journey_panel(use, main)
        case Regenerated():
            return regenerated_panel(use)


def _support(found: Support, main: Method | None) -> Panel:
    cases = sorted(found.found, key=lambda case: (len(case.rows), case.target))
    rest = len(cases) - SUPPORTS
    return Panel(
        "How few training examples does a prediction hang on?",
        capital(use_sentence(found)),
        _half(found) if cases else None,
        plots=(_curve(found),) if found.right and (found.judged or found.predicts) else (),
        entries=tuple(_support_entry(case, main) for case in cases[:SUPPORTS]),
        rest=f"The smallest come first; {rest:,} more are not shown." if rest > 0 else "",
        notes=found.notes,
    )


def _half(found: Support) -> Verdict:
    """The claim that most of the removals flip."""
    if found.interval is None:
        return Verdict("unverified", HALF["unverified"])
    low, high = found.interval
    word = "agree" if low > 0.5 else "disagree" if high < 0.5 else "undecided"
    return Verdict(word, HALF[word])


def _curve(found: Support) -> Plot:
    curve = found.curve()
    done = "removed" if found.kind == "remove" else "relabelled"
    band = (curve.low, curve.high) if found.judged else None
    drawing = stairs(
        curve.sizes,
        curve.verified if found.judged else None,
        curve.predicted,
        band=band,
        names=(f"training examples {done}, at most", "share of targets"),
    )
    sentence = f"Share of {count(curve.targets, 'target')}, right at first, that flip"
    if found.judged:
        end, ends = fixed(float(curve.verified[-1])), between((float(curve.low[-1]), float(curve.high[-1])))
        sentence += (
            f": solid, when retrained, with its 95{HARD_SPACE}% band ({end} {ends} at the largest size)"
        )
    if curve.predicted is not None:
        sentence += "; dashed, as predicted" if found.judged else ", as predicted (dashed)"
    return Plot(found.method, "Flipped against size", drawing, f"{sentence}.")


def _support_entry(case: SupportCase, main: Method | None) -> Entry:
    done = "removed" if case.relabelled is None else f"relabelled as class {case.relabelled}"
    known = [("margin", fixed(case.margin)), (done, f"{len(case.rows):,}")]
    if case.predicted is not None:
        known.append(("predicted", fixed(case.predicted)))
    if case.verified is not None:
        ends = "" if case.interval is None else f" {between(case.interval)}"
        known.append(("retrained", f"{fixed(case.verified)}{ends}"))
    rows, rest = case.rows[:ROWS].tolist(), len(case.rows) - ROWS
    return Entry(
        case.target,
        target_of(main, case.target),
        tuple(example_of(main, row) for row in rows),
        f"and {rest:,} more" if rest > 0 else "",
        (*known, ("verdict", case.state)),
    )


def _leaks(found: Leaks, main: Method | None) -> Panel:
    scale = float(np.abs(found.weights).max()) if len(found) else 0.0
    entries = []
    for p in range(min(len(found), PAIRS)):
        target, row = target_of(main, int(found.targets[p])), example_of(main, int(found.rows[p]))
        error = None if found.errors is None else float(found.errors[p])
        known = [("score", fixed(float(found.scores[p]), 3))]
        known.append(("weight", _with_error(float(found.weights[p]), error, scale)))
        if target.label != row.label:
            known.append(("labels", "differ"))
        entries.append(Entry(int(found.targets[p]), target, (row,), "", tuple(known)))
    rest = len(found) - PAIRS
    meaning = f" The score is {NEAR[found.by]}. Whether a pair is a leak is seen by looking at it."
    return Panel(
        "Are targets in the training data?",
        capital(use_sentence(found)) + (meaning if entries else ""),
        entries=tuple(entries),
        pairs=True,
        rest=f"{rest:,} more pairs are not shown." if rest > 0 else "",
        notes=found.notes,
    )


def _mislabels(found: Mislabels, main: Method | None) -> Panel:
    first = found.order[:CARDS].tolist()
    scale = float(np.abs(found.scores[first]).max())
    cards = []
    for row in first:
        error = "" if found.errors is None else f"± {in_scale(float(found.errors[row]), scale)}"
        score = signed(in_scale(float(found.scores[row]), scale))
        cards.append(Scored(example_of(main, row), score, error, Markup()))
    errors = "" if found.errors is None else "; ± is one standard error"
    return Panel(
        "Which labels look wrong?",
        f"{capital(use_sentence(found))} The first {len(cards)}, with the label they have; "
        f"a higher score is more suspicious{errors}.",
        cards=tuple(cards),
        notes=found.notes,
    )


def _groups(found: GroupInfluences) -> Panel:
    several = len(found.influence) > 1
    shown = range(min(len(found.influence), OUTPUTS))
    rest = len(found.influence) - OUTPUTS
    return Panel(
        "Which groups of training examples raise the output?",
        capital(use_sentence(found)),
        charts=tuple((f"Output {j}." if several else "", _influences(found, j)) for j in shown),
        rest=f"{rest:,} more outputs are not shown." if rest > 0 else "",
        notes=found.notes,
    )


def _influences(found: GroupInfluences, j: int) -> Chart:
    """The groups from what raises the output most to what lowers it most, in the colours of what helps and hurts."""
    better = found.provenance.get("better")
    order = np.argsort(-found.influence[j], kind="stable")
    left_out = len(order) - 2 * GROUPS
    if left_out > 0:
        order = np.concatenate([order[:GROUPS], order[-GROUPS:]])
    scale = Scale.around([0.0, *found.low[j, order], *found.high[j, order]])
    largest = max(abs(scale.low), abs(scale.high))
    lines = []
    for g in order.tolist():
        value, stands_out = float(found.influence[j, g]), bool(found.found[j, g])
        ends = float(found.low[j, g]), float(found.high[j, g])
        tone = tone_of(value, better) if stands_out else "quiet"
        drawn = strip(Strip(scale, value, ends, tone, bar=True))
        words = f"{signed(in_scale(value, largest))} {between(ends, largest)}"
        remark = "stands out" if stands_out else f"q{HARD_SPACE}={HARD_SPACE}{fixed(float(found.q[j, g]))}"
        lines.append(Line(found.groups[g], drawn, words, remark, quiet=not stands_out))
    sentences = [
        f"The mean output with the group minus without it, and its {share(found.level)} interval; in colour, what "
        "stands out after the adjustment for having looked at so many (Benjamini and Hochberg)."
    ]
    if left_out > 0:
        sentences.append(f"{count(left_out, 'group')} between the ends not shown.")
    return Chart(tuple(lines), axis(scale), tuple(sentences))


def _with_error(value: float, error: float | None, scale: float) -> str:
    half = "" if error is None else f" ± {in_scale(error, scale)}"
    return f"{signed(in_scale(value, scale))}{half}"
