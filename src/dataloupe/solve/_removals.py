"""What removing rows does, from a ridge regression on membership, without the weights of all rows."""

import dataclasses
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from dataloupe._errors import BadInput

Effect = Literal["sum", "group", "diag"]
"""How single effects make that of a group: added, with their common part unshrunk, or each row's own alone."""


@dataclasses.dataclass(frozen=True, eq=False)
class RemovalDesign:
    """The trainings of a ridge datamodel: which rows each of k kept, and what that tells of any removal.

    With M the centred masks ``[k, n]``, e the indicator of the removed rows F, and p the penalty:

        v = M (M'M + p I)^-1 e,        effect of removing F on an output y:  - v' y          (sum of the ridge weights)

    Only ``v [k]`` depends on F, so the effect on any number of outputs is one product. What the trainings do not tell is
    ``e - M'v``, and belongs to a prior. With ``group`` the weight that the rows of F have in common is not penalised:

        v / (1 - p e' (M'M + p I)^-1 e / |F|)

    It is exact where all rows of F do the same, and noisier where they do not. ``penalty`` is relative to the mean
    eigenvalue of M'M. ``blocks`` numbers trainings that shared a seed (:attr:`Subsets.blocks`): masks and outputs are then
    taken less the mean of their block, so that what a seed does is no noise.

    >>> masks = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
    >>> y = masks @ np.array([1.0, 2.0, 3.0])
    >>> v, rest = RemovalDesign(masks).weights(np.array([0, 2]), penalty=1e-9)
    >>> round(float(-v @ (y - y.mean())), 4), np.abs(rest).max() < 1e-6
    (-4.0, np.True_)
    """

    masks: Bool[np.ndarray, "k n"]
    blocks: Int[np.ndarray, " k"] | None = None

    def centred(self, values: Float[np.ndarray, "k *m"]) -> Float[np.ndarray, "k *m"]:
        """Less the mean of each training's block, in place."""
        for rows in self._members:
            values[rows] -= values[rows].mean(axis=0, dtype=np.float64).astype(values.dtype)
        return values

    def told(self, v: Float[np.ndarray, "k *f"]) -> Float[np.ndarray, "n *f"]:
        """M'v: which removal the trainings tell of with these weights."""
        return self._centred.T @ v

    @cached_property
    def _members(self) -> list[Int[np.ndarray, " b"]]:
        """The trainings of every block."""
        if self.blocks is None:
            return [np.arange(len(self.masks))]
        return [np.flatnonzero(self.blocks == block) for block in np.unique(self.blocks)]

    @cached_property
    def _shares(self) -> Float[np.ndarray, " k"]:
        """Each training's part in the mean of its block."""
        found = np.empty(len(self.masks))
        for rows in self._members:
            found[rows] = 1.0 / len(rows)
        return found

    @cached_property
    def _centred(self) -> Float[np.ndarray, "k n"]:
        return self.centred(self.masks.astype(np.float64))

    @cached_property
    def _spectrum(self) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, "q q"]]:
        """Of M M' or of M'M, whichever is smaller."""
        m = self._centred
        values, vectors = np.linalg.eigh(m @ m.T if self._dual else m.T @ m)
        return np.maximum(values, 0.0), vectors

    @cached_property
    def _directions(self) -> Float[np.ndarray, "n q"]:
        """The eigenvectors of M'M that go with the spectrum."""
        values, vectors = self._spectrum
        if not self._dual:
            return vectors
        sound = values > 1e-9 * values.max()
        return self.told(vectors) * np.where(sound, 1.0 / np.sqrt(np.where(sound, values, 1.0)), 0.0)

    @property
    def _dual(self) -> bool:
        return self.masks.shape[0] <= self.masks.shape[1]

    @property
    def scale(self) -> float:
        """The mean eigenvalue of M'M, in which penalties are given."""
        return float((self._centred**2).sum()) / self.masks.shape[1]

    def weights(
        self, removed: Int[np.ndarray, " f"], penalty: float, effect: Literal["sum", "group"] = "sum"
    ) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " n"]]:
        """v of the trainings, and what they do not tell of the removal.

        Raises ``BadInput`` dl-684 for rows that all trainings kept, or none.
        """
        self.check_varied(removed)
        e = np.zeros(self.masks.shape[1])
        e[removed] = 1.0
        v, inverse = self._solved(e, penalty)
        if effect == "group":
            shrunk = penalty * self.scale * float(e @ inverse) / len(removed)
            v = v / (1.0 - shrunk)
        return v, e - self.told(v)

    def own(
        self, removed: Int[np.ndarray, " f"], penalty: float
    ) -> tuple[Float[np.ndarray, "k f"], Float[np.ndarray, " f"]]:
        """v of each row alone, and how much of its weight to add to the sum where its own weight is not to be penalised.

            gain_x = p (A e)_x / (1 - p A_xx),    A = (M'M + p I)^-1

        For the outputs of a removed row x: what it does to itself is far larger than what rows do to each other.
        """
        self.check_varied(removed)
        n, p = self.masks.shape[1], penalty * self.scale
        e = np.zeros((n, len(removed)))
        e[removed, np.arange(len(removed))] = 1.0
        v, inverse = self._solved(e, penalty)
        together = inverse[removed].sum(axis=1)
        alone = inverse[removed, np.arange(len(removed))]
        return v, p * together / (1.0 - p * alone)

    def gains(
        self, output: Float[np.ndarray, " k"], penalty: float
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """What one centred output gains from every row, by ridge, and the standard error that noise alone gives each gain."""
        values, basis = self._spectrum[0], self._directions
        p = penalty * self.scale
        found = basis @ ((basis.T @ (self._centred.T @ output)) / (values + p))
        left = ((output - self._centred @ found) ** 2).sum()
        free = max(1.0, len(output) - len(self._members) - float((values / (values + p)).sum()))
        return found, np.sqrt(left / free * (basis**2 @ (values / (values + p) ** 2)))

    def left_out(self, outputs: Float[np.ndarray, "k m"], penalty: float) -> Float[np.ndarray, "k m"]:
        """Every training's centred output, predicted by the regression on all the others (means of their own included)."""
        values, vectors = self._spectrum
        share = values / (values + penalty * self.scale)
        basis = vectors if self._dual else (self._centred @ vectors) / np.sqrt(np.maximum(values, 1e-300))
        basis = basis[:, values > 1e-9 * values.max()]
        share = share[values > 1e-9 * values.max()]
        centred = self.centred(outputs.astype(np.float64))
        fitted = basis @ (share[:, None] * (basis.T @ centred))
        own = np.minimum(basis**2 @ share + self._shares, 1.0 - 1e-9)[:, None]
        return (fitted - own * centred) / (1.0 - own)

    def check_varied(self, removed: Int[np.ndarray, " f"]) -> None:
        """Refuse rows that all trainings kept, or none (dl-684)."""
        kept = self.masks[:, removed].sum(axis=0)
        still = removed[(kept == 0) | (kept == len(self.masks))]
        if len(still):
            raise BadInput(
                "dl-684",
                asked=f"what removing row {still[0]} does",
                found=f"{len(self.masks)} trainings, all of which kept it or none of which did",
                do="give more subsets: some that keep each row and some that do not",
            )

    def _solved(
        self, e: Float[np.ndarray, "n *f"], penalty: float
    ) -> tuple[Float[np.ndarray, "k *f"], Float[np.ndarray, "n *f"]]:
        """M (M'M + p)^-1 e and (M'M + p)^-1 e."""
        values, vectors = self._spectrum
        p = penalty * self.scale
        shrink = (1.0 / (values + p)).reshape(-1, *[1] * (e.ndim - 1))
        if self._dual:
            v = vectors @ (shrink * (vectors.T @ (self._centred @ e)))
            return v, (e - self._centred.T @ v) / p
        inverse = vectors @ (shrink * (vectors.T @ e))
        return self._centred @ inverse, inverse
