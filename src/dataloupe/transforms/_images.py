"""Changes of images: a patch, a texture, a colour, a blur, a square that hides.

All take tensors ``[b, c, h, w]``, ``[b, h, w]`` or, told their ``shape``, flat ``[b, h w]`` or ``[b, c h w]``, of floats
or whole numbers (then rounded), and clip to ``low``..``high``, the range of the pixels.
"""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Inputs
from dataloupe.core import check_settings
from dataloupe.transforms._checks import refused, settings, strength_within, toward
from dataloupe.transforms._pixels import as_inputs, channels_of, check_range, images_of, place_of, window


class _Bounded:
    """The range of the pixels is the range of the result."""

    low: float
    high: float

    @property
    def limits(self) -> tuple[float, float]:
        """``low`` and ``high``."""
        return self.low, self.high


@dataclasses.dataclass(frozen=True, eq=False)
class Patch(_Bounded):
    """Lay a patch over a part: ``x + s (patch - x)`` inside, s in 0..1 its opacity.

    ``patch`` is a colour (one number, or one per channel) of ``size`` = (rows, columns) pixels or one number for a
    square, or a picture ``[h, w]`` or ``[c, h, w]`` that brings its size. It lies at ``place`` = (row, column) of its
    upper left corner, or anywhere within the image, keyed. For a dose of sizes use :class:`Occlude`.

    Raises ``BadInput`` dl-790 (settings, strength), dl-791 (no images, pixels outside of low..high, no room).

    >>> Patch(1.0, size=1, place=(0, 1))(torch.zeros(1, 2, 2), 0.5, torch.zeros(1, 2))
    tensor([[[0.0000, 0.5000],
             [0.0000, 0.0000]]])

    Source: the patches of Shah et al. 2023 (ModelDiff).
    """

    patch: Any = 1.0
    size: int | tuple[int, int] | None = None
    place: tuple[int, int] | None = None
    low: float = 0.0
    high: float = 1.0
    shape: tuple[int, ...] | None = None
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-790")
        check_range(self, self.patch)
        picture = torch.as_tensor(self.patch).ndim >= 2
        good = (min(self._size) > 0 and self.size is not None) if not picture else self.size is None
        settings(f"a patch of size {self.size}", good, "give a size to a colour, and none to a picture")
        settings(f"a patch at {self.place}", min(self.place or (0, 0)) >= 0, "give a place from (0, 0)")

    @property
    def _size(self) -> tuple[int, int]:
        if self.size is None:
            rows, columns = torch.as_tensor(self.patch).shape[-2:] or (0, 0)
            return rows, columns
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def __call__(self, inputs: Inputs, strength: float, uniforms: Float[Tensor, "b draws"]) -> Inputs:
        """The images with the patch on them."""
        strength_within("Patch", strength, 0.0, 1.0)
        images = images_of(self, inputs)
        whole = (images.shape[2], images.shape[3])
        rows, columns = self._size
        room = [extent - length for extent, length in zip(whole, (rows, columns), strict=True)]
        if min(room) < 0 or (
            self.place is not None and any(p > r for p, r in zip(self.place, room, strict=True))
        ):
            raise refused(
                "Patch", inputs, f"take a patch that fits: {rows} x {columns} at {self.place or 'any place'}"
            )
        uniforms = uniforms.to(images.device)
        top, left = (place_of(uniforms[:, i], room[i] + 1) for i in (0, 1))
        if self.place is not None:
            top, left = (torch.full_like(top, place) for place in self.place)
        picture = channels_of("Patch", self.patch, images).expand(-1, rows, columns)
        y, x = window(top, left, (rows, columns), whole)
        laid = picture[:, y.clamp(min=0)[:, :, None], x.clamp(min=0)[:, None, :]].movedim(0, 1)
        inside = (y >= 0)[:, None, :, None] & (x >= 0)[:, None, None, :]
        return as_inputs(self, torch.where(inside, toward(images, laid, strength), images), inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Blend(_Bounded):
    """Blend a texture in: ``x + s (texture - x)``, s in 0..1 its weight.

    ``texture`` is a picture ``[h, w]`` or ``[c, h, w]``, at least as large as the images; of a larger one every image
    gets a part, keyed.

    Raises ``BadInput`` dl-790 (settings, strength), dl-791 (no images, pixels outside of low..high, a smaller texture).

    >>> Blend(torch.ones(2, 2))(torch.zeros(1, 2, 2), 0.25, torch.zeros(1, 2)).flatten().tolist()
    [0.25, 0.25, 0.25, 0.25]

    Source: the spider webs of Shah et al. 2023 (ModelDiff).
    """

    texture: Any
    low: float = 0.0
    high: float = 1.0
    shape: tuple[int, ...] | None = None
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-790")
        check_range(self, self.texture)
        shape = tuple(torch.as_tensor(self.texture).shape)
        settings(f"a texture of shape {shape}", len(shape) in (2, 3), "give a picture [h, w] or [c, h, w]")

    def __call__(self, inputs: Inputs, strength: float, uniforms: Float[Tensor, "b draws"]) -> Inputs:
        """The images with the texture in them."""
        strength_within("Blend", strength, 0.0, 1.0)
        images = images_of(self, inputs)
        texture = channels_of("Blend", self.texture, images)
        room = [texture.shape[i + 1] - images.shape[i + 2] for i in (0, 1)]
        if min(room) < 0:
            raise refused(
                "Blend", inputs, f"give a texture of at least {images.shape[2]} x {images.shape[3]} pixels"
            )
        uniforms = uniforms.to(images.device)
        top, left = (place_of(uniforms[:, i], room[i] + 1)[:, None] for i in (0, 1))
        y = top + torch.arange(images.shape[2], device=images.device)
        x = left + torch.arange(images.shape[3], device=images.device)
        part = texture[:, y[:, :, None], x[:, None, :]].movedim(0, 1)
        return as_inputs(self, toward(images, part, strength), inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Colour(_Bounded):
    """Shift every pixel towards a colour: ``x + s (colour - x)``, s in 0..1.

    ``colour`` is one number per channel, or one for all of them: ``high`` brightens, ``low`` darkens.

    Raises ``BadInput`` dl-790 (settings, strength), dl-791 (no images, pixels outside of low..high, other channels).

    >>> Colour((1.0, 0.0))(torch.full((1, 2, 1, 1), 0.5), 0.5, torch.empty(1, 0)).flatten().tolist()
    [0.75, 0.25]
    """

    colour: float | tuple[float, ...]
    low: float = 0.0
    high: float = 1.0
    shape: tuple[int, ...] | None = None
    draws: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-790")
        check_range(self, self.colour)

    def __call__(self, inputs: Inputs, strength: float, uniforms: Float[Tensor, "b draws"]) -> Inputs:  # noqa: ARG002
        """The images in that light."""
        strength_within("Colour", strength, 0.0, 1.0)
        images = images_of(self, inputs)
        return as_inputs(self, toward(images, channels_of("Colour", self.colour, images), strength), inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Blur(_Bounded):
    """Blur: the weighted mean of the pixels around, s in pixels; the edge goes on as its last pixel.

        x'[i, j] = sum_(a, b) w_a w_b x[i + a, j + b],   sum_a w_a = 1

    ``kind="gaussian"``: ``w_a ~ exp(-a^2 / (2 s^2))`` up to ``|a| = ceil(3 s)``, s the standard deviation;
    ``kind="box"``: equal weights up to ``|a| = s``, s a whole number. s = 0 changes nothing.

    Raises ``BadInput`` dl-790 (settings, strength), dl-791 (no images, pixels outside of low..high).

    >>> Blur("box")(torch.tensor([[[0.0, 0.0, 1.0]]]), 1.0, torch.empty(1, 0)).flatten()
    tensor([0.0000, 0.3333, 0.6667])
    """

    kind: Literal["gaussian", "box"] = "gaussian"
    low: float = 0.0
    high: float = 1.0
    shape: tuple[int, ...] | None = None
    draws: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-790")
        check_range(self)
        if self.kind not in ("gaussian", "box"):
            raise BadInput(
                "dl-790", asked=f"a blur of kind {self.kind!r}", found="no such kind", do="gaussian or box"
            )

    def __call__(self, inputs: Inputs, strength: float, uniforms: Float[Tensor, "b draws"]) -> Inputs:  # noqa: ARG002
        """The images, blurred."""
        strength_within("Blur", strength, 0.0, 10_000.0, whole=self.kind == "box")
        images = images_of(self, inputs)
        if strength == 0:
            return as_inputs(self, images, inputs)
        rows, columns = (self._matrix(extent, strength).to(images) for extent in images.shape[2:])
        return as_inputs(self, rows @ images @ columns.T, inputs)

    def _matrix(self, extent: int, strength: float) -> Float[Tensor, "h h"]:
        """What one direction does: weights from every pixel to every pixel."""
        reach = math.ceil(3 * strength) if self.kind == "gaussian" else int(strength)
        offsets = torch.arange(-reach, reach + 1)
        weights = torch.ones(len(offsets), dtype=torch.float64)
        if self.kind == "gaussian":
            weights = (-(offsets.double() ** 2) / (2 * strength**2)).exp()
        sources = (torch.arange(extent)[:, None] + offsets).clamp(0, extent - 1)
        matrix = torch.zeros(extent, extent, dtype=torch.float64)
        return matrix.scatter_add_(1, sources, (weights / weights.sum()).expand(extent, -1))


@dataclasses.dataclass(frozen=True, eq=False)
class Occlude(_Bounded):
    """Hide a square: its pixels get ``colour``, s its side in whole pixels.

    ``colour`` is one number, one per channel, or None for the middle grey, (low + high) / 2. The centre is ``centre`` =
    (row, column) or anywhere, keyed; at the edge the square is moved inwards. A greater square holds the lesser ones.

    Raises ``BadInput`` dl-790 (settings, strength), dl-791 (no images, pixels outside of low..high, a square too large).

    >>> Occlude(centre=(0, 0))(torch.zeros(1, 2, 2), 1.0, torch.zeros(1, 2)).flatten().tolist()
    [0.5, 0.0, 0.0, 0.0]

    Source: Zeiler and Fergus 2014, section 4.2.
    """

    colour: float | tuple[float, ...] | None = None
    centre: tuple[int, int] | None = None
    low: float = 0.0
    high: float = 1.0
    shape: tuple[int, ...] | None = None
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-790")
        check_range(self, *([] if self.colour is None else [self.colour]))
        settings(f"a square at {self.centre}", min(self.centre or (0, 0)) >= 0, "give a centre from (0, 0)")

    def __call__(self, inputs: Inputs, strength: float, uniforms: Float[Tensor, "b draws"]) -> Inputs:
        """The images with the square on them."""
        images = images_of(self, inputs)
        whole = (images.shape[2], images.shape[3])
        strength_within("Occlude", strength, 0.0, float(min(whole)), whole=True)
        if self.centre is not None and any(c >= extent for c, extent in zip(self.centre, whole, strict=True)):
            raise refused("Occlude", inputs, f"name a centre within {whole[0]} x {whole[1]} pixels")
        side, uniforms = int(strength), uniforms.to(images.device)
        starts = []
        for axis, extent in enumerate(whole):
            middle = place_of(uniforms[:, axis], extent)
            if self.centre is not None:
                middle = torch.full_like(middle, self.centre[axis])
            starts.append((middle - side // 2).clamp(0, extent - side))
        y, x = window(starts[0], starts[1], (side, side), whole)
        inside = (y >= 0)[:, None, :, None] & (x >= 0)[:, None, None, :]
        colour = (self.low + self.high) / 2 if self.colour is None else self.colour
        return as_inputs(self, torch.where(inside, channels_of("Occlude", colour, images), images), inputs)
