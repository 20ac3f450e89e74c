"""An attribution as its factors: scores of any rows, sums and groups, without the matrix of all scores."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import CapabilityError
from dataloupe._typing import Ids
from dataloupe.core import (
    Info,
    Sign,
    Subsets,
    Units,
    check_ids,
    check_kind,
    check_removals,
    check_top,
    checked,
    on_targets,
    raises_output,
)
from dataloupe.solve import Linearised

_AT_ONCE = 64
"""Targets whose scores are made at a time."""


@dataclasses.dataclass(frozen=True, eq=False)
class FactoredAttribution:
    """Scores of TRAK that are never made: features ``x_k [n, d]``, ``phi_k [m, d]`` and their solve, for every model k.

        score_ji = mean_k [phi_kj A_k^-1 x_ki]  *  mean_k [slope_ki],    along(u)_j = sum_i score_ji u_i

    ``along`` costs n d + m d numbers a model, where a matrix of scores would hold n m. It is the same attribution as
    :meth:`TRAK.attribute` gives, for questions with very many targets (every output of every row).
    """

    info: Info
    models: Sequence[Linearised]
    ridge: float
    units: Units = "relative"

    @cached_property
    def slope(self) -> Float[np.ndarray, " n"]:
        """The models' mean of minus dLoss/doutput."""
        return np.stack([one.slope for one in self.models]).mean(axis=0, dtype=np.float64)

    @property
    def n(self) -> int:
        """Training examples."""
        return len(self.slope)

    @property
    def m(self) -> int:
        """Target rows."""
        return len(self.models[0].targets)

    def embedded(self) -> Float[np.ndarray, "n d"]:
        """Training rows as the first model's scores see them: inner products are their effects on each other, slope_i x_i' A^-1 x_j slope_j."""
        return self.models[0].whitened(self.ridge) * self.slope[:, None].astype(np.float32)

    def along(self, directions: Float[np.ndarray, "n q"]) -> Float[np.ndarray, "q m"]:
        """sum_i score_ji directions_iq of every target."""
        turned = self.slope[:, None] * directions
        return np.mean([one.along(turned, [self.ridge])[0] for one in self.models], axis=0)

    def on(self, targets: Int[np.ndarray, " t"]) -> "FactoredAttribution":
        """The same attribution of some targets."""
        models = []
        for one in self.models:
            part = dataclasses.replace(one, targets=one.targets[targets])
            part.__dict__["whitenings"] = one.whitenings  # they are of the training rows: the same
            models.append(part)
        info = dataclasses.replace(
            self.info, provenance=on_targets(self.info.provenance, targets), question=""
        )
        return dataclasses.replace(self, models=models, info=info)

    @checked("dl-503")
    def predict(self, subsets: Subsets) -> Float[np.ndarray, "k m"]:
        """Scores along the masks."""
        return self.along(subsets.masks().T.astype(np.float64)).astype(np.float32)

    def effect(
        self, removals: Sequence[Ids], *, kind: Literal["sum", "group"] = "sum", targets: Ids | None = None
    ) -> Float[np.ndarray, "k m"]:
        """What removing each set of rows does, as a sum or with its curvature taken out, too (dl-510: another kind)."""
        check_kind(kind)
        groups = check_removals(removals, self.n)
        wanted = slice(None) if targets is None else check_ids(targets, self.m, "target rows")
        if kind == "group":
            each = [[one.removed(ids, self.slope, self.ridge) for ids in groups] for one in self.models]
            return np.mean(each, axis=0)[:, wanted].astype(np.float32)
        removed = np.zeros((self.n, len(groups)))
        for column, ids in enumerate(groups):
            removed[ids, column] = -1.0
        return self.along(removed)[:, wanted].astype(np.float32)

    def rows(self, targets: slice | Ids) -> Float[np.ndarray, "m n"]:
        """The scores of some target rows, made now."""
        wanted = (
            np.arange(self.m)[targets]
            if isinstance(targets, slice)
            else check_ids(targets, self.m, "target rows")
        )
        found = np.zeros((len(wanted), self.n), np.float32)
        for start in range(0, len(wanted), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            for part in self.on(wanted[some]).models:
                weights = part.weights(self.ridge)
                for place, features in part.features:
                    found[some, place] += part.scores(features, weights).T / len(self.models)
        return found * self.slope.astype(np.float32)

    def top(self, target: int, k: int, *, sign: Sign = "helps") -> Int[np.ndarray, " k"]:
        """The k training rows that help or hurt most, as :meth:`DenseAttribution.top` says (dl-506, dl-510)."""
        highest = raises_output(sign, self.info.better)
        check_top(k, self.n)
        row = self.rows([target])[0]
        return np.argsort(-row if highest else row, kind="stable")[:k].astype(np.int64)

    def error(
        self,
        removals: Sequence[Ids],  # noqa: ARG002  (the protocol's)
        *,
        targets: Ids | None = None,  # noqa: ARG002
    ) -> Float[np.ndarray, "k m"]:
        """Relative scores have none (dl-505)."""
        raise CapabilityError(
            "dl-505",
            asked="the standard error of a prediction",
            found=f"{self.info.method}, which has none in units of the output",
            do="calibrate it: dataloupe.calibrate(attribution, outcomes)",
        )

    def parts(self) -> "Sequence[FactoredAttribution]":
        """The same from single models."""
        return [dataclasses.replace(self, models=[one]) for one in self.models]
