"""How examples look to a person (images, texts, class names, columns), checked when they are given."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Array
from dataloupe.core._arrays import as_column, as_tensor


def as_images(images: Any) -> UInt8[np.ndarray, "n h w *c"]:
    """Images ``[n, h, w]`` (gray) or ``[n, h, w, 3]`` (RGB) as uint8; numbers from 0 to 1 are scaled to 0 to 255.

    Raises ``BadInput`` dl-130 for another shape, and for numbers outside 0 to 255 or, if they are no whole numbers, outside 0 to 1.
    """
    array = as_tensor(images, "images").numpy()
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    do = "give images=... as uint8, [n, h, w] for gray or [n, h, w, 3] for RGB"
    if array.ndim == 4 and array.shape[3] != 3 and array.shape[1] in (1, 3):
        do = f"{do}: images{'[:, 0]' if array.shape[1] == 1 else '.permute(0, 2, 3, 1)'}"
    if not (array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3)) or 0 in array.shape[1:]:
        raise BadInput("dl-130", asked="images that can be shown", found=f"the shape {array.shape}", do=do)
    if array.dtype == np.uint8:
        return array
    fraction = array.dtype.kind in "fb"
    largest = 1 if fraction else 255
    # written so that NaN fails too
    if array.dtype.kind == "c" or not (array.min() >= 0 and array.max() <= largest):
        raise BadInput(
            "dl-130",
            asked="images that can be shown",
            found=f"{array.dtype} numbers outside 0 to {largest}",
            do="give uint8 from 0 to 255, or floating point from 0 to 1: undo the normalisation first",
        )
    return np.rint(array * np.float32(255)).astype(np.uint8) if fraction else array.astype(np.uint8)


def as_texts(texts: Any) -> list[str]:
    """One string per example (dl-131)."""
    column = as_column(texts, "texts")
    for row, text in enumerate(column):
        if not isinstance(text, str):
            raise BadInput(
                "dl-131",
                asked="texts: one string per example",
                found=f"{text if text is None else type(text).__name__} in row {row}",
                do="give strings, an empty one where there is no text",
            )
    return [str(text) for text in column]


def as_names(names: Any) -> list[str]:
    """The name of label 0, 1, ...; a dict from every number below its length to a name is one, too (dl-132)."""
    if isinstance(names, Mapping):
        if set(names) != set(range(len(names))):
            raise BadInput(
                "dl-132",
                asked="the names of the labels 0, 1, ...",
                found=f"a dict with the keys {list(names)[:4]}",
                do="give a list of names in the order of the labels",
            )
        names = [names[number] for number in range(len(names))]
    return [str(name) for name in (names if isinstance(names, str) else as_column(names, "names"))]


def check_names(names: list[str], labels: Tensor) -> None:
    """Refuse fewer names than the classes that labels ``[n]`` count (dl-132)."""
    if labels.ndim == 1 and not labels.is_floating_point() and int(labels.max()) >= len(names):
        raise BadInput(
            "dl-132",
            asked=f"a name for each label up to {int(labels.max())}",
            found=f"{len(names)} names",
            do="name every class, in the order of the label numbers",
        )


def as_meta(meta: Any) -> dict[str, list[Any] | Array]:
    """Named columns with one value per example, of a dict or a data frame (dl-125)."""
    names = list(getattr(meta, "columns", () if meta is None else meta))
    if not (meta is None or isinstance(meta, Mapping) or hasattr(meta, "columns")) or len(
        set(map(str, names))
    ) != len(names):
        raise BadInput(
            "dl-125",
            asked="meta: columns by name",
            found=f"a {type(meta).__name__}" if not names else f"the names {names[:4]}",
            do='give a dict of columns, each name once: meta={"source": [...]}',
        )
    return {str(name): as_column(meta[name], f"meta[{name!r}]") for name in names}
