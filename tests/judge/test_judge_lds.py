import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

from dataloupe._errors import BadInput
from dataloupe.core import DenseAttribution, Info, Outcomes, Subsets, trainings_record
from dataloupe.judge import calibration, ceiling, lds

N, M = 40, 12


def planted(k, m, noise, *, repeats=2, seed=0, n=N):
    """Outcomes = masks @ scores + noise of each seed, and the scores behind them (signal variance about 1)."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((m, n)) * 2 / np.sqrt(n)
    masks = Subsets(n=n, count=k, seed=seed).masks()
    signal = masks @ scores.T
    values = signal[:, None] + noise * rng.standard_normal((k, repeats, m))
    return scores, Outcomes.from_arrays(masks, values)


def named(scores, method="method", **info):
    return DenseAttribution(scores, Info(method, **info))


def as_spearman(pearson):
    """Spearman's correlation of two Gaussians of that Pearson correlation."""
    return 6 / np.pi * np.arcsin(pearson / 2)


def test_lds_is_the_mean_over_targets_of_scipys_spearman():
    scores, outcomes = planted(25, M, 1.0, repeats=3)
    attribution = named(scores)
    expected = [
        scipy.stats.spearmanr(attribution.predict(outcomes.subsets)[:, j], outcomes.mean()[:, j]).statistic
        for j in range(M)
    ]
    found = lds(attribution, outcomes)
    np.testing.assert_allclose(found.per_target, expected, atol=1e-12)
    assert found.value == pytest.approx(np.mean(expected))
    assert found.interval[0] < found.value < found.interval[1]
    assert (found.subsets, found.repeats, found.targets, found.left_out) == (25, 3, M, 0)


@pytest.mark.parametrize("repeats", [2, 3])
@pytest.mark.parametrize("noise", [0.5, 1.5])
def test_the_ceiling_and_the_oracle_of_planted_outcomes(noise, repeats):
    scores, outcomes = planted(600, 60, noise, repeats=repeats)
    truth = as_spearman(1 / np.sqrt(1 + noise**2 / repeats))  # what the oracle gets, in ranks
    found = lds(named(scores), outcomes)
    assert found.ceiling == pytest.approx(truth, abs=0.02)
    assert found.ceiling_interval[0] <= truth <= found.ceiling_interval[1]
    assert found.reliability == pytest.approx(as_spearman(1 / (1 + noise**2)), abs=0.02)
    assert found.disattenuated == pytest.approx(1.0, abs=0.03)
    assert found.value == pytest.approx(truth, abs=0.02)


def test_the_ceiling_alone_is_the_ceiling_of_the_lds():
    scores, outcomes = planted(50, M, 1.0)
    alone, within = ceiling(outcomes, seed=5), lds(named(scores), outcomes, seed=5)
    assert (alone.value, alone.interval, alone.reliability) == (
        within.ceiling,
        within.ceiling_interval,
        within.reliability,
    )
    assert str(alone).startswith(f"ceiling {alone.value:.2f} [")
    assert json.loads(json.dumps(alone.to_json()))["repeats"] == 2


def test_intervals_cover_the_population_value():
    def half_right(k, m, seed):
        scores, outcomes = planted(k, m, 1.0, repeats=1, seed=seed, n=20)
        wrong = np.random.default_rng(seed + 10_000).standard_normal(scores.shape) * 2 / np.sqrt(20)
        return lds(named(scores + wrong), outcomes, resamples=100 if k < 1000 else 2, seed=seed)

    truth = np.mean([half_right(4000, 50, seed).value for seed in range(4)])
    covered = [
        low <= truth <= high for low, high in (half_right(40, 10, 100 + s).interval for s in range(200))
    ]
    assert np.mean(covered) >= 0.91
    narrow = [high - low for low, high in (half_right(40, 10, 100 + s).interval for s in range(5))]
    assert np.mean(narrow) < 0.5


