"""What every loss asks of its settings."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.core import PlainLoss, Rows


class NoPlainLoss:
    """A loss that is no multiple of a plain one, so that it is the output of the training side itself."""

    def weighs(self, plain: PlainLoss) -> bool:  # noqa: ARG002
        """It is no multiple of any."""
        return False

    def equals(self, plain: PlainLoss) -> bool:  # noqa: ARG002
        """It is none of the plain losses."""
        return False

    def weighed(self, rows: Rows) -> tuple[Rows, Float[Tensor, " b"] | None]:
        """Rows as they are, without weights."""
        return rows, None


def as_floats(numbers: Any) -> tuple[float, ...] | None:
    """A list, array or tensor of numbers as a tuple, so that it has an identity (dl-833)."""
    if numbers is None:
        return None
    try:
        flat = torch.as_tensor(numbers, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(
            "dl-833",
            asked=f"a loss with weights {numbers!r}",
            found=str(error).splitlines()[0],
            do="give a list of numbers",
        ) from error
    if flat.ndim != 1 or not bool(flat.isfinite().all()):
        raise BadInput(
            "dl-833",
            asked="a loss with weights",
            found=f"shape {tuple(flat.shape)}" if flat.ndim != 1 else "NaN or infinity",
            do="give a list of finite numbers, one for each class or label",
        )
    return tuple(flat.tolist())


def check_setting(loss: Any, wrong: Mapping[str, bool]) -> None:
    """Refuse the first setting that is wrong (dl-833)."""
    for name in (name for name, bad in wrong.items() if bad):
        raise BadInput(
            "dl-833",
            asked=f"{type(loss).__name__} with {name} = {getattr(loss, name.split(' ')[0])!r}",
            found="a value outside its range",
            do=f"see help(dataloupe.losses.{type(loss).__name__})",
        )


def joined_name(name: str, parts: Mapping[str, Any]) -> str:
    """The name of a loss and its settings, those that are set."""
    told = [f"{word} {_in_words(value)}" for word, value in parts.items() if value]
    return ", ".join([name, *told])


def _in_words(value: Any) -> str:
    if not isinstance(value, tuple):
        return f"{value:g}"
    few = ", ".join(f"{one:g}" for one in value[:4])
    return f"({few}{', ...' if len(value) > 4 else ''})"
