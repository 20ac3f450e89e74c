"""Changes of one column of a table."""

import dataclasses
import math
from typing import ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Inputs
from dataloupe.core import Examples, check_settings
from dataloupe.transforms._checks import number_like, put_back, refused, settings, strength_within, toward


@dataclasses.dataclass(frozen=True)
class SetColumn:
    """Move a column towards a value: ``x_c + s (value - x_c)``, s in 0..1 (1: the column is the value).

    Inputs ``[b, d]``, floats or whole numbers (then rounded); ``value`` in the column's units. The result is clipped to
    ``low``..``high``, without bounds by default: the value is yours, whether or not the data hold such ones.

    Raises ``BadInput`` dl-790 (settings, strength), dl-791 (no table, no such column).

    >>> SetColumn(1, 8.0)(torch.tensor([[1.0, 2.0]]), 0.5, torch.empty(1, 0))
    tensor([[1., 5.]])
    """

    column: int
    value: float
    low: float = -math.inf
    high: float = math.inf
    draws: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-791")
        good = self.column >= 0 and math.isfinite(self.value) and self.low <= self.value <= self.high
        settings(f"{self}", good, "give a column from 0 and a finite value from low to high")

    @property
    def limits(self) -> tuple[float, float]:
        """``low`` and ``high``."""
        return self.low, self.high

    def __call__(self, inputs: Inputs, strength: float, uniforms: Float[Tensor, "b draws"]) -> Inputs:  # noqa: ARG002
        """The table with that column moved."""
        strength_within("SetColumn", strength, 0.0, 1.0)
        table = _table("SetColumn", inputs, self.column)
        if strength == 0:
            return table.clone()
        old = number_like("SetColumn", table[:, self.column])
        return _with(table, self.column, toward(old, torch.tensor(self.value), strength), self.limits)


@dataclasses.dataclass(frozen=True)
class ShiftColumn:
    """Shift a column by standard deviations: ``x_c + s deviation``, s any number, negative ones too.

    Inputs ``[b, d]``, floats or whole numbers (then rounded); ``deviation`` is one standard deviation in the column's
    units, a fixed number so that a row's change does not depend on the other rows: :meth:`of` takes it from data.
    The result is clipped to ``low``..``high``, without bounds by default: rows at the column's end leave it.

    Raises ``BadInput`` dl-790 (settings, strength), dl-791 (no table, no such column).

    >>> ShiftColumn(0, deviation=2.0)(torch.tensor([[1.0, 2.0]]), -1.5, torch.empty(1, 0))
    tensor([[-2.,  2.]])
    """

    column: int
    deviation: float
    low: float = -math.inf
    high: float = math.inf
    draws: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-791")
        good = self.column >= 0 and 0 < self.deviation < math.inf and self.low < self.high
        settings(f"{self}", good, "give a column from 0, a deviation above 0, and low below high")

    @classmethod
    def of(
        cls, examples: Examples, column: int, *, low: float = -math.inf, high: float = math.inf
    ) -> "ShiftColumn":
        """With the standard deviation (n - 1) of that column of the examples (dl-790 where it is 0).

        >>> ShiftColumn.of(Examples(torch.tensor([[0.0], [2.0], [4.0]])), 0).deviation
        2.0
        """
        values = number_like(
            "ShiftColumn", _table("ShiftColumn", examples.inputs, column)[:, column]
        ).double()
        return cls(column, float(values.std()) if len(values) > 1 else 0.0, low, high)

    @property
    def limits(self) -> tuple[float, float]:
        """``low`` and ``high``."""
        return self.low, self.high

    def __call__(self, inputs: Inputs, strength: float, uniforms: Float[Tensor, "b draws"]) -> Inputs:  # noqa: ARG002
        """The table with that column shifted."""
        strength_within("ShiftColumn", strength, -math.inf, math.inf)
        table = _table("ShiftColumn", inputs, self.column)
        if strength == 0:
            return table.clone()
        old = number_like("ShiftColumn", table[:, self.column])
        return _with(table, self.column, old + strength * self.deviation, self.limits)


def _table(name: str, inputs: Inputs, column: int) -> Shaped[Tensor, "b d"]:
    if not isinstance(inputs, Tensor) or inputs.ndim != 2:
        raise refused(name, inputs, "give a table [b, d]")
    if not 0 <= column < inputs.shape[1]:
        raise BadInput(
            "dl-791",
            asked=f"{name} of column {column}",
            found=f"a table of {inputs.shape[1]} columns",
            do=f"name a column from 0 to {inputs.shape[1] - 1}",
        )
    return inputs


def _with(
    table: Shaped[Tensor, "b d"], column: int, values: Float[Tensor, " b"], limits: tuple[float, float]
) -> Shaped[Tensor, "b d"]:
    found = table.clone()
    found[:, column] = put_back(values, table[:, column], *limits)
    return found
