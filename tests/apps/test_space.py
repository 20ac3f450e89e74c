"""The space of score rows: planted groups and directions are found, and retraining parts their targets."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError, TrainingError
from dataloupe.apps import clusters, neighbours, principal, removal_of_direction
from dataloupe.core import DenseAttribution, Examples, Info, MemoryLab, Outcomes, Question
from dataloupe.testing import RidgeLearner


def by_hand(scores, **more):
    return DenseAttribution(np.asarray(scores, dtype=np.float64), Info("by hand"), **more)


# --- neighbours ---


def test_neighbours_are_tops_and_cosines():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((12, 30))
    attribution = by_hand(scores)
    found = neighbours(attribution, 4, k=6)
    assert found.helps.tolist() == attribution.top(4, 6).tolist()
    assert found.hurts.tolist() == attribution.top(4, 6, sign="hurts").tolist()
    assert found.help_scores == pytest.approx(np.sort(scores[4])[::-1][:6], rel=1e-5)
    unit = scores / np.linalg.norm(scores, axis=1, keepdims=True)
    cosines = unit @ unit[4]
    cosines[4] = -2
    assert found.targets.tolist() == np.argsort(-cosines)[:6].tolist()
    assert found.cosines == pytest.approx(np.sort(cosines)[::-1][:6], abs=1e-5)
    assert 4 not in found.targets


def test_size_does_not_make_a_neighbour():
    scores = np.array([[1.0, 2.0, 0.0], [50.0, 0.0, 50.0], [0.01, 0.02, 0.0], [0.0, 0.0, 0.0]])
    found = neighbours(by_hand(scores), 0, k=3)
    assert found.targets.tolist() == [2, 1, 3]
    assert found.cosines[2] == 0
    assert neighbours(by_hand(scores), 3, k=3).targets.tolist() == [0, 1, 2], "ties by number"
    assert "like 2 (1.00)" in str(found)
    assert json.loads(json.dumps(found.to_json()))["targets"] == [2, 1, 3]
    for k in (0, 4):
        with pytest.raises(BadInput, match="dl-759"):
            neighbours(by_hand(scores), 0, k=k)
    with pytest.raises(BadInput, match="dl-109"):
        neighbours(by_hand(scores), 4)


# --- clusters ---


def blocks(seed, sizes=(25, 15, 10), noise=0.3):
    """Targets of a group share the training rows that move them; sizes of the effects differ freely."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    pattern = np.repeat(np.eye(len(sizes)), 20, axis=1)
    scores = (pattern[group] + noise * rng.standard_normal((len(group), 20 * len(sizes)))) * np.exp(
        2 * rng.standard_normal((len(group), 1))
    )
    order = rng.permutation(len(group))
    return scores[order], group[order]


@pytest.mark.parametrize("seed", range(4))
def test_planted_groups_are_found(seed):
    scores, group = blocks(seed)
    found = clusters(by_hand(scores), 3, seed=seed)
    assert adjusted_rand_score(group, found.labels) == 1.0
    assert found.sizes.tolist() == [25, 15, 10]
    for g in range(3):
        assert found.labels[found.central[g]] == g
        planted = group[found.central[g]]
        assert set(found.top[g] // 20) == {planted}


def test_clusters_are_a_pure_function_of_their_seed_and_follow_the_targets():
    scores, _ = blocks(7, noise=1.5)
    once, again = clusters(by_hand(scores), 4, seed=3), clusters(by_hand(scores), 4, seed=3)
    np.testing.assert_array_equal(once.labels, again.labels)
    order = np.random.default_rng(0).permutation(len(scores))
    clean, _ = blocks(7)
    moved = clusters(by_hand(clean[order]), 3)
    assert adjusted_rand_score(clusters(by_hand(clean), 3).labels[order], moved.labels) == 1.0
    assert "groups of 25, 15, 10" in str(moved)
    assert len(json.loads(json.dumps(moved.to_json()))["labels"]) == 50


def test_groups_that_cannot_be_meant():
    scores, _ = blocks(0)
    for k in (1, 51):
        with pytest.raises(BadInput, match="dl-759"):
            clusters(by_hand(scores), k)


# --- principal directions ---


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_principal_is_the_centred_svd(shape):
    rng = np.random.default_rng(1)
    scores = rng.standard_normal(shape) @ np.diag(0.7 ** np.arange(shape[1]))
    found = principal(by_hand(scores), components=3)
    centred = scores - scores.mean(0)
    _, size, right = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.directions @ right[:3].T), np.eye(3), atol=1e-4)
    np.testing.assert_allclose(found.explained, size[:3] ** 2 / (size**2).sum(), rtol=1e-4)
    np.testing.assert_allclose(found.coordinates, centred @ found.directions.T, atol=1e-4)
    assert found.effective_dimension == pytest.approx((size**2).sum() ** 2 / (size**4).sum(), rel=1e-4)
    assert (found.directions[np.arange(3), np.abs(found.directions).argmax(1)] > 0).all()
    np.testing.assert_array_equal(principal(by_hand(scores), 3).directions, found.directions)


def test_the_ends_of_a_direction():
    scores = np.outer([2.0, -2.0, 1.0, -1.0], [0.5, 0.0, -0.8, 0.1])
    found = principal(by_hand(scores), components=1)
    top, bottom = found.rows(0, 1)
    assert (top.tolist(), bottom.tolist()) == ([2], [0])
    top, bottom = found.targets(0, 2)
    assert (top.tolist(), bottom.tolist()) == ([1, 3], [0, 2])
    assert found.effective_dimension == pytest.approx(1.0)
    assert "100.0%" in str(found)
    assert len(json.loads(json.dumps(found.to_json()))["coordinates"]) == 4
    for k in (0, 3):
        with pytest.raises(BadInput, match="dl-759"):
            found.rows(0, k)
    with pytest.raises(BadInput, match="dl-109"):
        found.targets(1, 1)


