"""Two algorithms' attributions: a planted direction is found, chance is not, and bad input is named."""

import dataclasses
import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dataloupe as dl
from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.apps._chance import FEW, Halves, deals_of, possible, reliability, splits_of
from dataloupe.core import DenseAttribution, Examples, Info
from dataloupe.solve import contrast

M, N = 80, 400


def algorithm(draws, signal, models=10, noise=0.7):
    """An ensemble whose models see the signal with noise of that length."""
    each = noise / N**0.5 * draws.standard_normal((models, *signal.shape)) + signal
    parts = tuple(DenseAttribution(part.astype(np.float32), Info("planted")) for part in each)
    return DenseAttribution(each.mean(axis=0).astype(np.float32), Info("planted"), pieces=parts)


def planted(seed, size=0.6, **settings):
    """(A, B, direction): A moves the first ten targets along a direction of 20 training rows, B does not."""
    draws = np.random.default_rng(seed)
    shared = draws.standard_normal((M, 8)) @ draws.standard_normal((8, N))
    shared /= np.linalg.norm(shared, axis=1, keepdims=True)
    u = np.zeros(N)
    u[:20] = 20**-0.5
    moved = np.where(np.arange(M) < 10, size, 0.0)
    return algorithm(draws, shared + np.outer(moved, u), **settings), algorithm(draws, shared, **settings), u


QUICK = dl.AA(deals=99, halves=4)


@pytest.mark.parametrize("by", ["residual", "contrastive", "generalised", "sparse"])
def test_the_planted_direction_is_found(by):
    a, b, u = planted(seed=0, noise=0.3)
    found = dl.compare(a, b, components=2, by=by, null=None)
    least = (
        0.85 if by == "contrastive" else 0.95
    )  # it also carries what rows of length 1 lose of shared parts
    assert abs(found.sides[0].vectors[0] @ u) > least
    assert set(found.sides[0].most(0, 10)) == set(range(10))
    assert found.sides[0].ratio[0] > 2.5
    np.testing.assert_allclose(np.linalg.norm(found.sides[0].vectors, axis=1), 1.0, rtol=1e-5)
    assert (found.sides[0].vectors[[0, 1], np.abs(found.sides[0].vectors).argmax(axis=1)] > 0).all()


def test_the_null_keeps_the_planted_direction_and_no_other():
    a, b, u = planted(seed=1)
    found = dl.compare(a, b, components=3, null=QUICK, names=("with", "without"))
    ((side, component),) = found.found
    assert (side.of, side.against, component) == ("with", "without", 0)
    assert abs(side.vectors[0] @ u) > 0.9
    assert side.p[0] == side.ratio_p[0] == 0.01
    assert side.stability[0] > 0.8 > side.stability[1]
    assert (found.chance.models, found.chance.deals, found.chance.paired) == (10, 99, False)
    assert found.chance.value < side.values[0]
    assert "direction 0 of with" in str(found)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_algorithm_does_not_differ(seed):
    a, b, _ = planted(seed=seed, size=0.0)
    found = dl.compare(a, b, components=3, null=QUICK)
    assert found.found == []
    assert "no difference found" in str(found)
    assert found.denoised.mean() > found.cosine.mean() + 0.03
    assert found.denoised.mean() == pytest.approx(1.0, abs=0.03)


def test_lengths_of_rows_do_not_matter():
    a, b, _ = planted(seed=2)
    scale = np.exp(np.random.default_rng(0).standard_normal((M, 1))).astype(np.float32)
    longer = DenseAttribution(7 * scale * a.scores, a.info)
    plain, scaled = (dl.compare(one, b, components=2, null=None).sides[0] for one in (a, longer))
    np.testing.assert_allclose(scaled.vectors, plain.vectors, atol=1e-4)


