"""FISTA on torch: the weights of coordinate descent, the same certificate, the same penalties."""

import functools
import operator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloupe._errors import BadInput
from dataloupe.core import Subsets
from dataloupe.solve import Centred, Engine, Fista, Path, SuffStats, blocks_of, folds_of, lasso
from dataloupe.solve._fista import curvature

SHARP = Path(gap=1e-12)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def problem(k=120, n=30, m=5, *, seed=0, noise=0.5, kind="fixed"):
    rng = np.random.default_rng(seed)
    masks = Subsets(n=n, count=k, seed=seed, kind=kind).masks()
    truth = rng.standard_normal((n, m)) * (rng.random((n, m)) < 0.3)
    return masks, masks @ truth + noise * rng.standard_normal((k, m)) + 3.0


def folded(masks, y, folds=4):
    parts = SuffStats.split(blocks_of(masks, y, 32), folds_of(len(y), folds), folds)
    return functools.reduce(operator.add, parts), parts


def same(one, two, atol=1e-6):
    for name in ("weights", "bias", "penalty", "explained", "sigma2", "deviation"):
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), atol=atol, err_msg=name)


def primal_and_dual(masks, y, found, penalty, share):
    """The gap by its definition, on the rows themselves: the l2 part counts as n rows more."""
    k, n = masks.shape
    l1, l2 = k * penalty * share, k * penalty * (1 - share)
    x = np.concatenate([masks - masks.mean(0), np.sqrt(l2) * np.eye(n)])
    target = np.concatenate([y - y.mean(0), np.zeros((n, y.shape[1]))])
    left = target - x @ found.weights.T
    scale = np.minimum(1.0, l1 / np.abs(x.T @ left).max(0))
    primal = (left**2).sum(0) / 2 + l1 * np.abs(found.weights).sum(1)
    dual = ((target**2).sum(0) - ((target - scale * left) ** 2).sum(0)) / 2
    return (primal - dual) / ((target**2).sum(0) / 2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("share", [1.0, 0.6])
@pytest.mark.parametrize("kind", ["fixed", "bernoulli"])
def test_it_is_coordinate_descent(share, kind, device):
    masks, y = problem(kind=kind)
    stats = SuffStats.of(masks, y)
    penalty = np.array([0.01, 0.03, 0.1, 0.3, 0.03])
    path = Path(gap=1e-12, share=share)
    found = lasso(stats, penalty=penalty, path=path, engine=Fista(device))
    same(lasso(stats, penalty=penalty, path=path), found)
    assert found.gap.max() <= 1e-12


@pytest.mark.parametrize("select", ["hold-out", "k-fold", "gcv"])
@pytest.mark.parametrize(("share", "device"), [(share, device) for share in (1.0, 0.6) for device in DEVICES])
def test_it_chooses_the_same_penalties(select, share, device):
    masks, y = problem()
    whole, parts = folded(masks, y)
    path = Path(steps=10, end=0.02, gap=1e-12, share=share, patience=3)
    one, two = (
        lasso(whole, folds=parts, select=select, path=path, engine=engine) for engine in (None, Fista(device))
    )
    same(one, two)
    assert two.gap.max() <= 1e-12


@settings(max_examples=15)
@given(
    st.integers(8, 60),
    st.integers(2, 60),
    st.sampled_from([0.6, 1.0]),
    st.sampled_from([1e-2, 1e-4, 1e-9]),
    st.integers(0, 99),
)
def test_the_gap_is_the_gap_and_it_is_reached(k, n, share, gap, seed):
    """In fp32 steps and in fp64, of wide and of tall designs: what is certified is what the rows say."""
    masks, y = problem(k, n, m=3, seed=seed, kind="bernoulli")
    if (masks.all(0) | ~masks.any(0)).any():
        return
    found = lasso(SuffStats.of(masks, y), penalty=0.05, path=Path(gap=gap, share=share), engine=Fista())
    np.testing.assert_allclose(found.gap, primal_and_dual(masks, y, found, 0.05, share), atol=1e-10)
    assert found.gap.max() <= gap


def test_steps_in_single_precision_are_as_good_as_their_gap_says():
    masks, y = problem()
    whole, parts = folded(masks, y)
    one, two = (lasso(whole, folds=parts, path=Path(gap=1e-5), engine=engine) for engine in (None, Fista()))
    assert max(one.gap.max(), two.gap.max()) <= 1e-5
    np.testing.assert_allclose(two.penalty, one.penalty, rtol=1e-9)
    np.testing.assert_allclose(two.explained, one.explained, atol=1e-3)
    np.testing.assert_allclose(two.weights, one.weights, atol=5e-3)


def test_where_single_precision_ends_double_goes_on(monkeypatch):
    masks, y = problem()
    monkeypatch.setattr("dataloupe.solve._fista.SINGLE", 2)
    found = lasso(SuffStats.of(masks, y), penalty=0.02, path=Path(gap=1e-5), engine=Fista())
    assert found.gap.max() <= 1e-5


def test_a_step_that_ends_early_says_so(monkeypatch):
    masks, y = problem()
    monkeypatch.setattr("dataloupe.solve._fista.DOUBLE", 3)
    found = lasso(SuffStats.of(masks, y), penalty=0.02, path=SHARP, engine=Fista())
    assert found.gap.min() > 1e-12
    np.testing.assert_allclose(found.gap, primal_and_dual(masks, y, found, 0.02, 1.0), atol=1e-10)


def test_targets_do_not_feel_their_batch():
    masks, y = problem(m=7)
    order = np.array([3, 0, 6, 4, 1, 5, 2])
    (whole, parts), (other, others) = folded(masks, y), folded(masks, y[:, order])
    path = Path(steps=10, gap=1e-11)
    one = lasso(whole, folds=parts, path=path, engine=Fista())
    two = lasso(other, folds=others, path=path, engine=Fista(targets=3))
    np.testing.assert_allclose(two.weights, one.weights[order], atol=1e-6)
    np.testing.assert_allclose(two.penalty, one.penalty[order], rtol=1e-12)


def test_an_excluded_example_is_not_there():
    masks, y = problem(m=4)
    whole, parts = folded(masks, y)
    out = np.array([2, -1, 0, 29])
    for more in ({"penalty": 0.01}, {"folds": parts}):
        path = Path(steps=10, gap=1e-12)
        found = lasso(whole, path=path, exclude=out, engine=Fista(), **more)
        assert not found.weights[out >= 0, out[out >= 0]].any()
        assert found.gap.max() <= 1e-12
        same(lasso(whole, path=path, exclude=out, **more), found)


def test_at_the_largest_penalty_nothing_is_left():
    masks, y = problem()
    x = masks - masks.mean(0)
    top = np.abs(x.T @ (y - y.mean(0))).max(0) / len(y)
    stats = SuffStats.of(masks, y)
    assert not lasso(stats, penalty=top, path=SHARP, engine=Fista()).weights.any()
    assert (lasso(stats, penalty=0.99 * top, path=SHARP, engine=Fista()).weights != 0).sum(1).min() >= 1


def test_an_orthogonal_design_is_soft_thresholded():
    every = (np.arange(64)[:, None] >> np.arange(6) & 1).astype(bool)
    truth = np.array([[3.0, -2.0, 1.0, 0.3, -0.1, 0.0]]).T
    found = lasso(SuffStats.of(every, every @ truth), penalty=0.1, path=SHARP, engine=Fista())
    np.testing.assert_allclose(
        found.weights.T, np.sign(truth) * np.maximum(np.abs(truth) - 0.4, 0), atol=1e-6
    )


@settings(max_examples=25)
@given(st.integers(3, 200), st.integers(2, 120), st.sampled_from(["fixed", "bernoulli"]), st.integers(0, 99))
def test_the_curvature_is_a_bound_and_a_close_one(k, n, kind, seed):
    masks, y = problem(k, n, m=1, seed=seed, kind=kind)
    gram = Centred.of(masks.astype(float), y).dense()
    largest = np.linalg.eigvalsh(gram)[-1]
    found = curvature(torch.from_numpy(gram))
    assert largest * (1 - 1e-9) <= found <= 1.06 * largest + 1e-9


def test_another_engine_is_a_protocol():
    assert isinstance(Fista(), Engine)


def test_bad_settings_are_refused():
    for bad in ({"device": "meta-physical"}, {"device": "cuda:999"}, {"targets": 0}):
        with pytest.raises(BadInput, match="dl-776"):
            Fista(**bad)
