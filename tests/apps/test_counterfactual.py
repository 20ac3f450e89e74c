"""Counterfactual tests: effects that are known exactly, intervals that cover, verdicts, and what is refused."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from dataloupe import outputs
from dataloupe._errors import BadInput, TrainingError
from dataloupe.apps import CounterfactualTest
from dataloupe.apps._counterfactual_found import verdict_of, words_of
from dataloupe.core import Examples, MemoryLab, Question, Subsets
from dataloupe.judge import crossed_difference, crossed_mean
from dataloupe.learners import SGD, SklearnLearner
from dataloupe.testing import RidgeLearner
from dataloupe.transforms import Patch, SetColumn, ShiftColumn

T = 12


@dataclasses.dataclass(frozen=True, eq=False)
class Shelf:
    """Finished models; ``masks``: what they were trained on."""

    held: tuple
    masks: np.ndarray | None = None

    def models(self):
        return list(self.held)

    def subsets(self, n):  # noqa: ARG002
        return None if self.masks is None else Subsets.listed(self.masks)


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Answers ``amount * effect[example]`` (one value, or logits) to inputs (amount, example)."""

    effect: torch.Tensor

    def predict(self, inputs):
        found = inputs[:, :1] * self.effect[inputs[:, 1].long()]
        return found if self.effect.ndim == 2 else found.reshape(-1, 1)


INPUTS = torch.stack([torch.zeros(T), torch.arange(float(T))], dim=1)
TARGETS = Examples(INPUTS, labels=torch.zeros(T))
SET = SetColumn(0, 1.0)
OUTPUT = CounterfactualTest(SET, measure="output")


def asked(effects, targets=TARGETS, masks=None, output=outputs.value, train=TARGETS):
    """A question to models with these effects [k, x] or [k, x, c]."""
    effects = torch.as_tensor(np.asarray(effects))
    rows = [e[:, None] if e.ndim == 1 else e for e in effects]
    return Question(Shelf(tuple(map(Table, rows)), masks), train, targets, output)


def run(a, b, test=OUTPUT, masks=None, **more):
    questions = {"A": asked(a, masks=masks), "B": asked(b, masks=masks)}
    return test.run(questions, MemoryLab(), models=len(a), **more)


def drawn(rng, k, mean=0.0, spread=(0.5, 0.5, 1.0), shared=None):
    """Effects [k, T]: a mean, models, examples and the rest, all drawn at random."""
    models, examples, rest = (
        s * rng.standard_normal(shape) for s, shape in zip(spread, ((k, 1), (1, T), (k, T)), strict=True)
    )
    return mean + (models if shared is None else shared) + examples + rest


# --- known truths ---


