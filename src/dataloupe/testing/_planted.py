"""Data with a planted answer."""

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe._identity import Stream


def spiked(
    n: int, d: int, k: int, *, strength: float, seed: int = 0
) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " k"]]:
    """n rows of N(0, I + strength u u'), u of k entries +-1/sqrt(k) at random places; and those places, sorted.

    ``strength=0`` is the null. Raises ``BadInput`` dl-879.

    >>> x, support = spiked(50, 8, 3, strength=4.0)
    >>> x.shape, len(support)
    ((50, 8), 3)

    Source: Johnstone and Lu 2009 (the spiked covariance model).
    """
    if n < 1 or not 1 <= k <= d or strength < 0:
        raise BadInput(
            "dl-879",
            asked=f"{n} rows with a spike of strength {strength:g} on {k} of {d} columns",
            found="no row, no or too many columns, or a negative strength",
            do="give n >= 1, 1 <= k <= d and strength >= 0",
        )
    keyed = Stream.root(seed)("spiked")
    support = np.sort(np.argsort(keyed("places").bits(np.arange(d)), kind="stable")[:k]).astype(np.int64)
    signs = np.where(keyed("signs").uniform(np.arange(k)) < 0.5, -1.0, 1.0)
    draws = keyed("draws").numpy()
    x, factor = draws.standard_normal((n, d)), draws.standard_normal(n)
    x[:, support] += np.sqrt(strength / k) * factor[:, None] * signs
    return x, support
