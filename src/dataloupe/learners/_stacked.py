"""Many models of one structure in one program: parameters ``[M, ...]`` in, predictions ``[M, b, c]`` out."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dataloupe._errors import BadInput, TrainingError
from dataloupe._typing import Inputs
from dataloupe.core import IGNORED, call_module, map_inputs, match_dtype, vmap_models

_POINTWISE = (nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Softplus, nn.Identity)
_PICTURES = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.BatchNorm2d, nn.GroupNorm)


def stacked_forward(
    module: nn.Module, params: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Inputs
) -> Tensor:
    """The predictions of every model on its own inputs; buffers change in place.

    One model is called as it is; a plain chain of linear and pointwise layers becomes batched matrix products;
    anything else goes through ``torch.vmap`` (dl-217 where that cannot be).
    """
    tensors = {**params, **buffers}
    inputs = match_dtype(inputs, tensors)
    if len(next(iter(tensors.values()))) == 1:
        alone = {name: tensor.view(tensor.shape[1:]) for name, tensor in tensors.items()}
        predicted = call_module(module, alone, map_inputs(lambda part: part[0], inputs))
        buffers.update({name: alone[name].detach()[None] for name in buffers})
        return predicted[None]
    layers = chain(module)
    if (
        layers is not None
        and isinstance(inputs, Tensor)
        and inputs.is_floating_point()
        and (inputs.ndim == 3 or isinstance(layers[0][1], nn.Flatten))
    ):
        return _run_chain(layers, params, inputs)
    try:
        predicted, after = vmap_models(_called_with_buffers(module, buffers))(tensors, inputs)
    except RuntimeError as error:
        raise TrainingError(
            "dl-217",
            asked=f"many models of {type(module).__name__} in one program",
            found=str(error).splitlines()[0],
            do='make its forward fit for torch.vmap, or train with Lab(backend="loop")',
        ) from error
    buffers.update({name: tensor.detach() for name, tensor in after.items()})
    return predicted


def _called_with_buffers(module: nn.Module, buffers: dict[str, Tensor]) -> Callable[..., Any]:
    """A call of one model's module, and the buffers that it put new tensors in the place of."""

    def call(own: dict[str, Tensor], rows: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        tensors = dict(own)
        predicted = call_module(module, tensors, rows)
        return predicted, {name: tensors[name] for name in buffers if tensors[name] is not own[name]}

    return call


def chain(module: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """The layers of a plain chain by name, or None if the module is anything else."""
    if type(module) is not nn.Sequential:
        return None
    layers = list(module.named_children())
    flattens = [place for place, (_, layer) in enumerate(layers) if isinstance(layer, nn.Flatten)]
    tied = len(list(module.parameters())) < sum(len(list(layer.parameters())) for _, layer in layers)
    plain = not tied and all(p.requires_grad for p in module.parameters()) and flattens in ([], [0])
    known = all(type(layer) in (nn.Linear, nn.Flatten, *_POINTWISE) for _, layer in layers)
    return layers if plain and known else None


def _run_chain(layers: list[tuple[str, nn.Module]], params: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """Features before rows, ``[M, f, b]``: weight gradients then come out in the weights' own layout."""
    flowing = (inputs.flatten(2) if isinstance(layers[0][1], nn.Flatten) else inputs).mT
    for name, layer in layers:
        if isinstance(layer, nn.Linear):
            weight, bias = params[f"{name}.weight"], params.get(f"{name}.bias")
            flowing = (
                torch.bmm(weight, flowing)
                if bias is None
                else torch.baddbmm(bias[:, :, None], weight, flowing)
            )
        elif not isinstance(layer, nn.Flatten):
            flowing = layer(flowing)
    return flowing.mT


def channels_last(module: nn.Module) -> nn.Module:
    """Hooks that keep the pictures inside every convolutional ``nn.Sequential`` in channels-last order on a CPU.

    The same numbers in another order of memory: a max pool costs a tenth there, and so does a convolution of one
    channel. What leaves the chain is contiguous again, so that ``view`` still works behind it.
    """
    if isinstance(module, nn.Sequential) and _convolves(module):
        module.register_forward_pre_hook(lambda _, given: (_to_channels_last(given[0]),))
        module.register_forward_hook(lambda _, __, made: made.contiguous())
        return module
    for part in module.children():
        channels_last(part)
    return module


def _convolves(module: nn.Module) -> bool:
    leaves = [part for part in module.modules() if type(part) is not nn.Sequential]
    known = all(type(leaf) in (*_PICTURES, nn.Flatten, nn.Linear, *_POINTWISE) for leaf in leaves)
    return known and any(isinstance(leaf, nn.Conv2d) for leaf in leaves)


def _to_channels_last(images: Tensor) -> Tensor:
    if images.ndim != 4 or images.device.type != "cpu":
        return images
    if images.shape[1] == 1:  # contiguous is channels-last already, but torch looks at the strides
        _, _, height, width = images.shape
        return images.contiguous().as_strided(images.shape, (height * width, 1, width, 1))
    return images.contiguous(memory_format=torch.channels_last)


def cross_entropies(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross entropy of every row: logits ``[..., b, c]``, labels ``[..., b]`` to losses ``[..., b]``.

    The same as ``F.cross_entropy(..., reduction="none")``, with the classes moved off the innermost axis: a
    softmax over ten innermost numbers cannot use the vector units. Raises ``BadInput`` dl-263.
    """
    if labels.is_floating_point() or labels.is_complex() or labels.shape != logits.shape[:-1]:
        raise _no_labels_for(
            logits, labels, "class numbers, one whole number per row: labels.long().reshape(-1)"
        )
    logs = torch.log_softmax(logits.mT.contiguous(), dim=-2)
    try:
        losses = -logs.gather(-2, labels.long()[..., None, :]).squeeze(-2)
    except (RuntimeError, IndexError) as error:
        outside = re.search(r"index (-?\d+) is out of bounds", str(error))
        if outside is None:
            raise
        raise BadInput(
            "dl-263",
            asked="a cross-entropy of class numbers",
            found=f"the label {outside[1]}, and predictions of {logits.shape[-1]} classes",
            do="number the classes from 0, let the module predict a number for each, and leave rows without a label out",
        ) from error
    return losses if not smoothing else (1 - smoothing) * losses - smoothing * logs.mean(-2)


def sequence_losses(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean cross entropy of every sequence's tokens: logits ``[..., b, t, v]``, labels ``[..., b, t]`` to ``[..., b]``."""
    told = labels != IGNORED
    losses = cross_entropies(logits, labels.masked_fill(~told, 0), smoothing)
    return (losses * told).sum(-1) / told.sum(-1).clamp(min=1)


def pair_losses(vectors: Tensor, weights: Tensor) -> Tensor:
    """Symmetric cross entropy of every pair among those of its batch: ``[..., b, 2, e]`` to ``[..., b]``.

    A row of weight 0, removed or no example at all, is nobody's other. Raises ``BadInput`` dl-263.
    """
    if vectors.ndim < 3 or vectors.shape[-2] != 2:
        raise BadInput(
            "dl-263",
            asked="a contrastive loss",
            found=f"predictions of shape {tuple(vectors.shape)}",
            do="let the module give two vectors per row, [b, 2, e]: torch.stack([of_one, of_other], 1)",
        )
    logits = vectors[..., 0, :] @ vectors[..., 1, :].mT
    own = torch.diagonal(logits, dim1=-2, dim2=-1)
    gone = (weights == 0)[..., None, :] & ~torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    ways = (logits, logits.mT)
    first, second = (way.masked_fill(gone, -torch.inf).logsumexp(-1) - own for way in ways)
    return 0.5 * (first + second)


def squared_losses(predicted: Tensor, labels: Tensor) -> Tensor:
    """Half the squared error of every row, summed over the outputs: ``[..., b, c]`` to ``[..., b]`` (dl-263)."""
    if labels.numel() != predicted.numel() or labels.is_complex():
        raise _no_labels_for(
            predicted, labels, 'a number for every predicted one, or loss="cross_entropy" for classes'
        )
    return 0.5 * (predicted - labels.reshape(predicted.shape)).square().sum(-1)


def _no_labels_for(predicted: Tensor, labels: Tensor, words: str) -> BadInput:
    return BadInput(
        "dl-263",
        asked=f"a loss of predictions of shape {tuple(predicted.shape)}",
        found=f"labels of {labels.dtype}, shape {tuple(labels.shape)}",
        do=f"give {words}",
    )
