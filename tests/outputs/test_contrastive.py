"""Outputs of pairs: closed forms, their training loss, frozen others, gradients by the engine, bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dataloupe import outputs
from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import Examples, Question, Rows, Subsets, TorchModel, train
from dataloupe.engine import Pass
from dataloupe.lab import Lab
from dataloupe.learners import SGD, Checkpoints
from dataloupe.methods import TRAK
from dataloupe.outputs._contrastive import _marks, _same
from dataloupe.testing import OutputContract

BARE = TorchModel(nn.Identity(), {})


class Towers(nn.Module):
    """Numbers on one side, words on the other."""

    def __init__(self):
        super().__init__()
        self.left, self.table = nn.Linear(6, 4), nn.Embedding(9, 4)
        self.scale = Scale()

    def forward(self, image, words):
        said = nn.functional.normalize(self.table(words).sum(1), dim=-1)
        return torch.stack([self.scale(nn.functional.normalize(self.left(image), dim=-1)), said], 1)


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.log = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return x * self.log.exp()


def pairs(n=24, seed=0, dtype=torch.float32):
    draws = Stream.root(seed)("pairs").numpy()
    words = torch.from_numpy(draws.integers(0, 9, size=(n, 3)))
    images = torch.nn.functional.one_hot(words[:, 0], 6 if words.max() < 6 else 9)[:, :6]
    images = images + 0.3 * torch.from_numpy(draws.normal(size=(n, 6)))
    return Examples({"image": images.to(dtype), "words": words})


def vectors(n=7, e=3, seed=0):
    return Examples(torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 2, e))))


def by_hand(rows, others):
    """Both log-odds of every pair, in loops."""
    found = []
    for u, v in rows.tolist():
        own = np.dot(u, v)
        rest = [o for o in others.tolist() if o != [u, v]]
        a = own - np.logaddexp.reduce([np.dot(u, o[1]) for o in rest])
        b = own - np.logaddexp.reduce([np.dot(o[0], v) for o in rest])
        found.append((a, b))
    return np.array(found)


class TestPairMargin(OutputContract):
    def output(self):
        return outputs.PairMargin(pairs(seed=1, dtype=torch.float64), count=8)

    def model(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = Towers().double()
        return TorchModel(module, {name: p.detach() for name, p in module.named_parameters()})

    def rows(self):
        return pairs(12, dtype=torch.float64).take(np.arange(12))

    def training_loss(self, model, rows):  # noqa: ARG002
        """No function of the mean margin."""
        return


class TestPairLoss(TestPairMargin):
    def output(self):
        return outputs.PairLoss(pairs(seed=1, dtype=torch.float64), count=8)

    def training_loss(self, model, rows):
        return self.output().value(model, rows)


@pytest.mark.parametrize("count", [1, 4, 7])
def test_both_ways_by_hand(count):
    data = vectors()
    margin, loss = outputs.PairMargin(data, count), outputs.PairLoss(data, count)
    rows = vectors(5, seed=1).take(np.arange(5))
    key = Stream.root(0)("draw", 0)("negatives").bits(np.arange(7))
    drawn = data.inputs[np.sort(np.argsort(key, kind="stable")[:count])]
    a, b = by_hand(rows.inputs, drawn).T
    np.testing.assert_allclose(margin.value(BARE, rows), (a + b) / 2)
    np.testing.assert_allclose(loss.value(BARE, rows), (np.logaddexp(0, -a) + np.logaddexp(0, -b)) / 2)
    slope = margin.slope(BARE, rows, margin.value(BARE, rows))
    np.testing.assert_allclose(slope, 1 - (1 / (1 + np.exp(-a)) + 1 / (1 + np.exp(-b))) / 2)
    np.testing.assert_allclose(margin.curvature(slope, rows), slope * (1 - slope))


def test_among_all_of_a_batch_it_is_the_training_loss():
    """With all others of a batch as the frozen ones, the mean of the outputs is what SGD minimises."""
    data = vectors(6)
    rows = data.take(np.arange(6))
    told = outputs.PairLoss(data, 6).value(BARE, rows)
    logits = rows.inputs[:, 0] @ rows.inputs[:, 1].T
    ways = [nn.functional.cross_entropy(way, torch.arange(6), reduction="none") for way in (logits, logits.T)]
    torch.testing.assert_close(told, (ways[0] + ways[1]) / 2)


def test_a_pair_is_not_its_own_other_but_may_share_a_side():
    data = Examples(torch.tensor([[[1.0, 0], [0, 1.0]], [[1.0, 0], [1.0, 0]]]))
    found = outputs.PairMargin(data, 2).value(BARE, data.take([0, 1]))
    torch.testing.assert_close(found, torch.tensor([(-1.0 + 0.0) / 2, (1.0 + 0.0) / 2]))


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 1000), st.integers(2, 300), st.sampled_from([torch.float32, torch.bfloat16, torch.uint8])
)
def test_rows_are_the_same_by_every_number_of_theirs(seed, wide, dtype):
    """In another batch, and where one number is its neighbour."""
    draws = torch.Generator().manual_seed(seed)
    x = (torch.randn(6, wide, generator=draws) * 40 + 90).clamp(0, 255).to(dtype)
    x[:, 0] = torch.arange(6)
    near = x.clone()
    near[:, -1] = (
        near[:, -1] + 1
        if dtype is torch.uint8
        else torch.nextafter(near[:, -1], torch.full((6,), 999.0).to(dtype))
    )
    batch = torch.cat([near[:1], x, near[3:]])
    found = _same(
        _marks({"a": x, "b": x[:, :1]}), _marks({"a": batch, "b": torch.cat([x[:1], x, x[3:]])[:, :1]})
    )
    expected = (x[:, None] == batch).all(-1)
    assert torch.equal(found, expected) and expected.sum() == 6


def test_draws_are_keyed_averaged_and_the_same_for_all_models():
    data, model = pairs(40), TestPairMargin().model()
    model = TorchModel(model.module.float(), {name: p.float() for name, p in model.params.items()})
    output = outputs.PairMargin(data, 5, repeats=3)
    question = Question(Checkpoints(Towers, [model.params]), data, data[:6], output)
    values = question.measure(model)
    alone = [
        outputs.PairMargin(data, 5).value(model, data.take(np.arange(6)), Stream.root(0)("draw", i))
        for i in range(3)
    ]
    assert not torch.allclose(alone[0], alone[1])
    np.testing.assert_allclose(values, torch.stack(alone).mean(0).detach(), rtol=1e-5)


def learner(**changes):
    return SGD(Towers, **{"epochs": 3, "lr": 0.1, "batch_size": 8, "loss": "contrastive", **changes})


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 3))
def test_training_is_the_plain_loop_over_torch_s_own_cross_entropy(seed):
    data, weights = pairs(22), torch.ones(22)
    weights[[3, 9, 20]] = 0
    sgd = learner()
    found = sgd.train(data, weights, seed=seed)
    state = sgd.init(seed=seed)
    params = {name: p.clone().requires_grad_() for name, p in state.params.items()}
    for slot in sgd.batches(weights, seed=seed):
        assert weights[slot.ids].all()
        out = torch.func.functional_call(Towers(), params, (), data.take(slot.ids).inputs)
        logits, own = out[:, 0] @ out[:, 1].T, torch.arange(len(out))
        loss = 0.5 * (nn.functional.cross_entropy(logits, own) + nn.functional.cross_entropy(logits.T, own))
        for (name, p), g in zip(
            list(params.items()), torch.autograd.grad(loss, list(params.values())), strict=True
        ):
            params[name] = (p - 0.1 * g).detach().requires_grad_()
    for name, p in params.items():
        torch.testing.assert_close(found.params[name], p.detach(), rtol=1e-4, atol=1e-5)


def test_a_removed_pair_is_nobody_s_other(removal="mask"):
    """Masked rows keep their places in a batch: what they hold must not matter."""
    data, weights = pairs(16), torch.ones(16)
    weights[[2, 5, 11]] = 0
    other = pairs(16)
    other.inputs["image"][[2, 5, 11]] = 77.0
    one, two = (train(learner(removal=removal), d, weights, seed=1) for d in (data, other))
    for name, p in one.params.items():
        torch.testing.assert_close(p, two.params[name])


def test_many_at_once_are_one_by_one(tmp_path):
    data = pairs(26)
    question = Question(learner(batch_size=9), data, data[:4], outputs.PairMargin(data, 8))
    found = [
        Lab(tmp_path / kind, backend=kind, progress=False)
        .outcomes(question, Subsets(n=26, count=4), repeats=2)
        .values
        for kind in ("loop", "stacked")
    ]
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-4)


def test_gradients_are_autograd_s_and_the_others_give_none(tmp_path):
    data = pairs(30)
    model = learner().train(data, torch.ones(30), seed=0)
    output = outputs.PairMargin(data, 11)
    ready = Pass(Question(Checkpoints(Towers, [model.params]), data, data[:5], output), model, "train")
    assert ready.facts["gradient_error"] < 1e-5
    assert set(ready.facts["coverage"]) == {"as factors", "in a module alone"}
    found = TRAK(models=2, dim=64).attribute(
        Question(learner(), data, data[:5], output), Lab(tmp_path, progress=False)
    )
    assert np.isfinite(found.rows(slice(None))).all()


def test_bad_input():
    data = vectors()
    for settings_ in ({"count": 0}, {"count": 8}, {"repeats": 0}):
        with pytest.raises(BadInput, match="dl-813"):
            outputs.PairMargin(data, **{"count": 3, **settings_})
    same = Examples(torch.ones(4, 2, 3))
    with pytest.raises(BadInput, match="dl-814"):
        outputs.PairMargin(same, 3).valid(same.take([0]))
    with pytest.raises(BadInput, match="dl-815"):
        outputs.PairLoss(Examples(torch.ones(4, 6)), 3).value(BARE, Rows(torch.ones(4, 6), None))
    with pytest.raises(BadInput, match="dl-211"):
        learner(batch_size=1)
    with pytest.raises(BadInput, match=r"dl-216.*contrastive"):
        learner(batch_size=8).train(pairs(25), torch.ones(25), seed=0)
