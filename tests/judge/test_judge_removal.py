import json

import numpy as np
import pytest
import torch

from dataloupe import outputs
from dataloupe._errors import BadInput, TrainingError
from dataloupe.core import DenseAttribution, Examples, Info, MemoryLab, Outcomes, Question
from dataloupe.judge import removal
from dataloupe.judge._removal import crossed_mean
from dataloupe.testing import RidgeLearner

N, T, D, PENALTY = 24, 6, 3, 0.5


def asked(noise=0.0):
    rng = np.random.default_rng(0)
    x, z = (rng.standard_normal((rows, D)).astype(np.float32) for rows in (N, T))
    beta = rng.standard_normal(D)
    train = Examples(torch.tensor(x), labels=torch.tensor(x @ beta + rng.standard_normal(N)))
    targets = Examples(torch.tensor(z), labels=torch.tensor(z @ beta))
    return Question(RidgeLearner(PENALTY, noise=noise), train, targets, outputs.value)


def solved(question, kept):
    """Ridge by algebra: the outputs [m] of the model of the kept rows."""
    x, y = question.train.inputs.double().numpy()[kept], question.train.labels.numpy()[kept]
    beta = np.linalg.solve(x.T @ x + PENALTY * np.eye(D), x.T @ y)
    return question.targets.inputs.numpy() @ beta


def leave_one_out(question):
    everything = np.arange(N)
    whole = solved(question, everything)
    return np.stack([whole - solved(question, np.delete(everything, i)) for i in range(N)], axis=1)


def test_changes_are_those_of_the_algebra():
    question = asked()
    attribution = DenseAttribution(leave_one_out(question), Info("leave one out"))
    found = removal(question, MemoryLab(), attribution, targets=[4, 1], k=3, repeats=2)
    whole = solved(question, np.arange(N))
    for j, change in zip([4, 1], found.top_change, strict=True):
        kept = np.setdiff1d(np.arange(N), np.argsort(-attribution.scores[j])[:3])
        assert change == pytest.approx(solved(question, kept)[j] - whole[j], abs=1e-5)
    assert found.targets.tolist() == [4, 1]
    assert found.top_mean == pytest.approx(found.top_change.mean())


def test_good_scores_agree_negated_disagree_and_random_ones_decide_nothing():
    question, lab = asked(noise=0.05), MemoryLab()
    scores = leave_one_out(question)

    def verdict(scores):
        attribution = DenseAttribution(scores, Info("by hand"))
        return removal(question, lab, attribution, targets=range(T), k=4, repeats=3)

    good, bad = verdict(scores), verdict(-scores)
    assert (good.verdict, bad.verdict) == ("agree", "disagree")
    assert good.top_mean < good.random_mean < bad.top_mean
    assert good.random_change.tolist() == bad.random_change.tolist()
    blind = verdict(np.random.default_rng(5).standard_normal(scores.shape))
    assert blind.verdict == "undecided"


def test_random_rows_are_k_rows_of_every_target_its_own_and_fixed_by_the_seed():
    question = asked()
    seen = []

    class Watching(MemoryLab):
        def outcomes(self, question, subsets, *, repeats=1):
            seen.append((subsets.masks(), subsets.paired, repeats))
            return super().outcomes(question, subsets, repeats=repeats)

    attribution = DenseAttribution(leave_one_out(question), Info("leave one out"))
    for seed in (0, 0, 1):
        removal(question, Watching(), attribution, targets=[0, 1, 2], k=5, repeats=2, seed=seed)
    (masks, paired, repeats), (again, _, _), (other, _, _) = seen
    assert paired and repeats == 2
    assert (~masks).sum(axis=1).tolist() == [0] + [5] * 6
    assert not (masks[4] == masks[5]).all()
    assert (masks == again).all()
    assert (masks[:4] == other[:4]).all() and not (masks[4:] == other[4:]).all()


class Breaking(MemoryLab):
    """A lab whose run of treatment `broken` diverges once."""

    def __init__(self, broken):
        super().__init__()
        self.broken = broken

    def outcomes(self, question, subsets, *, repeats=1):
        found = super().outcomes(question, subsets, repeats=repeats)
        values = found.values.copy()
        values[self.broken, 0] = np.nan
        status = found.status.copy()
        status[self.broken, 0] = 1
        return Outcomes(found.subsets, values, status, found.removal)


def test_a_target_with_a_diverged_run_is_left_out_and_counted():
    question = asked()
    attribution = DenseAttribution(leave_one_out(question), Info("leave one out"))
    settings = {"targets": [0, 1, 2], "k": 2, "repeats": 2}
    whole = removal(question, MemoryLab(), attribution, **settings)
    found = removal(question, Breaking([5]), attribution, **settings)  # the random arm of target 1
    assert (found.targets.tolist(), found.left_out) == ([0, 2], 1)
    assert found.top_change.tolist() == whole.top_change[[0, 2]].tolist()
    for broken in ([0], [1, 2, 6]):
        with pytest.raises(TrainingError, match="dl-909"):
            removal(question, Breaking(broken), attribution, **settings)


class Untouched(MemoryLab):
    """A lab that must not be asked."""

    def _model(self, *_):
        raise RuntimeError("trained although the settings are wrong")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"k": 0}, "dl-908"),
        ({"k": N}, "dl-908"),
        ({"repeats": 1}, "dl-908"),
        ({"targets": [T]}, "dl-109"),
        ({"targets": []}, "dl-108"),
        ({"targets": [1, 1]}, "dl-110"),
    ],
)
def test_bad_settings_are_refused_before_any_training(change, code):
    question = asked()
    attribution = DenseAttribution(np.zeros((T, N)), Info("zero"))
    with pytest.raises(BadInput, match=code):
        removal(question, Untouched(), attribution, **{"targets": [0], "k": 2, "repeats": 2, **change})


def test_an_attribution_of_another_question_is_refused():
    with pytest.raises(BadInput, match=rf"dl-908.*{N} examples and {T} target rows"):
        removal(asked(), Untouched(), DenseAttribution(np.zeros((T, 5)), Info("other")), targets=[0], k=2)


@pytest.mark.parametrize(("targets", "repeats"), [(1, 3), (6, 3), (20, 4)])
def test_the_interval_of_a_crossed_mean_covers(targets, repeats):
    rng = np.random.default_rng(targets)
    of_target = rng.standard_normal((1500, targets, 1)) * (targets > 1)
    of_seed = rng.standard_normal((1500, 1, repeats))
    rest = rng.standard_normal((1500, targets, repeats))
    ends = [crossed_mean(changes)[1] for changes in of_target + of_seed + rest]
    assert 0.92 <= np.mean([low <= 0 <= high for low, high in ends]) <= 0.99


def test_changes_without_any_spread_are_certain():
    assert crossed_mean(np.full((3, 2), 0.25)) == (0.25, (0.25, 0.25))


def test_how_it_reads_and_travels():
    question = asked(noise=0.1)
    attribution = DenseAttribution(leave_one_out(question), Info("leave one out"))
    found = removal(question, MemoryLab(), attribution, targets=[0, 3], k=2, repeats=2)
    (low, high) = found.top_interval
    assert str(found).startswith(
        f"removing the top 2 moves the output by {found.top_mean:+.2f} [{low:.2f}, {high:.2f}], 2 random ones by "
    )
    assert str(found).endswith(f": {found.verdict}; 2 targets x 2 seeds")
    told = json.loads(json.dumps(found.to_json()))
    assert told["targets"] == [0, 3] and told["random_interval"] == list(found.random_interval)
