"""Copies of modules."""

import copy
from typing import Any

from torch import Tensor, nn


def copied_module(module: nn.Module, *, sharing: bool = False) -> nn.Module:
    """A copy of a module, also of one that holds results of its parameters (``nn.utils.weight_norm``).

    ``sharing``: it holds the same parameters and buffers; all else in it is its own.

    >>> module = nn.Linear(2, 1)
    >>> copied_module(module, sharing=True).weight is module.weight, copied_module(module).weight is module.weight
    (True, False)
    """
    memo: dict[int, Any] = {}
    if sharing:
        memo = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()  # torch copies no tensor that has a history
    return copy.deepcopy(module, memo)