def linear(seed, weights, n=40, noise=0.05):
    """A question to least squares on labels with these weights."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3))
    y = x @ np.array(weights) + noise * rng.standard_normal(n)
    train = Examples(torch.tensor(x).float(), labels=torch.tensor(y).float())
    targets = Examples(torch.tensor(np.random.default_rng(9).standard_normal((T, 3))).float(), torch.zeros(T))
    return Question(RidgeLearner(penalty=1e-3), train, targets, outputs.value)


def test_of_linear_models_it_is_weight_times_change():
    questions = {
        "A": linear(0, (2.0, 1.0, 0.0)),
        "B": linear(0, (0.0, 1.0, 0.0)),
        "C": linear(0, (1.0, 1.0, 0.0)),
    }
    lab, subsets = MemoryLab(), Subsets(n=40, count=6, seed=3)
    test = CounterfactualTest(ShiftColumn(0, 0.5), (2.0, -1.0, 1.0), "output", tolerance=0.05)
    found = test.run(questions, lab, subsets=subsets)
    weights = {
        name: np.array([float(model.params["weight"][0, 0]) for model in lab.models(question, subsets)])
        for name, question in questions.items()
    }
    for name, weight in weights.items():
        truth = weight[:, None, None] * np.array([1.0, -0.5, 0.5]) * np.ones((1, T, 1))
        assert found.values[name] == pytest.approx(truth, abs=1e-5)
        for strength in test.strengths:
            assert found.of(name, strength).mean == pytest.approx(strength * 0.5 * weight.mean(), abs=1e-5)
        assert found.dose(name).slope == pytest.approx(0.5 * weight.mean(), abs=1e-5)
    assert found.paired
    change = found.of("A - B").mean
    assert change == pytest.approx((weights["A"] - weights["B"]).mean(), abs=1e-5)
    assert found.dose("A").course == "rising"
    assert found.dose("A - B").slope == pytest.approx(change / 2, abs=1e-5)
    assert found.of("C").mean == pytest.approx(1.0, abs=0.1)
    assert found.verdict == "agree"
    assert "it moves A and not B" in str(found)
    strict = dataclasses.replace(test, tolerance=0.0).run(questions, lab, subsets=subsets)
    assert strict.verdict == "disagree", "the labels' noise is in all halves of one training set"
    assert found.strongest == 2.0
    assert found.of("A").strength == 2.0


def test_set_column_is_weight_times_the_way_to_the_value():
    question = linear(1, (2.0, 0.0, 0.0))
    lab = MemoryLab()
    test = CounterfactualTest(SetColumn(0, 3.0), strengths=(0.5,), measure="output")
    found = test.run({"A": question, "B": linear(2, (2.0, 0.0, 0.0))}, lab, models=4, examples=[7, 2])
    subsets = Subsets(n=40, count=4, fraction=0.5, seed=0)
    weight = np.array([float(m.params["weight"][0, 0]) for m in lab.models(question, subsets)])
    way = 0.5 * (3.0 - question.targets.inputs[[7, 2], 0].numpy())
    assert found.values["A"][:, :, 0] == pytest.approx(weight[:, None] * way, abs=1e-5)
    assert found.examples.tolist() == [7, 2]
    assert found.verdict == "disagree"
    assert "moves both A and B, and no difference is found" in str(found)


def test_probabilities_are_the_softmax():
    logits = np.random.default_rng(0).standard_normal((4, T, 3))
    labels = torch.arange(T) % 3
    targets = Examples(INPUTS, labels=labels)
    questions = {
        name: asked(logits * s, targets, train=targets, output=outputs.margin)
        for name, s in (("A", 1), ("B", 2))
    }
    p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    found = CounterfactualTest(SET, component=2).run(questions, MemoryLab(), models=4)
    assert found.values["A"][:, :, 0] == pytest.approx(p[:, :, 2] - 1 / 3, abs=1e-6)
    assert "P(class 2)" in str(found)
    own = CounterfactualTest(SET).run(questions, MemoryLab(), models=4)
    assert own.values["A"][:, :, 0] == pytest.approx(p[:, np.arange(T), labels] - 1 / 3, abs=1e-6)
    margins = CounterfactualTest(SET, measure="output").run(questions, MemoryLab(), models=4)
    mine = p[:, np.arange(T), labels]
    assert margins.values["A"][:, :, 0] == pytest.approx(np.log(mine / (1 - mine)) + math.log(2), abs=1e-5)


def test_components_of_an_output():
    effects = np.random.default_rng(0).standard_normal((3, T, 2))
    targets = Examples(INPUTS, labels=torch.zeros(T, 2))
    questions = {name: asked(effects, targets, output=outputs.Value(2), train=targets) for name in "AB"}
    one = CounterfactualTest(SET, measure="output", component=1).run(questions, MemoryLab(), models=3)
    assert one.values["A"][:, :, 0] == pytest.approx(effects[:, :, 1], abs=1e-6)
    mean = CounterfactualTest(SET, measure="output").run(questions, MemoryLab(), models=3)
    assert mean.values["B"][:, :, 0] == pytest.approx(effects.mean(axis=2), abs=1e-6)


def test_trained_networks_and_a_patch():
    """A learner that shows its steps, images that are flat, and a probability: all at once."""
    rng = np.random.default_rng(0)
    pixels = torch.tensor(rng.random((60, 16)), dtype=torch.float32)
    labels = torch.arange(60) % 2
    patched = pixels.reshape(60, 4, 4).clone()
    patched[labels == 1, :2, :2] = 1.0
    learner = SGD(lambda: torch.nn.Linear(16, 2), epochs=20, lr=0.3, batch_size=10)
    targets = Examples(pixels[:20], labels=labels[:20])
    questions = {
        name: Question(learner, Examples(inputs.reshape(60, 16), labels=labels), targets, outputs.margin)
        for name, inputs in (("A", patched), ("B", pixels))
    }
    test = CounterfactualTest(
        Patch(1.0, size=2, place=(0, 0), shape=(4, 4)), strengths=(0.5, 1.0), component=1
    )
    found = test.run(questions, MemoryLab(), models=6)
    assert found.of("A").interval[0] > 0.1
    assert found.of("A - B").interval[0] > 0.1
    assert found.dose("A").course == "rising"


# --- intervals ---


def covered(world, test=OUTPUT, problems=250):
    """How often A's interval and that of A - B hold the truth, and the mean width of the latter."""
    rng = np.random.default_rng(0)
    mine = both = 0
    width = []
    for _ in range(problems):
        (a, b, masks), truth = world(rng), (0.3, -0.1)
        found = run(a + truth[0], b + truth[1], test, masks)
        assert found.paired == (masks is not None)
        low, high = found.of("A").interval
        mine += low <= truth[0] <= high
        low, high = found.of("A - B").interval
        both += low <= truth[0] - truth[1] <= high
        width.append(high - low)
    return mine / problems, both / problems, np.mean(width)


