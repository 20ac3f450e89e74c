"""Many at once = one by one: every back end gives the models of the plain loop."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe import outputs
from dataloupe._errors import CapabilityError
from dataloupe.core import Examples, Question, State, Subsets, train
from dataloupe.engine import Backend, Work, choose, run_unit, train_stack
from dataloupe.engine import _choose as choose_module
from dataloupe.engine._train import stacks_of
from dataloupe.learners import SGD, Chain, Flip, Shift


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3))


class Net(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3), norm, nn.Linear(64, 3)

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.conv(x))).flatten(1))


def cnn():
    return Net(nn.Identity())


def normed():
    return Net(nn.BatchNorm2d(4))


class Viewing(nn.Module):
    """A convolutional chain, and behind it a forward that relies on contiguous memory."""

    def __init__(self):
        super().__init__()
        block = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 2))
        self.features = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), block)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        return self.out(self.features(x).view(len(x), -1))


def images(n=60, seed=0):
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    return Examples(torch.randn(n, 1, 6, 6, generator=draws) + labels[:, None, None, None], labels)


LEARNERS = {
    "mlp": SGD(
        mlp, epochs=2, lr=0.1, momentum=0.9, weight_decay=1e-3, batch_size=8, schedule="linear", warmup=0.2
    ),
    "cnn": SGD(cnn, epochs=2, lr=0.1, momentum=0.9, nesterov=True, batch_size=8),
    "batchnorm": SGD(normed, epochs=2, lr=0.05, momentum=0.5, batch_size=10, label_smoothing=0.1),
    "pictures": SGD(Viewing, epochs=2, lr=0.05, momentum=0.9, batch_size=10),
    "adamw": SGD(
        mlp, epochs=2, lr=0.01, optimizer="adamw", weight_decay=0.1, batch_size=8, schedule="cosine"
    ),
    "masked": SGD(mlp, epochs=2, lr=0.1, momentum=0.9, batch_size=8, removal="mask"),
    "augmented": SGD(cnn, epochs=2, lr=0.1, batch_size=8, augment=Chain((Flip(), Shift(1)))),
}
SUBSETS = {
    "fixed": Subsets(n=60, count=6, seed=1),
    "ragged": Subsets(n=60, count=6, seed=1, kind="bernoulli", fraction=0.4),
}


def plain(learner, subsets):
    masks = torch.from_numpy(subsets.masks().astype(np.float32))
    return [train(learner, images(), w, seed=subsets.train_seed(k, 0)) for k, w in enumerate(masks)]


def question(learner):
    return Question(learner, images(), images(9, seed=1), outputs.margin)


def unit(learner, subsets, inner, group):
    backend = Backend(inner, group)
    return run_unit(Work(question(learner), subsets, 1, backend, True), (0, subsets.count))


@pytest.mark.parametrize(("name", "kind"), list(itertools.product(LEARNERS, SUBSETS)))
def test_every_back_end_trains_the_models_of_the_plain_loop(name, kind):
    learner, subsets = LEARNERS[name], SUBSETS[kind]
    reference = plain(learner, subsets)
    values = np.stack([question(learner).measure(model) for model in reference])
    for inner, group in (("loop", 1), ("stacked", 4), ("stacked", 6)):
        found = unit(learner, subsets, inner, group)
        assert not found.status.any()
        np.testing.assert_allclose(found.values, values, rtol=2e-3, atol=2e-4, err_msg=f"{inner} {group}")
        for k, model in enumerate(reference):
            for key, tensor in {**model.params, **model.buffers}.items():
                np.testing.assert_allclose(found.tensors[key][k], tensor, rtol=2e-3, atol=1e-4, err_msg=key)


@pytest.mark.parametrize("name", ["mlp", "adamw", "masked"])
def test_stacks_of_any_size_give_the_same_bits_where_batched_products_do(name):
    """On this processor's batched matrix products: the MLPs, in stacks of two or more."""
    found = [unit(LEARNERS[name], SUBSETS["fixed"], "stacked", group) for group in (2, 3, 6)]
    for other in found[1:]:
        for key, tensor in found[0].tensors.items():
            assert np.array_equal(tensor, other.tensors[key]), key


def test_the_loop_gives_the_same_bits_alone_or_in_a_unit():
    subsets = SUBSETS["fixed"]
    whole = unit(LEARNERS["cnn"], subsets, "loop", 1)
    for k in range(3):
        alone = run_unit(Work(question(LEARNERS["cnn"]), subsets, 1, Backend("loop"), True), (k, k + 1))
        assert np.array_equal(alone.values[0], whole.values[k])


class Stepped:
    """A stepped learner without `steps`: the engine maps its `step`."""

    removal, couples_rows = "repack", False

    def __init__(self, inner):
        self.inner = inner
        self.init, self.batches, self.step, self.model = inner.init, inner.batches, inner.step, inner.model

    def train(self, data, weights, *, seed):
        return train(self, data, weights, seed=seed)


