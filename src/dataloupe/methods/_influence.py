"""Influence functions in a Kronecker eigenbasis with corrected eigenvalues, without a projection (EK-FAC)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe.core import (
    AbstractAttributor,
    Contribution,
    DenseAttribution,
    Lab,
    Needs,
    Question,
    Side,
    Subsets,
    Swept,
    Use,
    capabilities,
)
from dataloupe.methods._ensemble import Ensemble, Part, combined, model_made_by, remembered, roots
from dataloupe.methods._models import check_models
from dataloupe.solve import Block, Spectrum, Sums, check_penalty

_NUMBERS = 1 << 27


@dataclasses.dataclass(frozen=True)
class Influence(AbstractAttributor):
    """Product of averages over models k of gradients g of the train output and phi of the target's:

        tau_ji = mean_k [phi_kj' (H_k + damping)^-1 g_ki]  *  mean_k [slope_ki],    H_k = sum_i w_i g_ki g_ki'

    H is block-diagonal by parameter. A weight's block is diagonal in the Kronecker product of the eigenvectors of
    its factors' second moments, with the eigenvalues that the gradients themselves have there; a small block
    is whole. ``damping`` is relative to the mean eigenvalue of each block. w is as in :class:`TRAK`. Nothing is
    sketched, so memory holds ``targets x parameters`` numbers (in pieces of 2^27). Four gradient passes a model.

    Otherwise as :class:`TRAK`. Raises ``BadInput`` dl-711 (settings), dl-701 (damping), dl-704 (no gradient at all), ``TrainingError`` dl-712
    (no model is finite).
    Source: George et al. 2018 (EK-FAC); Grosse et al. 2023, section 2.2, for influence functions.

    >>> Influence(models=5).damping
    1.0
    """

    models: int = 10
    damping: float = 1.0
    fraction: float = 0.5
    seed: int = 0
    curved: bool = True

    requires: ClassVar[frozenset[str]] = frozenset({"models"})

    def __post_init__(self) -> None:
        """Check the settings."""
        check_penalty(self.damping)
        check_models(self.models, 1, self.fraction)

    def needs(self, question: Question) -> Needs:
        """A training (unless the models are there) and four gradient passes per model."""
        trains = self.models if "train" in capabilities(question) else 0
        disk = 4 * self.models * (question.m + 1) * question.n
        return Needs(trains, self.fraction, gradient_passes=4 * self.models, disk_bytes=disk)

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:
        """Model after model, then the product of averages."""
        ensemble = Ensemble("Influence", self.models, self.fraction, self.seed)
        return combined(self, ensemble, question, lambda subsets, k: self._part(question, lab, subsets, k))

    def _part(self, question: Question, lab: Lab, subsets: Subsets, k: int) -> Part | None:
        """One model's part; None where gradients are not finite."""
        made_by = {**model_made_by(question, subsets, k), "damping": self.damping, "curved": self.curved}

        root = roots(question, self.curved)

        def sweep(side: Side, use: Use, scale: Callable[[Tensor], Tensor] = torch.ones_like) -> Swept:
            return lab.gradients(question, subsets, k, side, use, scale)

        def make() -> Part | None:
            sums = Sums()
            slope, made = sweep("train", lambda name, found, _: sums.add(name, found), root)
            if not (np.isfinite(slope).all() and sums.finite):
                return None
            spectrum = Spectrum(sums.blocks())
            sweep("train", lambda name, found, _: spectrum.add(name, found), root)
            inverse, facts = spectrum.inverse(self.damping)
            values = np.zeros((question.m, question.n), dtype=np.float32)
            at_once = max(1, _NUMBERS // sum(len(part) for part in inverse.values()))
            for first in range(0, question.m, at_once):
                products = _Products(spectrum.blocks, inverse, slice(first, first + at_once), values)
                sweep("targets", products.keep)
                sweep("train", products.add)
            return Part(values, slope.astype(np.float32), facts | made) if np.isfinite(values).all() else None

        return remembered(lab, "influence-part", made_by, make)


class _Products:
    """phi' H^-1 g of some targets with all training rows, parameter by parameter."""

    def __init__(
        self,
        blocks: Mapping[str, Block],
        inverse: Mapping[str, Float[Tensor, " p"]],
        targets: slice,
        values: Float[np.ndarray, "m n"],
    ) -> None:
        self._blocks, self._inverse, self._targets = blocks, inverse, targets
        self._values = torch.from_numpy(values[targets])
        self._kept: dict[str, Tensor] = {}

    def keep(self, name: str, found: list[Contribution], place: slice) -> None:
        """The targets' side: H^-1 phi, in the block's coordinates."""
        first, last = max(place.start, self._targets.start), min(place.stop, self._targets.stop)
        inverse = self._inverse.get(name)
        if inverse is None or first >= last:
            return
        kept = self._kept.setdefault(name, torch.zeros(len(self._values), len(inverse)))
        mine = slice(first - place.start, last - place.start)
        rotated = self._blocks[name].rotated([one.part(mine) for one in found])
        kept[first - self._targets.start : last - self._targets.start] = rotated * inverse.float()

    def add(self, name: str, found: list[Contribution], place: slice) -> None:
        """The training side."""
        if name in self._kept:
            self._values[:, place] += self._kept[name] @ self._blocks[name].rotated(found).T
