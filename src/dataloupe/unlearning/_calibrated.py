"""The scale of predicted changes, from retrainings without pseudo-forget sets: random ones and coherent ones."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array
from dataloupe.core import OK, Subsets
from dataloupe.unlearning._context import Context
from dataloupe.unlearning._predictors import Predictor, remembered
from dataloupe.unlearning._rows import everything

SPREADS = (1, 1, 2, 4)
"""A coherent set is drawn from so many times its size of nearest rows."""
FEWEST = 4
"""So many sets at least."""
LEAST, MOST = 0.25, 4.0
"""A scale is cut to this range."""


@dataclasses.dataclass(frozen=True, eq=False)
class Calibrated:
    """A predictor's changes times a scale that pseudo-forget sets tell, which grows with the change itself.

    What many rows alike do together is more than the sum of what each does beside the others, and the more so the more
    they do; what single rows do is measured where some of the others are missing, and comes out too large. So for set s,
    with p_s the predicted and t_s the true changes of its rows, and r_s the root mean square of p_s:

        scale(r) = a + b r,      (a, b) = argmin sum_s w_s |t_s - (a + b r_s) p_s|^2,     w_s = 1 / (|t_s|^2 + noise_s)

    All rows are scaled alike: what is predicted of others is too noisy to tell a scale of theirs. The ``sets`` are random rows and rows near a random one in what a model's
    last layer sees, by turns, of sizes within ``shares`` of the data (up to the request's, if that is larger). Each is
    retrained with ``seeds`` seeds, the same for all sets and for none (common random numbers); noise_s is the variance of
    their mean. The retrainings serve all requests. Scales stay within [1/4, 4].

    Raises ``BadInput`` dl-685 (settings, or a request of more than half of the data).

    >>> from dataloupe.unlearning import Regression
    >>> Calibrated(Regression(Subsets(n=100, count=500, fraction=0.75))).trainings
    750
    """

    by: Predictor
    sets: int = 24
    seeds: int = 10
    shares: tuple[float, float] = (0.005, 0.025)
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        low, high = self.shares
        if self.sets < FEWEST or self.seeds < 2 or not 0 < low <= high <= 0.5:
            raise self._refused(
                f"{self.sets} pseudo-forget sets of {low:g} to {high:g} of the data, with {self.seeds} seeds",
                "fewer than 4 sets or 2 seeds, which tell no scale, or shares that are none",
                "give 24 sets and 10 seeds, and shares between 0 and a half",
            )

    @property
    def trainings(self) -> int:
        """The predictor's, and those without each set and without none."""
        return int(getattr(self.by, "trainings", 0)) + (self.sets + 1) * self.seeds

    @property
    def prior(self) -> object:
        """What stands behind the predictor."""
        return getattr(self.by, "prior", None) or getattr(self.by, "method", None)

    def changes(self, context: Context) -> Float[np.ndarray, "rows c"]:
        """Scaled changes."""
        found = self.by.changes(context)
        return self._scale(context, found) * found

    def scale(self, context: Context) -> float:
        """Of this request."""
        return self._scale(context, self.by.changes(context))

    def _scale(self, context: Context, found: Float[np.ndarray, "rows c"]) -> float:
        n, size = context.question.n, len(context.forget)
        if 2 * size > n:
            raise self._refused(
                f"pseudo-forget sets of {size} rows", f"{n} rows", "retrain, for so large a request"
            )
        low, high = self.shares
        most = max(2, round(high * n), size)
        key = (context.question.identity, most)
        a, b = remembered(self, key, lambda: self._fit(context, min(most, max(2, round(low * n))), most))
        return float(np.clip(a + b * _strength(found[context.forget]), LEAST, MOST))

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
            told = self.by.changes(Context.of(question, lab, ids))
            apart = (kept.values[i + 1, fine] - kept.values[0, fine]).reshape(-1, *told.shape)[:, ids]
            truth, noise = apart.mean(axis=0), apart.var(axis=0, ddof=1) / len(apart)
            told = told[ids]
            basis = np.array([1.0, _strength(told)])
            weight = 1.0 / max(float((truth**2).sum() + noise.sum()), 1e-300)
            gram += weight * np.outer(basis, basis) * float((told**2).sum())
            with_truth += weight * basis * float((told * truth).sum())
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


def _strength(changes: Float[np.ndarray, "f c"]) -> float:
    """The root mean square."""
    return float(np.sqrt((changes**2).mean()))


def _drawn(
    units: Float[np.ndarray, "n e"], size: int, stream: Stream, *, coherent: bool, spread: int
) -> Int[np.ndarray, " f"]:
    """Random rows, or rows drawn from the nearest to a random one."""
    order: Array = np.argsort(stream.bits(np.arange(len(units))))
    if not coherent:
        return np.sort(order[:size])
    near = np.argsort(-(units @ units[order[0]]), kind="stable")[: min(spread * size, len(units) - 1)]
    return np.sort(near[np.argsort(stream("near").bits(near))][:size])
