"""Ridge toward a prior: its closed form, brute force, what bad priors cost, and what may not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloupe._errors import BadInput
from dataloupe.core import DenseAttribution, Info, Subsets, Uncertainty
from dataloupe.solve import PENALTIES, prior_ridge, ridge


def planted(k, n=40, m=6, seed=0, noise=1.0, error=0.5):
    """Masks, outputs, the true weights, and a guess at them that is off by ``error``."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((m, n))
    masks = Subsets(n=n, count=k, seed=seed).masks()
    y = masks @ truth.T + noise * rng.standard_normal((k, m)) + 3.0
    return masks, y, truth, truth + error * rng.standard_normal((m, n))


def alike(n=60, m=20, kinds=5, seed=0):
    """Masks, outputs, truth, prior: examples come in kinds, and the prior is wrong about whole kinds at once."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(kinds), n // kinds)
    prior = rng.standard_normal((m, kinds))[:, kind] + 0.1 * rng.standard_normal((m, n))
    truth = prior + 0.7 * rng.standard_normal((m, kinds))[:, kind]
    masks = Subsets(n=n, count=50, seed=seed).masks()
    return masks, masks @ truth.T + 2.0 * rng.standard_normal((50, m)), truth, prior


def covariance(prior, c):
    """(1 - c) I + c (the cosines of the prior's columns, every target counting alike)."""
    columns = prior / np.linalg.norm(prior, axis=1, keepdims=True)
    columns = columns / np.linalg.norm(columns, axis=0)
    return (1 - c) * np.eye(prior.shape[1]) + c * columns.T @ columns


def misses(weights, truth):
    return float(((weights - truth) ** 2).mean())


@pytest.mark.parametrize("k", [25, 40, 90])
@pytest.mark.parametrize("c", [0.0, 0.7])
def test_the_weights_are_the_gaussian_posterior_mean(k, c):
    masks, y, _, prior = planted(k)
    found = prior_ridge(masks, y, prior, penalties=[0.3], similarities=[c])
    x = masks - masks.mean(0)
    k_prior = covariance(prior, c)
    for j in range(len(prior)):
        residual = y[:, j] - y[:, j].mean() - found.slope[j] * x @ prior[j]
        inner = x @ k_prior @ x.T + found.penalty[j] * np.eye(k)
        closed = found.slope[j] * prior[j] + k_prior @ x.T @ np.linalg.solve(inner, residual)
        np.testing.assert_allclose(found.weights[j], closed, atol=1e-10)
    np.testing.assert_allclose(found.bias, y.mean(0) - found.weights @ masks.mean(0), atol=1e-10)


@pytest.mark.parametrize("k", [25, 90])
@pytest.mark.parametrize("c", [0.0, 0.7])
def test_the_error_is_the_gaussian_posterior(k, c):
    masks, y, _, prior = planted(k)
    found = prior_ridge(masks, y, prior, penalties=[0.3], similarities=[c])
    x, k_prior = masks - masks.mean(0), covariance(prior, c)
    known = Uncertainty(found.spread, basis=found.basis, spectrum=found.spectrum)
    attribution = DenseAttribution(found.weights, Info("both"), uncertainty=known)
    u = np.zeros(40)
    u[[1, 4, 7]] = 1
    for j in range(len(prior)):
        inner = np.linalg.solve(x @ k_prior @ x.T + found.penalty[j] * np.eye(k), x @ k_prior @ u)
        variance = found.sigma2[j] / found.penalty[j] * (u @ k_prior @ u - u @ k_prior @ x.T @ inner)
        assert attribution.error([[1, 4, 7]])[0, j] == pytest.approx(variance**0.5, rel=1e-5)


@pytest.mark.parametrize("k", [25, 90])
def test_the_r2_are_brute_force_leave_one_out(k):
    masks, y, _, prior = planted(k, noise=3.0)
    found = prior_ridge(masks, y, prior, penalties=[0.5], similarities=[0.7])
    k_prior, target = covariance(prior, 0.7), 2
    total, residual = (
        y[:, target] - y[:, target].mean(),
        y[:, target] - found.slope[target] * masks @ prior[target],
    )
    errors = []
    for i in range(k):
        rest = np.arange(k) != i
        mean, x = masks[rest].mean(0), masks[rest] - masks[rest].mean(0)
        inner = x @ k_prior @ x.T + found.penalty[target] * np.eye(k - 1)
        solved = k_prior @ x.T @ np.linalg.solve(inner, residual[rest] - residual[rest].mean())
        errors.append(residual[i] - residual[rest].mean() - (masks[i] - mean) @ solved)
    assert found.explained[target] == pytest.approx(1 - np.square(errors).sum() / (total**2).sum(), abs=1e-9)


def test_without_similarity_a_prior_of_zeros_is_ridge():
    masks, y, _, prior = planted(90)
    found = prior_ridge(masks, y, 0 * prior, penalties=[0.3], similarities=[0.0])
    plain = ridge(masks, y, penalties=[0.3])
    np.testing.assert_allclose(found.weights, plain.weights, atol=1e-10)
    np.testing.assert_allclose(found.explained, plain.explained, atol=1e-10)
    np.testing.assert_allclose(found.explained_alone, plain.explained, atol=1e-10)


@pytest.mark.parametrize("k", [20, 50, 200])
def test_a_good_prior_beats_both(k):
    masks, y, truth, prior = planted(k, noise=2.0)
    found = prior_ridge(masks, y, prior)
    alone = ridge(masks, y)
    assert misses(found.weights, truth) < min(misses(alone.weights, truth), misses(prior, truth))
    assert (found.explained > np.maximum(found.explained_prior, found.explained_alone) - 0.02).all()


BAD = {
    "chance": lambda prior, rng: rng.standard_normal(prior.shape),
    "zeros": lambda prior, _: 0 * prior,
    "one wild score": lambda prior, _: prior * 0 + 1e6 * (np.arange(prior.shape[1]) == 3),
    "good for half of the targets": lambda prior, rng: np.where(
        np.arange(len(prior))[:, None] % 2, prior, rng.standard_normal(prior.shape)
    ),
    "the same for all": lambda prior, _: np.ones_like(prior),
    "other examples": lambda prior, rng: rng.permutation(prior, axis=1),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("k", [25, 60, 400])
def test_a_bad_prior_costs_no_more_than_noise(name, k):
    fresh = Subsets(n=40, count=200, seed=99).masks()
    ours, alones = [], []
    for seed in range(8):
        masks, y, truth, prior = planted(k, noise=3.0, seed=seed)
        bad = BAD[name](prior, np.random.default_rng(seed + 100))
        x = fresh - fresh.mean(0)
        ours.append(np.square(x @ (prior_ridge(masks, y, bad).weights - truth).T).mean())
        alones.append(np.square(x @ (ridge(masks, y).weights - truth).T).mean())
    gain = np.array(ours) - np.array(alones)
    assert gain.mean() < 0.03 * np.mean(alones) + 2 * gain.std() / len(gain) ** 0.5


@pytest.mark.parametrize("k", [25, 60, 400])
@pytest.mark.parametrize("scale", [-1.0, 75.0, 1e-6])
def test_scale_and_sign_of_the_prior_do_not_matter(k, scale):
    masks, y, _, prior = planted(k)
    one, other = prior_ridge(masks, y, prior), prior_ridge(masks, y, scale * prior)
    np.testing.assert_allclose(one.weights, other.weights, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(one.slope, scale * other.slope)


@pytest.mark.parametrize("k", [25, 60, 400])
def test_each_target_may_have_a_scale_of_its_own(k):
    masks, y, _, prior = planted(k)
    each = np.array([1e-3, 1, 75, 1, 1, 1e6])[:, None]
    one, other = prior_ridge(masks, y, prior), prior_ridge(masks, y, each * prior)
    np.testing.assert_allclose(one.weights, other.weights, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("k", [60, 400])
def test_each_target_may_have_a_sign_of_its_own(k):
    masks, y, truth, prior = planted(k)
    turned = np.array([1, -1, 1, 1, -1, -1])[:, None] * prior
    found = prior_ridge(masks, y, turned)
    assert misses(found.weights, truth) < 1.1 * misses(prior_ridge(masks, y, prior).weights, truth)


def test_examples_that_the_prior_scores_alike_err_alike():
    masks, y, truth, prior = alike()
    found, apart = prior_ridge(masks, y, prior), prior_ridge(masks, y, prior, similarities=[0.0])
    assert found.similarity > 0.0
    assert misses(found.weights, truth) < 0.8 * misses(apart.weights, truth)


def test_where_examples_err_each_for_itself_nothing_is_shared():
    masks, y, _, prior = planted(400, m=30, error=1.0, noise=0.5)
    assert prior_ridge(masks, y, prior).similarity == 0.0


@given(st.permutations(range(6)), st.sampled_from([25, 60]))
@settings(max_examples=10, deadline=None)
def test_the_order_of_the_targets_does_not_matter(order, k):
    masks, y, _, prior = planted(k)
    one, other = prior_ridge(masks, y, prior), prior_ridge(masks, y[:, order], prior[order])
    np.testing.assert_allclose(one.weights[order], other.weights, atol=1e-9)
    assert one.similarity == other.similarity


def test_the_posterior_covers_where_its_prior_holds():
    inside = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        guess = rng.standard_normal((5, 20))
        masks = Subsets(n=20, count=60, seed=seed, kind="bernoulli").masks()
        truth = 2 * guess + 0.5 * rng.standard_normal((5, 20))
        found = prior_ridge(masks, masks @ truth.T + rng.standard_normal((60, 5)), guess, similarities=[0.0])
        known = Uncertainty(found.spread, basis=found.basis, spectrum=found.spectrum)
        attribution = DenseAttribution(found.weights, Info("both"), uncertainty=known)
        z = (attribution.effect([[3, 5, 9]]) + truth[:, [3, 5, 9]].sum(1)) / attribution.error([[3, 5, 9]])
        inside.extend(np.abs(z[0]) < 1.96)
    assert 0.88 <= np.mean(inside) <= 0.99


def test_the_penalty_comes_from_the_grid():
    masks, y, _, prior = planted(60)
    found = prior_ridge(masks, y, prior)
    grid = np.array(PENALTIES) * found.eigenvalues.mean()
    assert np.isin(found.penalty.round(9), grid.round(9)).all()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"prior": np.zeros((6, 39))}, "dl-713"),
        ({"prior": np.zeros((5, 40))}, "dl-713"),
        ({"prior": np.full((6, 40), np.nan)}, "dl-713"),
        ({"y": np.full((25, 6), np.nan)}, "dl-700"),
        ({"penalties": [0.0]}, "dl-701"),
        ({"masks": np.ones((25, 40), dtype=bool)}, "dl-705"),
        ({"similarities": [1.0]}, "dl-714"),
        ({"similarities": []}, "dl-714"),
    ],
)
def test_bad_input(change, code):
    masks, y, _, prior = planted(25)
    with pytest.raises(BadInput, match=code):
        prior_ridge(**({"masks": masks, "y": y, "prior": prior} | change))
