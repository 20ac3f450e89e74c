"""Differences of crossed means: known special cases, an unbiased variance, and coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dataloupe.judge import crossed_difference, crossed_mean


@given(st.integers(0, 10**6), st.integers(2, 8), st.integers(2, 6))
def test_against_a_constant_it_is_the_mean_of_one(seed, t, r):
    a = np.random.default_rng(seed).standard_normal((t, r))
    mean, interval = crossed_difference(a, np.full((t, 3), 2.0))
    expected, wanted = crossed_mean(a)
    assert mean == pytest.approx(expected - 2.0)
    assert interval == pytest.approx(np.array(wanted) - 2.0)


def test_of_one_example_it_is_welchs():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((1, 7)), 3 * rng.standard_normal((1, 4))
    mean, interval = crossed_difference(a, b, 0.9)
    welch = stats.ttest_ind(a[0], b[0], equal_var=False).confidence_interval(0.9)
    assert mean == pytest.approx(a.mean() - b.mean())
    assert interval == pytest.approx(tuple(welch))


def test_what_both_share_cancels():
    rng = np.random.default_rng(1)
    shared = 100 * rng.standard_normal((9, 1))
    a, b = shared + rng.standard_normal((9, 5)), shared + rng.standard_normal((9, 6))
    mean, (low, high) = crossed_difference(a, b)
    expected, wanted = crossed_difference(a - shared, b - shared)
    assert (mean, low, high) == pytest.approx((expected, *wanted))
    assert high - low < 4


def test_nothing_varies_and_order():
    assert crossed_difference(np.ones((3, 2)), np.zeros((3, 4))) == (1.0, (1.0, 1.0))
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((5, 3)), rng.standard_normal((5, 6))
    mean, (low, high) = crossed_difference(a, b)
    assert crossed_difference(b, a) == (pytest.approx(-mean), (pytest.approx(-high), pytest.approx(-low)))


@pytest.mark.parametrize(
    ("models", "examples", "rest"), [(1.0, 1.0, 1.0), (1.0, 0.1, 0.5), (0.1, 1.0, 0.5), (0.0, 0.0, 1.0)]
)
@pytest.mark.parametrize("sizes", [(12, 5, 9), (30, 8, 8)])
def test_it_covers(models, examples, rest, sizes):
    """Of 1,500 drawn problems the interval holds the truth in about 95 %, more where only the rest varies."""
    t, ra, rb = sizes
    rng = np.random.default_rng(3)
    held, count = 0, 1500
    for _ in range(count):
        common = 3 * rng.standard_normal((t, 1))
        a, b = (
            common
            + examples * rng.standard_normal((t, 1))
            + scale * models * rng.standard_normal((1, r))
            + rest * rng.standard_normal((t, r))
            for r, scale in ((ra, 1.0), (rb, 2.0))
        )
        _, (low, high) = crossed_difference(a, b)
        held += low <= 0 <= high
    assert 0.935 <= held / count <= 1.0 if models == examples == 0 else 0.935 <= held / count <= 0.975