def test_residual_rows_are_orthogonal_to_the_other_and_their_length_is_the_sine():
    a, b, _ = planted(seed=3)
    found = contrast(a.scores, b.scores, 5, stream=Stream.root(0))
    one, two = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a.scores, b.scores))
    cosine = (one * two).sum(axis=1)
    rows = one - cosine[:, None] * two
    assert np.abs((rows * two).sum(axis=1)).max() < 1e-5
    np.testing.assert_allclose((rows**2).sum(axis=1), 1 - cosine**2, atol=1e-5)
    exact = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)[:2] / M**0.5
    np.testing.assert_allclose(found.values[:2], exact, rtol=0.02)


def test_contrastive_and_generalised_directions_are_the_eigenvectors():
    draws = np.random.default_rng(0)
    a, b = draws.standard_normal((2, 30, 12)).astype(np.float32)
    one, two = (np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float64) for x in (a, b))
    s, t = (np.cov(x, rowvar=False, bias=True) for x in (one, two))
    values, vectors = np.linalg.eigh(s - t)
    found = contrast(a, b, 3, by="contrastive", stream=Stream.root(0))
    np.testing.assert_allclose(found.values, values[::-1][:3], rtol=1e-4)
    assert abs(found.vectors[0] @ vectors[:, -1]) > 0.999
    found = contrast(a, b, 1, by="generalised", stream=Stream.root(0))
    u = found.vectors[0].astype(np.float64)
    np.testing.assert_allclose(s @ u, found.values[0] * (t @ u + 0.1 * np.trace(t) / 12 * u), atol=1e-5)


def test_reliability_is_what_is_left_of_the_signal():
    draws = np.random.default_rng(0)
    signal = draws.standard_normal((40, 5000))
    parts = [signal + 2.0 * draws.standard_normal(signal.shape) for _ in range(4)]
    np.testing.assert_allclose(reliability(parts, 4), 1 / (1 + 4 / 4), atol=0.04)
    np.testing.assert_allclose(reliability(parts, 16), 1 / (1 + 4 / 16), atol=0.04)
    noise = [draws.standard_normal((40, 5000)) for _ in range(4)]
    assert reliability(noise, 4).max() < 0.2
    assert (reliability([np.zeros((3, 5))] * 2, 2) == 0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 14), st.integers(0, 3), st.integers(1, 40))
def test_splits_are_distinct_pairs_of_disjoint_sets(models, fewer, wanted):
    half = max(1, models // 2 - fewer)
    wanted = min(wanted, math.comb(models, half) * math.comb(models - half, half) // 2)
    found = splits_of(models, half, wanted, Stream.root(0))
    assert len({frozenset(split) for split in found}) == len(found) == wanted
    for one, two in found:
        assert len(one) == len(two) == half
        assert not set(one) & set(two)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 16), st.integers(1, 40), st.booleans())
def test_deals_are_distinct_and_never_the_true_one(models, wanted, paired):
    wanted = min(wanted, possible(models, paired=paired))
    found = deals_of(models, wanted, Stream.root(0), paired=paired)
    seen = {frozenset(map(frozenset, deal)) for deal in found}
    assert len(seen) == len(found) == wanted
    assert frozenset({frozenset(range(models)), frozenset(range(models, 2 * models))}) not in seen
    for one, two in found:
        assert sorted([*one, *two]) == list(range(2 * models))
        assert not paired or all({i % models for i in half} == set(range(models)) for half in (one, two))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_p_is_the_rank_of_the_true_deal_among_all(seed):
    draws = np.random.default_rng(seed)
    parts = list(draws.standard_normal((6, 12, 20)).astype(np.float32))
    a, b = (
        dl.pooled([DenseAttribution(part, Info("x")) for part in some]) for some in (parts[:3], parts[3:])
    )
    found = dl.compare(a, b, components=1, null=dl.AA(deals=9, level=0.9, halves=1, seed=seed))

    def largest(one, two):
        x, y = (sum(parts[k] for k in deal) for deal in (one, two))
        x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))
        rows = reliability(parts, 3)[:, None] * (x - (x * y).sum(axis=1, keepdims=True) * y)
        return np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)[0]

    deals = deals_of(3, 9, Stream.root(seed)("chance")("deals"), paired=False)
    chance = [largest(*deal) for deal in deals]
    for side, true in zip(found.sides, (((0, 1, 2), (3, 4, 5)), ((3, 4, 5), (0, 1, 2))), strict=True):
        assert side.p[0] == pytest.approx((1 + sum(value >= largest(*true) for value in chance)) / 10)
        assert side.values[0] == pytest.approx(largest(*true) / 12**0.5, rel=1e-4)