def independent(rng):
    return drawn(rng, 6), drawn(rng, 6, spread=(1.0, 0.3, 0.5)), None


MASKS = np.random.default_rng(0).random((6, T)) < 0.5


def in_pairs(rng, masks=MASKS):
    subset = 1.5 * rng.standard_normal((6, 1))
    return drawn(rng, 6, shared=subset), drawn(rng, 6, shared=subset, spread=(0.0, 0.5, 1.0)), masks


@pytest.mark.usefixtures("unchecked")
def test_intervals_cover_models_and_examples():
    mine, both, _ = covered(independent)
    assert 0.91 <= mine <= 0.985
    assert 0.91 <= both <= 0.985


@pytest.mark.usefixtures("unchecked")
def test_pairs_cover_and_are_narrower():
    mine, both, width = covered(in_pairs)
    assert 0.91 <= mine <= 0.985
    assert 0.91 <= both <= 0.985
    _, wide, without = covered(lambda rng: in_pairs(rng, masks=None), problems=60)
    assert width < 0.6 * without
    assert wide == 1.0


@pytest.mark.usefixtures("unchecked")
def test_the_same_algorithm_twice_is_undecided():
    rng = np.random.default_rng(0)
    verdicts = [run(drawn(rng, 6), drawn(rng, 6)).verdict for _ in range(100)]
    assert verdicts.count("agree") <= 3
    assert verdicts.count("undecided") >= 88
    noisy = dataclasses.replace(linear(0, (0.0, 1.0, 0.0)), learner=RidgeLearner(noise=1.0))
    seeds = {name: Subsets(n=40, count=8, seed=seed) for seed, name in enumerate("AB")}
    found = OUTPUT.run({"A": noisy, "B": noisy}, MemoryLab(), subsets=seeds)
    assert not found.paired
    assert not (found.values["A"] == found.values["B"]).all()
    assert found.verdict == "undecided"


def test_the_same_models_twice_are_told():
    question = linear(0, (2.0, 1.0, 0.0))
    found = OUTPUT.run({"A": question, "B": question}, MemoryLab(), models=3)
    assert found.of("A - B").interval == (0.0, 0.0)
    assert found.verdict == "disagree"
    assert "are they the same models" in found.notes[-1]


