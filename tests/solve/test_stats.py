"""Sufficient statistics: exact counts, sums that add up, and the same fit whatever the split."""

import dataclasses
import functools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloupe._errors import BadInput
from dataloupe.core import Outcomes, Subsets
from dataloupe.solve import Centred, SuffStats, blocks_of, folds_of


def rows(k=90, n=13, m=3, *, seed=0, fraction=0.5):
    masks = Subsets(n=n, count=k, seed=seed, kind="bernoulli", fraction=fraction).masks()
    return masks, np.random.default_rng(seed).standard_normal((k, m)) + 5.0


def same(a, b, rtol=1e-12):
    assert a.count == b.count
    assert np.array_equal(a.together, b.together)
    for name in ("right", "total", "square"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=rtol, atol=1e-12)


def test_they_are_their_definition():
    masks, y = rows()
    found = SuffStats.of(masks, y)
    assert np.array_equal(found.together, masks.T.astype(int) @ masks)
    assert np.array_equal(found.ones, masks.sum(0))
    np.testing.assert_allclose(found.right, masks.T @ y, rtol=1e-13)
    np.testing.assert_allclose(found.square, (y * y).sum(0), rtol=1e-13)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 60), st.integers(0, 99))
def test_any_split_gives_the_same(k, n, width, seed):
    masks, y = rows(k, n, seed=seed)
    whole = SuffStats.of(masks, y)
    same(SuffStats.stream(blocks_of(masks, y, width)), whole)
    if k >= 4:
        folds = SuffStats.split(blocks_of(masks, y, width), folds_of(k, 2), 2)
        same(folds[0] + folds[1], whole)
        same(whole - folds[1], folds[0], rtol=1e-9)


def test_the_same_units_give_the_same_bits():
    masks, y = rows(300, 20)
    one, two = (SuffStats.stream(blocks_of(masks, y, 64)) for _ in range(2))
    for name in ("together", "right", "total", "square"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


def test_folds_hold_their_rows():
    masks, y = rows(50)
    fold = folds_of(50, 5)
    for number, part in enumerate(SuffStats.split(blocks_of(masks, y, 7), fold, 5)):
        same(part, SuffStats.of(masks[fold == number], y[fold == number]))
    assert np.array_equal(fold, folds_of(50, 5)) and not np.array_equal(fold, folds_of(50, 5, seed=1))


@pytest.mark.parametrize(("k", "fraction", "kind"), [(90, 0.5, np.int16), (200_000, 0.9, np.int32)])
def test_centred_is_the_centred_product(k, fraction, kind):
    """Two bytes hold the deviations of a design whose pairs meet about equally often, four bytes all others."""
    masks, y = rows(k, 8, fraction=fraction)
    if kind == np.int32:
        masks[:, 1] = masks[:, 0]
        masks[: k // 2, 2] = False
    found = SuffStats.of(masks, y).centred()
    x = masks - masks.mean(0)
    assert found.gram.deviations.dtype == kind
    np.testing.assert_allclose(found.dense(), x.T @ x, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(found.right, x.T @ (y - y.mean(0)), rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(found.square, ((y - y.mean(0)) ** 2).sum(0), rtol=1e-9)
    np.testing.assert_allclose(
        Centred.of(masks.astype(float), y).dense(), found.dense(), rtol=1e-9, atol=1e-6
    )


def test_one_example_is_enough_and_ten_thousand_targets_are_not_too_many():
    masks, y = np.array([[True], [False], [True]]), np.arange(30_000.0).reshape(3, 10_000)
    found = SuffStats.of(masks, y).centred()
    assert found.right.shape == (1, 10_000)
    np.testing.assert_allclose(found.dense(), [[2 / 3]])


def outcomes(k=24, n=7, m=2, r=2, *, seed=0, question="one"):
    masks, y = rows(k, n, m * r, seed=seed)
    found = Outcomes.from_arrays(masks | (np.arange(n) == 0), y.reshape(k, r, m))
    return dataclasses.replace(found, facts={"question": question})


def test_blocks_of_a_lab_are_gathered_without_what_diverged():
    whole = outcomes()
    values = whole.values.copy()
    values[[3, 20], 1] = np.nan
    broken = Outcomes.from_arrays(whole.subsets.masks(), values)
    good = np.delete(np.arange(24), [3, 20])
    fold = folds_of(24, 3)
    parts = SuffStats.gather([*broken.split(10)], fold, 3)
    masks, y = whole.subsets.masks()[good], whole.mean()[good]
    for number, part in enumerate(parts):
        mine = fold[good] == number
        same(part, SuffStats.of(masks[mine], y[mine]))
    same(SuffStats.gather([*broken.split(10)])[0], SuffStats.of(masks, y))


def test_two_questions_are_not_mixed():
    one, other = outcomes(question="one"), outcomes(question="other")
    with pytest.raises(BadInput, match=r"dl-770.*one question"):
        SuffStats.gather([one, other])
    [a], [b] = SuffStats.gather([one]), SuffStats.gather([other])
    with pytest.raises(BadInput, match=r"dl-770.*one question"):
        a + b
    assert (a + SuffStats.of(*rows(24, 7, 2))).question == "one"
    assert SuffStats.gather([outcomes(), outcomes(seed=1)])[0].count == 48


@pytest.mark.usefixtures("unchecked")
def test_bad_rows_are_refused():
    masks, y = rows(20)
    with pytest.raises(BadInput, match="dl-700"):
        SuffStats.of(masks, y[:5])
    with pytest.raises(BadInput, match=r"dl-700.*NaN"):
        SuffStats.of(masks, np.where(np.arange(20)[:, None] == 4, np.nan, y))
    with pytest.raises(BadInput, match=r"dl-700.*no rows"):
        SuffStats.stream([])
    with pytest.raises(BadInput, match=r"dl-770.*12 and 3"):
        SuffStats.stream([(masks, y), (masks[:, 1:], y)])
    whole, part = SuffStats.of(masks, y), SuffStats.of(masks[:5], y[:5])
    with pytest.raises(BadInput, match="dl-770"):
        functools.reduce(operator.sub, [part, whole])
    with pytest.raises(BadInput, match="dl-770"):
        whole + SuffStats.of(masks[:, 1:], y)
    with pytest.raises(BadInput, match="dl-771"):
        folds_of(5, 3)
    for fold in (np.zeros(19, int), np.full(20, 2), np.full(20, -1)):
        with pytest.raises(BadInput, match="dl-779"):
            SuffStats.split(blocks_of(masks, y, 7), fold, 2)
