"""The planner: its power is the power of simulated experiments, and its two directions agree."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloupe._errors import BadInput
from dataloupe.apps import detectable, detection_power, models_needed, sigma_of
from dataloupe.core import Outcomes, Subsets


@pytest.mark.parametrize(
    ("fraction", "comparisons", "power"), [(0.5, 1, 0.8), (0.25, 20, 0.9), (0.5, 500, 0.6)]
)
def test_so_many_models_find_the_effect_that_often(fraction, comparisons, power):
    """Difference of means on noise of a known sigma, against the threshold: 4,000 experiments."""
    from scipy import stats

    effect, sigma, rng = 0.6, 1.5, np.random.default_rng(1)
    m = models_needed(effect, sigma, fraction=fraction, power=power, comparisons=comparisons)
    with_it = round(m * fraction)
    noise = sigma * rng.standard_normal((4000, m))
    difference = effect + noise[:, :with_it].mean(axis=1) - noise[:, with_it:].mean(axis=1)
    error = sigma / np.sqrt(m * fraction * (1 - fraction))
    threshold = stats.norm.isf(0.05 / (2 * comparisons))
    found = (np.abs(difference) > threshold * error).mean()
    assert found == pytest.approx(power, abs=4 * np.sqrt(power * (1 - power) / 4000) + 0.01)


@given(
    st.floats(0.01, 10),
    st.floats(0.01, 10),
    st.floats(0.05, 0.95),
    st.floats(0.2, 0.99),
    st.integers(1, 100_000),
)
@settings(max_examples=60, deadline=None)
def test_the_smallest_number_that_is_enough(effect, sigma, fraction, power, comparisons):
    more = {"fraction": fraction, "comparisons": comparisons}
    m = models_needed(effect, sigma, power=power, **more)
    assert detection_power(effect, m, sigma, **more) >= power - 1e-9
    if m > 4:
        assert detection_power(effect, m - 1, sigma, **more) < power + 1e-9
        assert detectable(m, sigma, power=power, **more) <= effect * (1 + 1e-9)
    assert detection_power(detectable(m, sigma, power=power, **more), m, sigma, **more) == pytest.approx(
        power
    )


def test_known_numbers():
    assert models_needed(0.5, 1.0) == 126  # (1.959964 + 0.841621)^2 * 4 * 4 = 125.58
    assert models_needed(-0.5, 1.0) == 126
    assert models_needed(100.0, 1.0) == 4
    assert detection_power(0.3, 0 + 100, 1.0, level=0.05) == pytest.approx(0.3230, abs=1e-3)
    assert detectable(10, 1.0, power=0.01) == 0.0, "chance alone finds that often"
    universal = np.sqrt(2 * np.log(50_000)) / np.sqrt(300_000 * 0.25)
    at_half = detectable(300_000, 1.0, power=0.5, level=0.5, comparisons=50_000)
    assert at_half == pytest.approx(universal, rel=0.08)


def pilot(k=200, r=1, m=400, seed=0, between=2.0, within=1.0):
    rng = np.random.default_rng(seed)
    values = between * rng.standard_normal((k, 1, m)) + within * rng.standard_normal((k, r, m))
    return Outcomes.from_arrays(Subsets(n=20, count=k).masks(), values)


@pytest.mark.parametrize("repeats", [1, 3])
def test_sigma_is_the_spread_of_one_run(repeats):
    found = sigma_of(pilot(r=repeats))
    assert np.mean(found.value) == pytest.approx(5**0.5, rel=0.02)
    covered = ((found.low <= 5**0.5) & (found.high >= 5**0.5)).mean()
    assert covered >= 0.92
    if repeats == 1:
        assert found.seed is None and covered <= 0.98
    else:
        assert np.mean(found.seed) == pytest.approx(1.0, rel=0.02)


def test_sigma_reads_and_goes_to_json():
    found = sigma_of(pilot(m=3, r=2), level=0.9)
    assert str(found).startswith("sd of one output 2.") and "from the seed alone; median of 3" in str(found)
    facts = json.loads(json.dumps(found.to_json()))
    assert facts["value"] == found.value.tolist() and facts["subsets"] == 200 and facts["level"] == 0.9


def test_diverged_runs_are_left_out():
    whole = pilot(k=30, m=2)
    values = whole.values.copy()
    values[4] = np.nan
    found = sigma_of(Outcomes.from_arrays(whole.subsets.masks(), values))
    assert found.subsets == 29
    np.testing.assert_allclose(
        found.value, np.delete(whole.values[:, 0], 4, axis=0).std(axis=0, ddof=1), rtol=1e-5
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"effect": 0.0},
        {"effect": float("nan")},
        {"sigma": 0.0},
        {"sigma": float("inf")},
        {"fraction": 1.0},
        {"power": 1.0},
        {"level": 0.0},
        {"comparisons": 0},
    ],
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(BadInput, match=rf"dl-763.*{next(iter(wrong))}"):
        models_needed(**{"effect": 0.5, "sigma": 1.0, **wrong})


def test_other_refusals():
    with pytest.raises(BadInput, match=r"dl-763.*models"):
        detectable(0, 1.0)
    with pytest.raises(BadInput, match="dl-763"):
        detection_power(0.5, 10, -1.0)
    with pytest.raises(BadInput, match="dl-763"):
        sigma_of(pilot(k=5), level=95.0)
    with pytest.raises(BadInput, match=r"dl-764.*2 subsets"):
        sigma_of(pilot(k=2))
