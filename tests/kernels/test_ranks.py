import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dataloupe import kernels
from dataloupe._errors import BadInput
from dataloupe.kernels import _reference as reference

few_values = st.integers(-2, 2).map(float)


@st.composite
def tied_columns(draw):
    k, m, b = draw(st.integers(1, 12)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    x, y = (draw(hnp.arrays(np.float64, (k, m), elements=few_values)) for _ in range(2))
    weights = draw(hnp.arrays(np.int32, (b, k), elements=st.integers(0, 3)))
    weights[:, 0] += weights.sum(axis=1) == 0
    return x, y, weights


@given(tied_columns())
@settings(max_examples=150, deadline=None)
def test_kernel_equals_the_reference_with_ties_and_zero_multiplicities(case):
    x, y, weights = case
    ranks, other = kernels.dense_ranks(x), kernels.dense_ranks(y)
    np.testing.assert_array_equal(ranks, reference.dense_ranks(x))
    np.testing.assert_allclose(
        kernels.rank_correlations(ranks, other, weights),
        reference.rank_correlations(ranks, other, weights),
        atol=1e-12,
    )


@given(tied_columns())
@settings(max_examples=150, deadline=None)
def test_kendalls_tau_equals_the_reference_with_ties(case):
    ranks, other = (kernels.dense_ranks(values) for values in case[:2])
    np.testing.assert_allclose(
        kernels.kendall_tau(ranks, other), reference.kendall_tau(ranks, other), atol=1e-12
    )


def test_every_number_of_threads_gives_the_same_bits(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = (kernels.dense_ranks(rng.standard_normal((40, 9))) for _ in range(2))
    weights = rng.integers(0, 3, (5, 40)).astype(np.int32)
    found = []
    for cores in (1, 2, 4, 16):
        monkeypatch.setattr("numba.core.config.NUMBA_NUM_THREADS", cores)
        found.append(kernels.rank_correlations(x, y, weights))
    assert all((one == found[0]).all() for one in found)


def test_sums_stay_exact_in_long_columns():
    k = 300_000
    ranks = np.arange(k, dtype=np.int32)[None]
    found = kernels.rank_correlations(ranks, ranks[:, ::-1], np.ones((1, k), dtype=np.int32))
    assert found.tolist() == [[-1.0]]


def test_more_entries_than_the_sums_can_hold_are_refused():
    ranks = np.zeros((1, 2), dtype=np.int32)
    with pytest.raises(BadInput, match="dl-900"):
        kernels.rank_correlations(ranks, ranks, np.array([[2_000_000, 1]], dtype=np.int32))
