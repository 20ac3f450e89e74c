"""The number that a counterfactual test asks a model for: a probability, or the question's output."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Inputs
from dataloupe.core import Model, ModelSource, Question, Rows, SteppedLearner, one_value

Measure = Literal["probability", "output"]
"""The softmax probability of a class, or the question's output."""


def asked_of(
    question: Question, model: Model, rows: Rows, changed: Inputs, measure: Measure, component: int | None
) -> Float[np.ndarray, " b"]:
    """One number per example of changed inputs; ``rows`` are the unchanged ones, whose labels and components stay."""
    if measure == "output":
        values = one_value(question.output, model, rows._replace(inputs=changed)).double().cpu()
        return _component(values, question.output.valid(rows).cpu(), component).numpy()
    with torch.no_grad():
        logits = model.predict(changed)
    if component is None:
        wanted = torch.as_tensor(rows.labels).long().to(logits.device)
    else:
        wanted = torch.full((len(logits),), component, device=logits.device)
    _check_width(logits, int(wanted.max()))
    return logits.double().softmax(1).gather(1, wanted[:, None])[:, 0].cpu().numpy()


def _component(
    values: Float[Tensor, "b c"], valid: Bool[Tensor, "b c"], component: int | None
) -> Float[Tensor, " b"]:
    """That component, or the mean of those that exist."""
    if component is not None:
        return values[:, component]
    return torch.where(valid, values, 0.0).sum(1) / valid.sum(1)


def check_component(
    questions: list[Question], ids: Int[np.ndarray, " x"], measure: Measure, component: int | None
) -> None:
    """Refuse a component that examples or models do not have (dl-795), before training where that can be told."""
    first = questions[0]
    if measure == "output":
        known = first.index if component is None else first.index[first.index[:, 1] == component]
        missing = np.setdiff1d(ids, known[:, 0])
        if len(missing):
            asked = f"component {component} of the output {first.output.name}"
            found, do = (
                f"target example {missing[0]}, which has no such",
                "name a component that all examples have",
            )
            raise _unknown(asked, found, do)
        return
    labels = first.targets.labels
    if component is None and not _are_classes(labels):
        found = "no labels" if labels is None else f"labels of {labels.dtype}, shape {tuple(labels.shape)}"
        raise _unknown("the probability of the own label", found, "name a class: component=...")
    least = int(labels[torch.from_numpy(ids)].min()) if component is None else component
    if least < 0:
        raise _unknown(f"the probability of class {least}", "a number below 0", "number classes from 0")
    most = int(labels[torch.from_numpy(ids)].max()) if component is None else component
    for question in questions:
        logits = _before_training(question)
        if logits is not None:
            _check_width(logits, most)


def _are_classes(labels: Tensor | None) -> bool:
    return (
        labels is not None
        and labels.ndim == 1
        and not labels.is_floating_point()
        and labels.dtype != torch.bool
    )


def _before_training(question: Question) -> Tensor | None:
    """What a model of the question predicts for one target, if there is one already."""
    learner, inputs = question.learner, question.targets.take([0]).inputs
    with torch.no_grad():
        if isinstance(learner, SteppedLearner):
            return learner.model(learner.init(seed=0)).predict(inputs)
        return learner.models()[0].predict(inputs) if isinstance(learner, ModelSource) else None


def _check_width(logits: Tensor, most: int) -> None:
    """Refuse predictions that are no row of at least two logits per example, or lack the class (dl-795)."""
    if logits.ndim == 2 and logits.shape[1] >= 2 and most < logits.shape[1]:
        return
    raise _unknown(
        f"the probability of class {most}",
        f"predictions of shape {list(logits.shape)}",
        "name a class that models predict; of one column, or of tokens, take measure='output'",
    )


def _unknown(asked: str, found: str, do: str) -> BadInput:
    return BadInput("dl-795", asked=asked, found=found, do=do)
