"""Axis letters and the few array types of the house.

The letters are fixed: ``n`` training examples, ``m`` target rows, ``k`` treatments (subsets), ``r`` seeds
per treatment, ``p`` parameters, ``d`` sketch dimensions, ``b`` rows of a batch, ``c`` components of an output.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

Array: TypeAlias = np.ndarray
"""A NumPy array; shapes are written with jaxtyping where it is used."""

Inputs: TypeAlias = Tensor | dict[str, Tensor] | tuple[Tensor, ...]
"""What a model eats: one tensor, or a dict or tuple of tensors that share their first axis."""

Ids: TypeAlias = Array | Sequence[int]
"""Row numbers of examples."""

Facts: TypeAlias = dict[str, Any]
"""What JSON can hold: strings, numbers, lists, dicts."""
