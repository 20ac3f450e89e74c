"""A linearised model against its formulas, in memory and in chunks, and against leaving rows out of least squares."""

import numpy as np
import pytest

from dataloupe._errors import BadInput
from dataloupe.core import Chunked, room_for
from dataloupe.solve import (
    Linearised,
    Whitening,
    best_setting,
    held_out_ridge,
    held_out_threshold,
    product_of_averages,
    soft_threshold,
)

N, D, M = 30, 8, 5


def draws(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def chunked(whole, *sizes):
    cuts = np.cumsum([0, *sizes])
    return Chunked(sizes, whole.shape[1], lambda i: whole[cuts[i] : cuts[i + 1]])


def model(seed=0, blocks=(slice(None),), share=1.0, sizes=None):
    x = draws(seed, N, D)
    w = np.random.default_rng(seed).uniform(0.1, 1.0, N)
    features = Chunked.of(x) if sizes is None else chunked(x, *sizes)
    return Linearised(features, draws(seed + 100, N) ** 2, w, draws(seed + 200, M, D), blocks, share)


def inverse(one, ridge, block=slice(None)):
    x = one.features.whole().astype(np.float64)[:, block]
    gram = x.T @ (x * one.curvature[:, None])
    return np.linalg.inv(gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)))


def formula(one, ridge):
    x, phi = one.features.whole().astype(np.float64), one.targets.astype(np.float64)
    return one.share * sum(phi[:, b] @ inverse(one, ridge, b) @ x[:, b].T for b in one.blocks)


BLOCKS = [((slice(None),), 1.0), ((slice(0, 3), slice(3, 8)), 1.0), ((slice(0, 4), slice(4, 8)), 0.5)]


@pytest.mark.parametrize(("blocks", "share"), BLOCKS)
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_scores_are_their_formula(blocks, share, ridge):
    one = model(blocks=blocks, share=share)
    found = one.scores(one.features.whole(), one.weights(ridge)).T
    np.testing.assert_allclose(found, formula(one, ridge), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("blocks", "share"), BLOCKS)
def test_sums_of_scores_need_no_scores(blocks, share):
    one, directions = model(blocks=blocks, share=share, sizes=(7, 20, 3)), draws(9, N, 4).astype(np.float64)
    found = one.along(directions, [0.1, 3.0])
    expected = [(formula(one, ridge) @ directions).T for ridge in (0.1, 3.0)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def grams(one, ridge, without=()):
    """A + ridge of every block, some rows taken out of A."""
    x, w = one.features.whole().astype(np.float64), one.curvature.copy()
    left = w.copy()
    left[list(without)] = 0.0
    for b in one.blocks:
        whole, rest = (x[:, b].T @ (x[:, b] * weight[:, None]) for weight in (w, left))
        yield b, x[:, b], rest + ridge * np.trace(whole) / len(whole) * np.eye(len(whole))


@pytest.mark.parametrize(("blocks", "share"), BLOCKS)
def test_leaving_a_row_out_takes_it_out_of_every_block(blocks, share):
    one, ridge = model(blocks=blocks, share=share), 0.2
    rows, weights = one.features.whole(), one.weights(ridge)
    found = one.left_out(slice(0, N), rows, weights, ridge)
    for i in (0, 7, 29):
        expected = sum(
            share * one.targets[:, b] @ np.linalg.solve(a, x[i]) for b, x, a in grams(one, ridge, [i])
        )
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-5)
    some = one.left_out(slice(5, 9), rows[5:9], weights, ridge)
    np.testing.assert_allclose(some, found[5:9], rtol=1e-5)


@pytest.mark.parametrize(("blocks", "share"), BLOCKS)
def test_whitened_rows_have_their_scores_as_inner_products(blocks, share):
    one, ridge = model(blocks=blocks, share=share), 0.2
    expected = sum(share * x @ np.linalg.solve(a, x.T) for _, x, a in grams(one, ridge, []))
    found = one.whitened(ridge)
    np.testing.assert_allclose(found @ found.T, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("blocks", "share"), BLOCKS)
def test_a_group_is_taken_out_of_every_block(blocks, share):
    one, ids, ridge = model(blocks=blocks, share=share), np.array([3, 4, 11, 29, *range(14, 24)]), 0.05
    expected = -sum(
        share * one.targets[:, b] @ np.linalg.solve(a, x[ids].T @ one.slope[ids])
        for b, x, a in grams(one, ridge, ids)
    )
    np.testing.assert_allclose(one.removed(ids, one.slope, ridge), expected, rtol=1e-5)


def test_the_stream_is_the_product_of_averages():
    models = [model(seed, sizes=(10, 20)) for seed in range(3)]
    out = room_for((M, N))
    product_of_averages(models, 0.5, out)
    slope = np.mean([one.slope for one in models], 0)
    expected = np.mean([formula(one, 0.5) for one in models], 0) * slope
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    product_of_averages(models[:1], 0.5, out, leverage=True)
    x = models[0].features.whole()
    expected = models[0].left_out(slice(0, N), x, models[0].weights(0.5), 0.5).T * models[0].slope
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "d"), [(40, 6), (6, 40)])
def test_chunks_do_not_change_the_eigenvectors_meaning(n, d):
    x, w, phi = draws(0, n, d), np.random.default_rng(0).uniform(0.1, 1, n), draws(1, 3, d)
    whole = Whitening.of(Chunked.of(x), w)
    parts = Whitening.of(chunked(x, 2, n - 3, 1), w)
    for ridge in (1e-2, 1.0):
        np.testing.assert_allclose(x @ whole.weights(phi, ridge), x @ parts.weights(phi, ridge), rtol=1e-6)
        assert whole.dimension(ridge) == pytest.approx(parts.dimension(ridge))
    gram = x.T.astype(np.float64) @ (x * w[:, None])
    exact = np.linalg.inv(gram + 0.3 * np.trace(gram) / d * np.eye(d))
    np.testing.assert_allclose(x @ whole.weights(phi, 0.3), x @ exact @ phi.T, rtol=1e-5, atol=1e-7)
    assert whole.residual < 1e-12


