"""The difference of two means over the same examples, each taken over models of its own."""

import numpy as np
import scipy.stats
from jaxtyping import Float

from dataloupe.judge._bootstrap import Interval


def crossed_difference(
    a: Float[np.ndarray, "t ra"], b: Float[np.ndarray, "t rb"], level: float = 0.95
) -> tuple[float, Interval]:
    """The mean of a minus the mean of b, examples common to both, models independent, with its interval.

    With ``e_a[x, k] = mu_a + beta_a[x] + alpha_a[k] + rest``, the same for b, and D_x the difference of the two means
    of example x, the variance of the mean of D is

        Var(beta_a - beta_b) / t  +  sum over a, b of  Var(alpha) / r + Var(rest) / (t r)

    and it is estimated without bias by

        S_x + V_a + V_b - R_a - R_b
        S_x = var_x(D_x) / t,   V = var_k(mean over x of e) / r,   R = MS_rest / (t r)

    taken as at least S_x and at least V_a + V_b (each is at least a part of it). S_x counts both rests once, so does
    V_a + V_b. Interval: Student's t with Satterthwaite's (Welch's) degrees of freedom,

        df = Var^2 / (S_x^2 / (t - 1) + V_a^2 / (r_a - 1) + V_b^2 / (r_b - 1)).

    Where b is constant this is :func:`crossed_mean` of a; where t = 1 it is Welch's interval. For models in pairs take
    ``crossed_mean(a - b)`` instead. At least two models of each.

    >>> mean, (low, high) = crossed_difference(np.array([[1.0, 2.0, 3.0]]), np.array([[0.0, 0.0]]))
    >>> round(mean, 2), round(low, 2), round(high, 2)
    (2.0, -0.48, 4.48)

    Source: Satterthwaite 1946; Welch 1947.
    """
    t = len(a)
    by_example = a.mean(axis=1) - b.mean(axis=1)
    mean = float(by_example.mean())
    of_examples = float(((by_example - mean) ** 2).sum()) / max(t - 1, 1) / t
    of_models, rests = zip(*(_of_models(values) for values in (a, b)), strict=True)
    square = max(of_examples + sum(of_models) - sum(rests), of_examples, sum(of_models))
    if square <= 0:
        return mean, (mean, mean)
    sizes = (a.shape[1], b.shape[1])
    parts = of_examples**2 / max(t - 1, 1) + sum(
        v**2 / (r - 1) for v, r in zip(of_models, sizes, strict=True)
    )
    half = float(scipy.stats.t.ppf((1 + level) / 2, square**2 / parts)) * float(np.sqrt(square))
    return mean, (mean - half, mean + half)


def _of_models(values: Float[np.ndarray, "t r"]) -> tuple[float, float]:
    """V and R: what the models, and what the rest, put into the variance of the mean."""
    t, r = values.shape
    mean = values.mean()
    examples, models = values.mean(axis=1, keepdims=True) - mean, values.mean(axis=0) - mean
    rest = ((values - mean - examples - models) ** 2).sum() / max((t - 1) * (r - 1), 1)
    return float((models**2).sum()) / (r - 1) / r, float(rest) / (t * r)