def test_the_numbers_are_the_judges():
    rng = np.random.default_rng(4)
    a, b = drawn(rng, 5), drawn(rng, 5)
    for masks in (None, MASKS[:5]):
        found = run(a, b, CounterfactualTest(SET, (0.5, 1.0), "output", level=0.8), masks)
        mine, other = found.values["A"], found.values["B"]
        for j, strength in enumerate((0.5, 1.0)):
            mean, interval = crossed_mean(mine[:, :, j].T, 0.8)
            assert (found.of("A", strength).mean, found.of("A", strength).interval) == (
                mean,
                pytest.approx(interval),
            )
            apart = (
                crossed_difference(mine[:, :, j].T, other[:, :, j].T, 0.8)
                if masks is None
                else crossed_mean((mine - other)[:, :, j].T, 0.8)
            )
            assert found.of("A - B", strength).mean == pytest.approx(apart[0])
            assert found.of("A - B", strength).interval == pytest.approx(apart[1])


# --- dose, verdict, words ---


@dataclasses.dataclass(frozen=True)
class Bend:
    """Column 0 becomes (strength - 1)^2, or the strength."""

    bent: bool = True
    draws: int = 0
    limits: tuple[float, float] = (-10.0, 10.0)

    def __call__(self, inputs, strength, uniforms):  # noqa: ARG002
        found = inputs.clone()
        found[:, 0] = (strength - 1) ** 2 if self.bent else strength
        return found


def test_the_course_of_a_dose():
    rng = np.random.default_rng(0)
    strong, noise = drawn(rng, 6, 3.0, (0.1, 0.1, 0.1)), drawn(rng, 6, 0.0, (0.1, 0.1, 1.0))
    strengths = (2.0, 0.0, 1.0)
    bent = run(strong, -strong, CounterfactualTest(Bend(), strengths, "output"))
    assert [bent.dose(name).course for name in ("A", "B", "A - B")] == ["turning"] * 3
    assert bent.dose("A").slope == pytest.approx(0.0, abs=1e-6)
    plain = run(strong, -strong, CounterfactualTest(Bend(False), strengths, "output"))
    assert [plain.dose(name).course for name in ("A", "B")] == ["rising", "falling"]
    assert plain.dose("B").interval[1] < 0
    assert (
        run(np.zeros((6, T)), noise, CounterfactualTest(Bend(), strengths, "output")).dose("A").course
        == "flat"
    )
    assert run(noise, strong, CounterfactualTest(Bend(), strengths, "output")).dose("A").course == "undecided"
    assert run(noise, strong).doses == ()
    straight = run(noise, strong, CounterfactualTest(Bend(False), strengths, "output")).dose("A")
    assert straight.interval[0] < 0 < straight.interval[1]
    assert straight.course == "undecided", "its means are monotone, and could be nothing"


def test_the_verdict_is_about_the_strongest():
    rng = np.random.default_rng(0)
    a, b = drawn(rng, 6, 3.0, (0.1, 0.1, 0.1)), np.zeros((6, T))
    found = run(a, b, CounterfactualTest(Bend(False), (-2.0, 0.0, 1.0), "output"))
    assert found.verdicts == ("agree", "undecided", "agree")
    assert found.of("A").strength == -2.0
    assert found.verdict == "agree"
    last = run(a, b, CounterfactualTest(Bend(False), (-2.0, 2.0), "output"))
    assert last.of("A").mean > 0


APART, AT, BELOW = (0.1, 0.3), (-0.1, 0.1), (-0.3, -0.1)


