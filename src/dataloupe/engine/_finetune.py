"""Fine-tuning of many models at once: one program for a stack of them, each on batches of its own."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dataloupe._typing import Inputs
from dataloupe.core import (
    Examples,
    Seen,
    Stage,
    TorchModel,
    Tuned,
    Tuning,
    Turn,
    call_module,
    copied_module,
    map_inputs,
    vmap_models,
)

STACK = 32
"""Models in one program."""


def finetune(
    models: Sequence[TorchModel],
    data: Examples,
    tuning: Tuning,
    seeds: Sequence[int],
    stack: int | None = None,
) -> Tuned:
    """Fine-tune every model with a seed of its own; the models given are not touched.

    Models whose module convolves are tuned one by one (a stack of convolutions is slower on a CPU), all others
    ``stack`` at a time. The answer is the same up to rounding. Nothing here draws numbers: batches are keyed by the seeds.
    """
    size = stack or (
        1 if any(isinstance(m, nn.modules.conv._ConvNd) for m in models[0].module.modules()) else STACK
    )
    found: list[TorchModel] = []
    losses: list[Float[np.ndarray, "stages group"]] = []
    passes = 0
    for start in range(0, len(models), size):
        place = slice(start, min(start + size, len(models)))
        group, loss, passes = _tune(models[place], data, tuning, seeds[place], place)
        found.extend(group)
        losses.append(loss)
    finite = np.array([all(bool(p.isfinite().all()) for p in one.params.values()) for one in found])
    return Tuned(found, finite, np.concatenate(losses, axis=1), passes)


def _tune(
    models: Sequence[TorchModel], data: Examples, tuning: Tuning, seeds: Sequence[int], place: slice
) -> tuple[list[TorchModel], Float[np.ndarray, "stages group"], int]:
    """One stack; a stack of one is called as it is."""
    params = {name: torch.stack([one.params[name].detach() for one in models]) for name in models[0].params}
    buffers = {
        name: torch.stack([one.buffers[name].detach() for one in models]) for name in models[0].buffers
    }
    moving = [params[name].requires_grad_() for name in params if name not in tuning.still]
    module = models[0].module if tuning.frozen_norms else copied_module(models[0].module)
    module.train(not tuning.frozen_norms)
    optimizer = tuning.optimizer.over(moving)
    losses = np.zeros((len(tuning.stages), len(models)))
    passes = 0
    for number, stage in enumerate(tuning.stages):
        for option in optimizer.param_groups:
            option["lr"] = tuning.optimizer.lr * stage.rate
        steps = 0
        for turns in _in_step(stage, seeds):
            ids, weights = np.stack([turn.ids for turn in turns]), np.stack([turn.weights for turn in turns])
            rows = data.take(ids)
            predicted = _forward(module, params, buffers, rows.inputs)
            seen = Seen(
                predicted, rows.labels, ids, torch.from_numpy(weights).to(predicted.dtype), place, params
            )
            found = stage.objective(seen)
            optimizer.zero_grad(set_to_none=True)
            found.sum().backward()
            optimizer.step()
            losses[number] += found.detach().double().cpu().numpy()
            steps += 1
            passes += ids.shape[1]
        losses[number] /= max(steps, 1)
    made = [
        TorchModel(
            one.module,
            {name: p.detach()[i].clone() for name, p in params.items()},
            {name: b.detach()[i].clone() for name, b in buffers.items()},
            one.origin,
        )
        for i, one in enumerate(models)
    ]
    return made, losses, passes


def _in_step(stage: Stage, seeds: Sequence[int]) -> Iterator[tuple[Turn, ...]]:
    """The batches of all models, step by step (``zip`` tells when one has more steps than another)."""
    return zip(*(stage.batches(seed) for seed in seeds), strict=True)


def _forward(
    module: nn.Module, params: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Inputs
) -> Tensor:
    tensors = {**params, **buffers}
    if len(next(iter(params.values()))) == 1:
        alone = {name: tensor[0] for name, tensor in tensors.items()}
        return call_module(module, alone, map_inputs(lambda part: part[0], inputs))[None]
    return vmap_models(lambda own, rows: call_module(module, own, rows))(tensors, inputs)
