"""The output of a regression."""

# ruff: noqa: ARG002  (the protocol hands every output the model, the rows and the draw)

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import Better, Model, PlainLoss, Rows, check_settings
from dataloupe.outputs._checks import all_valid, predictions


@dataclasses.dataclass(frozen=True)
class Value:
    """The predicted value itself: ``f_c`` for every one of ``components`` outputs of a regression.

    ``value [b, c]`` in units of the labels; higher means that the model predicts more, for better or worse.
    ``slope = y - f``, the residual: the training loss is half the squared error, ``|y - f|^2 / 2``.
    Targets need no labels; the training side does, for the slope.

    Raises ``BadInput`` dl-800 (another number of columns), dl-802 (no labels), dl-805 (``components``),
    dl-806 (labels of another shape).

    >>> import torch
    >>> from dataloupe.core import TorchModel
    >>> identity = TorchModel(torch.nn.Identity(), {})
    >>> rows = Rows(torch.tensor([[2.0]]), torch.tensor([5.0]))
    >>> value.slope(identity, rows, value.value(identity, rows))
    tensor([[3.]])
    """

    components: int = 1
    name: ClassVar[str] = "value"
    better: ClassVar[Better | None] = None
    repeats: ClassVar[int] = 1
    plain_loss: ClassVar[PlainLoss] = "squares"

    def __post_init__(self) -> None:
        """Check the number of components."""
        check_settings(self, "dl-805")
        if self.components < 1:
            raise BadInput(
                "dl-805",
                asked=f"a regression value of {self.components} components",
                found="fewer than one",
                do="name the number of columns that the model gives",
            )

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, "b c"]:
        """The predictions as they are."""
        found = predictions(model, rows)
        if found.shape[1] != self.components:
            raise BadInput(
                "dl-800",
                asked=f"a regression value of {self.components} components",
                found=f"predictions with {found.shape[1]} columns",
                do=f"ask for outputs.Value({found.shape[1]}); for a classifier use outputs.margin",
            )
        return found

    def slope(
        self,
        model: Model,
        rows: Rows,
        values: Float[Tensor, "b c"],
        draw: Stream | None = None,
    ) -> Float[Tensor, "b c"]:
        """Label minus value."""
        if rows.labels is None:
            raise BadInput(
                "dl-802",
                asked="the slope of a regression",
                found="examples without labels",
                do="give labels: Examples(inputs, labels=...)",
            )
        self._check(rows.labels)
        return rows.labels.to(values.dtype).reshape(values.shape) - values

    def curvature(self, slopes: Float[Tensor, " b"], rows: Rows) -> Float[Tensor, " b"]:
        """The second derivative of half the squared error: 1."""
        return torch.ones_like(slopes)

    def valid(self, rows: Rows) -> Bool[Tensor, "b c"]:
        """Every component of every row."""
        if rows.labels is not None:
            self._check(rows.labels)
        return all_valid(rows, self.components)

    def _check(self, labels: Tensor) -> None:
        shape = tuple(labels.shape[1:])
        if shape != (self.components,) and not (shape == () and self.components == 1):
            raise BadInput(
                "dl-806",
                asked=f"labels of {self.components} components",
                found=f"labels of shape {shape} per example",
                do="give labels [n] for one component, [n, c] for c, and ask for outputs.Value(c)",
            )


value = Value()