def test_scores_beyond_memory_are_on_disk(monkeypatch):
    monkeypatch.setattr("dataloupe.core._attribution.LARGE", 10)
    large = room_for((4, 5))
    assert isinstance(large, np.memmap) and not large.any()
    large[1] = 3.0
    assert large.sum() == 15.0 and not isinstance(room_for((2, 5)), np.memmap)


# --- choosing on held-out models ---


def planted(noise=0.0, k=12, seed=0):
    """Models whose outputs are what ridge 1 says of the rows they saw."""
    rng = np.random.default_rng(seed)
    models, masks = [model(seed=i % 2) for i in range(k)], rng.random((k, N)) < 0.5
    truth = np.mean([formula(one, 1.0) for one in models[:2]], 0) * np.mean([o.slope for o in models[:2]], 0)
    measured = masks @ truth.T + noise * rng.standard_normal((k, M))
    return models, masks, measured


def test_the_ridge_that_made_the_outputs_is_chosen():
    models, masks, measured = planted(k=24)
    found = held_out_ridge(models, masks, measured, (0.01, 0.1, 1.0, 10.0, 100.0))
    assert found.best == 1.0 and found.correlation["1"] > 0.99
    assert found.slope == pytest.approx(1.0, abs=0.05)


def test_the_choice_is_what_leaving_one_out_by_hand_gives():
    models, masks, measured = planted(noise=1.0, k=5)
    found = held_out_ridge(models, masks, measured, (0.1, 1.0))
    for ridge, reached in found.correlation.items():
        guesses = []
        for k in range(5):
            others = [i for i in range(5) if i != k]
            values = np.mean([formula(models[i], float(ridge)) for i in others], 0)
            scores = values * np.mean([models[i].slope for i in others], 0)
            guesses.append(scores @ (masks[k] - masks.mean(0)))
        each = [np.corrcoef(np.array(guesses)[:, j], measured[:, j])[0, 1] for j in range(M)]
        assert reached == pytest.approx(np.mean(each), abs=1e-4)
        if float(ridge) == found.best:
            assert reached >= max(found.correlation.values()) - 0.01


def test_a_threshold_is_chosen_likewise(monkeypatch):
    models, masks, measured = planted(noise=1.0, k=5)
    found = held_out_threshold(models, masks, measured, 1.0, (0.0, 1.0))
    at_zero = held_out_ridge(models, masks, measured, (1.0,)).correlation["1"]
    assert found.correlation["0"] == pytest.approx(at_zero, abs=1e-4)
    guesses = []
    for k in range(5):
        others = [i for i in range(5) if i != k]
        values = np.mean([formula(models[i], 1.0) for i in others], 0)
        scores = soft_threshold(values * np.mean([models[i].slope for i in others], 0), 1.0)
        guesses.append(scores @ (masks[k] - masks.mean(0)))
    each = [np.corrcoef(np.array(guesses)[:, j], measured[:, j])[0, 1] for j in range(M)]
    assert found.correlation["1"] == pytest.approx(np.mean(each), abs=1e-4)
    monkeypatch.setattr("dataloupe.solve._held_out.ROOM", 2 * N * 5)
    pieces = held_out_threshold(models, masks, measured, 1.0, (0.0, 1.0))
    assert pieces.correlation == found.correlation and pieces.slope == pytest.approx(found.slope, rel=1e-5)


def test_of_equally_good_settings_the_one_with_slope_one_is_taken():
    measured = draws(3, 6, M).astype(float)
    noisy = measured + draws(4, 6, M)
    predicted = np.stack([measured / 5, measured / 1.2, 2 * measured, noisy])
    found = best_setting((1.0, 2.0, 3.0, 4.0), predicted, measured)
    assert found.best == 2.0 and found.slope == pytest.approx(1.2)
    assert found.correlation["1"] == found.correlation["3"] == 1.0 > found.correlation["4"]
    assert best_setting((1.0, 4.0), np.stack([measured / 5, noisy]), measured).best == 1.0


def test_small_scores_are_cut():
    found = soft_threshold(np.array([[3.0, -1.0, 1.0, -3.0], [0.0, 0.0, 0.0, 0.0]]), 1.0)
    rms = np.sqrt(5.0)
    np.testing.assert_allclose(found, [[3 - rms, 0, 0, rms - 3], [0, 0, 0, 0]])


def test_bad_features_are_refused():
    with pytest.raises(BadInput, match=r"dl-704.*NaN"):
        Whitening.of(Chunked.of(np.full((4, 2), np.nan)))
    with pytest.raises(BadInput, match=r"dl-704.*all zero"):
        Whitening.of(Chunked.of(np.zeros((4, 2))))
    with pytest.raises(BadInput, match="dl-704"):
        Whitening.of(Chunked.of(np.eye(2))).weights(np.ones((3, 5)), 1.0)
    with pytest.raises(BadInput, match="dl-701"):
        Whitening.of(Chunked.of(np.eye(2))).weights(np.ones((3, 2)), 0.0)
