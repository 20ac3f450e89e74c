"""Group influences: exact where outputs are linear in the groups, intervals that cover, finds that hold."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloupe import outputs
from dataloupe._errors import BadInput
from dataloupe.apps import group_influences, group_subsets, pool_targets
from dataloupe.core import Examples, MemoryLab, Outcomes, Question, Subsets
from dataloupe.judge import lds
from dataloupe.testing import RidgeLearner

SIZES = (3, 1, 4, 2, 2, 3)
LABELS = np.repeat(np.arange(6), SIZES)


def every_choice(count=6, kept=3):
    """All subsets that keep so many of the groups, by examples."""
    rows = np.zeros((0, count), dtype=bool)
    for chosen in itertools.combinations(range(count), kept):
        rows = np.vstack([rows, np.isin(np.arange(count), chosen)])
    return rows


def linear(rows, theta, noise=0.0, seed=0):
    """Outcomes that are linear in the groups kept: theta ``[m, G]``."""
    rng = np.random.default_rng(seed)
    values = 0.7 + rows @ theta.T + noise * rng.standard_normal((len(rows), len(theta)))
    return Outcomes.from_arrays(rows[:, LABELS], values)


def against_others(theta):
    """theta_g minus the mean of theta over the other groups."""
    total, count = theta.sum(axis=1, keepdims=True), theta.shape[1]
    return theta - (total - theta) / (count - 1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-3, 3, width=32), min_size=6, max_size=6), st.integers(2, 4))
def test_a_fixed_number_of_groups_gives_the_contrast_exactly(theta, kept):
    theta = np.array([theta])
    found = group_influences(linear(every_choice(kept=kept), theta), LABELS)
    assert found.contrast
    np.testing.assert_allclose(found.influence, against_others(theta), atol=1e-5)
    assert abs(found.influence.sum()) < 1e-5


def test_regression_finds_the_same_numbers_from_few_subsets():
    theta = np.random.default_rng(0).standard_normal((4, 6))
    rows = every_choice()[::2]
    by_regression = group_influences(linear(rows, theta), LABELS, estimator="regression")
    np.testing.assert_allclose(by_regression.influence, against_others(theta), atol=1e-4)
    by_means = group_influences(linear(rows, theta), LABELS)
    assert np.abs(by_means.influence - against_others(theta)).max() > 0.1, "the others' part is noise to it"
    assert (by_regression.error < by_means.error).all()


def test_groups_kept_independently_give_the_effects_themselves():
    rows = np.array(list(itertools.product([False, True], repeat=6)))[1:]
    theta = np.random.default_rng(1).standard_normal((3, 6)) + 2.0
    outcomes = linear(rows, theta)
    found = group_influences(outcomes, LABELS, estimator="regression")
    assert not found.contrast
    np.testing.assert_allclose(found.influence, theta, atol=1e-4)


def test_on_retrainings_of_ridge_regression():
    """Features of a group's own: its effect on a target along its axis is algebra, the others do nothing."""
    x, y = torch.eye(6)[LABELS], torch.ones(len(LABELS))
    question = Question(
        RidgeLearner(penalty=1.0), Examples(x, y), Examples(torch.eye(6), torch.zeros(6)), outputs.value
    )
    subsets = Subsets(n=len(LABELS), count=40, kind="groups", groups=LABELS)
    outcomes = MemoryLab().outcomes(question, subsets)
    found = group_influences(outcomes, LABELS)
    own = np.array(SIZES) / (np.array(SIZES) + 1.0)  # s y / (s + penalty) with the group, 0 without
    np.testing.assert_allclose(np.diag(found.influence), own, atol=1e-6)
    assert np.diag(found.found).all() and (np.diag(found.p) < 1e-50).all()
    assert found.removal == "repack" and found.subsets == 40


# --- intervals and finds ---


