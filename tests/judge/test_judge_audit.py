"""The audit on planted outputs."""

import json

import numpy as np
import pytest

from dataloupe._errors import BadInput
from dataloupe.judge import Audit, audit_outputs, klom

P = 60
SPLITS = {"forget": range(20), "retain": range(20, 60)}


def logits(seed, shift=0.0, models=100, spread=1.0):
    """Three classes; the first twenty points are `shift` surer of class 0, their label."""
    z = spread * np.random.default_rng(seed).standard_normal((models, P, 3))
    z[:, :20, 0] += shift
    z[:, 20:, 1] += 2.0
    return z.astype(np.float32)


LABELS = np.repeat([0, 1], [20, 40])
ORACLES, FULL = logits(1), logits(2, 3.0)


@pytest.fixture(scope="module")
def found() -> Audit:
    methods = {"as retrained": logits(3), "half-way": logits(4, 1.5), "wrecked": logits(5, spread=20.0)}
    return audit_outputs(
        methods, ORACLES, FULL, LABELS, SPLITS, worst=5, diverged={"wrecked": 4, "oracles": 1}
    )


def test_retraining_is_normalised_to_nothing_and_doing_nothing_to_one(found):
    assert list(found.methods) == ["nothing", "as retrained", "half-way", "wrecked"]
    forget = {name: method.splits["forget"] for name, method in found.methods.items()}
    assert forget["nothing"].normalised == 1
    assert abs(forget["as retrained"].normalised) < 0.1
    assert 0.2 < forget["half-way"].normalised < 0.8
    assert {method.splits["retain"].normalised for method in found.methods.values()} == {None}
    assert found.idle == ("retain",)
    assert (
        found.methods["wrecked"].splits["retain"].oracle_first.p95
        > 4 * forget["as retrained"].oracle_first.p95
    )


def test_levels_are_those_of_klom_on_the_split(found):
    z = logits(4, 1.5).astype(np.float64)

    def margins(z):
        own = np.take_along_axis(z, np.broadcast_to(LABELS[:, None], (100, P, 1)), axis=2)[..., 0]
        return own - np.log(np.exp(z).sum(axis=2) - np.exp(own))

    result = klom(margins(z), margins(ORACLES.astype(np.float64)))
    at = found.methods["half-way"].splits["forget"]
    for name in ("oracle_first", "unlearned_first"):
        expected = np.quantile(getattr(result, name)[:20], [0.5, 0.95, 0.99])
        levels = getattr(at, name)
        np.testing.assert_allclose([levels.p50, levels.p95, levels.p99], expected, rtol=1e-6)
    low = result.floor.oracle_first.p95
    nothing = found.methods["nothing"].splits["forget"].oracle_first.p95
    assert at.normalised == pytest.approx((at.oracle_first.p95 - low) / (nothing - low))


def test_accuracy_and_distance_are_their_definitions(found):
    z = logits(4, 1.5)
    at = found.methods["half-way"].splits["forget"]
    assert at.accuracy == pytest.approx((z[:, :20].argmax(axis=2) == 0).mean())
    assert found.accuracy["retain"] == pytest.approx((ORACLES[:, 20:].argmax(axis=2) == 1).mean())
    soft = [np.exp(a) / np.exp(a).sum(axis=2, keepdims=True) for a in (z, ORACLES)]
    apart = np.abs(soft[0].mean(axis=0) - soft[1].mean(axis=0)).sum(axis=1)[:20] / 2
    assert at.distance == pytest.approx(apart.mean(), rel=1e-4)
    assert at.distance_p95 == pytest.approx(np.quantile(apart, 0.95), rel=1e-4)


def test_the_worst_points_come_in_order_under_their_split(found):
    worst = found.methods["nothing"].worst
    assert len(worst) == 5 and {point.split for point in worst} == {"forget"}
    assert [p.klom for p in worst] == sorted((p.klom for p in worst), reverse=True)
    assert worst[0].klom == pytest.approx(found.methods["nothing"].splits["forget"].oracle_first.p99, rel=0.1)
    for point in worst:
        assert point.unlearned == point.full and point.unlearned[0] > point.oracles[0]
        assert SPLITS["forget"][point.row] == point.row and 0.5 < point.oracles[1] < 2
    assert audit_outputs({}, ORACLES, FULL, LABELS, SPLITS, worst=0).methods["nothing"].worst == ()


