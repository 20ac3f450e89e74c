"""Fitted datamodels of the original project: ``{weight, bias, lam}`` in a ``.pt`` file."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Array
from dataloupe.core import DenseAttribution, Info, Outcomes, Subsets, checked
from dataloupe.formats._arrays import BLOCK, missing, other_shape, unreadable


@checked("dl-511")
def read_weights(
    path: str | Path,
    *,
    standardised: bool,
    subsets: Subsets | None = None,
    check: Outcomes | None = None,
    output: str = "margin",
) -> DenseAttribution:
    """A ``.pt`` file ``{weight [n, m], bias [m], lam [m]}`` as an attribution in raw coordinates.

    Weights that ``compute_datamodels`` saves belong to standardised masks, and their mean mu and standard
    deviation sigma are not in the file. With ``standardised=True`` they come from ``subsets``, all those of the
    final fit (training and validation rows), and

        scores_ji = weight_ij / sigma_i,    bias_j = bias_j - sum_i scores_ji mu_i

    The file does not say which it is, so the caller must. ``check`` are outcomes to hold the answer against:
    its squared error on them, over all targets, must be below their variance and below the error of the other
    reading. ``lam`` is reported as a range.

    Raises ``BadInput`` dl-870 (missing), dl-871 (no file of tensors; no code in it is run), dl-872 (shapes),
    dl-875 (coordinates that cannot be right).

    ::

        datamodels = read_weights("datamodels/test_50pct.pt", standardised=False, check=held_out)

    Source: Ilyas et al. 2022, arXiv 2202.00622; github.com/MadryLab/fast_l1.
    """
    path = Path(path)
    weight, bias, lam = _tensors(path)
    scores, level = np.ascontiguousarray(weight.T), bias
    del weight
    if standardised:
        if subsets is None:
            raise _coordinates(
                f"the raw coordinates of {path}, standardised",
                "no subsets to take means and deviations from",
                "give those of the final fit: subsets=outcomes.subsets",
            )
        mean, deviation = _moments(subsets, scores.shape[1], path)
        _no_weight_on_constants(scores, deviation, subsets, path)
        found = _raw(scores, level, mean, deviation)
    else:
        found = scores, level
    attribution = DenseAttribution(
        found[0],
        Info(
            "Datamodel (imported)",
            settings={"standardised": standardised},
            certificate={} if lam is None else {"lam": [float(lam.min()), float(lam.max())]},
            fraction=None if subsets is None else subsets.fraction,
            output=output,
        ),
        bias=found[1],
    )
    if check is not None:
        known = _fitting(check, attribution, path)
        other = scores, level
        if not standardised:
            other = _raw(scores, level, *_moments(known.subsets, attribution.n, path))
        _check(attribution, DenseAttribution(other[0], attribution.info, bias=other[1]), known, path)
    return attribution


def _tensors(path: Path) -> tuple[Array, Array, Array | None]:
    """weight ``[n, m]``, bias ``[m]`` and lam ``[m]`` as float32 arrays."""
    if not path.is_file():
        raise missing(f"the weights {path}", "no such file", "check the name")
    try:
        held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a reader raises, the file cannot be read
        raise unreadable(path, f"{type(error).__name__}, no whole file of tensors") from error
    named = isinstance(held, dict)
    if not named or not all(isinstance(held.get(name), Tensor) for name in ("weight", "bias")):
        raise missing(
            f"the tensors weight and bias of {path}",
            ", ".join(str(name) for name in held) if named else f"a {type(held).__name__}",
            "save a dict of tensors: weight [n, m], bias [m], lam [m]",
        )
    arrays = {name: held[name].float().numpy() for name in ("weight", "bias", "lam") if name in held}
    weight, bias, lam = arrays["weight"], arrays["bias"], arrays.get("lam")
    if weight.ndim != 2 or any(part is not None and part.shape != weight.shape[1:] for part in (bias, lam)):
        shapes = ", ".join(f"{name} {part.shape}" for name, part in arrays.items())
        raise other_shape(f"{path}: weight [n, m], and bias and lam [m]", shapes)
    return weight, bias, lam


def _moments(subsets: Subsets, n: int, path: Path) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The mean and the standard deviation of every column of the masks."""
    if subsets.n != n:
        raise other_shape(f"subsets of the {n} examples of {path}", f"subsets of {subsets.n}")
    counts, step = np.zeros(n), max(1, BLOCK // n)
    for start in range(0, subsets.count, step):
        counts += subsets.masks(slice(start, start + step)).sum(axis=0)
    mean = counts / subsets.count
    return mean, np.sqrt(mean * (1.0 - mean))


def _raw(
    scores: Float[np.ndarray, "m n"],
    bias: Float[np.ndarray, " m"],
    mean: Float[np.ndarray, " n"],
    deviation: Float[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, " m"]]:
    """Weights on (mask - mean) / deviation as weights on masks."""
    raw = scores / np.where(deviation > 0, deviation, 1.0).astype(np.float32)
    return raw, (bias - raw @ mean).astype(np.float32)


def _no_weight_on_constants(scores: Array, deviation: Array, subsets: Subsets, path: Path) -> None:
    weighted = (deviation == 0) & scores.any(axis=0)
    if weighted.any():
        raise _coordinates(
            f"the raw coordinates of {path}, standardised",
            f"a weight on example {int(weighted.argmax())}, which is in all {subsets.count} subsets or in none",
            "give the subsets of the final fit, training and validation rows together",
        )


def _fitting(check: Outcomes, found: DenseAttribution, path: Path) -> Outcomes:
    """The complete outcomes, of as many targets and examples as the weights."""
    if (check.subsets.n, check.m) != (found.n, found.m):
        raise other_shape(
            f"outcomes of the {found.m} targets and {found.n} examples of {path}",
            f"{check.m} targets and {check.subsets.n} examples",
        )
    return check.complete()


def _check(found: DenseAttribution, other: DenseAttribution, known: Outcomes, path: Path) -> None:
    """Refuse a reading that predicts worse than a constant, or worse than the other reading."""
    truth = known.mean().astype(np.float64)
    error, rival = (float(((one.predict(known.subsets) - truth) ** 2).mean()) for one in (found, other))
    variance = float(truth.var(axis=0).mean())
    if not error < min(rival, variance):
        said = found.info.settings["standardised"]
        raise _coordinates(
            f"{path} read with standardised={said}",
            f"a squared error of {error:.3g} on outcomes of variance {variance:.3g}, "
            f"and of {rival:.3g} with standardised={not said}",
            f"read it with standardised={not said}"
            if rival < variance
            else "check that rows and targets are in the same order, and the output the same",
        )


def _coordinates(asked: str, found: str, do: str) -> BadInput:
    return BadInput("dl-875", asked=asked, found=found, do=do)
