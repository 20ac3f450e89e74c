"""KLoM against closed forms, the published codes' definitions and the measured null."""

import json
import typing

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from dataloupe._errors import BadInput
from dataloupe.judge import KLoM, Levels, halves, klom
from dataloupe.judge._divergences import Estimator, divergences
from dataloupe.judge._klom import floor_of

ALL = typing.get_args(Estimator)
OURS, PUBLISHED = ALL[:2], ALL[2:]


def drawn(models, points, seed=0, shift=0.0, spread=1.0):
    return shift + spread * np.random.default_rng(seed).standard_normal((models, points))


def values(estimator, unlearned, oracles, bins=10):
    return divergences(estimator, unlearned, oracles, bins)


def gaussian_kl(apart, p, q):
    """KL(P || Q) of two Gaussians of standard deviations p and q."""
    return 0.5 * ((p**2 + apart**2) / q**2 - 1 + np.log(q**2 / p**2))


# --- the published codes -----------------------------------------------------------------------------------


def as_told(estimator, p, q):
    """The two published estimators by their description, one point at a time, with numpy's own bins."""
    p = np.clip(p, -100, 100)
    q = q if estimator == "a2d" else np.clip(q, -100, 100)
    start, stop = min(p.min(), q.min()), max(p.max(), q.max())
    if estimator == "easydub" and start >= stop:
        stop = start + 1
    edges = np.linspace(start, stop, 20 if estimator == "a2d" else 21)
    slots = range(20) if estimator == "a2d" else range(1, 21)
    counts = [np.array([np.sum(np.digitize(x, edges) == s) for s in slots]) for x in (p, q)]
    share_p, share_q = (c / c.sum() for c in counts)
    held = np.maximum(share_q, 1e-5)
    return scipy.stats.entropy(share_p, held if estimator == "a2d" else np.where(share_p > 0, held, share_q))


@pytest.mark.parametrize("estimator", PUBLISHED)
def test_the_published_codes_to_the_last_bit(estimator):
    unlearned, oracles = drawn(60, 40, 1, shift=0.7, spread=1.4), drawn(55, 40, 2)
    unlearned[0, :5], oracles[1, 5:9], unlearned[:, 9] = -300.0, 250.0, 0.5
    oracles[:30, 10] = unlearned[:20, 10].min()
    found = klom(unlearned, oracles, estimator=estimator)
    pairs = list(zip(unlearned.T, oracles.T, strict=True))
    assert found.oracle_first.tolist() == [as_told(estimator, o, u) for u, o in pairs]
    assert found.unlearned_first.tolist() == [as_told(estimator, u, o) for u, o in pairs]
    assert found.published == ("unlearned_first" if estimator == "a2d" else "oracle_first")


def test_the_largest_margin_counts_in_ours_and_is_lost_in_the_published():
    oracles, unlearned = drawn(100, 1, 1), drawn(100, 1, 2)
    top = unlearned.argmax()
    unlearned[top] = 6.0  # alone on the last edge, and the range is held open by it
    without = np.delete(unlearned, top, axis=0)
    for estimator in PUBLISHED:
        both = np.concatenate([without, [[6.0]], [[6.0]], [[6.0]]])
        assert values(estimator, both, oracles)[0] == values(estimator, unlearned, oracles)[0]
    for estimator in OURS:
        both = np.concatenate([without, [[6.0]], [[6.0]], [[6.0]]])
        assert values(estimator, both, oracles)[0] != values(estimator, unlearned, oracles)[0]


TABLE = {
    10: (5.6, 8.2),
    20: (3.1, 5.1),
    50: (0.84, 1.69),
    100: (0.33, 0.62),
    200: (0.14, 0.27),
    500: (0.05, 0.10),
    1000: (0.02, 0.04),
}
"""Mean and 95th percentile of the easydub estimator where nothing differs, as measured with the published code."""


