"""Data supports, where removing rows is arithmetic: additive margins, and votes of labels."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError, TrainingError, UnitsError
from dataloupe._identity import Stream
from dataloupe.apps import _support, relabel_support, smallest_support, support
from dataloupe.apps._support import Ranked
from dataloupe.apps._support_found import wilson
from dataloupe.apps._support_search import bisect, runners_up
from dataloupe.core import DenseAttribution, Examples, Info, MemoryLab, Outcomes, Question, TorchModel
from dataloupe.testing import RidgeLearner

N, M = 40, 6
SETTINGS = {"limit": 0.5, "verify": 2}


@dataclasses.dataclass(frozen=True, eq=False)
class Additive:
    """Logits (start_j + sum_i w_i effects_ji + noise, 0) on the target that is the j-th unit vector."""

    start: np.ndarray
    effects: np.ndarray
    noise: float = 0.0
    removal = "repack"

    def train(self, data, weights, *, seed):  # noqa: ARG002
        margin = self.start + self.effects @ weights.double().numpy()
        margin = margin + self.noise * Stream.root(seed)("noise").numpy().standard_normal(len(margin))
        rows = torch.tensor(np.stack([margin, np.zeros_like(margin)]), dtype=torch.float32)
        return TorchModel(nn.utils.skip_init(nn.Linear, len(margin), 2, bias=False), {"weight": rows})


def additive(seed=0, margins=(0.5, 1.0, 2.0, 4.0, 50.0, -1.0), noise=0.0):
    """A question with these margins on all the data, and its true scores."""
    effects = np.random.default_rng(seed).uniform(0.01, 1.0, (M, N))
    learner = Additive(np.array(margins) - effects.sum(axis=1), effects, noise)
    train = Examples(torch.zeros(N, M), labels=torch.zeros(N, dtype=torch.int64))
    targets = Examples(torch.eye(M), labels=torch.zeros(M, dtype=torch.int64))
    question = Question(learner, train, targets, outputs.hard_margin)
    return question, DenseAttribution(effects, Info("true", fraction=1.0), bias=learner.start)


def fewest(margin, effects):
    """The smallest number of rows whose removal leaves no margin."""
    left, count = margin, 0
    for effect in sorted(effects, reverse=True):
        if left <= 0:
            break
        left, count = left - effect, count + 1
    return count


class Counting(MemoryLab):
    """A lab that remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def outcomes(self, question, subsets, *, repeats=1):
        self.asked.append((subsets, repeats))
        return super().outcomes(question, subsets, repeats=repeats)


# --- predicted sizes ---


@given(st.floats(0.01, 20.0), st.lists(st.floats(0.01, 1.0), min_size=1, max_size=30))
def test_the_crossing_is_where_the_interpolated_sum_is_the_margin(margin, scores):
    scores = np.sort(np.array(scores))[::-1]
    crossing = Ranked(0, margin, np.arange(len(scores)), scores).crossing
    total = np.cumsum(scores)
    if total[-1] < margin:
        assert crossing is None
        return
    sums = np.interp(crossing, np.arange(len(scores) + 1), [0.0, *total])
    assert sums == pytest.approx(margin)
    more = Ranked(0, margin * 0.9, np.arange(len(scores)), scores).crossing
    assert 0 < more <= crossing


@pytest.mark.parametrize("seed", range(5))
def test_additive_margins_flip_exactly_at_the_predicted_size(seed):
    question, scores = additive(seed)
    found = support(question, MemoryLab(), scores, inflate=1.0, **SETTINGS)
    for case, margin, effects in zip(found.cases[:4], (0.5, 1.0, 2.0, 4.0), scores.scores, strict=False):
        assert case.margin == pytest.approx(margin, abs=1e-5)
        assert case.size == fewest(margin, effects) == math.ceil(case.crossing)
        assert case.rows.tolist() == np.argsort(-effects, kind="stable")[: case.size].tolist()
        assert case.verified == pytest.approx(case.predicted, abs=1e-5)
        assert case.verified <= 0 < case.predicted + effects[case.rows[-1]]
        assert case.state == "flipped"
    far, wrong = found.cases[4:]
    assert (far.size, far.crossing, far.state, len(far.values)) == (None, None, "none", 0)
    assert (wrong.size, wrong.state, len(wrong.values)) == (0, "wrong", 0)
    assert (found.share, found.flips, found.judged) == (1.0, 4, 4)
    assert (len(found.right), len(found.found), found.limit) == (5, 4, 20)


