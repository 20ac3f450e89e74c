"""Forget sets: at random, along a planted direction, like a row, by a column."""

import numpy as np
import pytest
import torch

from dataloupe._errors import BadInput
from dataloupe.core import DenseAttribution, Examples, Info
from dataloupe.unlearning import pick_ends, pick_like, pick_random, pick_where


def by_rows(scores):
    return DenseAttribution(np.asarray(scores, dtype=np.float64), Info("planted"))


def planted():
    """60 rows, of which 10 to 19 go one way and 40 to 49 the other."""
    rng = np.random.default_rng(0)
    scores = 0.02 * rng.standard_normal((60, 60))
    way = rng.standard_normal(60)
    scores[10:20] += way
    scores[40:50] -= way
    return by_rows(scores)


def test_random_rows_are_keyed():
    assert (pick_random(50, 7, seed=3) == pick_random(50, 7, seed=3)).all()
    assert len(set(pick_random(50, 7, seed=3)) & set(pick_random(50, 7, seed=4))) < 7


def test_the_ends_of_a_component_are_the_planted_rows():
    ends = [set(pick_ends(planted(), 0, top=10)), set(pick_ends(planted(), 0, bottom=10))]
    assert {frozenset(one) for one in ends} == {frozenset(range(10, 20)), frozenset(range(40, 50))}
    assert set(pick_ends(planted(), 0, top=10, bottom=10)) == {*range(10, 20), *range(40, 50)}


def test_rows_like_a_row_are_of_its_kind():
    assert set(pick_like(planted(), 12, 10)) == set(range(10, 20))


def test_rows_by_label_name_number_and_column():
    data = Examples(
        torch.eye(4),
        labels=torch.tensor([0, 1, 0, 1]),
        names=["cat", "dog"],
        meta={"user": ["a", "b", "a", "c"]},
    )
    assert pick_where(data, "label", "dog").tolist() == [1, 3]
    assert pick_where(data, "label", "0").tolist() == [0, 2]
    assert pick_where(data, "user", "a").tolist() == [0, 2]


def test_what_cannot_be_picked():
    with pytest.raises(BadInput, match="dl-693"):
        pick_ends(by_rows(np.ones((3, 5))), top=1)
    for count in (0, 60, -1):
        with pytest.raises(BadInput, match="dl-694"):
            pick_random(60, count)
    with pytest.raises(BadInput, match="dl-694"):
        pick_ends(planted(), 59, top=3)
    with pytest.raises(BadInput, match="dl-109"):
        pick_like(planted(), 60, 3)
    data = Examples(torch.eye(2), labels=torch.tensor([0, 1]))
    with pytest.raises(BadInput, match="dl-695"):
        pick_where(data, "label", "2")
    with pytest.raises(BadInput, match="dl-695"):
        pick_where(data, "user", "a")