@pytest.mark.parametrize("models", [6, 7])
def test_sums_over_halves_are_the_sums(models):
    parts = list(np.random.default_rng(0).standard_normal((models, 3, 5)).astype(np.float32))
    splits = splits_of(models, 3, 30, Stream.root(1))
    apart, together, room = Halves(parts, splits), Halves(parts, splits), np.empty((3, 5), np.float32)
    for i, split in enumerate(splits):
        sums = [sum(parts[k] for k in members) for members in split]
        for j in (0, 1):
            np.testing.assert_allclose(apart.at(i, j), sums[j], atol=1e-5)
        for found, wanted in zip(together.both(i, room), sums, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_rows_without_scores_are_told_and_stay_out():
    a, b, u = planted(seed=4, noise=0.3)
    for one, rows in ((a, [11]), (b, [12, 13])):
        one.scores[rows] = 0.0
    found = dl.compare(a, b, components=1, null=None)
    assert [note.split(" of ")[0] for note in found.notes[:2]] == ["1", "2"]
    assert "nothing records what made" in found.notes[2]
    assert abs(found.sides[0].vectors[0] @ u) > 0.9
    assert found.cosine[11] == found.cosine[12] == 0.0


def test_unequal_ensembles_are_held_against_the_smaller():
    a, b, _ = planted(seed=5)
    more = algorithm(np.random.default_rng(6), b.scores, models=14)
    found = dl.compare(a, more, components=1, null=QUICK)
    assert found.chance.models == 10
    assert any("10 models of A, 14 of B" in note for note in found.notes)


def test_the_same_seed_gives_the_same_answer_and_json_holds_it():
    a, b, _ = planted(seed=7)
    one, two = (dl.compare(a, b, components=2, null=QUICK) for _ in range(2))
    assert json.dumps(one.to_json()) == json.dumps(two.to_json())
    assert one.to_json()["chance"]["models"] == 10
    assert "vectors" not in one.to_json()["sides"][0]


def with_data(one, seed):
    data = Examples(np.random.default_rng(seed).standard_normal((N, 2)).astype(np.float32))
    return dataclasses.replace(one, train=data)


def of_output(one, output):
    return dataclasses.replace(one, info=dataclasses.replace(one.info, output=output))


def test_what_cannot_be_compared_is_refused():
    a, b, _ = planted(seed=0)
    turned = DenseAttribution(np.ascontiguousarray(b.scores.T), b.info)
    fewer = DenseAttribution(b.scores[:, :-1], b.info)
    reordered = dataclasses.replace(b, index=np.stack([np.arange(M)[::-1], np.zeros(M, int)], axis=1))
    straight = dataclasses.replace(a, index=np.stack([np.arange(M), np.zeros(M, int)], axis=1))
    for one, other, words in (
        (a, turned, "transposed"),
        (a, fewer, "399"),
        (straight, reordered, "another order"),
        (with_data(a, 0), with_data(b, 1), "other training data"),
        (of_output(a, "margin"), of_output(b, "loss"), "of margin, planted of loss"),
    ):
        with pytest.raises(BadInput, match=f"dl-(780|512)(.|\n)*{words}"):
            dl.compare(one, other, components=2, null=None)
    with pytest.raises(BadInput, match="dl-780"):
        dl.compare(a, b, components=M)
    with pytest.raises(BadInput, match="dl-781"):
        dl.compare(a, b, components=1, null=None).sides[0].targets(0, M)


def test_models_of_the_same_subsets_are_swapped_in_pairs():
    """Noise that both models of a pair share is no difference, and does not hide one."""
    draws = np.random.default_rng(0)
    shared = draws.standard_normal((M, 8)) @ draws.standard_normal((8, N)) / 50
    common = draws.standard_normal((10, M, 3)) @ draws.standard_normal((10, 3, N)) / 8
    info = Info("TRAK", settings={"seed": 0, "models": 10})
    moved = np.outer(np.where(np.arange(M) < 10, 0.25, 0.0), planted(0)[2])

    def one(extra):
        noise = draws.standard_normal((10, M, N)) / 200
        parts = (common + shared + noise + extra).astype(np.float32)
        return dl.pooled([DenseAttribution(part, info) for part in parts])

    a, b, same = one(moved), one(0.0), one(0.0)
    found = dl.compare(a, b, components=1, null=QUICK)
    assert found.chance.paired
    assert [(side.of, c) for side, c in found.found] == [("A", 0)]
    apart = dl.compare(a, b, components=1, null=dataclasses.replace(QUICK, paired=False))
    assert apart.chance.value > 2 * found.chance.value
    assert dl.compare(b, same, components=1, null=QUICK).found == []


def test_a_null_that_is_not_possible_is_refused():
    a, b, _ = planted(seed=0, models=4)
    with pytest.raises(BadInput, match="dl-783(.|\n)*34 ways"):
        dl.compare(a, b, components=1)
    assert dl.compare(a, b, components=1, null=dl.AA(deals=19, level=0.95, halves=2)).chance.deals == 19
    five = planted(seed=0, models=5)
    found = dl.compare(*five[:2], components=1, null=dataclasses.replace(QUICK, paired=True))
    assert not found.chance.paired
    assert "5 pairs of models are too few" in found.notes[0]
    with pytest.raises(BadInput, match="dl-783(.|\n)*0 single models behind A"):
        dl.compare(DenseAttribution(a.scores, a.info), b, components=1)
    with pytest.raises(BadInput, match="dl-782"):
        dl.AA(deals=20)
    with pytest.raises(BadInput, match="dl-508"):
        dl.pooled([a])


def both_differ(seed, size):
    """A moves the first ten targets along u, B the next ten along v, and both ten more along u."""
    draws = np.random.default_rng(seed)
    shared = draws.standard_normal((M, 8)) @ draws.standard_normal((8, N))
    shared /= np.linalg.norm(shared, axis=1, keepdims=True)
    u, v = np.zeros((2, N))
    u[:20] = v[20:40] = 20**-0.5
    first, second, third = (np.where(np.arange(M) // 10 == i, 1.0, 0.0) for i in range(3))
    shared += 0.6 * np.outer(third, u)
    a = algorithm(draws, shared + size * np.outer(first, u))
    return a, algorithm(draws, shared + np.outer(second, v)), u, v


@pytest.mark.parametrize("seed", range(3))
def test_a_difference_of_one_side_does_not_hide_that_of_the_other(seed):
    a, b, u, v = both_differ(seed, size=1.0)
    found = dl.compare(a, b, components=3, null=QUICK)
    assert [(side.of, component) for side, component in found.found] == [("A", 0), ("B", 0)]
    assert abs(found.sides[0].vectors[0] @ u) > 0.95 < abs(found.sides[1].vectors[0] @ v)
    assert found.sides[0].ratio_p[0] > 0.05  # uneven deals hold B's ratio: it is no bar for A's


@pytest.mark.parametrize("seed", range(3))
def test_what_one_side_alone_does_is_not_ascribed_to_the_other(seed):
    a, b, *_ = both_differ(seed, size=0.0)
    found = dl.compare(a, b, components=3, null=QUICK)
    assert {side.of for side, _ in found.found} == {"B"}


def test_many_small_differences_are_told_where_no_direction_stands_out():
    draws = np.random.default_rng(9)
    shared = draws.standard_normal((M, 3)) @ draws.standard_normal((3, N))
    shared /= np.linalg.norm(shared, axis=1, keepdims=True)
    own = draws.standard_normal((M, N))
    own *= 0.3 / np.linalg.norm(own, axis=1, keepdims=True)
    a, b = algorithm(draws, shared + own, noise=2.0), algorithm(draws, shared, noise=2.0)
    found = dl.compare(a, b, components=3, null=QUICK)
    assert found.found == []
    assert found.chance.apart == 0.01
    assert "they differ (p 0.01), but no direction stands out" in str(found)
    same = dl.compare(algorithm(draws, shared, noise=2.0), b, components=3, null=QUICK)
    assert same.chance.apart > 0.01
    assert "no difference found" in str(same)


def at(attribution, what, value, **changes):
    info = dataclasses.replace(attribution.info, certificate={what: value}, **changes)
    return dataclasses.replace(attribution, info=info)


@pytest.mark.parametrize("what", ["ridge", "damping"])
def test_unlike_penalties_that_were_chosen_are_made_one(what):
    """Single models of two ensembles are exchangeable at one ridge only: both are solved again, or refused."""
    a, b, _ = planted(seed=0)
    one, two = at(a, what, 0.3), at(b, what, 1.0)
    with pytest.raises(BadInput, match=f"dl-515(.|\n)*{what} 0.3 in A and 1 in B"):
        dl.compare(one, two, components=1, null=QUICK)
    asked = []

    def again(value):
        asked.append(value)
        return at(a, what, value)

    one, two = (dataclasses.replace(x, at_penalty=again) for x in (one, two))
    found = dl.compare(one, two, components=1, null=QUICK)
    assert asked == [1.0, 1.0]
    assert any(f"{what} 0.3 in A and 1 in B" in note and "again at 1" in note for note in found.notes)
    assert found.cosine.tolist() == dl.compare(a, a, components=1, null=QUICK).cosine.tolist()
    assert not any(what in note for note in dl.compare(one, one, components=1, null=QUICK).notes)
    given = [at(x, what, value, settings={what: value}) for x, value in ((a, 0.3), (b, 1.0))]
    assert any("alone may show" in note for note in dl.compare(*given, components=1, null=QUICK).notes)


def test_unlike_thresholds_are_told():
    a, b, _ = planted(seed=0)
    found = dl.compare(at(a, "threshold", 0.3), at(b, "threshold", 1.0), components=1, null=QUICK)
    assert any("threshold 0.3 in A and 1 in B" in note for note in found.notes)


def test_scores_that_no_models_share_have_no_cosine_without_noise():
    """Every row is noise: nothing is known, nothing is found, and nothing warns."""
    draws = np.random.default_rng(0)
    away = -np.eye(10) + 0.1 * np.ones((10, 10))  # of two models' rows the inner product is below 0
    both = []
    for _ in range(2):
        rows = np.einsum("kj,mjn->kmn", away, draws.standard_normal((20, 10, 30)))
        both.append(dl.pooled([DenseAttribution(part.astype(np.float32), Info("noise")) for part in rows]))
    assert (reliability([piece.scores for piece in both[0].pieces], 10) == 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = dl.compare(*both, components=1, null=QUICK)
        words = str(found)
    assert found.found == []
    assert found.denoised_mean is None
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["chance"]["ratio"] is None
    assert "without noise" not in words


@pytest.mark.parametrize("paired", [False, True])
def test_more_deals_than_there_are_are_all_of_them(paired):
    models = 14 if paired else 8
    count = possible(models, paired=paired)
    assert FEW < count < 10_000
    found = deals_of(models, 10_000, Stream.root(0), paired=paired)
    assert len({frozenset(map(frozenset, deal)) for deal in found}) == len(found) == count
