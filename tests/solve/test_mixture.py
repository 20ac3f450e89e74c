"""A mixture takes the fit that predicts better, and both where each knows something."""

import numpy as np
import pytest

from dataloupe._errors import BadInput
from dataloupe.solve import SuffStats, folds_of, lasso, prior_lasso, prior_ridge
from dataloupe.solve._mixture import FOLDS

K, N, M = 400, 60, 12


def planted(dense, sparse, noise=1.0, seed=0):
    """Half of the weights small and known to a prior but for noise, a few large and unknown."""
    rng = np.random.default_rng(seed)
    masks = rng.random((K, N)) < 0.5
    small = dense * rng.standard_normal((M, N))
    large = sparse * rng.standard_normal((M, N)) * (rng.random((M, N)) < 0.05)
    y = masks @ (small + large).T + noise * rng.standard_normal((K, M))
    return masks, y, small + 0.3 * dense * rng.standard_normal((M, N)), small + large


def error(weights, truth):
    return float(((weights - truth) ** 2).sum())


def test_it_is_the_weighted_mean_of_both_fits():
    masks, y, prior, _ = planted(0.3, 2.0)
    found = prior_lasso(masks, y, prior)
    ridge = prior_ridge(masks, y, prior)
    parts = SuffStats.split([(masks, y)], folds_of(K, FOLDS), FOLDS)
    sparse = lasso(sum(parts[1:], parts[0]), folds=parts)
    for name in ("weights", "bias"):
        one, two = getattr(ridge, name), getattr(sparse, name)
        mean = (1 - found.share) * one + found.share * two
        np.testing.assert_allclose(getattr(found, name), mean, rtol=1e-6, atol=1e-9)
    assert 0.0 < found.share < 1.0


@pytest.mark.parametrize(("dense", "sparse"), [(1.0, 0.0), (0.0, 3.0), (0.3, 3.0)])
def test_it_is_no_worse_than_the_better_of_the_two(dense, sparse):
    masks, y, prior, truth = planted(dense, sparse)
    found = prior_lasso(masks, y, prior)
    each = [error(found.ridge.weights, truth), error(found.lasso.weights, truth)]
    assert error(found.weights, truth) < 1.1 * min(each)


def test_where_both_know_something_it_beats_either():
    masks, y, prior, truth = planted(0.3, 2.0)
    found = prior_lasso(masks, y, prior)
    each = [error(found.ridge.weights, truth), error(found.lasso.weights, truth)]
    assert error(found.weights, truth) < min(each)


def test_the_share_is_the_least_squares_one():
    """What is held out was in neither fit; no other share predicts it better."""
    masks, y, prior, _ = planted(0.3, 2.0)
    found = prior_lasso(masks, y, prior)
    fold = folds_of(K, FOLDS)
    others, held = fold < FOLDS - 1, fold == FOLDS - 1
    ridge = prior_ridge(masks[others], y[others], prior, similarities=(found.ridge.similarity,))
    parts = SuffStats.split([(masks[others], y[others])], fold[others], FOLDS - 1)
    sparse = lasso(sum(parts[1:], parts[0]), folds=parts)

    def missed(share):
        weights = (1 - share) * ridge.weights + share * sparse.weights
        errors = y[held] - masks[held] @ weights.T
        spread = y[held] - y[held].mean(axis=0)
        return float(((errors - errors.mean(axis=0)) ** 2).sum(axis=0) @ (1 / (spread**2).sum(axis=0)))

    assert missed(found.share) <= min(missed(share) for share in np.linspace(0, 1, 41)) + 1e-9
    ours, theirs, both = found.held_out
    assert both.mean() >= max(ours.mean(), theirs.mean()) - 1e-9


def test_a_prior_of_nothing_leaves_the_better_of_lasso_and_ridge():
    masks, y, _, truth = planted(0.0, 3.0)
    found = prior_lasso(masks, y, np.zeros((M, N)))
    assert found.share > 0.8
    assert error(found.weights, truth) < 1.1 * error(found.lasso.weights, truth)


def test_too_few_rows_are_refused():
    masks, y, prior, _ = planted(0.3, 2.0)
    with pytest.raises(BadInput, match="dl-771"):
        prior_lasso(masks[:7], y[:7], prior)
