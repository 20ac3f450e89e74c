"""What a removal does, integrated over the density of its rows: the same rows do more where more like them is missing."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse.linalg import LinearOperator, cg

from dataloupe._errors import BadInput, TrainingError
from dataloupe.core import Lab, Question, Subsets
from dataloupe.solve import RemovalDesign
from dataloupe.unlearning._context import Context
from dataloupe.unlearning._predictors import (
    Along,
    Fitted,
    Regression,
    after_what_is_gone,
    check_blocks,
    design_of,
    remembered,
)
from dataloupe.unlearning._rows import everything

GROUPS = 20
"""Into so many groups trainings are parted for the error of a ratio, where they share no seeds."""
SPREAD = 3.0
"""What is added to the variance of every direction before the noisy ones are given less weight, in mean variances."""
PENALTY = 0.05
"""Of the regression that tells which rows do what the request does, in mean eigenvalues: small, since shrinking takes most from a loud few."""
LEAST = 0.05
"""The least that supports outputs whatever the data, in what all rows support: ratios beyond it are taken to be at it."""


@dataclasses.dataclass(frozen=True)
class Growth:
    """How the effect of a request grows as more is missing.

    ``ratio`` is its effect where the share ``sparse`` of the data is there over that where ``dense`` is, ``error`` the standard error;
    ``share`` is the request's part in what supports its outputs. If support saturates, outputs go as A log(c + support), with all
    rows' support 1:

        r = (c + dense) / (c + sparse),      scale = (c + dense) / share * log((1 + c) / (1 + c - share))

    The part of r - 1 that may be noise is left out (times max(0, 1 - error^2 / (r - 1)^2)), and r below 1 tells of no saturation.

    >>> round(Growth(ratio=2.0, error=0.0, share=1.0).scale, 3)
    1.609
    >>> round(Growth(ratio=2.0, error=0.0, share=0.01).scale, 3)
    0.803
    """

    ratio: float
    error: float
    share: float
    dense: float = 0.75
    sparse: float = 0.25

    @property
    def scale(self) -> float:
        """What changes that are told by trainings on many rows are multiplied by."""
        more = self.ratio - 1.0
        if not more > self.error:
            return 1.0
        more *= 1.0 - (self.error / more) ** 2
        c = max(LEAST, (self.dense - self.sparse * (1 + more)) / more)
        return float((c + self.dense) / self.share * np.log1p(self.share / (1 + c - self.share)))


@dataclasses.dataclass(frozen=True, eq=False)
class Integrated:
    """A regression's changes, integrated over the density of what is removed.

    A regression tells what rows do where the share f of the data is there. To remove rows from the whole is to pass through
    all densities of these rows, from 1 to 0, while the others stay; and rows do more the fewer there are that do the same.
    With k_i a row's part in the support of the request's outputs (all together 1), and outputs that go as A log(c + sum of k_i
    over rows that are there), the effect of the request is at density f of all rows, and in truth:

        s(f) = A share / (c + f),      change = A log((c + 1) / (c + 1 - share)),      share = sum of k_i over the request

    c is told by a few trainings on a smaller share g of the data (``sparse``; they are cheap): they do not tell effects row by row, but their ratio
    r = s(g) / s(f) for the request. The share of support is told by the regression itself. With p the changes predicted by it:

        change = p (c + f) / share * log((1 + c) / (1 + c - share)),      c = (f - g r) / (r - 1)

    For a share of 1 this is the integral of s over [0, 1], for a small one s at full density. Effects are taken along
    w = (C + 3 tr(C)/m I)^-1 p, with C the covariance of the removed rows' outputs over trainings: what trainings swing along by themselves
    counts less. q, the plain regression of these outputs on their row's membership and that of the others of the request, gives
    r = <w, q(g)> / <w, q(f)>, with a jackknife over seeds for its error. The share is that of the request in all
    positive gains of the output <w, .> from rows, less the positive gains that noise would show. See :class:`Growth`. Where trainings show
    no effect in the direction of p, nothing tells of growth: p is left as it is, and the error of the ratio is infinite.

    Raises ``BadInput`` dl-687 (a sparse share of the data that is no smaller), dl-680, dl-681, dl-684.

    >>> dense = Regression(Subsets(n=100, count=500, fraction=0.75, seeds=20))
    >>> Integrated(dense, Subsets(n=100, count=200, fraction=0.25, seeds=20)).trainings
    700
    """

    by: Regression
    sparse: Subsets

    def __post_init__(self) -> None:
        """Check the settings."""
        many, few = self.by.subsets.fraction, self.sparse.fraction
        if not few < many:
            raise BadInput(
                "dl-687",
                asked=f"how effects grow from trainings on {many:g} of the data to sparse ones on {few:g}",
                found="sparse trainings that see no less",
                do="give Regression(Subsets(fraction=0.75)) and sparse=Subsets(fraction=0.25)",
            )
        if self.sparse.n != self.by.subsets.n:
            raise BadInput(
                "dl-681",
                asked=f"effects integrated over trainings on subsets of {self.by.subsets.n} rows",
                found=f"sparse subsets of {self.sparse.n}",
                do="give Subsets(n=len(train), ...) twice",
            )
        check_blocks(self.sparse)

    def changes(self, context: Context) -> Float[np.ndarray, "rows c"]:
        """p, times the scale of the request."""
        fit = self.fitted(context.question, context.lab)

        def told(ids: Int[np.ndarray, " f"]) -> Float[np.ndarray, "rows c"]:
            found = fit.changes(ids, self.by.effect)
            return found * self._grown(fit, context.question, context.lab, ids, found[ids]).scale

        return after_what_is_gone(told, context)

    def of_removed(
        self, question: Question, lab: Lab, removed: Int[np.ndarray, " f"]
    ) -> Float[np.ndarray, "f c"]:
        """What :meth:`changes` gives for the removed rows themselves, at a fraction of the cost."""
        found = self.by.of_removed(question, lab, removed)
        return found * self._grown(self.fitted(question, lab), question, lab, removed, found).scale

    def growth(self, context: Context) -> Growth:
        """How the effect of this request grows, and how well that is known."""
        question, lab, ids = context.question, context.lab, context.forget
        told = self.by.of_removed(question, lab, ids)
        return self._grown(self.fitted(question, lab), question, lab, ids, told)

    def scores(self, question: Question, lab: Lab) -> Along | None:
        """Those of the regression's prior."""
        return self.by.scores(question, lab)

    def fitted(self, question: Question, lab: Lab) -> Fitted:
        """The regression of this question's predictions."""
        return self.by.fitted(question, lab)

    @property
    def trainings(self) -> int:
        """Those on many rows and those on few."""
        return self.by.trainings + self.sparse.count

    @property
    def prior(self) -> object:
        """What stands behind the regression."""
        return self.by.prior

    def _grown(
        self,
        fit: Fitted,
        question: Question,
        lab: Lab,
        removed: Int[np.ndarray, " f"],
        told: Float[np.ndarray, "f c"],
    ) -> Growth:
        """The ratio of effects along what is predicted, and the request's share of them."""
        sparse, outputs = remembered(self, question.identity, lambda: self._trained(question, lab))
        many = fit.outputs.reshape(len(fit.outputs), -1, fit.columns)[:, removed]
        few = outputs.reshape(len(outputs), -1, fit.columns)[:, removed]
        weights = _quietly(many, told)
        below, error_below = _along(fit.design, many, removed, weights)
        above, error_above = _along(sparse, few, removed, weights)
        gains, noise = fit.design.gains(-np.einsum("kfc,fc->k", many, weights), PENALTY)
        own = float(gains[removed].sum())
        shares = (self.by.subsets.fraction, self.sparse.fraction)
        if not (below > 0 and own > 0):
            return Growth(1.0, float("inf"), 1.0, *shares)
        others, alone = np.delete(gains, removed), np.delete(noise, removed)
        stand_in = max(0.0, float(np.maximum(others, 0.0).sum() - alone.sum() / np.sqrt(2 * np.pi)))
        ratio = above / below
        error = float(np.hypot(error_above, ratio * error_below)) / below
        return Growth(ratio, error, own / (own + stand_in), *shares)

    def _trained(self, question: Question, lab: Lab) -> tuple[RemovalDesign, Float[np.ndarray, "k m"]]:
        """Trainings on few rows and what they predict, less the mean of their block."""
        kept = lab.outcomes(everything(question), self.sparse).complete()
        design = design_of(kept.subsets)
        return design, design.centred(kept.values.reshape(len(kept.values), -1))