def test_inflation_makes_up_for_scores_that_promise_too_much():
    question, scores = additive(margins=(2.0, 3.0, 4.0, 5.0, 6.0, 7.0))
    proud = dataclasses.replace(scores, scores=1.15 * scores.scores)
    raw = support(question, MemoryLab(), proud, inflate=1.0, **SETTINGS)
    safe = support(question, MemoryLab(), proud, inflate=1.5, **SETTINGS)
    assert raw.share < 0.5 and safe.share == 1.0
    for small, large in zip(raw.cases, safe.cases, strict=True):
        assert large.crossing == small.crossing
        assert large.size == math.ceil(1.5 * small.crossing)
        assert large.rows[: small.size].tolist() == small.rows.tolist()


def test_an_inflated_size_past_the_limit_is_no_support_and_rows_that_hurt_are_never_removed():
    question, scores = additive(margins=(4.0,) * M)
    size = support(question, MemoryLab(), scores, [0], inflate=1.0, **SETTINGS).cases[0].size
    tight = {"limit": size / N, "verify": 2}
    assert support(question, MemoryLab(), scores, [0], inflate=1.0, **tight).cases[0].size == size
    beyond = support(question, MemoryLab(), scores, [0], inflate=1.3, **tight).cases[0]
    assert (beyond.size, beyond.state) == (None, "none") and beyond.crossing <= size
    few = np.full((M, N), -1.0)
    few[:, :3] = 2.0
    hurting = dataclasses.replace(scores, scores=few)
    assert support(question, MemoryLab(), hurting, [1], inflate=4.0, **SETTINGS).cases[0].rows.tolist() == [
        0,
        1,
        2,
    ]


def test_without_retraining_the_margin_is_the_attributions_own():
    question, scores = additive()
    lab = Counting()
    found = support(question, lab, scores, limit=0.5, verify=0)
    retrained = support(question, lab, scores, limit=0.5, verify=2)
    assert [case.size for case in found.cases] == [case.size for case in retrained.cases]
    assert found.share is None and found.cases[0].state == "unverified" and "no retraining" in found.notes[0]
    assert len(lab.asked) == 2 and np.isnan(found.curve().verified).all()
    unknown = dataclasses.replace(scores, bias=None)
    with pytest.raises(BadInput, match=r"dl-744.*calibrate"):
        support(question, lab, unknown, limit=0.5, verify=0)


# --- retraining ---


def test_one_batch_of_retrainings_with_seeds_that_did_not_choose_the_size():
    question, scores = additive()
    lab = Counting()
    found = support(question, lab, scores, limit=0.5, verify=3, seed=5)
    (full, once), (removals, repeats) = lab.asked
    assert (full.count, once, removals.count, repeats) == (3, 1, len(found.found), 3)
    np.testing.assert_array_equal((~removals.masks()).sum(axis=1), [len(case.rows) for case in found.found])
    first = {full.train_seed(k, 0) for k in range(3)}
    second = {removals.train_seed(k, r) for k in range(removals.count) for r in range(3)}
    assert len(second) == 3 * removals.count and not first & second


def test_blocks_of_retrainings_give_what_one_batch_gives(monkeypatch):
    question, scores = additive()
    whole = support(question, MemoryLab(), scores, **SETTINGS)
    monkeypatch.setattr(_support, "BLOCK", 1)
    lab = Counting()
    parts = support(question, lab, scores, **SETTINGS)
    assert len(lab.asked) == 1 + len(whole.found)
    assert [case.verified for case in parts.cases] == [case.verified for case in whole.cases]


@dataclasses.dataclass
class Told(MemoryLab):
    """A lab whose trainings on all the data give 1, and those without rows what it was told."""

    after: tuple
    full: float = 1.0

    def outcomes(self, question, subsets, *, repeats=1):
        values = np.full((subsets.count, repeats, question.m), self.full, dtype=np.float32)
        if not subsets.masks().all():
            values[:] = np.array(self.after)[:, None]
        return Outcomes.from_arrays(subsets.masks(), values)


