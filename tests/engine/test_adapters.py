"""Adapters of the library peft: what is trained is explained, the base held still or the other way round; files of adapters alone."""

import numpy as np
import pytest
import torch
from hugging_face_cases import drawn
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from dataloupe import outputs
from dataloupe._errors import BadInput
from dataloupe.core import Examples, MemoryLab, Question
from dataloupe.engine import gradients
from dataloupe.lab import Lab
from dataloupe.learners import SGD, Checkpoints
from dataloupe.methods import TRAK

V, T, N = 13, 7, 8


def llama(**adapter):
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": V}
    base = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, num_key_value_heads=1))
    return get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], **adapter))


def of_embeddings():
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "vocab_size": V}
    base = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2))
    return get_peft_model(base, LoraConfig(r=2, target_modules=["embed_tokens", "up_proj"]))


def dora():
    return llama(use_dora=True)


def base_trained():
    """The base explained, the adapters held still."""
    module = llama()
    for name, p in module.named_parameters():
        p.requires_grad_("lora_" not in name)
    return module


def bert():
    shape = {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    base = BertForSequenceClassification(
        BertConfig(**shape, intermediate_size=24, max_position_embeddings=T, num_labels=3, **none)
    )
    config = LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["classifier"])
    return get_peft_model(base, config)


def sequences(labelled=False):
    draws = torch.Generator().manual_seed(1)
    lengths = torch.randint(2, T + 1, (N,), generator=draws)
    real = torch.arange(T) < lengths[:, None]
    ids = torch.where(real, torch.randint(1, V, (N, T), generator=draws), 0)
    return Examples(
        {"input_ids": ids, "attention_mask": real.long()}, torch.arange(N) % 3 if labelled else None
    )


def plain(module, data, output):
    """The gradient of every example alone by autograd, in what is trained."""
    source = Checkpoints(module, module.state_dict()).models()[0]
    names = list(source.params)
    found = []
    for i in range(N):
        params = {name: p.clone().requires_grad_() for name, p in source.params.items()}
        value = output.value(source.with_params(params), data.take([i])).sum()
        found.append(torch.autograd.grad(value, [params[name] for name in names], allow_unused=True))
    return {
        name: torch.stack(
            [torch.zeros_like(source.params[name]) if one[k] is None else one[k] for one in found]
        ).flatten(1)
        for k, name in enumerate(names)
    }


@pytest.mark.parametrize("make", [llama, dora, of_embeddings, base_trained, bert])
def test_what_is_trained_is_explained(make):
    labelled = make is bert
    module, data = drawn(make), sequences(labelled)
    output = outputs.margin if labelled else outputs.sequence_loss
    source = Checkpoints(module, [module.state_dict()])
    found = {}

    def use(name, uses, _):
        found[name] = sum(one.product().flatten(1) for one in uses)

    swept = gradients(Question(source, data, data[:2], output), source.models()[0], "train", use)
    expected = plain(module, data, output)
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert set(source.models()[0].params) == trained == set(expected)
    assert ("lora_" in "".join(trained)) == (make is not base_trained)
    assert swept.facts["gradient_error"] < 1e-9
    scale = max(float(g.abs().max()) for g in expected.values())
    assert scale > 0
    for name, gradient in expected.items():
        own = found.get(name, torch.zeros_like(gradient))
        assert float((own - gradient).abs().max()) < 1e-9 * scale, name


@pytest.mark.parametrize("make", [llama, dora, of_embeddings, bert])
def test_adapters_as_they_were_saved_are_checkpoints(make, tmp_path):
    module = drawn(make)
    states = []
    for seed in range(2):
        with torch.no_grad():
            for p in module.parameters():
                if p.requires_grad:
                    p.add_(seed)
        save_file(
            get_peft_model_state_dict(module, save_embedding_layers=False), tmp_path / f"{seed}.safetensors"
        )
        states.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
    files = Checkpoints(module, sorted(tmp_path.glob("*.safetensors"))).models()
    wholes = Checkpoints(module, states).models()
    for file, whole in zip(files, wholes, strict=True):
        assert file.params.keys() == whole.params.keys()
        for name, p in {**whole.params, **whole.buffers}.items():
            torch.testing.assert_close({**file.params, **file.buffers}[name], p, rtol=0, atol=0)
    assert any(not torch.equal(files[0].params[n], files[1].params[n]) for n in files[0].params)


def test_what_is_held_still_may_be_missing_and_what_is_trained_may_not():
    module = drawn(llama)
    state = get_peft_model_state_dict(module)
    name = next(iter(state))
    with pytest.raises(BadInput, match=r"dl-861(.|\n)*lora_A.default"):
        Checkpoints(module, [{n: t for n, t in state.items() if n != name}])
    with pytest.raises(BadInput, match="dl-861"):
        Checkpoints(module, [{**state, "base_model.extra": torch.zeros(1)}])
    with pytest.raises(BadInput, match="dl-867"):
        Checkpoints(nn.Linear(2, 2).requires_grad_(False), [nn.Linear(2, 2).state_dict()])


def test_a_question_knows_what_is_held_still():
    head, whole = (
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)),
    )
    head[0].requires_grad_(False)
    state = whole.state_dict()
    data = Examples(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 2)
    asked = [Question(Checkpoints(m, [state]), data, data, outputs.margin) for m in (head, whole)]
    assert asked[0].identity != asked[1].identity
    part, every = (
        TRAK(models=1, dim=256).attribute(question, MemoryLab()).info.certificate["dimensions"]
        for question in asked
    )
    assert (part, every) == (10, 26)


def test_sgd_trains_adapters_and_the_lab_explains_them(tmp_path):
    def start():
        return drawn(llama, dtype=torch.float32)

    data = sequences()
    asked = Question(SGD(start, epochs=2, lr=0.05, batch_size=4), data, data[:3], outputs.sequence_loss)
    found = TRAK(models=2, dim=64).attribute(asked, Lab(tmp_path, progress=False))
    plainly = TRAK(models=2, dim=64).attribute(asked, MemoryLab())
    np.testing.assert_allclose(
        found.scores, plainly.scores, rtol=5e-3, atol=5e-3 * np.abs(plainly.scores).max()
    )
