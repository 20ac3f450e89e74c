"""Calibration recovers planted scales, and says how well it knows them."""

import dataclasses

import numpy as np
import pytest

from dataloupe._errors import BadInput
from dataloupe.core import DenseAttribution, Info, Outcomes, Subsets
from dataloupe.methods import calibrate

N, M = 50, 30


def planted(seed=0, *, slope=75.0, k=40, r=2, noise=0.5, misfit=0.0, between=0.0, fraction=0.5):
    """Relative scores, the true ones (scaled, with own errors), and noisy outcomes of them."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((M, N))
    slopes = slope * (1 + between * rng.standard_normal((M, 1)))
    truth = slopes * scores + misfit * slope * rng.standard_normal((M, N))
    masks = Subsets(n=N, count=k, fraction=fraction, seed=seed).masks()
    clean = masks @ truth.T + rng.standard_normal(M)
    values = clean[:, None] + noise * slope * rng.standard_normal((k, r, M))
    raw = DenseAttribution(scores, Info("TRAK", fraction=1.0, note="all"), units="relative")
    return raw, Outcomes.from_arrays(masks, values), truth


def test_the_planted_slope_is_found_and_scores_have_units():
    raw, outcomes, truth = planted()
    found = calibrate(raw, outcomes)
    facts = found.info.certificate
    assert abs(facts["slope"] - 75) < 3 * facts["slope_error"] < 75 * 0.1
    np.testing.assert_allclose(found.scores, facts["slope"] * raw.scores, rtol=1e-5)
    assert found.units == "output" and found.info.method == "TRAK, calibrated" and found.info.fraction == 0.5
    assert facts["calibration_subsets"] == 40 and found.info.note.startswith("all; ")
    residual = outcomes.mean() - found.predict(outcomes.subsets)
    np.testing.assert_allclose(residual.mean(axis=0), 0, atol=1e-3 * 75)
    assert np.abs(found.scores / truth - 1).max() < 0.1


def test_without_noise_it_is_exact():
    raw, outcomes, truth = planted(noise=0.0)
    found = calibrate(raw, outcomes)
    np.testing.assert_allclose(found.scores, truth, rtol=1e-4)
    assert found.error([[1, 2, 3]]).max() < 1e-3 * np.abs(truth).max()


def test_the_slope_error_is_honest_when_targets_share_their_noise():
    """Noise that hits all targets of a run alike: subsets are the independent units, not subsets x targets."""
    z = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        scores = 1.0 + 0.2 * rng.standard_normal((M, N))
        scores -= rng.standard_normal(N)  # every target looks at the same examples
        masks = Subsets(n=N, count=30, seed=seed).masks()
        shared = 3 * rng.standard_normal((30, 1)) + 0.1 * rng.standard_normal((30, M))
        facts = calibrate(
            DenseAttribution(scores, Info("raw")), Outcomes.from_arrays(masks, masks @ scores.T + shared)
        ).info.certificate
        z.append((facts["slope"] - 1) / facts["slope_error"])
    assert 0.8 < np.std(z) < 1.3
    assert abs(np.mean(z)) < 0.3


@pytest.mark.parametrize("per_target", [False, True])
@pytest.mark.parametrize(("misfit", "between"), [(0.3, 0.0), (1.0, 0.0), (0.3, 0.3)])
def test_intervals_cover_random_removals(misfit, between, per_target):
    inside, size = [], []
    for seed in range(20):
        raw, outcomes, truth = planted(seed, misfit=misfit, between=between)
        found = calibrate(raw, outcomes, per_target=per_target)
        rng = np.random.default_rng(seed)
        removals = [rng.choice(N, 8, replace=False) for _ in range(20)]
        real = -np.stack([truth[:, ids].sum(axis=1) for ids in removals])
        z = (found.effect(removals) - real) / found.error(removals)
        inside.append((np.abs(z) < 1.96).mean())
        size.append((z**2).mean())
    assert 0.93 <= np.mean(inside) <= 0.99
    assert 0.6 < np.sqrt(np.mean(size)) < 1.1


def test_slopes_that_differ_between_targets_widen_the_scale():
    same = calibrate(*planted(misfit=0.1)[:2]).info.certificate
    apart = calibrate(*planted(misfit=0.1, between=0.4)[:2]).info.certificate
    assert same["spread_of_slopes"] < 0.1 * 75
    assert 0.2 * 75 < apart["spread_of_slopes"] < 0.6 * 75


def test_per_target_slopes_are_least_squares():
    raw, outcomes, _ = planted(between=0.3)
    found = calibrate(raw, outcomes, per_target=True)
    predicted = raw.predict(outcomes.subsets).astype(np.float64)
    for j in (0, 7):
        slope = np.polyfit(predicted[:, j], outcomes.mean()[:, j], 1)[0]
        np.testing.assert_allclose(found.scores[j], slope * raw.scores[j], rtol=1e-3)


def test_seed_noise_is_not_misfit_when_repeats_tell_it():
    one = calibrate(*planted(r=1, noise=2.0, misfit=0.1)[:2])
    many = calibrate(*planted(r=5, noise=2.0, misfit=0.1)[:2])
    assert many.uncertainty.spread.mean() < 0.1 * one.uncertainty.spread.mean()
    assert one.info.certificate["seed_share"] is None and "one seed" in one.info.note
    assert many.info.certificate["seed_share"] > 0.5


def test_what_a_seed_does_to_all_subsets_is_no_noise():
    raw, outcomes, _ = planted(misfit=0.5)
    shifted = outcomes.values + np.array([-5e3, 5e3], dtype=np.float32)[:, None]
    moved = calibrate(raw, dataclasses.replace(outcomes, values=shifted))
    np.testing.assert_allclose(
        moved.uncertainty.spread, calibrate(raw, outcomes).uncertainty.spread, rtol=1e-2
    )


def test_diverged_subsets_are_left_out_and_counted():
    raw, outcomes, _ = planted()
    values = outcomes.values.copy()
    values[3, 1] = np.nan
    found = calibrate(raw, Outcomes.from_arrays(outcomes.subsets.masks(), values))
    assert found.info.certificate["calibration_left_out"] == 1
    rest = np.delete(np.arange(40), 3)
    same = calibrate(raw, Outcomes.from_arrays(outcomes.subsets.masks(rest), outcomes.values[rest]))
    np.testing.assert_array_equal(found.scores, same.scores)


def test_it_can_be_calibrated_again_and_the_bias_is_the_outputs():
    raw, outcomes, _ = planted()
    once = calibrate(raw, outcomes)
    twice = calibrate(once, outcomes)
    assert twice.info.method == "TRAK, calibrated"
    np.testing.assert_allclose(twice.scores, once.scores, rtol=1e-4)
    np.testing.assert_allclose(twice.bias, once.bias, atol=1e-2 * np.abs(once.bias).max())


def test_it_says_when_the_meaning_of_removal_differs_and_when_the_slope_is_not_above_zero():
    raw, outcomes, _ = planted()
    other = dataclasses.replace(outcomes, removal="mask")
    found = calibrate(raw, other)
    assert "made under repack, calibrated on retrainings under mask" in found.info.note
    assert found.info.removal == "mask"
    backwards = DenseAttribution(-raw.scores, raw.info, units="relative")
    assert "not clearly above 0" in calibrate(backwards, outcomes).info.note


def test_what_cannot_be_calibrated_is_refused():
    raw, outcomes, _ = planted()
    flat = DenseAttribution(np.ones((M, N)), Info("flat"), units="relative")
    with pytest.raises(BadInput, match=r"dl-721.*same prediction"):
        calibrate(flat, outcomes)
    with pytest.raises(BadInput, match=r"dl-722.*2 subsets"):
        calibrate(raw, outcomes.split(2)[0])
    with pytest.raises(BadInput, match=r"dl-720.*29 targets x 50 examples"):
        calibrate(raw, Outcomes.from_arrays(outcomes.subsets.masks(), outcomes.values[:, :, 1:]))
    with pytest.raises(BadInput, match="dl-720"):
        calibrate(raw, Outcomes.from_arrays(outcomes.subsets.masks()[:, 1:], outcomes.values))