def told(*after, **more):
    question, _ = additive()
    scores = DenseAttribution(np.ones((M, N)), Info("told", fraction=1.0))
    return support(question, Told(after, **more), scores, verify=len(after), limit=0.5)


def test_states():
    assert told(-1.0, -1.2, -0.8).cases[0].state == "flipped"
    assert told(1.0, 1.2, 0.8).cases[0].state == "kept"
    noisy = told(-1.0, 0.9, -0.3)
    assert noisy.cases[0].state == "undecided" and noisy.cases[0].flips and noisy.share == 1.0
    half = 4.3026527 * np.std([-1.0, 0.9, -0.3], ddof=1) / 3**0.5  # t of 2 degrees of freedom
    assert noisy.cases[0].interval == pytest.approx((-0.4 / 3 - half, -0.4 / 3 + half), abs=1e-5)
    assert told(0.0, 0.0).cases[0].flips, "a tie is no margin"


def test_diverged_retrainings_are_left_out_and_counted():
    found = told(-1.0, np.nan, -1.1)
    assert [len(case.values) for case in found.cases] == [2] * M
    assert "6 retrainings diverged" in found.notes[0]
    lost = told(np.nan, np.nan)
    assert lost.judged == 0 and lost.share is None and lost.cases[0].state == "unverified"
    with pytest.raises(TrainingError, match=r"dl-743.*2 trainings"):
        told(-1.0, -1.0, full=np.nan)


def test_it_says_where_the_scores_were_made():
    question, scores = additive()
    elsewhere = dataclasses.replace(scores, info=Info("half", fraction=0.5, removal="mask"))
    notes = " / ".join(support(question, MemoryLab(), elsewhere, **SETTINGS).notes)
    assert "linearised at 50%" in notes and "by mask, the learner does it by repack" in notes
    (note,) = support(question, MemoryLab(), scores, **SETTINGS).notes
    assert "nothing records what made" in note


# --- the curve, words and JSON ---


def test_the_curve_is_the_share_of_targets_against_the_size():
    question, scores = additive()
    found = support(question, MemoryLab(), scores, inflate=1.0, **SETTINGS)
    sizes = [case.size for case in found.cases[:4]]
    curve = found.curve(range(21))
    assert curve.targets == 5
    for size, predicted, verified, low, high in zip(*curve[:5], strict=True):
        count = int((np.array(sizes) <= size).sum())
        assert predicted == verified == count / 5
        assert (low, high) == wilson(count, 5)
    steps = found.curve()
    assert steps.sizes.tolist() == sorted({*sizes, 20})
    np.testing.assert_array_equal(steps.verified, [curve.verified[size] for size in steps.sizes])
    assert found.median_size == np.median([*sizes, np.inf])
    late = support(question, MemoryLab(), scores, [4], **SETTINGS)
    assert late.median_size is None and late.curve().verified.tolist() != [1.0]
    with pytest.raises(BadInput, match="dl-742"):
        support(question, MemoryLab(), scores, [5], **SETTINGS).curve()


def test_wilson_is_the_formula():
    z, p, n = 1.959964, 0.3, 10
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert wilson(3, 10) == pytest.approx((middle - half, middle + half), abs=1e-6)


def test_it_reads_as_a_line_and_goes_to_json():
    found = told(-1.0, -1.2, -0.8)
    assert str(found) == (
        "removal of at most 20 of 40 rows is predicted to flip 6 of 6 targets; "
        "retrained, 6 of 6 flip: 1.00 [0.61, 1.00], by the mean of 3 retrainings"
    )
    assert str(found.cases[0]) == (
        "target 0: margin 1.00, 2 rows removed, predicted -1.00, verified -1.00 [-1.50, -0.50]: flipped"
    )
    facts = json.loads(json.dumps(found.to_json()))
    assert (facts["share"], facts["judged"], facts["cases"][0]["rows"]) == (1.0, 6, [0, 1])
    assert facts["cases"][0]["state"] == "flipped" and facts["curve"]["verified"][-1] == 1.0
    question, scores = additive()
    silent = support(question, MemoryLab(), scores, [4, 5], limit=0.5, verify=0)
    assert json.loads(json.dumps(silent.to_json()))["curve"]["verified"] == [None]
    assert [str(case).split(", ")[1] for case in silent.cases] == [
        "no support within the limit",
        "wrong with all the data",
    ]


