"""The lasso from sufficient statistics: scikit-learn's weights, certified, and penalties chosen as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import linear_model

from dataloupe._errors import BadInput
from dataloupe.core import Subsets
from dataloupe.solve import Centred, Path, SuffStats, blocks_of, folds_of, lasso

SHARP = Path(gap=1e-12)


def problem(k=120, n=30, m=3, *, seed=0, noise=0.5, kind="fixed"):
    rng = np.random.default_rng(seed)
    masks = Subsets(n=n, count=k, seed=seed, kind=kind).masks()
    truth = rng.standard_normal((n, m)) * (rng.random((n, m)) < 0.3)
    return masks, masks @ truth + noise * rng.standard_normal((k, m)) + 3.0, truth


def split(masks, y, folds=5):
    return SuffStats.split(blocks_of(masks, y, 32), folds_of(len(y), folds), folds)


@pytest.mark.parametrize("kind", ["fixed", "bernoulli"])
@pytest.mark.parametrize(("penalty", "share"), [(0.01, 1.0), (0.1, 1.0), (0.05, 0.6)])
def test_it_is_scikit_learns(penalty, share, kind):
    masks, y, _ = problem(kind=kind)
    found = lasso(SuffStats.of(masks, y), penalty=penalty, path=Path(gap=1e-12, share=share))
    for j in range(3):
        model = linear_model.ElasticNet(alpha=penalty, l1_ratio=share, tol=1e-14, max_iter=100_000)
        model.fit(masks, y[:, j])
        np.testing.assert_allclose(found.weights[j], model.coef_, atol=1e-9)
        assert found.bias[j] == pytest.approx(model.intercept_, abs=1e-9)
    assert found.gap.max() <= 1e-12


@settings(max_examples=20, deadline=None)
@given(st.integers(8, 60), st.integers(2, 90), st.sampled_from([0.6, 1.0]), st.integers(0, 999))
def test_every_condition_of_the_optimum_holds(k, n, share, seed):
    """At the optimum the gradient is l1 sign(w) + l2 w where w is not 0, and at most l1 where it is."""
    masks, y, _ = problem(k, n, m=2, seed=seed, kind="bernoulli")
    if (masks.all(0) | ~masks.any(0)).any():
        return
    penalty = 0.05
    found = lasso(SuffStats.of(masks, y), penalty=penalty, path=Path(gap=1e-13, share=share))
    x = masks - masks.mean(0)
    gradient = x.T @ (y - y.mean(0) - x @ found.weights.T) / k - (1 - share) * penalty * found.weights.T
    inside = found.weights.T != 0
    slack = 1e-5 * y.std()
    assert np.abs(gradient).max() <= share * penalty + slack
    assert np.abs(gradient - share * penalty * np.sign(found.weights.T))[inside].max(initial=0) <= slack


def test_the_gap_is_the_gap():
    masks, y, _ = problem()
    x, centred = masks - masks.mean(0), y - y.mean(0)
    for gap in (0.3, 1e-2, 1e-4):
        found = lasso(SuffStats.of(masks, y), penalty=0.02, path=Path(gap=gap))
        left = centred - x @ found.weights.T
        scale = np.minimum(1.0, 120 * 0.02 / np.abs(x.T @ left).max(0))
        primal = (left**2).sum(0) / 2 + 120 * 0.02 * np.abs(found.weights).sum(1)
        dual = ((centred**2).sum(0) - ((centred - scale * left) ** 2).sum(0)) / 2
        np.testing.assert_allclose(found.gap, (primal - dual) / ((centred**2).sum(0) / 2), atol=1e-9)
        assert (found.gap <= gap).all()


def test_at_the_largest_penalty_nothing_is_left_and_just_below_something():
    masks, y, _ = problem(m=4)
    x = masks - masks.mean(0)
    top = np.abs(x.T @ (y - y.mean(0))).max(0) / len(y)
    assert not lasso(SuffStats.of(masks, y), penalty=top, path=SHARP).weights.any()
    assert (lasso(SuffStats.of(masks, y), penalty=0.999 * top, path=SHARP).weights != 0).sum(1).min() >= 1


def test_an_orthogonal_design_is_soft_thresholded():
    """All 64 subsets of six examples: X'X is 16 I, and the lasso is the difference of means with a threshold."""
    every = (np.arange(64)[:, None] >> np.arange(6) & 1).astype(bool)
    truth = np.array([[3.0, -2.0, 1.0, 0.3, -0.1, 0.0]]).T
    found = lasso(SuffStats.of(every, every @ truth), penalty=0.1, path=SHARP)
    expected = np.sign(truth) * np.maximum(np.abs(truth) - 0.4, 0)
    np.testing.assert_allclose(found.weights.T, expected, atol=1e-9)


def held_out_error(masks, y, fold, number, penalty):
    model = linear_model.Lasso(alpha=penalty, tol=1e-12, max_iter=100_000)
    model.fit(masks[fold != number], y[fold != number])
    return float(((y[fold == number] - model.predict(masks[fold == number])) ** 2).sum())


@pytest.mark.parametrize("select", ["hold-out", "k-fold"])
def test_penalties_are_chosen_on_the_folds(select):
    masks, y, _ = problem()
    path, fold = Path(steps=8, end=0.02, gap=1e-9, patience=8), folds_of(120, 5)
    found = lasso(SuffStats.of(masks, y), folds=split(masks, y), select=select, path=path)
    x = masks - masks.mean(0)
    for j in range(3):
        grid = np.abs(x.T @ (y[:, j] - y[:, j].mean())).max() / 120 * np.geomspace(1, 0.02, 8)
        numbers = [4] if select == "hold-out" else range(5)
        errors = [sum(held_out_error(masks, y[:, j], fold, i, p) for i in numbers) for p in grid]
        assert found.penalty[j] == pytest.approx(grid[int(np.argmin(errors))])
        spread = sum(((y[fold == i, j] - y[fold != i, j].mean()) ** 2).sum() for i in numbers)
        assert found.explained[j] == pytest.approx(1 - min(errors) / spread, abs=1e-4)


