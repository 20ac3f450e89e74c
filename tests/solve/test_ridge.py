"""Ridge against its definition, scikit-learn and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import linear_model

from dataloupe._errors import BadInput
from dataloupe.core import DenseAttribution, Info, Subsets, Uncertainty
from dataloupe.solve import ridge


def problem(k, n, m=3, seed=0, noise=0.5, kind="bernoulli"):
    rng = np.random.default_rng(seed)
    masks = Subsets(n=n, count=k, kind=kind, seed=seed).masks()
    truth = rng.standard_normal((n, m))
    return masks, masks @ truth + noise * rng.standard_normal((k, m)) + 3.0, truth


@pytest.mark.parametrize(("k", "n"), [(40, 12), (12, 40), (20, 20)])
@pytest.mark.parametrize("kind", ["fixed", "bernoulli"])
def test_ridge_is_the_closed_form_and_scikit_learn(k, n, kind):
    masks, y, _ = problem(k, n, kind=kind)
    found = ridge(masks, y, penalties=[0.3])
    x = masks - masks.mean(0)
    penalty = found.penalty[0]
    closed = np.linalg.solve(x.T @ x + penalty * np.eye(n), x.T @ (y - y.mean(0))).T
    model = linear_model.Ridge(alpha=penalty).fit(masks, y)
    np.testing.assert_allclose(found.weights, closed, atol=1e-10)
    np.testing.assert_allclose(found.weights, model.coef_, atol=1e-10)
    np.testing.assert_allclose(found.bias, model.intercept_, atol=1e-10)
    assert penalty == pytest.approx(0.3 * np.trace(x.T @ x) / np.linalg.matrix_rank(x))
    assert found.residual.max() < 1e-12


@pytest.mark.parametrize(("k", "n"), [(30, 10), (12, 25)])
def test_the_penalty_is_the_best_of_brute_force_leave_one_out(k, n):
    masks, y, _ = problem(k, n, noise=2.0)
    grid = [0.01, 0.1, 1.0, 10.0]
    found = ridge(masks, y, penalties=grid)
    scale = found.eigenvalues.mean()
    errors = np.zeros((len(grid), y.shape[1]))
    for g, penalty in enumerate(grid):
        for i in range(k):
            rest = np.arange(k) != i
            model = linear_model.Ridge(alpha=penalty * scale).fit(masks[rest], y[rest])
            errors[g] += (y[i] - model.predict(masks[[i]])[0]) ** 2
    np.testing.assert_allclose(found.penalty, np.array(grid)[errors.argmin(0)] * scale)
    total = ((y - y.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(found.explained, 1 - errors.min(0) / total, atol=1e-9)


@pytest.mark.parametrize(("k", "n"), [(40, 12), (12, 40)])
def test_the_posterior_is_its_formula(k, n):
    masks, y, _ = problem(k, n)
    found = ridge(masks, y, penalties=[0.1, 1.0])
    x = masks - masks.mean(0)
    known = Uncertainty(found.spread, basis=found.basis, spectrum=found.spectrum)
    attribution = DenseAttribution(found.weights, Info("ridge"), uncertainty=known)
    remove = [1, 4, 7]
    u = np.zeros(n)
    u[remove] = 1
    for j in range(3):
        hat = x @ np.linalg.solve(x.T @ x + found.penalty[j] * np.eye(n), x.T)
        left = np.eye(k) - hat - 1 / k
        sigma2 = (left @ y[:, j]) @ (left @ y[:, j]) / np.trace(left @ left)
        variance = sigma2 * u @ np.linalg.solve(x.T @ x + found.penalty[j] * np.eye(n), u)
        assert found.sigma2[j] == pytest.approx(sigma2, rel=1e-9)
        assert attribution.error([remove])[0, j] == pytest.approx(variance**0.5, rel=1e-5)


def test_the_posterior_covers_where_its_prior_holds():
    rng = np.random.default_rng(0)
    inside = []
    for seed in range(40):
        masks = Subsets(n=20, count=60, seed=seed, kind="bernoulli").masks()
        truth = rng.standard_normal((20, 5))
        found = ridge(masks, masks @ truth + rng.standard_normal((60, 5)))
        known = Uncertainty(found.spread, basis=found.basis, spectrum=found.spectrum)
        attribution = DenseAttribution(found.weights, Info("ridge"), uncertainty=known)
        z = (attribution.effect([[3, 5, 9]]) + truth[[3, 5, 9]].sum(0)) / attribution.error([[3, 5, 9]])
        inside.extend(np.abs(z[0]) < 1.96)
    assert 0.91 <= np.mean(inside) <= 0.99


def test_without_noise_a_small_penalty_recovers_the_weights():
    masks, y, truth = problem(60, 15, noise=0.0)
    found = ridge(masks, y, penalties=[1e-8, 1.0])
    np.testing.assert_allclose(found.weights, truth.T, atol=1e-6)
    np.testing.assert_allclose(found.bias, 3.0, atol=1e-5)


def test_a_constant_output_has_no_weights():
    masks, y, _ = problem(30, 8)
    y[:, 1] = 2.5
    found = ridge(masks, y)
    np.testing.assert_allclose(found.weights[1], 0, atol=1e-12)
    assert found.bias[1] == pytest.approx(2.5)


@settings(max_examples=15, deadline=None)
@given(st.integers(4, 30), st.integers(2, 30), st.integers(0, 1000))
def test_targets_do_not_feel_each_other(k, n, seed):
    masks, y, _ = problem(k, n, m=4, seed=seed)
    if (masks == masks[0]).all():
        return
    whole, order = ridge(masks, y), np.array([2, 0, 3, 1])
    np.testing.assert_allclose(ridge(masks, y[:, order]).weights, whole.weights[order], atol=1e-9)
    np.testing.assert_allclose(ridge(masks, y[:, [1]]).weights[0], whole.weights[1], atol=1e-9)


def test_bad_arrays_are_refused():
    masks, y, _ = problem(20, 5)
    with pytest.raises(BadInput, match=r"dl-705.*same subset"):
        ridge(np.ones((20, 5), dtype=bool), y)
    with pytest.raises(BadInput, match=r"dl-700.*at least 3"):
        ridge(masks[:2], y[:2])
    with pytest.raises(BadInput, match=r"dl-700.*subset 4"):
        ridge(masks, np.where(np.arange(20)[:, None] == 4, np.nan, y))
    with pytest.raises(BadInput, match="dl-701"):
        ridge(masks, y, penalties=[0.0])
