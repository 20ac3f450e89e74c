"""Outputs that are means over draws: gradients draw by draw, and a curvature that is the mean of the draws' own."""

import dataclasses

import numpy as np
import pytest
import torch
from denoisers import DIFFUSION, ByTime, clouds

from dataloupe import outputs
from dataloupe.core import PROBES, Chunked, MemoryLab, OneDraw, Question, Subsets, draw_signs, one_value
from dataloupe.lab import Lab
from dataloupe.lab import _features as kept
from dataloupe.learners import SGD, Checkpoints
from dataloupe.methods import TRAK, Influence
from dataloupe.solve import Exact, Linearised

N = 20
ALL = Subsets.full(N)


def question(repeats):
    learner = SGD(ByTime, epochs=4, lr=0.05, batch_size=5, optimizer="adamw", loss=DIFFUSION)
    data = clouds(N)
    return Question(learner, data, data[:3], outputs.DenoisingLoss(DIFFUSION, repeats))


def of_draws(asked, lab, k=0):
    """The gradient of every row under every draw ``[r, n, p]``, one by one."""
    each = [
        lab.features(
            dataclasses.replace(asked, train_output=OneDraw(asked.output, r)), ALL, k, Exact()
        ).train.whole()
        for r in range(asked.output.repeats)
    ]
    return np.stack(each).astype(np.float64)


@pytest.mark.parametrize("repeats", [1, 2, PROBES, 7])
def test_the_signs_stand_for_the_draws(repeats):
    """Signs of rows without end: the mean of signs_r signs_s is 1 / R where r = s, and 0 elsewhere."""
    signs = draw_signs(np.arange(4000), repeats)
    moments = np.einsum("nqr,nqs->rs", signs, signs) / signs.shape[0] / signs.shape[1]
    np.testing.assert_allclose(np.diag(moments), 1 / repeats, rtol=1e-12)
    off = moments - np.diag(np.diag(moments))
    assert np.abs(off).max() * repeats < 5 / (4000 * PROBES) ** 0.5
    np.testing.assert_array_equal(signs[7:9], draw_signs(np.arange(7, 9), repeats))


def test_a_draw_is_an_output_of_its_own():
    asked = question(3)
    model = asked.learner.train(asked.train, torch.ones(N), seed=0)
    rows = asked.train.take(np.arange(5))
    each = [one_value(OneDraw(asked.output, r), model, rows) for r in range(3)]
    torch.testing.assert_close(torch.stack(each).mean(0), one_value(asked.output, model, rows))
    assert OneDraw(asked.output, 1).name == "draw 1 of denoising loss"
    assert bool(OneDraw(asked.output, 1).valid(rows).all())


@pytest.mark.parametrize("repeats", [2, 6])
def test_the_lab_keeps_what_stands_for_the_draws(tmp_path, monkeypatch, repeats):
    """In chunks, from disk, and again: as one by one in memory."""
    monkeypatch.setattr(kept, "CHUNK", 8)
    asked, plain = question(repeats), MemoryLab()
    quiet = Lab(tmp_path, backend="loop", progress=False)
    first, again = (quiet.features(asked, ALL, 0, Exact()) for _ in range(2))
    right = plain.features(asked, ALL, 0, Exact())
    by_hand = np.einsum("nqr,rnd->nqd", draw_signs(np.arange(N), repeats), of_draws(asked, plain))
    size = np.abs(by_hand).max()
    q = min(repeats, PROBES)
    assert first.draws.shape == (N * q, right.train.width) and first.draws.sizes == (8 * q, 8 * q, 4 * q)
    np.testing.assert_allclose(right.draws.whole(), by_hand.reshape(N * q, -1), rtol=1e-4, atol=1e-5 * size)
    np.testing.assert_allclose(first.draws.whole(), right.draws.whole(), rtol=1e-3, atol=1e-4 * size)
    np.testing.assert_array_equal(first.draws.whole(), again.draws.whole())
    assert plain.features(question(1), ALL, 0, Exact()).draws is None


