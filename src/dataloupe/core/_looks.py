"""How examples look to a person (images, texts, class names, columns), checked when they are given."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Array
from dataloupe.core._arrays import as_column, as_numpy, as_tensor
from dataloupe.core._containers import column_names


def as_images(images: Any) -> UInt8[np.ndarray, "n h w *c"]:
    """Images ``[n, h, w]`` (gray) or ``[n, h, w, 3]`` (RGB) as uint8; numbers from 0 to 1 are scaled to 0 to 255.

    Raises ``BadInput`` dl-130 for another shape, and for numbers outside 0 to 255 or, if they are no whole numbers, outside 0 to 1.
    """
    array = as_numpy(as_tensor(images, "images"))
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
        if not isinstance(text, str) or not _is_unicode(text):
            kind = "half a character" if isinstance(text, str) else type(text).__name__
            raise BadInput(
                "dl-131",
                asked="texts: one string per example",
                found=f"{'None' if text is None else kind} in row {row}",
                do="give strings, an empty one where there is no text",
            )
    return [str(text) for text in column]


def _is_unicode(text: str) -> bool:
    """Whether a page can hold it: surrogates that stand alone, of bytes read wrongly, cannot be written."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
    column = names if isinstance(names, str) else as_column(names, "names")
    for number, name in enumerate(column):
        if not isinstance(name, str | int | float | np.integer | np.floating) or not _is_unicode(str(name)):
            raise BadInput(
                "dl-132",
                asked="names: one string for each label",
                found=f"a {type(name).__name__} for label {number}",
                do="give strings: names=[str(name) for name in names]",
            )
    return [str(name) for name in column]


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
    names = column_names(meta)
    if names is None and (meta is None or isinstance(meta, Mapping)):
        names = list(meta or ())
    if names is None or len(set(map(str, names))) != len(names):
        raise BadInput(
            "dl-125",
            asked="meta: columns by name",
            found=f"a {type(meta).__name__}" if names is None else f"the names {names[:4]}",
            do='give a dict of columns, each name once: meta={"source": [...]}',
        )
    return {str(name): as_column(meta[name], f"meta[{name!r}]") for name in names}
