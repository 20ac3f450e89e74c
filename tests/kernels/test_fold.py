"""The compiled fold is the plain one, and both are the formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloupe.kernels import _fold, fold_add, fold_add_reference


def by_hand(out, rows, scales, turns, signs):
    b, d = out.shape
    found = out.clone()
    for e in range(b):
        for i in range(turns.shape[1]):
            for j in range(rows.shape[2]):
                scale = scales[e if len(scales) > 1 else 0, i]
                turn = int(turns[e if len(turns) > 1 else 0, i])
                found[e, (turn + j) % d] += scale * signs[j] * rows[e, i if rows.shape[1] > 1 else 0, j]
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 20),
    st.integers(1, 12),
    st.integers(1, 9),
    st.tuples(*[st.booleans()] * 3),
)
def test_the_compiled_fold_is_the_plain_one(b, k, c, d, shared):
    draws = torch.Generator().manual_seed(b + 10 * k + 100 * c)
    rows = torch.randn(b, 1 if shared[0] else k, c, generator=draws)
    scales = torch.randn(1 if shared[1] else b, k, generator=draws)
    turns = torch.randint(d, (1 if shared[2] else b, k), generator=draws)
    signs = torch.randn(c, generator=draws)
    start = torch.randn(b, d, generator=draws)
    found, reference = start.clone(), start.clone()
    fold_add(found, rows, scales, turns, signs)
    fold_add_reference(reference, rows, scales, turns, signs)
    truth = by_hand(start, rows, scales, turns, signs)
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(reference, truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_threads_share_the_lines_and_change_nothing(threads, shared, monkeypatch):
    draws = torch.Generator().manual_seed(0)
    rows, scales = (
        torch.randn(7, 1 if shared else 90, 300, generator=draws),
        torch.randn(1, 90, generator=draws),
    )
    turns, signs = torch.randint(64, (1, 90), generator=draws), torch.ones(300)
    one, many, asked = torch.zeros(7, 64), torch.zeros(7, 64), []
    fold_add(one, rows, scales, turns, signs)
    pool = _fold._pool
    monkeypatch.setattr(_fold, "_pool", lambda process, count: asked.append(count) or pool(process, count))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        fold_add(many, rows, scales, turns, signs)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, many)
    assert asked == [threads - 1] * (threads - 1), "the work is enough to be shared"


@pytest.mark.usefixtures("unchecked")
def test_fewer_rows_than_lines_are_refused():
    """The compiled loop would read what lies behind them."""
    with pytest.raises(ValueError, match="1 rows"):
        fold_add(
            torch.zeros(3, 8), torch.ones(1, 1, 2), torch.ones(3, 2), torch.zeros(1, 2).long(), torch.ones(2)
        )
    with pytest.raises(ValueError, match="2 scales"):
        fold_add(
            torch.zeros(3, 8), torch.ones(3, 1, 2), torch.ones(2, 2), torch.zeros(1, 2).long(), torch.ones(2)
        )