def test_intervals_of_the_ceiling_cover():
    found = [ceiling(planted(40, 6, 1.0, seed=s, n=20)[1], resamples=100, seed=s) for s in range(200)]
    truth = as_spearman(1 / np.sqrt(1 + 1 / 2))
    assert np.mean([low <= truth <= high for low, high in (one.interval for one in found)]) >= 0.91
    assert np.mean([one.value for one in found]) == pytest.approx(truth, abs=0.02)


def many_and_few(k, m, repeats, worlds, *, seed=0):
    """LDS of scores that are half right in worlds of k subsets and m targets, and what very many subsets give."""

    def half_right(k, m, seed, **more):
        scores, outcomes = planted(k, m, 1.0, repeats=repeats, seed=seed, n=20)
        wrong = np.random.default_rng(seed + 10_000).standard_normal(scores.shape) * 2 / np.sqrt(20)
        return lds(named(scores + wrong), outcomes, seed=seed, **more)

    many = [half_right(3000, 100, seed + s, resamples=2) for s in range(3)]
    return many, [half_right(k, m, seed + 100 + s, resamples=100) for s in range(worlds)]


@pytest.mark.parametrize(("k", "m"), [(10, 100), (20, 100), (6, 25), (50, 5)])
def test_few_subsets_and_many_targets_are_covered_too(k, m):
    """The percentile bootstrap held .6 at k = 10: ranks of few points read low, and their resamples lower still."""
    many, few = many_and_few(k, m, 2, 60)
    for name, truth in (
        ("interval", np.mean([one.value for one in many])),
        ("ceiling_interval", np.mean([one.ceiling for one in many])),
        (
            "disattenuated_interval",
            np.mean([one.value for one in many]) / np.mean([one.ceiling for one in many]),
        ),
    ):
        ends = [getattr(one, name) for one in few if getattr(one, name) is not None]
        assert len(ends) >= 30
        assert np.mean([low <= truth <= high for low, high in ends]) >= 0.93, name


def test_few_targets_of_many_subsets_are_few():
    """Five targets that differ say little about others: a t quantile of 4 degrees of freedom."""
    rng = np.random.default_rng(0)
    held = []
    for seed in range(200):
        scores, outcomes = planted(150, 5, 0.3, repeats=1, seed=seed, n=20)
        wrong = rng.standard_normal(scores.shape) * 2 / np.sqrt(20) * rng.uniform(0, 2, (5, 1))
        held.append(lds(named(scores + wrong), outcomes, resamples=100, seed=seed))
    truth = np.mean([one.value for one in held])
    assert np.mean([one.interval[0] <= truth <= one.interval[1] for one in held]) >= 0.9  # .83 by percentiles


def test_the_interval_holds_the_value_and_few_subsets_are_said_to_read_low():
    scores, outcomes = planted(10, 100, 0.3)
    found = lds(named(scores), outcomes)
    assert found.interval[0] <= found.value <= found.interval[1] <= 1.0
    assert any("10 subsets read low" in note for note in found.notes)
    exact = lds(named(scores), planted(100, 100, 0.0)[1])
    assert exact.interval == pytest.approx((1.0, 1.0), abs=1e-3) and exact.interval[1] <= 1.0


def test_a_share_of_a_ceiling_that_could_be_zero_has_no_interval():
    scores, outcomes = planted(8, 2, 8.0)
    found = lds(named(scores), outcomes)
    assert found.ceiling_interval[0] == 0.0 and found.disattenuated_interval is None
    assert "[" not in str(found).split(";")[0].split(",", 2)[-1]


def test_one_target_is_said_to_be_one():
    scores, outcomes = planted(100, 1, 0.5)
    assert any("about this target" in note for note in lds(named(scores), outcomes).notes)


def test_random_scores_score_nothing_and_negated_ones_the_opposite():
    scores, outcomes = planted(100, 20, 0.5)
    rng = np.random.default_rng(8)
    found = lds(
        named(scores),
        outcomes,
        controls={"random": named(rng.standard_normal(scores.shape)), "negated": named(-scores)},
    )
    low, high = found.controls["random"].interval
    assert low <= 0 <= high
    assert found.controls["negated"].value == pytest.approx(-found.value, abs=0.002)
    assert found.interval[0] > high