def test_directions_that_cannot_be_meant():
    with pytest.raises(BadInput, match=r"dl-759.*same scores"):
        principal(by_hand(np.ones((4, 5))), 1)
    for components in (0, 4):
        with pytest.raises(BadInput, match="dl-759"):
            principal(by_hand(np.eye(4, 5)), components)


# --- a direction removed ---


def two_worlds(noise=0.0):
    """Rows 0..19 teach feature 0, rows 20..39 feature 1; ten targets read each. The scores are leave-one-out effects."""
    rng = np.random.default_rng(0)
    x = np.repeat(np.eye(2), 20, axis=0) + 0.05 * rng.standard_normal((40, 2))
    train = Examples(torch.tensor(x, dtype=torch.float32), torch.full((40,), 2.0))
    phi = np.repeat(np.eye(2), 10, axis=0) + 0.05 * rng.standard_normal((20, 2))
    targets = Examples(torch.tensor(phi, dtype=torch.float32), torch.zeros(20))
    question = Question(RidgeLearner(penalty=20.0, noise=noise), train, targets, outputs.value)
    inverse = np.linalg.inv(x.T @ x + 20 * np.eye(2))
    solution = inverse @ x.T @ np.full(40, 2.0)
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
    scores = phi @ inverse @ x.T * ((2.0 - x @ solution) / (1 - leverage))
    return question, by_hand(scores)


def test_aligned_targets_part_and_the_whole_hardly_moves():
    question, scores = two_worlds(noise=0.1)
    space = principal(scores, components=2)
    found = removal_of_direction(question, MemoryLab(), scores, (space, 0), k=8, group=10, verify=6)
    assert found.verdict == "agree"
    assert set(found.top_rows // 20) != set(found.bottom_rows // 20)
    first, second = found.of("top", "top"), found.of("top", "bottom")
    assert first.change < -0.2 < abs(second.change) + 0.2
    assert abs(second.change) < 0.1 * abs(first.change)
    for end in ("top", "bottom"):
        contrast = found.of(end, "contrast")
        assert contrast.predicted == pytest.approx(contrast.change, rel=0.5)
        assert contrast.interval[0] <= contrast.change <= contrast.interval[1]
        assert abs(found.of(end, "all").change) < abs(contrast.change)
    assert abs(found.of("random", "contrast").change) < 0.5 * abs(found.of("top", "contrast").change)
    assert "without 8 top rows" in str(found)
    facts = json.loads(json.dumps(found.to_json()))
    assert len(facts["effects"]) == 12
    assert facts["effects"][0]["on"] == "top"


def test_a_direction_that_points_the_wrong_way_disagrees():
    question, scores = two_worlds()
    wrong = dataclasses.replace(principal(scores, components=1))
    turned = dataclasses.replace(wrong, coordinates=-wrong.coordinates)
    found = removal_of_direction(question, MemoryLab(), scores, (turned, 0), k=5, group=5, verify=2)
    assert found.verdict == "disagree"
    relative = dataclasses.replace(scores, units="relative")
    found = removal_of_direction(question, MemoryLab(), relative, (wrong, 0), k=5, group=5, verify=2)
    assert found.verdict == "agree"
    assert found.of("top", "all").predicted is None


class Told(MemoryLab):
    """A lab where some seeds diverge."""

    def __init__(self, broken):
        super().__init__()
        self.broken = broken

    def outcomes(self, question, subsets, *, repeats=1):
        true = super().outcomes(question, subsets, repeats=repeats)
        status, values = true.status.copy(), true.values.copy()
        status[1, self.broken], values[1, self.broken] = 1, np.nan
        return Outcomes(subsets, values, status)


def test_seeds_that_diverged_are_left_out():
    question, scores = two_worlds(noise=0.1)
    space = principal(scores, components=1)
    found = removal_of_direction(question, Told([0]), scores, (space, 0), k=8, verify=5)
    assert found.repeats == 4
    assert "1 of 5 seeds" in found.notes[0]
    with pytest.raises(TrainingError, match="dl-909"):
        removal_of_direction(question, Told([0, 1]), scores, (space, 0), k=8, verify=3)


def test_a_removal_that_cannot_be_meant_starts_no_work():
    question, scores = two_worlds()
    space = principal(scores, components=1)

    class Untouched(MemoryLab):
        def outcomes(self, question, subsets, *, repeats=1):  # noqa: ARG002
            raise AssertionError("work was started")

    def refused(code, asked=question, attribution=scores, **more):
        options = {"k": 5, **more}
        with pytest.raises((BadInput, CapabilityError), match=code):
            removal_of_direction(asked, Untouched(), attribution, (space, 0), **options)

    refused("dl-733", attribution=by_hand(np.ones((20, 39))))
    refused("dl-733", asked=dataclasses.replace(question, targets=question.targets[:5]))
    refused("dl-731", verify=1)
    refused("dl-759", k=21)
    refused("dl-759", group=11)

    class Finished:
        def models(self):
            return []

        def subsets(self, n):  # noqa: ARG002
            return None

    refused("dl-734", asked=dataclasses.replace(question, learner=Finished()))
