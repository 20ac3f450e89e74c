"""Sparse PCA by regression: closed forms, planted spikes, what leaves the answer alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso

from dataloupe._errors import BadInput
from dataloupe.solve import _sparse_pca, sparse_pca_support
from dataloupe.testing import spiked


def exact(correlation, n=40, seed=0):
    """Rows whose sample correlations are exactly these, with means and scales of their own."""
    rng = np.random.default_rng(seed)
    d = len(correlation)
    z = rng.standard_normal((n, d))
    z -= z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / n)).T @ np.linalg.cholesky(correlation).T
    return z * rng.uniform(0.5, 20.0, d) + rng.uniform(-9.0, 9.0, d)


@pytest.mark.parametrize("rho", [0.9, -0.7])
def test_two_correlated_columns_in_closed_form(rho):
    """b = soft(rho, p), and Q = 2 b rho - b^2 = rho^2 - p^2; the third column is explained by nothing."""
    correlation = np.array([[1.0, rho, 0.0], [rho, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = sparse_pca_support(exact(correlation), 2)
    penalty = 0.8 * np.sqrt(2 * np.log(3) / 40)
    assert found.penalty == pytest.approx(penalty)
    np.testing.assert_allclose(found.explained, [rho**2 - penalty**2] * 2 + [0.0], atol=1e-9)
    assert sorted(found.support.tolist()) == [0, 1]
    assert found.bound == pytest.approx(13 * 2 * np.log(3 / 2) / 40)


def test_columns_that_the_lasso_leaves_are_ranked_by_correlation():
    correlation = np.eye(4)
    correlation[1, 3] = correlation[3, 1] = 0.05
    found = sparse_pca_support(exact(correlation), 2)
    assert found.explained.max() == 0.0
    assert sorted(found.support.tolist()) == [1, 3]


@pytest.mark.parametrize("k", [2, 12])
def test_the_definition_with_scikit_learn_on_the_data(k):
    """Every regression on its own, on the data itself; the cut keeps the largest by size, whatever the sign."""
    x, _ = spiked(80, 12, 5, strength=6.0, seed=3)
    x[:, 4] *= -30.0
    z = (x - x.mean(0)) / x.std(0)
    found = sparse_pca_support(x, min(k, 11), strength=0.3)
    signs = set()
    for i in range(12):
        rest = np.delete(z, i, axis=1)
        b = (
            Lasso(alpha=found.penalty, fit_intercept=False, tol=1e-12, max_iter=100_000)
            .fit(rest, z[:, i])
            .coef_
        )
        b[np.argsort(-np.abs(b))[k:]] = 0.0
        signs |= set(np.sign(b))
        q = (z[:, i] ** 2).mean() - ((z[:, i] - rest @ b) ** 2).mean()
        assert found.explained[i] == pytest.approx(q, abs=1e-5)
    assert signs >= {-1.0, 1.0}
    assert found.gap.max() < 1e-8


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_spike_is_found(seed):
    x, support = spiked(400, 200, 6, strength=4.0, seed=seed)
    found = sparse_pca_support(x, 6)
    assert sorted(found.support.tolist()) == support.tolist()
    assert found.gap.max() < 1e-8


def test_a_spike_is_detected_and_the_null_is_not():
    """Twenty nulls, none above the bound; with rows enough for the theorem's constant, the spike is."""
    for seed in range(20):
        null, _ = spiked(200, 40, 3, strength=0.0, seed=seed)
        assert not sparse_pca_support(null, 3).detected
    x, _ = spiked(2000, 40, 3, strength=6.0)
    assert sparse_pca_support(x, 3).detected
    assert not sparse_pca_support(spiked(2000, 40, 3, strength=0.0)[0], 3).detected


def test_the_null_at_full_strength_is_mostly_zero():
    null, _ = spiked(500, 100, 5, strength=0.0)
    found = sparse_pca_support(null, 5, strength=1.3)
    assert (found.explained > 0).mean() <= 0.04


@settings(max_examples=15)
@given(seed=st.integers(0, 500), sign=st.booleans())
def test_units_order_and_offsets_change_nothing(seed, sign):
    x, _ = spiked(60, 15, 4, strength=4.0, seed=seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(15)
    scale = np.exp(rng.normal(0.0, 2.0, 15)) * (-1.0 if sign else 1.0)
    moved = (x * scale + rng.normal(0.0, 3.0, 15))[:, order]
    ours, theirs = sparse_pca_support(x, 4), sparse_pca_support(moved, 4)
    np.testing.assert_allclose(theirs.explained, ours.explained[order], atol=1e-5)
    gaps = np.diff(np.sort(ours.explained))
    if gaps[gaps > 0].min(initial=1.0) > 1e-4 and np.count_nonzero(ours.explained) >= 4:
        assert order[theirs.support].tolist() == ours.support.tolist()


def test_what_did_not_converge_shows_in_the_gap(monkeypatch):
    x, _ = spiked(60, 30, 10, strength=20.0)
    monkeypatch.setattr(_sparse_pca, "TOLERANCE", 0.5)
    loose = sparse_pca_support(x, 10, strength=0.1).gap.max()
    monkeypatch.setattr(_sparse_pca, "TOLERANCE", 1e-10)
    assert sparse_pca_support(x, 10, strength=0.1).gap.max() < 1e-9 < 1e-4 < loose


@pytest.mark.parametrize(
    ("x", "k", "strength"),
    [
        (np.ones((9, 3)) * np.arange(9)[:, None], 0, 1.0),
        (np.ones((9, 3)) * np.arange(9)[:, None], 3, 1.0),
        (np.ones((9, 3)) * np.arange(9)[:, None], 1, 0.0),
        (np.ones((9, 3)) * np.arange(9)[:, None], 1, np.inf),
        (np.ones((9, 3)), 1, 1.0),
        (np.full((9, 3), np.nan), 1, 1.0),
        (np.eye(2), 1, 1.0),
        (np.arange(9.0)[:, None], 1, 1.0),
        (np.arange(9.0), 1, 1.0),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_meant(x, k, strength):
    with pytest.raises(BadInput, match="dl-879"):
        sparse_pca_support(x, k, strength=strength)


@pytest.mark.parametrize(
    ("n", "d", "k", "strength"), [(0, 5, 2, 1.0), (9, 5, 6, 1.0), (9, 5, 0, 1.0), (9, 5, 2, -1.0)]
)
def test_a_spike_that_cannot_be_planted(n, d, k, strength):
    with pytest.raises(BadInput, match="dl-879"):
        spiked(n, d, k, strength=strength)


def test_the_planted_model_has_its_covariance():
    x, support = spiked(200_000, 5, 2, strength=3.0, seed=1)
    covariance = x.T @ x / len(x)
    expected = np.eye(5)
    off = covariance[tuple(support)]
    expected[np.ix_(support, support)] += 1.5 * np.array([[1.0, np.sign(off)], [np.sign(off), 1.0]])
    np.testing.assert_allclose(covariance, expected, atol=0.03)
    again, places = spiked(200_000, 5, 2, strength=3.0, seed=1)
    np.testing.assert_array_equal(again, x)
    assert places.tolist() == support.tolist()
    assert len({tuple(spiked(3, 50, 4, strength=1.0, seed=s)[1]) for s in range(9)}) == 9
