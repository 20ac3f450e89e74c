"""Images as inputs hold them, ``[b, c, h, w]``, ``[b, h, w]`` or flat, and back."""

import math
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.transforms._checks import number_like, put_back, refused, settings


@runtime_checkable
class OfImages(Protocol):
    """What every transform of images is told: the range of the pixels, and the shape of flat ones."""

    @property
    def low(self) -> float:
        """The lowest value of a pixel."""
        ...

    @property
    def high(self) -> float:
        """The highest."""
        ...

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(h, w) or (c, h, w) of inputs that are flat."""
        ...


def check_range(transform: OfImages, *pixels: Any) -> None:
    """Refuse a range without width, a shape that is none, and given pixels outside of the range (dl-790)."""
    low, high, shape = transform.low, transform.high, transform.shape
    good = -math.inf < low < high < math.inf and (shape is None or (len(shape) in (2, 3) and min(shape) > 0))
    for given in pixels:
        values = pixels_given(given)
        good = good and bool(((values >= low) & (values <= high)).all()) and values.numel() > 0
    settings(
        f"{type(transform).__name__} of pixels {low:g} to {high:g}, shape {shape}",
        good,
        "give low below high, colours and textures between them, and shape=(h, w) or (c, h, w)",
    )


def pixels_given(given: Any) -> Float[Tensor, "..."]:
    """A colour or a picture as a tensor (dl-790)."""
    try:
        return torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(
            "dl-790",
            asked=f"pixels {given!r}",
            found=str(error).splitlines()[0],
            do="give a number, or an array of numbers",
        ) from error


def images_of(transform: OfImages, inputs: Any) -> Float[Tensor, "b c h w"]:
    """The inputs as images of real numbers (dl-791 no images, pixels outside of low..high)."""
    name = type(transform).__name__
    pixels = number_like(name, inputs)
    advice = "give images [b, c, h, w] or [b, h, w]; for flat ones name shape=(h, w) or (c, h, w)"
    if pixels.ndim == 2 and transform.shape is not None:
        if pixels.shape[1] != math.prod(transform.shape):
            raise refused(name, inputs, f"name the shape of {pixels.shape[1]} pixels")
        pixels = pixels.reshape(len(pixels), *transform.shape)
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    if pixels.ndim != 4:
        raise refused(name, inputs, advice)
    least, most = (float(v) for v in pixels.aminmax())
    low, high = (_as_held(limit, inputs) for limit in (transform.low, transform.high))
    if least < low or most > high:
        raise BadInput(
            "dl-791",
            asked=f"{name} of pixels from {transform.low:g} to {transform.high:g}",
            found=f"pixels from {least:g} to {most:g}",
            do="name the range of your pixels: low=..., high=...",
        )
    return pixels


def _as_held(limit: float, pixels: Tensor) -> float:
    """A limit, rounded as pixels of that type are."""
    return float(torch.tensor(limit, dtype=pixels.dtype)) if pixels.is_floating_point() else limit


def as_inputs(
    transform: OfImages, images: Float[Tensor, "b c h w"], inputs: Any
) -> Shaped[Tensor, "b *rest"]:
    """The images in the shape and type of the inputs, clipped."""
    return put_back(images, inputs, transform.low, transform.high)


def place_of(uniforms: Float[Tensor, " b"], places: int) -> Shaped[Tensor, " b"]:
    """A whole number from 0 to places - 1, from a uniform one."""
    return (uniforms * places).long().clamp(max=places - 1)


def window(
    top: Shaped[Tensor, " b"], left: Shaped[Tensor, " b"], size: tuple[int, int], whole: tuple[int, int]
) -> tuple[Shaped[Tensor, "b h"], Shaped[Tensor, "b w"]]:
    """For every row and column of an image: which one of the window it is, -1 outside."""
    found = []
    for start, length, extent in ((top, size[0], whole[0]), (left, size[1], whole[1])):
        offset = torch.arange(extent, device=start.device) - start[:, None]
        found.append(torch.where((offset >= 0) & (offset < length), offset, -1))
    return found[0], found[1]


def channels_of(name: str, given: Any, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "c h2 w2"]:
    """A colour (one number, or one per channel) or a picture ``[h, w]`` or ``[c, h, w]``, as ``[c, ...]`` (dl-791)."""
    values = torch.as_tensor(given, dtype=images.dtype, device=images.device)
    channels = images.shape[1]
    if values.ndim == 1:
        values = values[:, None, None]
    elif values.ndim < 3:
        values = values.expand(1, *values.shape) if values.ndim == 2 else values.reshape(1, 1, 1)
    if values.ndim != 3 or len(values) not in (1, channels):
        raise BadInput(
            "dl-791",
            asked=f"{name} with a colour or picture of shape {tuple(torch.as_tensor(given).shape)}",
            found=f"images of {channels} channels",
            do="give one number, one per channel, or a picture [h, w] or [c, h, w]",
        )
    return values.expand(channels, *values.shape[1:])
