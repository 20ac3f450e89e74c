"""Curvature blocks: whole ones are exact, Kronecker ones are where the gradients have that structure."""

import numpy as np
import pytest
import torch

from dataloupe._errors import BadInput
from dataloupe.core import Direct, Outer, Picked
from dataloupe.solve import Spectrum, Sums, _curvature

B, R, C = 60, 4, 5


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fitted(found, batches=3):
    sums = Sums()
    cuts = np.array_split(np.arange(len(found.product())), batches)
    parts = [found.part(slice(cut[0], cut[-1] + 1)) for cut in cuts]
    for part in parts:
        sums.add("w", [part])
    spectrum = Spectrum(sums.blocks())
    for part in parts:
        spectrum.add("w", [part])
    return spectrum


def solved(spectrum, left, right, damping):
    inverse, _ = spectrum.inverse(damping)
    block = spectrum.blocks["w"]
    return (block.rotated([left]) * inverse["w"]) @ block.rotated([right]).T.double()


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
    torch.testing.assert_close(ours.double(), exact(found, few, few, damping), rtol=1e-3, atol=1e-4)


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
        solved(spectrum, few, few, 0.1).double(), exact(found, few, few, 0.1), rtol=1e-3, atol=1e-4
    )


def test_the_eigenvalues_are_those_of_the_gradients_themselves(monkeypatch):
    monkeypatch.setattr(_curvature, "FULL", 0)
    found = Outer(numbers(B, 1, 3, R), numbers(B, 1, 3, C, seed=1))
    spectrum = fitted(found)
    block = spectrum.blocks["w"]
    turned = torch.einsum("rs,brc,cd->bsd", block.left, found.product(), block.right).flatten(1)
    torch.testing.assert_close(spectrum.values["w"], turned.square().sum(0).double(), rtol=1e-4, atol=1e-4)
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
    spectrum = Spectrum(twice.blocks())
    spectrum.add("w", [found, found])
    rows = 2 * found.values
    torch.testing.assert_close(spectrum.values["w"].sum(), rows.square().sum().double(), rtol=1e-4, atol=0)


def test_a_parameter_that_never_moves_is_left_out():
    sums = Sums()
    rows = {"still": torch.zeros(B, R), "moved": numbers(B, R)}
    for name, values in rows.items():
        sums.add(name, [Direct(values)])
    spectrum = Spectrum(sums.blocks())
    spectrum.add("still", [Direct(rows["still"])])
    with pytest.raises(BadInput, match="dl-704"):
        spectrum.inverse(1.0)
    spectrum.add("moved", [Direct(rows["moved"])])
    inverse, facts = spectrum.inverse(1.0)
    assert inverse.keys() == {"moved"} and facts["blocks"] == 1


def test_gradients_that_are_not_finite_are_told():
    sums = Sums()
    sums.add("w", [Direct(torch.full((2, R), float("nan")))])
    assert not sums.finite
