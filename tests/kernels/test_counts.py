"""Co-occurrence counts: the fast way and the plain one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloupe.kernels import _reference, co_occurrences, pack_columns


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 150), st.floats(0, 1), st.integers(0, 99))
def test_counts_are_the_plain_ones(k, n, share, seed):
    masks = np.random.default_rng(seed).random((k, n)) < share
    assert np.array_equal(co_occurrences(pack_columns(masks)), _reference.co_occurrences(masks))


@pytest.mark.parametrize("k", [1, 63, 64, 65, 130])
def test_a_column_is_its_bits(k):
    masks = np.random.default_rng(k).random((k, 3)) < 0.5
    words = pack_columns(masks)
    assert words.shape == (3, -(-k // 64))
    for i in range(3):
        bits = [int(words[i, row // 64]) >> (row % 64) & 1 for row in range(k)]
        assert bits == masks[:, i].astype(int).tolist()
