"""What two learning algorithms were found to do differently."""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float, Int

from dataloupe._errors import BadInput
from dataloupe._typing import Facts
from dataloupe.apps._leaks import plain
from dataloupe.core import check_ids, checked


@dataclasses.dataclass(frozen=True, eq=False)
class Directions:
    """Directions in the space of training rows that one algorithm (``of``) uses and another (``against``) does not.

    ``vectors [c, n]`` of length 1, the largest entry in size positive; ``coordinates [m, c]`` of the targets along
    them; ``values [c]`` what they were found by (see :func:`dataloupe.compare`); ``own [c]`` and ``other [c]`` the
    variances of both algorithms' rows of length 1. With a null: ``p [c]`` of the value, against the largest of all
    components that chance gives; ``ratio_p [c]`` of own / other, against that of the direction of largest value;
    ``stability [c]`` the mean |<u, u'>| of the same direction from two halves of the models; ``kept [c]``: p is
    at most 1 - level, and own / other at least 2.
    """

    of: str
    against: str
    vectors: Float[np.ndarray, "c n"]
    coordinates: Float[np.ndarray, "m c"]
    values: Float[np.ndarray, " c"]
    own: Float[np.ndarray, " c"]
    other: Float[np.ndarray, " c"]
    p: Float[np.ndarray, " c"] | None = None
    ratio_p: Float[np.ndarray, " c"] | None = None
    stability: Float[np.ndarray, " c"] | None = None
    kept: Bool[np.ndarray, " c"] | None = None

    @property
    def ratio(self) -> Float[np.ndarray, " c"]:
        """own / other; infinite where the other does not vary."""
        return np.divide(self.own, self.other, out=np.full(len(self.own), np.inf), where=self.other > 0)

    @checked("dl-781")
    def targets(self, component: int, k: int) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        """The k targets at the top and at the bottom of a direction, outermost first (dl-781)."""
        return self._ends(self.coordinates.T, component, k, "targets")

    @checked("dl-781")
    def rows(self, component: int, k: int) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        """The k training rows at the top and at the bottom of a direction, outermost first (dl-781)."""
        return self._ends(self.vectors, component, k, "training rows")

    @checked("dl-781")
    def most(self, component: int, k: int) -> Int[np.ndarray, " k"]:
        """The k targets of largest coordinate in size, whatever its sign: the paper's subpopulation (dl-781)."""
        c = self._component(component)
        if not 0 < k <= len(self.coordinates):
            raise _beyond(k, "targets", len(self.coordinates))
        return np.argsort(-np.abs(self.coordinates[:, c]), kind="stable")[:k]

    def _ends(
        self, along: Float[np.ndarray, "c s"], component: int, k: int, what: str
    ) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        c = self._component(component)
        if not 0 < k <= along.shape[1] // 2:
            raise _beyond(k, f"{what} at either end", along.shape[1] // 2)
        order = np.argsort(-along[c], kind="stable")
        return order[:k], order[::-1][:k]

    def _component(self, component: int) -> int:
        return int(check_ids([component], len(self.values), "a component")[0])


def _beyond(k: int, what: str, most: int) -> BadInput:
    return BadInput("dl-781", asked=f"{k} {what}", found=f"{most} at most", do=f"ask for 1 to {most}")


@dataclasses.dataclass(frozen=True)
class Chance:
    """What one algorithm would differ from itself by: the law that directions are held against.

    ``deals`` of two times ``models`` models; ``paired``: within pairs of one subset and seed; ``value`` and ``ratio``:
    the ``level`` quantile of the largest value over all components, and of its direction's ratio of variances (None: without bound). ``apart``: p
    of the mean cosine of rows against those of deals; algorithms may differ in many small ways and in no single direction.
    """

    deals: int
    models: int
    paired: bool
    level: float
    value: float
    ratio: float | None
    apart: float


@dataclasses.dataclass(frozen=True, eq=False)
class Difference:
    """Two algorithms compared through their attributions.

    ``sides``: directions of the first against the second, and the other way round. ``cosine [m]`` of every target's
    two score rows; with a null also ``reliability [2, m]``, how much of a row of all models is no noise, and
    ``denoised [m] = cosine / sqrt(reliability_1 reliability_2)``, at most 1, NaN where either is not above 0.
    """

    names: tuple[str, str]
    by: str
    sides: tuple[Directions, Directions]
    cosine: Float[np.ndarray, " m"]
    reliability: Float[np.ndarray, "two m"] | None = None
    denoised: Float[np.ndarray, " m"] | None = None
    chance: Chance | None = None
    notes: tuple[str, ...] = ()
    provenance: Facts = dataclasses.field(default_factory=dict)

    @property
    def found(self) -> list[tuple[Directions, int]]:
        """The directions above chance, as (side, component); none without a null."""
        return [
            (side, int(c)) for side in self.sides if side.kept is not None for c in np.flatnonzero(side.kept)
        ]

    @property
    def denoised_mean(self) -> float | None:
        """The mean of what is known of ``denoised``; None where nothing is."""
        known = np.empty(0) if self.denoised is None else self.denoised[np.isfinite(self.denoised)]
        return float(known.mean()) if len(known) else None

    def __str__(self) -> str:
        alike = f"mean cosine {np.mean(self.cosine):.2f}"
        if self.denoised_mean is not None:
            alike += f", {self.denoised_mean:.2f} without noise"
        if self.chance is None:
            said = "no null, so no direction is told from chance"
        elif not self.found and self.chance.apart <= 1 - self.chance.level + 1e-12:
            said = f"they differ (p {self.chance.apart:.2g}), but no direction stands out from {self.chance.deals} deals of the models"
        elif not self.found:
            said = f"no difference found at {self.chance.level:g}, against {self.chance.deals} deals of the same models"
        else:
            said = "; ".join(said for said in map(self._told, self.sides) if said)
        return f"{self.names[0]} and {self.names[1]}: {alike}; {said}"

    def _told(self, side: Directions) -> str:
        """The directions of one side above chance: the first, and how many more."""
        if side.kept is None or side.p is None or side.stability is None or not side.kept.any():
            return ""
        c, *more = np.flatnonzero(side.kept).tolist()
        rest = f" (and {len(more)} more of {side.of})" if more else ""
        return (
            f"direction {c} of {side.of}: {side.ratio[c]:.1f} times the variance it has in {side.against}, "
            f"p {side.p[c]:.2g}, stability {side.stability[c]:.2f}{rest}"
        )

    def to_json(self) -> Facts:
        """Every field as JSON holds it, but for the vectors over training rows; what is not known is null."""
        facts = plain(self)
        if self.denoised is not None:
            facts["denoised"] = [None if math.isnan(value) else value for value in self.denoised.tolist()]
        for side in facts["sides"]:
            del side["vectors"]
        return facts
