"""The same sequence alone, filled up, and packed behind others: the same gradient; modules that compute twice."""

import pytest
import torch
from hugging_face_cases import drawn
from test_hugging_face import gpt2, llama
from torch import nn
from torch.utils.checkpoint import checkpoint

from dataloupe import outputs
from dataloupe.core import IGNORED, Examples, Question, Rows, Subsets, next_tokens, without_checkpointing
from dataloupe.engine import gradients
from dataloupe.lab import Lab
from dataloupe.learners import SGD, Checkpoints

SEQUENCES = [[3, 1, 4, 1], [5, 9, 2], [6, 5, 3, 5, 8]]


def packed(order, length, told, added):
    """Sequences one behind the other in one row, hidden from each other, places counted anew; one of them is asked for."""
    ids, places, labels, owner = [], [], [], []
    for i in order:
        own = SEQUENCES[i]
        ids += own
        places += range(len(own))
        labels += [*own[1:], IGNORED] if i == told else [IGNORED] * len(own)
        owner += [i] * len(own)
    rest = length - len(ids)
    ids, places, labels = ids + [0] * rest, places + [0] * rest, labels + [IGNORED] * rest
    owner = torch.tensor(owner + [-1] * rest)
    sees = (owner[:, None] == owner) & (owner >= 0) & torch.ones(length, length, dtype=torch.bool).tril()
    mask = torch.where(sees, 0.0, torch.finfo(torch.float32).min) if added else sees
    return torch.tensor(ids), torch.tensor(places), mask[None], torch.tensor(labels)


def seen(module, data, output=outputs.sequence_loss):
    source, found = Checkpoints(module, [module.state_dict()]), {}

    def use(name, uses, _):
        found[name] = sum(one.product().flatten(1) for one in uses)

    facts = gradients(Question(source, data, data, output), source.models()[0], "train", use).facts
    assert facts["gradient_error"] < 1e-4
    return torch.cat([found[name] for name in sorted(found)], 1)


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("make", [gpt2, llama])
def test_alone_padded_and_packed(make, added):
    """In single precision, to 1e-4 of the gradient."""
    length = 7 if make is gpt2 else 12
    module = drawn(make, dtype=torch.float32)
    module.config._attn_implementation = "eager" if added else "sdpa"
    alone = [seen(module, Examples(torch.tensor([own] * 2)))[0] for own in SEQUENCES]
    mask = torch.tensor([[i < len(own) for i in range(7)] for own in SEQUENCES])
    ids = torch.tensor([own + [0] * (7 - len(own)) for own in SEQUENCES])
    padded = seen(module, Examples({"input_ids": ids, "attention_mask": mask.long()}))
    orders = [(0, 1), (1, 0), (2,)] if length == 7 else [(0, 1, 2), (2, 1, 0), (1, 0, 2)]
    rows = [(order, told) for order in orders for told in order]
    parts = [packed(order, length, told, added) for order, told in rows]
    inputs, places, masks, labels = (torch.stack(part) for part in zip(*parts, strict=True))
    in_rows = seen(
        module,
        Examples({"input_ids": inputs, "position_ids": places, "attention_mask": masks}, labels),
    )
    for i in range(3):
        size = alone[i].norm()
        assert (padded[i] - alone[i]).norm() < 1e-4 * size
        for k, (_, told) in enumerate(rows):
            if told == i:
                assert (in_rows[k] - alone[i]).norm() < 1e-4 * size, rows[k]


@pytest.mark.parametrize("added", [False, True])
def test_places_of_a_packed_row_ask_for_their_own_sequence(added):
    ids, places, mask, _ = (part[None] for part in packed((1, 0), 9, 0, added))
    found = next_tokens(Rows({"input_ids": ids, "position_ids": places, "attention_mask": mask}, None))
    assert found[0].tolist() == [9, 2, IGNORED, 1, 4, 1, IGNORED, IGNORED, IGNORED]


class Twice(nn.Module):
    """Computes its middle layer again in the backward pass, as modules with gradient checkpointing do."""

    def __init__(self, reentrant):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.reentrant = reentrant

    def forward(self, x):
        x = self.first(x).tanh()
        if self.reentrant is None:
            return self.last(self.middle(x).tanh())
        return self.last(checkpoint(lambda y: self.middle(y).tanh(), x, use_reentrant=self.reentrant))


def points():
    return Examples(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_module_that_computes_twice_is_explained_as_one_that_does_not(reentrant):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        once, twice = Twice(None), Twice(reentrant)
    twice.load_state_dict(once.state_dict())
    torch.testing.assert_close(
        seen(twice, points(), outputs.margin), seen(once, points(), outputs.margin), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("backend", ["loop", "stacked"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_module_that_computes_twice_is_trained(reentrant, backend, tmp_path):
    subsets = Subsets(n=8, count=3, fraction=0.75)

    def outcomes(way):
        learner = SGD(lambda: Twice(way), epochs=2, lr=0.1, batch_size=4, version="1")
        asked = Question(learner, points(), points(), outputs.margin)
        return Lab(tmp_path / str(way), backend=backend, progress=False).outcomes(asked, subsets).values

    torch.testing.assert_close(
        torch.from_numpy(outcomes(reentrant)), torch.from_numpy(outcomes(None)), rtol=1e-4, atol=1e-5
    )


def test_checkpointing_is_as_before_afterwards():
    before = vars(torch.utils.checkpoint).copy()
    with pytest.raises(ZeroDivisionError), without_checkpointing():
        1 / 0  # noqa: B018
    assert vars(torch.utils.checkpoint) == before
