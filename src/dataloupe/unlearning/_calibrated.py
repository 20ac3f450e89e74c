"""The scale of predicted changes, from retrainings without pseudo-forget sets: random ones and coherent ones."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array
from dataloupe.core import Subsets
from dataloupe.unlearning._context import Context
from dataloupe.unlearning._predictors import Predictor, remembered
from dataloupe.unlearning._rows import everything, measured

SPREADS = (1, 1, 2, 4)
"""A coherent set is drawn from so many times its size of nearest rows."""
LEAST, MOST = 0.25, 4.0
"""A scale is cut to this range."""


@dataclasses.dataclass(frozen=True, eq=False)
class Calibrated:
    """A predictor's changes times a scale that pseudo-forget sets tell: sets of the request's size, each retrained once.

    Half of the ``sets`` are random rows, half are rows near a random one in what a model's last layer sees. With p_s the
    predicted and t_s the measured changes of set s, and its coherence kappa_s = |mean of unit vectors of its rows|^2:

        scale(kappa) = a + b kappa,    (a, b) = argmin sum_s |t_s - (a + b kappa_s) p_s|^2

    once for removed rows and once for all others; the request is scaled by its own kappa, within [1/4, 4]. A linear
    prediction falls short of what many rows alike do together, and how far depends on the data: no single multiple fits
    random and coherent requests. The retrainings serve all requests of one size.

    Raises ``BadInput`` dl-685 (settings, or a request too large for sets of its size).

    >>> from dataloupe.unlearning import Regression
    >>> Calibrated(Regression(Subsets(n=100, count=500, fraction=0.75))).trainings
    548
    """

    by: Predictor
    sets: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.sets < 4:
            raise self._refused(
                f"{self.sets} pseudo-forget sets", "fewer than 4, which tell no scale", "give 24"
            )

    @property
    def trainings(self) -> int:
        """The predictor's, and one with and one without the rows for each set."""
        return int(getattr(self.by, "trainings", 0)) + 2 * self.sets

    @property
    def prior(self) -> object:
        """What stands behind the predictor."""
        return getattr(self.by, "prior", None) or getattr(self.by, "method", None)

    def changes(self, context: Context) -> Float[np.ndarray, "rows c"]:
        """Scaled changes: removed rows by one scale, all others by another."""
        found = self.by.changes(context)
        own, others = self.scales(context)
        scales = np.full(len(found), others)
        scales[context.forget] = own
        return scales[:, None] * found

    def scales(self, context: Context) -> tuple[float, float]:
        """Of removed rows and of all others, for this request."""
        n, size = context.question.n, len(context.forget)
        if 2 * size > n:
            raise self._refused(
                f"pseudo-forget sets of {size} rows", f"{n} rows", "retrain, for so large a request"
            )
        units = self._units(context)
        key = (context.question.identity, size)
        fits = remembered(self, key, lambda: self._fit(context, units, size))
        kappa = _coherence(units[context.forget])
        own, others = (float(np.clip(a + b * kappa, LEAST, MOST)) for a, b in fits)
        return own, others

    def _fit(
        self, context: Context, units: Float[np.ndarray, "n e"], size: int
    ) -> list[Float[np.ndarray, " 2"]]:
        """a and b of removed rows and of all others."""
        question, lab, n = context.question, context.lab, context.question.n
        every, root = everything(question), Stream.root(self.seed)("pseudo", size)
        drawn = [
            _drawn(units, size, root("set", i), coherent=i % 2 == 1, spread=SPREADS[i // 2 % 4])
            for i in range(self.sets)
        ]
        masks = np.stack([~np.isin(np.arange(n), ids) for ids in drawn])
        after = lab.outcomes(every, Subsets.listed(masks, seed=root("without").seed()))
        before = measured(every, lab, Subsets.full(n, self.sets, seed=root("full").seed())).mean(axis=0)
        sums = [(np.zeros((2, 2)), np.zeros(2)) for _ in range(2)]
        for i, ids in enumerate(drawn):
            if after.status[i, 0]:
                continue
            told = self.by.changes(Context.of(question, lab, ids))
            truth = after.values[i, 0].reshape(told.shape) - before
            own = np.zeros(len(told), dtype=bool)
            own[ids] = True
            basis = np.array([1.0, _coherence(units[ids])])
            for (gram, with_truth), rows in zip(sums, (own, ~own), strict=True):
                gram += np.outer(basis, basis) * float((told[rows] ** 2).sum())
                with_truth += basis * float((told[rows] * truth[rows]).sum())
        return [np.linalg.lstsq(gram, with_truth, rcond=1e-6)[0] for gram, with_truth in sums]

    def _units(self, context: Context) -> Float[np.ndarray, "n e"]:
        """What the last layer of a model sees of every training row, centred, at length 1."""
        seen = context.lab.embeddings(
            context.question, Subsets.full(context.question.n, 1, seed=self.seed), 0
        ).train
        centred = seen.astype(np.float64) - seen.mean(axis=0)
        return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-300)

    def _refused(self, asked: str, found: str, do: str) -> BadInput:
        return BadInput("dl-685", asked=asked, found=found, do=do)


def _coherence(units: Float[np.ndarray, "f e"]) -> float:
    """|mean|^2 of unit vectors: 1 where all are one, about 1 / f where they have nothing in common."""
    return float((units.mean(axis=0) ** 2).sum())


def _drawn(
    units: Float[np.ndarray, "n e"], size: int, stream: Stream, *, coherent: bool, spread: int
) -> Int[np.ndarray, " f"]:
    """Random rows, or rows drawn from the nearest to a random one."""
    order: Array = np.argsort(stream.bits(np.arange(len(units))))
    if not coherent:
        return np.sort(order[:size])
    near = np.argsort(-(units @ units[order[0]]), kind="stable")[: min(spread * size, len(units) - 1)]
    return np.sort(near[np.argsort(stream("near").bits(near))][:size])
