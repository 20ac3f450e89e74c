"""The smallest removal, or relabelling, that flips a prediction: found by bisection on retrainings."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dataloupe._errors import BadInput
from dataloupe._typing import Ids
from dataloupe.apps._support import (
    Ranked,
    check_support,
    full_margins,
    keyed,
    largest,
    notes_of,
    rank,
    retrain,
    without,
    wrong,
)
from dataloupe.apps._support_found import Edit, Support, SupportCase
from dataloupe.core import Attribution, Examples, Lab, Question, checked

Bracket = tuple[int, int | None]


class Editing(NamedTuple):
    """How the first rows of a ranking are edited: ``masks(i, size)`` over the training data of ``question``."""

    kind: Edit
    question: Question
    mask: Callable[[int, int], Bool[np.ndarray, " n"]]
    ranked: list[Ranked]
    classes: list[int] | None = None


@checked("dl-741")
def smallest_support(
    question: Question,
    lab: Lab,
    attribution: Attribution,
    targets: Ids | None = None,
    *,
    limit: float = 0.1,
    verify: int = 10,
    rounds: int = 10,
    seed: int = 0,
) -> Support:
    """The smallest removal of top-scored rows that flips each target's prediction when retrained, by bisection.

    Each round retrains one size per target, ``verify`` times, all targets in one batch. It starts at the
    predicted crossing (at the limit, if the attribution only ranks or predicts none), doubles until the mean
    margin is not above 0, then goes on at the geometric mean of the bracket's ends, at most ``rounds`` rounds:

        bracket = (largest size that did not flip, smallest that did)       size = its upper end

    which supposes that more removed rows never help. The size found is lucky by the noise of its retrainings,
    so each case is retrained ``verify`` times more with fresh seeds: ``share`` counts those. Only the ranking is
    used: relative units will do, and ``predicted`` is then None.

    Raises what :func:`support` raises, but for dl-507 and dl-744.

    >>> import torch
    >>> from dataloupe import core, outputs, testing
    >>> data = core.Examples(torch.ones(7, 1), labels=torch.tensor([0, 0, 0, 0, 0, 1, 1]))
    >>> question = core.Question(testing.RidgeLearner(classes=2), data, data[:1], outputs.hard_margin)
    >>> scores = core.DenseAttribution(np.array([[1.0] * 5 + [-1.0] * 2]), core.Info("a ranking"), units="relative")
    >>> smallest_support(question, core.MemoryLab(), scores, limit=0.6, verify=2).cases[0].bracket
    (2, 3)

    Source: the verified data supports of Ilyas et al. 2022 (datamodels).
    """
    rows = check_support(question, attribution, targets, limit=limit, verify=verify, rounds=rounds)
    margins = full_margins(question, lab, verify, seed)
    most = largest(question.n, limit)
    right = [rank(attribution, j, float(margins[j]), most) for j in rows.tolist() if margins[j] > 0]

    def mask(i: int, size: int) -> Bool[np.ndarray, " n"]:
        return without(question.n, right[i].rows[:size])

    found = _search(Editing("remove", question, mask, right), attribution, lab, verify, rounds, seed)
    return _support(question, attribution, "remove", most, verify, _in_order(rows, margins, found))


@checked("dl-741")
def relabel_support(
    question: Question,
    lab: Lab,
    attribution: Attribution,
    targets: Ids,
    *,
    limit: float = 0.1,
    verify: int = 10,
    rounds: int = 10,
    seed: int = 0,
) -> Support:
    """The fewest top-scored rows that flip each target's prediction when they are mislabelled, by bisection.

    The rows get the target's runner-up class: the other class of the largest mean margin among ``verify``
    trainings on all the data (rows that have it already are passed over). A score tells what removing a row does,
    not what another label on it does, so nothing is predicted: sizes are found as by :func:`smallest_support`,
    beginning at half the crossing, since a flipped label takes away and gives to the rival. To train all targets
    in one batch, each label flip is a further row behind the data, and a subset holds a row or its flip.

    Raises what :func:`smallest_support` raises, and ``BadInput`` dl-745 (no class labels, or several components).

    >>> import torch
    >>> from dataloupe import core, outputs, testing
    >>> data = core.Examples(torch.ones(7, 1), labels=torch.tensor([0, 0, 0, 0, 0, 1, 1]))
    >>> question = core.Question(testing.RidgeLearner(classes=2), data, data[:1], outputs.hard_margin)
    >>> scores = core.DenseAttribution(np.array([[1.0] * 5 + [-1.0] * 2]), core.Info("a ranking"), units="relative")
    >>> relabel_support(question, core.MemoryLab(), scores, [0], limit=0.6, verify=2).cases[0].bracket
    (1, 2)

    Source: the mislabelling supports of Ilyas et al. 2022 (datamodels).
    """
    rows = check_support(question, attribution, targets, limit=limit, verify=verify, rounds=rounds)
    labels = _class_labels(question)
    margins = full_margins(question, lab, verify, seed)
    most = largest(question.n, limit)
    right = [j for j in rows.tolist() if margins[j] > 0]
    rivals = runners_up(question, lab, right, verify, seed) if right else []
    ranked = []
    for j, rival in zip(right, rivals, strict=True):
        every = rank(attribution, j, float(margins[j]), question.n)
        other = np.flatnonzero(labels[every.rows] != rival)[:most]
        ranked.append(every._replace(rows=every.rows[other], scores=every.scores[other]))
    found = (
        _search(_relabelling(question, ranked, rivals), attribution, lab, verify, rounds, seed)
        if right
        else []
    )
    return _support(question, attribution, "relabel", most, verify, _in_order(rows, margins, found))


def _search(
    editing: Editing, attribution: Attribution, lab: Lab, verify: int, rounds: int, seed: int
) -> list[SupportCase]:
    """Bisect every target's size, then retrain what was found with fresh seeds."""
    ranked, kind = editing.ranked, editing.kind
    crossings = [one.crossing if attribution.units == "output" else None for one in ranked]
    share = 1.0 if kind == "remove" else 0.5
    limits = [len(one.rows) for one in ranked]
    firsts = [
        most if crossing is None else max(1, math.ceil(share * crossing))
        for crossing, most in zip(crossings, limits, strict=True)
    ]

    def retrained(sizes: dict[int, int], purpose: str, *, paired: bool) -> dict[int, Float[np.ndarray, " r"]]:
        asked = list(sizes.items())
        values = retrain(
            editing.question,
            lab,
            lambda k: editing.mask(*asked[k]),
            [ranked[i].target for i, _ in asked],
            verify,
            keyed(seed, purpose),
            paired=paired,
        )
        return dict(zip(sizes, values, strict=True))

    def flips(sizes: dict[int, int]) -> dict[int, bool]:
        values = retrained(sizes, "search", paired=True)
        return {i: len(found) > 0 and float(found.mean()) <= 0 for i, found in values.items()}

    brackets = bisect(flips, firsts, limits, rounds)
    values = retrained({i: high for i, (_, high) in enumerate(brackets) if high}, "verify", paired=False)
    cases = []
    for i, (one, (low, high)) in enumerate(zip(ranked, brackets, strict=True)):
        told = high and kind == "remove" and attribution.units == "output"
        cases.append(
            SupportCase(
                target=one.target,
                margin=one.margin,
                crossing=crossings[i] if kind == "remove" else None,
                rows=one.rows[: high or 0],
                predicted=one.margin - float(one.scores[:high].sum()) if told else None,
                values=values.get(i, np.empty(0)),
                relabelled=None if editing.classes is None else editing.classes[i],
                bracket=(low, high),
            )
        )
    return cases


