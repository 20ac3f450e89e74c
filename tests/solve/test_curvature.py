"""Curvature blocks: whole ones are exact, Kronecker ones are where the gradients have that structure."""

import numpy as np
import pytest
import torch

from dataloupe._errors import BadInput
from dataloupe.core import Direct, Outer, Picked
from dataloupe.solve import (
    Block,
    Curvature,
    Rotated,
    Sums,
    _curvature,
    as_arrays,
    from_arrays,
    squares,
    totals,
)

B, R, C = 60, 4, 5


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def parts_of(found, batches=3):
    cuts = np.array_split(np.arange(len(found.product())), batches)
    return [(slice(cut[0], cut[-1] + 1), found.part(slice(cut[0], cut[-1] + 1))) for cut in cuts]


def fitted(found):
    sums = Sums()
    for _, part in parts_of(found):
        sums.add("w", [part])
    blocks = sums.blocks()
    rows = [(place, blocks["w"].turned([part])) for place, part in parts_of(found)]
    values = sum(squares(turned, torch.ones(place.stop - place.start)).double() for place, turned in rows)
    return Curvature(blocks, {"w": values.numpy()})


def solved(curvature, left, right, damping):
    """Targets in two batches, training rows in three."""
    kept = Rotated(curvature.blocks, slice(0, len(left.product())))
    for place, part in parts_of(left, 2):
        kept.add("w", [part], place)
    out = np.zeros((len(left.product()), len(right.product())), dtype=np.float32)
    products = kept.products(curvature.inverse(damping), out)
    for place, part in parts_of(right):
        products("w", [part], place)
    return torch.from_numpy(out).double()


def exact(found, left, right, damping):
    rows = found.product().flatten(1).double()
    gram = rows.T @ rows
    ridge = damping * gram.trace() / len(gram)
    inverse = torch.linalg.inv(gram + ridge * torch.eye(len(gram)))
    return left.product().flatten(1).double() @ inverse @ right.product().flatten(1).double().T


