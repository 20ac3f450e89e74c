"""One Newton step: the influence of the rows to forget on the parameters, taken back."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import jvp, vjp

from dataloupe._identity import Stream
from dataloupe.core import TorchModel, check_settings
from dataloupe.unlearning._context import Context, row_losses
from dataloupe.unlearning._settings import check_loss, finite, labelled, refused
from dataloupe.unlearning._tuned import Tuner

PRODUCT = 5 / 3
"""A product with the curvature in passes: a vjp goes forward and back (1), a jvp is two passes forward (2/3)."""
PROBES = 8
_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class NewtonStep(Tuner):
    """One step to where the loss of the retained rows is least, were it quadratic::

        theta <- theta + (G_R + (l2 + damping trace(G_R) / p) I)^-1 sum_F (grad loss_i + decay_i theta)

    G_R is the Gauss-Newton matrix of the summed loss over the retained rows (J' H J, with H the loss's curvature in the
    predictions), or over a sample of ``rows`` of them, keyed by the seed and scaled up to all. It assumes that the model
    stands where its training loss is flat: the retained rows' gradients are then minus those of the others.

    The training's l2 penalty belongs to its loss: ``l2=None`` takes the learner's weight decay times the number of
    retained rows (decay_i is the weight decay, for each row to forget takes its share along); 0 for AdamW, whose decay is
    no penalty. A number is a penalty ``l2 / 2 |theta|^2`` that does not depend on the number of rows, and decay_i is 0.

    ``damping`` is relative to the mean diagonal of G_R, which 8 keyed probes estimate: mean of z' G_R z / p over signs z.
    For squared loss, a linear model, all rows and ``damping=0`` this is retraining. Solved by conjugate gradients, until
    the residual is ``tolerance`` of the right side or after ``iterations``; the ledger's stages hold both ends. A product
    with G_R costs 5/3 of a pass over its rows (vjp 1, jvp 2/3), the gradients one over the rows to forget.

    Raises ``BadInput`` dl-674 (settings), dl-675 (no labels). Source: Guo et al. 2020, "Certified data removal" (without
    its noise); Koh and Liang 2017; the Gauss-Newton matrix as in Martens 2010.

    >>> NewtonStep(rows=None, damping=0.0).iterations
    30
    """

    rows: int | None = 1024
    damping: float = 0.1
    l2: float | None = None
    iterations: int = 30
    tolerance: float = 1e-6
    name: ClassVar[str] = "Newton step"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-674")
        finite("dl-674", self)
        wrong = {
            "rows": self.rows is not None and self.rows < 1,
            "damping": not self.damping >= 0,
            "l2": self.l2 is not None and not self.l2 >= 0,
            "iterations": self.iterations < 1,
            "tolerance": not self.tolerance > 0,
        }
        do = "use rows and iterations of at least 1, damping and l2 of at least 0, a tolerance above 0"
        refused("dl-674", self, wrong, do)

    def many(self, models: Sequence[TorchModel], context: Context) -> list[TorchModel]:
        """One model after the other; passes are those of the mean model."""
        check_loss(context)
        moved, told, passes = [], [], []
        for model, seed in zip(models, context.seeds(len(models)), strict=True):
            found, solved, cost = self._step(model, context, Stream.root(seed)("newton"))
            moved.append(found)
            told.append(solved)
            passes.append(cost)
        context.ledger.book(float(np.mean(passes)))
        context.ledger.stages += [
            ("iterations", [float(one.iterations) for one in told]),
            ("relative residual", [one.residual for one in told]),
        ]
        return moved

    def _step(
        self, model: TorchModel, context: Context, stream: Stream
    ) -> tuple[TorchModel, "_Solved", float]:
        """The model after its step, how the solve went, and what it cost."""
        flat = _Flat(model)
        ids = context.retained
        if self.rows is not None and self.rows < len(ids):
            ids = np.sort(ids[np.argsort(stream("rows").bits(ids))[: self.rows]])
        curvature = _Curvature(model, flat, context, ids)
        decay = _decay(context.question.learner) if self.l2 is None else 0.0
        l2 = decay * len(context.retained) if self.l2 is None else self.l2
        right = _gradient(model, flat, context) + decay * len(context.forget) * flat.of(model.params)
        shift = l2
        if self.damping:
            shift += self.damping * curvature.mean_diagonal(stream("probes"))
        solved = _solve(lambda v: curvature(v) + shift * v, right, self.iterations, self.tolerance)
        theta = flat.of(model.params) + solved.x
        params = {name: p.to(model.params[name].dtype) for name, p in flat.back(theta).items()}
        cost = PRODUCT * len(ids) * curvature.products + len(context.forget)
        return model.with_params(params), solved, cost


class _Flat:
    """Parameters as one float64 vector, and back."""

    def __init__(self, model: TorchModel) -> None:
        self._shapes = {name: p.shape for name, p in model.params.items()}
        self._sizes = [p.numel() for p in model.params.values()]

    def of(self, params: dict[str, Tensor]) -> Float[Tensor, " p"]:
        """The numbers, side by side."""
        return torch.cat([params[name].detach().double().flatten() for name in self._shapes])

    def back(self, vector: Float[Tensor, " p"]) -> dict[str, Tensor]:
        """The numbers in their shapes."""
        parts = vector.split(self._sizes)
        return {
            name: part.reshape(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }


class _Curvature:
    """Products with G_R, in the model's precision, summed in float64; rows of a sample are scaled up to all retained."""

    def __init__(self, model: TorchModel, flat: _Flat, context: Context, ids: Int[np.ndarray, " r"]) -> None:
        self._model, self._flat, self._context, self._ids = model, flat, context, ids
        self._params = {name: p.detach() for name, p in model.params.items()}
        self._scale = len(context.retained) / len(ids)
        self.products = 0

    def __call__(self, v: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """G_R v = sum_i J_i' H_i J_i v."""
        self.products += 1
        tangent = {name: part.to(self._params[name].dtype) for name, part in self._flat.back(v).items()}
        found = torch.zeros_like(v)
        for start in range(0, len(self._ids), _BLOCK):
            rows = self._context.data.take(self._ids[start : start + _BLOCK])

            def predict(params: dict[str, Tensor], inputs: Any = rows.inputs) -> Tensor:
                return self._model.with_params(params).predict(inputs)

            predicted, moved = jvp(predict, (self._params,), (tangent,))  # type: ignore[misc]
            _, back = vjp(predict, self._params)  # type: ignore[misc]
            found += self._flat.of(back(_bent(predicted.detach(), moved.detach(), labelled(rows.labels)))[0])
        return self._scale * found

    def mean_diagonal(self, stream: Stream) -> float:
        """Estimate of trace(G_R) / p: the mean of z' G_R z / p over keyed signs z."""
        found = []
        for probe in range(PROBES):
            bits = stream("probe", probe).bits(np.arange(sum(self._flat._sizes)))
            z = torch.from_numpy(1.0 - 2.0 * (bits >> np.uint64(63)).astype(np.float64))
            found.append(float(z @ self(z)) / len(z))
        return float(np.mean(found))


def _bent(
    predicted: Float[Tensor, "b c"], moved: Float[Tensor, "b c"], labels: Tensor
) -> Float[Tensor, "b c"]:
    """The loss's curvature in the predictions, times a direction: diag(p) - p p' of classes, 1 of numbers."""
    if labels.is_floating_point():
        return moved
    p = predicted.softmax(-1)
    return p * moved - p * (p * moved).sum(-1, keepdim=True)


def _gradient(model: TorchModel, flat: _Flat, context: Context) -> Float[Tensor, " p"]:
    """sum_F grad loss_i (dl-675)."""
    params = {name: p.detach().clone().requires_grad_() for name, p in model.params.items()}
    live = model.with_params(params)
    found = torch.zeros(sum(p.numel() for p in params.values()), dtype=torch.float64)
    for start in range(0, len(context.forget), _BLOCK):
        rows = context.data.take(context.forget[start : start + _BLOCK])
        loss = row_losses(live.predict(rows.inputs)[None], labelled(rows.labels)[None]).sum()
        each = torch.autograd.grad(loss, list(params.values()), allow_unused=True, materialize_grads=True)
        found += flat.of(dict(zip(params, each, strict=True)))
    return found


def _decay(learner: Any) -> float:
    """The l2 penalty of a training as a share of the mean loss; AdamW's decay is none."""
    plain = getattr(learner, "optimizer", "sgd") == "sgd"
    return float(getattr(learner, "weight_decay", 0.0)) if plain else 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class _Solved:
    """The solution, how many iterations it took, and its residual relative to the right side."""

    x: Float[Tensor, " p"]
    iterations: int
    residual: float


def _solve(
    apply: Callable[[Tensor], Tensor], right: Float[Tensor, " p"], iterations: int, tolerance: float
) -> _Solved:
    """Conjugate gradients for a symmetric positive matrix, from zero (Hestenes and Stiefel 1952).

    NaN or infinity on the way makes the solution NaN.
    """
    x, residual = torch.zeros_like(right), right.clone()
    direction, done = residual.clone(), 0
    start = size = float(residual @ residual)
    while done < iterations and size > tolerance**2 * start:
        bent = apply(direction)
        along = float(direction @ bent)
        if along <= 0:  # flat: no step to take
            break
        step = size / along
        x = x + step * direction
        residual = residual - step * bent
        before, size = size, float(residual @ residual)
        direction = residual + (size / before) * direction
        done += 1
    if not math.isfinite(size):
        x = torch.full_like(x, torch.nan)
    return _Solved(x, done, (size / start) ** 0.5 if start else 0.0)
