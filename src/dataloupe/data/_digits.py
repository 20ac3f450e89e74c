"""The digits of scikit-learn: 1,797 images of 8 x 8 pixels, on this disk already."""

import numpy as np
import torch

from dataloupe._identity import Stream
from dataloupe._typing import Array
from dataloupe.core import Examples, checked

TRAIN = 1437


@checked("dl-511")
def digits(seed: int = 0) -> tuple[Examples, Examples]:
    """The handwritten digits as (1,437 training, 360 test) examples; the split is a pure function of the seed.

    Inputs float32 ``[n, 64]`` in 0..1, labels int64 ``[n]``, images uint8 ``[n, 8, 8]``.

    >>> train, test = digits()
    >>> len(train), len(test), tuple(train.inputs.shape), test.names[3]
    (1437, 360, (1437, 64), '3')

    Source: Alpaydin and Kaynak 1998 (UCI), as shipped with scikit-learn.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.argsort(Stream.root(seed)("digits", "split").bits(np.arange(len(pixels))), kind="stable")
    return _examples(pixels, labels, order[:TRAIN]), _examples(pixels, labels, order[TRAIN:])


def _examples(pixels: Array, labels: Array, ids: Array) -> Examples:
    scaled = pixels[ids] / 16.0
    return Examples(
        torch.from_numpy(scaled.astype(np.float32)),
        torch.from_numpy(labels[ids].astype(np.int64)),
        images=np.round(scaled * 255).astype(np.uint8).reshape(-1, 8, 8),
        names=[str(digit) for digit in range(10)],
    )
