"""Fashion-MNIST with captions that say what can be seen, for models of pictures and words."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataloupe._identity import Stream
from dataloupe.core import Examples, checked
from dataloupe.data._fashion import NAMES, fashion_mnist

WAYS = (
    "a photo of a {size} {shade} {name}",
    "{size} {shade} {name} on black",
    "this {name} is {size} and {shade}",
    "one {shade} {name} which is {size}",
)
SHADES, SIZES = ("dark", "grey", "bright"), ("small", "large")
CAPTION_WORDS = (
    "",
    *sorted(
        {word for way in WAYS for word in way.split() if "{" not in word}
        | {word for name in NAMES for word in name.lower().split()}
        | {*SHADES, *SIZES}
    ),
)
"""Word i of a caption is token i; token 0 fills it up."""
_THERE, _LIGHT, _LARGE = 25, (115.0, 165.0), 0.5
_LENGTH = max(len(way.split()) for way in WAYS) + 1


@checked("dl-511")
def fashion_captions(
    train: int | None = 2000, test: int | None = 200, seed: int = 0, folder: str | Path | None = None
) -> tuple[Examples, Examples]:
    """Fashion-MNIST as (training, test) pairs of a picture and a caption: so many pairs of each, None for all of them.

    A caption names the garment, how bright it is (dark, grey, bright: its mean pixel below 115, 165, or above), and whether it fills half of the
    picture (small, large), in one of four ways of saying so, keyed by the row. Many pairs share a caption, as they do in the wild.

    Inputs ``{"image": uint8 [n, 1, 28, 28], "words": int64 [n, 8]}``, words numbered as in ``CAPTION_WORDS`` and filled up with
    0; no labels; ``texts`` the captions; ``meta["class"]`` the garments. Which rows: as :func:`fashion_mnist`.

    Raises ``BadInput`` dl-820 to dl-824, as :func:`fashion_mnist`.

    ::

        train, test = fashion_captions(2000, 200)

    Source: Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747, for the pictures.
    """
    both = fashion_mnist(train, test, seed=seed, folder=folder)
    root = Stream.root(seed)("captions")
    first, second = (_captioned(data, root(part)) for data, part in zip(both, ("train", "test"), strict=True))
    return first, second


def _captioned(data: Examples, ways: Stream) -> Examples:
    images = data.inputs.flatten(1).float()
    there = images > _THERE
    light = (images * there).sum(1) / there.sum(1).clamp(min=1)
    shades = torch.bucketize(light, torch.tensor(_LIGHT)).tolist()
    sizes = (there.float().mean(1) > _LARGE).long().tolist()
    way = (ways.bits(np.arange(len(data))) % np.uint64(len(WAYS))).astype(int).tolist()
    names = [NAMES[label].lower() for label in data.labels.tolist()]
    texts = [
        WAYS[w].format(name=name, shade=SHADES[shade], size=SIZES[size])
        for w, name, shade, size in zip(way, names, shades, sizes, strict=True)
    ]
    return Examples(
        {"image": data.inputs, "words": _words(texts)},
        images=data.images,
        texts=texts,
        meta={"class": names},
    )


def _words(texts: list[str]) -> Tensor:
    """The numbers of the words, filled up."""
    known = {word: i for i, word in enumerate(CAPTION_WORDS)}
    found = [[known[word] for word in text.split()] for text in texts]
    return torch.tensor([one + [0] * (_LENGTH - len(one)) for one in found])
