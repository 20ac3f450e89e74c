"""The scale of predicted changes, from retrainings without pseudo-forget sets: random ones and coherent ones."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array
from dataloupe.core import OK, AbstractAttributor, Subsets
from dataloupe.unlearning._context import Context
from dataloupe.unlearning._predictors import Predictor, after_what_is_gone, remembered
from dataloupe.unlearning._rows import everything

SPREADS = (1, 1, 2, 4)
"""A coherent set is drawn from so many times its size of nearest rows."""
FEWEST = 4
"""So many sets at least."""


@dataclasses.dataclass(frozen=True, eq=False)
class Calibrated:
    """A predictor's changes in the scale of pseudo-forget sets, and what rows do together beyond their sum.

    What many rows alike do together is more than the sum of what each does beside the others; and what single rows do is
    measured where some of the others are missing, and comes out too large. With p_s the predicted and t_s the true changes
    of the rows of set s:

        change = a p + b d,      (a, b) = argmin sum_s w_s |t_s - a p_s - b d_s|^2,      w_s = 1 / (|t_s|^2 + noise_s)

    d is the effect of the group less the sum of single effects by ``gradients`` (:class:`TRAK`), which take the rows'
    curvature out together (:meth:`solve.Linearised.removed`): the trainings tell what each row does, gradients how much
    more all do at once. Without ``gradients`` d = r p, with r the root mean square of p on the removed rows: a scale
    that grows with the change.

    All rows take one a and b: what is predicted of others is too noisy to tell theirs. The ``sets`` are random rows and rows
    near a random one in what a model's last layer sees, by turns, of sizes within ``shares`` of the data (up to the
    request's, if that is larger). Each is retrained with ``seeds`` seeds, the same for all sets and for none (common random
    numbers); noise_s is the variance of their mean. The retrainings serve all requests.

    Raises ``BadInput`` dl-685 (settings, or a request of more than half of the data).

    >>> from dataloupe.unlearning import Regression
    >>> Calibrated(Regression(Subsets(n=100, count=500, fraction=0.75))).trainings
    750
    """

    by: Predictor
    gradients: AbstractAttributor | None = None
    sets: int = 24
    seeds: int = 10
    shares: tuple[float, float] = (0.005, 0.025)
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        low, high = self.shares
        if self.gradients is not None and not hasattr(self.gradients, "factored"):
            raise self._refused(f"group effects by {type(self.gradients).__name__}", "no factors", "use TRAK")
        if self.sets < FEWEST or self.seeds < 2 or not 0 < low <= high <= 0.5:
            raise self._refused(
                f"{self.sets} pseudo-forget sets of {low:g} to {high:g} of the data, with {self.seeds} seeds",
                "fewer than 4 sets or 2 seeds, which tell no scale, or shares that are none",
                "give 24 sets and 10 seeds, and shares between 0 and a half",
            )

    @property
    def trainings(self) -> int:
        """The predictor's, those without each set and without none, and the models of the gradients."""
        others = int(getattr(self.by, "trainings", 0)) + int(getattr(self.gradients, "models", 0))
        return others + (self.sets + 1) * self.seeds

    @property
    def prior(self) -> object:
        """What stands behind the predictor."""
        return getattr(self.by, "prior", None) or getattr(self.by, "method", None)

    def changes(self, context: Context) -> Float[np.ndarray, "rows c"]:
        """a p + b d."""
        a, b = self.scales(context)
        first, second = self._basis(context)
        return a * first + b * second

    def scales(self, context: Context) -> tuple[float, float]:
        """a and b, for requests of this size."""
        n, size = context.question.n, len(context.forget)
        if 2 * size > n:
            raise self._refused(
                f"pseudo-forget sets of {size} rows", f"{n} rows", "retrain, for so large a request"
            )
        low, high = self.shares
        most = max(2, round(high * n), size)
        key = (context.question.identity, most)
        a, b = remembered(self, key, lambda: self._fit(context, min(most, max(2, round(low * n))), most))
        return float(a), float(b)

    def _basis(self, context: Context) -> tuple[Float[np.ndarray, "rows c"], Float[np.ndarray, "rows c"]]:
        """p and d."""
        told = self.by.changes(context)
        if self.gradients is None:
            return told, told * float(np.sqrt((told[context.forget] ** 2).mean()))
        found = self._factored(context)
        beyond = after_what_is_gone(
            lambda ids: (
                (found.effect([ids], kind="group")[0] - found.effect([ids], kind="sum")[0])
                .reshape(told.shape)
                .astype(np.float64)
            ),
            context,
        )
        return told, beyond

    def _factored(self, context: Context) -> Any:
        """The gradients' effects on all predictions; made once for a question."""
        question, lab = context.question, context.lab
        return remembered(
            self,
            question.identity,
            lambda: self.gradients.factored(everything(question), lab),  # type: ignore[union-attr]
            under="_gradients",
        )

    def _fit(self, context: Context, least: int, most: int) -> Float[np.ndarray, " 2"]:
        """a and b."""
        question, lab, n = context.question, context.lab, context.question.n
        every, units = everything(question), self._units(context)
        root = Stream.root(self.seed)("pseudo", least, most)
        sizes = np.geomspace(least, most, -(-self.sets // 2)).round().astype(int)
        drawn = [
            _drawn(units, int(sizes[i // 2]), root("set", i), coherent=i % 2 == 1, spread=SPREADS[i // 2 % 4])
            for i in range(self.sets)
        ]
        removals = Subsets.without(n, [np.empty(0, np.int64), *drawn], seed=root("without").seed())
        kept = lab.outcomes(every, removals, repeats=self.seeds)
        sound = (kept.status[:1] == OK) & (kept.status[1:] == OK)
        usable = np.flatnonzero(sound.sum(axis=1) >= 2)
        if len(usable) < FEWEST:
            raise self._refused(
                f"a scale from {self.sets} pseudo-forget sets",
                f"{len(usable)} with two pairs of trainings that did not diverge",
                "lower the learning rate, or ask for more seeds",
            )
        gram, with_truth = np.zeros((2, 2)), np.zeros(2)
        for i in usable:
            ids, fine = drawn[i], sound[i]
            basis = np.stack([one[ids].ravel() for one in self._basis(Context.of(question, lab, ids))])
            apart = (kept.values[i + 1, fine] - kept.values[0, fine]).reshape(
                fine.sum(), len(every.targets), -1
            )[:, ids]
            truth, noise = apart.mean(axis=0).ravel(), apart.var(axis=0, ddof=1) / len(apart)
            weight = 1.0 / max(float(truth @ truth + noise.sum()), 1e-300)
            gram += weight * basis @ basis.T
            with_truth += weight * basis @ truth
        return np.linalg.lstsq(gram, with_truth, rcond=1e-6)[0]

    def _units(self, context: Context) -> Float[np.ndarray, "n e"]:
        """What the last layer of a model sees of every training row, centred, at length 1."""
        seen = context.lab.embeddings(
            context.question, Subsets.full(context.question.n, 1, seed=self.seed), 0
        ).train
        centred = seen.astype(np.float64) - seen.mean(axis=0)
        return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-300)

    def _refused(self, asked: str, found: str, do: str) -> BadInput:
        return BadInput("dl-685", asked=asked, found=found, do=do)


def _drawn(
    units: Float[np.ndarray, "n e"], size: int, stream: Stream, *, coherent: bool, spread: int
) -> Int[np.ndarray, " f"]:
    """Random rows, or rows drawn from the nearest to a random one."""
    order: Array = np.argsort(stream.bits(np.arange(len(units))))
    if not coherent:
        return np.sort(order[:size])
    near = np.argsort(-(units @ units[order[0]]), kind="stable")[: min(spread * size, len(units) - 1)]
    return np.sort(near[np.argsort(stream("near").bits(near))][:size])