@pytest.mark.parametrize(
    ("a", "b", "difference", "verdict", "words"),
    [
        (APART, AT, APART, "agree", "moves A and not B"),
        (BELOW, AT, BELOW, "agree", "moves A and not B"),
        (APART, AT, AT, "undecided", "whether B less is not settled"),
        (AT, AT, AT, "undecided", "no effect is found on either"),
        (AT, AT, APART, "undecided", "yet they differ"),
        (APART, APART, AT, "disagree", "moves both A and B, and no difference"),
        (APART, BELOW, APART, "disagree", "moves both A and B, and not alike"),
        (AT, APART, BELOW, "disagree", "moves B; no effect on A"),
    ],
)
def test_verdicts_and_words(a, b, difference, verdict, words):
    assert verdict_of(a, b, difference) == verdict
    assert verdict_of(a, b, difference, tolerance=0.3) == "undecided"
    assert words in words_of(a, b, difference, names=("A", "B"))


def test_it_is_written_down_before_and_after():
    test = CounterfactualTest(SET, (0.5, 1.0), "output", seed=3)
    facts = json.loads(json.dumps(test.to_json()))
    assert facts["transform"] == {
        "kind": "SetColumn",
        "column": 0,
        "value": 1.0,
        "low": "-inf",
        "high": "inf",
    }
    assert facts["strengths"] == [0.5, 1.0]
    assert test.identity != dataclasses.replace(test, strengths=(1.0,)).identity
    rng = np.random.default_rng(0)
    found = run(drawn(rng, 5, 4.0), np.zeros((5, T)), test)
    said = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert said["registered"] == facts
    assert said["identity"] == test.identity
    assert np.shape(said["by_example"]["A"]) == (T, 2)
    assert said["effects"][1]["mean"] == found.of("A").mean
    assert "values" not in said
    text = str(found)
    assert "SetColumn at strength 1 moves the value: A +" in text
    assert "12 examples x 5 and 5 models: agree (it moves A and not B)" in text
    assert "(rising)" in text


def test_examples_keep_their_places_whoever_is_asked():
    """The uniforms are of (seed, example): a subset of the examples is changed as all are."""
    questions = {name: linear(0, (2.0, 1.0, 0.0)) for name in "AB"}
    test = CounterfactualTest(Nudge(), measure="output")
    lab = MemoryLab()
    whole = test.run(questions, lab, models=3)
    part = test.run(questions, lab, models=3, examples=[8, 1])
    assert part.values["A"] == pytest.approx(whole.values["A"][:, [8, 1]], abs=1e-6)
    other = dataclasses.replace(test, seed=1).run(questions, lab, subsets=Subsets(n=40, count=3))
    assert not np.allclose(other.values["A"], whole.values["A"], atol=1e-3)


@dataclasses.dataclass(frozen=True)
class Nudge:
    """Column 0 by a number of the example's own."""

    draws: int = 1
    limits: tuple[float, float] = (-20.0, 20.0)

    def __call__(self, inputs, strength, uniforms):
        found = inputs.clone()
        found[:, 0] += strength * (uniforms[:, 0] - 0.5)
        return found


def test_diverged_models_are_left_out_and_counted():
    rng = np.random.default_rng(0)
    a, b = drawn(rng, 6), drawn(rng, 6)
    a[2, 3], b[4, 0] = np.nan, np.inf
    for masks in (None, MASKS):
        found = run(a, b, masks=masks)
        assert found.models == (5, 5)
        assert found.notes == (
            "1 of 6 models of A diverged and were left out",
            "1 of 6 models of B diverged and were left out",
        )
    pairs = [0, 1, 3, 5]
    assert found.of("A - B").mean == pytest.approx((a - b)[pairs].mean(), abs=1e-6)
    a[1:, 0] = np.nan
    with pytest.raises(TrainingError, match="dl-789.*1 whose"):
        run(a, b)
    a, b = drawn(rng, 4), drawn(rng, 4)
    a[:2], b[2:] = np.nan, np.nan
    with pytest.raises(TrainingError, match="dl-789.*A - B"):
        run(a, b, masks=MASKS[:4])


