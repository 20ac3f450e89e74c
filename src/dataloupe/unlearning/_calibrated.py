"""The scale of predicted changes, from retrainings without pseudo-forget sets: random ones and coherent ones."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import OK, AbstractAttributor, Subsets, check_settings
from dataloupe.unlearning._context import Context
from dataloupe.unlearning._integrated import Integrated
from dataloupe.unlearning._predictors import Local, Predictor, after_what_is_gone, remembered
from dataloupe.unlearning._rows import everything

FEWEST = 4
"""So many sets at least."""


@dataclasses.dataclass(frozen=True)
class Scales:
    """change = a p + b d, fitted on so many pseudo-forget sets; ``lost``: those without a pair of trainings that ended well."""

    a: float
    b: float
    sets: int
    lost: int


@dataclasses.dataclass(frozen=True, eq=False)
class Calibrated:
    """A predictor's changes in the scale of pseudo-forget sets, and what rows do together beyond their sum.

    What many rows alike do together is more than the sum of what each does beside the others; and what single rows do is
    measured where some of the others are missing, and comes out too large. With p_s the predicted and t_s the true changes
    of the rows of set s:

        change = a p + b d,      (a, b) = argmin sum_s |t_s - a p_s - b d_s|^2

    d is the effect of the group less the sum of single effects by ``gradients`` (:class:`TRAK`), which take the rows'
    curvature out together (:meth:`solve.Linearised.removed`): the trainings tell what each row does, gradients how much
    more all do at once. Without ``gradients`` d = r p, with r the root mean square of p on the removed rows: a scale
    that grows with the change. The scale of :class:`Integrated` is a law's, request by request: there a = 1, and b alone
    is fitted.

    All rows take one a and b: what is predicted of others is too noisy to tell theirs. Sets of large changes weigh more, as
    they do in what is judged. The ``sets`` are by turns random rows and the rows nearest to one of them, in the effects that
    rows have on each other by the gradients (without: in what a model's last layer sees); rows of large effects are drawn
    more often. Sizes are within ``shares`` of the data (up to the request's, if that is larger). Each set is retrained with
    ``seeds`` seeds, the same for all sets and for none (common random numbers). The retrainings serve all requests.

    Raises ``BadInput`` dl-685 (settings, or a request of more than half of the data).

    >>> from dataloupe.unlearning import Regression
    >>> Calibrated(Regression(Subsets(n=100, count=500, fraction=0.75))).trainings
    745
    """

    by: Predictor
    gradients: AbstractAttributor | None = None
    sets: int = 48
    seeds: int = 5
    shares: tuple[float, float] = (0.005, 0.025)
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-685")
        low, high = self.shares
        if self.gradients is not None and not hasattr(self.gradients, "factored"):
            raise self._refused(f"group effects by {type(self.gradients).__name__}", "no factors", "use TRAK")
        if self.sets < FEWEST or self.seeds < 1 or not 0 < low <= high <= 0.5:
            raise self._refused(
                f"{self.sets} pseudo-forget sets of {low:g} to {high:g} of the data, with {self.seeds} seeds",
                "fewer than 4 sets or no seed, which tell no scale, or shares that are none",
                "give 48 sets and 5 seeds, and shares between 0 and a half",
            )

    @property
    def trainings(self) -> int:
        """The predictor's, those without each set and without none, and the models of gradients that are not its prior."""
        own = 0 if self.gradients == self.prior else int(getattr(self.gradients, "models", 0))
        return int(getattr(self.by, "trainings", 0)) + (self.sets + 1) * self.seeds + own

    @property
    def prior(self) -> object:
        """What stands behind the predictor."""
        return getattr(self.by, "prior", None)

    def changes(self, context: Context) -> Float[np.ndarray, "rows c"]:
        """a p + b d."""
        scales = self.scales(context)
        first, second = self._basis(context)
        return scales.a * first + scales.b * second

    def scales(self, context: Context) -> Scales:
        """a and b, for requests of this size."""
        n, size = context.question.n, len(context.forget)
        if 2 * size > n:
            raise self._refused(
                f"pseudo-forget sets of {size} rows", f"{n} rows", "retrain, for so large a request"
            )
        low, high = self.shares
        most = max(2, round(high * n), size)
        key = (context.question.identity, most)
        return remembered(self, key, lambda: self._fit(context, min(most, max(2, round(low * n))), most))

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

    def _of_removed(self, context: Context) -> tuple[Float[np.ndarray, "f c"], Float[np.ndarray, "f c"]]:
        """p and d of the removed rows alone."""
        ids = context.forget
        if not isinstance(self.by, Local):
            first, second = self._basis(context)
            return first[ids], second[ids]
        told = self.by.of_removed(context.question, context.lab, ids)
        if self.gradients is None:
            return told, told * float(np.sqrt((told**2).mean()))
        found = self._factored(context)
        found = found.on((ids[:, None] * told.shape[1] + np.arange(told.shape[1])).ravel())
        beyond = found.effect([ids], kind="group")[0] - found.effect([ids], kind="sum")[0]
        return told, beyond.reshape(told.shape).astype(np.float64)

    def _factored(self, context: Context) -> Any:
        """The gradients' effects on all predictions; made once for a question, and not again if the predictor rests on them."""
        question, lab = context.question, context.lab
        if isinstance(self.by, Local) and self.by.prior == self.gradients:
            return self.by.scores(question, lab)
        return remembered(
            self,
            question.identity,
            lambda: self.gradients.factored(everything(question), lab),  # type: ignore[union-attr]
            under="_gradients",
        )

    def _fit(self, context: Context, least: int, most: int) -> Scales:
        """a and b."""
        question, lab, n = context.question, context.lab, context.question.n
        every, places = everything(question), self._places(context)
        root = Stream.root(self.seed)("pseudo", least, most)
        sizes = np.geomspace(least, most, -(-self.sets // 2)).round().astype(int)
        drawn = [
            _drawn(places, int(sizes[i // 2]), root("set", i), coherent=i % 2 == 1) for i in range(self.sets)
        ]
        removals = Subsets.without(n, [np.empty(0, np.int64), *drawn], seed=root("without").seed())
        kept = lab.outcomes(every, removals, repeats=self.seeds)
        sound = (kept.status[:1] == OK) & (kept.status[1:] == OK)
        usable = np.flatnonzero(sound.any(axis=1))
        if len(usable) < FEWEST:
            raise self._refused(
                f"a scale from {self.sets} pseudo-forget sets",
                f"{len(usable)} with a pair of trainings that did not diverge",
                "lower the learning rate, or ask for more seeds",
            )
        gram, with_truth = np.zeros((2, 2)), np.zeros(2)
        for i in usable:
            ids, fine = drawn[i], sound[i]
            basis = np.stack([one.ravel() for one in self._of_removed(Context.of(question, lab, ids))])
            apart = kept.values[i + 1, fine] - kept.values[0, fine]
            truth = apart.mean(axis=0, dtype=np.float64).reshape(len(every.targets), -1)[ids].ravel()
            gram += basis @ basis.T
            with_truth += basis @ truth
        if isinstance(self.by, Integrated):
            a, b = 1.0, (with_truth[1] - gram[0, 1]) / max(gram[1, 1], 1e-300)
        else:
            a, b = np.linalg.lstsq(gram, with_truth, rcond=1e-6)[0]
        return Scales(float(a), float(b), sets=len(usable), lost=len(drawn) - len(usable))

    def _places(self, context: Context) -> Float[np.ndarray, "n e"]:
        """Training rows in a space in which rows with effects on each other are near: inner products say how near."""
        if self.gradients is not None:
            return self._factored(context).embedded()
        seen = context.lab.embeddings(
            context.question, Subsets.full(context.question.n, 1, seed=self.seed), 0
        ).train
        centred = seen.astype(np.float64) - seen.mean(axis=0)
        return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-300)

    def _refused(self, asked: str, found: str, do: str) -> BadInput:
        return BadInput("dl-685", asked=asked, found=found, do=do)


def _drawn(
    places: Float[np.ndarray, "n e"], size: int, stream: Stream, *, coherent: bool
) -> Int[np.ndarray, " f"]:
    """Random rows, or those nearest to one that is drawn in proportion to its length."""
    if not coherent:
        return np.sort(np.argsort(stream.bits(np.arange(len(places))))[:size])
    length = np.linalg.norm(places.astype(np.float64), axis=1) + 1e-300
    centre = stream.numpy().choice(len(places), p=length / length.sum())
    return np.sort(np.argsort(-(places @ places[centre]), kind="stable")[:size])
