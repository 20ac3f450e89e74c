"""U-LiRA on planted margins."""

import json

import numpy as np
import pytest
import scipy.stats

from dataloupe._errors import BadInput
from dataloupe.judge import ULiRA, ulira
from dataloupe.judge import _ulira as room


def world(*, models=30, siblings=8, points=40, own=1.0, effect=0.0, seed=0):
    """Base models trained on random halves, each unlearned `siblings` times; `own`: what a base model shares."""
    rng = np.random.default_rng(seed)
    bases = np.repeat(np.arange(models), siblings)
    trained = rng.random((models, points)) < 0.5
    forgotten = rng.random((len(bases), points)) < 0.4
    roles = np.where(trained[bases], forgotten.astype(int), -1)
    margins = own * rng.standard_normal((models, points))[bases] + 0.3 * rng.standard_normal(roles.shape)
    return margins + effect * (roles == 1), roles, bases


def attacked_by_trial(margins, roles):
    """The attack as published: shadows and targets split by trial, whatever their base model."""
    right = []
    for fold in range(5):
        target = np.arange(len(margins)) % 5 == fold
        for x in range(margins.shape[1]):
            fits = [margins[~target & (roles[:, x] == role), x] for role in (1, -1)]
            density = [scipy.stats.norm.logpdf(margins[target, x], f.mean(), f.std(ddof=1)) for f in fits]
            guess = density[0] > density[1]
            told = roles[target, x]
            right.append(0.5 * (guess[told == 1].mean() + (~guess)[told == -1].mean()))
    return float(np.nanmean(right))


def test_siblings_among_the_shadows_leak_and_base_models_apart_do_not():
    given = world(models=12, siblings=30)
    leaking, found = attacked_by_trial(*given[:2]), ulira(*given)
    assert leaking > 0.6
    assert abs(found.accuracy - 0.5) < 0.06
    assert found.interval[0] < 0.5 < found.interval[1]


def test_nothing_to_find_is_one_half_on_average():
    found = [ulira(*world(models=12, siblings=6, points=20, seed=seed)) for seed in range(40)]
    accuracies = np.array([one.accuracy for one in found])
    assert abs(accuracies.mean() - 0.5) < 3 * accuracies.std() / np.sqrt(40) + 0.004
    assert np.mean([low <= 0.5 <= high for low, high in (one.interval for one in found)]) >= 0.9
    widths = [one.interval[1] - one.interval[0] for one in found]
    assert np.mean(widths) < 4 * 1.96 * accuracies.std()


def test_what_was_not_unlearned_is_found():
    found = ulira(*world(own=0.5, effect=3.0))
    assert found.accuracy > 0.97 and found.auc > 0.99 and found.tpr > 0.9
    faint = ulira(*world(own=0.5, effect=0.5))
    assert 0.5 < faint.interval[0] < faint.accuracy < found.accuracy


def test_the_ideal_attack_is_reached_with_many_base_models():
    margins, roles, bases = world(models=400, siblings=1, points=20, own=1.0, effect=2.0)
    sigma = np.sqrt(1 + 0.3**2)
    found = ulira(margins, roles, bases)
    assert found.accuracy == pytest.approx(scipy.stats.norm.cdf(1.0 / sigma), abs=0.02)
    assert found.auc == pytest.approx(scipy.stats.norm.cdf(2.0 / sigma / np.sqrt(2)), abs=0.02)
    assert found.tpr == pytest.approx(scipy.stats.norm.sf(scipy.stats.norm.ppf(0.99) - 2 / sigma), abs=0.1)


def test_a_destroyed_model_scores_one_half_too():
    margins, roles, bases = world()
    found = ulira(np.full_like(margins, 0.1), roles, bases)
    assert (found.accuracy, found.auc, found.interval) == (0.5, 0.5, (0.5, 0.5))


def test_ratios_are_those_of_gaussians_fitted_to_the_other_folds():
    margins, roles, bases = world(points=3)
    trials = room._checked(margins, roles, bases, 0)
    ratios, _, _ = room._attack(trials)
    fold = trials.folds[bases]
    for t, x in ((0, 0), (50, 1), (239, 2)):
        shadows = [margins[(fold != fold[t]) & (roles[:, x] == role), x] for role in (1, -1)]
        one, other = (scipy.stats.norm.logpdf(margins[t, x], s.mean(), s.std(ddof=1)) for s in shadows)
        assert ratios[t, x] == pytest.approx(one - other)


def test_neither_order_nor_names_nor_units_matter():
    margins, roles, bases = world()
    found = ulira(margins, roles, bases)
    order = np.random.default_rng(0).permutation(len(bases))
    other = ulira(5 * margins[order] - 100, roles[order], bases[order] * 7 + 3)
    assert other.accuracy == pytest.approx(found.accuracy) and other.interval == pytest.approx(found.interval)
    assert ulira(margins, roles, bases, seed=1).accuracy != found.accuracy
    wide, narrow = (ulira(margins, roles, bases, level=level).interval for level in (0.99, 0.5))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_points_with_too_few_trials_are_left_out_and_counted():
    margins, roles, bases = world()
    whole = ulira(margins, roles, bases)
    roles = roles.copy()
    roles[:, 0] = -1  # nobody was trained on it
    roles[:, 1] = np.where(bases == 3, 1, np.minimum(roles[:, 1], 0))  # all shadows of one base model
    roles[:, 1] = np.where((bases == 3) | (roles[:, 1] == -1), roles[:, 1], 0)
    found = ulira(margins, roles, bases)
    assert found.left_out == 2 and found.points.tolist() == list(range(2, 40))
    assert found.per_point.tolist() == whole.per_point[2:].tolist()


@pytest.mark.usefixtures("unchecked")
def test_refusals():
    margins, roles, bases = world()
    wrong = [
        (margins[:, :5], roles, bases),
        (margins, roles, bases[:-1]),
        (margins[:, 0], roles[:, 0], bases),
        (np.where(roles == 1, np.nan, margins), roles, bases),
        (margins, roles * 2, bases),
        (margins, np.where(roles == 0, -1, roles), bases),  # +1 and -1 of one base model
    ]
    for given in wrong:
        with pytest.raises(BadInput, match="dl-930"):
            ulira(*given)
    with pytest.raises(BadInput, match=r"dl-931.*9 base models"):
        ulira(margins[:72], roles[:72], bases[:72])
    with pytest.raises(BadInput, match="dl-932"):
        ulira(margins, np.minimum(roles, 0), bases)
    with pytest.raises(BadInput, match="dl-904"):
        ulira(margins, roles, bases, level=95)


def test_how_it_reads_and_travels():
    found = ulira(*world())
    assert isinstance(found, ULiRA)
    low, high = found.interval
    assert str(found) == (
        f"U-LiRA accuracy {found.accuracy:.3f} [{low:.3f}, {high:.3f}] (chance 0.5), AUC {found.auc:.3f}, "
        f"TPR {found.tpr:.3f} at 1 % FPR; 40 points x 240 trials of 30 base models, 0 points left out"
    )
    assert len(json.loads(json.dumps(found.to_json()))["per_point"]) == 40
