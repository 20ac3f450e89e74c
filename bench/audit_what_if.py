"""Do predicted intervals of what-ifs hold, and can a verdict fail?

    python bench/audit_what_if.py [--quick]

The small digits (500 rows, 100 targets, MLP 64-32-10). Two hundred questions a method: 100 about rows at random (1 to
50 of them) and 100 about the rows of a target's largest scores (1, 4 and 10 %). Truth: the mean of 64 pairs of
retrainings. Verdicts rest on 8 pairs of other seeds. Every method is calibrated on 30 removals x 2 seeds (68 trainings)
five times, with other removals each time, and all are counted. Controls: the calibrated TRAK with its scores set to 0,
shuffled over the rows, turned round or tripled, its law of removals as it was; and random and shuffled scores that were
calibrated as the methods are. About ten minutes on one core; retrainings stay in runs/audit.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from small_digits import print_table, small_digits, small_lab

import dataloupe as dl
from dataloupe.apps import WhatIf

RANDOM_SIZES, TOP_SIZES = (1, 5, 20, 35, 50), (5, 20, 50)
PAIRS, VERIFY, CALIBRATIONS, REMOVALS = 64, 8, 5, 30
VERDICTS = ("agree", "disagree", "undecided", "uninformative")


class Asked(NamedTuple):
    """A question, its true change and the answer's pairs of retrainings."""

    kind: str
    target: int
    rows: np.ndarray
    truth: float


class Told(NamedTuple):
    """What one method said to one question."""

    kind: str
    size: int
    held: bool | None
    verdict: str
    half: float


