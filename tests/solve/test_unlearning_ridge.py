"""The theory of unlearning by matching: closed forms against iterates, predictions against retraining."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import Chunked, Examples
from dataloupe.solve import Linearised, RidgeUnlearning
from dataloupe.testing import RidgeLearner

STEPS = 50
SEEDS = range(5)


def trained(x, y, penalty):
    """Ridge regression from the normal equations, whatever the shape."""
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)


def published(seed, penalty, *, cluster=0, forget=5):
    """n = 100, d = 400, labels with noise of variance 4; the first rows may be a cluster of close ones."""
    rng = np.random.default_rng(seed)
    x, truth = rng.standard_normal((100, 400)), rng.standard_normal(400)
    if cluster:
        x[:cluster] = rng.standard_normal(400) + 0.3 * rng.standard_normal((cluster, 400))
    return RidgeUnlearning.of(x, x @ truth + 2.0 * rng.standard_normal(100), np.arange(forget), penalty)


@st.composite
def drawn(draw):
    """More columns than rows or fewer, several outputs; forgotten rows may repeat each other and retained ones."""
    n, c = draw(st.integers(2, 20)), draw(st.integers(1, 3))
    d, f = draw(st.integers(1, 40)), draw(st.integers(1, n - 1))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    x, forget = rng.standard_normal((n, d)), rng.permutation(n)[:f]
    kept = np.setdiff1d(np.arange(n), forget)
    if draw(st.booleans()):
        x[forget[-1]] = x[forget[0]]
    if draw(st.booleans()):
        x[forget[0]] = x[kept[0]]
    penalty = draw(st.sampled_from([0.1, 1.0, 4.0, 400.0]))
    return x, rng.standard_normal((n, c)), forget, penalty


def descents(problem):
    """By name; the subset is the forgotten rows and one more."""
    subset = np.append(problem.forget, problem.retain[0])
    return {
        "descent": problem.descent(),
        "ascent": problem.ascent(),
        "half as strong": problem.ascent(0.5),
        "matching": problem.matching(),
        "a subset": problem.matching(subset),
        "retained": problem.matching(problem.retain),
    }


# --- retraining, and what a group of rows does ---


@given(drawn())
def test_both_solutions_are_trainings(parts):
    problem = RidgeUnlearning.of(*parts)
    np.testing.assert_allclose(problem.full, trained(problem.x, problem.y, problem.penalty), atol=1e-10)
    kept = trained(problem.x[problem.retain], problem.y[problem.retain], problem.penalty)
    np.testing.assert_allclose(problem.oracle, kept, atol=1e-10)
    assert sorted([*problem.retain, *problem.forget]) == list(range(len(problem.x)))


@given(drawn())
def test_the_initial_error_is_its_formula(parts):
    problem = RidgeUnlearning.of(*parts)
    np.testing.assert_allclose(problem.error, problem.full - problem.oracle, rtol=0, atol=1e-10)


@given(drawn())
def test_the_effect_of_a_group_is_retraining(parts):
    problem = RidgeUnlearning.of(*parts)
    rows = np.concatenate([problem.x, np.eye(problem.x.shape[1])])
    found = problem.effects(rows).group
    np.testing.assert_allclose(found, rows @ (problem.full - problem.oracle), rtol=0, atol=1e-10)


@given(drawn())
def test_the_two_sums_are_what_they_say(parts):
    """Left out: the effects of groups of one, added. Influences: what a little more weight on a row does, added."""
    problem = RidgeUnlearning.of(*parts)
    found = problem.effects(problem.x)
    alone = [RidgeUnlearning.of(problem.x, problem.y, [int(i)], problem.penalty) for i in problem.forget]
    one_by_one = sum(one.effects(problem.x).group for one in alone)
    np.testing.assert_allclose(found.left_out, one_by_one, rtol=0, atol=1e-9)
    weight, more = np.ones((2, len(problem.x), 1)), 1e-4
    weight[:, problem.forget] += np.array([more, -more])[:, None, None]
    up, down = (trained(w**0.5 * problem.x, w**0.5 * problem.y, problem.penalty) for w in weight)
    slope = (up - down) / (2 * more)
    np.testing.assert_allclose(found.influences, problem.x @ slope, rtol=1e-4, atol=1e-6)


def test_one_row_is_a_group_of_one():
    one = published(0, 4.0, forget=1)
    found = one.effects(one.x)
    np.testing.assert_allclose(found.left_out, found.group, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.influences, found.group * (1 - one.leverage[0]), rtol=1e-10, atol=1e-12)


SETTINGS = [
    ({}, 4.0, (0.99, 0.01), (0.12, 0.09)),
    ({}, 400.0, (0.48, 0.04), (0.06, 0.04)),
    ({"cluster": 20, "forget": 20}, 400.0, (0.94, 0.02), (0.94, 0.02)),
    ({"cluster": 20, "forget": 10}, 400.0, (0.45, 0.06), (0.40, 0.06)),
]
"""What is forgotten, the penalty, and the relative errors of both sums on the forgotten rows, with a band."""


@pytest.mark.parametrize(("forgotten", "penalty", "influences", "left_out"), SETTINGS)
def test_how_wrong_sums_over_members_are(forgotten, penalty, influences, left_out):
    errors = []
    for seed in SEEDS:
        one = published(seed, penalty, **forgotten)
        rows = one.x[one.forget]
        truth = rows @ (one.full - one.oracle)
        errors.append([np.linalg.norm(p - truth) / np.linalg.norm(truth) for p in one.effects(rows)])
    group, summed, alone = np.median(errors, axis=0)
    assert group < 1e-12
    assert summed == pytest.approx(influences[0], abs=influences[1])
    assert alone == pytest.approx(left_out[0], abs=left_out[1])


@pytest.mark.parametrize(("penalty", "leverage"), [(4.0, 0.99), (400.0, 0.46)])
def test_the_leverage_of_forgotten_rows(penalty, leverage):
    one = published(0, penalty)
    assert one.leverage.mean() == pytest.approx(leverage, abs=0.02)
    hat = one.x @ trained(one.x, np.eye(100), penalty)
    np.testing.assert_allclose(one.leverage, np.diag(hat)[one.forget], atol=1e-12)


# --- theorem 1: all rows a step ---


@given(drawn(), st.sampled_from([0.3, 1.0]))
def test_closed_forms_are_the_iterates(parts, pace):
    problem = RidgeUnlearning.of(*parts)
    eta = pace / (problem.penalty + np.linalg.eigvalsh(problem.x @ problem.x.T)[-1])
    for name, one in descents(problem).items():
        plain, closed = one.iterates(eta, STEPS), one.closed(eta, range(STEPS + 1))
        scale = max(1.0, np.abs(plain).max())
        np.testing.assert_allclose(closed, plain, rtol=0, atol=1e-10 * scale, err_msg=name)


def test_the_two_forms_of_theorem_1():
    one, eta = published(1, 4.0), 1e-3
    kept = one.x[one.retain]
    fade = 1 - 2 * eta * one.penalty
    step = np.eye(400) - 2 * eta / fade * kept.T @ kept
    expected = fade**STEPS * np.linalg.matrix_power(step, STEPS) @ one.error
    found = one.descent().iterates(eta, STEPS)[-1] - one.oracle
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    step = np.eye(400) - 2 * eta * one.x.T @ one.x
    found = one.matching().iterates(eta, STEPS)[-1] - one.oracle
    np.testing.assert_allclose(found, np.linalg.matrix_power(step, STEPS) @ one.error, rtol=0, atol=1e-10)


def test_the_closed_form_holds_where_the_published_one_divides_by_zero():
    """2 eta penalty = 1: all that is orthogonal to the retained rows is gone in one step."""
    one = published(0, 4.0)
    problem = RidgeUnlearning.of(one.x / 40, one.y, one.forget, 4.0)
    down = problem.descent()
    np.testing.assert_allclose(down.closed(1 / 8, [3])[0], down.iterates(1 / 8, 3)[3], atol=1e-12)
    _, _, right = np.linalg.svd(problem.x[problem.retain], full_matrices=False)
    error = down.iterates(1 / 8, 1)[1] - problem.oracle
    np.testing.assert_allclose(error - right.T @ (right @ error), 0, atol=1e-12)


def test_outside_the_span_of_the_retained_rows_only_the_penalty_moves_anything():
    one, eta = published(0, 4.0), 1e-3
    _, _, right = np.linalg.svd(one.x[one.retain], full_matrices=False)
    errors = one.descent().iterates(eta, STEPS) - one.oracle
    outside = np.linalg.norm(errors - right.T @ (right @ errors), axis=(1, 2))
    np.testing.assert_allclose(outside, outside[0] * (1 - 2 * eta * 4.0) ** np.arange(STEPS + 1), rtol=1e-9)


def test_the_missing_span():
    """A quarter of what is forgotten can be seen from the retained rows, and nothing of what is to be unlearnt."""
    shares = np.array([published(seed, 4.0).span() for seed in SEEDS]).mean(axis=0)
    assert shares[0] == pytest.approx(0.24, abs=0.02)
    assert 2e-5 < shares[1] < 1e-4
    wide = RidgeUnlearning.of(np.random.default_rng(0).standard_normal((30, 4)), np.ones(30), [0], 1.0)
    np.testing.assert_allclose(wide.span(), 1.0)


AFTER_50 = [
    (4.0, (0.55, 0.75), (1e-8, 1e-5), (0.999, 1.0)),
    (400.0, (0.0, 3e-9), (1e-8, 1e-5), (0.93, 0.97)),
]
"""The penalty, and R after 50 of the best steps: descent, matching on all rows, on the retained."""


@pytest.mark.parametrize(("penalty", "descent", "matching", "retained"), AFTER_50)
def test_how_far_50_steps_lead(penalty, descent, matching, retained):
    for seed in SEEDS:
        one = published(seed, penalty)
        for down, (low, high) in (
            (one.descent(), descent),
            (one.matching(), matching),
            (one.matching(one.retain), retained),
        ):
            reached = down.relative(down.closed(down.best_step, [0, STEPS]))
            assert reached[0] == pytest.approx(1.0) and low <= reached[1] <= high


def test_a_subset_is_not_enough_and_ascent_overshoots():
    """Forgotten rows and 15 others: what lies outside their span stays for ever."""
    for penalty, left in ((4.0, 0.44), (400.0, 0.21)):
        one = published(0, penalty)
        down = one.matching(np.arange(20))
        few, many = down.relative(down.closed(down.best_step, [500, 5000]))
        assert few == pytest.approx(many, rel=1e-9) == pytest.approx(left, abs=0.05)
    one = published(0, 4.0)
    path = one.ascent().relative(one.ascent().closed(one.descent().best_step, range(STEPS + 1)))
    assert path[-1] > 1e3
    assert path.min() < 1.0, "it passes the oracle by on its way"


def test_the_best_step_is_the_best():
    down = published(0, 400.0).matching()
    values = np.linalg.svd(down.x, compute_uv=False) ** 2
    worst = [np.abs(1 - 2 * eta * values).max() for eta in down.best_step * np.array([0.95, 1.0, 1.05])]
    assert worst[1] == min(worst) == pytest.approx((values[0] - values[-1]) / (values[0] + values[-1]))


# --- theorem 2: one row a step ---


def small(penalty=1.0, d=6, n=4):
    rng = np.random.default_rng(3)
    return RidgeUnlearning.of(rng.standard_normal((n, d)), rng.standard_normal((n, 2)), [0], penalty)


@pytest.mark.parametrize("d", [2, 6])
def test_the_expectation_is_the_mean_over_all_sequences_of_rows(d):
    etas = np.array([0.05, 0.02, 0.04])
    for name, one in descents(small(d=d)).items():
        b, sizes = len(one.x), []
        for rows in itertools.product(range(b), repeat=3):
            theta = one.start
            for eta, i in zip(etas, rows, strict=True):
                left = one.weight[i] * (one.x[i] @ theta - one.target[i])
                theta = theta - 2 * eta * (np.outer(one.x[i], left) + one.decay / b * theta)
            sizes.append(((theta - one.oracle) ** 2).sum())
        assert one.expected(etas)[-1] == pytest.approx(np.mean(sizes), rel=1e-10), name


def test_sampled_paths_are_around_the_expectation():
    for down in (small().descent(), small().matching()):
        etas = np.full(30, 0.05)
        paths = [down.sampled(etas, Stream.root(seed)) for seed in range(400)]
        sizes = np.array([((path - down.oracle) ** 2).sum(axis=(1, 2)) for path in paths])
        error = sizes.std(axis=0)[1:] / 20
        assert (np.abs(sizes.mean(axis=0) - down.expected(etas))[1:] < 4 * error + 1e-12).all()


def test_the_row_of_a_step_hangs_on_its_key_alone():
    down, etas = small().matching(), np.full(20, 0.05)
    once = down.sampled(etas, Stream.root(0))
    np.testing.assert_array_equal(once[:11], down.sampled(etas[:10], Stream.root(0)))
    assert not np.array_equal(once, down.sampled(etas, Stream.root(1)))


@given(drawn())
def test_rows_agree_at_the_oracle_if_it_is_matched(parts):
    problem = RidgeUnlearning.of(*parts)
    for name, one in descents(problem).items():
        b = len(one.x)
        gradients = [
            2 * np.outer(x, w * (x @ one.oracle - t)) + 2 * one.decay / b * one.oracle
            for x, w, t in zip(one.x, one.weight, one.target, strict=True)
        ]
        expected = np.mean([(g**2).sum() for g in gradients])
        assert one.disagreement == pytest.approx(expected, rel=1e-9, abs=1e-20)
        assert one.disagreement < 1e-20 or name not in {"matching", "a subset", "retained"}
    assert published(0, 4.0).descent().disagreement > 1.0


def test_matching_contracts_in_expectation_and_the_bound_holds():
    one = published(0, 4.0)
    down = one.matching()
    largest = (one.x**2).sum(axis=1).max()
    eta = 2 / (5 * (largest + one.penalty))
    sizes = down.expected(np.full(200, eta))
    least = np.linalg.svd(one.x, compute_uv=False)[-1] ** 2 / 100
    assert (sizes[1:] <= down.contraction(eta) * sizes[:-1]).all()
    assert down.contraction(eta) <= 1 - 2.4 * eta * least * (1 - 1e-9)
    assert sizes[-1] < sizes[0] * (1 - eta * least) ** 200, "theorem 2, with g of X'X / n"


def test_theorem_2_read_with_sums_is_too_fast_or_diverges():
    """gamma of X'X and of X'X / n: the first promises a rate that no run has, the second admits steps that diverge."""
    one = published(0, 4.0)
    down, values = one.matching(), np.linalg.svd(one.x, compute_uv=False) ** 2
    eta = 2 / (5 * (values[0] + one.penalty))
    promised = (1 - values[-1] * eta) ** 400 * (one.error**2).sum()
    assert down.expected(np.full(400, eta))[-1] > 1e6 * promised
    mean = one.x.T @ one.x / 100
    floor = np.linalg.matrix_power(np.eye(400) - 2 * eta * mean, 400) @ one.error
    assert (floor**2).sum() > 1e6 * promised, "not even the mean over runs is there"
    eta = 2 / (5 * (values[0] / 100 + one.penalty / 100))
    assert down.expected(np.full(20, eta))[-1] > 1e6


def test_descent_one_row_a_step_has_a_floor_as_high_as_the_step():
    down = small(penalty=1.0, d=3, n=9).descent()
    floors = [down.expected(np.full(3_000, eta))[-1] for eta in (0.012, 0.006, 0.003)]
    assert floors[0] / floors[1] == pytest.approx(2, abs=0.1)
    assert floors[1] / floors[2] == pytest.approx(2, abs=0.1)


def test_with_steps_that_shrink_descent_falls_as_one_over_t():
    """Above the published lower bound 1 / t^2, which is loose; matching with a constant step falls geometrically."""
    problem = small(penalty=4.0, d=3, n=9)
    down = problem.descent()
    least = np.linalg.eigvalsh(down.curvature)[0] / len(down.x)
    sizes = down.expected(1 / (least * (np.arange(4_000) + 50)))
    slope = np.log(sizes[4_000] / sizes[1_000]) / np.log(4)
    assert slope == pytest.approx(-1, abs=0.1)
    matched = problem.matching()
    eta = 0.4 / (problem.x**2).sum(axis=1).max()
    assert matched.expected(np.full(1_000, eta))[-1] < 1e-12 * sizes[4_000]


# --- the library's own linear algebra ---


@given(drawn())
def test_the_linearised_solve_says_the_same(parts):
    x, *others = parts
    problem = RidgeUnlearning.of(x.astype(np.float32), *others)  # what features are kept in
    n, d = problem.x.shape
    ridge = problem.penalty * d / (problem.x**2).sum()
    rows = problem.x[: min(3, n)]
    for c in range(problem.y.shape[1]):
        left = problem.y[:, c] - problem.x @ problem.full[:, c]
        one = Linearised(Chunked.of(problem.x), left, np.ones(n), rows)
        found = -one.removed(problem.forget, left, ridge)
        np.testing.assert_allclose(found, problem.effects(rows).group[:, c], rtol=0, atol=1e-10)


@pytest.mark.parametrize("penalty", [4.0, 400.0])
def test_the_ridge_oracle_retrains_to_the_same_outputs(penalty):
    """As far as parameters in fp32 tell."""
    one = published(0, penalty)
    data = Examples(torch.from_numpy(one.x), labels=torch.from_numpy(one.y))
    weights = torch.ones(100)
    weights[one.forget] = 0
    learner, rows = RidgeLearner(penalty), torch.from_numpy(one.x).float()
    full, retrained = (learner.train(data, w, seed=0).predict(rows) for w in (torch.ones(100), weights))
    found = one.x @ one.full - one.effects(one.x).group
    np.testing.assert_allclose(full.numpy(), one.x @ one.full, atol=1e-4)
    np.testing.assert_allclose(retrained.numpy(), found, atol=1e-4)


# --- what is refused ---

X, Y = np.eye(3), np.ones(3)


@pytest.mark.parametrize(
    ("x", "y", "forget", "penalty", "code"),
    [
        (X, Y[:2], [0], 1.0, "dl-707"),
        (X[0], Y, [0], 1.0, "dl-707"),
        (X, Y[:, None, None], [0], 1.0, "dl-707"),
        (X[:, :0], Y, [0], 1.0, "dl-707"),
        (X * np.nan, Y, [0], 1.0, "dl-707.*NaN"),
        (X, Y * np.inf, [0], 1.0, "dl-707.*NaN"),
        (X, Y, [0], 0.0, "dl-708"),
        (X, Y, [0], -1.0, "dl-708"),
        (X, Y, [0], np.nan, "dl-708"),
        (X, Y, [0, 1, 2], 1.0, "dl-709"),
        (X, Y, [], 1.0, "dl-108"),
        (X, Y, [3], 1.0, "dl-109"),
        (X, Y, [1, 1], 1.0, "dl-110"),
        (X, Y, [0.5], 1.0, "dl-111"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_problems_are_refused(x, y, forget, penalty, code):
    with pytest.raises(BadInput, match=code):
        RidgeUnlearning.of(x, y, forget, penalty)


def test_bad_steps_are_refused():
    problem = small()
    down = problem.matching()
    for call in (
        lambda: down.iterates(0.0, 3),
        lambda: down.iterates(0.1, -1),
        lambda: down.closed(np.nan, [1]),
        lambda: down.closed(0.1, [2, -1]),
        lambda: down.sampled(np.array([0.1, 0.0]), Stream.root(0)),
        lambda: down.expected(np.array([-0.1])),
        lambda: down.contraction(1.0),
        lambda: down.contraction(0.0),
    ):
        with pytest.raises(BadInput, match="dl-716"):
            call()
    for other in (problem.descent(), problem.ascent()):
        with pytest.raises(BadInput, match="dl-717"):
            other.contraction(1e-3)
    with pytest.raises(BadInput, match="dl-110"):
        problem.matching([1, 1])
