"""What the methods that look into models share: their checks, their sketches, their words."""

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput, TrainingError
from dataloupe._identity import Stream
from dataloupe.solve import FactoredSketch


def sketch_of(dim: int, seed: int, k: int, b: int = 0) -> FactoredSketch:
    """Sketch b of model k: every model has sketches of its own."""
    return FactoredSketch(dim, seed=Stream.root(seed)("sketch", k, *([b] if b else [])).seed())


def check_models(models: int, dim: int, fraction: float) -> None:
    """Refuse counts below 1 and shares outside (0, 1] (dl-711)."""
    if models < 1 or dim < 1 or not 0.0 < fraction <= 1.0:
        raise BadInput(
            "dl-711",
            asked=f"{models} models on a share {fraction:g} of the data, {dim} dimensions",
            found="a count below 1 or a share outside (0, 1]",
            do="give at least one model and one dimension, and a share above 0 and at most 1",
        )


def shares_in_words(share: float | None, left_out: int) -> str:
    """Which share of the data the models saw, as a sentence."""
    if share is None:
        saw = "nobody knows which share of the data its models saw"
    elif share > 0.999:
        saw = "its models saw all of the data"
    else:
        saw = f"its models saw {share:.0%} of the data each"
    return saw + (f"; {left_out} models without finite gradients were left out" if left_out else "")


def all_diverged(method: str, models: int) -> TrainingError:
    """No model has finite gradients (dl-712)."""
    return TrainingError(
        "dl-712",
        asked=f"{method} of {models} models",
        found="gradients that are not finite in every one of them",
        do="lower the learning rate, or look at the training of one model",
    )


def unit_rows(rows: Float[np.ndarray, "b e"]) -> tuple[Float[np.ndarray, "b e"], int]:
    """The rows at length 1, and how many are all zero (they stay so)."""
    length = np.linalg.norm(rows.astype(np.float64), axis=1)[:, None]
    return rows / np.where(length > 0, length, 1.0), int((length == 0).sum())