def test_rows_that_were_targets_before_have_no_draws_to_give(tmp_path):
    """The same rows under the same output, first asked about, then trained on: their draws are made then."""
    asked, quiet = question(3), Lab(tmp_path, backend="loop", progress=False)
    turned = dataclasses.replace(asked, train=clouds(N, seed=5), targets=asked.train)
    quiet.features(turned, ALL, 0, Exact())
    model = quiet.models(turned, ALL)[0]
    held = Checkpoints(ByTime, [{**model.params}])
    for first, then in ((turned, asked), (asked, turned)):
        of_held = [dataclasses.replace(one, learner=held) for one in (first, then)]
        found = [quiet.features(one, ALL, 0, Exact()) for one in of_held]
        assert all(one.draws is not None and len(one.draws) == 3 * N for one in found)


@pytest.mark.parametrize("lab", ["memory", "disk"])
def test_trak_whitens_by_the_mean_of_the_draws_second_moments(tmp_path, lab):
    """phi' (sum_i mean_r x_ir x_ir' + ridge)^-1 mean_r x_ir, densely."""
    asked, ridge = question(3), 0.1
    lab = MemoryLab() if lab == "memory" else Lab(tmp_path, backend="loop", progress=False)
    found = TRAK(models=1, dim=4096, ridge=ridge, fraction=1.0).attribute(asked, lab)
    features, x = lab.features(asked, ALL, 0, Exact()), of_draws(asked, lab)
    gram = np.einsum("rnd,rne->de", x, x) / 3
    inverse = np.linalg.inv(gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)))
    right = -features.targets @ inverse @ x.mean(0).T
    np.testing.assert_allclose(found.scores, right, rtol=1e-3, atol=1e-4 * np.abs(right).max())
    mean = x.mean(0).T @ x.mean(0)
    other = np.linalg.inv(mean + ridge * np.trace(mean) / len(mean) * np.eye(len(mean)))
    assert np.abs(features.targets @ other @ x.mean(0).T + right).max() > 0.2 * np.abs(right).max()


@pytest.mark.parametrize("lab", ["memory", "disk"])
def test_ek_fac_is_the_dense_inverse_where_blocks_are_small(tmp_path, lab):
    """Blocks of up to 1,024 numbers are whole: H_b = sum_i mean_r g_irb g_irb' exactly."""
    asked, damping = question(3), 0.1
    lab = MemoryLab() if lab == "memory" else Lab(tmp_path, backend="loop", progress=False)
    found = Influence(models=1, damping=damping, fraction=1.0).attribute(asked, lab)
    phi, x = lab.features(asked, ALL, 0, Exact()).targets.astype(np.float64), of_draws(asked, lab)
    right = np.zeros((3, N))
    for block in (slice(0, 80), slice(80, 160)):  # two tables of 20 timesteps by 4 numbers
        gram = np.einsum("rnd,rne->de", x[:, :, block], x[:, :, block]) / 3
        inverse = np.linalg.inv(gram + damping * np.trace(gram) / len(gram) * np.eye(len(gram)))
        right -= phi[:, block] @ inverse @ x.mean(0)[:, block].T
    np.testing.assert_allclose(found.scores, right, rtol=2e-3, atol=2e-4 * np.abs(right).max())


@pytest.mark.parametrize("q", [None, 3])
def test_rows_are_taken_out_with_all_that_the_curvature_holds_of_them(q):
    """Left out, and removed as a group, against A made without them, densely."""
    draws, n, d, ridge = np.random.default_rng(0), 30, 8, 0.1
    y = draws.normal(size=(n, q or 1, d)).astype(np.float32)
    x = y[:, 0] if q is None else 2 * draws.normal(size=(n, d)).astype(np.float32)
    w, slope, phi = draws.random(n), draws.random(n), draws.normal(size=(5, d)).astype(np.float32)
    of_draws = None if q is None else Chunked.of(y.reshape(-1, d))
    one = Linearised(Chunked.of(x), slope, w, phi, draws=of_draws)
    each = np.einsum("n,nqd,nqe->nde", w / (q or 1), y, y)
    held = each.sum(0)
    fixed = ridge * np.trace(held) / d * np.eye(d)
    right = [phi @ np.linalg.solve(held - each[i] + fixed, x[i]) for i in range(n)]
    found = one.left_out(slice(0, n), x, one.weights(ridge), ridge)
    np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)
    ids = np.array([3, 11, 4, 29])
    group = -phi @ np.linalg.solve(held - each[ids].sum(0) + fixed, slope[ids] @ x[ids])
    np.testing.assert_allclose(one.removed(ids, slope, ridge), group, rtol=1e-4, atol=1e-5)
