"""Outputs: the numbers of a model that are explained, and what the training loss is to them."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from dataloupe._identity import Stream
from dataloupe.core._examples import Rows
from dataloupe.core._model import Model


@runtime_checkable
class Output(Protocol):
    """One or more numbers of a model on one example.

    ``value`` gives ``[b]`` or ``[b, c]`` (classes, tokens, timesteps are components), differentiable in the
    model's parameters; ``valid`` says which components exist, ``[b, c]``; ``slope`` is **minus** dLoss/dvalue
    of the training loss at that value (the Q of TRAK). ``repeats`` keyed random draws are averaged.

    An output may declare ``better``: "higher" or "lower", or None, as if undeclared, where neither is better (a logit). It
    decides what "helps" and "hurts" mean (:func:`better_of`); a positive score always means that the output rises.
    """

    @property
    def name(self) -> str:
        """The word for it in tables and reports."""
        ...

    @property
    def repeats(self) -> int:
        """How many keyed random draws are averaged; 1 for an output without randomness."""
        ...

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Shaped[Tensor, "b *c"]:
        """The output on every row."""
        ...

    def slope(
        self, model: Model, rows: Rows, values: Tensor, draw: Stream | None = None
    ) -> Shaped[Tensor, "b *c"]:
        """Minus the derivative of the training loss by the output, at `values`."""
        ...

    def valid(self, rows: Rows) -> Bool[Tensor, "b c"]:
        """Which components of which rows exist."""
        ...


@runtime_checkable
class CurvedOutput(Output, Protocol):
    """An output in which the training loss is convex, and whose slope and rows tell how much."""

    def curvature(self, slopes: Float[Tensor, " b"], rows: Rows) -> Float[Tensor, " b"]:
        """The second derivative of the training loss by the output, where these rows have these slopes."""
        ...


@runtime_checkable
class ProbedOutput(Output, Protocol):
    """An output whose training loss curves in more directions than its own gradient.

    With y_r the gradient of probe r, ``sum_i mean_r y_ir y_ir'`` is the curvature of the training loss in the parameters.
    """

    def probes(self) -> Sequence[Output]:
        """Outputs of one number per row, whose gradients are the directions."""
        ...
