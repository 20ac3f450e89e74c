"""Counterfactual tests: change the inputs, and see which of two learning algorithms minds."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from dataloupe._errors import BadInput, TrainingError
from dataloupe._identity import canonical, identity
from dataloupe._typing import Facts, Ids
from dataloupe.apps._asked import Measure, asked_of, check_component
from dataloupe.apps._changed import ROWS, changed_inputs, check_transform
from dataloupe.apps._counterfactual_found import (
    Contrasts,
    Counterfactual,
    dose_of,
    effects_of,
    strongest,
    verdict_of,
)
from dataloupe.apps._what_if import ROUNDING
from dataloupe.core import (
    Lab,
    Model,
    ModelSource,
    Question,
    Subsets,
    Transform,
    check_ids,
    check_settings,
    checked,
    model_subsets,
)

HALF = 0.5
"""The share of the data that models are trained on, where nobody names subsets."""

PREDICTED = 1 << 26
"""A block has no more predicted numbers than this."""

Plans: TypeAlias = dict[str, tuple[Subsets, bool]]
"""The subsets of every algorithm, and whether its models were indeed trained on them."""


@dataclasses.dataclass(frozen=True)
class CounterfactualTest:
    """Does a change of the inputs move models of algorithm A, and not those of B?

        e[k, x, s] = g(model_k(F_s(x))) - g(model_k(x)),    effect = mean over models k and examples x

    ``transform`` F is one of ``dataloupe.transforms`` or of your own (:class:`Transform`), ``strengths`` its doses.
    ``measure="probability"``: g is the softmax probability (0..1) of class ``component``, or of the example's own label
    where that is None, of models that predict one row of logits per example. ``measure="output"``: g is the question's
    output, labels kept; its component ``component``, or the mean over the components that exist.

    With many models any effect is told from 0: one within ``tolerance`` (in units of g) counts as none, in the verdict.

    The test is written down before anything is measured: it is frozen, :meth:`to_json` says all of it, and
    :attr:`identity` is its hash. Strengths must be distinct; the verdict is about the strongest one.

    Raises ``BadInput`` dl-792 (settings), dl-102 (a transform that cannot be followed).

    >>> from dataloupe import outputs, testing, transforms
    >>> from dataloupe.core import Examples, MemoryLab
    >>> x = torch.eye(2).repeat(6, 1)
    >>> a, b = (Examples(x, labels=3.0 * x[:, i]) for i in (0, 1))
    >>> questions = {
    ...     name: Question(testing.RidgeLearner(1e-3), data, Examples(x[1:8:2], torch.zeros(4)), outputs.value)
    ...     for name, data in (("A", a), ("B", b))
    ... }
    >>> test = CounterfactualTest(transforms.SetColumn(0, 1.0), measure="output")
    >>> found = test.run(questions, MemoryLab(), models=5)
    >>> round(found.of("A").mean, 2), round(found.of("B").mean, 2), found.verdict
    (3.0, 0.0, 'agree')

    Source: Shah et al. 2023 (ModelDiff).
    """

    transform: Transform
    strengths: tuple[float, ...] = (1.0,)
    measure: Measure = "probability"
    component: int | None = None
    tolerance: float = 0.0
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings, and that they can be written down."""
        check_settings(self, "dl-792")
        object.__setattr__(self, "strengths", tuple(float(strength) for strength in self.strengths))
        wrong = None
        if not isinstance(self.transform, Transform) or isinstance(self.transform, type):
            wrong = f"{self.transform!r} as the transform, which has no `draws` or cannot be called"
        elif not self.strengths or not all(map(math.isfinite, self.strengths)):
            wrong = "no strengths" if not self.strengths else "strengths that are not finite"
        elif len(set(self.strengths)) < len(self.strengths):
            wrong = "a strength more than once"
        elif self.measure not in ("probability", "output"):
            wrong = f"the measure {self.measure!r}"
        elif not (0.0 < self.level < 1.0 and 0.0 <= self.tolerance < math.inf):
            wrong = f"the level {self.level:g}, the tolerance {self.tolerance:g}"
        if wrong:
            raise BadInput(
                "dl-792",
                asked=f"a counterfactual test at the strengths {self.strengths}",
                found=wrong,
                do="give a transform, distinct finite strengths, measure 'probability' or 'output', a tolerance from 0, a level such as 0.95",
            )
        canonical(self.transform)

    def to_json(self) -> Facts:
        """The whole test, as it was meant before anything was measured."""
        return {name: value for name, value in canonical(self).items() if name != "kind"}

    @property
    def identity(self) -> str:
        """A short hash of the whole test."""
        return identity(self)

    @checked("dl-794")
    def run(
        self,
        questions: Mapping[str, Question],
        lab: Lab,
        *,
        models: int | None = None,
        subsets: Subsets | Mapping[str, Subsets] | None = None,
        examples: Ids | None = None,
    ) -> Counterfactual:
        """Change ``examples`` (numbers of target examples; default all) and ask K models of every algorithm.

        ``questions``, in order: A, B, and any algorithms in between; they share targets and output. K models each, either
        ``models=K``, trained on random halves, or of ``subsets``, one recipe for all or one for each name (for an A/A
        test: the same question twice, with other seeds). A source of finished models gives its own.

        Intervals take models and examples as drawn at random: the models among those that the algorithm makes of this
        training set (not of another one), the examples among those like the ones given. Where A's model k and B's were trained on the same
        subset, A - B is taken within the pair; else the models count as independent, and only the examples are shared
        (:func:`dataloupe.judge.crossed_difference`). Models with a value that is not finite are left out and counted.
        A change that fp32 could have made by rounding (below 2^-21 of the output, or of probability 1) counts as 0.
        Everything about the transform is checked before any model is trained.

        Raises ``BadInput`` dl-793 (questions), dl-794 (models), dl-795 (component), dl-796 (a transform that spoils
        inputs), dl-797 (leaves the range of values), dl-798 (changes nothing), dl-108 to dl-111 (examples);
        ``TrainingError`` dl-789 (fewer than two models did not diverge).
        """
        first = _check_questions(self, questions)
        plans = _plans(self, questions, models, subsets)
        every = np.arange(len(first.targets))
        ids = every if examples is None else check_ids(examples, len(every), "target examples to change")
        check_component(list(questions.values()), ids, self.measure, self.component)
        notes = check_transform(self.transform, self.strengths, list(questions.values()), ids, self.seed)
        found: dict[str, Float[np.ndarray, "k x s"]] = {}
        good: dict[str, Bool[np.ndarray, " k"]] = {}
        for name, question in questions.items():
            values = _values(self, question, lab.models(question, plans[name][0]), ids)
            good[name] = np.isfinite(values).all(axis=(1, 2))
            found[name] = values
            notes += _left_out(name, good[name])
        result = _found(self, plans, ids, (found, good), notes, first.output.name)
        return dataclasses.replace(result, provenance={"targets": first.provenance["targets"]})


