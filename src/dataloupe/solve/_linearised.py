"""A model as linear in its parameters around itself: scores, self-influence and removals of groups."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from dataloupe.core import Chunked
from dataloupe.solve._whitening import Whitening

_TARGETS = 4096
"""Targets at a time."""


@dataclasses.dataclass(frozen=True, eq=False)
class Linearised:
    """One model: features x ``[n, d]`` of the training rows, phi ``[m, d]`` of the targets, ``slope [n]``.

    ``curvature [n]`` are the weights w of the rows in the Gram matrix. The columns in each of ``blocks`` are whitened
    apart, and what the blocks say is added with the weight ``share`` (1 for layers, 1 / B for B sketches of all):

        score_ji = sum_b share phi_jb' (A_b + ridge_b)^-1 x_ib,    A_b = sum_i w_i x_ib x_ib'

    With ``draws [n q, d]``, q rows y for each row, A is ``sum_i w_i mean_q y_iq y_iq'``: of an output that is a mean over draws, the
    curvature is the mean of the draws' own, not that of their mean gradient. A row that is left out or removed is taken out of A with all of its y.
    Where n q < d, what of x and phi lies outside of all y has no curvature that anybody measured, and is left out.

    >>> one = Linearised(Chunked.of(np.eye(2)), np.ones(2), np.ones(2), np.array([[1.0, 0.0]]))
    >>> one.scores(np.eye(2), one.weights(1.0)).round(6).tolist()
    [[0.5], [0.0]]
    """

    features: Chunked
    slope: Float[np.ndarray, " n"]
    curvature: Float[np.ndarray, " n"]
    targets: Float[np.ndarray, "m d"]
    blocks: tuple[slice, ...] = (slice(None),)
    share: float = 1.0
    draws: Chunked | None = None

    @cached_property
    def whitenings(self) -> tuple[Whitening, ...]:
        """Of every block: one eigendecomposition each, whatever the ridge."""
        rows = self.draws or self.features
        each = len(rows) // len(self.features)
        weights = np.repeat(self.curvature, each) / each
        return tuple(Whitening.of(_columns(rows, block), weights) for block in self.blocks)

    @property
    def width(self) -> int:
        """The dimensions of one block, the widest."""
        return max(one.dim for one in self.whitenings)

    def weights(self, ridge: float) -> Float[np.ndarray, "d m"]:
        """What features of training rows are multiplied with to give their scores."""
        return np.concatenate(
            [
                self.share * one.weights(self.targets[:, block], ridge)
                for one, block in zip(self.whitenings, self.blocks, strict=True)
            ]
        )

    def whitened(self, ridge: float) -> Float[np.ndarray, "n e"]:
        """Training rows in coordinates in which (A + ridge)^-1 is the identity: z_i'z_j = sum_b share x_ib' (A_b + ridge_b)^-1 x_jb.

        As many coordinates as the blocks have eigenvectors: all columns, or as many as there are rows.
        """
        turned = [
            (block, one.vectors * np.sqrt(self.share / (one.values + one.ridge(ridge))))
            for one, block in zip(self.whitenings, self.blocks, strict=True)
        ]
        found = np.empty((len(self.slope), sum(turn.shape[1] for _, turn in turned)), np.float32)
        for place, rows in self.features:
            parts = [rows[:, block].astype(np.float64) @ turn for block, turn in turned]
            found[place] = np.concatenate(parts, axis=1)
        return found

    def scores(
        self, rows: Float[np.ndarray, "b d"], weights: Float[np.ndarray, "d m"]
    ) -> Float[np.ndarray, "b m"]:
        """Scores of some rows."""
        return rows.astype(np.float32) @ weights.astype(np.float32)

    def left_out(
        self, place: slice, rows: Float[np.ndarray, "b d"], weights: Float[np.ndarray, "d m"], ridge: float
    ) -> Float[np.ndarray, "b m"]:
        """Scores by an A without the row itself: what leaving a row out does, not adding it a little. Without draws, scores over 1 - w x' (A + ridge)^-1 x."""
        total = np.zeros((len(rows), weights.shape[1]), dtype=np.float32)
        held = self._held(np.arange(place.start, place.stop), rows)
        for one, block in zip(self.whitenings, self.blocks, strict=True):
            inverse, y = 1.0 / (one.values + one.ridge(ridge)), held[:, :, block]
            turned, mine = y @ one.vectors, rows[:, block].astype(np.float64) @ one.vectors
            inside = np.eye(y.shape[1]) - (turned * inverse) @ turned.swapaxes(1, 2)
            moved = np.linalg.solve(inside, (turned * inverse) @ mine[:, :, None])
            total += self.scores(rows[:, block] + (y.swapaxes(1, 2) @ moved)[:, :, 0], weights[block])
        return total

    def removed(
        self, ids: Int[np.ndarray, " s"], slope: Float[np.ndarray, " n"], ridge: float
    ) -> Float[np.ndarray, " m"]:
        """What removing some rows together does to every target: one Newton step with them taken out of A, too.

            - phi' (A - Y' Y + ridge)^-1 g,    g = sum_S slope_i x_i
            = - phi' (b + (A + ridge)^-1 Y' (I - Y (A + ridge)^-1 Y')^-1 Y b),    b = (A + ridge)^-1 g

        with Y what A holds of the rows, block by block, since A is. Rows that resemble each other do more together
        than one by one.
        """
        rows = self.features.rows(ids)
        held = self._held(ids, rows).reshape(-1, self.features.width)
        gradient = slope[ids].astype(np.float64) @ rows.astype(np.float64)
        total = np.zeros(len(self.targets))
        for one, block in zip(self.whitenings, self.blocks, strict=True):
            inverse, turned = 1.0 / (one.values + one.ridge(ridge)), held[:, block] @ one.vectors
            start = inverse * (gradient[block] @ one.vectors)
            inside = np.eye(len(turned)) - (turned * inverse) @ turned.T
            moved = start + inverse * (np.linalg.solve(inside, turned @ start) @ turned)
            total -= self.share * self._asked(block, one.vectors @ moved)
        return total

    def _held(self, ids: Int[np.ndarray, " s"], rows: Float[np.ndarray, "s d"]) -> Float[np.ndarray, "s q d"]:
        """What A holds of some rows: their y (or x), times the roots of their weights."""
        each = 1 if self.draws is None else len(self.draws) // len(self.features)
        if self.draws is not None:
            rows = self.draws.rows((ids[:, None] * each + np.arange(each)).ravel())
        roots = np.sqrt(self.curvature[ids].astype(np.float64) / each)
        return rows.reshape(len(ids), each, -1).astype(np.float64) * roots[:, None, None]

    def along(
        self, directions: Float[np.ndarray, "n q"], ridges: Sequence[float]
    ) -> Float[np.ndarray, "g q m"]:
        """sum_i score_ji directions_iq for every ridge: no scores are made, and a further ridge costs little."""
        total = np.zeros((self.features.width, directions.shape[1]))
        for place, rows in self.features:
            total += rows.T.astype(np.float64) @ directions[place]
        found = np.zeros((len(ridges), directions.shape[1], len(self.targets)))
        for one, block in zip(self.whitenings, self.blocks, strict=True):
            left = total[block].T @ one.vectors
            turned = [(left / (one.values + one.ridge(ridge))) @ one.vectors.T for ridge in ridges]
            found += self.share * self._asked(block, np.stack(turned).reshape(-1, one.dim).T).T.reshape(
                found.shape
            )
        return found

    def _asked(self, block: slice, weights: Float[np.ndarray, "d *q"]) -> Float[np.ndarray, "m *q"]:
        """Targets' features times weights, in blocks of targets: never all of them in double."""
        parts = [
            self.targets[start : start + _TARGETS, block].astype(np.float64) @ weights
            for start in range(0, len(self.targets), _TARGETS)
        ]
        return np.concatenate(parts)

    def dimension(self, ridge: float) -> float:
        """The effective dimension: added over layers, averaged over sketches."""
        return self.share * sum(one.dimension(ridge) for one in self.whitenings)

    @property
    def residual(self) -> float:
        """The worst certificate of the eigenvectors."""
        return max(one.residual for one in self.whitenings)


