"""Descents that unlearn in a linear model: step by step, in closed form, and one row a step with exact expectations."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe._identity import Stream

NOTHING = 1e-10
"""Eigenvalues below this share of the largest are 0."""


@dataclasses.dataclass(frozen=True, eq=False)
class Descent:
    """Gradient descent from ``start [d, c]`` on a quadratic, watched from ``oracle [d, c]``:

        L(theta) = sum_i w_i |theta'x_i - target_i|^2 + decay |theta|^2,    theta_t+1 = theta_t - eta L'(theta_t)

    Rows ``x [b, d]``, ``target [b, c]``, ``weight [b]`` (below 0: it goes up). One row a step takes w_i |...|^2 +
    decay / b |theta|^2, whose gradients add up to L'. Everything is float64.

    >>> one = Descent(np.eye(2), np.zeros((2, 1)), np.ones(2), 0.0, np.ones((2, 1)), np.zeros((2, 1)))
    >>> one.iterates(0.25, 2).squeeze(2).tolist()
    [[1.0, 1.0], [0.5, 0.5], [0.25, 0.25]]
    >>> one.closed(0.25, [0, 2]).squeeze(2).tolist()
    [[1.0, 1.0], [0.25, 0.25]]

    Source: Georgiev et al. 2025 (Attribute-to-Delete), section 6 and appendix D.
    """

    x: Float[np.ndarray, "b d"]
    target: Float[np.ndarray, "b c"]
    weight: Float[np.ndarray, " b"]
    decay: float
    start: Float[np.ndarray, "d c"]
    oracle: Float[np.ndarray, "d c"]

    @property
    def curvature(self) -> Float[np.ndarray, "d d"]:
        """M = X' diag(w) X + decay I: half of the second derivative."""
        return (self.x.T * self.weight) @ self.x + self.decay * np.eye(self.x.shape[1])

    @property
    def best_step(self) -> float:
        """1 / (least + largest positive eigenvalue of M): of all constant steps the fastest in the worst case."""
        values = np.linalg.eigvalsh(self.curvature)
        moved = values[values > NOTHING * values[-1]]
        return float(1.0 / (moved[0] + moved[-1]))

    def gradient(self, theta: Float[np.ndarray, "d c"]) -> Float[np.ndarray, "d c"]:
        """2 X' diag(w) (X theta - target) + 2 decay theta."""
        left = self.weight[:, None] * (self.x @ theta - self.target)
        return 2.0 * (self.x.T @ left + self.decay * theta)

    def iterates(self, eta: float, steps: int) -> Float[np.ndarray, "t d c"]:
        """theta_0 to theta_steps on all rows, one after the other. Raises ``BadInput`` dl-716."""
        _check_steps(eta, steps)
        found = np.empty((steps + 1, *self.start.shape))
        found[0] = self.start
        for t in range(steps):
            found[t + 1] = found[t] - eta * self.gradient(found[t])
        return found

    def closed(self, eta: float, at: Sequence[int]) -> Float[np.ndarray, "t d c"]:
        """The same theta_t at the wanted t, with no steps between, from one eigendecomposition of M:

            theta_t - oracle = (I - 2 eta M)^t (start - oracle) - eta sum_{s < t} (I - 2 eta M)^s L'(oracle)

        Of descent on retained rows and of matching the oracle L'(oracle) is 0. Raises ``BadInput`` dl-716.
        """
        _check_steps(eta, min(at, default=0))
        values, vectors = np.linalg.eigh(self.curvature)
        ahead, drift = vectors.T @ (self.start - self.oracle), vectors.T @ self.gradient(self.oracle)
        gone = 2.0 * eta * values
        found = [
            vectors @ ((1.0 - gone)[:, None] ** t * ahead - eta * _geometric(gone, t)[:, None] * drift)
            for t in at
        ]
        return self.oracle + np.array(found).reshape(-1, *self.start.shape)

    def relative(self, thetas: Float[np.ndarray, "t d c"]) -> Float[np.ndarray, " t"]:
        """R(theta) = |theta - oracle| / |start - oracle|: 1 where nothing is unlearnt, 0 where all is."""
        return np.linalg.norm(thetas - self.oracle, axis=(1, 2)) / np.linalg.norm(self.start - self.oracle)

    def sampled(self, etas: Float[np.ndarray, " t"], stream: Stream) -> Float[np.ndarray, "t1 d c"]:
        """theta_0, theta_1 ... with one row a step, drawn with replacement: that of step t hangs on (stream, t) alone.

        Raises ``BadInput`` dl-716.
        """
        _check_etas(etas)
        b = len(self.x)
        rows = (stream.uniform(np.arange(len(etas))) * b).astype(int)
        found = np.empty((len(etas) + 1, *self.start.shape))
        found[0] = self.start
        for t, (eta, i) in enumerate(zip(etas, rows, strict=True)):
            theta, x = found[t], self.x[i]
            left = self.weight[i] * (x @ theta - self.target[i])
            found[t + 1] = theta - 2.0 * eta * (np.outer(x, left) + self.decay / b * theta)
        return found

    def expected(self, etas: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t1"]:
        """E |theta_t - oracle|^2 over the draws of :meth:`sampled`, exactly: no draw is made.

        With e = theta - oracle, m = E e and S = E e e' (outputs added), C = X' diag(w) X / b and k the mean of
        w_i x_i (oracle'x_i - target_i)', and for a = eta 2 decay / b, u = (1 - a) e - a oracle:

            S+ = E u u' - 2 eta (T + T') + 4 eta^2 / b X' diag(w_i^2 E |theta'x_i - target_i|^2) X,    T = E u (C e + k)'
            m+ = E u - 2 eta (C m + k)

        Matching has k = a = 0 and theta'x_i - target_i = e'x_i: S+ = E (I - 2 eta x x') S (I - 2 eta x x'), a map
        without a floor. Work a step: 3 r^3 with r <= min(d, b + 2 c) the dimensions that anything moves in.
        Raises ``BadInput`` dl-716.
        """
        _check_etas(etas)
        here = _Moments.of(self)
        found = [here.size]
        for eta in etas:
            here = here.after(float(eta))
            found.append(here.size)
        return np.array(found)

    @property
    def disagreement(self) -> float:
        """Mean over rows of |gradient of one row at the oracle|^2: 0 if every row is fitted there, else a floor."""
        left = self.weight[:, None] * (self.x @ self.oracle - self.target)
        rows = self.x[:, :, None] * left[:, None] + self.decay / len(self.x) * self.oracle
        return float(4.0 * (rows**2).sum(axis=(1, 2)).mean())

    def contraction(self, eta: float) -> float:
        """Of matching, one row a step: E |e_t+1|^2 <= contraction E |e_t|^2 for errors in the span of the rows:

            1 - 4 eta (1 - eta B) g,   B = max_i |x_i|^2,   g = least positive eigenvalue of X'X / b,   eta < 1 / B

        because E |(I - 2 eta x x') e|^2 = |e|^2 - 4 eta E (1 - eta |x|^2) (x'e)^2. For eta < 2 / (5 B) it is below
        1 - 2.4 eta g. Raises ``BadInput`` dl-716 (another step), dl-717 (a descent that has no such rate).
        """
        if self.decay != 0.0 or (self.weight != 1.0).any():
            raise BadInput(
                "dl-717",
                asked="the rate at which matching contracts",
                found="a decay, or weights other than 1: rows then disagree at the oracle, and a floor stays",
                do="ask matching(); of other descents look at expected(etas)",
            )
        largest = float((self.x**2).sum(axis=1).max())
        if not 0.0 < eta * largest < 1.0:
            raise _bad_step(f"a step of {eta:g}", f"give one between 0 and 1 / max |x|^2 = {1 / largest:.3g}")
        values = np.linalg.svd(self.x, compute_uv=False) ** 2
        least = values[values > NOTHING * values[0]][-1] / len(self.x)
        return float(1.0 - 4.0 * eta * (1.0 - eta * largest) * least)


@dataclasses.dataclass(frozen=True, eq=False)
class _Moments:
    """Mean and second moment of the error after some steps, in a basis of what moves; see ``Descent.expected``."""

    x: Float[np.ndarray, "b r"]
    left: Float[np.ndarray, "b c"]
    weight: Float[np.ndarray, " b"]
    oracle: Float[np.ndarray, "r c"]
    pull: Float[np.ndarray, "r r"]
    bias: Float[np.ndarray, "r c"]
    decay: float
    mean: Float[np.ndarray, "r c"]
    second: Float[np.ndarray, "r r"]

    @classmethod
    def of(cls, one: Descent) -> "_Moments":
        """Before the first step."""
        error, b = one.start - one.oracle, len(one.x)
        basis, _ = np.linalg.qr(np.concatenate([one.x.T, error, one.oracle], axis=1))
        x, error = one.x @ basis, basis.T @ error
        left = one.x @ one.oracle - one.target
        weighted = x.T * one.weight / b
        pull, bias = weighted @ x, weighted @ left
        return cls(
            x, left, one.weight, basis.T @ one.oracle, pull, bias, one.decay / b, error, error @ error.T
        )

    @property
    def size(self) -> float:
        """E |e|^2."""
        return float(np.trace(self.second))

    def after(self, eta: float) -> "_Moments":
        """One step later."""
        a, aim = 2.0 * eta * self.decay, self.oracle
        mixed = self.mean @ aim.T
        stay = (1 - a) ** 2 * self.second - (1 - a) * a * (mixed + mixed.T) + a**2 * aim @ aim.T
        down = self.pull @ self.mean + self.bias
        cross = (1 - a) * (self.second @ self.pull + self.mean @ self.bias.T) - a * aim @ down.T
        seen = self.x @ self.mean
        misfit = ((self.x @ self.second) * self.x).sum(1) + (self.left * (2 * seen + self.left)).sum(1)
        noise = (self.x.T * (self.weight**2 * misfit)) @ self.x / len(self.x)
        second = stay - 2.0 * eta * (cross + cross.T) + 4.0 * eta**2 * noise
        mean = (1 - a) * self.mean - a * aim - 2.0 * eta * down
        return dataclasses.replace(self, mean=mean, second=second)


def _geometric(gone: Float[np.ndarray, " d"], t: int) -> Float[np.ndarray, " d"]:
    """sum_{s < t} (1 - gone)^s = (1 - (1 - gone)^t) / gone, and t where nothing goes."""
    some = np.where(gone == 0.0, 1.0, gone)
    with np.errstate(invalid="ignore", divide="ignore"):
        near = -np.expm1(t * np.log1p(-some)) / some  # exact for small ones, too
    return np.where(gone == 0.0, float(t), np.where(some < 1.0, near, (1.0 - (1.0 - some) ** t) / some))


def _check_steps(eta: float, steps: int) -> None:
    if not (np.isfinite(eta) and eta > 0.0) or steps < 0:
        raise _bad_step(f"a step of {eta:g}, {steps} times", "give a step above 0, 0 times or more")


def _check_etas(etas: Float[np.ndarray, " t"]) -> None:
    if etas.ndim != 1 or not (np.isfinite(etas) & (etas > 0.0)).all():
        raise _bad_step(f"steps of shape {etas.shape}, or one not above 0", "give one above 0 for every step")


def _bad_step(found: str, do: str) -> BadInput:
    return BadInput("dl-716", asked="a descent", found=found, do=do)
