"""SGD: held against torch.optim, against algebra, and against its own promises."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import identity
from dataloupe.core import Examples, make_batch, train
from dataloupe.learners import SGD, Chain, Flip, Shift
from dataloupe.learners._stacked import channels_last
from dataloupe.testing import LearnerContract, blobs


def mlp():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def normed():
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


class TestPlainSGD(LearnerContract):
    seeded = True

    def learner(self):
        return SGD(mlp, epochs=2, lr=0.1, momentum=0.9, batch_size=8)


class TestMasked(LearnerContract):
    seeded = True

    def learner(self):
        return SGD(mlp, epochs=2, lr=0.1, batch_size=8, removal="mask")


class TestAdamWWithBatchNorm(LearnerContract):
    seeded = True

    def learner(self):
        return SGD(
            normed, epochs=2, lr=0.01, optimizer="adamw", weight_decay=0.1, batch_size=6, schedule="cosine"
        )


def data(n=40):
    draws = torch.Generator().manual_seed(0)
    return Examples(torch.randn(n, 6, generator=draws), torch.randint(0, 3, (n,), generator=draws))


def by_torch_optim(learner, examples, weights, seed, optimizer):
    """The usual loop: a module, an optimizer, `.backward()`; order and start from the learner."""
    module = learner.module()
    state = learner.init(seed=seed)
    module.load_state_dict({**state.params, **state.buffers})
    opt = optimizer(module.parameters())
    for slot in learner.batches(weights, seed=seed):
        for group in opt.param_groups:
            group["lr"] = float(learner._rate(torch.tensor(slot.progress)))
        opt.zero_grad()
        loss = nn.functional.cross_entropy(
            module(examples.inputs[slot.ids]),
            examples.labels[slot.ids],
            label_smoothing=learner.label_smoothing,
        )
        loss.backward()
        opt.step()
    return dict(module.named_parameters())


@pytest.mark.parametrize(
    ("settings", "optimizer"),
    [
        ({}, lambda p: torch.optim.SGD(p, lr=1.0)),
        (
            {"momentum": 0.9, "weight_decay": 0.01},
            lambda p: torch.optim.SGD(p, 1.0, momentum=0.9, weight_decay=0.01),
        ),
        ({"momentum": 0.8, "nesterov": True}, lambda p: torch.optim.SGD(p, 1.0, momentum=0.8, nesterov=True)),
        ({"label_smoothing": 0.2, "schedule": "linear", "warmup": 0.3}, lambda p: torch.optim.SGD(p, 1.0)),
        ({"optimizer": "adamw", "weight_decay": 0.1}, lambda p: torch.optim.AdamW(p, 1.0, weight_decay=0.1)),
    ],
)
def test_the_same_as_torch_optim(settings, optimizer):
    learner = SGD(mlp, epochs=3, lr=0.05, batch_size=16, **settings)
    weights = (torch.arange(40) % 3 != 0).float()
    ours = learner.train(data(), weights, seed=5)
    theirs = by_torch_optim(learner, data(), weights, 5, optimizer)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours.params[name], tensor.detach(), rtol=1e-4, atol=1e-6)


def test_full_batch_descent_on_squares_reaches_least_squares():
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    y = x @ torch.arange(1.0, 7.0)
    learner = SGD(lambda: nn.Linear(6, 1, bias=False), epochs=800, lr=0.3, batch_size=30, loss="squared")
    model = learner.train(Examples(x, y), torch.ones(30), seed=0)
    torch.testing.assert_close(model.params["weight"][0], torch.arange(1.0, 7.0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("removal", ["repack", "mask"])
def test_one_step_is_the_weighted_mean_gradient(removal):
    examples = Examples(torch.eye(4, 6), labels=torch.arange(1.0, 5.0))
    learner = SGD(
        lambda: nn.Linear(6, 1, bias=False), epochs=1, lr=1.0, batch_size=4, loss="squared", removal=removal
    )
    weights = torch.tensor([1.0, 0.0, 1.0, 0.0])
    start = learner.init(seed=0).params["weight"][0]
    moved = learner.train(examples, weights, seed=0).params["weight"][0] - start
    divisor = 2 if removal == "repack" else 4
    expected = torch.zeros(6)
    for i in (0, 2):
        expected[i] = (examples.labels[i] - start[i]) / divisor
    torch.testing.assert_close(moved, expected)


def test_the_order_of_the_rest_does_not_feel_a_removal():
    learner = SGD(mlp, epochs=4, batch_size=7)

    def orders(weights):
        slots = list(learner.batches(weights, seed=3))
        return [np.concatenate([s.ids for s in slots if s.epoch == e]) for e in range(4)]

    weights = torch.ones(40)
    whole = orders(weights)
    weights[[3, 11]] = 0
    for full, rest in zip(whole, orders(weights), strict=True):
        assert np.array_equal(full[~np.isin(full, [3, 11])], rest)
    assert not np.array_equal(whole[0], whole[1])
    assert sorted(whole[0]) == list(range(40))


def test_the_order_does_not_depend_on_how_many_epochs_are_drawn_at_once(monkeypatch):
    learner = SGD(mlp, epochs=5, batch_size=7)
    at_once = [s.ids.tolist() for s in learner.batches(torch.ones(40), seed=3)]
    monkeypatch.setattr("dataloupe.learners._sgd._ORDER_BLOCK", 1)
    assert [s.ids.tolist() for s in learner.batches(torch.ones(40), seed=3)] == at_once


@pytest.mark.parametrize(
    ("settings", "at", "share"),
    [
        ({"schedule": "constant"}, 0.7, 1.0),
        ({"schedule": "linear"}, 0.25, 0.75),
        ({"schedule": "linear", "warmup": 0.2}, 0.1, 0.5),
        ({"schedule": "linear", "warmup": 0.2}, 0.6, 0.5),
        ({"schedule": "cosine"}, 0.5, 0.5),
        ({"schedule": "cosine", "warmup": 0.5}, 0.75, 0.5),
        ({"schedule": "triangular", "warmup": 0.4}, 0.2, 0.5),
        ({"schedule": "triangular", "warmup": 0.4}, 0.7, 0.5),
    ],
)
def test_schedules(settings, at, share):
    assert float(SGD(mlp, lr=0.5, **settings)._rate(torch.tensor(at))) == pytest.approx(0.5 * share, abs=1e-6)


class Recording:
    """An augmentation that only writes down its numbers."""

    draws = 2

    def __init__(self):
        self.seen = []

    def __call__(self, images, uniforms):
        self.seen.append(uniforms)
        return images


def test_augmentation_is_keyed_by_seed_epoch_and_example_not_by_place():
    recording = Recording()
    learner = SGD(mlp, epochs=2, batch_size=16, augment=recording)
    found = {}
    for seed, batch_size in itertools.product((0, 1), (16, 5)):
        learner = SGD(mlp, epochs=2, batch_size=batch_size, augment=recording)
        state = learner.init(seed=seed)
        for slot in learner.batches(torch.ones(40), seed=seed):
            recording.seen.clear()
            learner._fed(state.seed, make_batch(data(), torch.ones(40), slot, "repack"))
            for i, row in zip(slot.ids, recording.seen[0].tolist(), strict=True):
                assert found.setdefault((seed, slot.epoch, int(i)), row) == row
    assert len({tuple(row) for row in found.values()}) == 2 * 2 * 40


def test_shift_and_flip_move_whole_images():
    images = torch.arange(18.0).view(2, 1, 3, 3)
    middle = torch.tensor([[0.5, 0.5], [0.99, 0.5]])
    moved = Shift(1)(images, middle)
    assert torch.equal(moved[0], images[0])
    assert torch.equal(moved[1, 0, :2], images[1, 0, 1:]) and not moved[1, 0, 2].any()
    both = Chain((Flip(1.0), Flip(1.0)))
    assert both.draws == 2 and torch.equal(both(images, torch.zeros(2, 2)), images)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"epochs": 0}, "epochs"),
        ({"lr": float("nan")}, "lr"),
        ({"batch_size": 0}, "batch_size"),
        ({"momentum": 1.0}, "momentum"),
        ({"nesterov": True}, "nesterov"),
        ({"schedule": "triangular"}, "warmup"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"removal": "forget"}, "removal"),
        ({"warmup": 1.0}, "warmup"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_at_once(settings, name):
    with pytest.raises(BadInput, match=rf"dl-211.*{name}"):
        SGD(mlp, **settings)


def test_what_cannot_be_repeated_is_refused():
    with pytest.raises(CapabilityError, match="dl-212.*dropout"):
        SGD(lambda: nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.1))).init(seed=0)
        SGD(lambda: nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.1))).couples_rows  # noqa: B018
    with pytest.raises(CapabilityError, match="dl-213.*BatchNorm"):
        SGD(normed, removal="mask").couples_rows  # noqa: B018
    with pytest.raises(BadInput, match="dl-216.*alone"):
        list(SGD(normed, batch_size=13).batches(torch.ones(40), seed=0))
    with pytest.raises(BadInput, match="dl-214.*labels"):
        SGD(mlp).train(Examples(torch.randn(4, 6)), torch.ones(4), seed=0)


@pytest.mark.parametrize("removal", ["repack", "mask"])
def test_a_training_that_keeps_nothing_is_refused(removal):
    """It gave the untrained model."""
    learner = SGD(mlp, removal=removal, epochs=1)
    with pytest.raises(BadInput, match="dl-218.*SGD of Sequential on 48 examples.*nothing is kept"):
        learner.train(blobs(), torch.zeros(48), seed=0)


def test_frozen_parameters_stay():
    def half_frozen():
        module = mlp()
        module[0].weight.requires_grad_(False)
        return module

    learner = SGD(half_frozen, epochs=1, lr=0.5)
    model = learner.train(data(), torch.ones(40), seed=0)
    start = learner.init(seed=0)
    assert torch.equal(model.buffers["0.weight"], start.buffers["0.weight"])
    assert not torch.equal(model.params["2.weight"], start.params["2.weight"])


def test_found_by_what_decides_the_answers():
    def other():
        return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))

    base = SGD(mlp, lr=0.1)
    assert identity(base) == identity(SGD(mlp, lr=0.1))
    others = [
        SGD(mlp, lr=0.2),
        SGD(other, lr=0.1),
        SGD(mlp, lr=0.1, removal="mask"),
        SGD(mlp, lr=0.1, version="2"),
    ]
    assert len({identity(one) for one in [base, *others]}) == 5


def test_the_plain_loop_uses_up_nothing():
    learner = SGD(mlp, epochs=1, lr=0.1, momentum=0.9)
    state = learner.init(seed=0)
    before = {name: p.clone() for name, p in state.params.items()}
    slot = next(iter(learner.batches(torch.ones(40), seed=0)))
    learner.step(state, make_batch(data(), torch.ones(40), slot, "repack"))
    assert all(torch.equal(before[name], p) for name, p in state.params.items())
    assert isinstance(train(learner, data(), torch.ones(40), seed=0).params, dict)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_channels_last_inside_a_chain_and_contiguous_behind_it(channels):
    images = torch.randn(4, channels, 6, 6, generator=torch.Generator().manual_seed(0))
    chain = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    expected = chain(images)
    inside = []
    chain[1].register_forward_hook(lambda _, __, made: inside.append(made))
    found = channels_last(chain)(images)
    assert inside[0].is_contiguous(memory_format=torch.channels_last) and not inside[0].is_contiguous()
    assert found.is_contiguous() == expected.is_contiguous()
    torch.testing.assert_close(found, expected)


def test_layers_of_unknown_kind_see_the_memory_that_they_expect():
    class Own(nn.Module):
        def forward(self, x):
            return x.view(len(x), -1)

    chain = channels_last(nn.Sequential(nn.Conv2d(3, 4, 3), Own()))
    assert chain(torch.ones(2, 3, 5, 5)).shape == (2, 36)