def test_rounding_counts_as_nothing():
    """Outputs of 1e6 that differ in the last digit of fp32 are not moved."""

    @dataclasses.dataclass(frozen=True)
    class Large:
        def predict(self, inputs):
            return 1e6 + 0.1 * inputs[:, :1]

    large = Question(Shelf((Large(),) * 3), TARGETS, TARGETS, outputs.value)
    found = OUTPUT.run({"A": asked(np.ones((3, T))), "B": large}, MemoryLab(), models=3)
    assert found.of("B").interval == (0.0, 0.0)
    assert found.verdict == "agree"


def test_notes():
    found = run(np.ones((3, T)), np.zeros((3, T)), examples=[4])
    assert "about this example" in found.notes[-1]

    @dataclasses.dataclass(frozen=True)
    class Some(Nudge):
        def __call__(self, inputs, strength, uniforms):  # noqa: ARG002
            return torch.where(inputs[:, 1:] < strength, inputs + 0.5, inputs)

    test = CounterfactualTest(Some(), strengths=(0.0, 3.0, 12.0), measure="output")
    assert run(np.ones((3, T)), np.zeros((3, T)), test).notes == (
        "at strength 3 Some changes 3 of 12 examples",
    )


# --- what is refused ---


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "wrong",
    [
        {"strengths": ()},
        {"strengths": (1.0, 1.0)},
        {"strengths": (1.0, math.nan)},
        {"strengths": (math.inf,)},
        {"measure": "loss"},
        {"level": 95},
        {"tolerance": -0.1},
        {"tolerance": math.nan},
        {"transform": lambda inputs: inputs},
        {"transform": SetColumn},
    ],
)
def test_settings_that_cannot_be_meant(wrong):
    with pytest.raises(BadInput, match="dl-792"):
        CounterfactualTest(**({"transform": SET} | wrong))


@pytest.mark.usefixtures("unchecked")
def test_a_transform_that_cannot_say_what_it_is():
    class Nameless:
        draws = 0

        def __init__(self):
            self.rows = (row for row in [])  # what it still holds cannot be read without using it up

        def __call__(self, inputs, strength, uniforms):  # noqa: ARG002
            return next(self.rows, inputs)

    with pytest.raises(BadInput, match="dl-102"):
        CounterfactualTest(Nameless())


@dataclasses.dataclass(frozen=True)
class Made:
    """A transform of a function."""

    make: object
    draws: int = 0

    def __call__(self, inputs, strength, uniforms):  # noqa: ARG002
        return self.make(inputs)


