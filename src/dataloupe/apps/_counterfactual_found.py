"""What a counterfactual test found: effects of a transform, their difference between algorithms, and the dose."""

import dataclasses
import itertools
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from dataloupe._typing import Facts
from dataloupe.apps._leaks import plain
from dataloupe.judge import Interval, crossed_difference, crossed_mean

Verdict = Literal["agree", "disagree", "undecided"]
Course = Literal["rising", "falling", "flat", "turning", "undecided"]


@dataclasses.dataclass(frozen=True)
class TransformEffect:
    """The average effect of a transform at one strength on one ``algorithm``, or the difference of two ("A - B").

    ``mean`` in units of the measure, ``interval`` over models and examples.
    """

    algorithm: str
    strength: float
    mean: float
    interval: Interval


@dataclasses.dataclass(frozen=True)
class DoseResponse:
    """How an effect goes with the strength: the least-squares slope, and its course.

    ``slope`` in units of the measure per unit of strength, fitted with an intercept to each (model, example) and then
    averaged. ``course``: ``rising`` if no step to the next strength lowers the mean effect and the slope's interval lies
    above 0, ``falling`` the other way round, ``flat`` if all steps are 0; ``turning`` if one step's interval lies above
    0 and another's below; else ``undecided``: noise could be all of it.
    """

    algorithm: str
    slope: float
    interval: Interval
    course: Course


@dataclasses.dataclass(frozen=True, eq=False)
class Counterfactual:
    """What a :class:`CounterfactualTest` found.

    ``effects``: of every algorithm, strength by strength; ``interactions``: A minus B at every strength; ``doses``: of
    every algorithm and of A - B, none where there is one strength. ``verdicts`` judge at every strength the claim that
    the transform moves A and not B, ``verdict`` at the strongest one (the largest in size; of two the later):

    - ``agree``: A's interval leaves out 0, B's holds it, and the interval of A - B leaves it out;
    - ``disagree``: B's interval leaves out 0, so B is moved as well, or alone;
    - ``undecided``: B's holds 0, but A's or the one of A - B does too.

    For A and B, but not for A - B, 0 stands for all effects within the test's ``tolerance``.

    ``values[name] [k, x, s]``: the effect in every model that did not diverge, on every example, at every strength;
    ``models``: how many these are. ``paired``: whether model k of A and of B were trained on the same subset, and the
    difference was taken within pairs. ``registered``: the test as it was written down before, ``identity`` its hash.
    Intervals are of one strength each, not adjusted for their number.
    """

    registered: Facts
    identity: str
    algorithms: tuple[str, ...]
    strengths: tuple[float, ...]
    examples: Int[np.ndarray, " x"]
    models: tuple[int, ...]
    effects: tuple[TransformEffect, ...]
    interactions: tuple[TransformEffect, ...]
    doses: tuple[DoseResponse, ...]
    verdicts: tuple[Verdict, ...]
    verdict: Verdict
    paired: bool
    measured: str
    values: dict[str, Float[np.ndarray, "k x s"]]
    notes: tuple[str, ...] = ()
    provenance: Facts = dataclasses.field(default_factory=dict)

    @property
    def strongest(self) -> float:
        """The strength that the verdict is about."""
        return strongest(self.strengths)

    def of(self, algorithm: str, strength: float | None = None) -> TransformEffect:
        """The effect on an algorithm, or the interaction ("A - B"), at a strength (default: the strongest)."""
        wanted = (algorithm, self.strongest if strength is None else strength)
        every = self.effects + self.interactions
        return next(effect for effect in every if (effect.algorithm, effect.strength) == wanted)

    def dose(self, algorithm: str) -> DoseResponse:
        """The dose response of an algorithm, or of the interaction ("A - B")."""
        return next(dose for dose in self.doses if dose.algorithm == algorithm)

    def __str__(self) -> str:
        a, b, *between = self.algorithms
        effects = [self.of(a), self.of(b), self.of(f"{a} - {b}")]
        said = [f"{effect.algorithm} {_with_interval(effect.mean, effect.interval)}" for effect in effects]
        said += [f"{name} {_with_interval(self.of(name).mean, self.of(name).interval)}" for name in between]
        doses = [
            f"{_with_interval(d.slope, d.interval)} of {d.algorithm} ({d.course})" for d in self.doses[:2]
        ]
        dose = f"; slope {', '.join(doses)}" if doses else ""
        intervals = [effect.interval for effect in effects]
        counts = " and ".join(str(count) for count in self.models[:2])
        return (
            f"{self.registered['transform']['kind']} at strength {self.strongest:g} moves {self.measured}: "
            f"{', '.join(said)}{dose}; {len(self.examples)} examples x {counts} models: {self.verdict} "
            f"({words_of(*intervals, names=(a, b), tolerance=self.registered['tolerance'])})"
        )

    def to_json(self) -> Facts:
        """The fields as JSON holds them; of ``values`` the means over models, ``by_example[name] [x, s]``."""
        facts = plain(self)
        del facts["values"]
        return facts | {"by_example": {name: v.mean(axis=0).tolist() for name, v in self.values.items()}}


