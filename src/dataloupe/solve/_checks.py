"""What every regression on masks asks of its arrays."""

import numpy as np
from jaxtyping import Bool, Float

from dataloupe._errors import BadInput
from dataloupe.solve._centred import Centred


def check_fit(masks: Bool[np.ndarray, "k n"], y: Float[np.ndarray, "k2 m"]) -> None:
    """Refuse other lengths, NaN, or fewer than 3 subsets (dl-700), and masks that are all the same (dl-705)."""
    if len(y) < 3:
        raise _bad(f"{len(y)} subsets", "give at least 3")
    check_rows(masks, y)
    if (masks == masks[0]).all():
        raise _same(len(masks))


def check_rows(masks: Bool[np.ndarray, "k n"], y: Float[np.ndarray, "k2 m"]) -> None:
    """Refuse masks and values of other lengths, and values that are no numbers (dl-700)."""
    if masks.ndim != 2 or y.ndim != 2 or len(masks) != len(y):
        raise _bad(f"masks {masks.shape} and values {y.shape}", "give one row of values per subset")
    if not np.isfinite(y).all():
        bad = int((~np.isfinite(y).all(axis=1)).argmax())
        raise _bad(f"NaN or infinity in subset {bad}", "leave diverged runs out: outcomes.complete()")


def _bad(found: str, do: str) -> BadInput:
    return BadInput("dl-700", asked="masks [k, n] and finite values [k, m]", found=found, do=do)


def _same(rows: int) -> BadInput:
    return BadInput(
        "dl-705",
        asked="a regression on which examples were kept",
        found=f"{rows} times the same subset",
        do="train on subsets that differ (a fraction below 1)",
    )


def check_centred(problem: Centred, *, every: bool = True) -> None:
    """Refuse fewer than 3 rows (dl-700), a constant target (dl-772), an example never or always there (dl-702).

    Without ``every`` only a design in which all are (dl-705).
    """
    if problem.rows < 3:
        raise _bad(f"{problem.rows} subsets", "give at least 3")
    stuck = problem.gram.diagonal <= 0.0
    if stuck.all() and not every:
        raise _same(problem.rows)
    if stuck.any() and every:
        bad = int(stuck.argmax())
        raise BadInput(
            "dl-702",
            asked="what every example does",
            found=f"{int(stuck.sum())} examples (first: {bad}) that were in every one of {problem.rows} subsets, or in none",
            do="give more subsets, or use the ridge estimator",
        )
    size = problem.square + problem.rows * problem.level**2
    constant = problem.square <= 1e-12 * size
    if constant.any():
        raise BadInput(
            "dl-772",
            asked="a regression of every target",
            found=f"{int(constant.sum())} targets (first: {int(constant.argmax())}) of the same value in every subset",
            do="leave them out of the question, or choose an output that does not saturate",
        )


def relative(part: Float[np.ndarray, "*m"], whole: Float[np.ndarray, "*m"]) -> Float[np.ndarray, "*m"]:
    """part / whole, and 0 where there is no whole."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 0.0)
