"""Ridge from sufficient statistics: the answers of the rows, penalties as brute force chooses them, certificates."""

import functools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import linear_model

from dataloupe._errors import BadInput
from dataloupe.core import Subsets
from dataloupe.solve import Centred, SuffStats, blocks_of, folds_of, ridge, ridge_path

GRID = (0.01, 0.1, 1.0, 10.0)


def problem(k=60, n=15, m=3, *, seed=0, noise=2.0, kind="bernoulli"):
    rng = np.random.default_rng(seed)
    masks = Subsets(n=n, count=k, kind=kind, seed=seed).masks()
    truth = rng.standard_normal((n, m))
    return masks, masks @ truth + noise * rng.standard_normal((k, m)) + 3.0, truth


def split(masks, y, folds=5):
    return SuffStats.split(blocks_of(masks, y, 32), folds_of(len(y), folds), folds)


@pytest.mark.parametrize(("k", "n"), [(40, 12), (12, 40), (20, 20)])
@pytest.mark.parametrize("kind", ["fixed", "bernoulli"])
def test_it_is_the_ridge_of_the_rows(k, n, kind):
    """Weights, noise and posterior of the fit on masks, at the penalties that it took."""
    masks, y, _ = problem(k, n, kind=kind)
    rows = ridge(masks, y, penalties=GRID)
    found = ridge_path(SuffStats.of(masks, y), penalty=rows.penalty)
    for name in ("weights", "bias", "penalty", "sigma2", "spread", "eigenvalues"):
        np.testing.assert_allclose(getattr(found, name), getattr(rows, name), rtol=1e-9, atol=1e-10)
    covariance = [np.einsum("nr,jr,or->jno", fit.basis, fit.spectrum, fit.basis) for fit in (rows, found)]
    np.testing.assert_allclose(covariance[1], covariance[0], atol=1e-9)
    assert found.residual.max() < 1e-12 and np.isnan(found.explained).all()


@settings(max_examples=20)
@given(st.integers(4, 40), st.integers(1, 30), st.floats(1e-3, 1e3), st.integers(0, 999))
def test_the_certificate_holds_and_targets_do_not_feel_each_other(k, n, penalty, seed):
    masks, y, _ = problem(k, n, m=4, seed=seed)
    if (masks == masks[0]).all():
        return
    found, order = ridge_path(SuffStats.of(masks, y), penalty=penalty), np.array([2, 0, 3, 1])
    x = masks - masks.mean(0)
    left = x.T @ (y - masks @ found.weights.T - found.bias) - penalty * found.weights.T
    np.testing.assert_allclose(left, 0, atol=1e-8)
    assert found.residual.max() < 1e-9
    again = ridge_path(SuffStats.of(masks, y[:, order]), penalty=penalty)
    np.testing.assert_allclose(again.weights, found.weights[order], atol=1e-10)


def held_out_error(masks, y, fold, number, penalty):
    model = linear_model.Ridge(alpha=penalty, solver="cholesky").fit(masks[fold != number], y[fold != number])
    return ((y[fold == number] - model.predict(masks[fold == number])) ** 2).sum(0)


@pytest.mark.parametrize("select", ["hold-out", "k-fold"])
@pytest.mark.parametrize(("k", "n"), [(60, 15), (20, 30)])
def test_penalties_are_chosen_on_the_folds(select, k, n):
    masks, y, _ = problem(k, n)
    parts, fold = split(masks, y), folds_of(k, 5)
    found = ridge_path(functools.reduce(operator.add, parts), folds=parts, select=select, penalties=GRID)
    grid = np.array(GRID) * found.eigenvalues.mean()
    numbers = [4] if select == "hold-out" else range(5)
    errors = np.array([sum(held_out_error(masks, y, fold, i, p) for i in numbers) for p in grid])
    spread = sum(((y[fold == i] - y[fold != i].mean(0)) ** 2).sum(0) for i in numbers)
    np.testing.assert_allclose(found.penalty, grid[errors.argmin(0)])
    np.testing.assert_allclose(found.explained, 1 - errors.min(0) / spread, atol=1e-9)
    model = linear_model.Ridge(alpha=found.penalty).fit(masks, y)
    np.testing.assert_allclose(found.weights, model.coef_, atol=1e-9)


