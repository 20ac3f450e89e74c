"""Effects of removals without the weights of all rows: the ridge solution, leave-one-out, and what a group has in common."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloupe._errors import BadInput
from dataloupe.solve import RemovalDesign


def drawn(k, n, seed, share=0.7):
    rng = np.random.default_rng(seed)
    masks = rng.random((k, n)) < share
    masks[0], masks[1] = True, False  # every row varies
    return masks, rng.standard_normal((k, 3))


def ridge(masks, y, penalty):
    """The weights themselves, by the normal equations."""
    m = masks - masks.mean(0)
    p = penalty * (m**2).sum() / m.shape[1]
    return np.linalg.solve(m.T @ m + p * np.eye(m.shape[1]), m.T @ (y - y.mean(0)))


@settings(max_examples=30, deadline=None)
@given(
    k=st.integers(4, 30),
    n=st.integers(4, 30),
    seed=st.integers(0, 999),
    penalty=st.sampled_from([0.01, 0.3, 5.0]),
)
def test_a_sum_is_that_of_the_ridge_weights(k, n, seed, penalty):
    masks, y = drawn(k, n, seed)
    removed = np.arange(0, n, 3)
    design = RemovalDesign(masks)
    weights = ridge(masks, y, penalty)
    v, rest = design.weights(removed, penalty)
    assert np.allclose(v @ (y - y.mean(0)), weights[removed].sum(0), atol=1e-8)
    assert np.allclose(design.own(removed, penalty)[0].sum(1), v, atol=1e-8)
    e = np.isin(np.arange(n), removed)
    assert np.allclose(rest, e - (masks - masks.mean(0)).T @ v, atol=1e-10)


@pytest.mark.parametrize(("k", "n"), [(12, 30), (40, 9)])
def test_gains_are_the_ridge_weights_and_their_error_is_that_of_noise(k, n):
    masks, y = drawn(k, n, seed=3)
    design = RemovalDesign(masks)
    gains, noise = design.gains(y[:, 0] - y[:, 0].mean(), penalty=0.5)
    assert np.allclose(gains, ridge(masks, y, 0.5)[:, 0], atol=1e-8)
    m = masks - masks.mean(0)
    p = 0.5 * design.scale
    inverse = np.linalg.inv(m.T @ m + p * np.eye(n))
    left = y[:, 0] - y[:, 0].mean() - m @ gains
    free = k - 1 - np.trace(m @ inverse @ m.T)
    spread = np.sqrt(np.diag(inverse @ m.T @ m @ inverse) * (left @ left) / free)
    assert np.allclose(noise, spread, rtol=1e-6)


@pytest.mark.parametrize(("k", "n"), [(12, 30), (40, 9)])
def test_a_prediction_left_out_is_that_of_a_fit_without_it(k, n):
    masks, y = drawn(k, n, seed=1)
    design = RemovalDesign(masks)
    found = design.left_out(y, penalty=0.5)
    m = masks - masks.mean(0)
    p = 0.5 * design.scale
    for i in range(k):
        rest = np.arange(k) != i
        mean_m, mean_y = m[rest].mean(0), y[rest].mean(0)
        x = m[rest] - mean_m
        weights = np.linalg.solve(x.T @ x + p * np.eye(n), x.T @ (y[rest] - mean_y))
        expected = mean_y + (m[i] - mean_m) @ weights - y.mean(0)
        assert np.allclose(found[i], expected, atol=1e-8)


@pytest.mark.parametrize(("k", "n"), [(12, 30), (40, 9)])
def test_blocks_are_intercepts_of_their_own(k, n):
    """Weights and predictions left out are those of a regression with an unpenalised intercept for every block."""
    masks, y = drawn(k, n, seed=2)
    blocks = np.arange(k) % 3
    design = RemovalDesign(masks, blocks)
    removed, p = np.array([0, 2]), 0.5 * design.scale
    ones = (blocks[:, None] == np.arange(3)).astype(float)
    both = np.hstack([masks.astype(float), ones])
    penalties = np.diag(np.r_[np.full(n, p), np.zeros(3)])
    weights = np.linalg.solve(both.T @ both + penalties, both.T @ y)
    v, _ = design.weights(removed, penalty=0.5)
    luck = np.random.default_rng(0).standard_normal((3, 1))[blocks]
    assert np.allclose(v @ (y + luck), weights[removed].sum(0), atol=1e-8)
    found, centred = design.left_out(y, penalty=0.5), design.centred(y.copy())
    for i in range(k):
        rest = np.arange(k) != i
        fit = np.linalg.solve(both[rest].T @ both[rest] + penalties, both[rest].T @ y[rest])
        assert np.allclose(found[i], both[i] @ fit - (y - centred)[i], atol=1e-8)


@pytest.mark.parametrize(("k", "n"), [(12, 30), (60, 9)])
def test_a_rows_own_weight_can_go_unpenalised(k, n):
    masks, y = drawn(k, n, seed=2)
    design, removed = RemovalDesign(masks), np.array([1, 4, 7])
    v, _ = design.weights(removed, 0.8)
    singles, gain = design.own(removed, 0.8)
    m = masks - masks.mean(0)
    for place, row in enumerate(removed):
        penalties = 0.8 * design.scale * np.eye(n)
        penalties[row, row] = 0.0
        weights = np.linalg.solve(m.T @ m + penalties, m.T @ (y - y.mean(0)))
        found = (v + gain[place] * singles[:, place]) @ (y - y.mean(0))
        assert np.allclose(found, weights[removed].sum(0), atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), penalty=st.sampled_from([0.1, 1.0, 30.0]), wide=st.booleans())
def test_a_group_whose_rows_do_the_same_is_exact_at_any_penalty(seed, penalty, wide):
    masks, _ = drawn(20 if wide else 60, 40, seed)
    group = np.array([1, 5, 8, 30])
    effect = np.array([0.7, -2.0])
    y = masks[:, group].sum(1)[:, None] * effect
    design = RemovalDesign(masks)
    unshrunk, _ = design.weights(group, penalty, "group")
    assert np.allclose(unshrunk @ (y - y.mean(0)), len(group) * effect, rtol=1e-6)
    shrunk, _ = design.weights(group, penalty, "sum")
    assert (np.abs(shrunk @ (y - y.mean(0))) < 0.99 * len(group) * np.abs(effect)).all()


def test_a_row_that_every_training_kept_is_refused():
    masks, _ = drawn(10, 6, seed=0)
    masks[:, 2] = True
    with pytest.raises(BadInput, match="dl-684"):
        RemovalDesign(masks).weights(np.array([1, 2]), 0.5)
    with pytest.raises(BadInput, match="dl-684"):
        RemovalDesign(masks).own(np.array([2]), 0.5)
