"""Per-example gradients of outputs, sketched as they come, and the inputs of the last layer."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import grad
from torch.utils._pytree import tree_map

from dataloupe._errors import CapabilityError
from dataloupe.core import (
    Embeddings,
    Examples,
    Features,
    Model,
    Output,
    Question,
    Rows,
    Sketch,
    TorchModel,
    averaged,
    averaged_slope,
    last_layer_inputs,
    map_inputs,
    torch_model,
)

_BLOCK_NUMBERS = 1 << 25


def features(question: Question, model: Model, sketch: Sketch) -> Features:
    """Sketched gradients of the train output on every example and of the output on every target row.

    Of a diverged model they are not finite; methods leave it out and count it. Raises ``CapabilityError`` dl-208
    if the train output has several components.
    """
    live = torch_model(model)
    train, slope = _sketched(question.on_train, live, question.train, sketch)
    if len(slope) != question.n:
        raise CapabilityError(
            "dl-208",
            asked="one gradient per training example",
            found=f"{len(slope)} components of {question.n} examples",
            do="give the question a `train_output` of one component, such as outputs.margin",
        )
    targets, _ = _sketched(question.output, live, question.targets, sketch)
    return Features(train, slope, targets)


def embeddings(question: Question, model: Model) -> Embeddings:
    """What the last layer sees, on both sides."""
    live = torch_model(model)
    return Embeddings(last_layer_inputs(live, question.train), last_layer_inputs(live, question.targets))


def _sketched(
    output: Output, model: TorchModel, data: Examples, sketch: Sketch
) -> tuple[Float[np.ndarray, "rows d"], Float[np.ndarray, " rows"]]:
    valid = torch.cat([output.valid(data.take(ids)) for ids in torch.arange(len(data)).split(1024)])
    pairs = valid.nonzero()
    p = sum(tensor.numel() for tensor in model.params.values())
    found = torch.empty(len(pairs), sketch.width(p))
    slopes = torch.empty(len(pairs))
    start = 0
    for block in pairs.split(int(np.clip(_BLOCK_NUMBERS // p, 1, 512))):
        rows = data.take(block[:, 0])
        gradients, slope = per_example(output, model, rows, block[:, 1], valid.shape[1])
        place = slice(start, start + len(block))
        found[place], slopes[place] = sketch.project(gradients), slope
        start += len(block)
    return found.numpy(), slopes.numpy()


def per_example(
    output: Output, model: TorchModel, rows: Rows, component: Tensor, components: int
) -> tuple[Float[Tensor, "b p"], Float[Tensor, " b"]]:
    """The gradient of one component of the output for every row, and the slope there, in one pass."""

    def value(params: dict[str, Tensor], row: Rows, chosen: Bool[Tensor, " c"]) -> tuple[Tensor, Tensor]:
        alone = Rows(
            map_inputs(lambda part: part[None], row.inputs), None if row.labels is None else row.labels[None]
        )
        live = model.with_params(params)
        values = averaged(output, live, alone)
        slopes = averaged_slope(output, live, alone, values.detach())
        picked = torch.where(chosen, values.reshape(-1), 0.0).sum()
        return picked, torch.where(chosen, slopes.reshape(-1), 0.0).sum()

    chosen = torch.nn.functional.one_hot(component, components).bool()
    dims = tree_map(lambda leaf: 0 if isinstance(leaf, Tensor) else None, rows)
    gradients, slope = torch.vmap(grad(value, has_aux=True), in_dims=(None, dims, 0))(
        model.params, rows, chosen
    )
    return torch.cat([gradients[name].flatten(1) for name in model.params], dim=1).detach(), slope.detach()
