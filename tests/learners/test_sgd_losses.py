"""SGD with the losses of single rows, held against plain loops over torch's own losses, one by one and stacked."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from dataloupe import losses, outputs
from dataloupe.core import Examples, Question, Subsets
from dataloupe.engine import Backend, Work, run_unit
from dataloupe.learners import SGD
from dataloupe.outputs import LabelMargins, Value

pytestmark = pytest.mark.usefixtures("unchecked")

N = 36
SUBSETS = Subsets(n=N, count=4, seed=3)
CLASS_WEIGHTS, POS_WEIGHTS = (0.5, 2.0, 8.0), (1.0, 3.0, 0.25)
ROW_WEIGHTS = torch.tensor([0.0, 0.5, 1.0, 4.0]).repeat(N // 4)


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


X, PICTURES = drawn(N, 8), drawn(N, 2, 4, 4)
CLASSES, THERE = X[:, :3].argmax(1), (X[:, 3:6] > 0).long()
IGNORED = CLASSES.clone().index_fill(0, torch.arange(0, N, 5), -100)
UNKNOWN = THERE.clone()
UNKNOWN[::4, 1] = -100
PIXELS = (PICTURES.sum(1) > 0).long() + (PICTURES[:, 0] > 1).long()
PIXELS[:, 0, 0] = -100


def wide():
    return nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def painting():
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)).double()


def huber(z, y):
    return functional.huber_loss(z, 2 * y, reduction="none").sum(1)


# torch's loss of every row, written without the library


def classes(z, y, **settings):
    return functional.cross_entropy(z, y, reduction="none", **settings)


def weighed(z, y):
    return classes(z, y, weight=torch.tensor(CLASS_WEIGHTS, dtype=torch.float64))


def smoothed(z, y):
    return classes(z, y, weight=torch.tensor(CLASS_WEIGHTS, dtype=torch.float64), label_smoothing=0.2)


def focal(z, y):
    plain = classes(z, y)
    return (1 - torch.exp(-plain)) ** 2 * plain


def binary(z, y):
    told = torch.tensor(POS_WEIGHTS, dtype=torch.float64)
    return functional.binary_cross_entropy_with_logits(z, y.double(), pos_weight=told, reduction="none").mean(
        1
    )


def binary_where_known(z, y):
    known = y != -100
    each = functional.binary_cross_entropy_with_logits(z, y.clamp(min=0).double(), reduction="none")
    return (each * known).sum(1) / known.sum(1)


def squares(z, y):
    return functional.mse_loss(z, y.double(), reduction="none").sum(1) / 2


def pixels(z, y):
    each = weighed(z, y).flatten(1)
    return each.sum(1) / (y != -100).flatten(1).sum(1)


CASES = {
    "class weights": (losses.CrossEntropy(CLASS_WEIGHTS), weighed, X, CLASSES, outputs.margin),
    "weights and smoothing": (losses.CrossEntropy(CLASS_WEIGHTS, 0.2), smoothed, X, CLASSES, outputs.margin),
    "focal": (losses.CrossEntropy(focal_gamma=2.0), focal, X, CLASSES, outputs.margin),
    "ignored rows": (losses.CrossEntropy(), classes, X, IGNORED, outputs.log_prob),
    "pos weights": (losses.BinaryCrossEntropy(POS_WEIGHTS), binary, X, THERE, LabelMargins(3)),
    "unknown labels": (losses.BinaryCrossEntropy(), binary_where_known, X, UNKNOWN, LabelMargins(3)),
    "squares": (losses.SquaredError(), squares, X, X[:, :3] * 2, Value(3)),
    "custom": (losses.Custom(huber), huber, X, X[:, :3], Value(3)),
    "a bare function": (huber, huber, X, X[:, :3], Value(3)),
    "pixels": (losses.CrossEntropy(CLASS_WEIGHTS), pixels, PICTURES, PIXELS, outputs.pixel_margin),
}
REPACK, MASK = {"momentum": 0.9}, {"removal": "mask", "weight_decay": 0.01}
ADAM = {"optimizer": "adamw", "lr": 0.02}
TRAININGS = [
    *(
        (name, row_weights, settings)
        for name in CASES
        for row_weights, settings in ((ROW_WEIGHTS, REPACK), (None, MASK))
    ),
    ("class weights", None, REPACK),
    ("weights and smoothing", ROW_WEIGHTS, MASK),
    ("pos weights", ROW_WEIGHTS, ADAM),
]


def a_case(name, row_weights=None, **settings):
    loss, by_torch, inputs, labels, output = CASES[name]
    make = painting if inputs is PICTURES else wide
    learner = SGD(make, **{"epochs": 2, "lr": 0.1, "batch_size": 10, "loss": loss, **settings})
    return learner, by_torch, Examples(inputs, labels, row_weights=row_weights), output


def plain_torch(learner, by_torch, examples, kept, seed):
    """A module, ``backward`` and ``torch.optim``: nothing of the library but the start and the order of the rows."""
    module = learner.module()
    module.load_state_dict(learner.init(seed=seed).params)
    settings = {"lr": learner.lr, "weight_decay": learner.weight_decay}
    if learner.optimizer == "sgd":
        optimizer = torch.optim.SGD(module.parameters(), momentum=learner.momentum, **settings)
    else:
        optimizer = torch.optim.AdamW(module.parameters(), **settings)
    factors = kept if examples.row_weights is None else kept * examples.row_weights
    for slot in learner.batches(kept, seed=seed):
        optimizer.zero_grad()
        each = by_torch(module(examples.inputs[slot.ids]), examples.labels[slot.ids])
        (
            each * factors[slot.ids]
        ).mean().backward()  # over the rows of the slot: under mask the removed ones, too
        optimizer.step()
    return {name: p.detach() for name, p in module.named_parameters()}


@pytest.mark.parametrize(
    ("name", "row_weights", "settings"),
    TRAININGS,
    ids=[f"{name}-{k}" for k, (name, *_) in enumerate(TRAININGS)],
)
def test_one_by_one_and_stacked_it_trains_as_the_plain_loop(name, row_weights, settings):
    learner, by_torch, examples, output = a_case(name, row_weights, **settings)
    question = Question(learner, examples, examples[1:4], output)
    units = {
        backend.kind: run_unit(Work(question, SUBSETS, 1, backend, True), (0, 4))
        for backend in (Backend("loop"), Backend("stacked", 4))
    }
    masks = torch.from_numpy(SUBSETS.masks().astype(np.float32))
    for k in (0, 1, 3):
        wanted = plain_torch(learner, by_torch, examples, masks[k], SUBSETS.train_seed(k, 0))
        for kind, unit in units.items():
            for part, tensor in wanted.items():
                np.testing.assert_allclose(
                    unit.tensors[part][k], tensor, rtol=1e-5, atol=1e-7, err_msg=f"{kind}, model {k}, {part}"
                )