def bisect(
    flips: Callable[[dict[int, int]], dict[int, bool]],
    firsts: Sequence[int],
    limits: Sequence[int],
    rounds: int,
) -> list[Bracket]:
    """(largest size that did not flip, smallest that did or None) of every target, in at most so many rounds.

    ``flips`` is asked for all targets of a round at once: a size per target, whether it flips per target.

    >>> bisect(lambda sizes: {i: size >= 5 + i for i, size in sizes.items()}, [3, 9], [20, 20], rounds=9)
    [(4, 5), (5, 6)]
    """
    low: list[int] = [0] * len(firsts)
    high: list[int | None] = [None] * len(firsts)
    for _ in range(rounds):
        sizes = {
            i: size
            for i in range(len(firsts))
            if (size := _next(low[i], high[i], firsts[i], limits[i])) is not None
        }
        if not sizes:
            break
        for i, flipped in flips(sizes).items():
            if flipped:
                high[i] = sizes[i]
            else:
                low[i] = sizes[i]
    return list(zip(low, high, strict=True))


def _next(low: int, high: int | None, first: int, limit: int) -> int | None:
    """The size to look at in this bracket; None if it is closed."""
    if high is None:
        wanted = min(2 * low or first, limit)
        return wanted if wanted > low else None
    if high - low <= 1:
        return None
    return min(max(round(math.sqrt(max(low, 1) * high)), low + 1), high - 1)


