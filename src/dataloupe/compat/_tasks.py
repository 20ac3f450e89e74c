"""What a script of `traker` asks about: a task by name, an output of ours, or a function of one example."""

import abc
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor, nn

from dataloupe._errors import CapabilityError
from dataloupe._identity import canonical
from dataloupe._typing import Facts
from dataloupe.core import Examples, Output
from dataloupe.outputs import margin

Batch: TypeAlias = Sequence[Tensor] | Mapping[str, Tensor]
"""What a loader gives: tensors whose first axis is the batch."""


class AbstractModelOutput(abc.ABC):
    """An output of your own, as a function of one example; classes written for `traker` fit without it.

    ``get_output(model, weights, buffers, *example)`` gives f, one number, and is differentiated in ``weights`` under
    ``vmap``; ``get_out_to_loss_grad(model, weights, buffers, batch)`` gives -dLoss/df of every example of a batch.

        f(z; theta),    Q = -dLoss/df    (for the margin of a classifier: 1 - p)

    An output of :mod:`dataloupe.outputs` is several times faster, since it needs no gradient of each example.
    """

    @abc.abstractmethod
    def get_output(
        self, model: nn.Module, weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor], *example: Tensor
    ) -> Tensor:
        """The output on one example, whose tensors have no batch axis."""

    @abc.abstractmethod
    def get_out_to_loss_grad(
        self,
        model: nn.Module,
        weights: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        batch: Sequence[Tensor],
    ) -> Tensor:
        """Minus the derivative of the training loss by the output, ``[b]`` or ``[b, 1]``."""


class Whole(NamedTuple):
    """An output of a whole batch, and how a batch becomes examples."""

    output: Output
    examples: Callable[[Batch], Examples]

    def identity(self) -> Facts:
        """What decides its answers."""
        return {"output": canonical(self.output)}


class Single(NamedTuple):
    """An output of one example at a time."""

    function: Any

    def identity(self) -> Facts:
        """Its class's source, and its settings."""
        return {"class": canonical(type(self.function)), "settings": canonical(vars(self.function))}


Asked: TypeAlias = Whole | Single


def asked_of(task: Any) -> Asked:
    """The task behind what was given.

    Raises ``CapabilityError`` dl-961 for a task that there is not.
    """
    if task in ("image_classification", "iterative_image_classification"):
        return Whole(margin, _pairs)
    if task == "text_classification":
        return Whole(margin, _texts)
    if isinstance(task, Output):
        return Whole(task, _pairs)
    if all(callable(getattr(task, name, None)) for name in ("get_output", "get_out_to_loss_grad")):
        if not inspect.isclass(task):
            return Single(task)
        found, do = f"the class {task.__name__}", f"give an instance of it: {task.__name__}()"
    elif task == "clip":
        found = "a contrastive output, which needs negatives beside the batch"
        do = "wait for the release with contrastive outputs, or give an output of your own"
    else:
        found = "no such task"
        do = (
            '"image_classification", "text_classification", an output of dataloupe.outputs, '
            "or an object with get_output and get_out_to_loss_grad"
        )
    raise CapabilityError("dl-961", asked=f"the task {task!r}", found=found, do=do)


def _pairs(batch: Batch) -> Examples:
    """(inputs, labels), or a dict with ``labels`` in it."""
    if isinstance(batch, Mapping):
        return Examples(
            {name: part for name, part in batch.items() if name != "labels"}, labels=batch.get("labels")
        )
    *inputs, labels = _parts(batch, 2, "inputs and labels")
    return Examples(inputs[0], labels=labels)


def _texts(batch: Batch) -> Examples:
    """(input_ids, token_type_ids, attention_mask, labels), as keywords of the model."""
    *inputs, labels = _parts(batch, 4, "input_ids, token_type_ids, attention_mask and labels")
    names = ("input_ids", "token_type_ids", "attention_mask")
    return Examples(dict(zip(names, inputs, strict=True)), labels=labels)


def _parts(batch: Batch, count: int, names: str) -> Sequence[Tensor]:
    if isinstance(batch, Mapping) or len(batch) != count:
        raise CapabilityError(
            "dl-961",
            asked=f"a batch of {count} tensors: {names}",
            found=f"a batch of {len(batch)}",
            do="give the loader's batch as that task has it, or an output of your own",
        )
    return batch


def leaves(batch: Batch) -> list[Tensor]:
    """The tensors of a batch, in order."""
    return list(batch.values()) if isinstance(batch, Mapping) else list(batch)


def picked(batch: Batch, rows: Tensor) -> Batch:
    """Some rows of a batch."""
    if isinstance(batch, Mapping):
        return {name: part[rows.to(part.device)] for name, part in batch.items()}
    return [part[rows.to(part.device)] for part in batch]


def size_of(batch: Batch) -> int:
    """How many rows every tensor of a batch has; -1 where they differ, or are no tensors."""
    parts = leaves(batch)
    sizes = {len(part) if isinstance(part, Tensor) and part.ndim else -1 for part in parts}
    return sizes.pop() if len(sizes) == 1 else -1
