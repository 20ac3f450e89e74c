"""How linear is the output in the training data? A bound on any datamodel, before one is fitted."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import optimize

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import OK, Lab, Outcomes, Question, Subsets, checked

DEGREES = 3
"""Higher degrees than this count as this one."""
LEAST = 10
"""Families that an estimate needs."""


MOST_ALIKE = 0.95
"""The share of the subsets whose epochs have one number of steps, below which a note says that they differ."""


@dataclasses.dataclass(frozen=True)
class LinearResidual:
    """What the best linear datamodel explains, and what it leaves over: no fitted one does better.

    ``linear``: the share of the variance that is not seed noise which a linear function of membership can
    explain at most, with its interval; ``by_degree``: the shares of degree 1 (the same number), 2, and 3 or more;
    ``noise``: the share of one run's variance that another seed alone makes. Shares are of sums over targets.
    """

    linear: float
    linear_interval: tuple[float, float]
    by_degree: tuple[float, ...]
    noise: float
    noise_interval: tuple[float, float]
    models: int
    families: int
    targets: int
    fraction: float
    notes: tuple[str, ...] = ()

    @property
    def residual(self) -> float:
        """What no linear datamodel explains: 1 - linear."""
        return 1.0 - self.linear

    def __str__(self) -> str:
        low, high = self.linear_interval
        least, most = self.noise_interval
        return (
            f"the best linear datamodel explains {self.linear:.2f} [{low:.2f}, {high:.2f}] of the "
            f"variance that is not seed noise; seed noise is {self.noise:.2f} [{least:.2f}, {most:.2f}] of one "
            f"run's variance; {self.targets} targets, {self.models} models"
        )

    def to_json(self) -> dict[str, Any]:
        """Every field as JSON holds it, and the residual."""
        facts = {**dataclasses.asdict(self), "residual": self.residual}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in facts.items()}


@checked("dl-765")
def linear_residual(
    question: Question,
    lab: Lab,
    *,
    pairs: int = 150,
    fraction: float = 0.5,
    rhos: Sequence[float] = (0.5, 0.5),
    seed: int = 0,
    resamples: int = 200,
    level: float = 0.95,
) -> LinearResidual:
    """The most that a linear datamodel can explain, from outputs on correlated subsets; none is fitted.

    Keep every example with probability p. In the orthonormal p-biased Fourier basis, chi_T(S) = product over i
    in T of (S_i - p) / sqrt(p (1 - p)), let W_d be the output's squared weight of degree d. The best linear
    datamodel explains W_1 of the variance sum_d W_d. If S' keeps each membership of S with probability rho and
    draws it again otherwise, two trainings with seeds of their own have

        cov(f(S), f(S')) = sum_{d >= 1} rho^d W_d,    var f(S) = sum_{d >= 1} W_d + seed noise

    Each of ``pairs`` base subsets is trained on twice and once on each of its copies at ``rhos``: copies of one
    base at rho and rho' are correlated by rho rho', so that a family of a models gives a (a - 1) / 2 covariances.
    Half the mean squared difference of the two runs on the base is the seed noise; taken from the variances, it
    leaves the covariance at rho = 1. Pairs of *different* families overlap by chance and add, with z = chi_{i},

        W_1 = E[f(S) f(S') z(S) . z(S')],    S and S' independent,

    which is the sharper the smaller n is. W_1, W_2, W_3 (degrees above 3 count as 3) are fitted to all of these by
    nonnegative least squares, each weighted by its bootstrap error; sums over targets; percentile bootstrap over
    families. The covariances within families need no more models for a larger n.

    Subsets are of kind ``bernoulli``, whatever a datamodel will use: fixed-size memberships are not independent.
    Families with a diverged run are left out and noted. Costs ``pairs (2 + len(rhos))`` trainings.

    Raises ``BadInput`` dl-765 (settings), dl-766 (too few families without a diverged run, or no variance but
    the seed's), ``CapabilityError`` dl-207 (a learner that cannot train).

    >>> import torch
    >>> from dataloupe import core, outputs, testing
    >>> data = core.Examples(torch.eye(20), labels=torch.ones(20))
    >>> question = core.Question(testing.RidgeLearner(penalty=1.0), data, data, outputs.value)
    >>> found = linear_residual(question, core.MemoryLab(), pairs=20)
    >>> found.linear > 0.9, found.noise
    (True, 0.0)

    Source: Saunshi et al. 2023 (Understanding influence functions and datamodels via harmonic analysis).
    """
    _check_settings(pairs, fraction, rhos, resamples, level)
    subsets = correlated_subsets(question.n, pairs, fraction, rhos, seed)
    outcomes = lab.outcomes(question, subsets)
    values, good = _families(outcomes, pairs)
    left_out = pairs - len(good)
    kept = subsets.masks().reshape(len(rhos) + 2, pairs, -1)[:, good].astype(np.float32)
    kept = (kept - fraction) / (fraction * (1 - fraction)) ** 0.5
    draws = Stream.root(seed)("linearity", "bootstrap").numpy().integers(0, len(good), (resamples, len(good)))
    counts = np.stack([np.ones(len(good)), *(np.bincount(row, minlength=len(good)) for row in draws)])
    noises, moments = _moments(values, counts)
    moments = np.column_stack([moments, _across(values, kept, counts)])
    fits = _fit(_powers(np.array([1.0, 1.0, *rhos])), moments)
    signal = fits.sum(axis=1)
    if signal[0] <= 1e-12 * float(np.square(values).mean()) * values.shape[2]:
        raise _nothing("outputs that do not change with the subset", "use another output, or more pairs")
    usable = signal > 0
    linear = fits[usable, 0] / signal[usable]
    noise = noises[usable] / (noises[usable] + signal[usable])
    tails = [0.5 - level / 2, 0.5 + level / 2]
    notes = [f"{left_out} of {pairs} families had a diverged run and were left out"] if left_out else []
    return LinearResidual(
        linear=float(linear[0]),
        linear_interval=_ends(linear[1:], tails),
        by_degree=tuple(float(w) for w in fits[0] / signal[0]),
        noise=float(noise[0]),
        noise_interval=_ends(noise[1:], tails),
        models=subsets.count,
        families=values.shape[1],
        targets=values.shape[2],
        fraction=fraction,
        notes=(*notes, *_steps_note(question, subsets)),
    )


def correlated_subsets(n: int, pairs: int, fraction: float, rhos: Sequence[float], seed: int) -> Subsets:
    """The families in rows: all bases, all bases again (another seed), then all copies at each rho."""
    stream = Stream.root(seed)("linearity")
    ids, families = np.arange(n), np.arange(pairs)[:, None]
    base = stream("base").uniform(ids, families) < fraction
    members = [base, base]
    for c, rho in enumerate(rhos):
        keep = stream("keep", c).uniform(ids, families) < rho
        fresh = stream("fresh", c).uniform(ids, families) < fraction
        members.append(np.where(keep, base, fresh))
    masks: Bool[np.ndarray, "k n"] = np.concatenate(members)
    if not masks.any(axis=1).all():
        raise BadInput(
            "dl-765",
            asked=f"random subsets that keep each of {n} examples with probability {fraction:g}",
            found="a subset that keeps none of them",
            do="raise the fraction, or ask about more training examples",
        )
    return Subsets.listed(masks, seed=seed)


def _steps_note(question: Question, subsets: Subsets) -> tuple[str, ...]:
    """A sentence where independent subsets differ in how many steps an epoch has: the output jumps with their size."""
    batch = getattr(question.learner, "batch_size", None)
    if not isinstance(batch, int) or getattr(question.learner, "removal", "") != "repack":
        return ()
    steps, count = np.unique(-(-subsets.masks().sum(axis=1) // batch), return_counts=True)
    if len(steps) == 1 or count.max() / count.sum() > MOST_ALIKE:
        return ()
    return (
        f"an epoch has {steps[0]} to {steps[-1]} steps of {batch} examples, by the subset's size: part of what is not "
        "linear may be that; a batch size that does not divide the mean size tells",
    )


def _families(outcomes: Outcomes, pairs: int) -> tuple[Float[np.ndarray, "a k m"], Int[np.ndarray, " k"]]:
    """Outputs by member and family, and which families these are: those without a diverged run."""
    values = outcomes.values[:, 0].astype(np.float64).reshape(-1, pairs, outcomes.m)
    good = np.flatnonzero((outcomes.status[:, 0].reshape(-1, pairs) == OK).all(axis=0))
    if len(good) < LEAST:
        raise _nothing(
            f"{len(good)} families without a diverged run", "ask for more pairs, or a lower learning rate"
        )
    return values[:, good], good


def _powers(rhos: Float[np.ndarray, " a"]) -> Float[np.ndarray, "e d"]:
    """rho, rho^2, rho^3 for every pair of members (a member with itself at rho = 1); last, degree 1 alone."""
    one, other = np.triu_indices(len(rhos))
    rho = np.where(one == other, 1.0, rhos[one] * rhos[other])
    powers = np.stack([rho**d for d in range(1, DEGREES + 1)], axis=1)
    return np.vstack([powers, np.eye(1, DEGREES)])


def _moments(
    values: Float[np.ndarray, "a k m"], counts: Float[np.ndarray, "b k"]
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, "b e"]]:
    """Seed noise, and covariances of a family's members without it, summed over targets, in every resample."""
    members, families, _ = values.shape
    shares = counts / families
    noise = shares @ (np.square(values[0] - values[1]).sum(axis=1) / 2.0)
    centred = values - values.mean(axis=1, keepdims=True)
    one, other = np.triu_indices(members)
    products = np.stack([(centred[a] * centred[b]).sum(axis=1) for a, b in zip(one, other, strict=True)])
    means = np.einsum("bk,akm->bam", shares, centred)
    moved = (means[:, one] * means[:, other]).sum(axis=2)
    covariances = (shares @ products.T - moved) * families / (families - 1)
    return noise, covariances - np.where(one == other, noise[:, None], 0.0)


def _across(
    values: Float[np.ndarray, "a k m"], kept: Float[np.ndarray, "a k n"], counts: Float[np.ndarray, "b k"]
) -> Float[np.ndarray, " b"]:
    """W_1 from pairs of different families: the mean of f f' z . z', summed over targets, in every resample."""
    members, families, _ = values.shape
    f = (values - values.mean(axis=1, keepdims=True)).reshape(members * families, -1)
    z = kept.reshape(members * families, -1)
    pairs = ((f @ f.T) * (z @ z.T)).reshape(members, families, members, families).mean(axis=(0, 2))
    np.fill_diagonal(pairs, 0.0)
    return ((counts @ pairs) * counts).sum(axis=1) / (counts.sum(axis=1) ** 2 - np.square(counts).sum(axis=1))


def _fit(powers: Float[np.ndarray, "e d"], moments: Float[np.ndarray, "b e"]) -> Float[np.ndarray, "b d"]:
    """W_1 to W_3 in every resample, equations weighted by their standard errors over the resamples."""
    errors = moments[1:].std(axis=0)
    weights = 1.0 / np.maximum(errors, 1e-6 * errors.max(initial=0.0) + 1e-300)
    return np.stack([optimize.nnls(powers * weights[:, None], row * weights)[0] for row in moments])


def _ends(values: Float[np.ndarray, " b"], tails: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, tails)
    return float(low), float(high)


def _nothing(found: str, do: str) -> BadInput:
    return BadInput("dl-766", asked="the share of the variance that is linear", found=found, do=do)


def _check_settings(pairs: int, fraction: float, rhos: Sequence[float], resamples: int, level: float) -> None:
    fine = len(rhos) > 0 and all(0 < rho < 1 for rho in rhos)
    if pairs < LEAST or resamples < 20 or not (fine and 0 < fraction < 1 and 0 < level < 1):
        raise BadInput(
            "dl-765",
            asked=f"pairs={pairs}, fraction={fraction:g}, rhos={list(rhos)}, resamples={resamples}, level={level:g}",
            found="a setting outside its range",
            do=f"ask for at least {LEAST} pairs and 20 resamples; fraction, level and every rho between 0 and 1",
        )