def test_controls_share_the_resamples_and_may_come_as_a_sequence():
    scores, outcomes = planted(30, M, 1.0)
    found = lds(named(scores, "a"), outcomes, controls=[named(scores, "b")], seed=3)
    assert found.controls["b"].interval == found.interval
    with pytest.raises(BadInput, match=r"dl-906.*b, b"):
        lds(named(scores), outcomes, controls=[named(scores, "b"), named(-scores, "b")])


def test_scale_and_offset_do_not_matter():
    scores, outcomes = planted(30, M, 1.0)
    shifted = DenseAttribution(scores * 0.01, Info("relative"), bias=np.arange(float(M)), units="relative")
    np.testing.assert_allclose(
        lds(shifted, outcomes).per_target, lds(named(scores), outcomes).per_target, atol=2e-3
    )


def test_a_level_widens_the_interval_and_a_seed_fixes_it():
    scores, outcomes = planted(30, M, 1.0)
    wide, narrow, again = (lds(named(scores), outcomes, level=level, seed=1) for level in (0.99, 0.5, 0.5))
    assert wide.interval[0] < narrow.interval[0] and narrow.interval[1] < wide.interval[1]
    assert narrow.interval == again.interval


def test_diverged_subsets_are_left_out_and_counted():
    scores, outcomes = planted(30, M, 1.0)
    values = outcomes.values.copy()
    values[[3, 7], [0, 1]] = np.nan
    damaged = Outcomes.from_arrays(outcomes.subsets.masks(), values)
    kept = np.setdiff1d(np.arange(30), [3, 7])
    clean = Outcomes.from_arrays(outcomes.subsets.masks(kept), outcomes.values[kept])
    found = lds(named(scores), damaged)
    assert (found.left_out, found.subsets) == (2, 28)
    assert found.value == lds(named(scores), clean).value


def test_constant_targets_count_as_zero_and_are_said():
    scores, outcomes = planted(30, M, 0.0, repeats=1)
    scores[4] = 0.1  # equal scores: equal predictions, up to the rounding of float32
    values = outcomes.values.copy()
    values[:, :, 5] = 2.0
    found = lds(named(scores), Outcomes.from_arrays(outcomes.subsets.masks(), values))
    assert found.per_target[[4, 5]].tolist() == [0.0, 0.0]
    assert found.value == pytest.approx((M - 2) / M)
    assert any(note.startswith(f"2 of {M} targets have constant") for note in found.notes)


def test_rounding_of_equal_scores_is_not_ranked_at_any_size():
    subsets = Subsets(n=5000, count=50)
    rng = np.random.default_rng(0)
    outcomes = Outcomes(
        subsets, rng.standard_normal((50, 1, 3)).astype(np.float32), np.zeros((50, 1), np.uint8)
    )
    scores = np.repeat([[0.1], [-3.3], [1e6]], 5000, axis=1)
    with pytest.raises(BadInput, match=r"dl-912.*predictions of method are the same"):
        lds(named(scores), outcomes)
    scores[2] = rng.standard_normal(5000)
    assert lds(named(scores), outcomes).per_target[:2].tolist() == [0.0, 0.0]


def test_one_seed_has_no_ceiling_and_says_so():
    scores, outcomes = planted(30, M, 1.0, repeats=1)
    found = lds(named(scores), outcomes)
    assert found.ceiling is found.ceiling_interval is found.reliability is found.disattenuated is None
    assert "repeats=2" in found.notes[0]
    assert "ceiling" not in str(found)
    with pytest.raises(BadInput, match=r"dl-905.*repeats=2"):
        ceiling(outcomes)


def test_a_ceiling_of_zero_divides_nothing():
    scores, outcomes = planted(30, M, 1.0)
    values = outcomes.values.copy()
    values[:, 1] = -2 * values[:, 0]
    found = lds(named(scores), Outcomes.from_arrays(outcomes.subsets.masks(), values))
    assert (found.ceiling, found.disattenuated) == (0.0, None)
    assert found.reliability == pytest.approx(-1.0)
    assert any("ceiling is 0" in note for note in found.notes)


