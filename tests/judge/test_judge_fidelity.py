"""Fidelity against its definitions, and against what planted noise allows."""

import numpy as np
import pytest

from dataloupe._errors import BadInput, UnitsError
from dataloupe.core import DenseAttribution, Info, Outcomes, Subsets
from dataloupe.judge import fidelity
from dataloupe.judge._spearman import spearman


def world(k=200, n=12, m=4, r=3, *, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((m, n)).astype(np.float32)
    masks = Subsets(n=n, count=k, seed=seed).masks()
    signal = masks @ truth.T + 2.0
    return truth, masks, signal[:, None] + noise * rng.standard_normal((k, r, m))


def exact(truth, bias=2.0):
    return DenseAttribution(truth, Info("exact"), bias=np.full(len(truth), bias, dtype=np.float32))


def test_it_is_its_definition():
    truth, masks, values = world()
    judged = exact(truth + 0.3, bias=1.0)
    found = fidelity(judged, Outcomes.from_arrays(masks, values))
    measured, predicted = values.astype(np.float32).mean(1), judged.predict(Subsets.listed(masks))
    mse = ((predicted - measured) ** 2).mean(0)
    np.testing.assert_allclose(found.per_target["mse"], mse, rtol=1e-4)
    np.testing.assert_allclose(found.per_target["explained"], 1 - mse / measured.var(0), rtol=1e-4)
    pearson = [np.corrcoef(predicted[:, j], measured[:, j])[0, 1] for j in range(4)]
    np.testing.assert_allclose(found.per_target["pearson"], pearson, rtol=1e-4)
    np.testing.assert_allclose(found.per_target["spearman"], spearman(predicted, measured), rtol=1e-12)
    for name in ("pearson", "spearman", "mse", "explained"):
        assert getattr(found, name) == pytest.approx(found.per_target[name].mean())
        low, high = getattr(found, f"{name}_interval")
        assert low <= getattr(found, name) <= high


@pytest.mark.parametrize("r", [2, 5])
def test_the_truth_reaches_the_ceiling_and_nothing_less_than_the_noise(r):
    truth, masks, values = world(k=2000, r=r, noise=1.5)
    found = fidelity(exact(truth), Outcomes.from_arrays(masks, values))
    assert found.noise == pytest.approx(1.5**2 / r, rel=0.05)
    assert found.mse == pytest.approx(found.noise, rel=0.05)
    assert found.pearson == pytest.approx(found.pearson_ceiling, abs=0.02)
    assert found.explained == pytest.approx(found.explained_ceiling, abs=0.03)


def test_a_far_level_costs_no_digits():
    """Outputs around a million: sums of squares are taken about the level."""
    truth, masks, values = world(noise=0.0, r=1)
    near = fidelity(exact(truth), Outcomes.from_arrays(masks, values))
    far = fidelity(exact(truth, bias=4098.0), Outcomes.from_arrays(masks, values + 4096.0))
    np.testing.assert_allclose(far.per_target["pearson"], near.per_target["pearson"], atol=1e-3)
    assert far.mse < 1e-6


def test_constant_outcomes_count_as_nothing():
    truth, masks, values = world()
    values[:, :, 1] = 7.0
    found = fidelity(exact(truth), Outcomes.from_arrays(masks, values))
    assert found.per_target["pearson"][1] == found.per_target["explained"][1] == 0.0


def test_one_seed_has_no_ceiling_and_says_so():
    truth, masks, values = world(r=1)
    found = fidelity(exact(truth), Outcomes.from_arrays(masks, values))
    assert found.noise is found.pearson_ceiling is found.explained_ceiling is None
    assert "one seed" in found.notes[0]
    assert found.to_json()["noise"] is None


def test_what_is_no_output_is_refused():
    truth, masks, values = world()
    outcomes = Outcomes.from_arrays(masks, values)
    with pytest.raises(UnitsError, match="dl-507"):
        fidelity(DenseAttribution(truth, Info("raw"), units="relative"), outcomes)
    with pytest.raises(BadInput, match="dl-910"):
        fidelity(DenseAttribution(truth, Info("no bias")), outcomes)
    with pytest.raises(BadInput, match="dl-901"):
        fidelity(exact(truth[:2]), outcomes)
