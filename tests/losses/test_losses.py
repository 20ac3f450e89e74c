"""Losses of single rows: against torch's own, their curvature against autograd's, and what they refuse."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from dataloupe import losses
from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import identity
from dataloupe.core import Examples, Rows

WEIGHTS = [1.0, 2.0, 8.0]


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes(*shape, seed=0):
    labels = torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(seed))
    labels.view(-1)[::5] = -100
    return labels


def rows(labels):
    return Rows(torch.zeros(len(labels), 1), labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("space", [(), (4, 5), (2, 3, 2)], ids=["rows", "pixels", "voxels"])
def test_cross_entropy_is_torchs_averaged_over_places(space, weights, smoothing):
    z, y = numbers(6, 3, *space), classes(6, *space)
    told = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    each = functional.cross_entropy(z, y, told, reduction="none", label_smoothing=smoothing).reshape(6, -1)
    wanted = each.sum(1) / (y != -100).reshape(6, -1).sum(1).clamp(min=1)
    torch.testing.assert_close(losses.CrossEntropy(weights, smoothing).per_row(z, rows(y)), wanted)


def test_cross_entropy_of_tokens_is_their_mean():
    ids = torch.tensor([[0, 1, 2, 1], [2, 2, 0, 1]])
    z = numbers(2, 4, 3)
    each = functional.cross_entropy(z[:, :-1].reshape(-1, 3), ids[:, 1:].reshape(-1), reduction="none")
    torch.testing.assert_close(losses.CrossEntropy().per_row(z, Rows(ids, None)), each.view(2, 3).mean(1))


def test_focal_loss_by_its_formula():
    z, y = numbers(6, 3), classes(6, seed=1).clamp(min=0)
    p = z.softmax(1).gather(1, y[:, None])[:, 0]
    found = losses.CrossEntropy(WEIGHTS, focal_gamma=2.0).per_row(z, rows(y))
    torch.testing.assert_close(
        found, -((1 - p) ** 2) * p.log() * torch.tensor(WEIGHTS, dtype=torch.float64)[y]
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weight", [None, 3.0, [1.0, 2.0, 5.0]])
def test_binary_cross_entropy_is_torchs(weight, reduction):
    z = numbers(5, 3)
    y = (numbers(5, 3, seed=1) > 0).long()
    told = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    each = functional.binary_cross_entropy_with_logits(z, y.double(), pos_weight=told, reduction="none")
    found = losses.BinaryCrossEntropy(weight, reduction).per_row(z, rows(y))
    torch.testing.assert_close(found, getattr(each, reduction)(1))
    y[0, 0] = -100
    left = losses.BinaryCrossEntropy(weight, "sum").per_row(z, rows(y))
    torch.testing.assert_close(left, each.sum(1) - torch.tensor([each[0, 0], 0, 0, 0, 0]))


LOSSES = [
    (losses.CrossEntropy(), (3,)),
    (losses.CrossEntropy(WEIGHTS, 0.1), (3,)),
    (losses.CrossEntropy(WEIGHTS, 0.1), (3, 2, 2)),
    (losses.CrossEntropy(WEIGHTS, focal_gamma=1.5), (3,)),
    (losses.CrossEntropy(focal_gamma=2.0), (3, 2)),
    (losses.BinaryCrossEntropy(2.0), (3,)),
    (losses.SquaredError(), (3,)),
    (losses.Custom(lambda z, y: functional.cross_entropy(z, y, reduction="none", label_smoothing=0.2)), (3,)),
    (losses.Custom(lambda z, y: functional.huber_loss(z, 3 * y, reduction="none").flatten(1).sum(1)), (70,)),
    (losses.Custom(lambda z, y: (z * y).sum(1)), (3,)),
]


@pytest.mark.parametrize(("loss", "shape"), LOSSES, ids=lambda part: getattr(part, "name", str(part)))
def test_curvature_is_the_convex_part_of_the_second_derivative(loss, shape):
    b = 4
    z = numbers(b, *shape)
    if isinstance(loss, losses.CrossEntropy) and len(shape) == 2:  # [b, t, v] would be tokens
        z = z[:, :, :, None]
    if isinstance(loss, losses.CrossEntropy) or (shape == (3,) and isinstance(loss, losses.Custom)):
        y = classes(b, *z.shape[2:], seed=3)
        y = y.clamp(min=0) if isinstance(loss, losses.Custom) else y
        y = y[:, None].expand(b, 3) if loss is LOSSES[-1][0] else y
    else:
        y = (numbers(*z.shape, seed=2) > 0).double()
    given = rows(y)
    count = z[0].numel()
    root = torch.stack(
        [
            loss.curvature_root(
                z, given, torch.eye(count, dtype=z.dtype)[k].view(z[0].shape).expand_as(z)
            ).flatten(1)
            for k in range(count)
        ],
        2,
    )
    for i in range(b):
        one = rows(y[i : i + 1])
        exact = torch.autograd.functional.hessian(
            lambda v, one=one: loss.per_row(v.view(1, *z.shape[1:]), one)[0], z[i].flatten()
        )
        if not (isinstance(loss, losses.CrossEntropy) and loss.focal_gamma):
            torch.testing.assert_close(root[i] @ root[i].T, exact, atol=1e-7, rtol=1e-6)
            continue
        # Focal: as the margin's convex part, and the others' softmax; the difference is one negative direction a place.
        left = torch.linalg.eigvalsh(root[i] @ root[i].T - exact)
        assert left.min() > -1e-9
        assert (left > 1e-9).sum() <= max(1, z[0, 0].numel())
        if torch.linalg.eigvalsh(exact).min() > -1e-12:
            torch.testing.assert_close(root[i] @ root[i].T, exact, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: losses.CrossEntropy(label_smoothing=1.0), "dl-833"),
        (lambda: losses.CrossEntropy(label_smoothing=0.1, focal_gamma=1.0), "dl-833"),
        (lambda: losses.CrossEntropy(focal_gamma=-1.0), "dl-833"),
        (lambda: losses.CrossEntropy(class_weights=[0.0, 0.0]), "dl-833"),
        (lambda: losses.CrossEntropy(class_weights=[-1.0, 2.0]), "dl-833"),
        (lambda: losses.CrossEntropy(class_weights=[float("nan"), 2.0]), "dl-833"),
        (lambda: losses.CrossEntropy(class_weights=[]), "dl-833"),
        (lambda: losses.CrossEntropy(class_weights="heavy"), "dl-833"),
        (lambda: losses.BinaryCrossEntropy(pos_weight=0.0), "dl-833"),
        (lambda: losses.BinaryCrossEntropy(reduction="none"), "dl-833"),
        (
            lambda: losses.CrossEntropy(WEIGHTS[:2]).per_row(numbers(2, 3), rows(torch.tensor([0, 1]))),
            "dl-834",
        ),
        (lambda: losses.CrossEntropy().per_row(numbers(2, 3), rows(torch.zeros(2, 3))), "dl-834"),
        (lambda: losses.CrossEntropy().per_row(numbers(2, 3), rows(torch.tensor([0, 3]))), "dl-834"),
        (
            lambda: losses.CrossEntropy().per_row(numbers(2, 3, 4, 4), rows(torch.zeros(2, 3, 3).long())),
            "dl-834",
        ),
        (lambda: losses.CrossEntropy().per_row(numbers(2, 1), rows(torch.tensor([0, 0]))), "dl-834"),
        (lambda: losses.CrossEntropy().per_row(numbers(2, 3), Rows(torch.zeros(2, 1), None)), "dl-834"),
        (
            lambda: losses.CrossEntropy(WEIGHTS).check(Examples(torch.zeros(2, 1), torch.tensor([0, 3]))),
            "dl-834",
        ),
        (
            lambda: losses.CrossEntropy(WEIGHTS).check(Examples(torch.zeros(2, 1), torch.tensor([0, -1]))),
            "dl-834",
        ),
        (
            lambda: losses.CrossEntropy(WEIGHTS).check(Examples(torch.zeros(1, 1), torch.tensor([-100]))),
            "dl-834",
        ),
        (lambda: losses.BinaryCrossEntropy().per_row(numbers(2, 3), rows(torch.tensor([0, 1]))), "dl-834"),
        (
            lambda: losses.BinaryCrossEntropy([1.0, 2.0]).per_row(numbers(2, 3), rows(torch.zeros(2, 3))),
            "dl-834",
        ),
        (
            lambda: losses.BinaryCrossEntropy().check(Examples(torch.zeros(2, 1), torch.tensor([-1.0, 1.0]))),
            "dl-834",
        ),
        (lambda: losses.SquaredError().per_row(numbers(2, 3), rows(torch.zeros(2))), "dl-834"),
        (
            lambda: losses.Custom(functional.cross_entropy).per_row(
                numbers(2, 3), rows(torch.tensor([0, 1]))
            ),
            "dl-835",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(unchecked, make, code):  # noqa: ARG001
    with pytest.raises(BadInput) as caught:
        make()
    assert caught.value.code == code


def test_a_loss_that_takes_rows_together_is_refused():
    loss = losses.Custom(lambda z, y: functional.mse_loss(z[:, 0], y, reduction="none") / z.std())
    with pytest.raises(BadInput, match="alone") as caught:
        loss.check_rows(numbers(5, 1), rows(numbers(5, seed=1)))
    assert caught.value.code == "dl-835"


def test_a_large_row_whose_numbers_interact_has_no_curvature():
    loss = losses.Custom(lambda z, y: z.logsumexp(1) - z[:, 0] * y)
    assert loss.per_row(numbers(2, 70), rows(torch.ones(2))).shape == (2,)
    with pytest.raises(CapabilityError) as caught:
        loss.curvature_root(numbers(2, 70), rows(torch.ones(2)), torch.ones(2, 70, dtype=torch.float64))
    assert caught.value.code == "dl-836"


def test_losses_are_known_by_their_settings():
    weighted = [
        losses.CrossEntropy(class_weights=w) for w in (WEIGHTS, np.array(WEIGHTS), torch.tensor(WEIGHTS))
    ]
    assert len({identity(loss) for loss in weighted}) == 1
    others = [
        losses.CrossEntropy(),
        losses.CrossEntropy(label_smoothing=0.1),
        losses.CrossEntropy(focal_gamma=1.0),
    ]
    others += [losses.BinaryCrossEntropy(), losses.SquaredError(), losses.Custom(lambda z, y: z[:, 0] * y)]
    others += [losses.Custom(lambda z, y: z[:, 0] * y + 1), losses.Custom(print, version="1")]
    assert len({identity(loss) for loss in [*weighted[:1], *others]}) == 9
