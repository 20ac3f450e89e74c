"""How linear is the output in the training data? A bound on any datamodel, before one is fitted."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import OK, Lab, Outcomes, Question, Subsets

DEGREES = 3
"""Higher degrees than this count as this one."""
LEAST = 10
"""Families that an estimate needs."""


@dataclasses.dataclass(frozen=True)
class LinearResidual:
    """What the best linear datamodel leaves over.

    ``linear``: the share of the variance that is not seed noise which a linear function of membership can
    explain, with its interval; ``by_degree``: the shares of degree 1 (the same number), 2, and 3 or more;
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
            f"the best linear datamodel explains at most {self.linear:.2f} [{low:.2f}, {high:.2f}] of the "
            f"variance that is not seed noise; seed noise is {self.noise:.2f} [{least:.2f}, {most:.2f}] of one "
            f"run's variance; {self.targets} targets, {self.models} models"
        )

    def to_json(self) -> dict[str, Any]:
        """Every field as JSON holds it, and the residual."""
        facts = {**dataclasses.asdict(self), "residual": self.residual}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in facts.items()}


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
    """The most that any linear datamodel can explain, from outputs on correlated subsets; none is fitted.

    Keep every example with probability p. In the orthonormal p-biased Fourier basis, chi_T(S) = product over i
    in T of (S_i - p) / sqrt(p (1 - p)), let W_d be the output's squared weight of degree d. The best linear
    datamodel explains W_1 of the variance sum_d W_d. If S' keeps each membership of S with probability rho and
    draws it again otherwise, two trainings with seeds of their own have

        cov(f(S), f(S')) = sum_{d >= 1} rho^d W_d,    var f(S) = sum_{d >= 1} W_d + seed noise

    Each of ``pairs`` base subsets is trained on twice and once on each of its copies at ``rhos``: copies of one
    base at rho and rho' are correlated by rho rho', so that a family of a models gives a (a - 1) / 2 covariances.
    Half the mean squared difference of the two runs on the base is the seed noise; taken from the variances, it
    leaves the covariance at rho = 1. W_1, W_2, W_3 are fitted to all of them by nonnegative least squares (degrees
    above 3 count as 3), sums over targets, percentile bootstrap over families. Non-negativity moves a little of degree 2 into degrees 1
    and 3: ``linear`` errs on the high side, as "at most" should. The number of models does not depend on n.

    Subsets are of kind ``bernoulli``, whatever a datamodel will use: fixed-size memberships are not independent.
    Families with a diverged run are left out and noted. Costs ``pairs (2 + len(rhos))`` trainings.

    Raises ``BadInput`` dl-765 (settings), dl-766 (too few families without a diverged run, or no variance but
    the seed's), ``CapabilityError`` dl-207 (a learner that cannot train).

    >>> import torch
    >>> from dataloupe import core, outputs, testing
    >>> data = core.Examples(torch.eye(20), labels=torch.ones(20))
    >>> question = core.Question(testing.RidgeLearner(penalty=1.0), data, data, outputs.value)
    >>> found = linear_residual(question, core.MemoryLab(), pairs=20)
    >>> round(found.linear, 2), round(found.noise, 2)
    (1.0, 0.0)

    Source: Saunshi et al. 2023 (Understanding influence functions and datamodels via harmonic analysis).
    """
    _check_settings(pairs, fraction, rhos, resamples, level)
    subsets = correlated_subsets(question.n, pairs, fraction, rhos, seed)
    outcomes = lab.outcomes(question, subsets)
    values, left_out = _families(outcomes, pairs)
    powers = _powers(np.array([1.0, 1.0, *rhos]))
    noises, moments = _moments(values, seed, resamples)
    fits = np.stack([optimize.nnls(powers, row)[0] for row in moments])
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
        notes=tuple(notes),
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


def _families(outcomes: Outcomes, pairs: int) -> tuple[Float[np.ndarray, "a k m"], int]:
    """Outputs by member and family, families with a diverged run left out, and how many those are."""
    values = outcomes.values[:, 0].astype(np.float64).reshape(-1, pairs, outcomes.m)
    good = (outcomes.status[:, 0].reshape(-1, pairs) == OK).all(axis=0)
    if good.sum() < LEAST:
        raise _nothing(
            f"{int(good.sum())} families without a diverged run",
            "ask for more pairs, or a lower learning rate",
        )
    return values[:, good], int((~good).sum())


def _powers(rhos: Float[np.ndarray, " a"]) -> Float[np.ndarray, "e d"]:
    """rho, rho^2, rho^3 for every pair of members, a member with itself at rho = 1."""
    one, other = np.triu_indices(len(rhos))
    rho = np.where(one == other, 1.0, rhos[one] * rhos[other])
    return np.stack([rho**d for d in range(1, DEGREES + 1)], axis=1)


def _moments(
    values: Float[np.ndarray, "a k m"], seed: int, resamples: int
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, "b e"]]:
    """Seed noise, and covariances of the members without it, summed over targets: as they are, then resampled."""
    members, families, _ = values.shape
    draws = Stream.root(seed)("linearity", "bootstrap").numpy().integers(0, families, (resamples, families))
    counts = [np.ones(families), *(np.bincount(row, minlength=families) for row in draws)]
    shares = np.stack(counts) / families
    noise = shares @ (np.square(values[0] - values[1]).sum(axis=1) / 2.0)
    centred = values - values.mean(axis=1, keepdims=True)
    one, other = np.triu_indices(members)
    products = np.stack([(centred[a] * centred[b]).sum(axis=1) for a, b in zip(one, other, strict=True)])
    means = np.einsum("bk,akm->bam", shares, centred)
    moved = (means[:, one] * means[:, other]).sum(axis=2)
    covariances = (shares @ products.T - moved) * families / (families - 1)
    return noise, covariances - np.where(one == other, noise[:, None], 0.0)


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