@pytest.mark.parametrize("damping", [0.01, 1.0])
@pytest.mark.parametrize("g", [1, 2])
def test_a_small_block_is_its_whole_gram(g, damping):
    found = Outer(numbers(B, g, 3, R), numbers(B, g, 3, C, seed=1))
    few = found.part(slice(0, 7))
    ours = solved(fitted(found), few, few, damping)
    torch.testing.assert_close(ours, exact(found, few, few, damping), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("t", [1, 3])
def test_a_kronecker_block_is_exact_where_the_gram_is_one(monkeypatch, t):
    """Every left with every right: the Gram matrix is (sum left left') x (sum right right')."""
    monkeypatch.setattr(_curvature, "FULL", 0)
    lefts, rights = numbers(6, R), numbers(10, C, seed=1)
    left, right = lefts.repeat_interleave(10, 0), rights.repeat(6, 1)
    found = Outer(left[:, None, None].expand(-1, 1, t, -1) / t, right[:, None, None].expand(-1, 1, t, -1))
    spectrum = fitted(found)
    block = spectrum.blocks["w"]
    assert block.whole is None and block.left is not None and block.right is not None
    few = Outer(numbers(7, 1, 2, R, seed=2), numbers(7, 1, 2, C, seed=3))
    torch.testing.assert_close(
        solved(spectrum, few, few, 0.1), exact(found, few, few, 0.1), rtol=1e-3, atol=1e-4
    )


def test_the_eigenvalues_are_those_of_the_gradients_themselves(monkeypatch):
    monkeypatch.setattr(_curvature, "FULL", 0)
    found = Outer(numbers(B, 1, 3, R), numbers(B, 1, 3, C, seed=1))
    spectrum = fitted(found)
    block = spectrum.blocks["w"]
    turned = torch.einsum("rs,brc,cd->bsd", block.left, found.product(), block.right).flatten(1)
    values = torch.from_numpy(spectrum.values["w"])
    torch.testing.assert_close(values, turned.square().sum(0).double(), rtol=1e-4, atol=1e-4)
    left, right = found.left.reshape(-1, R).double(), found.right.reshape(-1, C).double()
    for basis, rows in ((block.left, left), (block.right, right)):
        moved = basis.T.double() @ (rows.T @ rows) @ basis.double()
        assert (moved - moved.diag().diag()).abs().max() < 1e-4 * moved.abs().max()


@pytest.mark.parametrize("full", [0, 1024])
def test_columns_in_the_order_of_memory_are_those_of_the_parameter(monkeypatch, full):
    monkeypatch.setattr(_curvature, "FULL", full)
    plain = Outer(numbers(B, 1, 3, R), numbers(B, 1, 3, 6, seed=1))
    turned = plain._replace(right=plain.right.unflatten(3, (2, 3)).mT.flatten(3), kernel=3)
    ours, theirs = (solved(fitted(one), one, one, 0.1) for one in (turned, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["grouped", "picked", "direct"])
def test_every_kind_of_contribution_is_turned_as_its_product(monkeypatch, kind):
    monkeypatch.setattr(_curvature, "FULL", 0)
    draws = torch.Generator().manual_seed(0)
    found = {
        "grouped": Outer(numbers(B, 2, 3, R), numbers(B, 2, 3, C, seed=1)),
        "picked": Picked(torch.randint(8, (B, 3), generator=draws), numbers(B, 3, C), 8),
        "direct": Direct(numbers(B, 8, C)),
    }[kind]
    block = fitted(found).blocks["w"]
    plain = found.product()
    plain = plain if block.left is None else block.left.T @ plain
    torch.testing.assert_close(block.rotated([found]), (plain @ block.right).flatten(1), rtol=1e-4, atol=1e-4)


def test_uses_of_one_parameter_add_up_before_they_are_squared():
    found = Direct(numbers(B, R))
    twice = Sums()
    twice.add("w", [found, found])
    turned = twice.blocks()["w"].turned([found, found])
    rows = 2 * found.values
    torch.testing.assert_close(squares(turned, torch.ones(B)).sum(), rows.square().sum(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("side", [0, 8192])
def test_one_outer_product_stays_one_and_is_summed_as_such(monkeypatch, kernel, side):
    """What a fully connected layer gives: no example's gradient is made to square or to sum it."""
    monkeypatch.setattr(_curvature, "FULL", 0)
    monkeypatch.setattr(_curvature, "SIDE", side)
    found = Outer(numbers(B, 1, 1, R), numbers(B, 1, 1, 6, seed=1), kernel)
    sums = Sums()
    sums.add("w", [found])
    block = sums.blocks()["w"]
    turned = block.turned([found])
    assert isinstance(turned, Outer) and (block.right is None) == (side == 0)
    plain = block.rotated([found, found]) / 2
    torch.testing.assert_close(turned.product().flatten(1), plain, rtol=1e-4, atol=1e-5)
    weights = numbers(B, 3, seed=2)
    torch.testing.assert_close(
        squares(turned, weights[:, 0]), weights[:, 0] @ plain.square(), rtol=1e-4, atol=1e-4
    )
    for one in (turned, Direct(plain)):
        torch.testing.assert_close(totals(one, weights), weights.T @ plain, rtol=1e-4, atol=1e-4)


def test_a_parameter_that_never_moves_is_left_out():
    still = {"still": np.zeros(R)}
    blocks = {"still": Block((1, R)), "moved": Block((1, C))}
    with pytest.raises(BadInput, match="dl-704"):
        Curvature(blocks, still).inverse(1.0)
    both = Curvature(blocks, still | {"moved": np.ones(C)})
    assert both.inverse(1.0).keys() == {"moved"} and both.dimension(1.0) == pytest.approx(C / 2)


def test_damping_is_relative_to_the_mean_of_each_block_dead_coordinates_too():
    blocks = {"w": Block((1, 4)), "v": Block((2, 1))}
    curvature = Curvature(blocks, {"w": np.array([3.0, 1.0]), "v": np.array([0.5, 0.5])})
    assert curvature.inverse(2.0)["w"].tolist() == pytest.approx([1 / 5, 1 / 3])
    assert curvature.inverse(2.0)["v"].tolist() == pytest.approx([1 / 1.5, 1 / 1.5])


@pytest.mark.parametrize("full", [0, 1024])
@pytest.mark.parametrize("t", [1, 3])
def test_what_dead_units_never_move_has_no_coordinate_and_the_answer_is_the_same(monkeypatch, full, t):
    monkeypatch.setattr(_curvature, "FULL", full)
    found = Outer(numbers(B, 1, t, R), numbers(B, 1, t, C, seed=1))
    found.left[..., 1:3] = 0.0
    few = Outer(numbers(7, 1, t, R, seed=2), numbers(7, 1, t, C, seed=3))
    dead, live = fitted(found), fitted(found._replace(left=found.left[..., [0, 3]]))
    assert len(dead.values["w"]) == len(live.values["w"]) == (R - 2) * C
    alike = few._replace(left=few.left[..., [0, 3]])
    ours = solved(dead, few, found, 0.1)
    theirs = solved(live, alike, found._replace(left=found.left[..., [0, 3]]), 0.1 * (R - 2) / R)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_predictions_along_sums_are_products_summed():
    found, few = Direct(numbers(B, R)), Direct(numbers(7, R, seed=1))
    curvature = fitted(found)
    moves, dampings = numbers(B, 2, seed=2), (0.1, 10.0)
    sums = {"w": totals(curvature.blocks["w"].turned([found]), moves)}
    for some in (slice(0, 7), slice(2, 5)):
        kept = Rotated(curvature.blocks, some)
        for place, part in parts_of(few):
            kept.add("w", [part], place)
        guess = kept.along(sums, [curvature.inverse(one) for one in dampings])
        exactly = [(solved(curvature, few, found, one)[some] @ moves.double()).T for one in dampings]
        np.testing.assert_allclose(guess, torch.stack(exactly), rtol=1e-3, atol=1e-4)


def test_blocks_survive_being_kept(monkeypatch):
    monkeypatch.setattr(_curvature, "FULL", 12)
    sums = Sums()
    sums.add("whole", [Direct(numbers(B, 3, 4))])
    sums.add("sides", [Direct(numbers(B, R, C))])
    sums.add("vector", [Direct(numbers(B, 13))])
    blocks = sums.blocks()
    again = from_arrays(sums.shapes, as_arrays(blocks))
    assert again.keys() == blocks.keys()
    for name, one in blocks.items():
        assert again[name].matrix == one.matrix
        for side in ("whole", "left", "right"):
            here, there = getattr(one, side), getattr(again[name], side)
            assert (here is None) == (there is None) and (here is None or torch.equal(here, there))


def test_gradients_that_are_not_finite_are_told():
    sums = Sums()
    sums.add("w", [Direct(torch.full((2, R), float("nan")))])
    assert not sums.finite