def _columns(rows: Chunked, block: slice) -> Chunked:
    """Some columns of a tall matrix."""
    width = len(range(*block.indices(rows.width)))
    return Chunked(rows.sizes, width, lambda i: rows.read(i)[:, block])


def product_of_averages(
    models: Sequence[Linearised], ridge: float, out: Float[np.ndarray, "m n"], *, leverage: bool = False
) -> None:
    """mean_k score_k * mean_k slope_k into ``out``, in one stream over the training rows of all models.

    With ``leverage``, a model's scores are those of :meth:`Linearised.left_out`. Memory: ``d x m`` numbers a model and a chunk of rows.
    Source: Park et al. 2023 (TRAK), equation 17; the leverage is that of its Newton step, there left out.
    """
    weights = [one.weights(ridge).astype(np.float32) for one in models]
    slope = np.stack([one.slope for one in models]).mean(axis=0, dtype=np.float64)
    for chunks in zip(*(one.features for one in models), strict=True):
        place = chunks[0][0]
        total = np.zeros((place.stop - place.start, len(out)), dtype=np.float32)
        for one, weight, (_, rows) in zip(models, weights, chunks, strict=True):
            total += one.left_out(place, rows, weight, ridge) if leverage else one.scores(rows, weight)
        out[:, place] = (total * (slope[place, None] / len(models)).astype(np.float32)).T
