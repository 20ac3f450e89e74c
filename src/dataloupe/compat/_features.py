"""Features of one checkpoint, batch by batch: the seam between the script's batches and the engine."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._typing import Facts
from dataloupe.compat._projection import Reduction
from dataloupe.compat._tasks import Asked, Batch, Single, Whole, leaves, picked, size_of
from dataloupe.core import Contribution, Direct, Model, Projection, Question, Subsets, TorchModel
from dataloupe.engine import gradients

_NUMBERS = 1 << 25
"""How many numbers of gradients stand in memory at once, where each example's is made."""


class Features(NamedTuple):
    """Of a batch: ``rows [b, d]``, ``slope [b]`` = -dLoss/df, and how they were made."""

    rows: Float[np.ndarray, "b d"]
    slope: Float[np.ndarray, " b"]
    facts: Facts


class _Held(NamedTuple):
    """A model source of one model."""

    model: TorchModel

    def models(self) -> list[Model]:
        """The model."""
        return [self.model]

    def subsets(self, n: int) -> Subsets | None:  # noqa: ARG002
        """Nobody knows."""
        return None


@dataclasses.dataclass
class Featuriser:
    """Sketched gradients of the output at one checkpoint, in the parameters that ``model.params`` holds."""

    asked: Asked
    model: TorchModel
    reduction: Reduction
    model_id: int

    def of(self, batch: Batch) -> Features:
        """Features of every example of a batch.

        Raises ``BadInput`` dl-968 (not finite, or nothing but zeros) and whatever the engine refuses.
        """
        shapes = {name: tensor.shape for name, tensor in self.model.params.items()}
        bound = self.reduction.sketch(self.model_id).bind(shapes)
        device = next(iter(self.model.params.values())).device
        out = torch.zeros(size_of(batch), bound.width, device=device)
        make = self._one_pass if isinstance(self.asked, Whole) else self._one_by_one
        slope, facts = make(batch, bound, out)
        if self.reduction.project is not None:
            out = self.reduction.project(out, self.model_id).float()
        out *= self.reduction.scale(out.shape[1], sum(shape.numel() for shape in shapes.values()))
        rows = out.cpu().numpy()
        self._check(rows, slope)
        return Features(rows, slope.astype(np.float32), facts)

    def _one_pass(
        self, batch: Batch, bound: Projection, out: Float[Tensor, "b d"]
    ) -> tuple[Float[np.ndarray, " b"], Facts]:
        """Factors from one forward and one backward pass of the whole batch."""
        asked = self.asked
        examples = asked.examples(batch)  # type: ignore[union-attr]
        question = Question(_Held(self.model), examples, examples, asked.output)  # type: ignore[union-attr]

        def use(name: str, uses: list[Contribution], place: slice) -> None:
            bound.add(out[place], name, *uses)

        swept = gradients(question, self.model, "train", use)
        return swept.slope, swept.facts

    def _one_by_one(
        self, batch: Batch, bound: Projection, out: Float[Tensor, "b d"]
    ) -> tuple[Float[np.ndarray, " b"], Facts]:
        """Every example's gradient by itself, for outputs that are functions of one example."""
        asked = self.asked
        if not isinstance(asked, Single) or isinstance(batch, Mapping):
            raise _unfit("a batch that is a dict", "give a tuple of tensors, in the order of get_output")
        module, params = self.model.module.eval(), self.model.params
        rest = {name: t for name, t in self.model.buffers.items() if name in dict(module.named_parameters())}
        buffers = {name: t for name, t in self.model.buffers.items() if name not in rest}

        def value(live: dict[str, Tensor], *example: Tensor) -> Tensor:
            return asked.function.get_output(module, {**rest, **live}, buffers, *example)

        each = torch.vmap(grad(value), in_dims=(None, *([0] * len(batch))))
        p = sum(tensor.numel() for tensor in params.values())
        slopes = []
        for ids in torch.arange(len(out)).split(max(1, _NUMBERS // p)):
            part = leaves(picked(batch, ids))
            try:
                found = each(params, *part)
            except RuntimeError as error:
                said = str(error).splitlines()[0]
                raise _unfit(
                    f"get_output under vmap: {said}", "write it for one example, in torch operations"
                ) from error
            for name, gradient in found.items():
                bound.add(out[int(ids[0]) : int(ids[-1]) + 1], name, Direct(gradient.detach()))
            with torch.no_grad():
                slope = asked.function.get_out_to_loss_grad(module, {**rest, **params}, buffers, part)
            if slope.numel() != len(ids):
                given = f"get_out_to_loss_grad of shape {tuple(slope.shape)} for {len(ids)} examples"
                raise _unfit(given, "give one number per example, [b] or [b, 1]")
            slopes.append(slope.detach().reshape(-1).float().cpu())
        return torch.cat(slopes).numpy(), {"coverage": {"one by one": 1.0}}

    def _check(self, rows: Float[np.ndarray, "b d"], slope: Float[np.ndarray, " b"]) -> None:
        bad = np.flatnonzero(~(np.isfinite(rows).all(axis=1) & np.isfinite(slope)))
        if len(bad):
            found = f"NaN or infinity in {len(bad)} of {len(rows)} rows, first in row {bad[0]} of the batch"
            do = (
                "look at that row, and at the checkpoint: it may have diverged, or overflow in half precision"
            )
        elif not rows.any():
            found = "gradients that are all 0: the output does not depend on the parameters"
            do = "let get_output use the weights that it is given (torch.func.functional_call); look at grad_wrt"
        else:
            return
        raise BadInput("dl-968", asked=f"features at model {self.model_id}", found=found, do=do)


def _unfit(found: str, do: str) -> CapabilityError:
    return CapabilityError("dl-971", asked="every example's own gradient of your output", found=found, do=do)
