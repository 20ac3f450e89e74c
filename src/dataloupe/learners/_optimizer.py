"""How an :class:`SGD` moves: the learning rate over a training, and the optimizers' steps for one model or many."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from dataloupe._errors import BadInput
from dataloupe.core import State

_VECTOR = 64
"""Torch's fused kernel rounds the end of a tensor that fills no vector differently: it gets whole vectors only."""
_FUSED_TYPES = (torch.float32, torch.float64)
"""In half precision torch's fused kernel for CPUs is wrong (2.13: one bf16 step is off by the size of the step)."""


def learning_rate(settings: Any, progress: Tensor) -> Tensor:
    """The learning rate at a share (0 to 1) of the training."""
    rate = torch.ones_like(progress)
    if settings.schedule in ("linear", "triangular"):
        rate = (1 - progress) / (1 - settings.warmup)
    elif settings.schedule == "cosine":
        rate = 0.5 * (
            1 + torch.cos(torch.pi * ((progress - settings.warmup) / (1 - settings.warmup)).clamp(min=0))
        )
    if settings.warmup:
        rate = torch.where(progress < settings.warmup, progress / settings.warmup, rate)
    return settings.lr * rate


def moments(settings: Any, params: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What the optimizer remembers of every parameter, before its first step."""
    kinds = {"sgd": ["velocity"] if settings.momentum else [], "adamw": ["mean", "square"]}
    zeros = {
        kind: {name: torch.zeros_like(p) for name, p in params.items()} for kind in kinds[settings.optimizer]
    }
    if settings.optimizer == "adamw":
        zeros["count"] = {name: torch.tensor(0) for name in params}
    return zeros


def gradients_of(loss: Tensor, params: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradient by every parameter that the loss was made with: the others stay as they are, as in plain torch."""
    if not loss.requires_grad:
        raise BadInput(
            "dl-265",
            asked="a gradient of the loss",
            found="predictions that no parameter had a part in (detached, or made under no_grad)",
            do="let forward compute with the module's parameters, and without detach() on the way",
        )
    found = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    return {name: g for name, g in zip(params, found, strict=True) if g is not None}


def updated(settings: Any, state: State, gradients: dict[str, Tensor], lr: Tensor) -> State:
    """The optimizer's move, on copies."""
    copy = state._replace(
        params={name: p.clone() for name, p in state.params.items()},
        optimizer={
            kind: {name: v.clone() for name, v in moments.items()}
            for kind, moments in state.optimizer.items()
        },
    )
    update_in_place(settings, copy, {name: g.clone() for name, g in gradients.items()}, lr)
    return copy


def update_in_place(settings: Any, state: State, gradients: dict[str, Tensor], lr: Tensor) -> None:
    """The optimizer's move; lr is a scalar, or ``[M]`` for M models. Gradients are used up.

    A parameter without a gradient is not moved: neither by its velocity nor by weight decay.
    """
    if settings.optimizer == "adamw":
        _adamw(settings, state, gradients, lr)
        return
    shared = float(lr[0]) if lr.ndim and bool((lr == lr[0]).all()) else None
    fused = [
        name
        for name, p in state.params.items()
        if name in gradients
        and shared is not None
        and p.dtype in _FUSED_TYPES
        and p.numel() % (_VECTOR * len(p)) == 0
    ]
    velocities = state.optimizer.get("velocity", {})
    for name, p in state.params.items():
        if name in fused or name not in gradients:
            continue
        g = gradients[name]
        if settings.weight_decay:
            g.add_(p, alpha=settings.weight_decay)
        if settings.momentum:
            velocity = velocities[name].mul_(settings.momentum).add_(g)
            g = g.add_(velocity, alpha=settings.momentum) if settings.nesterov else velocity
        p.sub_(lr.reshape(lr.shape + (1,) * (p.ndim - lr.ndim)) * g)
    if fused:
        sgd(  # one pass over the memory
            [state.params[name] for name in fused],
            [gradients[name].contiguous() for name in fused],
            [velocities.get(name) for name in fused],
            fused=True,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            lr=shared or 0.0,
            dampening=0.0,
            nesterov=settings.nesterov,
            maximize=False,
        )


def _adamw(settings: Any, state: State, gradients: dict[str, Tensor], lr: Tensor) -> None:
    for name, g in gradients.items():
        p = state.params[name]
        rate = lr.reshape(lr.shape + (1,) * (p.ndim - lr.ndim))
        count = state.optimizer["count"][name].add_(1).to(p.dtype).reshape(rate.shape)
        mean, square = state.optimizer["mean"][name], state.optimizer["square"][name]
        mean.mul_(settings.betas[0]).add_(g, alpha=1 - settings.betas[0])
        square.mul_(settings.betas[1]).add_(g.square(), alpha=1 - settings.betas[1])
        size = (square / (1 - settings.betas[1] ** count)).sqrt_().add_(1e-8)
        p.mul_(1 - rate * settings.weight_decay).sub_(rate * (mean / (1 - settings.betas[0] ** count)) / size)
