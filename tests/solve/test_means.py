"""Difference of means: its definition, and with a threshold the lasso of orthogonal columns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloupe._errors import BadInput
from dataloupe.core import Subsets
from dataloupe.solve import Centred, Path, SuffStats, lasso, means

EVERY = (np.arange(64)[:, None] >> np.arange(6) & 1).astype(bool)
"""All 64 subsets of six examples: the columns are orthogonal, X'X = 16 I."""


def problem(k=50, n=8, m=3, *, seed=0):
    rng = np.random.default_rng(seed)
    masks = Subsets(n=n, count=k, kind="bernoulli", seed=seed).masks()
    return masks, masks @ rng.standard_normal((n, m)) + 0.5 * rng.standard_normal((k, m)) + 3.0


def test_means_are_their_definition():
    masks, y = problem()
    found = means(SuffStats.of(masks, y))
    for i in range(8):
        inside, outside = y[masks[:, i]], y[~masks[:, i]]
        np.testing.assert_allclose(found.weights[:, i], inside.mean(0) - outside.mean(0), atol=1e-12)
        a = masks[:, i].mean()
        np.testing.assert_allclose(found.error[:, i], y.std(0, ddof=1) / np.sqrt(50 * a * (1 - a)))
    np.testing.assert_allclose((masks @ found.weights.T + found.bias).mean(0), y.mean(0))
    rows = means(Centred.of(masks.astype(float), y))
    np.testing.assert_allclose(rows.weights, found.weights, atol=1e-12)
    np.testing.assert_allclose(rows.error, found.error, atol=1e-12)


def test_a_threshold_moves_every_weight_towards_0_and_no_further():
    masks, y = problem()
    free, found = means(SuffStats.of(masks, y)), means(SuffStats.of(masks, y), threshold=1.5)
    bar = 1.5 * free.error
    np.testing.assert_allclose((free.weights - found.weights)[free.weights > bar], bar[free.weights > bar])
    np.testing.assert_allclose((free.weights - found.weights)[free.weights < -bar], -bar[free.weights < -bar])
    assert not found.weights[np.abs(free.weights) <= bar].any()
    assert 0 < (found.weights != 0).sum() < found.weights.size
    np.testing.assert_allclose((masks @ found.weights.T + found.bias).mean(0), y.mean(0))
    assert np.array_equal(means(SuffStats.of(masks, y), threshold=0.0).weights, free.weights)


@given(st.floats(0.01, 1.0), st.integers(0, 99))
def test_on_orthogonal_columns_it_is_the_lasso(penalty, seed):
    y = EVERY @ np.random.default_rng(seed).standard_normal((6, 1))
    stats = SuffStats.of(EVERY, y)
    bar = 64 * penalty / 16 / float(means(stats).error[0, 0])
    shrunk = lasso(stats, penalty=penalty, path=Path(gap=1e-13))
    found = means(stats, threshold=bar)
    np.testing.assert_allclose(found.weights, shrunk.weights, atol=1e-5)
    np.testing.assert_allclose(found.bias, shrunk.bias, atol=1e-5)


def test_the_universal_threshold_leaves_nothing_of_noise_and_all_that_is_large():
    rng = np.random.default_rng(0)
    masks = Subsets(n=200, count=400, seed=1, kind="bernoulli").masks()
    noise = rng.standard_normal((400, 40))
    kept = (means(SuffStats.of(masks, noise), threshold="universal").weights != 0).sum()
    assert kept / 40 < 0.5 < (means(SuffStats.of(masks, noise), threshold=2.0).weights != 0).sum() / 40
    planted = noise + 3.0 * masks[:, [7]]
    found = means(SuffStats.of(masks, planted), threshold="universal")
    assert (found.weights.argmax(axis=1) == 7).all()
    bar = np.sqrt(2 * np.log(200)) * found.error
    free = means(SuffStats.of(masks, planted))
    np.testing.assert_allclose(found.weights[:, 7], (free.weights - bar)[:, 7])


def test_targets_do_not_feel_each_other():
    masks, y = problem(m=4)
    whole, order = means(SuffStats.of(masks, y), threshold=1.0), np.array([2, 0, 3, 1])
    again = means(SuffStats.of(masks, y[:, order]), threshold=1.0)
    np.testing.assert_allclose(again.weights, whole.weights[order], atol=1e-12)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused():
    masks, y = problem(20, 5)
    with pytest.raises(BadInput, match=r"dl-702.*first: 2.*20 subsets"):
        means(SuffStats.of(masks | (np.arange(5) == 2), y))
    with pytest.raises(BadInput, match=r"dl-772.*first: 1"):
        means(SuffStats.of(masks, np.where(np.arange(3) == 1, 2.5, y)))
    with pytest.raises(BadInput, match=r"dl-700.*at least 3"):
        means(SuffStats.of(masks[:2], y[:2]))
    for bad in (-1.0, np.nan, np.inf, "bonferroni"):
        with pytest.raises(BadInput, match="dl-777"):
            means(SuffStats.of(masks, y), threshold=bad)
