"""Transforms: the identity at strength 0; shape, type and range kept; keyed; each example by itself; closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dataloupe import transforms
from dataloupe._errors import BadInput
from dataloupe._identity import identity
from dataloupe.core import BoundedTransform, Examples, Transform, keyed_uniforms
from dataloupe.transforms import (
    Blend,
    Blur,
    Colour,
    InsertToken,
    Occlude,
    Patch,
    ReplaceToken,
    SetColumn,
    ShiftColumn,
)

NONE = torch.empty(1, 0)


def texture(side, high=1.0):
    return high * torch.rand(side, side, generator=torch.Generator().manual_seed(0))


IMAGES = {
    "patch": (lambda **more: Patch(more.get("high", 1.0), size=(2, 3), **more), (0.0, 0.3, 1.0)),
    "picture": (lambda **more: Patch(texture(3, more.get("high", 1.0)), **more), (0.0, 0.3, 1.0)),
    "fixed patch": (lambda **more: Patch(0.5, size=2, place=(1, 4), **more), (0.0, 0.3, 1.0)),
    "blend": (lambda **more: Blend(texture(9, more.get("high", 1.0)), **more), (0.0, 0.3, 1.0)),
    "colour": (lambda **more: Colour(more.get("high", 1.0), **more), (0.0, 0.3, 1.0)),
    "gaussian": (lambda **more: Blur(**more), (0.0, 0.4, 2.5)),
    "box": (lambda **more: Blur("box", **more), (0.0, 1.0, 9.0)),
    "square": (lambda **more: Occlude(**more), (0.0, 1.0, 4.0, 6.0)),
}
TEXTS = {
    "insert": (InsertToken(7), (0.0, 1.0, 3.0, 6.0)),
    "insert at": (InsertToken(7, place=2), (0.0, 1.0, 6.0)),
    "replace": (ReplaceToken(7, keep=(0,)), (0.0, 0.4, 1.0)),
    "replace one": (ReplaceToken(7, old=3), (0.0, 0.4, 1.0)),
}
TABLES = {
    "set": (SetColumn(2, 0.25), (0.0, 0.4, 1.0)),
    "shift": (ShiftColumn(1, deviation=0.5), (-2.0, 0.0, 0.4)),
}


def draws_of(transform, rows, seed=0):
    return keyed_uniforms(rows, transform.draws, seed=seed)


def cases(seed):
    """(transform, strengths, inputs of five rows) of every kind."""
    make = torch.Generator().manual_seed(seed)
    colour = torch.rand(5, 2, 6, 7, generator=make)
    grey = colour[:, 0]
    bytes_ = (grey * 255).to(torch.uint8)
    for name, (build, strengths) in IMAGES.items():
        yield name, build(), strengths, colour
        yield name, build(), strengths, grey.double()
        yield name, build(), strengths, grey.half()
        yield name, build(shape=(6, 7)), strengths, grey.flatten(1)
        yield name, build(shape=(2, 6, 7)), strengths, colour.flatten(1)
        yield name, build(high=255.0), strengths, bytes_
    ids = torch.randint(0, 7, (5, 6), generator=make)
    for name, (transform, strengths) in TEXTS.items():
        yield name, transform, strengths, ids
        yield name, transform, strengths, ids.to(torch.int32)
    table = torch.randn(5, 4, generator=make)
    for name, (transform, strengths) in TABLES.items():
        yield name, transform, strengths, table
        yield name, transform, strengths, (10 * table).long()


@settings(max_examples=5)  # sixty cases in each
@given(st.integers(0, 10**6))
def test_what_holds_of_all(seed):
    rows = np.random.default_rng(seed).permutation(1000)[:5]
    for name, transform, strengths, inputs in cases(seed):
        assert isinstance(transform, Transform)
        uniforms, before = draws_of(transform, rows, seed), inputs.clone()
        for strength in strengths:
            after = transform(inputs, strength, uniforms)
            assert torch.equal(inputs, before), f"{name} writes into its inputs"
            assert (after.shape, after.dtype) == (inputs.shape, inputs.dtype), name
            assert torch.equal(transform(inputs, strength, uniforms), after), f"{name} draws"
            if strength == 0:
                assert torch.equal(after, inputs), f"{name} at strength 0"
            if isinstance(transform, BoundedTransform):
                low, high = transform.limits
                assert low - 1e-3 <= float(after.min()), name
                assert float(after.max()) <= high + 1e-3, name
            alone = transform(inputs[3:4], strength, uniforms[3:4])
            torch.testing.assert_close(alone, after[3:4], msg=f"{name} feels the others of its batch")


def test_places_are_an_examples_own():
    blank = torch.zeros(3, 8, 8)
    for transform, strengths in ((Patch(1.0, size=2), (0.3, 1.0)), (Occlude(1.0), (2.0, 2.0))):
        uniforms = draws_of(transform, [4, 9, 11])
        faint, full = (transform(blank, strength, uniforms) > 0 for strength in strengths)
        assert torch.equal(faint, full), "the place does not depend on the strength"
        again = transform(blank[:1], strengths[1], draws_of(transform, [9]))
        assert torch.equal(again[0] > 0, full[1]), "nor on the company"
    many = Patch(1.0, size=2)(torch.zeros(400, 3, 3), 1.0, draws_of(Patch(1.0, size=2), range(400)))
    corners = many[:, [0, 0, 2, 2], [0, 2, 0, 2]].sum(0)
    assert corners.sum() == 400
    assert corners.min() > 70, "all places are taken alike"


@pytest.mark.parametrize("centre", [None, (0, 7), (4, 4)])
def test_a_greater_square_holds_the_lesser(centre):
    blank, square = torch.zeros(50, 8, 8), Occlude(1.0, centre=centre)
    uniforms = draws_of(square, range(50))
    covered = [square(blank, float(side), uniforms) for side in range(9)]
    for side, (less, more) in enumerate(itertools.pairwise(covered)):
        assert (less <= more).all()
        assert (more.sum((1, 2)) == (side + 1) ** 2).all()


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_more_is_replaced_at_a_greater_strength(one, other):
    ids, replace = torch.ones(4, 30, dtype=torch.int64), ReplaceToken(5)
    less, more = (replace(ids, s, draws_of(replace, range(4))) == 5 for s in sorted((one, other)))
    assert (less <= more).all()


def test_replaced_is_the_share_asked_for():
    ids, replace = (
        torch.randint(0, 4, (300, 40), generator=torch.Generator().manual_seed(0)),
        ReplaceToken(9, keep=(0,)),
    )
    after = replace(ids, 0.3, draws_of(replace, range(300)))
    assert float((after == 9)[ids != 0].double().mean()) == pytest.approx(0.3, abs=0.02)
    assert (after[ids == 0] == 0).all()
    by_place = (after == 9).double().sum(0) / (ids != 0).double().sum(0)
    assert float(by_place.max()) < 0.45, "no place is preferred"
    only = ReplaceToken(9, old=2)(ids, 1.0, draws_of(replace, range(300)))
    assert torch.equal(only == 9, ids == 2)


def test_tokens_are_put_in_and_the_rest_moves_on():
    ids = torch.tensor([[1, 2, 3, 4, 0]])
    assert InsertToken(9, place=2)(ids, 1.0, torch.zeros(1, 1)).tolist() == [[1, 2, 9, 3, 4]]
    assert InsertToken(9, place=3)(ids, 5.0, torch.zeros(1, 1)).tolist() == [[1, 2, 3, 9, 9]]
    assert InsertToken(9, first=1)(ids, 1.0, torch.zeros(1, 1)).tolist() == [[1, 9, 2, 3, 4]]
    assert InsertToken(9, first=1)(ids, 1.0, torch.full((1, 1), 0.999)).tolist() == [[1, 2, 3, 4, 9]]
    given_as = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    found = InsertToken(9, place=0)(given_as, 1.0, torch.zeros(1, 1))
    assert found["input_ids"].tolist() == [[9, 1, 2, 3, 4]]
    assert found["attention_mask"] is given_as["attention_mask"]
    assert ReplaceToken(9)(given_as, 1.0, torch.zeros(1, 1))["input_ids"].tolist() == [[9] * 5]


def test_a_patch_is_its_picture():
    picture = torch.tensor([[[0.1, 0.2]], [[0.3, 0.4]]])
    after = Patch(picture, place=(1, 1))(torch.ones(1, 2, 2, 3), 1.0, torch.zeros(1, 2))
    assert torch.equal(after[0, :, 1, 1:], picture[:, 0])
    assert float(after.sum()) == pytest.approx(8 + 1.0)
    red = Patch((1.0, 0.0), size=1, place=(0, 0))(torch.full((1, 2, 1, 2), 0.5), 0.5, torch.zeros(1, 2))
    assert red.flatten().tolist() == [0.75, 0.5, 0.25, 0.5]
    bytes_ = Patch(255.0, size=1, place=(0, 0), high=255.0)(
        torch.full((1, 1, 2), 100, dtype=torch.uint8), 0.5, torch.zeros(1, 2)
    )
    assert bytes_.flatten().tolist() == [178, 100]


def test_a_larger_texture_gives_every_image_a_part():
    large = torch.arange(20.0).reshape(4, 5) / 20
    after = Blend(large)(torch.zeros(1, 2, 2), 1.0, torch.tensor([[0.99, 0.5]]))
    assert torch.equal(after[0], large[2:4, 2:4])
    half = Blend(large[:2, :2])(torch.ones(1, 2, 2), 0.5, torch.zeros(1, 2))
    assert torch.allclose(half[0], (1 + large[:2, :2]) / 2)


@pytest.mark.parametrize("sigma", [0.5, 1.3, 4.0])
def test_the_blur_is_scipys(sigma):
    image = texture(9)
    found = Blur()(image[None], sigma, NONE)[0]
    truth = ndimage.gaussian_filter(
        image.double().numpy(), sigma, mode="nearest", radius=math.ceil(3 * sigma)
    )
    np.testing.assert_allclose(found, truth, atol=1e-6)


@pytest.mark.parametrize("radius", [1, 3])
def test_the_box_is_scipys(radius):
    image = texture(9)
    found = Blur("box")(image[None], float(radius), NONE)[0]
    truth = ndimage.uniform_filter(image.double().numpy(), 2 * radius + 1, mode="nearest")
    np.testing.assert_allclose(found, truth, atol=1e-6)


def test_columns():
    table = torch.tensor([[1.0, 5.0], [3.0, 7.0]])
    assert SetColumn(1, 6.1)(table, 1.0, NONE)[:, 1].tolist() == [pytest.approx(6.1)] * 2
    assert SetColumn(0, 2.0, low=0.0, high=2.5)(table, 0.5, NONE)[:, 0].tolist() == [1.5, 2.5]
    shift = ShiftColumn.of(Examples(table), 0, high=4.0)
    assert shift.deviation == pytest.approx(math.sqrt(2))
    assert shift(table, 1.0, NONE)[:, 0].tolist() == [pytest.approx(1 + math.sqrt(2)), 4.0]
    assert ShiftColumn(0, 0.6)(table.long(), 1.0, NONE).tolist() == [[2, 5], [4, 7]]


def test_each_has_an_identity():
    assert identity(Patch(texture(3))) != identity(Patch(texture(3).flip(0)))
    assert identity(Occlude()) == identity(Occlude())
    assert set(dir(transforms)) >= {"Transform", "BoundedTransform"}


def test_uniforms_are_keyed():
    one, all_of_them = keyed_uniforms([5], 3, seed=1), keyed_uniforms(range(2000), 3, seed=1)
    assert torch.equal(one[0], all_of_them[5])
    assert not torch.equal(one, keyed_uniforms([5], 3, seed=2))
    assert 0.0 <= float(all_of_them.min()) < float(all_of_them.max()) < 1.0
    assert torch.allclose(all_of_them.mean(0), torch.full((3,), 0.5), atol=0.03)
    assert keyed_uniforms([1, 2], 0, seed=0).shape == (2, 0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Patch(2.0, size=1),
        lambda: Patch(1.0),
        lambda: Patch(1.0, size=0),
        lambda: Patch(1.0, size=1, place=(-1, 0)),
        lambda: Patch(texture(2), size=2),
        lambda: Patch(1.0, size=1, low=1.0, high=0.0),
        lambda: Patch(1.0, size=1, shape=(8,)),
        lambda: Patch(math.nan, size=1),
        lambda: Blend(torch.ones(3)),
        lambda: Blend(texture(3, 2.0)),
        lambda: Colour((0.5, 1.5)),
        lambda: Blur("triangle"),
        lambda: Blur(shape=(0, 8)),
        lambda: Occlude(-1.0),
        lambda: Occlude(centre=(0, -1)),
        lambda: InsertToken(-1),
        lambda: InsertToken(1, place=-1),
        lambda: ReplaceToken(-1),
        lambda: ReplaceToken(1, old=0, keep=(0,)),
        lambda: SetColumn(-1, 0.0),
        lambda: SetColumn(0, math.inf),
        lambda: SetColumn(0, 2.0, high=1.0),
        lambda: ShiftColumn(0, 0.0),
        lambda: ShiftColumn(0, 1.0, low=1.0, high=1.0),
        lambda: ShiftColumn.of(Examples(torch.ones(3, 1)), 0),
    ],
)
def test_settings_that_cannot_be_meant(wrong):
    with pytest.raises(BadInput, match="dl-790"):
        wrong()


STRENGTHS = [
    (Patch(1.0, size=1), torch.zeros(1, 2, 2), (-0.1, 1.1, math.nan)),
    (Blend(texture(2)), torch.zeros(1, 2, 2), (-0.1, 1.1)),
    (Colour(1.0), torch.zeros(1, 2, 2), (-0.1, 1.1)),
    (Blur(), torch.zeros(1, 2, 2), (-0.1, math.inf)),
    (Blur("box"), torch.zeros(1, 2, 2), (-1.0, 0.5)),
    (Occlude(), torch.zeros(1, 2, 2), (-1.0, 0.5, 3.0)),
    (InsertToken(1), torch.zeros(1, 2, dtype=torch.int64), (-1.0, 0.5, 3.0)),
    (ReplaceToken(1), torch.zeros(1, 2, dtype=torch.int64), (-0.1, 1.1)),
    (SetColumn(0, 1.0), torch.zeros(1, 2), (-0.1, 1.1)),
    (ShiftColumn(0, 1.0), torch.zeros(1, 2), (math.nan, math.inf)),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("transform", "inputs", "strengths"), STRENGTHS)
def test_strengths_that_cannot_be_meant(transform, inputs, strengths):
    for strength in strengths:
        with pytest.raises(BadInput, match="dl-790"):
            transform(inputs, strength, torch.zeros(1, transform.draws))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("transform", "inputs"),
    [
        (Patch(1.0, size=1), torch.zeros(1, 4)),
        (Patch(1.0, size=1, shape=(2, 3)), torch.zeros(1, 4)),
        (Patch(1.0, size=3), torch.zeros(1, 2, 2)),
        (Patch(1.0, size=1, place=(2, 0)), torch.zeros(1, 2, 2)),
        (Patch((1.0, 0.0), size=1), torch.zeros(1, 3, 2, 2)),
        (Patch(1.0, size=1), torch.full((1, 2, 2), 1.5)),
        (Blend(texture(2)), torch.zeros(1, 3, 2)),
        (Colour((1.0, 0.0)), torch.zeros(1, 2, 2)),
        (Blur(), torch.full((1, 2, 2), -0.5)),
        (Blur(), {"pixels": torch.zeros(1, 2, 2)}),
        (Blur(), torch.zeros(1, 2, 2, dtype=torch.bool)),
        (Occlude(centre=(2, 0)), torch.zeros(1, 2, 2)),
        (InsertToken(1), torch.zeros(1, 2)),
        (InsertToken(1, place=2), torch.zeros(1, 2, dtype=torch.int64)),
        (InsertToken(1), {"ids": torch.zeros(1, 2, dtype=torch.int64)}),
        (ReplaceToken(1), torch.zeros(2, dtype=torch.int64)),
        (SetColumn(2, 1.0), torch.zeros(1, 2)),
        (SetColumn(0, 1.0), torch.zeros(1, 2, 2)),
        (ShiftColumn(0, 1.0), (torch.zeros(1, 2),)),
    ],
)
def test_inputs_that_it_cannot_change(transform, inputs):
    with pytest.raises(BadInput, match="dl-791"):
        transform(inputs, 1.0, torch.zeros(1, transform.draws))
