"""What retrainings did: shapes, diverged runs, means."""

import numpy as np
import pytest

from dataloupe._errors import BadInput
from dataloupe.core import Outcomes, Subsets

MASKS = np.array([[True, False, True], [False, True, True], [True, True, False]])


def outcomes(values, status=None):
    values = np.asarray(values, dtype=np.float32)
    status = (
        np.zeros(values.shape[:2], dtype=np.uint8) if status is None else np.asarray(status, dtype=np.uint8)
    )
    return Outcomes(Subsets.listed(MASKS), values, status)


def test_means_over_the_seeds_that_are_ok():
    nan = float("nan")
    found = outcomes([[[1.0], [3.0]], [[nan], [5.0]], [[nan], [nan]]], [[0, 0], [1, 0], [1, 1]])
    assert found.mean()[:2].tolist() == [[2.0], [5.0]] and np.isnan(found.mean()[2]).all()
    assert found.diverged == 3 and found.repeats == 2 and found.m == 1
    whole = found.complete()
    assert whole.subsets.masks().tolist() == MASKS[:1].tolist() and whole.values.tolist() == [[[1.0], [3.0]]]


def test_a_users_own_truth_counts_its_diverged_runs():
    found = Outcomes.from_arrays(MASKS, [[1.0, 2.0], [float("nan"), 1.0], [0.0, 0.0]])
    assert found.status.tolist() == [[0], [1], [0]] and np.isnan(found.values[1]).all()


def test_a_split_is_one_part_to_tune_on_and_one_to_report():
    tune, report = outcomes(np.arange(3.0).reshape(3, 1, 1)).split(1)
    assert tune.values.ravel().tolist() == [0] and report.values.ravel().tolist() == [1, 2]
    assert report.subsets.masks().tolist() == MASKS[1:].tolist()
    with pytest.raises(BadInput, match="dl-404"):
        report.split(2)


def test_blocks_are_the_whole():
    found = outcomes(np.arange(6.0).reshape(3, 1, 2))
    masks, means = zip(*found.blocks(2), strict=True)
    assert np.array_equal(np.concatenate(masks), MASKS) and np.array_equal(
        np.concatenate(means), found.mean()
    )


def test_bad_outcomes_are_refused():
    with pytest.raises(BadInput, match="dl-401"):
        outcomes(np.zeros((2, 1, 1)))
    with pytest.raises(BadInput, match="dl-401"):
        Outcomes.from_arrays(MASKS, np.zeros(3))
    with pytest.raises(BadInput, match="dl-402.*subset 1, seed 0"):
        outcomes([[[0.0]], [[float("inf")]], [[0.0]]])
    with pytest.raises(BadInput, match="dl-403"):
        outcomes(np.full((3, 1, 1), np.nan), [[1], [1], [1]]).complete()
