"""SGD on language models: held against the usual loop of torch, one model at a time and stacked."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dataloupe._errors import BadInput
from dataloupe.core import Examples, Rows, make_batch, next_tokens
from dataloupe.engine import train_stack
from dataloupe.engine._train import pick
from dataloupe.learners import SGD

V, T, N = 7, 5, 24


class Causal(nn.Module):
    """Attends to what came before, without a bias of keys, whose gradient is rounding alone; gives an object with ``logits``, as Hugging Face's models do."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(V, 8), nn.Embedding(T, 8)
        self.asked, self.head = nn.Linear(8, 24, bias=False), nn.Linear(8, V)

    def forward(self, input_ids, attention_mask=None):
        x = self.words(input_ids) + self.places(torch.arange(T))
        q, k, v = self.asked(x).chunk(3, -1)
        seen = torch.ones(T, T, dtype=torch.bool).tril()
        if attention_mask is not None:
            seen = seen & (attention_mask[:, None] != 0)
        scores = (q @ k.mT).masked_fill(~seen, -1e9)
        return SimpleNamespace(logits=self.head(x + scores.softmax(-1) @ v))


def sequences():
    draws = torch.Generator().manual_seed(0)
    ids = torch.randint(0, V, (N, T), generator=draws)
    lengths = torch.randint(2, T + 1, (N,), generator=draws)
    return ids, torch.arange(T) < lengths[:, None]


def as_dict():
    """Padded by a mask, without labels."""
    ids, real = sequences()
    return Examples({"input_ids": ids, "attention_mask": real.long()})


def as_tensor():
    """The same, padded by labels of -100."""
    ids, real = sequences()
    return Examples(ids, next_tokens(Rows({"input_ids": ids, "attention_mask": real}, None)))


def learner(**settings):
    return SGD(Causal, **({"epochs": 2, "lr": 0.3, "batch_size": 5} | settings))


def trained(learner, data, weights, seed=1):
    return learner.train(data, weights, seed=seed).params


def close(found, expected):
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor.detach(), rtol=1e-4, atol=1e-6)


HALF = (torch.arange(N) % 2).float()


@pytest.mark.parametrize("data", [as_dict, as_tensor])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_sequences_of_the_mean_over_tokens(data, smoothing):
    ours, examples = learner(label_smoothing=smoothing), data()
    module, state = Causal(), learner().init(seed=1)
    module.load_state_dict(state.params)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    for slot in ours.batches(HALF, seed=1):
        rows = examples.take(slot.ids)
        inputs = rows.inputs if isinstance(rows.inputs, dict) else {"input_ids": rows.inputs}
        logits, tokens = module(**inputs).logits, next_tokens(rows)
        losses = [
            nn.functional.cross_entropy(z, y, ignore_index=-100, label_smoothing=smoothing)
            for z, y in zip(logits, tokens, strict=True)
        ]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    close(trained(ours, examples, HALF), dict(module.named_parameters()))


@pytest.mark.parametrize("data", [as_dict, as_tensor])
def test_what_stands_in_the_padding_changes_nothing(data):
    ids, real = sequences()
    clean, dirty = data(), data()
    spoilt = torch.where(real, ids, (ids + 3) % V)
    inputs = {**dirty.inputs, "input_ids": spoilt} if isinstance(dirty.inputs, dict) else spoilt
    dirty = Examples(inputs, dirty.labels)
    assert clean.fingerprint != dirty.fingerprint
    close(trained(learner(), dirty, torch.ones(N)), trained(learner(), clean, torch.ones(N)))


@pytest.mark.parametrize("data", [as_dict, as_tensor])
@pytest.mark.parametrize("removal", ["repack", "mask"])
@pytest.mark.parametrize("models", [1, 3])
def test_stacked_training_is_the_plain_loop(data, removal, models):
    """Subsets of different size too: the filled-up rows of a batch say nothing."""
    ours, examples = learner(removal=removal, optimizer="adamw", lr=0.01), data()
    weights = torch.stack([HALF, torch.ones(N), 1 - HALF])[:models]
    states = train_stack(ours, examples, weights, [1, 2, 3][:models])
    for k in range(models):
        close(pick(states, k).params, trained(ours, examples, weights[k], seed=k + 1))


def test_a_masked_sequence_leaves_finite_gradients():
    """Its constant row has no token at all."""
    ours, examples = learner(removal="mask"), as_dict()
    slot = next(iter(ours.batches(HALF, seed=0)))
    batch = make_batch(examples, HALF, slot, "mask")
    assert (batch.ids < 0).any()
    moved = ours.step(ours.init(seed=0), batch)
    assert all(p.isfinite().all() for p in moved.params.values())


def test_inputs_that_are_no_tokens_are_refused():
    module = SGD(lambda: nn.Sequential(nn.Unflatten(1, (3, 2)), nn.Linear(2, 2)), epochs=1)
    with pytest.raises(BadInput, match="dl-807"):
        module.train(Examples(torch.randn(4, 6)), torch.ones(4), seed=0)
