"""Quotations by category: the cookies of the program fortune."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Inputs
from dataloupe.core import Examples, checked

DEBIAN = Path("/usr/share/games/fortunes")
_LENGTHS = (20, 160)


@checked("dl-511")
def fortunes(
    tokenize: Callable[[list[str]], Inputs],
    train: int = 500,
    test: int = 100,
    categories: Sequence[str] = ("art", "computers", "politics", "science", "work"),
    seed: int = 0,
    folder: str | Path | None = None,
) -> tuple[Examples, Examples]:
    """Quotations of some categories as (training, test) examples of a text classification, as many of each category.

    ``tokenize`` makes inputs of texts, say ``lambda texts: dict(tokenizer(texts, padding=True, return_tensors="pt"))``; it sees all texts at
    once, so that both parts are filled up alike. Labels int64 ``[n]``, the category; ``texts`` the quotations of 20 to 160 characters, white
    space made single blanks. Which ones, and their order, is a pure function of the seed; quotations that stand in several categories are left out.

    Read from ``folder``, else from the Debian package fortunes.

    Raises ``BadInput`` dl-830 (numbers, or categories that do not have so many), dl-831 (a file that is missing).

    ::

        train, test = fortunes(lambda texts: dict(tokenizer(texts, padding=True, return_tensors="pt")))

    Source: the program fortune, Debian's package fortune-mod.
    """
    kinds, rest = len(categories), train % max(1, len(categories)) + test % max(1, len(categories))
    place = DEBIAN if folder is None else Path(folder)
    if kinds < 2 or min(train, test) < kinds or rest:
        raise BadInput(
            "dl-830",
            asked=f"{train} training and {test} test quotations of {kinds} categories",
            found="fewer than two categories, or not as many quotations of each",
            do="name two categories or more, and ask for multiples of their number",
        )
    read = {name: _quotations(place / name) for name in categories}
    counts: dict[str, int] = {}
    for texts in read.values():
        for text in texts:
            counts[text] = counts.get(text, 0) + 1
    own = [[text for text in texts if counts[text] == 1] for texts in read.values()]
    each = (train + test) // kinds
    for name, texts in zip(categories, own, strict=True):
        if len(texts) < each:
            raise BadInput(
                "dl-830",
                asked=f"{each} quotations of {name}",
                found=f"{len(texts)} of {_LENGTHS[0]} to {_LENGTHS[1]} characters in {place / name}",
                do="ask for fewer, or name another category",
            )
    root = Stream.root(seed)("fortunes")
    chosen = [
        (texts[i], label, place_in < train // kinds)
        for label, texts in enumerate(own)
        for place_in, i in enumerate(
            np.argsort(root(categories[label]).bits(np.arange(len(texts))), kind="stable")[:each]
        )
    ]
    order = np.argsort(root("order").bits(np.arange(len(chosen))), kind="stable")
    texts = [chosen[i][0] for i in order]
    labels = torch.tensor([chosen[i][1] for i in order])
    first = np.array([chosen[i][2] for i in order])
    every = Examples(tokenize(texts), labels, texts=texts, names=list(categories))
    return every[np.flatnonzero(first)], every[np.flatnonzero(~first)]


def _quotations(file: Path) -> list[str]:
    """Those of a file that are neither short nor long, each once."""
    if not file.is_file():
        raise BadInput(
            "dl-831",
            asked=f"the quotations of {file.name}",
            found=f"no file {file}",
            do="apt install fortunes (and fortunes-min), or name the folder that holds one file per category",
        )
    parts = file.read_text(encoding="utf-8", errors="replace").split("\n%\n")
    texts = [" ".join(part.split()) for part in parts]
    return list(dict.fromkeys(text for text in texts if _LENGTHS[0] <= len(text) <= _LENGTHS[1]))
