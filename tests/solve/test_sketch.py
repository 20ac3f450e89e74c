"""Sketches keep inner products on average, and every row to itself; whitening is its formula."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dataloupe._errors import BadInput
from dataloupe.core import Direct, Outer, Picked
from dataloupe.kernels import bucket_add, bucket_add_reference
from dataloupe.solve import DenseSketch, Exact, FactoredSketch, HashSketch, whitened
from dataloupe.solve._sketch import hash_tables

SKETCHES = [
    lambda seed: HashSketch(32, seed),
    lambda seed: HashSketch(32, seed, s=3),
    lambda seed: DenseSketch(32, seed),
    lambda seed: DenseSketch(32, seed, "gaussian"),
]


def gradients(rows=6, p=300, seed=0):
    return torch.randn(rows, p, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("make", SKETCHES)
def test_inner_products_are_kept_on_average(make):
    x = gradients(2)
    truth, size = float(x[0] @ x[1]), float(x[0].norm() * x[1].norm())
    found = [float(s[0] @ s[1]) for s in (make(seed).project(x) for seed in range(300))]
    error = np.std(found) / 300**0.5
    assert abs(np.mean(found) - truth) < 4 * error
    assert 0.5 < np.std(found) / (size * 32**-0.5) < 2


@pytest.mark.parametrize("make", [*SKETCHES, lambda _: Exact()])
def test_a_row_does_not_feel_its_batch_and_the_same_seed_gives_the_same(make):
    x = gradients(7)
    whole = make(1).project(x)
    assert whole.shape == (7, make(1).width(300)) and whole.dtype == torch.float32
    assert torch.equal(make(1).project(x), whole)
    alone = torch.cat([make(1).project(row[None]) for row in x])
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-5)
    if not isinstance(make(1), DenseSketch):  # sums in the order of the parameters: the very same bits
        assert torch.equal(alone, whole)


@pytest.mark.parametrize("make", SKETCHES)
def test_it_is_linear_and_another_seed_is_another_sketch(make):
    x = gradients(3)
    torch.testing.assert_close(
        make(0).project(2 * x[:1] - x[1:2]),
        2 * make(0).project(x[:1]) - make(0).project(x[1:2]),
        atol=1e-4,
        rtol=1e-4,
    )
    assert not torch.allclose(make(0).project(x), make(1).project(x), atol=0.1)


def test_dense_sketches_are_of_signs_or_of_normal_numbers_and_the_first_columns_stay():
    signs, normal = (
        DenseSketch(48, 3, kind).project(torch.eye(400)) * 48**0.5 for kind in ("rademacher", "gaussian")
    )
    assert set(signs.round(decimals=4).unique().tolist()) == {-1.0, 1.0}
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(normal.T.numpy()) - np.eye(48)).max() < 0.25
    for kind, wide in (("rademacher", signs), ("gaussian", normal)):
        half = DenseSketch(24, 3, kind).project(torch.eye(400)) * 24**0.5
        torch.testing.assert_close(half, wide[:, :24], rtol=1e-5, atol=1e-5)


def test_a_hash_sketch_puts_every_parameter_in_one_bucket_with_one_sign():
    matrix = HashSketch(8, seed=3).project(torch.eye(500))
    assert ((matrix != 0).sum(1) == 1).all() and set(matrix.unique().tolist()) == {-1.0, 0.0, 1.0}
    counts = (matrix != 0).sum(0)
    assert counts.min() > 35 and counts.max() < 95


def test_neighbouring_buckets_add_to_the_sketch_of_half_the_dimensions():
    x = gradients()
    wide, half = HashSketch(64, seed=5).project(x), HashSketch(32, seed=5).project(x)
    torch.testing.assert_close(wide.reshape(6, 32, 2).sum(2), half, rtol=1e-5, atol=1e-5)


def test_small_models_stay_exact():
    x = gradients(p=20)
    assert torch.equal(HashSketch(32).project(x), x) and HashSketch(32).width(20) == 20


def test_a_dense_sketch_does_not_depend_on_its_blocks(monkeypatch):
    x = gradients()
    whole = DenseSketch(16).project(x)
    monkeypatch.setattr("dataloupe.solve._sketch.BLOCK", 16 * 7)
    torch.testing.assert_close(DenseSketch(16).project(x), whole, rtol=1e-5, atol=1e-5)


def outer(b=3, g=1, t=4, r=6, c=9, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return Outer(torch.randn(b, g, t, r, generator=draws), torch.randn(b, g, t, c, generator=draws))


def sketched(sketch, shape, found, b=3):
    bound = sketch.bind({"before": torch.Size([5]), "w": torch.Size(shape)})
    out = torch.zeros(b, bound.width)
    bound.add(out, "w", found)
    return out


@pytest.mark.parametrize(
    "sketch",
    [HashSketch(32), DenseSketch(32), FactoredSketch(32, side=2, whole=0), FactoredSketch(32)],
)
@pytest.mark.parametrize("t", [1, 4, 200])
@pytest.mark.parametrize("g", [1, 2, 3])
def test_factors_are_sketched_as_their_product(sketch, g, t):
    found = outer(g=g, t=t)
    whole = sketched(sketch, (g * 6, 9), Direct(found.product()))
    torch.testing.assert_close(sketched(sketch, (g * 6, 9), found), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "sketch", [FactoredSketch(32, side=s, whole=0) for s in (2, 4)] + [FactoredSketch(32)]
)
@pytest.mark.parametrize("t", [1, 40])
def test_columns_in_the_order_of_memory_are_those_of_the_parameter(sketch, t):
    plain = outer(t=t, r=12)
    turned = plain._replace(right=plain.right.unflatten(3, (3, 3)).mT.flatten(3), kernel=3)
    torch.testing.assert_close(turned.product(), plain.product(), rtol=1e-5, atol=1e-5)
    for shape in ((12, 9), (12, 3, 3)):
        ours = sketched(sketch, shape, turned)
        torch.testing.assert_close(ours, sketched(sketch, shape, plain), rtol=1e-4, atol=1e-4)
        direct = Direct(plain.product().reshape(-1, *shape))
        torch.testing.assert_close(ours, sketched(sketch, shape, direct), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "sketch",
    [HashSketch(32), DenseSketch(32), FactoredSketch(32, side=2, whole=0), FactoredSketch(32)],
)
def test_picked_rows_are_sketched_as_their_table(sketch):
    draws = torch.Generator().manual_seed(0)
    found = Picked(torch.randint(20, (3, 7), generator=draws), torch.randn(3, 7, 6, generator=draws), 20)
    whole = sketched(sketch, (20, 6), Direct(found.product()))
    torch.testing.assert_close(sketched(sketch, (20, 6), found), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("whole", [0, 10_000])
def test_a_factored_sketch_keeps_inner_products_on_average(whole):
    x = outer(b=2, t=3, r=40, c=50)
    gradients = x.product().flatten(1)
    truth, size = float(gradients[0] @ gradients[1]), float(gradients[0].norm() * gradients[1].norm())
    rows = (sketched(FactoredSketch(256, seed, 16, whole), (40, 50), x, b=2) for seed in range(400))
    found = [float(s[0] @ s[1]) for s in rows]
    assert abs(np.mean(found) - truth) < 4 * np.std(found) / 400**0.5
    assert np.std(found) < (0.5 if whole == 0 else 1.5 * 256**-0.5) * size


def test_a_fold_puts_every_number_in_one_bucket_with_one_sign():
    eye = Direct(torch.eye(3000).reshape(3000, 60, 50))
    matrix = sketched(FactoredSketch(8), (60, 50), eye, b=3000)
    assert ((matrix != 0).sum(1) == 1).all() and set(matrix.unique().tolist()) == {-1.0, 0.0, 1.0}
    counts = (matrix != 0).sum(0)
    assert counts.min() > 330 and counts.max() < 420


@pytest.mark.parametrize("whole", [0, 10_000])
@pytest.mark.parametrize("kind", [HashSketch, DenseSketch, FactoredSketch])
def test_uses_together_are_sketched_as_one_by_one_and_not_changed(kind, whole):
    """One row, several rows, a table's rows, and the thing itself."""
    sketch = FactoredSketch(32, side=16, whole=whole) if kind is FactoredSketch else kind(32)
    table = Picked(
        torch.tensor([[1, 2], [39, 0], [1, 1]]),
        torch.randn(3, 2, 50, generator=torch.Generator().manual_seed(1)),
        40,
    )
    uses = [
        outer(t=4, r=40, c=50),
        outer(t=1, r=40, c=50, seed=2),
        table,
        Direct(outer(t=2, r=40, c=50, seed=3).product()),
    ]
    before = [one.product().clone() for one in uses]
    bound = sketch.bind({"before": torch.Size([5]), "w": torch.Size([40, 50])})
    together, apart = torch.zeros(2, 3, bound.width)
    bound.add(together, "w", *uses)
    for one in uses:
        bound.add(apart, "w", one)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    for one, product in zip(uses, before, strict=True):
        torch.testing.assert_close(one.product(), product, rtol=0, atol=0)