@pytest.mark.parametrize(("models", "row"), TABLE.items())
def test_the_null_of_the_published_estimator(models, row):
    points = min(3000, 600_000 // models)
    first, _ = values("easydub", drawn(models, points, 5), drawn(models, points, 6))
    assert first.mean() == pytest.approx(row[0], rel=0.07, abs=0.006)
    assert np.quantile(first, 0.95) == pytest.approx(row[1], rel=0.1, abs=0.006)


# --- closed forms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "spread"), [(0.5, 1), (1, 1), (2, 1), (3, 1), (0, 0.5), (0, 2), (1, 1.5)])
def test_gaussians_at_many_models_give_the_closed_form(shift, spread):
    first, second = values("gaussian", drawn(20_000, 10, 1, shift, spread), drawn(20_000, 10, 2))
    assert first.mean() == pytest.approx(gaussian_kl(shift, 1, spread), rel=0.02, abs=0.002)
    assert second.mean() == pytest.approx(gaussian_kl(shift, spread, 1), rel=0.02, abs=0.002)


@pytest.mark.parametrize("models", [20, 100])
@pytest.mark.parametrize("shift", [0.0, 0.5, 1, 2, 3])
def test_a_shift_of_s_gives_half_its_square_from_few_models_too(models, shift):
    for direction in values("gaussian", drawn(models, 3000, 1, shift), drawn(models, 3000, 2)):
        assert direction.mean() == pytest.approx(shift**2 / 2, rel=0.09, abs=0.02)


def test_quantile_bins_by_hand():
    oracles = np.arange(50.0)[:, None]  # 10 bins of 5: the boundaries are between 4 and 5, 9 and 10 ...
    unlearned = np.repeat([1.0, 4.5, 100.0], [10, 4, 6])[:, None]
    counts = np.array([12, 2, 0, 0, 0, 0, 0, 0, 0, 6])  # 4.5 lies on a boundary: one half on either side
    p, q = np.full(10, 0.1), (counts + 0.5) / 25
    found = klom(unlearned, oracles)
    assert found.oracle_first[0] == pytest.approx((p * np.log(p / q)).sum())
    assert found.unlearned_first[0] == pytest.approx((q * np.log(q / p)).sum())


@pytest.mark.parametrize("estimator", ALL)
def test_swapping_the_ensembles_swaps_the_directions(estimator):
    a, b = drawn(100, 30, 1, shift=1, spread=2), drawn(100, 30, 2)
    one, other = klom(a, b, estimator=estimator), klom(b, a, estimator=estimator)
    assert not np.allclose(one.oracle_first, one.unlearned_first)
    if estimator != "quantile":  # whose bins are the oracles'
        np.testing.assert_array_equal(one.oracle_first, other.unlearned_first)
        np.testing.assert_array_equal(one.unlearned_first, other.oracle_first)
    else:
        assert not np.allclose(one.oracle_first, other.oracle_first)


@pytest.mark.parametrize("estimator", ALL)
def test_the_order_of_the_models_does_not_matter(estimator):
    a, b, order = drawn(100, 20, 1, 0.5), drawn(100, 20, 2), np.random.default_rng(3).permutation(100)
    one, other = values(estimator, a, b), values(estimator, a[order], b[order[::-1]])
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("estimator", ALL)
def test_one_outlier_moves_the_published_values_and_hardly_ours(estimator):
    unlearned, oracles = drawn(100, 500, 1, shift=2), drawn(100, 500, 2)
    hit = unlearned.copy()
    hit[0] = -100.0
    for before, after in zip(
        values(estimator, unlearned, oracles), values(estimator, hit, oracles), strict=True
    ):
        moved = abs(after.mean() / before.mean() - 1)
        assert moved < 0.1 if estimator in OURS else moved > 0.5


@pytest.mark.parametrize("estimator", ALL)
def test_collapsed_and_too_wide_ensembles_stand_out(estimator):
    oracles = drawn(100, 200, 2)
    floor = floor_of(estimator, 100, 100, 10, 0)
    narrow = values(estimator, drawn(100, 200, 1, spread=1 / 20), oracles)
    wide = values(estimator, drawn(100, 200, 1, spread=4), oracles)
    for found in (narrow, wide):
        assert np.median(found[0]) > 1.2 * floor.oracle_first.p95
        assert np.median(found[1]) > 1.2 * floor.unlearned_first.p95
    assert narrow[0].mean() > narrow[1].mean(), "KL(oracle || unlearned) hates what is missing"
    if estimator != "quantile":  # its outermost bins are open: there is only so much of too wide
        assert wide[1].mean() > wide[0].mean()


@pytest.mark.parametrize(("estimator", "narrow", "wide"), [("easydub", (6.9, 2.0), (0.95, 3.8))])
def test_directions_as_measured(estimator, narrow, wide):
    oracles = drawn(100, 500, 2)
    for spread, expected in ((1 / 20, narrow), (4, wide)):
        found = values(estimator, drawn(100, 500, 1, spread=spread), oracles)
        np.testing.assert_allclose([side.mean() for side in found], expected, rtol=0.15)


# --- ranks and ties ----------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), width=st.integers(1, 60), o=st.integers(50, 90), u=st.integers(20, 60))
def test_increasing_changes_of_the_margins_change_nothing(seed, width, o, u):
    rng = np.random.default_rng(seed)
    oracles, unlearned = (rng.integers(-width, width, (k, 3)).astype(float) for k in (o, u))
    one = values("quantile", unlearned, oracles)
    for change in (lambda x: 2 * x + 1, lambda x: x**3, lambda x: np.exp(x / 10)):
        np.testing.assert_array_equal(one, values("quantile", change(unlearned), change(oracles)))


def test_the_floor_of_quantiles_is_the_same_for_all_distributions():
    rng = np.random.default_rng(0)
    found = klom(rng.standard_cauchy((60, 4000)), rng.standard_cauchy((60, 4000)))
    for name in ("mean", "p50", "p95", "p99"):
        level = getattr(Levels.of(found.oracle_first), name)
        assert level == pytest.approx(getattr(found.floor.oracle_first, name), rel=0.08)


def test_tied_margins_are_alike_where_they_are_tied_alike():
    clipped = np.minimum(drawn(100, 3, 1), 0.0)  # half of them at the clip
    same = klom(np.full((30, 3), 100.0), np.full((60, 3), 100.0))
    assert np.abs(same.oracle_first).max() < 1e-12
    assert klom(clipped, clipped.copy()).oracle_first.max() < 1e-12
    for far in (99.0, 101.0):
        found = klom(np.full((30, 3), far), np.full((60, 3), 100.0))
        assert found.oracle_first == pytest.approx(found.most[0])
        assert found.unlearned_first == pytest.approx(found.most[1])
    again = klom(np.minimum(drawn(100, 500, 2), 0.0), np.minimum(drawn(100, 500, 3), 0.0))
    assert Levels.of(again.oracle_first).p95 < again.floor.oracle_first.p95


@pytest.mark.parametrize("estimator", [e for e in ALL if e != "gaussian"])
def test_nothing_exceeds_the_most(estimator):
    found = klom(drawn(100, 20, 1, shift=50, spread=0.1), drawn(100, 20, 2), estimator=estimator)
    assert found.oracle_first.max() <= found.most[0] + 1e-9
    assert found.unlearned_first.max() <= found.most[1] + 1e-9
    assert found.unlearned_first.max() > 0.7 * found.most[1]


def test_equal_constants_are_no_difference_to_gaussians_and_one_constant_is_finite():
    assert klom(np.ones((10, 2)), np.ones((9, 2)), estimator="gaussian").oracle_first.tolist() == [0, 0]
    found = klom(np.ones((20, 5)), drawn(20, 5), estimator="gaussian")
    assert (found.oracle_first > 5).all() and np.isfinite(found.unlearned_first).all()


# --- floors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ALL)
def test_the_floor_is_what_no_difference_gives(estimator):
    found = klom(drawn(60, 4000, 1), drawn(70, 4000, 2), estimator=estimator)
    for name in ("oracle_first", "unlearned_first"):
        mine, floor = Levels.of(getattr(found, name)), getattr(found.floor, name)
        assert mine.p95 == pytest.approx(floor.p95, rel=0.08)
        assert mine.mean == pytest.approx(floor.mean, rel=0.05, abs=0.003)
    assert (found.floor.models, found.floor.oracles, found.models, found.oracles) == (60, 70, 60, 70)


@pytest.mark.parametrize(("models", "mean"), [(8, 0.05), (20, 0.02), (100, 0.004)])
def test_gaussians_have_no_bias_where_nothing_differs(models, mean):
    floor = floor_of("gaussian", models, models, 10, 0)
    assert abs(floor.oracle_first.mean) < mean and abs(floor.unlearned_first.mean) < mean


def test_the_floor_of_quantiles_as_measured():
    floor = floor_of("quantile", 100, 100, 10, 0).oracle_first
    assert (floor.mean, floor.p95) == pytest.approx((0.089, 0.173), rel=0.06)


@pytest.mark.parametrize("estimator", ALL)
def test_halves_of_one_distribution_give_the_simulated_floor(estimator):
    oracles = drawn(120, 1500, 4)
    own, simulated = halves(oracles, estimator=estimator), floor_of(estimator, 60, 60, 10, 0)
    assert own.oracle_first.p95 == pytest.approx(simulated.oracle_first.p95, rel=0.12)
    assert (own.models, own.oracles, own.source) == (60, 60, "halves")
    assert own == halves(oracles, estimator=estimator) != halves(oracles, estimator=estimator, seed=1)


def test_heavy_tails_raise_the_data_s_own_floor_of_gaussians_but_not_of_quantiles():
    oracles = np.random.default_rng(0).standard_t(2, (120, 1500))
    ratio = {
        estimator: halves(oracles, estimator=estimator).oracle_first.p95
        / floor_of(estimator, 60, 60, 10, 0).oracle_first.p95
        for estimator in OURS
    }
    assert ratio["quantile"] == pytest.approx(1, abs=0.1) and ratio["gaussian"] > 1.05


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
def test_unlike_points_are_refused():
    for pair in (
        (drawn(60, 3), drawn(60, 4)),
        (drawn(60, 3)[:, 0], drawn(60, 3)),
        (drawn(60, 0), drawn(60, 0)),
    ):
        with pytest.raises(BadInput, match="dl-920"):
            klom(*pair)


def test_diverged_models_are_named():
    bad = drawn(60, 3)
    bad[[3, 17], [0, 2]] = np.nan, np.inf
    with pytest.raises(
        BadInput, match=r"dl-921.*unlearned models.*2 of 60 \(rows 3, 17\).*leave diverged models out"
    ):
        klom(bad, drawn(60, 3))
    with pytest.raises(BadInput, match=r"dl-921.*the oracles"):
        klom(drawn(60, 3), bad)


@pytest.mark.parametrize(
    ("estimator", "u", "o", "level"),
    [
        ("easydub", 20, 20, "(5|4.9|5.1);"),
        ("a2d", 60, 49, "1"),
        ("quantile", 19, 50, ""),
        ("quantile", 20, 49, ""),
        ("gaussian", 7, 8, ""),
    ],
)
def test_too_few_models_are_refused_with_the_floor_they_would_have(estimator, u, o, level):
    with pytest.raises(
        BadInput, match=rf"dl-922.*{u} models and {o} oracles.*no difference at all is {level}"
    ):
        klom(drawn(u, 3), drawn(o, 3), estimator=estimator)


def test_two_models_are_refused_without_a_floor():
    with pytest.raises(BadInput, match=r"dl-922.*found: 2 models and 2 oracles; do: give at least 8"):
        klom(drawn(2, 3), drawn(2, 3), estimator="gaussian")


@pytest.mark.usefixtures("unchecked")
def test_unknown_settings_are_refused():
    for settings in ({"estimator": "histogram"}, {"bins": 1}):
        with pytest.raises(BadInput, match="dl-923"):
            klom(drawn(60, 3), drawn(60, 3), **settings)
    with pytest.raises(BadInput, match="dl-923"):
        halves(drawn(120, 3), splits=0)


def test_constants_that_cannot_be_compared_are_refused():
    low, high = np.zeros((60, 2)), np.ones((60, 2))
    for estimator in ("gaussian", "a2d", "easydub"):
        with pytest.raises(BadInput, match=r"dl-924.*quantile"):
            klom(high, low, estimator=estimator)
    assert klom(high, low).oracle_first[0] > 1


def test_how_it_reads_and_travels():
    found = klom(drawn(100, 50, 1, 2).astype(np.float32), drawn(80, 50, 2))
    assert isinstance(found, KLoM)
    top, floor = found.most[0], found.floor.oracle_first.p95
    assert (
        f"over 50 points, of at most {top:.2f}; no difference gives {floor:.2f}; 100 models against 80"
        in str(found)
    )
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["models"] == 100 and len(told["oracle_first"]) == 50
    assert told["floor"]["oracle_first"]["p95"] == found.floor.oracle_first.p95
    few = klom(drawn(9, 5), drawn(9, 5), estimator="gaussian")
    assert json.loads(json.dumps(few.to_json(), allow_nan=False))["most"] == [None, None]
    assert "at most" not in str(few)
