"""Outputs of segmentation: loss and margin of a picture, the mean over its pixels.

The model gives ``[b, c, h, w]`` (or fewer or more axes of space), labels are class numbers ``[b, h, w]``, :data:`core.IGNORED` (-100)
where a pixel does not count. On the training side the learner's loss itself stands for these outputs.
"""

# ruff: noqa: ARG002  (the protocol hands every output the model, the rows and the draw)

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dataloupe._identity import Stream
from dataloupe.core import IGNORED, Better, Model, Rows, TrainingLoss
from dataloupe.losses import CrossEntropy
from dataloupe.outputs._checks import all_valid, check_pixels, others, pick, pixel_logits

_LOSS = CrossEntropy()


class _OfPicture:
    """One number for every picture."""

    name: ClassVar[str]
    repeats: ClassVar[int] = 1
    assumed_loss: ClassVar[TrainingLoss] = _LOSS

    def valid(self, rows: Rows) -> Bool[Tensor, "b 1"]:
        """One component per picture (dl-802, dl-838)."""
        check_pixels(rows, f"the {self.name}")
        return all_valid(rows, 1)


@dataclasses.dataclass(frozen=True)
class PixelLoss(_OfPicture):
    """The cross-entropy of a picture: ``f = -1/S sum_s log p_s`` over its S pixels that are not ignored.

    ``value [b]`` in nats, at least 0; *lower* is better. ``slope = -1``.

    Raises ``BadInput`` dl-802 (no labels), dl-838 (no predictions or labels of pixels), dl-834 (shapes that do not fit).

    >>> from dataloupe.core import TorchModel
    >>> identity = TorchModel(torch.nn.Identity(), {})
    >>> pixel_loss.value(identity, Rows(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.int64)))
    tensor([0.6931])
    """

    name: ClassVar[str] = "pixel loss"
    better: ClassVar[Better] = "lower"

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """The mean over the pixels."""
        return _LOSS.per_row(pixel_logits(model, rows), rows)

    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, " b"], draw: Stream | None = None
    ) -> Float[Tensor, " b"]:
        """-1 everywhere."""
        return -torch.ones_like(values)


@dataclasses.dataclass(frozen=True)
class PixelMargin(_OfPicture):
    """The mean log-odds of a picture's S pixels that are not ignored: ``f = 1/S sum_s log(p_s / (1 - p_s))``.

    ``value [b]`` in nats; *higher* is better. ``slope = 1/S sum_s (1 - p_s)`` takes all pixels to move alike.

    Raises ``BadInput`` dl-802 (no labels), dl-838 (no predictions or labels of pixels), dl-804 (a class without a column).

    >>> from dataloupe.core import TorchModel
    >>> identity = TorchModel(torch.nn.Identity(), {})
    >>> pixel_margin.value(identity, Rows(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)))
    tensor([-0.6931])
    """

    name: ClassVar[str] = "pixel margin"
    better: ClassVar[Better] = "higher"

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """The mean over the pixels."""
        return _mean(*_margins(model, rows))

    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, " b"], draw: Stream | None = None
    ) -> Float[Tensor, " b"]:
        """The mean of ``1 - p``, between 0 and 1."""
        with torch.no_grad():
            margins, counted = _margins(model, rows)
        return _mean(torch.sigmoid(-margins), counted)


def _margins(model: Model, rows: Rows) -> tuple[Float[Tensor, "b s"], Bool[Tensor, "b s"]]:
    """The log-odds of every pixel, and which count."""
    z = pixel_logits(model, rows).movedim(1, -1)  # [b, h, w, c]
    y = rows.labels.reshape(z.shape[:-1])  # type: ignore[union-attr]
    counted = y != IGNORED
    flat, classes = z.flatten(0, -2), y.masked_fill(~counted, 0).flatten()
    margins = pick(flat, classes) - others(flat, classes).logsumexp(1)
    return margins.view(len(z), -1), counted.flatten(1)


def _mean(values: Float[Tensor, "b s"], counted: Bool[Tensor, "b s"]) -> Float[Tensor, " b"]:
    return (values * counted).sum(1) / counted.sum(1).clamp(min=1)


pixel_loss = PixelLoss()
pixel_margin = PixelMargin()