@pytest.mark.parametrize("name", ["mlp", "cnn", "batchnorm"])
def test_a_learner_that_only_shows_its_step_is_stacked_too(name):
    subsets = SUBSETS["fixed"]
    masks = torch.from_numpy(subsets.masks().astype(np.float32))
    seeds = [subsets.train_seed(k, 0) for k in range(6)]
    mapped = train_stack(Stepped(LEARNERS[name]), images(), masks, seeds)
    own = train_stack(LEARNERS[name], images(), masks, seeds)
    for key, tensor in own.params.items():
        torch.testing.assert_close(mapped.params[key], tensor, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("inner", ["loop", "stacked"])
@pytest.mark.parametrize("name", ["mlp", "batchnorm", "masked", "augmented"])
def test_excluded_examples_are_never_read(name, inner):
    """NaN in every row that no model of the unit keeps, garbage labels: not a bit changes."""
    learner = LEARNERS[name]
    masks = SUBSETS["fixed"].masks().copy()
    masks[:, ::7] = False
    sizes = masks.sum(1)
    for mask in masks:  # the same size for all, so that BatchNorm can be stacked
        mask[np.flatnonzero(mask)[: mask.sum() - sizes.min()]] = False
    subsets = Subsets.listed(masks)
    clean = images()
    spoiled = images()
    spoiled.inputs[::7] = float("nan")
    spoiled.labels[::7] = 0
    found = []
    for examples in (clean, spoiled):
        asked = Question(learner, examples, images(9, seed=1), outputs.margin)
        asked.__dict__["_training_identity"] = {}
        found.append(run_unit(Work(asked, subsets, 1, Backend(inner, 3), True), (0, 6)))
    assert np.isfinite(found[0].values).all()
    assert np.array_equal(found[0].values, found[1].values)


def test_ragged_stacks_do_not_read_a_row_of_another_model():
    """Each model's excluded rows hold 1e30, alone; the finished models wait aside untouched."""
    learner, subsets = LEARNERS["mlp"], SUBSETS["ragged"]
    whole = unit(learner, subsets, "stacked", 6)
    for k in range(6):
        mask = subsets.masks([k])[0]
        spoiled = images()
        spoiled.inputs[~torch.from_numpy(mask)] = 1e30
        alone = train(
            learner, spoiled, torch.from_numpy(mask.astype(np.float32)), seed=subsets.train_seed(k, 0)
        )
        np.testing.assert_allclose(
            whole.tensors["1.weight"][k], alone.params["1.weight"], rtol=2e-3, atol=1e-4
        )


@pytest.mark.parametrize("inner", ["loop", "stacked"])
def test_diverged_models_are_kept_and_counted(inner):
    learner = SGD(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), epochs=4, lr=3e38, momentum=0.9)
    found = unit(learner, SUBSETS["fixed"], inner, 3)
    assert found.status.tolist() == [1] * 6
    assert np.isnan(found.values).all()


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(36, 3)

    def forward(self, x):
        x = x.flatten(1)
        return self.layer(x + (torch.randn(()) if self.training else 0))


def test_a_forward_that_draws_from_the_global_generator_is_refused():
    with pytest.raises(CapabilityError, match="dl-222.*global generator"):
        unit(SGD(Noisy, epochs=1), SUBSETS["fixed"], "loop", 1)


def test_nothing_touches_the_global_generator():
    before = torch.random.default_generator.get_state()
    unit(LEARNERS["augmented"], SUBSETS["fixed"], "stacked", 3)
    assert torch.equal(before, torch.random.default_generator.get_state())


def test_stacks_hold_one_size_where_rows_feel_each_other():
    masks = np.ones((5, 4), dtype=bool)
    masks[3:, 0] = False
    assert list(stacks_of(masks, 2, False)) == [(0, 2), (2, 4), (4, 5)]
    assert list(stacks_of(masks, 2, True)) == [(0, 2), (2, 3), (3, 5)]


def test_repeats_come_in_the_order_subset_then_seed():
    subsets = SUBSETS["fixed"]
    work = Work(question(LEARNERS["mlp"]), subsets, 2, Backend("stacked", 4), False)
    whole = run_unit(work, (0, 12)).values
    mask = torch.from_numpy(subsets.masks([2])[0].astype(np.float32))
    model = train(LEARNERS["mlp"], images(), mask, seed=subsets.train_seed(2, 1))
    np.testing.assert_allclose(whole[5], question(LEARNERS["mlp"]).measure(model), rtol=2e-3, atol=2e-4)


def test_the_probe_takes_the_fastest_of_what_it_measured():
    choice = choose(question(LEARNERS["mlp"]), SUBSETS["fixed"], 5000, 2)
    assert {"loop, 1 thread", "stacked 8, 1 thread"} <= set(choice.measured)
    assert choice.seconds == pytest.approx(1 / max(choice.measured.values()))
    assert choice.backend.unit % choice.backend.group == 0 and choice.backend.threads == 1


def test_a_long_training_may_use_more_threads(monkeypatch):
    speeds = {1: 0.01, 2: 0.02}
    monkeypatch.setattr(choose_module, "rates", lambda *_, **__: {"loop": speeds[torch.get_num_threads()]})
    assert choose(question(LEARNERS["mlp"]), SUBSETS["fixed"], 9, 2).backend == Backend("loop", 1, 2, 1)
    speeds[2] = 0.011
    assert choose(question(LEARNERS["mlp"]), SUBSETS["fixed"], 9, 2).backend == Backend("loop", 1, 1, 1)


def test_a_state_is_all_there_is():
    state = LEARNERS["mlp"].init(seed=0)
    assert isinstance(state, State)
    assert set(state.optimizer) == {"velocity"} and set(state.optimizer["velocity"]) == set(state.params)
