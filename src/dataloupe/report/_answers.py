"""What-if questions: what was predicted, what retraining did, and whether the two agree."""

import dataclasses
from collections.abc import Sequence

from dataloupe.apps import WhatIf
from dataloupe.report._cards import Picture, picture
from dataloupe.report._charts import Scale, Strip, axis, strip
from dataloupe.report._judged import Chart, Line, Verdict
from dataloupe.report._parts import Method
from dataloupe.report._words import HARD_SPACE, between, capital, count, in_scale, signed

GALLERY = 12
"""How many removed examples are shown; the rest is counted."""

WORDS = {
    "agree": "the retrainings bear the prediction out",
    "disagree": "the retrainings contradict the prediction",
    "undecided": "the retrainings are too few, or too noisy, to tell",
    "uninformative": "the prediction is too vague to be tested: it would have stood with no effect, or with twice as much",
    "unverified": "nothing has been retrained yet, so this is a prediction only",
}


@dataclasses.dataclass(frozen=True)
class Answer:
    """One what-if as it stands on the page."""

    question: str
    sentence: str
    target: Picture | None
    removed: tuple[Picture, ...]
    rest: str
    chart: Chart
    verdict: Verdict


def answer_views(answers: Sequence[WhatIf], main: Method | None) -> list[Answer]:
    """The what-ifs in the order given."""
    return [_answer(answer, main) for answer in answers]


def answer_sentence(answer: WhatIf, removed: str) -> str:
    """A what-if in words: what was predicted, what was measured, by how many pairs."""
    scale = _largest(answer)
    predicted = _number(answer.predicted, answer.predicted_interval, scale)
    said = f"removing {removed} is predicted to change the output of target {answer.target} by {predicted}"
    if answer.verified is None:
        return said
    pairs = count(len(answer.differences), "pair of retrainings measures", "pairs of retrainings measure")
    return f"{said}, and {pairs} {_number(answer.verified, answer.verified_interval, scale)}"


def _answer(answer: WhatIf, main: Method | None) -> Answer:
    removed = [int(i) for i in answer.removed]
    words = count(len(removed), "training example")
    rest = len(removed) - GALLERY
    shown = removed[:GALLERY]
    target = None
    if main is not None:
        row = answer.target if main.index is None else int(main.index[answer.target][0])
        target = picture(main.targets, row, "target", 300)
    return Answer(
        question=f"What if {words} had not been there?",
        sentence=capital(answer_sentence(answer, "it" if len(removed) == 1 else "them")),
        target=target,
        removed=tuple(picture(main.train, i, "training example", 120) for i in shown) if main else (),
        rest=f"and {rest:,} more" if rest > 0 else "",
        chart=_chart(answer),
        verdict=Verdict(answer.verdict, WORDS[answer.verdict]),
    )


def _chart(answer: WhatIf) -> Chart:
    scale, largest = Scale.around([0.0, *_values(answer)]), _largest(answer)
    predicted = Strip(scale, answer.predicted, answer.predicted_interval, "quiet")
    lines = [
        Line(
            "Predicted",
            strip(predicted),
            _number(answer.predicted, answer.predicted_interval, largest),
            "" if answer.predicted_interval is not None else "no interval",
        )
    ]
    notes = tuple(answer.notes)
    if answer.verified is None:
        return Chart(tuple(lines), axis(scale), notes=notes)
    dots = tuple(float(d) for d in answer.differences)
    verified = Strip(scale, answer.verified, answer.verified_interval, "accent", dots=dots)
    lines.append(
        Line(
            "Verified",
            strip(verified),
            _number(answer.verified, answer.verified_interval, largest),
            count(len(dots), "pair", "pairs"),
        )
    )
    sentence = (
        "Every dot is one pair of retrainings, with and without the examples, that share their randomness; "
        f"bars are intervals (95{HARD_SPACE}% by default)."
    )
    return Chart(tuple(lines), axis(scale), (sentence,), notes)


def _number(value: float, interval: tuple[float, float] | None, scale: float) -> str:
    ends = "" if interval is None else f" {between(interval, scale)}"
    return f"{signed(in_scale(value, scale))}{ends}"


def _values(answer: WhatIf) -> list[float]:
    known = [answer.predicted, *map(float, answer.differences)]
    known += [] if answer.verified is None else [answer.verified]
    for interval in (answer.predicted_interval, answer.verified_interval):
        known += [] if interval is None else [float(end) for end in interval]
    return known


def _largest(answer: WhatIf) -> float:
    return max(abs(value) for value in _values(answer))