class Contrasts:
    """The mean and interval of weighted sums of effects over strengths: of A, or of A minus an independent B.

    Models and examples are both taken as drawn at random; A and B share the examples.
    """

    def __init__(
        self,
        level: float,
        a: Float[np.ndarray, "ka x s"],
        b: Float[np.ndarray, "kb x s"] | None = None,
    ) -> None:
        self.level, self.a, self.b = level, a, b

    def __call__(self, weights: Float[np.ndarray, " s"]) -> tuple[float, Interval]:
        """Sum over s of weight times effect."""
        mine = (self.a @ weights).T
        if self.b is None:
            return crossed_mean(mine, self.level)
        return crossed_difference(mine, (self.b @ weights).T, self.level)


def effects_of(name: str, contrasts: Contrasts, strengths: tuple[float, ...]) -> tuple[TransformEffect, ...]:
    """The mean effect at every strength."""
    alone = np.eye(len(strengths))
    return tuple(TransformEffect(name, s, *contrasts(one)) for s, one in zip(strengths, alone, strict=True))


def dose_of(name: str, contrasts: Contrasts, strengths: tuple[float, ...]) -> DoseResponse:
    """The slope on two strengths or more, and the course from step to step."""
    alone, values = np.eye(len(strengths)), np.array(strengths)
    order = np.argsort(values)
    steps = [contrasts(alone[after] - alone[before]) for before, after in itertools.pairwise(order)]
    centred = values - values.mean()
    slope, interval = contrasts(centred / (centred**2).sum())
    return DoseResponse(name, slope, interval, _course(steps, interval))


def _course(steps: list[tuple[float, Interval]], slope: Interval) -> Course:
    """What the means and intervals of the steps, and the slope's interval, say together."""
    means = [mean for mean, _ in steps]
    if not any(means):
        return "flat"
    if min(means) >= 0 and slope[0] > 0:
        return "rising"
    if max(means) <= 0 and slope[1] < 0:
        return "falling"
    up = any(low > 0 for _, (low, _) in steps)
    down = any(high < 0 for _, (_, high) in steps)
    return "turning" if up and down else "undecided"


def strongest(strengths: tuple[float, ...]) -> float:
    """The strength of the largest size; of two such the later."""
    return max(reversed(strengths), key=abs)


def leaves_out(interval: Interval, tolerance: float = 0.0) -> bool:
    """Whether 0, and all within the tolerance of it, lies outside."""
    return interval[0] > tolerance or interval[1] < -tolerance


def verdict_of(a: Interval, b: Interval, difference: Interval, *, tolerance: float = 0.0) -> Verdict:
    """The claim that A is moved and B is not, judged by the three intervals."""
    if leaves_out(b, tolerance):
        return "disagree"
    return "agree" if leaves_out(a, tolerance) and leaves_out(difference) else "undecided"


def words_of(
    first: Interval, second: Interval, difference: Interval, *, names: tuple[str, str], tolerance: float = 0.0
) -> str:
    """What the three intervals say, in words."""
    (a, b), apart = names, leaves_out(difference)
    moved = leaves_out(first, tolerance), leaves_out(second, tolerance)
    if moved == (True, True):
        return f"it moves both {a} and {b}, {'and not alike' if apart else 'and no difference is found'}"
    if moved == (False, True):
        return f"it moves {b}; no effect on {a} is found"
    if moved == (True, False):
        return f"it moves {a} and not {b}" if apart else f"it moves {a}; whether {b} less is not settled"
    return "no effect is found on either" + (", yet they differ" if apart else "")


def _with_interval(mean: float, interval: Interval) -> str:
    return f"{mean:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"
