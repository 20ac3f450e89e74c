"""The mean of several attributions of one question."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dataloupe._errors import BadInput
from dataloupe._typing import Facts
from dataloupe.core._attribution import DenseAttribution
from dataloupe.core._provenance import check_same, provenance_of
from dataloupe.core._settings import checked


@checked("dl-511")
def pooled(attributions: Sequence[DenseAttribution]) -> DenseAttribution:
    """The mean of several attributions of one question, which become its single models (``parts``): from other models or subsets each.

    Scores are averaged as they are, so all must have the same units. Raises ``BadInput`` dl-508 (shapes, units), dl-512
    (other training data, targets or output), dl-513 (another learner).

    >>> from dataloupe.core import Info
    >>> one, two = (DenseAttribution(np.array([[x, 0.0]]), Info("by hand")) for x in (1.0, 3.0))
    >>> both = pooled([one, two])
    >>> both.scores.tolist(), len(both.parts())
    ([[2.0, 0.0]], 2)
    """
    shapes, units = {one.scores.shape for one in attributions}, {one.units for one in attributions}
    if len(attributions) < 2 or len(shapes) > 1 or len(units) > 1:
        raise BadInput(
            "dl-508",
            asked="the mean of several attributions of one question",
            found=f"{len(attributions)} of shapes {sorted(shapes)} in units {sorted(units)}",
            do="give at least two, over the same targets and training rows and in the same units",
        )
    first, *others = attributions
    for other in others:
        check_same("the mean of several attributions", first, other, learner="refuse")
    scores = np.asarray(np.mean([one.scores for one in attributions], axis=0, dtype=np.float64), np.float32)
    info = dataclasses.replace(
        first.info,
        certificate=_penalties(attributions),
        cost={},
        note=f"the mean of {len(attributions)}",
        provenance=_common(attributions),
        fitted=[record for one in attributions for record in one.info.fitted],
    )
    kept = {name: getattr(first, name) for name in ("units", "train", "targets", "index")}
    again = [one.at_penalty for one in attributions if one.at_penalty is not None]
    at_penalty = None
    if len(again) == len(attributions):

        def at_penalty(value: float) -> DenseAttribution:
            return pooled([one(value) for one in again])

    return DenseAttribution(scores, info, pieces=tuple(attributions), at_penalty=at_penalty, **kept)


def _penalties(attributions: Sequence[DenseAttribution]) -> Facts:
    """The ridge or damping of all, if it is one; else that of none of them, so that a comparison solves again."""
    found: Facts = {}
    for name in ("ridge", "damping"):
        values = [float(one.info.certificate[name]) for one in attributions if name in one.info.certificate]
        if len(values) == len(attributions):
            found[name] = values[0] if len(set(values)) == 1 else float(np.mean(values))
    return found


def _common(attributions: Sequence[DenseAttribution]) -> Facts:
    """What all have on record alike: of models from several places no learner is known."""
    first, *others = (provenance_of(one) for one in attributions)
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
