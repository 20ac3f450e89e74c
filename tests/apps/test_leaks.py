"""Leaks: planted copies are found, however loud the other rows are; closed forms, ties and bad input."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dataloupe import outputs
from dataloupe._errors import BadInput
from dataloupe.apps import _leaks, leaks
from dataloupe.core import DenseAttribution, Examples, Info, MemoryLab, Question, Subsets, Uncertainty
from dataloupe.methods import Datamodel
from dataloupe.testing import RidgeLearner


def by_hand(scores, **more):
    return DenseAttribution(np.asarray(scores, dtype=np.float64), Info("by hand"), **more)


def world(seed, n=200, m=60, d=30, copies=20, noise=0.1):
    """Scores phi . x times how loud a row is; the last rows are noisy copies of the first targets."""
    rng = np.random.default_rng(seed)
    phi = rng.standard_normal((m, d))
    x = rng.standard_normal((n, d))
    x[n - copies :] = phi[:copies] + noise * rng.standard_normal((copies, d))
    loud = np.exp(rng.standard_normal(n))
    loud[n - copies :] *= 0.2
    truth = np.zeros((m, n), dtype=bool)
    truth[np.arange(copies), n - copies + np.arange(copies)] = True
    return phi @ x.T * loud, truth


def every(scores, **more):
    """The score of every pair."""
    attribution = by_hand(scores)
    found = leaks(attribution, attribution.m * attribution.n, **more)
    pairs = np.full(np.shape(scores), np.nan)
    pairs[found.targets, found.rows] = found.scores
    return found, pairs


# --- planted copies ---


@pytest.mark.parametrize("seed", range(5))
def test_planted_copies_are_found_and_raw_weights_miss_them(seed):
    scores, truth = world(seed)
    found, profile = every(scores)
    _, weight = every(scores, by="weight")
    leaked = truth.any(axis=1)
    assert roc_auc_score(truth.ravel(), profile.ravel()) >= 0.999
    assert roc_auc_score(leaked, found.best) >= 0.99
    assert (found.best_rows[leaked] == truth[leaked].argmax(axis=1)).all()
    assert roc_auc_score(leaked, weight.max(axis=1)) < 0.7


def test_copies_are_found_from_retrainings_of_the_ridge_oracle():
    rng = np.random.default_rng(0)
    x, phi = rng.standard_normal((70, 12)), rng.standard_normal((30, 12))
    x[60:] = phi[:10]
    labels = rng.standard_normal(70) * 2
    train = Examples(torch.tensor(x, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32))
    targets = Examples(torch.tensor(phi, dtype=torch.float32), torch.zeros(30))
    question = Question(RidgeLearner(penalty=5.0), train, targets, outputs.value)
    datamodel = Datamodel(Subsets(n=70, count=300)).attribute(question, MemoryLab())
    # a row whose residual is near zero moves nothing: its sign is the residual's
    scores = np.abs(every(datamodel.scores)[1])
    truth = np.zeros((30, 70), dtype=bool)
    truth[np.arange(10), 60 + np.arange(10)] = True
    assert roc_auc_score(truth.ravel(), scores.ravel()) >= 0.95


def test_duplicates_within_the_training_data():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((80, 30))
    x[79] = x[3]
    scores = x @ x.T * np.exp(rng.standard_normal(80))
    found = leaks(by_hand(scores), k=2, own=range(80))
    assert {(3, 79), (79, 3)} == set(zip(found.targets.tolist(), found.rows.tolist(), strict=True))
    assert found.scores[0] == pytest.approx(found.scores[1], abs=1e-5)
    assert (found.best_rows != np.arange(80)).all()


# --- closed forms and properties ---


def test_the_profile_is_its_formula():
    scores, _ = world(3, n=40, m=12, copies=4)
    _, pairs = every(scores, ridge=0.2)
    c = scores / np.linalg.norm(scores, axis=0)
    alike = c @ c.T
    soft = np.linalg.inv(alike + 0.2 * np.trace(alike) / 12 * np.eye(12))
    for j, i in ((0, 36), (5, 7), (11, 39)):
        mixture, copy = soft @ c[:, i], soft @ alike[:, j]
        cosine = mixture @ copy / np.linalg.norm(mixture) / np.linalg.norm(copy)
        assert pairs[j, i] == pytest.approx(cosine, abs=1e-6)


def test_the_other_ways_are_their_formulas():
    scores, _ = world(4, n=40, m=12, copies=4)
    median = np.median(scores, axis=1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(scores - median), axis=1, keepdims=True)
    found, row = every(scores, by="row")
    assert row == pytest.approx((scores - median) / spread, rel=1e-4, abs=1e-5)
    assert found.notes == ()
    found, weight = every(scores, by="weight")
    assert weight == pytest.approx(scores, rel=1e-5, abs=1e-6)
    assert "sensitivity" in found.notes[0]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_order_and_loudness_do_not_matter(seed):
    scores, _ = world(seed % 7, n=30, m=10, copies=3)
    rng = np.random.default_rng(seed)
    rows, targets, loud = rng.permutation(30), rng.permutation(10), np.exp(rng.standard_normal(30))
    _, before = every(scores)
    _, after = every((scores * loud)[np.ix_(targets, rows)])
    assert after == pytest.approx(before[np.ix_(targets, rows)], abs=1e-4)


def test_pairs_and_bests_agree_in_blocks(monkeypatch):
    scores, _ = world(5)
    whole = leaks(by_hand(scores), k=50)
    monkeypatch.setattr(_leaks, "BLOCK", 7)
    parts = leaks(by_hand(scores), k=50)
    np.testing.assert_array_equal(whole.rows, parts.rows)
    np.testing.assert_array_equal(whole.best_rows, parts.best_rows)
    assert parts.scores == pytest.approx(whole.scores, abs=1e-6)
    assert whole.scores[0] == whole.best.max()
    assert (np.diff(whole.scores) <= 0).all()


def test_ties_go_by_target_then_row():
    found = leaks(by_hand(np.ones((3, 5))), k=7)
    assert found.targets.tolist() == [0] * 5 + [1] * 2
    assert found.rows.tolist() == [0, 1, 2, 3, 4, 0, 1]
    sparse = leaks(by_hand(np.eye(3, 6)), k=4, by="row")
    assert sparse.targets.tolist()[:3] == [0, 1, 2]


def test_a_threshold_shortens_the_list():
    scores, truth = world(6)
    found = leaks(by_hand(scores), k=100, threshold=0.9)
    assert 0 < len(found) <= 100
    assert found.scores.min() >= 0.9
    assert truth[found.targets, found.rows].mean() > 0.9
    nothing = leaks(by_hand(scores), threshold=2.0)
    assert len(nothing) == 0
    assert nothing.errors is None
    assert "no pair" in str(nothing)


def test_weights_come_with_their_errors():
    scores, _ = world(0)
    known = by_hand(scores, uncertainty=Uncertainty(np.full(60, 0.25)))
    found = leaks(known, k=3)
    assert found.errors == pytest.approx([0.5] * 3)
    assert found.weights == pytest.approx(scores[found.targets, found.rows])
    assert leaks(by_hand(scores), k=3).errors is None


def test_it_goes_to_json_and_reads_as_one_line():
    scores, _ = world(0, m=21)
    found = leaks(by_hand(scores), k=2)
    facts = json.loads(json.dumps(found.to_json()))
    assert facts["rows"] == found.rows.tolist()
    assert facts["notes"] == list(found.notes)
    assert "21 targets" in facts["notes"][0]
    assert f"training row {found.rows[0]}" in str(found)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_meant_is_refused():
    scores = np.random.default_rng(0).standard_normal((4, 6))
    for wrong in ({"k": 0}, {"by": "size"}, {"ridge": 0.0}, {"ridge": np.nan}):
        with pytest.raises(BadInput, match="dl-750"):
            leaks(by_hand(scores), **wrong)
    with pytest.raises(BadInput, match=r"dl-751.*single target"):
        leaks(by_hand(scores[:1]))
    assert len(leaks(by_hand(scores[:1]), by="row", k=6)) == 6
    with pytest.raises(BadInput, match="dl-752"):
        leaks(by_hand(np.zeros((4, 6))))
    for own in ([0], [0, 1, 2, -2]):
        with pytest.raises(BadInput, match="dl-753"):
            leaks(by_hand(scores), own=own)
    with pytest.raises(BadInput, match="dl-109"):
        leaks(by_hand(scores), own=[0, 1, 2, 6])
    with pytest.raises(BadInput, match="dl-111"):
        leaks(by_hand(scores), own=[0.0, 1.0, 2.0, 3.0])
    with pytest.raises(BadInput, match="dl-753"):
        leaks(by_hand(scores[:, :1]), own=[0, -1, -1, -1])


def test_relative_units_rank_as_well():
    scores, _ = world(2)
    relative = dataclasses.replace(by_hand(scores * 75), units="relative")
    assert leaks(relative).rows.tolist() == leaks(by_hand(scores)).rows.tolist()
