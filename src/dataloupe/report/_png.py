"""Images as PNG data URIs, written by hand: a header, one compressed block, an end."""

import base64
import struct
import zlib

import numpy as np
from jaxtyping import Shaped, UInt8

from dataloupe._errors import BadInput

LARGEST = 160
"""Pixels: larger images are averaged down by a whole factor before they are embedded."""


def check_image(image: Shaped[np.ndarray, "..."], where: str) -> UInt8[np.ndarray, "h w *c"]:
    """The image as it is, if it is one that can be shown: gray ``[h, w]`` or RGB ``[h, w, 3]``, uint8 (dl-954)."""
    gray_or_rgb = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not gray_or_rgb or image.size == 0:
        raise BadInput(
            "dl-954",
            asked=f"a picture of {where}",
            found=f"{image.dtype} of shape {image.shape}",
            do="give Examples(images=...) as uint8, [n, h, w] for gray or [n, h, w, 3] for RGB",
        )
    return image


def shrink(image: UInt8[np.ndarray, "h w *c"], largest: int = LARGEST) -> UInt8[np.ndarray, "a b *c"]:
    """The image averaged over square blocks until no side is above ``largest``; small images stay untouched."""
    height, width = image.shape[:2]
    factor = -(-max(height, width) // largest)
    if factor == 1:
        return image
    rows, columns = (np.arange(0, side, factor) for side in (height, width))
    sums = np.add.reduceat(np.add.reduceat(image.astype(np.float64), rows, axis=0), columns, axis=1)
    counts = np.minimum(factor, height - rows)[:, None] * np.minimum(factor, width - columns)
    return np.rint(sums / counts.reshape(counts.shape + (1,) * (image.ndim - 2))).astype(np.uint8)


def png(image: UInt8[np.ndarray, "h w *c"]) -> bytes:
    """An 8-bit gray or RGB image as the bytes of a PNG file (W3C PNG, third edition: IHDR, IDAT, IEND).

    >>> png(np.zeros((2, 3), dtype=np.uint8))[:4]
    b'\\x89PNG'
    """
    height, width = image.shape[:2]
    colour = 0 if image.ndim == 2 else 2
    lines = np.ascontiguousarray(image).reshape(height, -1)
    unfiltered = np.concatenate([np.zeros((height, 1), dtype=np.uint8), lines], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    blocks = [(b"IHDR", header), (b"IDAT", zlib.compress(unfiltered.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_block(name, body) for name, body in blocks)


def data_uri(image: UInt8[np.ndarray, "h w *c"]) -> str:
    """The image inside an address, so that the page asks nobody for it."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def _block(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