class Restless:
    """Draws by itself: another number at every call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, inputs):
        self.calls += 1
        return inputs + 1e-3 * self.calls

    def __identity__(self):
        return "restless"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda x: x[:, :1], "dl-796.*shape \\(12, 1\\)"),
        (lambda x: x.double(), "dl-796.*float64"),
        (lambda x: {"x": x}, "dl-796.*dict"),
        (lambda x: None, "dl-796.*NoneType"),  # noqa: ARG005
        (lambda x: x / 0.0, "dl-796.*NaN"),
        (Restless(), "dl-796.*asked again"),
        (lambda x: x - x.mean(0), "dl-796.*alone"),
        (lambda x: 2 * x, "dl-797.*2 to 22, where the data have 0 to 11"),
        (lambda x: x - 0.01, "dl-797"),
        (lambda x: x.clone(), "dl-798"),
    ],
)
def test_transforms_that_spoil_inputs(make, code):
    with pytest.raises(BadInput, match=code):
        run(np.ones((3, T)), np.ones((3, T)), CounterfactualTest(Made(make), measure="output"))


def test_a_declared_range_holds_instead():
    @dataclasses.dataclass(frozen=True)
    class Twice(Made):
        limits: tuple[float, float] = (0.0, 22.0)

    def twice(x):
        return torch.stack([x[:, 0] + 22, x[:, 1]], dim=1)

    questions = {"A": asked(np.ones((3, T))), "B": asked(np.zeros((3, T)))}
    test = CounterfactualTest(Twice(twice), measure="output")
    assert test.run(questions, MemoryLab(), models=3).verdict == "agree"
    short = CounterfactualTest(Twice(twice, limits=(0.0, 21.0)), measure="output")
    with pytest.raises(BadInput, match="dl-797.*its limits are 0 to 21"):
        short.run(questions, MemoryLab(), models=3)
    wide = Examples(torch.full((T, 2), 22.0), labels=torch.zeros(T))
    seen = {"A": asked(np.ones((3, T))), "B": asked(np.zeros((3, T)), train=wide)}
    assert (
        CounterfactualTest(Made(twice), measure="output").run(seen, MemoryLab(), models=3).verdict == "agree"
    )


class Other(type(outputs.value)):
    """Another output, by its name."""


def test_questions_that_cannot_be_compared():
    a, other = asked(np.ones((3, T))), Examples(INPUTS.flip(0), labels=torch.zeros(T))
    lab = MemoryLab()
    for wrong, why in (
        ({"A": a}, "1 of them"),
        ({"A": a, "B": a, "A - B": a}, "named A - B"),
        ({"A": a, "B": asked(np.ones((3, T)), targets=other)}, "targets that differ"),
        ({"A": a, "B": dataclasses.replace(a, targets=TARGETS[:5])}, "targets that differ"),
        ({"A": a, "B": dataclasses.replace(a, output=Other())}, "outputs that differ"),
    ):
        with pytest.raises(BadInput, match=f"dl-793.*{why}"):
            OUTPUT.run(wrong, lab, models=3)


def test_models_that_cannot_be_meant():
    lab, a = MemoryLab(), linear(0, (1.0, 0.0, 0.0))
    both = {"A": a, "B": a}
    for wrong in (
        {},
        {"models": 3, "subsets": Subsets(n=40, count=3)},
        {"models": 1},
        {"models": 0},
        {"subsets": Subsets(n=40, count=1)},
        {"subsets": Subsets(n=41, count=3)},
        {"subsets": {"A": Subsets(n=40, count=3)}},
    ):
        with pytest.raises(BadInput, match="dl-794"):
            OUTPUT.run(both, lab, **wrong)
    with pytest.raises(BadInput, match="dl-109"):
        OUTPUT.run(both, lab, models=2, examples=[T])
    assert lab._models == {}, "refused before anything was trained"


def test_components_that_are_not_there():
    lab, two = MemoryLab(), np.ones((3, T, 2))
    classes = Examples(INPUTS, labels=torch.arange(T) % 3)
    floats = {
        name: asked(np.ones((3, T, 2)), output=outputs.Logits(2), targets=Examples(INPUTS)) for name in "AB"
    }
    named = {name: asked(two, classes, train=classes, output=outputs.margin) for name in "AB"}
    value = {name: asked(np.ones((3, T))) for name in "AB"}
    for questions, test, why in (
        (named, CounterfactualTest(SET), r"class 2.*\[1, 2\]"),
        (named, CounterfactualTest(SET, component=2), "class 2"),
        (named, CounterfactualTest(SET, component=-1), "below 0"),
        (value, CounterfactualTest(SET, component=0), r"\[1, 1\]"),
        (value, CounterfactualTest(SET), "labels of torch.float32"),
        (floats, CounterfactualTest(SET), "no labels"),
        (value, CounterfactualTest(SET, measure="output", component=1), "component 1 of the output value"),
    ):
        with pytest.raises(BadInput, match=f"dl-795.*{why}"):
            test.run(questions, lab, models=3)
    pixels = Examples(torch.rand(8, 2), labels=torch.arange(8) % 2)
    stepped = Question(SGD(lambda: torch.nn.Linear(2, 2)), pixels, pixels, outputs.margin)
    opaque = dataclasses.replace(stepped, learner=SklearnLearner.ridge_classifier())
    for question, trained in ((stepped, 0), (opaque, 2)):
        lab = MemoryLab()
        with pytest.raises(BadInput, match="dl-795.*class 4"):
            CounterfactualTest(SET, component=4).run({"A": question, "B": question}, lab, models=2)
        assert len(lab._models) == trained
