"""What every regression on masks asks of its arrays."""

import numpy as np
from jaxtyping import Bool, Float

from dataloupe._errors import BadInput


def check_fit(masks: Bool[np.ndarray, "k n"], y: Float[np.ndarray, "k2 m"]) -> None:
    """Refuse other lengths, NaN, or fewer than 3 subsets (dl-700), and masks that are all the same (dl-705)."""
    if masks.ndim != 2 or y.ndim != 2 or len(masks) != len(y) or len(y) < 3:
        found = f"masks {masks.shape} and values {y.shape}"
        raise _bad(found, "give one row of values per subset, and at least 3 subsets")
    if not np.isfinite(y).all():
        bad = int((~np.isfinite(y).all(axis=1)).argmax())
        raise _bad(f"NaN or infinity in subset {bad}", "leave diverged runs out: outcomes.complete()")
    if (masks == masks[0]).all():
        raise BadInput(
            "dl-705",
            asked="a regression on which examples were kept",
            found=f"{len(masks)} times the same subset",
            do="train on subsets that differ (a fraction below 1)",
        )


def _bad(found: str, do: str) -> BadInput:
    return BadInput("dl-700", asked="masks [k, n] and finite values [k, m]", found=found, do=do)


def relative(part: Float[np.ndarray, "*m"], whole: Float[np.ndarray, "*m"]) -> Float[np.ndarray, "*m"]:
    """part / whole, and 0 where there is no whole."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 0.0)
