"""Sparse regression of outputs on membership: coordinate descent on the Gram, along a path of penalties."""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lasso_path

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array
from dataloupe.solve._checks import check_fit, relative
from dataloupe.solve._whitening import check_penalty

PATIENCE = 3
"""Steps of the path without a better held-out error after which it ends."""


class Lasso(NamedTuple):
    """``weights [m, n]`` and ``bias [m]`` in raw coordinates, ``penalty [m]``, and the certificate.

    ``gap [m]`` is the duality gap relative to the objective at w = 0; ``explained [m]`` the R2 on the held-out
    subsets, before the refit on all; NaN where the penalty was given.
    """

    weights: Float[np.ndarray, "m n"]
    bias: Float[np.ndarray, " m"]
    penalty: Float[np.ndarray, " m"]
    gap: Float[np.ndarray, " m"]
    explained: Float[np.ndarray, " m"]


class _Problem(NamedTuple):
    x: Float[np.ndarray, "k n"]
    gram: Float[np.ndarray, "n n"]
    y: Float[np.ndarray, "k m"]
    right: Float[np.ndarray, "n m"]
    mean: Float[np.ndarray, " n"]
    level: Float[np.ndarray, " m"]


def lasso(
    masks: Bool[np.ndarray, "k n"],
    y: Float[np.ndarray, "k m"],
    *,
    penalty: float | None = None,
    steps: int = 20,
    end: float = 1e-2,
    held_out: float = 0.2,
    tolerance: float = 1e-6,
) -> Lasso:
    """argmin |y - bias - masks w|^2 / (2k) + penalty |w|_1 for every target, the intercept unpenalised.

    A random block of ``held_out`` of the subsets (a pure function of k) chooses each target's penalty on a path of
    ``steps`` from penalty_max = max |X'y| / k, where w = 0, down to ``end`` times it, with warm starts; then all
    subsets fit again. A given ``penalty`` (absolute) is used as it is. ``tolerance`` bounds the relative gap
    that scikit-learn stops at.

    Raises ``BadInput`` dl-700, dl-701, dl-705, dl-706 (settings of the path). Source: Ilyas et al. 2022,
    section 3; Friedman, Hastie, Tibshirani 2010 (paths).

    >>> masks = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)
    >>> lasso(masks, masks @ np.array([[2.0], [-1.0]]), penalty=0.1).weights.round(6).tolist()
    [[1.6, -0.6]]
    """
    check_fit(masks, y)
    if penalty is not None:
        check_penalty(penalty)
    if steps < 2 or not 0.0 < end < 1.0 or not 0.0 < held_out < 1.0 or not 0.0 < tolerance < 1.0:
        raise BadInput(
            "dl-706",
            asked=f"a path of {steps} steps down to {end:g}, held out {held_out:g}, tolerance {tolerance:g}",
            found="fewer than 2 steps, or a share outside (0, 1)",
            do="give at least 2 steps and shares between 0 and 1",
        )
    whole = _problem(masks, y)
    m = y.shape[1]
    if penalty is None:
        chosen, explained = _choose(masks, y, steps, end, held_out, tolerance)
    else:
        chosen, explained = np.full(m, penalty), np.full(m, np.nan)
    weights = np.stack([_solve(whole, j, chosen[j], None, tolerance) for j in range(m)])
    return Lasso(
        weights=weights,
        bias=whole.level - weights @ whole.mean,
        penalty=chosen,
        gap=np.array([_gap(whole, j, weights[j], chosen[j]) for j in range(m)]),
        explained=explained,
    )


def _choose(
    masks: Array, y: Array, steps: int, end: float, held_out: float, tolerance: float
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Every target's penalty of the smallest held-out error, and the R2 there."""
    order = np.argsort(Stream.root(0)("held out").bits(np.arange(len(masks))), kind="stable")
    count = min(max(1, round(held_out * len(masks))), len(masks) - 2)
    fit, test = _problem(masks[order[count:]], y[order[count:]]), order[:count]
    seen, truth = masks[test] - fit.mean, y[test] - fit.level
    m = y.shape[1]
    chosen, best = np.empty(m), (truth**2).sum(axis=0)
    for j in range(m):
        top = float(np.abs(fit.right[:, j]).max()) / len(fit.x)
        chosen[j], last, weights = top or 1.0, 0, None
        for step, penalty in enumerate(top * np.geomspace(1.0, end, steps)[1:] if top else []):
            weights = _solve(fit, j, float(penalty), weights, tolerance)
            error = float(((truth[:, j] - seen @ weights) ** 2).sum())
            if error < best[j]:
                best[j], chosen[j], last = error, penalty, step
            elif step - last >= PATIENCE:
                break
    total = (truth**2).sum(axis=0)
    return chosen, np.where(total > 0, 1.0 - relative(best, total), 0.0)


def _problem(masks: Bool[np.ndarray, "k n"], y: Float[np.ndarray, "k m"]) -> _Problem:
    mean, level = masks.mean(axis=0), y.mean(axis=0, dtype=np.float64)
    x, centred = np.asfortranarray(masks - mean), y - level
    return _Problem(x, np.ascontiguousarray(x.T @ x), centred, x.T @ centred, mean, level)


def _solve(problem: _Problem, j: int, penalty: float, start: Array | None, tolerance: float) -> Array:
    """One target at one penalty. What did not converge shows in the gap."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, weights, _ = lasso_path(
            problem.x,
            np.ascontiguousarray(problem.y[:, j]),
            alphas=np.array([penalty]),
            precompute=problem.gram,
            Xy=np.ascontiguousarray(problem.right[:, j]),
            coef_init=start,
            tol=tolerance,
            max_iter=10_000,
            check_input=False,
        )
    return weights[:, 0]


def _gap(problem: _Problem, j: int, weights: Array, penalty: float) -> float:
    """The duality gap relative to |y|^2 / (2k), at the residual scaled until it is feasible."""
    k, y = len(problem.x), problem.y[:, j]
    left = y - problem.x @ weights
    steepest = float(np.abs(problem.x.T @ left).max()) / k
    feasible = left * min(1.0, penalty / steepest if steepest > 0 else 1.0)
    primal = left @ left / (2 * k) + penalty * np.abs(weights).sum()
    dual = (y @ y - (y - feasible) @ (y - feasible)) / (2 * k)
    whole = float(y @ y) / (2 * k)
    return float(primal - dual) / whole if whole > 0 else 0.0
