"""Least squares from sufficient statistics: NumPy's answer, errors that cover, and what fixed sizes hide."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloupe._errors import BadInput
from dataloupe.core import DenseAttribution, Info, Subsets, Uncertainty
from dataloupe.solve import Centred, SuffStats, least_squares, means, ridge_path


def problem(k=80, n=15, m=3, *, seed=0, noise=0.5, kind="bernoulli"):
    rng = np.random.default_rng(seed)
    masks = Subsets(n=n, count=k, kind=kind, seed=seed).masks()
    truth = rng.standard_normal((n, m))
    return masks, masks @ truth + noise * rng.standard_normal((k, m)) + 3.0, truth


@pytest.mark.parametrize(("kind", "rank"), [("bernoulli", 15), ("fixed", 14)])
def test_it_is_numpys_shortest_minimiser(kind, rank):
    masks, y, _ = problem(kind=kind)
    found = least_squares(SuffStats.of(masks, y))
    x, centred = masks - masks.mean(0), y - y.mean(0)
    weights, _, numpys_rank, _ = np.linalg.lstsq(x, centred, rcond=1e-10)
    assert found.rank == numpys_rank == rank
    np.testing.assert_allclose(found.weights.T, weights, atol=1e-10)
    np.testing.assert_allclose((masks @ found.weights.T + found.bias).mean(0), y.mean(0))
    left = ((centred - x @ weights) ** 2).sum(0)
    np.testing.assert_allclose(found.sigma2, left / (80 - 1 - rank))
    covariance = np.linalg.pinv(x.T @ x, rcond=1e-10)
    np.testing.assert_allclose(
        found.error, np.sqrt(np.outer(found.sigma2, np.diagonal(covariance))), rtol=1e-8
    )
    np.testing.assert_allclose(
        np.einsum("nr,jr,or->jno", found.basis, found.spectrum, found.basis)[1],
        found.sigma2[1] * covariance,
        atol=1e-10,
    )
    assert found.residual.max() < 1e-12


@settings(max_examples=25)
@given(st.integers(2, 12), st.integers(3, 40), st.sampled_from(["fixed", "bernoulli"]), st.integers(0, 999))
def test_the_residual_is_orthogonal_to_every_column(n, more, kind, seed):
    """The certificate and the normal equations, on designs of any rank."""
    masks, y, _ = problem(n + more, n, m=2, seed=seed, kind=kind)
    if (masks.all(0) | ~masks.any(0)).any():
        return
    found = least_squares(SuffStats.of(masks, y))
    x = masks - masks.mean(0)
    left = x.T @ (y - masks @ found.weights.T - found.bias)
    assert found.rank == np.linalg.matrix_rank(x, tol=1e-8)
    np.testing.assert_allclose(left, 0, atol=1e-9)
    assert found.residual.max() < 1e-10


def test_fixed_sizes_hide_the_sum_of_the_weights_and_nothing_else():
    masks, _, truth = problem(kind="fixed")
    found = least_squares(SuffStats.of(masks, masks @ truth))
    np.testing.assert_allclose(found.weights.sum(1), 0, atol=1e-10)
    np.testing.assert_allclose(found.weights.T, truth - truth.mean(0), atol=1e-9)
    np.testing.assert_allclose(masks @ found.weights.T + found.bias, masks @ truth, atol=1e-9)
    np.testing.assert_allclose(np.abs(found.basis.sum(0)), 0, atol=1e-8)
    np.testing.assert_allclose(found.sigma2, 0, atol=1e-10)


def test_over_all_subsets_of_a_size_it_is_the_difference_of_means():
    """Lemma 1 of Ilyas et al.: least squares = (n - 1) / n (influence - its mean)."""
    every = (np.arange(64)[:, None] >> np.arange(6) & 1).astype(bool)
    fixed = every[every.sum(1) == 3]
    rng = np.random.default_rng(0)
    y = fixed @ rng.standard_normal((6, 2)) + rng.standard_normal((20, 2))
    stats = SuffStats.of(fixed, y)
    influence = means(stats).weights
    expected = 5 / 6 * (influence - influence.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(least_squares(stats).weights, expected, atol=1e-12)


def test_over_all_subsets_it_is_the_difference_of_means():
    every = (np.arange(64)[:, None] >> np.arange(6) & 1).astype(bool)
    stats = SuffStats.of(every, np.random.default_rng(0).standard_normal((64, 2)))
    np.testing.assert_allclose(least_squares(stats).weights, means(stats).weights, atol=1e-12)


def test_twins_share_what_they_do():
    masks, y, _ = problem()
    masks[:, 1] = masks[:, 0]
    found = least_squares(SuffStats.of(masks, y))
    assert found.rank == 14
    np.testing.assert_allclose(found.weights[:, 0], found.weights[:, 1], atol=1e-10)
    alone = least_squares(SuffStats.of(masks[:, 1:], y))
    np.testing.assert_allclose(found.weights[:, :2].sum(1), alone.weights[:, 0], atol=1e-10)


def test_the_errors_cover():
    """Of weights, and of the effect of removing a group, 95% intervals hold the truth 95% of the time."""
    rng = np.random.default_rng(0)
    weights, effects = [], []
    for seed in range(40):
        masks = Subsets(n=12, count=60, seed=seed, kind="bernoulli").masks()
        truth = rng.standard_normal((12, 5))
        found = least_squares(SuffStats.of(masks, masks @ truth + rng.standard_normal((60, 5))))
        weights.extend(np.abs(found.weights - truth.T).ravel() < 1.96 * found.error.ravel())
        known = Uncertainty(np.zeros(5), basis=found.basis, spectrum=found.spectrum)
        attribution = DenseAttribution(found.weights, Info("least squares"), uncertainty=known)
        away = np.abs(attribution.effect([[3, 5, 9]]) + truth[[3, 5, 9]].sum(0))
        effects.extend(away[0] < 1.96 * attribution.error([[3, 5, 9]])[0])
    assert 0.92 <= np.mean(weights) <= 0.97
    assert 0.9 <= np.mean(effects) <= 0.99


def test_it_is_the_ridge_of_a_penalty_that_vanishes():
    masks, y, _ = problem()
    stats = SuffStats.of(masks, y)
    np.testing.assert_allclose(
        least_squares(stats).weights, ridge_path(stats, penalty=1e-9).weights, atol=1e-8
    )


def test_rows_and_permuted_targets_give_the_same():
    masks, y, _ = problem(m=4)
    whole, order = least_squares(SuffStats.of(masks, y)), np.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        least_squares(Centred.of(masks.astype(float), y)).weights, whole.weights, atol=1e-10
    )
    again = least_squares(SuffStats.of(masks, y[:, order]))
    np.testing.assert_allclose(again.weights, whole.weights[order], atol=1e-12)
    np.testing.assert_allclose(again.error, whole.error[order], atol=1e-12)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused():
    masks, y, _ = problem(20, 5)
    wide, values, _ = problem(30, 30)
    with pytest.raises(BadInput, match=r"dl-775.*k = 30 subsets on n = 30 .*rank of at most k - 1 = 29"):
        least_squares(SuffStats.of(wide, values))
    with pytest.raises(BadInput, match=r"dl-775.*k = 16 .*n = 15 .*rank 15, and no rows left"):
        least_squares(SuffStats.of(*problem(16, 15)[:2]))
    with pytest.raises(BadInput, match=r"dl-702.*first: 2"):
        least_squares(SuffStats.of(masks | (np.arange(5) == 2), y))
    with pytest.raises(BadInput, match=r"dl-772.*first: 1"):
        least_squares(SuffStats.of(masks, np.where(np.arange(3) == 1, 2.5, y)))
    with pytest.raises(BadInput, match=r"dl-700.*2 subsets"):
        least_squares(SuffStats.of(masks[:2], y[:2]))
