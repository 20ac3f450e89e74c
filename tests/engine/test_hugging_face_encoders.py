"""Encoders with a classifying head, and encoders with decoders, of Hugging Face's transformers: random weights, otherwise as they come."""

import numpy as np
import pytest
import torch
from hugging_face_cases import drawn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from dataloupe import outputs
from dataloupe._errors import BadInput
from dataloupe.core import Examples, Question, next_tokens
from dataloupe.engine import gradients
from dataloupe.lab import Lab
from dataloupe.learners import Checkpoints
from dataloupe.methods import TRAK

V, T, D, N = 13, 7, 5, 8
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def bert():
    shape = {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    more = {"intermediate_size": 24, "max_position_embeddings": T, "num_labels": 3, **NO_DROPOUT}
    return BertForSequenceClassification(BertConfig(**shape, **more))


def distilbert():
    shape = {"vocab_size": V, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "num_labels": 3}
    none = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    return DistilBertForSequenceClassification(DistilBertConfig(**shape, **none, max_position_embeddings=T))


def llama():
    """The head reads the last token that is no padding."""
    shape = {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForSequenceClassification(
        LlamaConfig(**shape, intermediate_size=24, num_labels=3, pad_token_id=0)
    )


def t5():
    """A table of relative places, shared by all examples."""
    shape = {"vocab_size": V, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(**shape, dropout_rate=0.0, decoder_start_token_id=0))


def bart():
    both = {
        f"{side}_{name}": size
        for side in ("encoder", "decoder")
        for name, size in {"layers": 2, "attention_heads": 2, "ffn_dim": 24}.items()
    }
    none = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    return BartForConditionalGeneration(
        BartConfig(vocab_size=V, d_model=16, **both, **none, max_position_embeddings=T + 2)
    )


def padded(seed, length, shortest):
    draws = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, length + 1, (N,), generator=draws)
    real = torch.arange(length) < lengths[:, None]
    return torch.where(real, torch.randint(1, V, (N, length), generator=draws), 0), real.long()


def sentences():
    ids, mask = padded(1, T, 2)
    return Examples({"input_ids": ids, "attention_mask": mask}, torch.arange(N) % 3)


def answers(labels=False):
    ids, mask = padded(1, T, 2)
    told, real = padded(2, D, 2)
    started = torch.cat([torch.zeros(N, 1, dtype=torch.int64), told[:, :-1]], 1)
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "decoder_input_ids": started,
        "decoder_attention_mask": real,
    }
    return Examples(inputs, torch.where(real == 1, told, -100)) if labels else Examples(inputs)


def unpadded(rows):
    """One example without its padding."""
    inputs = dict(rows.inputs)
    for ids, mask in (("input_ids", "attention_mask"), ("decoder_input_ids", "decoder_attention_mask")):
        if ids in inputs:
            length = int(inputs[mask].sum())
            inputs |= {name: inputs[name][:, :length] for name in (ids, mask)}
    return inputs


def one_by_one(module, data, value):
    """The gradient of every example by plain autograd, alone and without its padding."""
    names, params = zip(*module.named_parameters(), strict=True)
    found = []
    for i in range(len(data)):
        rows = data.take([i])
        grads = torch.autograd.grad(value(module(**unpadded(rows)).logits, rows), params, allow_unused=True)
        found.append([torch.zeros_like(p) if g is None else g for p, g in zip(params, grads, strict=True)])
    return {name: torch.stack([one[k] for one in found]).flatten(1) for k, name in enumerate(names)}


def log_odds(logits, rows):
    y = int(rows.labels)
    return logits[0, y] - torch.cat([logits[0, :y], logits[0, y + 1 :]]).logsumexp(0)


def mean_log_odds(logits, rows):
    """Of the answer's tokens: place t is asked for token t + 1."""
    told = rows.inputs["decoder_input_ids"][0, 1 : logits.shape[1]]
    each = [log_odds(logits[:, t], rows._replace(labels=y)) for t, y in enumerate(told)]
    return torch.stack(each).mean()


CASES = [
    *((make, sentences, outputs.margin, log_odds) for make in (bert, distilbert, llama)),
    *((make, answers, outputs.sequence_margin, mean_log_odds) for make in (t5, bart)),
]


@pytest.mark.parametrize(("make", "data", "output", "value"), CASES, ids=[case[0].__name__ for case in CASES])
def test_every_example_s_gradient_is_that_of_it_alone_and_unpadded(make, data, output, value):
    module, rows = drawn(make), data()
    source = Checkpoints(module, [module.state_dict()])
    found = {}

    def use(name, uses, _):
        found[name] = sum(one.product().flatten(1) for one in uses)

    swept = gradients(Question(source, rows, rows[:2], output), source.models()[0], "train", use)
    expected = one_by_one(module, rows, value)
    assert sum(swept.facts["coverage"].values()) == pytest.approx(1.0, abs=1e-5)
    assert swept.facts["coverage"]["as factors"] > 0.98
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        own = found.get(name, torch.zeros_like(gradient))
        assert float((own - gradient).abs().max()) < 1e-9 * scale, name


@pytest.mark.parametrize(
    ("make", "data", "output"), [(bert, sentences, outputs.margin), (t5, answers, outputs.sequence_loss)]
)
def test_from_checkpoints_to_scores(make, data, output, tmp_path):
    modules = [drawn(make, seed, torch.float32) for seed in (0, 1)]
    source = Checkpoints(modules[0], [module.state_dict() for module in modules])
    found = TRAK(models=2, dim=64).attribute(
        Question(source, data(), data()[:3], output), Lab(tmp_path, progress=False)
    )
    own = found.scores[[0, 1, 2], [0, 1, 2]]
    assert (own * (-1 if output is outputs.sequence_loss else 1) > 0).all(), "an example helps itself"


@pytest.mark.parametrize("make", [t5, bart])
def test_the_loss_of_an_answer_is_the_model_s_own(make):
    """Labels beside the inputs stand at the decoder's places, as Hugging Face's models take them."""
    module, rows = drawn(make), answers(labels=True)
    source = Checkpoints(module, [module.state_dict()])
    found = Question(source, rows, rows, outputs.sequence_loss).measure(source.models()[0])
    for i in range(N):
        one = rows.take([i])
        length = int(one.inputs["decoder_attention_mask"].sum())
        own = module(**unpadded(one), labels=one.labels[:, :length]).loss.detach()
        assert found[i] == pytest.approx(float(own), rel=1e-5)


def test_which_token_a_decoder_s_place_is_asked_for():
    rows = answers().take(np.arange(N))
    moved = next_tokens(rows)
    assert moved.shape == (N, D)
    for ids, mask, told in zip(
        rows.inputs["decoder_input_ids"], rows.inputs["decoder_attention_mask"], moved, strict=True
    ):
        length = int(mask.sum())
        assert told.tolist() == [*ids[1:length].tolist(), *[-100] * (D - length + 1)]
    other = Examples({"input_ids": torch.ones(2, 4).long(), "labels": torch.ones(2, 3).long()})
    with pytest.raises(BadInput, match=r"dl-808.*decoder_input_ids"):
        next_tokens(other.take([0]))
