"""The steps of an :class:`SGD` in plain torch: a module, ``backward`` and ``torch.optim``."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dataloupe._typing import Inputs
from dataloupe.core import Batch, State, TorchModel, logits_of, match_dtype


def plain_steps(
    settings: Any,
    module: nn.Module,
    state: State,
    batches: Iterable[Batch],
    losses: Callable[[Batch, Callable[[Inputs], Tensor]], Tensor],
) -> TorchModel:
    """The model after some steps; ``losses(batch, forward)`` gives the loss of every row.

    Nothing here replaces a tensor in the module: what forward keeps in the module stays, and is there in evaluation.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for name, start in {**state.params, **state.buffers}.items():
            tensors[name].copy_(start)
    optimizer = _optimizer(settings, [p for p in module.parameters() if p.requires_grad])
    module.train()
    for batch in batches:
        for group in optimizer.param_groups:
            group["lr"] = float(settings._rate(batch.progress))
        optimizer.zero_grad()
        by_row = losses(batch, lambda inputs: _called(module, inputs))
        ((batch.weights * by_row).sum() / batch.total).backward()
        optimizer.step()
    named, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    now = {name: tensor.detach().clone() for name, tensor in {**named, **buffers}.items()}
    params = {name: now.pop(name) for name, p in named.items() if p.requires_grad}
    return TorchModel(module.eval(), params, now)


def _called(module: nn.Module, inputs: Inputs) -> Tensor:
    inputs = match_dtype(inputs, dict(module.named_parameters()))
    if isinstance(inputs, dict):
        return logits_of(module(**inputs))
    return logits_of(module(*inputs) if isinstance(inputs, tuple) else module(inputs))


def _optimizer(settings: Any, params: list[nn.Parameter]) -> torch.optim.Optimizer:
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(
            params, betas=settings.betas, weight_decay=settings.weight_decay, foreach=False, fused=False
        )
    return torch.optim.SGD(
        params,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        foreach=False,
        fused=False,
    )