@pytest.mark.parametrize("estimator", ["means", "regression"])
@pytest.mark.parametrize("kind", ["fixed", "independent"])
def test_intervals_cover_the_truth(estimator, kind):
    """2,000 targets are 2,000 experiments: effects and noise of their own."""
    groups = np.arange(8)
    rng = np.random.default_rng(3)
    covered = []
    for seed in range(4):
        subsets = (
            Subsets(n=8, count=60, kind="groups", groups=groups, seed=seed)
            if kind == "fixed"
            else group_subsets(groups, 60, seed=seed)
        )
        theta = rng.standard_normal((2000, 8))
        values = subsets.masks() @ theta.T + 2.0 * rng.standard_normal((60, 2000))
        found = group_influences(Outcomes.from_arrays(subsets.masks(), values), groups, estimator=estimator)
        truth = against_others(theta) if kind == "fixed" else theta
        covered.append(((found.low <= truth) & (truth <= found.high)).mean())
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("estimator", ["means", "regression"])
def test_the_share_of_false_finds_is_held(estimator):
    rng = np.random.default_rng(5)
    groups = np.arange(40)
    false, power = [], []
    for seed in range(12):
        masks = group_subsets(groups, 200, seed=seed).masks()
        theta = np.zeros((5, 40))
        theta[:, :8] = 0.8
        values = masks @ theta.T + rng.standard_normal((200, 5))
        found = group_influences(Outcomes.from_arrays(masks, values), groups, estimator=estimator).found
        false.append(found[:, 8:].sum() / max(found.sum(), 1))
        power.append(found[:, :8].mean())
    assert np.mean(false) <= 0.07
    assert np.mean(power) > 0.5


def test_without_any_effect_nothing_is_found():
    rng = np.random.default_rng(6)
    masks = Subsets(n=10, count=100, kind="groups", groups=np.arange(10)).masks()
    found = group_influences(
        Outcomes.from_arrays(masks, rng.standard_normal((100, 50))), np.arange(10), discovery=0.01
    )
    assert found.found.sum() <= 1
    assert 0.02 < (found.p < 0.05).mean() < 0.09
    assert (found.q >= found.p).all()


# --- what comes with them ---