def _quietly(outputs: Float[np.ndarray, "k f c"], told: Float[np.ndarray, "f c"]) -> Float[np.ndarray, "f c"]:
    """w = (C + 3 tr(C)/m I)^-1 p, by conjugate gradients."""
    flat = np.asarray(outputs.reshape(len(outputs), -1), np.float32)
    spread = SPREAD * float(np.einsum("km,km->", flat, flat)) / flat.size
    if not spread:
        return told
    covariance = LinearOperator(
        (flat.shape[1],) * 2,
        matvec=lambda x: (flat @ x.astype(np.float32)) @ flat / len(flat) + spread * x,
        dtype=np.float64,
    )
    found, unsolved = cg(covariance, told.ravel(), rtol=1e-4)
    if unsolved:
        raise TrainingError(
            "dl-659",
            asked=f"the direction that moves {found.size} outputs of retained rows least",
            found=f"conjugate gradients that did not converge in {unsolved} steps",
            do="look for outputs that are huge or alike (a diverged training?), or give more trainings",
        )
    return found.reshape(told.shape)


def _along(
    design: RemovalDesign,
    outputs: Float[np.ndarray, "k f c"],
    removed: Int[np.ndarray, " f"],
    weights: Float[np.ndarray, "f c"],
) -> tuple[float, float]:
    """<w, q>, and its standard error by leaving out one group of trainings at a time.

    q: minus what a row's outputs gain from its own membership and from that of all the others, by least squares.
    """
    design.check_varied(removed)
    masks = design.centred(design.masks[:, removed].astype(np.float64))
    groups = np.arange(len(masks)) * GROUPS // len(masks) if design.blocks is None else design.blocks
    grams, crosses = [], []
    for group in np.unique(groups):
        own, seen = masks[groups == group], outputs[groups == group].astype(np.float64)
        kept = np.stack([own, own.sum(axis=1, keepdims=True) - own], axis=2)
        grams.append(np.einsum("kfa,kfb->fab", kept, kept))
        crosses.append(np.einsum("kfa,kfc->fac", kept, seen))
    gram, cross = np.sum(grams, axis=0), np.sum(crosses, axis=0)

    def slope(gram: Float[np.ndarray, "f 2 2"], cross: Float[np.ndarray, "f 2 c"]) -> float:
        gains = np.linalg.pinv(gram, hermitian=True) @ cross
        return -float((weights * (gains[:, 0] + (len(removed) - 1) * gains[:, 1])).sum())

    found = slope(gram, cross)
    left = np.array([slope(gram - one, cross - of) for one, of in zip(grams, crosses, strict=True)])
    return found, float(np.sqrt((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum()))