# --- search ---


@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.integers(1, 200), st.integers(1, 200)), min_size=1, max_size=8
    ),
    st.integers(1, 24),
)
def test_bisection_brackets_the_size_that_flips(cases, rounds):
    sizes, firsts, limits = zip(*cases, strict=True)
    asked = []

    def flips(tried):
        asked.append(tried)
        return {i: size >= sizes[i] for i, size in tried.items()}

    for size, first, limit, (low, high) in zip(
        sizes, firsts, limits, bisect(flips, firsts, limits, rounds), strict=True
    ):
        assert 0 <= low < size or low == limit < size
        assert low <= limit
        if high is not None:
            assert size <= high <= limit
        if rounds == 24:
            assert (low, high) == ((size - 1, size) if size <= limit else (limit, None)), (first, limit)
    assert len(asked) <= rounds and all(tried for tried in asked)


@pytest.mark.parametrize("units", ["output", "relative"])
def test_search_finds_the_exact_size_from_the_ranking_alone(units):
    question, scores = additive(1)
    misled = dataclasses.replace(scores, scores=0.3 * scores.scores, units=units)
    found = smallest_support(question, MemoryLab(), misled, rounds=20, **SETTINGS)
    for case, margin, effects in zip(found.cases[:4], (0.5, 1.0, 2.0, 4.0), scores.scores, strict=False):
        exact = fewest(margin, effects)
        assert case.bracket == (exact - 1, exact) and case.size == exact and case.state == "flipped"
        assert (case.predicted is None) == (units == "relative")
    far, wrong = found.cases[4:]
    assert (far.bracket, far.size) == ((20, None), None)
    assert (wrong.bracket, wrong.size) == (None, 0)
    assert (found.curve().predicted is None) == (units == "relative")
    assert "retrained with fresh seeds, 4 of 4 flip" in str(found)


def test_a_search_among_noise_is_confirmed_with_fresh_seeds():
    question, scores = additive(2, margins=(2.0,) * M, noise=3.0)
    lab = Counting()
    found = smallest_support(question, lab, scores, limit=0.5, verify=4, rounds=20)
    searched = {s.train_seed(k, r) for s, n in lab.asked[1:-1] for k in range(s.count) for r in range(n)}
    last, repeats = lab.asked[-1]
    fresh = {last.train_seed(k, r) for k in range(last.count) for r in range(repeats)}
    assert len(searched) == 4, "all sizes are compared with common seeds"
    assert not searched & fresh
    assert found.judged == len(found.found) > 0


def test_few_rounds_leave_a_bracket():
    question, scores = additive(1)
    case = smallest_support(question, MemoryLab(), scores, [3], limit=0.5, verify=2, rounds=1).cases[0]
    assert case.bracket == (0, fewest(4.0, scores.scores[3])), "the first size tried is the predicted one"


def votes(counts, targets):
    """Ridge on a constant: a class's output is its share of the labels."""
    labels = np.repeat(np.arange(len(counts)), counts)
    train = Examples(torch.ones(len(labels), 1), labels=torch.tensor(labels))
    asked = Examples(torch.ones(len(targets), 1), labels=torch.tensor(targets))
    question = Question(RidgeLearner(penalty=1.0, classes=len(counts)), train, asked, outputs.hard_margin)
    own = np.array(targets)[:, None] == labels
    return question, DenseAttribution(np.where(own, 1.0, -1.0), Info("votes"), units="relative")


@settings(max_examples=20)
@given(st.integers(3, 14), st.integers(1, 12), st.integers(0, 6))
def test_votes_flip_when_as_many_go_as_are_ahead_and_relabelling_takes_half(first, second, third):
    question, ranking = votes((first, second, min(third, second)), (0,))
    ahead = first - second
    lab, asked = MemoryLab(), {"limit": 0.95, "verify": 2, "rounds": 20}
    removed = smallest_support(question, lab, ranking, [0], **asked).cases[0]
    relabelled = relabel_support(question, lab, ranking, [0], **asked).cases[0]
    if ahead <= 0:
        assert (removed.state, relabelled.state) == ("wrong", "wrong")
        return
    assert removed.bracket == (ahead - 1, ahead)
    half = math.ceil(ahead / 2)
    assert relabelled.bracket == (half - 1, half) and relabelled.state == "flipped"
    assert relabelled.relabelled == 1 and relabelled.predicted is None