@pytest.mark.parametrize("found", [outer(b=3, t=1, r=40, c=50), outer(b=3, t=4, r=40, c=50)])
@pytest.mark.parametrize("whole", [0, 10_000])
def test_halves_of_a_fold_add_to_the_sketch_of_half_the_dimensions(found, whole):
    wide, half = (sketched(FactoredSketch(d, 5, 16, whole), (40, 50), found) for d in (64, 32))
    torch.testing.assert_close(wide[:, :32] + wide[:, 32:], half, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("t", [1, 4])
def test_a_fold_does_not_depend_on_the_batch_or_on_other_sketches(monkeypatch, t):
    found = outer(b=5, t=t, r=40, c=50)
    both = [FactoredSketch(32, seed).bind({"w": torch.Size([40, 50])}) for seed in (0, 1)]
    outs = [torch.zeros(5, 32) for _ in both]
    for bound, out in zip(both, outs, strict=True):
        bound.add(out, "w", found)
    assert not torch.allclose(*outs, atol=0.1)
    monkeypatch.setattr("dataloupe.solve._factored._AT_ONCE", 1)
    for bound, whole in zip(both, outs, strict=True):
        alone = torch.zeros(5, 32)
        for i in range(5):
            bound.add(alone[i : i + 1], "w", found.part(slice(i, i + 1)))
        torch.testing.assert_close(alone, whole, rtol=1e-5, atol=1e-5)


def test_a_model_smaller_than_its_sketch_is_kept_whole():
    found = outer()
    rows = sketched(FactoredSketch(100), (6, 9), found)
    torch.testing.assert_close(rows[:, 5:], found.product().flatten(1))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 60), st.integers(1, 9), st.integers(0, 99))