def test_another_removal_is_said():
    scores, outcomes = planted(30, M, 1.0)
    found = lds(named(scores, "replay", removal="mask"), outcomes)
    assert any("replay predicts `mask`" in note and "`repack`" in note for note in found.notes)
    assert not any("removal" in note for note in lds(named(scores), outcomes).notes)


def test_scores_are_not_judged_on_the_trainings_they_were_fitted_to():
    scores, listed = planted(30, M, 1.0)
    outcomes = Outcomes(Subsets(n=N, count=30), listed.values, listed.status)

    def fitted(count, seed=0):
        info = Info("datamodel", fitted=[trainings_record("fit", Subsets(n=N, count=count, seed=seed))])
        return DenseAttribution(scores, info)

    with pytest.raises(BadInput, match=r"dl-514.*30 of 30 subsets that datamodel was fitted to"):
        lds(fitted(500), outcomes)
    assert any("fitted to 5 of the 30 subsets" in note for note in lds(fitted(5), outcomes).notes)
    assert not any("fitted" in note for note in lds(fitted(500, seed=1), outcomes).notes)


@pytest.mark.parametrize(
    ("shape", "found"), [((M, N + 1), "40 examples and 12"), ((M + 1, N), "40 examples and 12")]
)
def test_other_data_or_targets_are_refused(shape, found):
    _, outcomes = planted(10, M, 1.0)
    with pytest.raises(BadInput, match=f"dl-901.*{found}"):
        lds(named(np.zeros(shape)), outcomes)
    with pytest.raises(BadInput, match="dl-901"):
        lds(named(np.zeros((M, N))), outcomes, controls=[named(np.zeros(shape), "control")])


def test_fewer_than_four_subsets_are_refused_diverged_ones_not_counted():
    scores, outcomes = planted(5, M, 1.0)
    values = outcomes.values.copy()
    values[:2, 0] = np.nan
    with pytest.raises(BadInput, match=r"dl-902.*3 subsets without a diverged run, of 5"):
        lds(named(scores), Outcomes.from_arrays(outcomes.subsets.masks(), values))
    assert lds(named(scores), planted(4, M, 1.0)[1]).subsets == 4


@pytest.mark.parametrize(("seeds", "refused"), [(3, True), (1, False), (12, False)])
def test_subsets_that_share_some_seeds_are_no_independent_sample(seeds, refused):
    scores, outcomes = planted(12, M, 1.0)
    shared = Subsets.listed(outcomes.subsets.masks(), seeds=seeds)
    blocked = dataclasses.replace(outcomes, subsets=shared)
    for judge in (lambda: lds(named(scores), blocked), lambda: calibration(named(scores), blocked)):
        if refused:
            with pytest.raises(BadInput, match=r"dl-911.*3 training seeds"):
                judge()
        else:
            assert judge().subsets == 12


def test_predictions_that_overflow_are_refused():
    scores, outcomes = planted(10, M, 1.0)
    scores[2] = 3e38
    with np.errstate(over="ignore"), pytest.raises(BadInput, match=r"dl-903.*1 target rows"):
        lds(named(scores), outcomes)


def test_how_it_reads_and_travels():
    scores, outcomes = planted(100, M, 1.0)
    found = lds(named(scores, "trak"), outcomes, controls=[named(-scores, "negated")])
    (low, high), basis = found.interval, f"{M} targets x 100 subsets x 2 seeds"
    ends = "[{:.2f}, {:.2f}]".format(*found.disattenuated_interval)
    share = f"{found.disattenuated:.2f} {ends} of the ceiling {found.ceiling:.2f}"
    assert str(found) == f"LDS {found.value:.2f} [{low:.2f}, {high:.2f}], {share}; {basis}"
    told = json.loads(json.dumps(found.to_json()))
    assert told["method"] == "trak" and told["interval"] == list(found.interval)
    assert told["per_target"] == found.per_target.tolist()
    assert told["controls"]["negated"]["value"] == found.controls["negated"].value