def test_each_target_gets_its_own_runner_up():
    question, ranking = votes((9, 5, 7), (0, 0, 2))
    assert runners_up(question, MemoryLab(), [0, 1], verify=2, seed=0) == [2, 2]
    near = torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    train = Examples(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), labels=torch.tensor([0, 1, 2]))
    three = Question(
        RidgeLearner(0.1, classes=3), train, Examples(near, labels=torch.tensor([2, 0, 0])), outputs.margin
    )
    assert runners_up(three, MemoryLab(), [0, 2], verify=2, seed=0) == [1, 1]
    found = relabel_support(question, MemoryLab(), ranking, [0, 2], limit=0.9, verify=2)
    assert [case.relabelled for case in found.cases] == [2, None]
    assert [case.size for case in found.cases] == [1, 0]
    assert found.kind == "relabel" and found.curve().predicted is None


def test_a_relabelled_training_is_the_training_on_edited_data():
    question, ranking = votes((9, 4), (0,))
    found = relabel_support(question, MemoryLab(), ranking, [0], limit=0.9, verify=2).cases[0]
    edited = question.with_train(question.train.with_labels(found.rows, [1] * len(found.rows)))
    model = edited.learner.train(edited.train, torch.ones(13), seed=0)
    assert found.verified == pytest.approx(float(edited.measure(model)[0]), abs=1e-6)


# --- bad input ---


class Untouched(MemoryLab):
    def outcomes(self, question, subsets, *, repeats=1):  # noqa: ARG002
        raise AssertionError("work was started")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"limit": 0.0}, "dl-741"),
        ({"limit": 1.0}, "dl-741"),
        ({"limit": 0.02}, "dl-741.*single example"),
        ({"inflate": 0.9}, "dl-741"),
        ({"inflate": math.inf}, "dl-741"),
        ({"inflate": math.nan}, "dl-741"),
        ({"verify": 1}, "dl-731"),
        ({"verify": -1}, "dl-731"),
        ({"targets": [M]}, "dl-109"),
        ({"targets": [1, 1]}, "dl-110"),
        ({"targets": []}, "dl-108"),
    ],
)
def test_supports_that_cannot_be_meant_are_refused_before_any_work(wrong, code):
    question, scores = additive()
    with pytest.raises(BadInput, match=code):
        support(question, Untouched(), scores, **wrong)
    if "inflate" not in wrong:
        for search in (smallest_support, relabel_support):
            with pytest.raises(BadInput, match=code):
                search(question, Untouched(), scores, **{"targets": [0], **wrong})


def test_questions_without_a_flip_are_refused_before_any_work():
    question, scores = additive()
    lab = Untouched()
    with pytest.raises(UnitsError, match=r"dl-507.*calibrate"):
        support(question, lab, dataclasses.replace(scores, units="relative"))
    for output in (outputs.loss, outputs.log_prob):
        with pytest.raises(BadInput, match=r"dl-740.*hard_margin"):
            support(dataclasses.replace(question, output=output), lab, scores)
    with pytest.raises(BadInput, match="dl-733"):
        support(question, lab, DenseAttribution(np.ones((M, N + 1)), Info("other")))
    for rounds, verify in ((0, 2), (5, 0)):
        with pytest.raises(BadInput, match="dl-741"):
            smallest_support(question, lab, scores, verify=verify, rounds=rounds)
    unlabelled = dataclasses.replace(question, train=Examples(torch.zeros(N, M)))
    with pytest.raises(BadInput, match=r"dl-745.*class labels"):
        relabel_support(unlabelled, lab, scores, [0])

    class Finished:
        def models(self):
            return []

        def subsets(self, n):  # noqa: ARG002
            return None

    finished = dataclasses.replace(question, learner=Finished())
    with pytest.raises(CapabilityError, match="dl-734"):
        support(finished, lab, scores)
    assert support(finished, lab, scores, limit=0.5, verify=0).found
