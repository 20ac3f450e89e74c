"""Which training loss stands behind slopes and curvature, and how far an output of the user's own is from it."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dataloupe._typing import Facts
from dataloupe.core import (
    LossAsTrained,
    LossOutput,
    Model,
    Question,
    SlopeOfPlainLoss,
    TorchModel,
    TrainingLoss,
    training_loss_of,
)

CHECKED_ROWS = 4
"""Training rows on which the slope of an output of the user's own is held against the loss."""
MAX_SLOPE_ERROR = 0.1
"""Gradients that are this far, relatively, from those of the training loss are told in the note."""
_PLAIN = {
    "classes": "plain cross-entropy",
    "tokens": "plain cross-entropy, the mean over tokens",
    "token sums": "plain cross-entropy, the sum over tokens",
    "squares": "half the squared error",
}


def loss_facts(question: Question, model: Callable[[], Model]) -> tuple[Facts, Sequence[str]]:
    """Entries of the certificate, and of the note where something is assumed or does not fit."""
    loss, output = training_loss_of(question.learner), question.train_output or question.output
    if isinstance(question.on_train, LossAsTrained):
        facts: Facts = {"train_output": "the training loss itself"}
    else:
        facts = {}
    if loss is None:
        if isinstance(output, LossOutput):
            assumed = output.assumed_loss.name
        elif isinstance(output, SlopeOfPlainLoss):
            assumed = _PLAIN[output.plain_loss]
        else:
            return facts | {"training_loss": f"as the slope of {output.name} says"}, []
        return facts | {"training_loss": f"assumed: {assumed}"}, [f"training loss assumed: {assumed}"]
    facts["training_loss"] = loss.name
    if isinstance(output, SlopeOfPlainLoss | LossOutput | LossAsTrained):
        return facts, []
    error = slope_error(question, loss, model())
    if error is None:
        return facts, []
    notes = [
        f"the slope of {output.name} is {error:.0%} away from the gradient of the loss that was trained ({loss.name})"
    ]
    return facts | {"slope_error": float(f"{error:.2g}")}, notes if error > MAX_SLOPE_ERROR else []


def slope_error(question: Question, loss: TrainingLoss, model: Model) -> float | None:
    """Relative distance of ``-slope_i grad f_i`` from the gradient of the loss, over a few training rows; None without gradients."""
    if not isinstance(model, TorchModel):
        return None
    output, apart, size = question.on_train, 0.0, 0.0
    params = {name: p.detach().clone().requires_grad_() for name, p in model.params.items()}
    live = model.with_params(params)
    for i in np.linspace(0, question.n - 1, min(CHECKED_ROWS, question.n)).astype(int).tolist():
        rows = question.train.take([i])
        with torch.enable_grad():
            value = output.value(live, rows)
            claimed = _gradient(-(output.slope(live, rows, value.detach()) * value).sum(), params)
            weighted = LossAsTrained(loss).value(live, rows).sum()
            trained = _gradient(
                weighted if rows.row_weights is None else weighted * rows.row_weights[0], params
            )
        apart += float((claimed - trained).square().sum())
        size += float(trained.square().sum())
    return (apart / size) ** 0.5 if size > 0.0 else None


def _gradient(value: Tensor, params: dict[str, Tensor]) -> Tensor:
    """The gradient of one number, all parameters in one vector."""
    found = torch.autograd.grad(value, list(params.values()), allow_unused=True)
    flat = [torch.zeros_like(p) if g is None else g for p, g in zip(params.values(), found, strict=True)]
    return torch.cat([part.flatten().double() for part in flat])