def _found(
    test: CounterfactualTest,
    plans: Plans,
    ids: Int[np.ndarray, " x"],
    measured: tuple[dict[str, Float[np.ndarray, "k x s"]], dict[str, Bool[np.ndarray, " k"]]],
    notes: tuple[str, ...],
    output: str,
) -> Counterfactual:
    """The statistics of all effects."""
    whole, good = measured
    a, b, *_ = names = tuple(whole)
    apart = f"{a} - {b}"
    paired = _paired(*plans[a], *plans[b])
    values = {name: whole[name][good[name]] for name in names}
    sums = {name: Contrasts(test.level, values[name]) for name in names}
    sums[apart] = Contrasts(test.level, values[a], values[b])
    if paired:
        both = good[a] & good[b]
        _enough(apart, both)
        sums[apart] = Contrasts(test.level, whole[a][both] - whole[b][both])
        if not (whole[a][both] - whole[b][both]).any():
            notes += (f"{a} and {b} are moved alike to the last digit: are they the same models?",)
    if len(ids) == 1:
        notes += ("one example: the intervals are over models, and the claim is about this example",)
    effects = {name: effects_of(name, sums[name], test.strengths) for name in sums}
    verdicts = tuple(
        verdict_of(*(effects[name][j].interval for name in (a, b, apart)), tolerance=test.tolerance)
        for j in range(len(test.strengths))
    )
    doses = (
        tuple(dose_of(name, sums[name], test.strengths) for name in sums) if len(test.strengths) > 1 else ()
    )
    return Counterfactual(
        registered=test.to_json(),
        identity=test.identity,
        algorithms=names,
        strengths=test.strengths,
        examples=ids,
        models=tuple(len(values[name]) for name in names),
        effects=tuple(effect for name in names for effect in effects[name]),
        interactions=effects[apart],
        doses=doses,
        verdicts=verdicts,
        verdict=verdicts[test.strengths.index(strongest(test.strengths))],
        paired=paired,
        measured=_measured(test, output),
        values=values,
        notes=notes,
    )


def _measured(test: CounterfactualTest, output: str) -> str:
    """What was measured, in words."""
    if test.measure == "probability":
        return f"P({'own label' if test.component is None else f'class {test.component}'})"
    return f"the {output}" + ("" if test.component is None else f", component {test.component}")