def measure(*, quick: bool) -> list[tuple[str, str, str]]:
    """The table: what is measured, the bar, and the measured value."""
    question, lab = small_digits(), small_lab("what-if")
    methods: dict[str, dl.AbstractAttributor] = {
        "TRAK": dl.TRAK(models=10),
        "Datamodel": dl.Datamodel(dl.Subsets(n=question.n, count=2000, seed=1)),
    }
    if not quick:
        methods["Influence"] = dl.Influence(models=5)
    count, pairs = (25, 16) if quick else (100, PAIRS)
    rows: list[tuple[str, str, str]] = []
    told: dict[str, list[Told]] = {}
    raw = {name: method.attribute(question, lab) for name, method in methods.items()}
    random = at_random(question, lab, count, pairs)
    tops = {name: of_top(question, lab, found, count, pairs) for name, found in raw.items()}
    seeds = range(50, 50 + (2 if quick else CALIBRATIONS))
    for name, found in raw.items():
        others = [asked for other, top in tops.items() if other != name for asked in top]
        for seed in seeds:
            calibrated = on_removals(question, lab, found, seed)
            every = [*random, *tops[name], *(asked._replace(kind="top of another") for asked in others)]
            told.setdefault(name, []).extend(answers(question, lab, calibrated, every))
            if name == "TRAK":
                for control, scores in controls(calibrated).items():
                    said = answers(question, lab, scores, [*random, *tops[name]])
                    told.setdefault(control, []).extend(said)
    for name, scores in {
        "random": dl.RandomScores().attribute(question, lab),
        "shuffled": shuffled(raw["TRAK"]),
    }.items():
        own = of_top(question, lab, scores, count // 4, pairs)
        for seed in seeds[:2]:
            calibrated = on_removals(question, lab, scores, seed)
            told.setdefault(f"{name}, calibrated", []).extend(
                answers(question, lab, calibrated, [*random, *tops["TRAK"], *own])
            )
    for name in methods:
        rows += intervals(name, told[name])
    for name, found in told.items():
        rows += verdicts(name, found, control=name not in methods)
    return rows


# --- questions and their truth ---


def at_random(question: dl.Question, lab: dl.Lab, count: int, pairs: int) -> list[Asked]:
    """Rows at random, five targets a removal."""
    rng = np.random.default_rng(7)
    removals = [
        rng.choice(question.n, RANDOM_SIZES[i % len(RANDOM_SIZES)], replace=False) for i in range(count // 5)
    ]
    changes = true_changes(question, lab, removals, pairs)
    return [
        Asked("random", int(j), rows, float(change[j]))
        for rows, change in zip(removals, changes, strict=True)
        for j in rng.choice(question.m, 5, replace=False)
    ]


def of_top(
    question: dl.Question, lab: dl.Lab, attribution: dl.Attribution, count: int, pairs: int
) -> list[Asked]:
    """The top rows of every target, of three sizes in turn."""
    targets = [j % question.m for j in range(count)]
    removals = [attribution.top(j, TOP_SIZES[i % len(TOP_SIZES)]) for i, j in enumerate(targets)]
    changes = true_changes(question, lab, removals, pairs)
    return [
        Asked("top", j, rows, float(change[j]))
        for j, rows, change in zip(targets, removals, changes, strict=True)
    ]


def true_changes(question: dl.Question, lab: dl.Lab, removals: list[np.ndarray], pairs: int) -> np.ndarray:
    """The mean change [k, m] of many pairs of retrainings, whose seeds no answer uses."""
    worlds = dl.Subsets.without(question.n, [[], *removals], seed=900)
    means = lab.outcomes(question, worlds, repeats=pairs).mean().astype(np.float64)
    return means[1:] - means[0]


# --- methods and controls ---


def on_removals(question: dl.Question, lab: dl.Lab, found: dl.Attribution, seed: int) -> dl.DenseAttribution:
    """Calibrated as the README does."""
    removals = dl.calibration_removals(found, count=REMOVALS, seed=seed)
    return dl.calibrate(found, lab.outcomes(question, removals, repeats=2))


def shuffled(found: dl.DenseAttribution) -> dl.DenseAttribution:
    """The same scores on other rows."""
    order = np.random.default_rng(3).permutation(found.n)
    return dataclasses.replace(found, scores=found.scores[:, order], group=None, pieces=())


def controls(calibrated: dl.DenseAttribution) -> dict[str, dl.DenseAttribution]:
    """Scores that are wrong, with the law of the right ones."""

    def changed(factor: float) -> dl.DenseAttribution:
        group = calibrated.group
        return dataclasses.replace(
            calibrated,
            scores=np.asarray(calibrated.scores) * np.float32(factor),
            group=None if group is None else _times(group, factor),
        )

    law = calibrated.uncertainty
    sums = None if law is None or law.laws is None else dataclasses.replace(law, laws=law.laws[:1])
    return {
        "all scores 0": changed(0.0),
        "shuffled": dataclasses.replace(shuffled(calibrated), uncertainty=sums),
        "sign flipped": changed(-1.0),
        "x3": changed(3.0),
    }


def _times(group: Callable, factor: float) -> Callable:
    return lambda removals: factor * group(removals)


# --- answers and the table ---


def answers(
    question: dl.Question, lab: dl.Lab, attribution: dl.Attribution, every: Iterable[Asked]
) -> list[Told]:
    """Every question asked; the same removal is retrained once."""
    found = []
    for asked in every:
        answer: WhatIf = dl.what_if(
            question, lab, attribution, asked.target, asked.rows, verify=VERIFY, seed=400
        )
        ends = answer.predicted_interval
        held = None if ends is None else ends[0] <= asked.truth <= ends[1]
        half = np.nan if ends is None else (ends[1] - ends[0]) / 2 / abs(asked.truth)
        found.append(Told(asked.kind, len(asked.rows), held, answer.verdict, half))
    return found


def intervals(name: str, told: list[Told]) -> list[tuple[str, str, str]]:
    """How often the intervals hold the truth."""
    rows = []
    for kind, bar in (("random", ">= 0.93"), ("top", ">= 0.90"), ("top of another", "")):
        of_kind = [one for one in told if one.kind == kind]
        held = [one.held for one in of_kind if one.held is not None]
        if not held:
            continue
        by_size = {
            size: [one.held for one in of_kind if one.size == size and one.held is not None]
            for size in sorted({one.size for one in of_kind})
        }
        parts = ", ".join(f"{size} rows {np.mean(part):.2f}" for size, part in by_size.items() if part)
        width = np.nanmedian([one.half for one in of_kind])
        value = f"{np.mean(held):.3f} of {len(held)} ({parts}); half width {width:.2f} of the effect"
        rows.append((f"{name}: 95 % interval holds, {kind}", bar, value))
    return rows


def verdicts(name: str, told: list[Told], *, control: bool) -> list[tuple[str, str, str]]:
    """The share of every verdict."""
    rows = []
    groups = [("random and top", ("random", "top"))] if control else [(k, (k,)) for k in ("random", "top")]
    for words, kinds in groups:
        said = [one.verdict for one in told if one.kind in kinds]
        if not said:
            continue
        bar = ("<= 0.20" if name == "x3" else "<= 0.05") if control else ""
        bar = ">= 0.70" if (name, words) == ("TRAK", "top") else bar
        shares = ", ".join(f"{word} {np.mean([v == word for v in said]):.2f}" for word in VERDICTS)
        rows.append((f"{name}: verdicts, {words}", f"agree {bar}" if bar else "", shares))
    return rows


if __name__ == "__main__":
    print_table(__doc__, measure)
