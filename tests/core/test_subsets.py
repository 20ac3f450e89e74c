"""Subset i is a pure function of (seed, i)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloupe._errors import BadInput
from dataloupe._identity import identity
from dataloupe.core import Subsets

recipes = st.builds(
    Subsets,
    n=st.integers(2, 60),
    count=st.integers(1, 12),
    fraction=st.floats(0.3, 1.0),
    kind=st.sampled_from(["fixed", "bernoulli"]),
    seed=st.integers(0, 9),
)


@given(recipes, st.data())
def test_a_mask_does_not_depend_on_which_others_are_asked_for(subsets, data):
    whole = subsets.masks()
    assert whole.shape == (subsets.count, subsets.n) and whole.dtype == bool
    some = data.draw(st.lists(st.integers(0, subsets.count - 1), min_size=1))
    assert np.array_equal(subsets.masks(some), whole[some])
    assert np.array_equal(subsets.first(subsets.count + 3).masks(slice(subsets.count)), whole)
    if subsets.kind == "fixed":
        assert (whole.sum(1) == round(subsets.n * subsets.fraction)).all()


@given(recipes)
def test_a_list_of_masks_is_those_masks(subsets):
    masks = subsets.masks()
    masks[:, 0] = True
    listed = Subsets.listed(masks)
    assert np.array_equal(listed.masks(), masks)
    assert np.array_equal(listed.masks([0]), masks[:1])


def test_members_are_drawn_fairly():
    masks = Subsets(n=40, count=4000, fraction=0.25, seed=3).masks()
    assert np.abs(masks.mean(0) - 0.25).max() < 0.03
    pairs = (masks.astype(float).T @ masks) / 4000
    assert np.abs(pairs[np.triu_indices(40, 1)] - 0.25 * 9 / 39).max() < 0.035


def test_seeds_and_counts():
    a, b = Subsets(n=30, count=5, seed=0), Subsets(n=30, count=5, seed=1)
    assert not np.array_equal(a.masks(), b.masks())
    assert a.recipe == a.first(9).recipe and identity(a) != identity(a.first(9))
    assert a.digest([1, 2]) == a.first(3).digest([1, 2]) != a.digest([0, 1])


def test_groups_stay_together():
    groups = np.array([5, 5, 7, 7, 7, 9, 9, 11])
    masks = Subsets(n=8, count=50, kind="groups", groups=groups).masks()
    for group in (5, 7, 9, 11):
        together = masks[:, groups == group]
        assert (together.all(1) | ~together.any(1)).all()
    assert ({len(set(groups[mask])) for mask in masks}) == {2}


def test_removals_are_paired_with_a_control():
    worlds = Subsets.without(6, [[], [1, 4]])
    assert worlds.masks().tolist() == [[True] * 6, [True, False, True, True, False, True]]
    assert worlds.train_seed(0, 3) == worlds.train_seed(1, 3) != worlds.train_seed(0, 2)
    free = Subsets(n=6, count=2)
    assert len({free.train_seed(k, r) for k in range(4) for r in range(4)}) == 16


def test_seeds_come_in_turn():
    """Blocks of subsets share a training seed, also after some were left out; masks and older recipes stay what they were."""
    shared, free = Subsets(n=6, count=7, seeds=3), Subsets(n=6, count=7)
    assert shared.blocks.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert [shared.train_seed(k, 1) for k in range(7)] == [free.train_seed(k % 3, 1) for k in range(7)]
    assert np.array_equal(shared.masks(), free.masks()) and "seeds" not in free.recipe
    assert shared.recipe == shared.first(9).recipe != free.recipe
    some = shared.part([1, 4, 5])
    assert [some.train_seed(k, 0) for k in range(3)] == [shared.train_seed(k, 0) for k in (1, 4, 5)]
    assert some.first(2).blocks.tolist() == [1, 1] and identity(some) != identity(free.part([1, 4, 5]))
    assert Subsets.without(6, [[], [1]]).blocks.tolist() == [0, 0] and free.blocks.tolist() == list(range(7))


def test_all_the_data():
    assert Subsets.full(5, 3).masks().all()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"n": 0, "count": 1}, "dl-301"),
        ({"n": 5, "count": 0}, "dl-301"),
        ({"n": 5, "count": 1, "fraction": 0.0}, "dl-301"),
        ({"n": 5, "count": 1, "fraction": 1.5}, "dl-301"),
        ({"n": 5, "count": 1, "fraction": 0.01}, "dl-302"),
        ({"n": 5, "count": 1, "kind": "groups"}, "dl-301"),
        ({"n": 5, "count": 1, "kind": "groups", "groups": np.zeros(4)}, "dl-301"),
        ({"n": 5, "count": 3, "seeds": 0}, "dl-301"),
        ({"n": 5, "count": 3, "seeds": np.array([0, 1])}, "dl-301"),
        ({"n": 5, "count": 3, "seeds": np.array([0.0, 1.0, 2.0])}, "dl-301"),
        ({"n": 5, "count": 3, "seeds": 2, "paired": True}, "dl-301"),
    ],
)
def test_bad_recipes_are_refused(arguments, code):
    with pytest.raises(BadInput, match=code):
        Subsets(**arguments)


def test_bad_lists_are_refused():
    with pytest.raises(BadInput, match="dl-302.*subset 1"):
        Subsets.listed(np.array([[True, False], [False, False]]))
    with pytest.raises(BadInput, match="dl-301"):
        Subsets.listed(np.array([[1, 0]]))
    with pytest.raises(BadInput, match="dl-110"):
        Subsets.without(4, [[1, 1]])
    with pytest.raises(BadInput, match="dl-301"):
        Subsets.without(4, [[1]]).first(2)


def test_nothing_is_trained_on_no_example():
    empty = Subsets(n=60, count=40, kind="bernoulli", fraction=0.02)
    first = int((~empty.masks().any(axis=1)).argmax())
    with pytest.raises(
        BadInput, match=rf"dl-302.*60 examples.*0\.02.*subset {first} keeps nothing.*kind='fixed'"
    ):
        empty.refuse_empty()
    Subsets(n=60, count=40, kind="bernoulli", fraction=0.2).refuse_empty()
    with pytest.raises(BadInput, match=r"dl-302.*0\.1 of 3 groups"):
        Subsets(n=6, count=2, kind="groups", groups=np.arange(6) % 3, fraction=0.1)


def test_many_masks_are_not_made_where_none_can_be_empty(monkeypatch):
    monkeypatch.setattr(Subsets, "masks", None)
    Subsets(n=10_000, count=1_000_000, kind="bernoulli", fraction=0.01).refuse_empty()