def test_the_table(found):
    lines = str(found).splitlines()
    assert (
        lines[0]
        == "KLoM (quantile) of KL(oracle || unlearned) over points, at most 2.51; p95 beside [interval]"
    )
    assert lines[1].split() == [
        "method",
        "models",
        "split",
        "points",
        "p50",
        "p95",
        "p99",
        "floor",
        "norm.",
        "acc.",
        "dist.",
    ]
    assert lines[2].split()[:4] == ["nothing", "100", "forget", "20"]
    assert "wrecked       100 (-4)  forget" in str(found) and "oracles       100 (-1)  forget" in str(found)
    at = found.methods["half-way"].splits["forget"]
    low, high = at.interval
    levels = f"{at.oracle_first.p95:.2f} [{low:.2f}, {high:.2f}] {at.oracle_first.p99:.2f}"
    assert levels in " ".join(str(found).split())
    assert lines[-2].startswith("oracles against themselves: floor at 50 models, 50 oracles (halves): p95 0.")
    assert lines[-1] == "nothing to unlearn on retain: doing nothing is below twice the floor"


def test_it_travels(found):
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["methods"]["half-way"]["splits"]["forget"]["points"] == 20
    assert told["diverged"] == {"wrecked": 4, "oracles": 1}


def test_margins_alone_give_klom_and_nothing_else():
    arrays = [array[..., 0] for array in (logits(3, models=9), ORACLES[:9], FULL[:9])]
    found = audit_outputs({"m": arrays[0]}, *arrays[1:], None, SPLITS, estimator="gaussian", intervals=False)
    at = found.methods["m"].splits["forget"]
    assert (at.accuracy, at.distance, at.distance_p95, at.interval) == (None,) * 4
    assert found.accuracy is None and found.halves is None
    assert "oracles 9 nothing to unlearn" in " ".join(str(found).split())
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["most"] is None


@pytest.mark.parametrize("estimator", ["quantile", "gaussian"])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_intervals_cover_the_mean_of_other_models(estimator, shift):
    """Models share effects over points, as real ones do: the intervals must not count points as evidence."""
    rng = np.random.default_rng(0)
    load = 0.7 * rng.standard_normal(40)

    def draw(shift):
        return shift + rng.standard_normal((60, 1)) * load + rng.standard_normal((60, 40))

    ends, values = [], []
    for trial in range(40):
        u, o = draw(shift), draw(0.0)
        values.append(np.quantile(klom(u, o, estimator=estimator).oracle_first, 0.95))
        if trial < 15:
            at = audit_outputs({}, o, u, None, {"all": range(40)}, estimator=estimator).methods["nothing"]
            ends.append(at.splits["all"].interval)
    truth = np.mean(values)
    assert np.mean([low <= truth <= high for low, high in ends]) >= 0.9
    assert np.mean([high - low for low, high in ends]) < 8 * np.std(values) * 1.96


@pytest.mark.usefixtures("unchecked")
def test_unlike_arrays_are_refused():
    m = logits(3)
    wrong = [
        ({"m": m[:, :10]}, ORACLES, FULL, LABELS, SPLITS),
        ({"m": m[..., 0]}, ORACLES, FULL, LABELS, SPLITS),
        ({"m": m[..., :2]}, ORACLES, FULL, LABELS, SPLITS),
        ({"m": m}, ORACLES, FULL, None, SPLITS),
        ({"m": m}, ORACLES, FULL, LABELS[:5], SPLITS),
        ({"m": m}, ORACLES, FULL, LABELS + 2, SPLITS),
        ({"m": m}, ORACLES, FULL, LABELS - 1, SPLITS),
        ({"m": m}, ORACLES, FULL, LABELS * 0.5, SPLITS),
        ({"m": m}, ORACLES[..., :1], FULL, LABELS * 0, SPLITS),
        ({"m": m}, ORACLES[0, 0], FULL, LABELS, SPLITS),
        ({"m": m}, ORACLES, FULL, LABELS, {}),
        ({"nothing": m}, ORACLES, FULL, LABELS, SPLITS),
        ({"oracles": m}, ORACLES, FULL, LABELS, SPLITS),
    ]
    for given in wrong:
        with pytest.raises(BadInput, match="dl-925"):
            audit_outputs(*given)
    for settings in ({"diverged": {"other": 1}}, {"diverged": {"m": -1}}, {"worst": -1}):
        with pytest.raises(BadInput, match="dl-925"):
            audit_outputs({"m": m}, ORACLES, FULL, LABELS, SPLITS, **settings)
    for ids, code in (([], "dl-108"), ([60], "dl-109"), ([1, 1], "dl-110"), ([0.5], "dl-111")):
        with pytest.raises(BadInput, match=rf"{code}.*split 'forget'"):
            audit_outputs({"m": m}, ORACLES, FULL, LABELS, {"forget": ids})


def test_diverged_models_are_refused_by_method_and_model():
    bad = logits(3)
    bad[[2, 5], 0, 0] = np.nan
    with pytest.raises(BadInput, match=r"dl-921.*ascent.*2 of 100 \(rows 2, 5\).*say how many"):
        audit_outputs({"ascent": bad}, ORACLES, FULL, LABELS, SPLITS)
    with pytest.raises(BadInput, match=r"dl-922.*12 models"):
        audit_outputs({"few": logits(3, models=12)}, ORACLES, FULL, LABELS, SPLITS)
