"""Calibration on removals: intervals that hold for selected rows, and none where nothing is known."""

import numpy as np
import pytest

from dataloupe._errors import BadInput
from dataloupe.apps._predict_removal import predict_removal
from dataloupe.core import DenseAttribution, Info, Outcomes, Subsets, laws_in, standings
from dataloupe.methods import calibrate, calibration_removals

N, M = 300, 40


def world(seed, *, noise=0.1, ratio=2.0, error=0.3):
    """Scores whose selected rows do ``ratio`` of what they say, each target in its own measure; and how to retrain."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_t(3, (M, N)) * 0.1
    own = ratio * (1 + error * rng.uniform(-1, 1, M))  # [m]

    def measure(subsets, repeats):
        removed = (~subsets.masks()).astype(np.float64)  # [k, n]
        linear = -removed @ scores.T
        change = linear * np.where(np.abs(linear) > 0.15 * np.sqrt(removed.sum(1))[:, None] * 3, own, 1.0)
        shape = (subsets.count, repeats, M)
        size = np.sqrt(np.maximum(removed.sum(1), 0.0))[:, None, None]
        values = 3.0 + change[:, None] + noise * size * rng.standard_normal(shape)
        return Outcomes(subsets, values.astype(np.float32), np.zeros(shape[:2], np.uint8)), change

    return DenseAttribution(scores, Info("scores"), units="relative"), measure


def test_the_removals_are_top_rows_bottom_rows_and_rows_at_random_with_their_controls():
    scores, _ = world(0)
    subsets = calibration_removals(scores, seed=3)
    removed = ~subsets.masks()
    assert subsets.count == 34 and not removed[:4].any()
    assert removed.sum(axis=1).max() == 30 and removed[4:].any(axis=1).all()
    share = np.array([standings(scores.scores, np.flatnonzero(row))[1] for row in removed[4:]])
    assert (np.abs(share[:21]).max(axis=1) > 1 - 1e-6).all(), "each is what some target has most of"
    assert sorted(set(subsets.blocks.tolist())) == [0, 1, 2, 3], "controls share their training seeds"
    with pytest.raises(BadInput, match="dl-724"):
        calibration_removals(scores, count=9)


def test_intervals_hold_for_selected_rows_and_rows_at_random():
    held = {"top": [], "random": []}
    for seed in range(12):
        scores, measure = world(seed)
        found = calibrate(scores, measure(calibration_removals(scores, seed=seed), 2)[0])
        rng = np.random.default_rng(seed)
        for j in range(0, M, 2):
            for kind, rows in (("top", scores.top(j, 20)), ("random", rng.choice(N, 20, replace=False))):
                change = measure(Subsets.without(N, [rows]), 1)[1][0, j]
                _, interval, _ = predict_removal(found, j, rows, 0.95)
                held[kind].append(interval[0] <= change <= interval[1])
    assert np.mean(held["top"]) >= 0.93
    assert np.mean(held["random"]) >= 0.93


def test_beyond_what_was_removed_there_is_no_interval():
    scores, measure = world(1)
    found = calibrate(scores, measure(calibration_removals(scores), 2)[0])
    _, interval, notes = predict_removal(found, 0, scores.top(0, 60), 0.95)
    assert interval is None and "removed 30 at most" in notes[0]


def test_scores_calibrated_on_halves_have_no_interval_for_selected_rows():
    scores, measure = world(2)
    found = calibrate(scores, measure(Subsets(n=N, count=20), 2)[0])
    for rows in (scores.top(0, 10), np.arange(10)):
        _, interval, notes = predict_removal(found, 0, rows, 0.95)
        assert interval is None and "calibration_removals" in notes[0]


def test_the_laws_travel_with_the_attribution():
    scores, measure = world(3)
    found = calibrate(scores, measure(calibration_removals(scores), 2)[0])
    again = DenseAttribution.from_arrays(*found.to_arrays())
    assert laws_in(again.uncertainty.laws) == laws_in(found.uncertainty.laws)
    rows = scores.top(5, 12)
    assert predict_removal(again, 5, rows, 0.95) == predict_removal(found, 5, rows, 0.95)
