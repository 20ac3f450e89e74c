"""Causal language models of Hugging Face's transformers, with random weights and otherwise as they come."""

import dataclasses

import numpy as np
import pytest
import torch
from hugging_face_cases import drawn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from dataloupe import outputs
from dataloupe._errors import BadInput, TrainingError
from dataloupe.core import Examples, MemoryLab, Question, Subsets
from dataloupe.engine import gradients, rates
from dataloupe.lab import Lab
from dataloupe.learners import SGD, Checkpoints
from dataloupe.methods import TRAK, Influence

V, T, N = 13, 7, 9


def gpt2():
    """Conv1D projections, learned places, a tied head."""
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": V, "n_positions": T}
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**shape, **none, bos_token_id=0, eos_token_id=0))


def llama():
    """RMSNorm, rotary places, gated layers, shared keys."""
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": V}
    return LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, num_key_value_heads=1))


def pythia():
    """Parallel attention and layers, rotary places on a quarter, no tied head."""
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": V}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**shape, num_attention_heads=2))


def batch(padded):
    draws = torch.Generator().manual_seed(1)
    ids = torch.randint(0, V, (N, T), generator=draws)
    if not padded:
        return Examples(ids)
    lengths = torch.randint(2, T + 1, (N,), generator=draws)
    return Examples({"input_ids": ids, "attention_mask": (torch.arange(T) < lengths[:, None]).long()})


def one_by_one(module, data, output):
    """The gradient of every sequence by plain autograd, alone and without its padding."""
    found = []
    for i in range(len(data)):
        rows = data.take([i])
        ids, length = rows.inputs, T
        if isinstance(ids, dict):
            length, ids = int(ids["attention_mask"].sum()), ids["input_ids"]
        ids = ids[:, :length]
        logits = module(ids).logits[0, :-1]
        logs = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        own = torch.nn.functional.one_hot(ids[0, 1:], V).bool()
        margins = logs - logits.log_softmax(-1).masked_fill(own, -torch.inf).logsumexp(-1)
        value = -logs.mean() if output is outputs.sequence_loss else margins.mean()
        names, params = zip(*module.named_parameters(), strict=True)
        found.append(dict(zip(names, torch.autograd.grad(value, params), strict=True)))
    return {name: torch.stack([one[name] for one in found]).flatten(1) for name in found[0]}


@pytest.mark.parametrize("make", [gpt2, llama, pythia])
@pytest.mark.parametrize("padded", [False, True])
def test_every_sequences_gradient_is_its_own_and_all_parameters_are_seen_as_factors(make, padded):
    output = outputs.sequence_loss if padded else outputs.sequence_margin
    module, data = drawn(make), batch(padded)
    source = Checkpoints(module, [module.state_dict()])
    asked = Question(source, data, data[:2], output)
    found = {}

    def use(name, uses, place):
        assert place == slice(0, N)
        found[name] = sum(one.product().flatten(1) for one in uses)

    swept = gradients(asked, source.models()[0], "train", use)
    expected = one_by_one(module, data, output)
    assert swept.facts["coverage"] == {"as factors": 1.0}
    assert swept.facts["gradient_error"] < 1e-9
    assert found.keys() == expected.keys()
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        assert float((found[name] - gradient).abs().max()) < 1e-9 * scale, name
    np.testing.assert_array_equal(swept.slope < 0, output is outputs.sequence_loss)


@pytest.mark.parametrize("make", [gpt2, llama])
def test_trak_from_checkpoints_to_scores(make, tmp_path):
    """Three lines, as a user writes them; the lab's one pass against the plain loop of the reference lab."""
    modules = [drawn(make, seed, torch.float32) for seed in (0, 1)]
    source = Checkpoints(modules[0], [module.state_dict() for module in modules])
    asked = Question(source, batch(True), batch(True)[:3], outputs.sequence_margin)
    found = TRAK(models=2, dim=64).attribute(asked, Lab(tmp_path))
    plain = TRAK(models=2, dim=64).attribute(asked, MemoryLab())
    assert found.scores.shape == (3, N) and found.info.certificate["coverage"] == {"as factors": 1.0}
    np.testing.assert_allclose(found.scores, plain.scores, rtol=2e-3, atol=2e-4 * np.abs(plain.scores).max())
    assert (found.scores[[0, 1, 2], [0, 1, 2]] > 0).all(), "a sequence that was trained on helps itself"


