"""What the solvers on sufficient statistics are given beside them: excluded columns, and folds to choose by."""

from typing import Literal

import numpy as np
from jaxtyping import Int

from dataloupe._errors import BadInput
from dataloupe.solve._stats import Centred, SuffStats

Selection = Literal["hold-out", "k-fold", "gcv"]


def excluded(whole: Centred, exclude: Int[np.ndarray, " m"] | None) -> Int[np.ndarray, " m"]:
    """Every target's excluded column, or -1 (dl-774)."""
    n, m = whole.right.shape
    if exclude is None:
        return np.full(m, -1, dtype=np.int64)
    if exclude.shape != (m,) or exclude.min() < -1 or exclude.max() >= n:
        raise BadInput(
            "dl-774",
            asked=f"one excluded example for each of {m} targets",
            found=f"{exclude.shape} numbers from {exclude.min()} to {exclude.max()}",
            do=f"give m numbers from -1 (none) to {n - 1}",
        )
    return exclude.astype(np.int64)


def parts_of(
    stats: SuffStats | Centred, folds: list[SuffStats] | None, select: Selection
) -> tuple[SuffStats, list[SuffStats]]:
    """The whole, and the parts of it (dl-773) to choose by (dl-778): all of them, or only the last."""
    if select not in {"hold-out", "k-fold"}:
        raise BadInput(
            "dl-778",
            asked=f"a penalty chosen by {select!r}",
            found="no such way",
            do="choose by 'hold-out', 'k-fold' or 'gcv'",
        )
    whole = isinstance(stats, SuffStats)
    if not whole or not folds or len(folds) < 2 or sum(part.count for part in folds) != stats.count:
        found = "none" if not folds else f"{len(folds)} of {sum(part.count for part in folds)} rows together"
        raise BadInput(
            "dl-773",
            asked="a penalty chosen on folds of the rows",
            found=found,
            do='give folds=SuffStats.split(...) of the same rows, or select="gcv"',
        )
    chosen = folds if select == "k-fold" else folds[-1:]
    if min(part.count for part in chosen) < 1:
        raise BadInput(
            "dl-773",
            asked="a penalty chosen on folds of the rows",
            found="a fold without a row: all of its subsets had a diverged run",
            do='use fewer folds, more subsets, or select="gcv"',
        )
    return stats, chosen