def _relabelling(question: Question, ranked: list[Ranked], rivals: list[int]) -> Editing:
    """The data with every label flip that may be asked for as a further row, and the masks that choose."""
    n = question.n
    flips = sorted({(row, c) for one, c in zip(ranked, rivals, strict=True) for row in one.rows.tolist()})
    place = {flip: n + at for at, flip in enumerate(flips)}
    rows = np.array([*range(n), *(row for row, _ in flips)])
    extra = np.arange(n, n + len(flips))
    pool = question.train[rows]
    train = pool.with_labels(extra, [c for _, c in flips]) if flips else pool

    def mask(i: int, size: int) -> Bool[np.ndarray, " n"]:
        kept = np.arange(len(rows)) < n
        flipped = ranked[i].rows[:size]
        kept[flipped] = False
        kept[[place[row, rivals[i]] for row in flipped.tolist()]] = True
        return kept

    return Editing("relabel", dataclasses.replace(question, train=train), mask, ranked, rivals)


def runners_up(question: Question, lab: Lab, targets: Sequence[int], verify: int, seed: int) -> list[int]:
    """Each target's most likely wrong class: the largest mean margin had the target that label."""
    own = question.targets.labels.numpy()
    classes = np.unique(question.train.labels.numpy())
    rows = question.index[np.asarray(targets), 0]
    asked = [(row, c) for row in rows.tolist() for c in classes.tolist() if c != own[row]]
    examples: Examples = question.targets[np.array([row for row, _ in asked])]
    relabelled = examples.with_labels(np.arange(len(asked)), [c for _, c in asked])
    rivals = dataclasses.replace(question, targets=relabelled)
    margins = full_margins(rivals, lab, verify, seed)
    best: dict[int, tuple[float, int]] = {}
    for (row, c), margin in zip(asked, margins.tolist(), strict=True):
        if row not in best or margin > best[row][0]:
            best[row] = (margin, c)
    return [best[row][1] for row in rows.tolist()]


def _class_labels(question: Question) -> Int[np.ndarray, " n"]:
    """The training labels, if both sides have classes and a target has one margin (dl-745)."""
    for data in (question.train, question.targets):
        if data.labels is None or data.labels.ndim != 1 or data.labels.is_floating_point():
            raise BadInput(
                "dl-745",
                asked="the relabelling that flips a prediction",
                found="examples without class labels",
                do="give whole-number labels [n], or remove instead: smallest_support",
            )
    if (question.index[:, 1] != 0).any():
        raise BadInput(
            "dl-745",
            asked="the relabelling that flips a prediction",
            found=f"an output of several components, {question.output.name}",
            do="ask with an output of one margin per target",
        )
    return question.train.labels.numpy()


def _in_order(
    rows: Int[np.ndarray, " t"], margins: Float[np.ndarray, " m"], found: list[SupportCase]
) -> tuple[SupportCase, ...]:
    """The cases of all target rows: those that were searched, and those that are wrong already."""
    known = {case.target: case for case in found}
    return tuple(known.get(j) or wrong(j, float(margins[j])) for j in rows.tolist())


def _support(
    question: Question,
    attribution: Attribution,
    kind: Edit,
    most: int,
    verify: int,
    cases: tuple[SupportCase, ...],
) -> Support:
    return Support(
        method=attribution.info.method,
        kind=kind,
        n=question.n,
        limit=most,
        inflate=None,
        verify=verify,
        predicts=kind == "remove" and attribution.units == "output",
        cases=cases,
        notes=notes_of(question, attribution, cases, verify),
        provenance=question.provenance,
    )
