import json

import numpy as np
import pytest
import scipy.stats

from dataloupe._errors import BadInput
from dataloupe.core import DenseAttribution, Info, Outcomes, Subsets
from dataloupe.judge import calibration

N = 30


def planted(slope, noise, *, k=300, m=20, seed=0, bias=None):
    """Outcomes = slope * predicted + an offset for every target + noise."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((m, N)) * 2 / np.sqrt(N)
    attribution = DenseAttribution(scores, Info("planted"), bias=bias)
    subsets = Subsets(n=N, count=k, seed=seed)
    values = slope * (subsets.masks() @ scores.T) + 5 + noise * rng.standard_normal((k, m))
    return attribution, Outcomes.from_arrays(subsets.masks(), values)


@pytest.mark.parametrize(("slope", "noise"), [(1.0, 1.0), (0.1, 0.05), (-2.0, 3.0)])
def test_the_planted_slope_and_r2_are_found(slope, noise):
    attribution, outcomes = planted(slope, noise)
    found = calibration(attribution, outcomes)
    r2 = slope**2 / (slope**2 + noise**2)
    assert found.slope_interval[0] <= slope <= found.slope_interval[1]
    assert found.slope == pytest.approx(slope, rel=0.05)
    assert found.r2 == pytest.approx(r2, abs=0.05)
    assert found.r2_interval[0] < found.r2 < found.r2_interval[1]
    assert found.intercept == pytest.approx(5, abs=0.1)


def test_one_target_is_scipys_regression_and_bias_goes_into_the_intercept():
    bias = np.array([100.0])
    attribution, outcomes = planted(0.7, 0.5, m=1, bias=bias)
    x, y = attribution.predict(outcomes.subsets)[:, 0], outcomes.mean()[:, 0]
    line = scipy.stats.linregress(x.astype(float), y.astype(float))
    found = calibration(attribution, outcomes)
    assert found.slope == pytest.approx(line.slope, rel=1e-6)
    assert found.intercept == pytest.approx(line.intercept, rel=1e-6)
    assert found.r2 == pytest.approx(line.rvalue**2, rel=1e-6)
    ends = np.array(found.slope_interval)
    np.testing.assert_allclose((ends[1] - ends[0]) / (2 * 1.96), line.stderr, rtol=0.25)


def test_targets_of_other_levels_do_not_make_a_slope():
    attribution, outcomes = planted(0.0, 1.0)
    lifted = DenseAttribution(attribution.scores, attribution.info, bias=np.arange(20.0))
    values = outcomes.values + np.arange(20.0)
    found = calibration(lifted, Outcomes.from_arrays(outcomes.subsets.masks(), values))
    assert found.slope_interval[0] <= 0 <= found.slope_interval[1]
    assert abs(found.r2) < 0.01


def test_a_resample_is_the_regression_of_the_drawn_rows():
    from dataloupe.judge import Bootstrap
    from dataloupe.judge._calibration import _regressions

    attribution, outcomes = planted(1.0, 1.0, k=25, m=3)
    x, y = attribution.predict(outcomes.subsets).astype(float), outcomes.mean().astype(float)
    plan = Bootstrap.draw(25, 3, resamples=4, seed=1)
    slopes, shares = _regressions(x - x.mean(axis=0), y - y.mean(axis=0), plan)
    for b in range(5):
        rows = np.repeat(np.arange(25), plan.subsets[b])
        columns = np.repeat(np.arange(3), plan.targets[b])
        a, c = x[np.ix_(rows, columns)], y[np.ix_(rows, columns)]
        a, c = (a - a.mean(axis=0)).ravel(), (c - c.mean(axis=0)).ravel()
        assert slopes[b] == pytest.approx((a @ c) / (a @ a))
        assert shares[b] == pytest.approx((a @ c) ** 2 / (a @ a) / (c @ c))


def test_bins_hold_equal_counts_and_lie_on_the_line():
    attribution, outcomes = planted(2.0, 0.5)
    found = calibration(attribution, outcomes, bins=10)
    assert len(found.predicted) == len(found.measured) == len(found.measured_error) == 10
    assert (np.diff(found.predicted) > 0).all()
    assert found.predicted.mean() == pytest.approx(0, abs=1e-9)  # equal counts: centred as the data are
    off = np.abs(found.measured - found.slope * found.predicted)
    assert (off <= 4 * found.measured_error).all()
    assert found.measured_error.max() < 0.2


def test_tied_predictions_merge_bins():
    masks = np.array([[True, False], [False, True]] * 10)
    attribution = DenseAttribution(np.array([[1.0, 0.0]]), Info("two values"))
    values = np.where(masks[:, :1], 3.0, 1.0) + np.linspace(-0.1, 0.1, 20)[:, None]
    found = calibration(attribution, Outcomes.from_arrays(masks, values))
    assert found.predicted.tolist() == [-0.5, 0.5]
    np.testing.assert_allclose(found.measured, [-1, 1], atol=0.01)


def test_relative_units_read_as_a_scale():
    attribution, outcomes = planted(1.0, 1.0)
    relative = DenseAttribution(attribution.scores * 100, attribution.info, units="relative")
    found = calibration(relative, outcomes)
    assert found.slope == pytest.approx(calibration(attribution, outcomes).slope / 100, rel=1e-4)
    assert found.units == "relative" and "scale of relative units" in str(found)


def test_diverged_subsets_are_left_out():
    attribution, outcomes = planted(1.0, 1.0, k=20)
    values = outcomes.values.copy()
    values[3] = np.nan
    found = calibration(attribution, Outcomes.from_arrays(outcomes.subsets.masks(), values))
    assert (found.left_out, found.subsets) == (1, 19)


def test_what_cannot_be_regressed_is_refused():
    attribution, outcomes = planted(1.0, 1.0, k=10)
    with pytest.raises(BadInput, match="dl-907"):
        calibration(DenseAttribution(np.zeros((20, N)), Info("zero")), outcomes)
    with pytest.raises(BadInput, match="dl-907"):
        calibration(attribution, Outcomes.from_arrays(outcomes.subsets.masks(), np.ones((10, 20))))
    with pytest.raises(BadInput, match="dl-901"):
        calibration(DenseAttribution(np.zeros((3, N)), Info("zero")), outcomes)
    with pytest.raises(BadInput, match="dl-902"):
        calibration(attribution, outcomes.split(3)[0])
    with pytest.raises(BadInput, match="dl-904"):
        calibration(attribution, outcomes, bins=0)


def test_how_it_reads_and_travels():
    found = calibration(*planted(1.0, 1.0, k=50))
    (low, high), (r_low, r_high) = found.slope_interval, found.r2_interval
    assert str(found) == (
        f"slope {found.slope:#.3g} [{low:#.3g}, {high:#.3g}], R2 {found.r2:.2f} [{r_low:.2f}, {r_high:.2f}]; "
        "20 targets x 50 subsets"
    )
    told = json.loads(json.dumps(found.to_json()))
    assert told["slope"] == found.slope and told["measured"] == found.measured.tolist()