def test_tokens_of_a_sequence_and_influence_without_a_sketch(tmp_path):
    module = drawn(llama, dtype=torch.float32)
    source = Checkpoints(module, [module.state_dict()])
    asked = Question(
        source, batch(True), batch(True)[:2], outputs.token_loss, train_output=outputs.sequence_loss
    )
    found = Influence(models=1).attribute(asked, Lab(tmp_path))
    assert found.scores.shape == (asked.m, N) and np.isfinite(found.scores).all()
    whole = Influence(models=1).attribute(
        Question(source, batch(True), batch(True)[:2], outputs.sequence_loss), Lab(tmp_path)
    )
    mean = [found.scores[asked.index[:, 0] == i].mean(0) for i in range(2)]
    np.testing.assert_allclose(whole.scores, mean, rtol=1e-3, atol=1e-4 * np.abs(whole.scores).max())


@pytest.mark.parametrize("make", [gpt2, llama])
def test_scores_of_tokens_sum_to_that_of_their_sequence(make, tmp_path):
    """Of the log-probability, which is a sum, to 1e-5; padded, in single precision."""
    module, data = drawn(make, dtype=torch.float32), batch(True)
    source, method = Checkpoints(module, [module.state_dict()]), TRAK(models=1, dim=64, ridge=1.0)
    lab, side = Lab(tmp_path, progress=False), {"train_output": outputs.sequence_loss}
    each = Question(source, data, data[:4], outputs.token_log_prob, **side)
    whole = method.attribute(Question(source, data, data[:4], outputs.sequence_log_prob, **side), lab).scores
    scores = method.attribute(each, lab).scores
    for i in range(4):
        apart = np.abs(scores[each.index[:, 0] == i].sum(0) - whole[i]).max()
        assert apart < 1e-5 * np.abs(scores[each.index[:, 0] == i]).sum(0).max()


def test_a_token_outside_the_vocabulary_is_named():
    module, data = drawn(gpt2), Examples(torch.tensor([[1, 2, V], [3, 1, 2]]))
    asked = Question(Checkpoints(module, [module.state_dict()]), data, data, outputs.sequence_loss)
    with pytest.raises(BadInput, match=r"dl-113(.|\n)*vocabulary"):
        MemoryLab().outcomes(
            dataclasses.replace(asked, learner=SGD(gpt2, epochs=1, batch_size=2)), Subsets(n=2, count=1)
        )
    with pytest.raises(BadInput, match="dl-113"):
        asked.measure(asked.learner.models()[0])


@pytest.mark.parametrize("make", [gpt2, llama, pythia])
def test_the_loss_is_the_models_own(make):
    """Labels in the dict, a prompt of two tokens left out: as a user's training batch has them."""
    module, plain = drawn(make), batch(False).inputs
    labels = torch.where(torch.arange(T) < 2, -100, plain)
    rows = Examples({"input_ids": plain, "labels": labels}).take(range(N))
    live = Checkpoints(module, module.state_dict()).models()[0]
    found = outputs.sequence_loss.value(live, rows)
    with torch.no_grad():
        expected = [
            module(input_ids=x[None], labels=y[None]).loss for x, y in zip(plain, labels, strict=True)
        ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # theirs is in single precision
    asked = Question(
        Checkpoints(module, module.state_dict()),
        Examples(rows.inputs),
        Examples(rows.inputs),
        outputs.sequence_loss,
    )
    assert gradients(asked, live, "train", lambda *_: None).facts["gradient_error"] < 1e-9


def untrained():
    """GPT-2 with a start of its own making."""
    return drawn(gpt2, dtype=torch.float32)


def test_sgd_trains_it_and_the_lab_finds_out_that_a_padded_one_cannot_be_stacked(tmp_path):
    learner, data = SGD(untrained, epochs=2, lr=0.05, batch_size=4), batch(True)
    asked = Question(learner, data, data[:3], outputs.sequence_loss)
    subsets = Subsets(n=N, count=2)
    assert set(rates(asked, subsets, 64)) == {"loop"}
    with pytest.raises(TrainingError, match=r"dl-217.*GPT2LMHeadModel"):
        Lab(tmp_path / "stacked", backend="stacked", progress=False).outcomes(asked, subsets)
    measured = Lab(tmp_path / "own", workers=1, progress=False).outcomes(asked, subsets).values
    start = asked.measure(learner.model(learner.init(seed=0)))
    assert (measured.mean((0, 1)) < start - 0.2).all(), "it learns"
    np.testing.assert_allclose(measured, MemoryLab().outcomes(asked, subsets).values, rtol=1e-4)
