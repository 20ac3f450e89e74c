"""Answers of language models as targets: what they ask for, how they are made, and what cannot be meant."""

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe import outputs
from dataloupe._errors import BadInput
from dataloupe.apps import answered, generate
from dataloupe.core import IGNORED, MemoryLab, Question, Rows, TorchModel, next_tokens
from dataloupe.learners import SGD, Checkpoints
from dataloupe.methods import TRAK

V = 6


class Markov(nn.Module):
    """The next token by the last alone."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(V, V)

    def forward(self, input_ids, attention_mask=None, labels=None):  # noqa: ARG002
        return self.table(input_ids)


def chain(seed=0):
    table = torch.randn(V, V, generator=torch.Generator().manual_seed(seed))
    return TorchModel(Markov(), {"table.weight": 2 * table})


def test_the_answer_alone_is_asked_for():
    data = answered([[1, 2, 3], [4]], [[5, 0], [2, 2, 1]])
    asked = next_tokens(data.take([0, 1]))
    assert asked.tolist() == [[IGNORED, IGNORED, 5, 0, IGNORED], [2, 2, 1, IGNORED, IGNORED]]
    assert data.inputs["attention_mask"].sum(1).tolist() == [5, 4]
    model = chain()
    logs = model.params["table.weight"].log_softmax(1)
    found = outputs.sequence_log_prob.value(model, data.take([0, 1]))
    torch.testing.assert_close(
        found, torch.stack([logs[3, 5] + logs[5, 0], logs[4, 2] + logs[2, 2] + logs[2, 1]])
    )


def test_the_likeliest_answer_until_the_stop():
    model = chain()
    best = model.params["table.weight"].argmax(1).tolist()
    data = generate(model, [[1], [2, 3]], most=4)
    for i, prompt in enumerate([[1], [2, 3]]):
        expected = list(prompt)
        for _ in range(4):
            expected.append(best[expected[-1]])
        assert data.inputs["input_ids"][i, : len(expected)].tolist() == expected
    stopped = generate(model, [[1]], most=10, stop=best[1]).inputs
    assert stopped["input_ids"].tolist() == [[1, best[1]]]


def test_answers_are_drawn_by_keyed_numbers():
    model, prompts = chain(), [[1]] * 1
    first = generate(model, [[1], [1]], most=200, temperature=1.0)
    again = generate(model, prompts, most=200, temperature=1.0)
    assert torch.equal(first.inputs["input_ids"][0], again.inputs["input_ids"][0])
    assert not torch.equal(first.inputs["input_ids"][0], first.inputs["input_ids"][1])
    assert not torch.equal(
        generate(model, prompts, 200, temperature=1.0, seed=1).inputs["input_ids"], again.inputs["input_ids"]
    )
    many = generate(model, [[1]] * 3000, most=1, temperature=0.5).inputs["input_ids"][:, 1]
    shares = np.bincount(many, minlength=V) / 3000
    np.testing.assert_allclose(shares, (model.params["table.weight"][1] / 0.5).softmax(0), atol=0.03)


def test_an_answer_is_attributed_to_what_taught_it():
    """Rows that say 1 -> 2 and rows that say 3 -> 4: the answer to 1 was taught by the first."""
    train = answered([[1]] * 6 + [[3]] * 6, [[2]] * 6 + [[4]] * 6)
    learner = SGD(Markov, epochs=20, lr=0.5, batch_size=4)
    model = learner.train(train, torch.ones(12), seed=0)
    targets = generate(model, [[1], [3]], most=1)
    assert targets.inputs["input_ids"].tolist() == [[1, 2], [3, 4]]
    asked = Question(learner, train, targets, outputs.sequence_margin)
    scores = TRAK(models=3, dim=64).attribute(asked, MemoryLab()).scores
    assert scores[0, :6].min() > abs(scores[0, 6:]).max() and scores[1, 6:].min() > abs(scores[1, :6]).max()


@pytest.mark.parametrize(
    "ask",
    [
        lambda: answered([], []),
        lambda: answered([[1]], [[1], [2]]),
        lambda: answered([[1]], [[]]),
        lambda: answered([[]], [[1]]),
        lambda: answered([[1]], [[-2]]),
        lambda: generate(chain(), [[1]], most=0),
        lambda: generate(chain(), [[1]], temperature=-1.0),
        lambda: generate(chain(), [[]]),
        lambda: generate(TorchModel(nn.Linear(1, 2), {}), [[]]),
        lambda: generate(NoLogits(), [[1]]),
    ],
)
def test_what_cannot_be_meant(ask):
    with pytest.raises(BadInput, match="dl-769"):
        ask()


class NoLogits:
    def predict(self, _):
        return torch.zeros(1, 2)


def test_rows_of_a_generation_are_rows():
    assert isinstance(answered([[1]], [[2]]).take([0]), Rows)


@pytest.mark.parametrize("prompts", [["text"], "text", [[5], "text"], [["text"]]])
@pytest.mark.usefixtures("unchecked")
def test_text_is_to_be_tokenised_first(prompts):
    with pytest.raises(BadInput, match="dl-769") as told:
        answered(prompts, prompts)
    assert "tokenise it first" in told.value.do or "no tokens" in told.value.found
    with pytest.raises(BadInput, match="dl-769"):
        generate(chain(), prompts)


@pytest.mark.usefixtures("unchecked")
def test_rows_of_other_kinds():
    """Tensors and arrays are taken; what is no row is named."""
    right = answered([[1, 2], [3]], [[4], [5, 0]]).inputs["input_ids"]
    for kind in (torch.tensor, np.array, tuple):
        data = answered([kind([1, 2]), kind([3])], [kind([4]), kind([5, 0])])
        assert torch.equal(data.inputs["input_ids"], right)
        assert generate(chain(), [kind([1, 2])], most=1).inputs["input_ids"].shape == (1, 3)
    for wrong in (3, None, {1: 2}):
        with pytest.raises(BadInput, match=r"dl-769.*found: a \w+"):
            answered([wrong], [[1]])


@pytest.mark.usefixtures("unchecked")
def test_a_module_that_predicts_nothing_is_named_with_the_line_to_write():
    module = Markov()
    with pytest.raises(BadInput, match=r"dl-769.*Markov.*a module of torch.*Checkpoints\(model, model\)"):
        generate(module, [[1]])
    (model,) = Checkpoints(module, module).models()
    assert generate(model, [[1]], most=2).inputs["input_ids"].shape == (1, 3)
