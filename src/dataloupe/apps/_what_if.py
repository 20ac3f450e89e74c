"""Predict what a removal does to one output, retrain both worlds, compare."""

import dataclasses
import math
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._typing import Facts, Ids
from dataloupe.apps._predict_removal import NEAR_ALL, Interval, predict_removal
from dataloupe.core import (
    OK,
    Attribution,
    Lab,
    Question,
    Subsets,
    capabilities,
    check_ids,
    check_same,
    checked,
    needs_units,
    steps_note,
)

ROUNDING = 2.0**-21
"""Outputs are kept in fp32: differences below this share of them are nothing."""

Verdict = Literal["agree", "disagree", "undecided", "uninformative", "unverified"]


@dataclasses.dataclass(frozen=True, eq=False)
class WhatIf:
    """A what-if question and its answer: the change of one target row's output when rows are removed.

    ``predicted`` and ``verified`` are changes in units of the output (after the removal minus before), with
    their intervals; ``differences [r]`` what the single pairs of retrainings did. A verdict can fail. With
    d = |predicted - verified| and both half widths h (of the predicted interval: the half on the verified side):

    - ``disagree``: d > sqrt(h_predicted^2 + h_verified^2);
    - ``agree``: it is not, the predicted interval leaves out 0, and sqrt(h_predicted^2 + h_verified^2) < |verified|:
      no effect at all, or one twice as large as the verified, would have been refuted;
    - ``uninformative``: neither, and the predicted interval holds 0 or is the wider one: more retrainings will not help;
    - ``undecided``: neither, and the retrainings are the noisier;
    - ``unverified``: there are not two pairs of retrainings to compare with.

    A prediction without an interval is held against a factor of two: ``agree`` if the verified interval lies
    between half and twice of it, ``disagree`` if it lies outside, else ``undecided``.
    """

    method: str
    target: int
    removed: Int[np.ndarray, " g"]
    predicted: float
    predicted_interval: tuple[float, float] | None
    verified: float | None
    verified_interval: tuple[float, float] | None
    differences: Float[np.ndarray, " r"]
    verdict: Verdict
    notes: tuple[str, ...] = ()
    provenance: Facts = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        said = f"predicted {_text(self.predicted, self.predicted_interval)}"
        said += " (no interval)" * (self.predicted_interval is None)
        if self.verified is None:
            return f"{said}: {self.verdict}"
        done = f"verified {_text(self.verified, self.verified_interval)}"
        return f"{said}, {done} by {len(self.differences)} pairs of retrainings: {self.verdict}"

    def to_json(self) -> dict[str, Any]:
        """Every field as JSON holds it."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("removed", "differences"):
            found[name] = found[name].tolist()
        for name in ("predicted_interval", "verified_interval", "notes"):
            found[name] = None if found[name] is None else list(found[name])
        return found


@checked("dl-511")
def what_if(
    question: Question,
    lab: Lab,
    attribution: Attribution,
    target: int,
    remove: Ids,
    verify: int = 8,
    seed: int = 0,
    level: float = 0.95,
) -> WhatIf:
    """What happens to target row ``target`` when the rows ``remove`` leave the full training data?

    Predicted by the attribution: as removals of the kind turned out, selected or at random, where it was calibrated on
    :func:`calibration_removals`; else by the sum of the scores, with an interval only where one holds (rows that do
    not stand out by their scores, at most 10 %, scores from models that saw nearly all the data). Verified by
    ``verify`` pairs of retrainings with and without the rows, each pair with one training seed (common random numbers):

        verified = mean difference +- t_{verify - 1} sd / sqrt(verify)

    Pairs with a diverged run are left out and counted in the notes. ``verify=0`` only predicts.

    Raises ``UnitsError`` dl-507 (relative units), ``BadInput`` dl-108 to dl-111 (rows), dl-730 (nothing would be
    left), dl-731 (one pair has no interval), dl-732 (level), dl-733 (an attribution of other sizes), dl-512 (other training
    data, targets or output), dl-513 (another learner), ``CapabilityError`` dl-734 (a learner that cannot retrain).

    >>> import torch
    >>> from dataloupe import core, outputs, testing
    >>> data = core.Examples(torch.eye(3), labels=torch.tensor([1.0, 2.0, 3.0]))
    >>> question = core.Question(testing.RidgeLearner(penalty=1.0), data, data[:1], outputs.value)
    >>> scores = core.DenseAttribution(np.array([[0.5, 0.0, 0.0]]), core.Info("by hand"))
    >>> print(what_if(question, core.MemoryLab(), scores, target=0, remove=[0], verify=2))
    predicted -0.5 (no interval), verified -0.5 [-0.5, -0.5] by 2 pairs of retrainings: agree
    """
    needs_units(attribution, "the change of an output by a removal")
    ids, target = check_what_if(question, attribution, target, remove, verify=verify, level=level)
    predicted, predicted_interval, why = predict_removal(attribution, target, ids, level)
    notes = [*why, *_notes(question, attribution, ids, verify)]
    belonging = check_same(f"a what-if by {attribution.info.method}", attribution, question, learner="refuse")
    differences, rounding = np.empty(0), 0.0
    if verify:
        worlds = Subsets.without(question.n, [[], ids], seed=seed)
        outcomes = lab.outcomes(question, worlds, repeats=verify)
        good = (outcomes.status == OK).all(axis=0)
        values = outcomes.values[:, good, target].astype(np.float64)
        differences = values[1] - values[0]
        rounding = ROUNDING * float(np.abs(values).max(initial=0.0))
        if not good.all():
            notes.append(f"{int((~good).sum())} of {verify} pairs diverged and were left out")
    verified, interval = _verify(differences, level)
    verdict = judge_change(predicted, predicted_interval, interval, rounding)
    return WhatIf(
        method=attribution.info.method,
        target=target,
        removed=ids,
        predicted=predicted,
        predicted_interval=predicted_interval,
        verified=verified,
        verified_interval=interval,
        differences=differences,
        verdict=verdict,
        notes=(*notes, *belonging),
        provenance=question.provenance,
    )


def _verify(differences: Float[np.ndarray, " r"], level: float) -> tuple[float | None, Interval | None]:
    """The mean difference and its t interval."""
    pairs = len(differences)
    if pairs < 2:
        return None, None
    mean = float(differences.mean())
    half = float(stats.t.ppf(0.5 + level / 2, pairs - 1) * differences.std(ddof=1)) / pairs**0.5
    return mean, (mean - half, mean + half)


def judge_change(
    predicted: float, interval: Interval | None, verified: Interval | None, rounding: float = 0.0
) -> Verdict:
    """The verdict on a predicted change, see :class:`WhatIf`. Below ``rounding`` is nothing.

    >>> judge_change(-1.9, (-2.4, -1.4), (-1.9, -1.3)), judge_change(0.0, (-2.0, 2.0), (-1.9, -1.3))
    ('agree', 'uninformative')
    """
    if verified is None:
        return "unverified"
    low, high = verified
    if interval is None:
        return _judge_point(predicted, verified, rounding)
    mean, noise = (low + high) / 2, (high - low) / 2
    vague = interval[1] - predicted if mean > predicted else predicted - interval[0]
    margin = math.hypot(noise, vague) + rounding
    if abs(predicted - mean) > margin:
        return "disagree"
    has_sign = interval[0] > rounding or interval[1] < -rounding
    if has_sign and margin < abs(mean):
        return "agree"
    return "undecided" if has_sign and noise > vague else "uninformative"


def _judge_point(predicted: float, verified: Interval, rounding: float) -> Verdict:
    """The verdict on a prediction that claims no more than its order of magnitude."""
    low, high = verified
    half, twice = sorted((predicted / 2, predicted * 2))
    if high < half - rounding or low > twice + rounding:
        return "disagree"
    if abs(predicted) <= rounding:
        return "uninformative"
    return "agree" if half - rounding <= low and high <= twice + rounding else "undecided"


def _notes(question: Question, attribution: Attribution, ids: Ids, verify: int) -> list[str]:
    """Where the prediction was made elsewhere than where it is asked."""
    info, notes = attribution.info, []
    if info.fraction is None:
        notes.append("nobody knows at which share of the data the attribution was linearised")
    elif info.fraction < NEAR_ALL:
        notes.append(
            f"linearised at {info.fraction:.0%} of the data, asked about removing {len(ids) / question.n:.1%} "
            "of all of it: effects may differ in size"
        )
    done = getattr(question.learner, "removal", info.removal)
    if done != info.removal:
        notes.append(f"the attribution means removal by {info.removal}, the learner does it by {done}")
    if verify == 0:
        notes.append("no retraining was asked for")
    return [*notes, *steps_note(question, [len(ids)])]


@checked("dl-511")
def check_what_if(
    question: Question,
    attribution: Attribution,
    target: int,
    remove: Ids,
    *,
    verify: int,
    level: float = 0.95,
) -> tuple[Int[np.ndarray, " g"], int]:
    """The rows and the target of a what-if that can be meant, before any work; raises as :func:`what_if` does."""
    if (attribution.n, attribution.m) != (question.n, question.m):
        raise BadInput(
            "dl-733",
            asked=f"a question of {question.m} target rows and {question.n} training examples",
            found=f"an attribution of {attribution.m} and {attribution.n}",
            do="use the attribution of this question",
        )
    row = int(check_ids([target], question.m, "a target row")[0])
    ids = check_ids(remove, question.n, "rows to remove")
    if len(ids) == question.n:
        raise BadInput(
            "dl-730",
            asked="the removal of every training example",
            found="nothing left to train on",
            do="keep at least one",
        )
    if verify < 0 or verify == 1:
        raise BadInput(
            "dl-731",
            asked=f"verification by {verify} pairs of retrainings",
            found="a count that gives no interval",
            do="ask for at least 2 (8 are a good number), or 0 to only predict",
        )
    if not 0.0 < level < 1.0:
        raise BadInput(
            "dl-732", asked=f"a level of {level:g}", found="no share between 0 and 1", do="give 0.95, say"
        )
    if verify and "train" not in capabilities(question):
        raise CapabilityError(
            "dl-734",
            asked="verification by retraining",
            found=f"{type(question.learner).__name__}, which holds finished models",
            do="set verify=0, or ask the question of a learner with `train`",
        )
    return ids, row


def _text(value: float, interval: tuple[float, float] | None) -> str:
    """value [low, high], with the decimals that the interval's half width deserves."""
    half = 0.0 if interval is None else (interval[1] - interval[0]) / 2
    decimals = -math.floor(math.log10(half)) if half > 1e-6 * abs(value) else None

    def number(x: float) -> str:
        return f"{x:.2g}" if decimals is None else f"{x:.{max(decimals, 0)}f}"

    return number(value) + ("" if interval is None else f" [{number(interval[0])}, {number(interval[1])}]")
