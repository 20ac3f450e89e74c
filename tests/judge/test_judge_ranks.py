import numpy as np
import pytest
import scipy.stats

from dataloupe._errors import BadInput
from dataloupe.judge import Bootstrap, spearman
from dataloupe.kernels import dense_ranks, rank_correlations


@pytest.mark.parametrize("values", [3, 1000])
def test_spearman_is_scipys_with_and_without_ties(values):
    rng = np.random.default_rng(values)
    x, y = rng.integers(0, values, (2, 60, 8)).astype(float)
    expected = [scipy.stats.spearmanr(x[:, j], y[:, j]).statistic for j in range(8)]
    np.testing.assert_allclose(spearman(x, y), expected, atol=1e-12)


def test_a_constant_column_counts_as_zero():
    x = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    assert spearman(x, x).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    "y", [np.zeros((3, 1)), np.zeros((2, 2)), np.array([[0.0, np.nan], [0.0, 0.0], [0.0, 0.0]])]
)
def test_other_shapes_and_nan_are_refused(y):
    with pytest.raises(BadInput, match="dl-903"):
        spearman(np.zeros((3, 2)), y)


def test_a_resample_is_scipy_on_the_repeated_rows():
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 5, (2, 30, 3)).astype(float)
    plan = Bootstrap.draw(30, 3, resamples=7, seed=2)
    found = rank_correlations(dense_ranks(x), dense_ranks(y), plan.subsets)
    for weights, row in zip(plan.subsets, found, strict=True):
        drawn = np.repeat(np.arange(30), weights)
        expected = [scipy.stats.spearmanr(x[drawn, j], y[drawn, j]).statistic for j in range(3)]
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_a_plan_is_a_function_of_its_seed_and_its_first_row_is_the_data():
    one, same, other = (Bootstrap.draw(9, 4, resamples=50, seed=s) for s in (1, 1, 2))
    assert (one.subsets == same.subsets).all()
    assert (one.subsets != other.subsets).any()
    assert (one.subsets[0] == 1).all() and (one.targets[0] == 1).all()
    assert (one.subsets.sum(axis=1) == 9).all() and (one.targets.sum(axis=1) == 4).all()
    assert (one.subsets[1:] == 0).any()


def test_the_bootstrap_of_a_mean_has_the_variance_of_a_mean():
    values = np.random.default_rng(0).standard_normal((1, 50))
    plan = Bootstrap.draw(500, 50, resamples=4000, seed=3)
    means = plan.over_targets(np.repeat(values, 4001, axis=0))
    assert means[0] == pytest.approx(values.mean())
    assert means[1:].std() == pytest.approx(values.std() / np.sqrt(50), rel=0.05)
    low, high = plan.interval(means)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(50), rel=0.06)


@pytest.mark.parametrize("settings", [{"resamples": 1}, {"level": 0.0}, {"level": 1.0}])
def test_settings_of_an_interval_are_checked(settings):
    with pytest.raises(BadInput, match="dl-904"):
        Bootstrap.draw(4, 4, **settings)
