"""Unlearning where all of it is algebra: ridge regression, its retraining, and what a group of rows does."""

import dataclasses
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe._typing import Ids
from dataloupe.core import check_ids
from dataloupe.solve._unlearning_descent import Descent


class GroupEffect(NamedTuple):
    """Predicted f_full - f_oracle ``[m, c]``: right for the group, and two sums over its rows that are not."""

    group: Float[np.ndarray, "m c"]
    influences: Float[np.ndarray, "m c"]
    left_out: Float[np.ndarray, "m c"]


class SpanShare(NamedTuple):
    """Shares of |.|^2 that lie in the span of the retained rows: of the forgotten rows, and of the error."""

    forgotten: float
    error: float


@dataclasses.dataclass(frozen=True, eq=False)
class RidgeUnlearning:
    """Ridge regression on x ``[n, d]`` and y ``[n, c]`` that is to forget some rows (F) and keep the others (R):

        A(S) = argmin sum_{i in S} |theta'x_i - y_i|^2 + penalty |theta|^2,    full = A(F and R),    oracle = A(R)

    Made by :meth:`of`, which checks. Everything is float64; every property is computed once.

    >>> one = RidgeUnlearning.of(np.eye(3), np.array([1.0, 2.0, 3.0]), [2], penalty=1.0)
    >>> one.full.squeeze(1).tolist(), one.oracle.squeeze(1).tolist(), one.error.squeeze(1).tolist()
    ([0.5, 1.0, 1.5], [0.5, 1.0, 0.0], [0.0, 0.0, 1.5])
    >>> [found.item() for found in one.effects(np.eye(3)[2:])]
    [1.5, 0.75, 1.5]

    Source: Georgiev et al. 2025 (Attribute-to-Delete), section 6; the group's effect is Woodbury's identity.
    """

    x: Float[np.ndarray, "n d"]
    y: Float[np.ndarray, "n c"]
    forget: Int[np.ndarray, " f"]
    penalty: float

    @classmethod
    def of(
        cls,
        x: Float[np.ndarray, "n d"],
        y: Float[np.ndarray, " n"] | Float[np.ndarray, "n c"],
        forget: Ids,
        penalty: float,
    ) -> "RidgeUnlearning":
        """From rows, labels ``[n]`` or ``[n, c]``, and the numbers of the rows to forget.

        Raises ``BadInput`` dl-707 (arrays), dl-708 (the penalty), dl-709 (nothing is kept), dl-108 to dl-111 (ids).
        """
        if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y) or not x.size or not y.size:
            raise _bad(f"x {x.shape} and y {y.shape}")
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise _bad("NaN or infinity")
        if not (np.isfinite(penalty) and penalty > 0.0):
            raise BadInput(
                "dl-708",
                asked=f"ridge regression with a penalty of {penalty:g}",
                found="a number that is not above 0: with more columns than rows there is no one solution",
                do="give a positive one, in the units of the sum of squares",
            )
        ids = check_ids(forget, len(x), "rows to forget")
        if len(ids) == len(x):
            raise BadInput(
                "dl-709",
                asked=f"to forget all {len(x)} rows",
                found="no row to train the oracle on",
                do="keep at least one",
            )
        return cls(x.astype(np.float64), y.astype(np.float64).reshape(len(y), -1), ids, float(penalty))

    @cached_property
    def retain(self) -> Int[np.ndarray, " r"]:
        """The rows that are kept."""
        return np.setdiff1d(np.arange(len(self.x)), self.forget)

    @cached_property
    def full(self) -> Float[np.ndarray, "d c"]:
        """Trained on all rows."""
        return self._solved(self.x, self.y)

    @cached_property
    def oracle(self) -> Float[np.ndarray, "d c"]:
        """Trained on the retained rows alone: what unlearning is to reach."""
        return self._solved(self.x[self.retain], self.y[self.retain])

    @cached_property
    def residual(self) -> Float[np.ndarray, "f c"]:
        """r_F = y_F - X_F full: what the full solution leaves of the forgotten labels."""
        return self.y[self.forget] - self.x[self.forget] @ self.full

    @cached_property
    def error(self) -> Float[np.ndarray, "d c"]:
        """full - oracle = (X_R'X_R + penalty I)^-1 X_F' r_F, without training the oracle: a solve of d x d.

        It lies where the retained rows curve the loss least, which is where descent on them is slowest.
        """
        kept = self.x[self.retain]
        gram = kept.T @ kept + self.penalty * np.eye(kept.shape[1])
        return np.linalg.solve(gram, self.x[self.forget].T @ self.residual)

    @cached_property
    def leverage(self) -> Float[np.ndarray, " f"]:
        """x' (X'X + penalty I)^-1 x of the forgotten rows: near 1 a row is fitted by itself alone."""
        return np.diag(self.x[self.forget] @ self._moved)

    def effects(self, rows: Float[np.ndarray, "m d"]) -> GroupEffect:
        """What forgetting takes from the predictions for some rows z, with H = X'X + penalty I:

            group        z' H^-1 X_F' (I - X_F H^-1 X_F')^-1 r_F     = z' (full - oracle), exactly
            left out     z' H^-1 X_F' r_i / (1 - leverage_i), added: every row exactly, the others still there
            influences   z' H^-1 X_F' r_F, added: every row once more a little

        Where rows resemble each other they stand in for each other, and both sums are too small.
        """
        seen, f = rows @ self._moved, len(self.forget)
        inside = np.eye(f) - self.x[self.forget] @ self._moved
        alone = self.residual / (1.0 - self.leverage)[:, None]
        return GroupEffect(seen @ np.linalg.solve(inside, self.residual), seen @ self.residual, seen @ alone)

    def span(self) -> SpanShare:
        """How much of the forgotten rows, and of full - oracle, descent on retained rows can see at all.

        Outside the span of the retained rows the loss on them is flat: only the penalty moves theta there.
        """
        _, sizes, right = np.linalg.svd(self.x[self.retain], full_matrices=False)
        right = right[sizes > 1e-12 * sizes[0]]
        rows, error = self.x[self.forget].T, self.error
        return SpanShare(_share(right @ rows, rows), _share(right @ error, error))

    def descent(self) -> Descent:
        """Gradient descent on the retained rows: theta_t - oracle = (I - 2 eta (X_R'X_R + penalty I))^t error."""
        return self._down(self.retain, self.y, np.ones(len(self.retain)), self.penalty)

    def ascent(self, weight: float = 1.0) -> Descent:
        """Descent on the retained rows and, ``weight`` times as strong, ascent on the forgotten ones.

        A forgotten row further outside the span of the others than the penalty holds has no minimum: theta diverges.
        """
        every = np.arange(len(self.x))
        signed = np.ones(len(every))
        signed[self.forget] = -weight
        return self._down(every, self.y, signed, self.penalty)

    def matching(self, rows: Ids | None = None) -> Descent:
        """Descent on |theta'x - oracle'x|^2 over some rows, or all: theta_t - oracle = (I - 2 eta X'X)^t error.

        On all rows the error lies in their span, and nothing of it stays; on some, what is outside their span does.
        Raises ``BadInput`` dl-108 to dl-111.
        """
        n = len(self.x)
        chosen = np.arange(n) if rows is None else check_ids(rows, n, "rows to match the oracle on")
        return self._down(chosen, self.x @ self.oracle, np.ones(len(chosen)), 0.0)

    def _down(
        self,
        rows: Int[np.ndarray, " b"],
        target: Float[np.ndarray, "n c"],
        weight: Float[np.ndarray, " b"],
        decay: float,
    ) -> Descent:
        return Descent(self.x[rows], target[rows], weight, decay, self.full, self.oracle)

    @cached_property
    def _moved(self) -> Float[np.ndarray, "d f"]:
        """H^-1 X_F'."""
        return self._solved(self.x, np.eye(len(self.x))[:, self.forget])

    def _solved(self, x: Float[np.ndarray, "b d"], y: Float[np.ndarray, "b c"]) -> Float[np.ndarray, "d c"]:
        """(x'x + penalty I)^-1 x'y = x' (x x' + penalty I)^-1 y, on the smaller side."""
        b, d = x.shape
        if d <= b:
            return np.linalg.solve(x.T @ x + self.penalty * np.eye(d), x.T @ y)
        return x.T @ np.linalg.solve(x @ x.T + self.penalty * np.eye(b), y)


def _share(part: Float[np.ndarray, "*p"], whole: Float[np.ndarray, "*w"]) -> float:
    size = float((whole**2).sum())
    return float((part**2).sum()) / size if size else 0.0


def _bad(found: str) -> BadInput:
    return BadInput(
        "dl-707",
        asked="ridge regression on rows [n, d] and labels [n] or [n, c]",
        found=found,
        do="give one label for every row, all of them finite",
    )