@pytest.mark.parametrize("out", [None, np.array([2, -1, 14])])
def test_gcv_and_the_noise_are_their_formulas(out):
    masks, y, _ = problem()
    found = ridge_path(SuffStats.of(masks, y), select="gcv", penalties=GRID, exclude=out)
    grid = np.array(GRID) * found.eigenvalues.mean()
    for j in range(3):
        x = (masks - masks.mean(0))[:, np.arange(15) != (-1 if out is None else out[j])]
        centred, scores = y[:, j] - y[:, j].mean(), []
        for penalty in grid:
            hat = x @ np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T)
            left = centred - hat @ centred
            scores.append(left @ left / (1 - (1 + np.trace(hat)) / 60) ** 2)
            if penalty == found.penalty[j]:
                free = np.eye(60) - hat - 1 / 60
                assert found.sigma2[j] == pytest.approx(left @ left / np.trace(free @ free), rel=1e-9)
        assert found.penalty[j] == pytest.approx(grid[int(np.argmin(scores))])
        assert found.explained[j] == pytest.approx(1 - min(scores) / (centred @ centred / (1 - 1 / 60) ** 2))


@pytest.mark.parametrize(("k", "n"), [(60, 15), (20, 30)])
@pytest.mark.parametrize("kind", ["fixed", "bernoulli"])
def test_an_excluded_example_is_not_there(k, n, kind):
    """Targets that are training examples: the closed form is the refit on all the others."""
    masks, y, _ = problem(k, n, m=4, kind=kind)
    out, parts = np.array([2, -1, 0, n - 1]), split(masks, y, 4)
    stats = SuffStats.of(masks, y)
    found = ridge_path(stats, penalty=3.0, exclude=out)
    chosen = ridge_path(stats, folds=parts, penalties=GRID, exclude=out)
    assert not found.weights[out >= 0, out[out >= 0]].any()
    assert found.residual.max() < 1e-12 and chosen.residual.max() < 1e-12
    for j in (0, 2, 3):
        rest = np.delete(masks, out[j], axis=1)
        alone = ridge_path(SuffStats.of(rest, y[:, [j]]), penalty=3.0)
        np.testing.assert_allclose(np.delete(found.weights[j], out[j]), alone.weights[0], atol=1e-10)
        np.testing.assert_allclose(found.bias[j], alone.bias[0], atol=1e-9)
        np.testing.assert_allclose(found.sigma2[j], alone.sigma2[0], rtol=1e-9)
        grid = np.array(GRID) * chosen.eigenvalues.mean()
        errors = [held_out_error(rest, y[:, j], folds_of(k, 4), 3, p) for p in grid]
        assert chosen.penalty[j] == pytest.approx(grid[int(np.argmin(errors))])
    free = ridge_path(stats, penalty=3.0)
    np.testing.assert_allclose(found.weights[1], free.weights[1], atol=1e-12)


def test_an_example_that_was_never_left_out_has_no_weight():
    masks, y, _ = problem()
    found = ridge_path(SuffStats.of(masks | (np.arange(15) == 4), y), penalty=1.0)
    np.testing.assert_allclose(found.weights[:, 4], 0, atol=1e-12)


def test_rows_or_all_at_once_is_the_same():
    masks, y, _ = problem()
    whole = ridge_path(SuffStats.of(masks, y), select="gcv")
    again = ridge_path(Centred.of(masks.astype(float), y), select="gcv")
    np.testing.assert_allclose(again.weights, whole.weights, atol=1e-9)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused():
    masks, y, _ = problem(40, 5)
    stats, parts = SuffStats.of(masks, y), split(masks, y, 4)
    with pytest.raises(BadInput, match=r"dl-705.*40 times the same subset"):
        ridge_path(SuffStats.of(np.ones((40, 5), dtype=bool), y), penalty=1.0)
    with pytest.raises(BadInput, match=r"dl-772.*first: 1"):
        ridge_path(SuffStats.of(masks, np.where(np.arange(3) == 1, 2.5, y)), penalty=1.0)
    with pytest.raises(BadInput, match=r"dl-700.*2 subsets"):
        ridge_path(SuffStats.of(masks[:2], y[:2]), penalty=1.0)
    for penalty in (0.0, -1.0, np.nan):
        with pytest.raises(BadInput, match="dl-701"):
            ridge_path(stats, penalty=penalty)
        with pytest.raises(BadInput, match="dl-701"):
            ridge_path(stats, select="gcv", penalties=[1.0, penalty])
    with pytest.raises(BadInput, match=r"dl-773.*none"):
        ridge_path(stats)
    with pytest.raises(BadInput, match=r"dl-773.*30 rows"):
        ridge_path(stats, folds=parts[:3])
    with pytest.raises(BadInput, match=r"dl-778.*'cv'"):
        ridge_path(stats, folds=parts, select="cv")
    with pytest.raises(BadInput, match="dl-774"):
        ridge_path(stats, penalty=1.0, exclude=np.array([0, 1, 5]))