def _check_questions(test: CounterfactualTest, questions: Mapping[str, Question]) -> Question:
    """At least two algorithms with the same targets, and where it is measured the same output (dl-793)."""
    names, every = list(questions), list(questions.values())
    wrong = None
    if len(every) < 2:
        wrong, do = f"{len(every)} of them", "name two questions, A and B"
    elif f"{names[0]} - {names[1]}" in names:
        wrong, do = f"one named {names[0]} - {names[1]}", "keep that name for their difference"
    elif len({question.targets.fingerprint for question in every}) > 1:
        wrong, do = "targets that differ", "ask all of them about the same targets, in the same order"
    elif test.measure == "output" and len({identity(question.output) for question in every}) > 1:
        wrong, do = "outputs that differ", "ask all of them about the same output"
    if wrong:
        raise BadInput("dl-793", asked=f"algorithms to compare: {', '.join(names)}", found=wrong, do=do)
    return every[0]


def _plans(
    test: CounterfactualTest,
    questions: Mapping[str, Question],
    models: int | None,
    subsets: Subsets | Mapping[str, Subsets] | None,
) -> Plans:
    """Which models of every algorithm are asked (dl-794)."""
    plans: Plans = {}
    for name, question in questions.items():
        given = subsets.get(name) if isinstance(subsets, Mapping) else subsets
        count = models if given is None else given.count
        wrong = None
        if (models is None) == (subsets is None) or count is None:
            wrong = "no number of models, or subsets besides, or none of that name"
        elif count < 2:
            wrong = f"{count} model, which gives no interval"
        elif given is not None and given.n != question.n and not isinstance(question.learner, ModelSource):
            wrong = f"subsets of {given.n} examples for {question.n}"
        if wrong or count is None:
            raise BadInput(
                "dl-794",
                asked=f"models of algorithm {name}",
                found=str(wrong),
                do="give either models=K, at least 2 (20 are a good number), or subsets of its training data",
            )
        if given is not None and not isinstance(question.learner, ModelSource):
            plans[name] = given, True
        else:
            chosen, share = model_subsets(question, count, HALF, test.seed)
            plans[name] = chosen, share is not None
    return plans


def _paired(a: Subsets, known_a: bool, b: Subsets, known_b: bool) -> bool:
    """Whether model k of both was trained on the same subset."""
    if not (known_a and known_b) or (a.n, a.count) != (b.n, b.count):
        return False
    return canonical(a) == canonical(b) or a.digest() == b.digest()


def _left_out(name: str, good: Bool[np.ndarray, " k"]) -> tuple[str, ...]:
    """A note on models that diverged."""
    _enough(name, good)
    return (
        ()
        if good.all()
        else (f"{int((~good).sum())} of {len(good)} models of {name} diverged and were left out",)
    )


def _enough(name: str, good: Bool[np.ndarray, " k"]) -> None:
    """Refuse fewer than two models whose values are finite (dl-789)."""
    if good.sum() < 2:
        raise TrainingError(
            "dl-789",
            asked=f"effects on {len(good)} models of {name}",
            found=f"{int(good.sum())} whose values are finite",
            do="lower the learning rate, or look at the training of one model",
        )


def _values(
    test: CounterfactualTest, question: Question, models: Sequence[Model], ids: Int[np.ndarray, " x"]
) -> Float[np.ndarray, "k x s"]:
    """The effect on every model, example by example, at every strength."""
    data, strengths = question.targets, test.strengths
    with torch.no_grad():
        predicted = models[0].predict(data.take(ids[:1]).inputs).numel()
    found = np.empty((len(models), len(ids), len(strengths)))
    size = max(1, min(ROWS, PREDICTED // max(1, predicted)))
    for start in range(0, len(ids), size):
        block = ids[start : start + size]
        before = data.take(block)
        after = [changed_inputs(test.transform, data, block, strength, test.seed) for strength in strengths]
        for k, model in enumerate(models):
            values = [
                asked_of(question, model, before, inputs, test.measure, test.component)
                for inputs in (before.inputs, *after)
            ]
            scale = 1.0 if test.measure == "probability" else 0.0
            found[k, start : start + len(block)] = _differences(
                values[0], np.stack(values[1:], axis=1), scale
            )
    return found


def _differences(
    before: Float[np.ndarray, " b"], after: Float[np.ndarray, "b s"], scale: float
) -> Float[np.ndarray, "b s"]:
    """After minus before; 0 where it is rounding, relative to the greater of both and of ``scale``."""
    with np.errstate(invalid="ignore", over="ignore"):
        effects = after - before[:, None]
        size = np.maximum(np.maximum(np.abs(after), np.abs(before)[:, None]), scale)
        return np.where(np.abs(effects) <= ROUNDING * size, 0.0, effects)
