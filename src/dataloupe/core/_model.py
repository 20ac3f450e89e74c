"""Models: something that predicts; a torch model also shows its parameters."""

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.func import functional_call

from dataloupe._errors import BadInput
from dataloupe._identity import content_digest, module_structure
from dataloupe._typing import Inputs
from dataloupe.core._checkpointing import without_checkpointing
from dataloupe.core._dtypes import check_whole_inputs, match_dtype

_BESIDE: ContextVar[bool] = ContextVar("beside", default=False)


@contextmanager
def beside() -> Iterator[None]:
    """Within it, forward passes are no part of what is differentiated: nothing that watches a pass looks at them.

    >>> with beside():
    ...     is_beside(), torch.is_grad_enabled()
    (True, False)
    """
    token = _BESIDE.set(True)
    try:
        with torch.no_grad():
            yield
    finally:
        _BESIDE.reset(token)


def is_beside() -> bool:
    """Whether a forward pass is beside the one that is watched."""
    return _BESIDE.get()


@runtime_checkable
class Model(Protocol):
    """Something that predicts: inputs ``[b, ...]`` in, numbers ``[b, c]`` out; a language model gives ``[b, t, v]``."""

    def predict(self, inputs: Inputs) -> Tensor:
        """The model's raw outputs (logits, probabilities' logs, regression values), ``[b, c]``."""
        ...


class Origin(NamedTuple):
    """What a model was trained on: the fingerprint of the data, and which rows of it were kept ``[n]``.

    ``learner``: the hash of what trained it (``Question.provenance``); empty where nothing recorded it.
    """

    train: str
    kept: Bool[np.ndarray, " n"]
    learner: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class TorchModel:
    """A torch model as a function of its parameters: ``module`` is structure, the numbers stand beside it.

    ``params`` and ``buffers`` are what ``named_parameters`` and ``named_buffers`` give. ``predict`` is
    differentiable in them, and runs in evaluation mode. ``origin`` is what it was trained on, where that is known.
    """

    module: nn.Module
    params: dict[str, Tensor]
    buffers: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    origin: Origin | None = None

    def predict(self, inputs: Inputs) -> Tensor:
        """``module(inputs)`` in evaluation mode, with these parameters and buffers."""
        with _lock_of(self.module):
            if any(part.training for part in self.module.modules()):
                self.module.eval()
            return call_module(self.module, {**self.params, **self.buffers}, inputs)

    def __identity__(self) -> dict[str, Any]:
        """The module's structure and code, and all numbers."""
        tensors = {**self.params, **self.buffers}
        still = sorted(name for name, _ in self.module.named_parameters() if name in self.buffers)
        return {
            "module": module_structure(self.module),
            "tensors": {name: content_digest(tensor) for name, tensor in tensors.items()},
            **({"held still": still} if still else {}),
        }

    def with_params(self, params: dict[str, Tensor]) -> "TorchModel":
        """The same model with other parameters."""
        return dataclasses.replace(self, params=params)


_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_LOCKS_GUARD = threading.Lock()


def _lock_of(module: nn.Module) -> Any:
    """The lock of a module: a call puts tensors into it, and no other thread may come between."""
    with _LOCKS_GUARD:
        return _LOCKS.setdefault(module, threading.RLock())


def call_module(module: nn.Module, tensors: dict[str, Tensor], inputs: Inputs) -> Tensor:
    """``module(inputs)`` with its parameters and buffers replaced: a dict becomes keywords, a tuple positions.

    What the call puts in a buffer's place stands in ``tensors`` afterwards.
    Of an object or dict with ``logits`` or a ``sample`` (as Hugging Face's models and those of diffusers give) these. A module that
    would compute parts again in the backward pass does not. Floating-point inputs come in the type of the model's numbers. Raises
    ``BadInput`` dl-113 (a token or class that its tables have not), dl-136 (whole numbers for a layer that takes none),
    dl-265 (no tensor).
    """
    inputs = match_dtype(inputs, tensors)
    args, named = (
        ((), inputs) if isinstance(inputs, dict) else (inputs if isinstance(inputs, tuple) else (inputs,), {})
    )
    try:
        with _lock_of(module), without_checkpointing():
            predicted = logits_of(functional_call(module, tensors, args, named))
    except RuntimeError as error:
        check_whole_inputs(module, inputs, error)
        raise
    except IndexError as error:
        if "index out of range" not in str(error):
            raise
        raise BadInput(
            "dl-113",
            asked=f"a forward pass of {type(module).__name__}",
            found="a number without a row in one of its tables: a token outside the vocabulary, a class or a place beyond the last",
            do="make the table larger, or the numbers smaller: vocab_size, num_class_embeds, the longest sequence",
        ) from error
    if not isinstance(predicted, Tensor):
        parts = f" of {len(predicted)} parts" if isinstance(predicted, tuple | list | dict) else ""
        raise BadInput(
            "dl-265",
            asked=f"the predictions of {type(module).__name__}",
            found=f"a {type(predicted).__name__}{parts}, and no tensor",
            do="give one tensor (or an object with `logits`): wrap the module in one whose forward returns that part",
        )
    return predicted


def logits_of(found: Any) -> Any:
    """A model's ``logits`` (or ``sample``, as a denoiser says) where it gives an object or dict that has some, else what it gives."""
    for name in ("logits", "sample"):
        part = found.get(name) if isinstance(found, dict) else getattr(found, name, None)
        if isinstance(part, Tensor):
            return part
    return found
