"""Many models of one structure in one program: parameters ``[M, ...]`` in, predictions ``[M, b, c]`` out."""

import torch
from torch import Tensor, nn

from dataloupe._errors import TrainingError
from dataloupe._typing import Inputs
from dataloupe.core import IGNORED, call_module, map_inputs, match_dtype

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
        return call_module(module, alone, map_inputs(lambda part: part[0], inputs))[None]
    layers = chain(module)
    if (
        layers is not None
        and isinstance(inputs, Tensor)
        and inputs.is_floating_point()
        and (inputs.ndim == 3 or isinstance(layers[0][1], nn.Flatten))
    ):
        return _run_chain(layers, params, inputs)
    try:
        return torch.vmap(lambda own, rows: call_module(module, own, rows))(tensors, inputs)
    except RuntimeError as error:
        raise TrainingError(
            "dl-217",
            asked=f"many models of {type(module).__name__} in one program",
            found=str(error).splitlines()[0],
            do='make its forward fit for torch.vmap, or train with Lab(backend="loop")',
        ) from error


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
    softmax over ten innermost numbers cannot use the vector units.
    """
    logs = torch.log_softmax(logits.mT.contiguous(), dim=-2)
    losses = -logs.gather(-2, labels[..., None, :]).squeeze(-2)
    return losses if not smoothing else (1 - smoothing) * losses - smoothing * logs.mean(-2)


def sequence_losses(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean cross entropy of every sequence's tokens: logits ``[..., b, t, v]``, labels ``[..., b, t]`` to ``[..., b]``."""
    told = labels != IGNORED
    losses = cross_entropies(logits, labels.masked_fill(~told, 0), smoothing)
    return (losses * told).sum(-1) / told.sum(-1).clamp(min=1)


def pair_losses(vectors: Tensor, weights: Tensor) -> Tensor:
    """Symmetric cross entropy of every pair among those of its batch: ``[..., b, 2, e]`` to ``[..., b]``.

    A row of weight 0, removed or no example at all, is nobody's other.
    """
    logits = vectors[..., 0, :] @ vectors[..., 1, :].mT
    own = torch.diagonal(logits, dim1=-2, dim2=-1)
    gone = (weights == 0)[..., None, :] & ~torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    ways = (logits, logits.mT)
    first, second = (way.masked_fill(gone, -torch.inf).logsumexp(-1) - own for way in ways)
    return 0.5 * (first + second)


def squared_losses(predicted: Tensor, labels: Tensor) -> Tensor:
    """Half the squared error of every row, summed over the outputs: ``[..., b, c]`` to ``[..., b]``."""
    return 0.5 * (predicted - labels.reshape(predicted.shape)).square().sum(-1)