def test_gcv_is_its_formula():
    masks, y, _ = problem()
    path = Path(steps=8, end=0.05, gap=1e-9, patience=8)
    found = lasso(SuffStats.of(masks, y), select="gcv", path=path)
    x = masks - masks.mean(0)
    for j in range(3):
        grid = np.abs(x.T @ (y[:, j] - y[:, j].mean())).max() / 120 * np.geomspace(1, 0.05, 8)
        scores = []
        for penalty in grid:
            model = linear_model.Lasso(alpha=penalty, tol=1e-12, max_iter=100_000).fit(masks, y[:, j])
            left = ((y[:, j] - model.predict(masks)) ** 2).sum()
            scores.append(left / (1 - (1 + (model.coef_ != 0).sum()) / 120) ** 2)
        assert found.penalty[j] == pytest.approx(grid[int(np.argmin(scores))])


def test_targets_do_not_feel_each_other():
    """What permutes the targets permutes the fit: no target is fitted at another one's penalty."""
    masks, y, _ = problem(m=5)
    order = np.array([3, 0, 4, 1, 2])
    one = lasso(SuffStats.of(masks, y), folds=split(masks, y), path=SHARP)
    two = lasso(SuffStats.of(masks, y[:, order]), folds=split(masks, y[:, order]), path=SHARP)
    np.testing.assert_allclose(two.weights, one.weights[order], atol=1e-9)
    np.testing.assert_allclose(two.penalty, one.penalty[order], rtol=1e-12)


def test_it_finds_few_examples_that_matter():
    rng = np.random.default_rng(0)
    masks = Subsets(n=60, count=200, seed=3).masks()
    truth = np.zeros((60, 2))
    truth[[3, 17], 0], truth[40, 1] = [2.0, -2.0], 3.0
    y = masks @ truth + 0.3 * rng.standard_normal((200, 2))
    found = lasso(SuffStats.of(masks, y), folds=split(masks, y))
    assert {int(i) for i in np.argsort(-np.abs(found.weights[0]))[:2]} == {3, 17}
    assert int(np.abs(found.weights[1]).argmax()) == 40
    assert found.explained.min() > 0.8
    away = np.abs(found.weights + found.penalty[:, None] * 4 * np.sign(found.weights) - truth.T) / found.error
    assert away[truth.T != 0].max() < 4
    np.testing.assert_allclose(found.sigma2, 0.09, rtol=0.5)


def test_rows_or_all_at_once_is_the_same():
    masks, y, _ = problem()
    whole = lasso(SuffStats.of(masks, y), penalty=0.03, path=SHARP).weights
    again = lasso(Centred.of(masks.astype(float), y), penalty=0.03, path=SHARP).weights
    np.testing.assert_allclose(again, whole, atol=1e-9)


def test_an_excluded_example_is_not_there():
    """Targets that are training examples: each is fitted on all the others."""
    masks, y, _ = problem(m=4)
    out = np.array([2, -1, 0, 29])
    found = lasso(SuffStats.of(masks, y), penalty=0.01, path=SHARP, exclude=out)
    assert not found.weights[out >= 0, out[out >= 0]].any()
    for j in (0, 2, 3):
        rest = np.delete(masks, out[j], axis=1)
        alone = lasso(SuffStats.of(rest, y[:, [j]]), penalty=0.01, path=SHARP)
        np.testing.assert_allclose(np.delete(found.weights[j], out[j]), alone.weights[0], atol=1e-9)
    free = lasso(SuffStats.of(masks, y), penalty=0.01, path=SHARP)
    np.testing.assert_allclose(found.weights[1], free.weights[1], atol=1e-9)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused():
    masks, y, _ = problem(40, 5)
    stats, parts = SuffStats.of(masks, y), split(masks, y, 4)
    with pytest.raises(BadInput, match=r"dl-702.*first: 2"):
        lasso(SuffStats.of(masks | (np.arange(5) == 2), y), penalty=0.1)
    with pytest.raises(BadInput, match=r"dl-772.*first: 1"):
        lasso(SuffStats.of(masks, np.where(np.arange(3) == 1, 2.5, y)), penalty=0.1)
    with pytest.raises(BadInput, match=r"dl-700.*2 subsets"):
        lasso(SuffStats.of(masks[:2], y[:2]), penalty=0.1)
    for penalty in (0.0, -1.0, np.nan):
        with pytest.raises(BadInput, match="dl-701"):
            lasso(stats, penalty=penalty)
    with pytest.raises(BadInput, match=r"dl-773.*none"):
        lasso(stats)
    with pytest.raises(BadInput, match=r"dl-773.*30 rows"):
        lasso(stats, folds=parts[:3])
    with pytest.raises(BadInput, match=r"dl-773.*without a row"):
        lasso(stats, folds=[stats, stats - stats])
    for exclude in (np.array([0, 1]), np.array([0, 1, 5])):
        with pytest.raises(BadInput, match="dl-774"):
            lasso(stats, penalty=0.1, exclude=exclude)
    for bad in ({"steps": 1}, {"end": 1.0}, {"share": 0.0}, {"gap": 0.0}, {"patience": 0}):
        with pytest.raises(BadInput, match="dl-706"):
            Path(**bad)