def test_the_compiled_sum_is_the_plain_one(b, p, dim, seed):
    x = gradients(b, p, seed)
    buckets, signs = hash_tables(seed, 1, dim, p, torch.device("cpu"))
    found, reference = torch.zeros(b, dim), torch.zeros(b, dim)
    bucket_add(found, x, buckets[0], signs[0])
    bucket_add_reference(reference, x, buckets[0], signs[0])
    torch.testing.assert_close(found, reference, rtol=1e-5, atol=1e-5)
    plain = torch.zeros(b, dim).index_add_(1, buckets[0], x * signs[0])
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=1e-6)


def test_half_precision_gradients_are_summed_in_fp32():
    x = torch.full((1, 50_000), 1.0, dtype=torch.bfloat16)
    signs = HashSketch(4, seed=0).project(torch.ones(1, 50_000))
    assert torch.equal(HashSketch(4, seed=0).project(x), signs)


@pytest.mark.parametrize(("n", "d"), [(50, 12), (12, 50), (20, 20)])
@pytest.mark.parametrize("ridge", [1e-6, 1.0, 100.0])
def test_whitening_is_its_formula_on_either_side(n, d, ridge):
    rng = np.random.default_rng(0)
    x, phi = rng.standard_normal((n, d)), rng.standard_normal((5, d))
    found = whitened(x, phi, ridge)
    gram = x.T @ x
    absolute = ridge * np.trace(gram) / d
    inverse = np.linalg.inv(gram + absolute * np.eye(d))
    np.testing.assert_allclose(found.values, phi @ inverse @ x.T, rtol=1e-6, atol=1e-8)
    assert found.ridge == pytest.approx(absolute)
    assert found.dimension == pytest.approx(np.trace(gram @ inverse), rel=1e-6)
    assert found.residual < 1e-8 and found.zero_rows == 0


def test_primal_and_dual_agree():
    rng = np.random.default_rng(1)
    x, phi = rng.standard_normal((30, 30)), rng.standard_normal((4, 30))
    primal = whitened(x, phi, 0.5).values
    wider = np.concatenate([x, np.zeros((30, 30))], axis=1)
    dual = whitened(
        wider, np.concatenate([phi, np.zeros((4, 30))], axis=1), 1.0
    ).values  # mean eigenvalue halves
    np.testing.assert_allclose(primal, dual, atol=1e-10)


def test_features_in_fp32_give_scores_in_fp32_that_are_as_good():
    rng = np.random.default_rng(2)
    x, phi = rng.standard_normal((200, 40)) * np.logspace(0, -3, 40), rng.standard_normal((3, 40))
    exact = whitened(x, phi, 1e-4).values
    found = whitened(x.astype(np.float32), phi.astype(np.float32), 1e-4).values
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, atol=1e-4 * np.abs(exact).max())


def test_bad_features_and_settings_are_refused():
    x = np.ones((4, 2))
    for ridge in (0.0, -1.0, np.nan):
        with pytest.raises(BadInput, match=r"dl-701.*above 0"):
            whitened(x, x, ridge)
    with pytest.raises(BadInput, match=r"dl-704.*all zero"):
        whitened(0 * x, x, 1.0)
    with pytest.raises(BadInput, match=r"dl-704.*NaN"):
        whitened(np.full((4, 2), np.nan), x, 1.0)
    with pytest.raises(BadInput, match="dl-704"):
        whitened(x, np.ones((3, 5)), 1.0)
    for bad in (
        lambda: HashSketch(0),
        lambda: HashSketch(4, s=0),
        lambda: DenseSketch(0),
        lambda: FactoredSketch(0),
        lambda: FactoredSketch(4, side=0),
    ):
        with pytest.raises(BadInput, match="dl-703"):
            bad()


def test_zero_rows_are_kept_and_counted():
    x = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 1.0]])
    found = whitened(x, x, 1.0)
    assert found.zero_rows == 1 and not found.values[:, 1].any()