def test_the_attribution_predicts_such_subsets_and_can_be_judged():
    theta = np.random.default_rng(0).standard_normal((4, 6))
    rows = every_choice()
    found = group_influences(linear(rows, theta), LABELS)
    attribution = found.attribution()
    subsets = Subsets.listed(rows[:, LABELS])
    np.testing.assert_allclose(attribution.predict(subsets), linear(rows, theta).mean(), atol=1e-5)
    assert lds(attribution, linear(rows, theta, noise=0.1, seed=9)).value > 0.9
    group = np.flatnonzero(LABELS == 2)
    np.testing.assert_allclose(
        attribution.effect([group])[0], -found.influence[:, 2] * 5 / 6, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(attribution.error([group])[0], found.error[:, 2] * 5 / 6, rtol=1e-5)
    assert "average other group" in attribution.info.note and attribution.info.fraction == 0.5


def test_independent_groups_need_no_scale():
    rows = group_subsets(np.arange(6), 64, seed=1).masks()
    theta = np.random.default_rng(0).standard_normal((2, 6))
    attribution = group_influences(linear(rows, theta), LABELS, estimator="regression").attribution()
    np.testing.assert_allclose(
        attribution.predict(Subsets.listed(rows[:, LABELS])), linear(rows, theta).mean(), atol=1e-3
    )


def test_pools_average_targets_before_the_error_is_taken():
    """Targets that share all their noise: the mean over ten of them is as uncertain as one."""
    rng = np.random.default_rng(2)
    masks = Subsets(n=6, count=60, kind="groups", groups=np.arange(6)).masks()
    shared = rng.standard_normal((60, 1)) + np.zeros((60, 10))
    one = group_influences(Outcomes.from_arrays(masks, shared[:, :1]), np.arange(6))
    mean = group_influences(pool_targets(Outcomes.from_arrays(masks, shared)), np.arange(6))
    np.testing.assert_allclose(mean.error, one.error, rtol=1e-4)
    pooled = pool_targets(Outcomes.from_arrays(masks, shared * np.arange(10)), np.repeat([7, 3], 5))
    np.testing.assert_allclose(pooled.mean(), shared[:, :1] * [7.0, 2.0], rtol=1e-5, atol=1e-6)


def test_seeds_are_averaged_and_diverged_subsets_left_out():
    rows = every_choice()
    theta = np.random.default_rng(0).standard_normal((1, 6))
    values = np.stack([linear(rows, theta, 0.5, seed).values[:, 0] for seed in (1, 2)], axis=1)
    values[3, 1] = np.nan
    found = group_influences(Outcomes.from_arrays(rows[:, LABELS], values), LABELS)
    kept = np.arange(20) != 3
    y, has = values[kept, :, 0].mean(axis=1), rows[kept, 0]
    assert found.influence[0, 0] == pytest.approx(y[has].mean() - y[~has].mean(), abs=1e-5)
    assert found.error[0, 0] == pytest.approx(
        np.sqrt(y[has].var(ddof=1) / has.sum() + y[~has].var(ddof=1) / (~has).sum()), abs=1e-5
    )
    assert found.subsets == 19 and "1 of 20 subsets" in found.notes[-1]


def test_it_reads_and_goes_to_json():
    theta = np.array([[3.0, 0, 0, 0, 0, -3.0]])
    labels = np.array(list("abcdef"))[LABELS]
    names = {"a": "cats", "f": "dogs"}
    found = group_influences(linear(every_choice(), theta, noise=0.3), labels, names=names)
    lines = str(found).split("\n")
    assert lines[0] == (
        "6 groups x 1 outputs from 20 subsets: 2 of 6 influences stand out (false discovery rate 5%)"
    )
    assert lines[1].split()[0] == "cats" and lines[1].endswith("*") and lines[-1].split()[0] == "dogs"
    facts = json.loads(json.dumps(found.to_json()))
    assert facts["groups"] == ["cats", "b", "c", "d", "e", "dogs"]
    assert facts["influence"] == found.influence.tolist() and facts["found"][0][0] is True
    assert "\n" not in str(group_influences(linear(every_choice(), np.vstack([theta, theta])), labels))


def test_subsets_of_groups_are_whole_reproducible_and_never_empty():
    subsets = group_subsets(LABELS, 300, fraction=0.1, seed=4)
    masks = subsets.masks()
    first = np.unique(LABELS, return_index=True)[1]
    assert (masks == masks[:, first][:, LABELS]).all() and masks.any(axis=1).all()
    assert (group_subsets(LABELS, 300, fraction=0.1, seed=4).masks() == masks).all()
    assert (group_subsets(LABELS, 10, fraction=0.1, seed=4).masks() == masks[:10]).all()
    assert len(np.unique(group_subsets(LABELS, 200).masks().sum(axis=1))) > 3


# --- what cannot be meant ---


def test_bad_groups_are_refused():
    rows = every_choice()
    outcomes = linear(rows, np.ones((2, 6)))
    with pytest.raises(BadInput, match=r"dl-760.*one for each of 15 examples"):
        group_influences(outcomes, LABELS[:-1])
    with pytest.raises(BadInput, match="dl-760"):
        group_influences(outcomes, np.zeros(15, dtype=int))
    with pytest.raises(BadInput, match="dl-760"):
        group_influences(outcomes, np.stack([LABELS, LABELS]))
    split = rows[:, LABELS].copy()
    split[7, 0] = not split[7, 0]
    with pytest.raises(BadInput, match=r"dl-760.*subset 7 keeps only a part of group 0"):
        group_influences(Outcomes.from_arrays(split, np.ones((20, 1))), LABELS)
    with pytest.raises(BadInput, match="dl-760"):
        group_subsets(np.zeros(5, dtype=int), 3)


@pytest.mark.parametrize(("with_it", "word"), [(0, "keep it"), (1, "keep it"), (20, "leave it out")])
def test_a_group_needs_two_subsets_on_each_side(with_it, word):
    rows = every_choice().copy()
    rows[:, 5] = np.arange(20) < with_it
    with pytest.raises(BadInput, match=rf"dl-761.*group 5 in {with_it} of 20.*{word}"):
        group_influences(linear(rows, np.ones((1, 6))), LABELS)


def test_bad_settings_are_refused():
    outcomes = linear(every_choice(), np.ones((2, 6)))
    for wrong in ({"level": 95.0}, {"discovery": 0.0}):
        with pytest.raises(BadInput, match="dl-762"):
            group_influences(outcomes, LABELS, **wrong)
    with pytest.raises(BadInput, match=r"dl-761.*more than 7 subsets"):
        group_influences(linear(every_choice()[5:12], np.ones((1, 6))), LABELS, estimator="regression")
    for wrong in ({"count": 0}, {"count": 3, "fraction": 1.0}):
        with pytest.raises(BadInput, match="dl-762"):
            group_subsets(LABELS, **wrong)
    with pytest.raises(BadInput, match="dl-768"):
        pool_targets(outcomes, np.zeros(3))
    diverged = dataclasses.replace(
        outcomes, values=np.full_like(outcomes.values, np.nan), status=np.ones_like(outcomes.status)
    )
    with pytest.raises(BadInput, match="dl-403"):
        group_influences(diverged, LABELS)
