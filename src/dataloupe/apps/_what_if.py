"""Predict what a removal does to one output, retrain both worlds, compare."""

import dataclasses
import math
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._typing import Facts, Ids
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
)

ROUNDING = 2.0**-21
"""Outputs are kept in fp32: differences below this share of them are nothing."""

STANDS_OUT = (
    "the rows were picked by their scores or stand out by them: the predicted interval holds for removals at "
    "random and may be too narrow here; trust the retrainings"
)

Verdict = Literal["agree", "disagree", "undecided", "unverified"]


@dataclasses.dataclass(frozen=True, eq=False)
class WhatIf:
    """A what-if question and its answer: the change of one target row's output when rows are removed.

    ``predicted`` and ``verified`` are changes in units of the output (after the removal minus before), with
    their intervals; ``differences [r]`` what the single pairs of retrainings did. The verdict:

    - ``disagree``: the difference of the two is larger than t sqrt(se_verified^2 + se_predicted^2);
    - ``agree``: it is not, and the retrainings say more than "could be nothing": their interval leaves out 0,
      or lies within the predicted one (a prediction without an error is a point);
    - ``undecided``: it is not, but the retrainings are too noisy to tell the prediction from no effect;
    - ``unverified``: there are not two pairs of retrainings to compare with.
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

    Predicted by the attribution, with its error where it has one; verified by ``verify`` pairs of retrainings
    with and without the rows, each pair with one training seed (common random numbers):

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
    predicted -0.5, verified -0.5 [-0.5, -0.5] by 2 pairs of retrainings: agree
    """
    needs_units(attribution, "the change of an output by a removal")
    ids, target = check_what_if(question, attribution, target, remove, verify=verify, level=level)
    predicted, error = _predict(attribution, target, ids)
    notes = _notes(question, attribution, len(ids), verify)
    belonging = check_same(f"a what-if by {attribution.info.method}", attribution, question, learner="refuse")
    if error is not None and _stands_out(attribution, target, ids):
        notes.append(STANDS_OUT)
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
    verified, interval, verdict = _verify(predicted, error, differences, rounding, level)
    side = None if error is None else normal_quantile(level) * error
    return WhatIf(
        method=attribution.info.method,
        target=target,
        removed=ids,
        predicted=predicted,
        predicted_interval=None if side is None else (predicted - side, predicted + side),
        verified=verified,
        verified_interval=interval,
        differences=differences,
        verdict=verdict,
        notes=(*notes, *belonging),
        provenance=question.provenance,
    )


def _predict(attribution: Attribution, target: int, ids: np.ndarray) -> tuple[float, float | None]:
    """The change and its standard error, or None where the attribution knows none."""
    predicted = float(attribution.effect([ids], targets=[target])[0, 0])
    try:
        return predicted, float(attribution.error([ids], targets=[target])[0, 0])
    except CapabilityError:
        return predicted, None


def _verify(
    predicted: float, error: float | None, differences: Float[np.ndarray, " r"], rounding: float, level: float
) -> tuple[float | None, tuple[float, float] | None, Verdict]:
    """The mean difference, its t interval, and whether the prediction stands. Below ``rounding`` is nothing."""
    pairs = len(differences)
    if pairs < 2:
        return None, None, "unverified"
    mean = float(differences.mean())
    noise = float(differences.std(ddof=1)) / pairs**0.5
    t = float(stats.t.ppf(0.5 + level / 2, pairs - 1))
    low, high = mean - t * noise, mean + t * noise
    if abs(predicted - mean) > t * math.hypot(noise, error or 0.0) + rounding:
        return mean, (low, high), "disagree"
    side = 0.0 if error is None else normal_quantile(level) * error
    within = predicted - side - rounding <= low and high <= predicted + side + rounding
    clear = low > rounding or high < -rounding or within
    return mean, (low, high), "agree" if clear else "undecided"


def normal_quantile(level: float) -> float:
    """Half the width of a two-sided normal interval, in standard errors."""
    return float(stats.norm.ppf(0.5 + level / 2))


def _stands_out(attribution: Attribution, target: int, ids: np.ndarray) -> bool:
    """Whether the sum of the rows' scores is more than 3 standard deviations from that of random rows."""
    scores = attribution.rows([target])[0].astype(np.float64)
    away = abs(float(scores[ids].sum()) - len(ids) * float(scores.mean()))
    return away > 3.0 * float(scores.std()) * len(ids) ** 0.5


def _notes(question: Question, attribution: Attribution, removed: int, verify: int) -> list[str]:
    """Where the prediction was made elsewhere than where it is asked."""
    info, notes = attribution.info, []
    if info.fraction is None:
        notes.append("nobody knows at which share of the data the attribution was linearised")
    elif info.fraction < 0.9:
        notes.append(
            f"linearised at {info.fraction:.0%} of the data, asked about removing {removed / question.n:.1%} "
            "of all of it: effects may differ in size"
        )
    done = getattr(question.learner, "removal", info.removal)
    if done != info.removal:
        notes.append(f"the attribution means removal by {info.removal}, the learner does it by {done}")
    if verify == 0:
        notes.append("no retraining was asked for")
    return notes


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
