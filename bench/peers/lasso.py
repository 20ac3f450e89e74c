"""One peer's lasso path over the penalties of `bench/lasso.py`, a target at a time; run in an environment of its own.

    python bench/peers/lasso.py sklearn|celer|skglm PROBLEM.npz

The problem holds x (bytes), y, penalties [targets, steps]. Prints JSON: seconds a target, and the largest gap
relative to |y|^2 / 2 at the path's end, computed here for all alike.
"""

import json
import sys
import time
import warnings

import numpy as np


def sklearn(x: np.ndarray):
    from sklearn.linear_model import lasso_path

    gram = np.ascontiguousarray(x.T @ x)

    def path(y: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        return lasso_path(x, y, alphas=penalties, precompute=gram, Xy=x.T @ y, tol=1e-4, check_input=False)[1]

    return path


def celer(x: np.ndarray):
    from celer import celer_path

    return lambda y, penalties: celer_path(x, y, "lasso", alphas=penalties, tol=1e-4)[1]


def skglm(x: np.ndarray):
    from skglm import Lasso

    def path(y: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        # its tolerance bounds the violation of the optimality conditions, in units of the gradient
        model = Lasso(fit_intercept=False, tol=1e-2 * float(penalties[-1]))
        return model.path(x, y, penalties)[1]

    return path


def gap(x: np.ndarray, y: np.ndarray, w: np.ndarray, penalty: float) -> float:
    left = y - x @ w
    scale = min(1.0, len(y) * penalty / np.abs(x.T @ left).max())
    primal = left @ left / 2 + len(y) * penalty * np.abs(w).sum()
    dual = (y @ y - (y - scale * left) @ (y - scale * left)) / 2
    return float((primal - dual) / (y @ y / 2))


def main() -> None:
    name, file = sys.argv[1:]
    with np.load(file) as problem:
        x, y, penalties = (
            problem["x"].astype(np.float64),
            problem["y"].astype(np.float64),
            problem["penalties"],
        )
    x = np.asfortranarray(x - x.mean(axis=0))
    y -= y.mean(axis=0)
    path, seconds, gaps = globals()[name](x), [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path(y[:, 0], penalties[0, :3])
        for j in range(y.shape[1]):
            start = time.perf_counter()
            weights = path(np.ascontiguousarray(y[:, j]), penalties[j])
            seconds.append(time.perf_counter() - start)
            gaps.append(gap(x, y[:, j], weights[:, -1], penalties[j, -1]))
    sys.stdout.write(json.dumps({"seconds": float(np.median(seconds)), "gap": max(gaps)}) + "\n")


if __name__ == "__main__":
    main()
