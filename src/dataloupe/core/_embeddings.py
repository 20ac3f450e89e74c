"""Embedding tables of many models at once: what ``torch.vmap`` gets wrong there, done right or refused."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from dataloupe._errors import TrainingError


def vmap_models(function: Callable[..., Any], in_dims: Any = 0) -> Callable[..., Any]:
    """``torch.vmap`` of a function of one model's tensors over many models.

    ``vmap`` folds the number of the model into the index of an embedding, so that a ``padding_idx`` is met by the first
    model alone, and the gradient of its padding row is taken in all others. Here the row gets none in any model. Tables
    that a forward pass changes (``max_norm``) are refused (dl-217).

    >>> table = torch.ones(2, 3, 1, requires_grad=True)  # of two models
    >>> rows = torch.tensor([[0, 1], [0, 1]])
    >>> look_up = vmap_models(lambda table, rows: functional.embedding(rows, table, padding_idx=1))
    >>> look_up(table, rows).sum().backward()
    >>> table.grad[:, :, 0].tolist()
    [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """

    def mapped(*args: Any) -> Any:
        with _OneTablePerModel():
            return torch.vmap(function, in_dims)(*args)

    return mapped


class _OneTablePerModel(TorchFunctionMode):
    """Rewrites look-ups in embedding tables into such as ``vmap`` maps rightly."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rewrite = _REWRITES.get(func)
        return rewrite(*args, **kwargs or {}) if rewrite else func(*args, **kwargs or {})


def _embedding(  # budget: the signature of torch.nn.functional.embedding
    input: Tensor,  # noqa: A002  (torch's name)
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,  # noqa: ARG001
    scale_grad_by_freq: bool = False,
    sparse: bool = False,  # noqa: ARG001  (the same numbers in another layout)
) -> Tensor:
    if max_norm is not None:
        raise TrainingError(
            "dl-217",
            asked="many models with an embedding table in one program",
            found="max_norm, which changes the tables in the forward pass",
            do='train with Lab(backend="auto") or Lab(backend="loop")',
        )
    size = weight.shape[0]
    if padding_idx is not None and not -size <= padding_idx < size:
        raise IndexError(f"padding_idx {padding_idx} is index out of range of a table of {size} rows")
    padding = -1 if padding_idx is None else padding_idx % size
    return _torch_embedding(weight, input, padding, scale_grad_by_freq)


def _torch_embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,  # noqa: ARG001
) -> Tensor:
    """Rows of a table, ``[...]`` to ``[..., e]``; those of the padding pass no gradient on (-1: there is none)."""
    numbers = _unwrapped(indices)
    if numbers.numel():
        low, high = numbers.aminmax()
        if low < 0 or high >= weight.shape[0]:  # vmap would look it up in the table of the next model
            raise IndexError("index out of range in self")
    rows = torch.embedding(weight, indices, -1, scale_grad_by_freq)
    if padding_idx < 0:
        return rows
    return torch.where((indices == padding_idx).unsqueeze(-1), rows.detach(), rows)


def _unwrapped(tensor: Tensor) -> Tensor:
    """The numbers of all models in one tensor, outside of every ``torch.func`` transform."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


_REWRITES: dict[Any, Callable[..., Any]] = {
    functional.embedding: _embedding,
    torch.embedding: _torch_embedding,
}


def with_dense_gradients(module: nn.Module) -> nn.Module:
    """The module, its embedding tables with gradients that are whole tensors: the same numbers in another layout."""
    for part in module.modules():
        if isinstance(part, nn.Embedding | nn.EmbeddingBag):
            part.sparse = False
    return module
