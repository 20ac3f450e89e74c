"""Whatever a training left is read right, or refused with the line to write: wrappers, Lightning, shards, folders."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_checkpoints import INPUTS, Net, Tied, net
from torch import nn

import dataloupe
from dataloupe._errors import BadInput
from dataloupe.learners import Checkpoints

STATE = net(0).state_dict()


def predicts_as(source: Checkpoints, module: nn.Module) -> bool:
    with torch.no_grad():
        return torch.equal(source.models()[0].predict(INPUTS), module(INPUTS))


def proposed(message: str, **names: Any) -> dict[str, torch.Tensor]:
    """What the line that a message proposes makes of ``state``."""
    line = message[re.search(r"state = |\{name|\{\"", message).start() :]
    *first, last = line.split("; ")
    scope = {"dataloupe": dataloupe, **names}
    for statement in first:
        exec(statement, scope)
    return eval(last, scope)


# --- prefixes -----------------------------------------------------------------------------------------------

PREFIXES = [
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model.module.",
    "ema_model.module.",
    "_forward_module.model.",
    "a.b.c.d.",
    "_fsdp_wrapped_module.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_line_that_strips_a_prefix_is_proposed(prefix: str) -> None:
    state = {prefix + name: tensor for name, tensor in STATE.items()}
    with pytest.raises(BadInput, match=r"dl-861.*strip the prefix") as told:
        Checkpoints(Net, [state])
    assert predicts_as(Checkpoints(Net, proposed(told.value.do, state=state)), net(0))


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module, name: str) -> None:
        super().__init__()
        self.add_module(name, inner)


@pytest.mark.parametrize("name", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrappers_at_any_depth_are_seen(name: str) -> None:
    whole = net(0)
    for inner in ("body", "head"):
        setattr(whole, inner, Wrapped(getattr(whole, inner), name))
    state = Wrapped(whole, name).state_dict()
    with pytest.raises(BadInput, match="dl-861") as told:
        Checkpoints(Net, [state])
    assert predicts_as(Checkpoints(Net, proposed(told.value.do, state=state)), net(0))


def test_other_tensors_beside_the_model_are_left_out_by_the_line() -> None:
    """As of AveragedModel, or of a LightningModule with a loss of its own."""
    state = {f"module.{name}": tensor for name, tensor in STATE.items()} | {"n_averaged": torch.tensor(3)}
    with pytest.raises(BadInput, match=r'dl-861.*startswith\("module\."\)') as told:
        Checkpoints(Net, [state])
    assert predicts_as(Checkpoints(Net, proposed(told.value.do, state=state)), net(0))


def test_of_two_models_in_one_the_user_says_which() -> None:
    state = {f"online_model.{name}": t for name, t in STATE.items()}
    state |= {f"ema_model.{name}": t for name, t in net(1).state_dict().items()} | {"step": torch.tensor(9)}
    with pytest.raises(
        BadInput, match=r"dl-861.*which model of several.*'ema_model\.' or 'online_model\.'"
    ) as told:
        Checkpoints(Net, [state])
    assert predicts_as(Checkpoints(Net, proposed(told.value.do, state=state)), net(1))


def test_a_prefix_that_the_module_has_and_the_file_has_not() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = net(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x)

    with pytest.raises(BadInput, match=r"dl-861.*put the prefix model\. before") as told:
        Checkpoints(Model, [STATE])
    assert predicts_as(Checkpoints(Model, proposed(told.value.do, state=STATE)), net(0))


def test_prefixes_of_tied_tensors() -> None:
    module = net(0, Tied)
    for names in (["a.weight"], ["a.weight", "b.weight"], ["b.weight"]):
        state = {f"module.{name}": module.a.weight.detach() for name in names}
        with pytest.raises(BadInput, match=r"dl-861.*strip the prefix module\.") as told:
            Checkpoints(Tied, [state])
        assert predicts_as(Checkpoints(Tied, proposed(told.value.do, state=state)), module)


def test_names_that_no_prefix_explains_get_no_line() -> None:
    state = {f"module.{name}": tensor for name, tensor in STATE.items() if "head" not in name}
    with pytest.raises(BadInput, match=r"dl-861.*make the module as it was in training"):
        Checkpoints(Net, [state])


def test_buffers_that_are_not_saved_may_be_among_the_names() -> None:
    """``{**named_parameters, **named_buffers}``; what was in them in training counts."""
    whole = net(0)
    whole.scale.fill_(3.0)
    state = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
    assert "scale" in state and "scale" not in STATE
    assert predicts_as(Checkpoints(Net, [state]), whole)
    with pytest.raises(BadInput, match=r"dl-862.*scale"):
        Checkpoints(Net, [{**state, "scale": torch.ones(2)}])


# --- modules ------------------------------------------------------------------------------------------------


def test_modules_are_taken_as_they_are() -> None:
    nets = [net(0), net(1)]
    nets[0].scale.fill_(3.0)
    source = Checkpoints(Net, nets)
    before = [module(INPUTS) for module in copy.deepcopy(nets)]
    with torch.no_grad():
        nets[0].body.weight.zero_()
        for model, right in zip(source.models(), before, strict=True):
            assert torch.equal(model.predict(INPUTS), right)
    assert predicts_as(Checkpoints(Net, net(1)), net(1))
    with pytest.raises(BadInput, match=r"dl-865.*the same tensors"):
        Checkpoints(Net, [nets[0], nets[0]])


@pytest.mark.parametrize("source", [3, None, ["a", "b"], torch.ones(2), (x for x in [1])])
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_source_is_named(source: Any) -> None:
    for sources in (source, [source]):
        with pytest.raises(BadInput, match=r"dl-86[056]"):
            Checkpoints(Net, sources)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({name: tensor.numpy() for name, tensor in STATE.items()}, "from_numpy"),
        ({}, "no tensor at all"),
        ({3: torch.ones(1)}, "no text"),
        ({name: tensor.to("meta") for name, tensor in STATE.items()}, "numbers in them"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_state_dict_is_named(state: Any, words: str) -> None:
    with pytest.raises(BadInput, match=rf"dl-866.*{words}"):
        Checkpoints(Net, [state])


# --- files --------------------------------------------------------------------------------------------------


def lightning(path: Path, **more: Any) -> Path:
    """What Lightning saves of a module that holds the net as ``model``."""
    state = {f"model.{name}": tensor for name, tensor in STATE.items()}
    torch.save({"epoch": 3, "pytorch-lightning_version": "2.6.0", "state_dict": state, **more}, path)
    return path


def test_a_checkpoint_of_lightning_is_read(tmp_path: Path) -> None:
    path = lightning(tmp_path / "a b.ckpt", optimizer_states=[{"lr": 0.1}], hyper_parameters={"width": 4})
    with pytest.raises(BadInput, match=r"dl-861.*strip the prefix model\..*Checkpoints\.read") as told:
        Checkpoints(Net, path)
    assert predicts_as(Checkpoints(Net, proposed(told.value.do)), net(0))
    assert predicts_as(Checkpoints(lambda: LightningLike(), path), net(0))


class LightningLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = net(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


def test_a_plain_state_dict_may_be_called_ckpt(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.ckpt")
    assert predicts_as(Checkpoints(Net, tmp_path / "a.ckpt"), net(0))


class Config:
    """A class that a file would unpickle."""


@pytest.mark.parametrize("kind", ["module.pt", "module.bin", "hyper.ckpt"])
def test_pickled_classes_are_not_run_and_the_line_to_write_is_said(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "hyper.ckpt":
        lightning(path, hyper_parameters={"config": Config()})
    else:
        torch.save(net(0), path)
    with pytest.raises(BadInput, match=r"dl-860.*tensors only.*torch\.save\(m\.state_dict\(\)") as told:
        Checkpoints(Net, path)
    assert "\x1b" not in str(told.value)
    assert re.search(r"a pickle of [\w.]*(Net|Config)", told.value.found)


def test_colours_of_messages_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"no pickle")
    with pytest.raises(BadInput, match="dl-860") as told:
        Checkpoints(Net, tmp_path / "a.pt")
    assert "\x1b" not in str(told.value)


# --- shards and folders -------------------------------------------------------------------------------------


def shards(folder: Path, stem: str = "model", kind: str = "safetensors", suffix: str = "") -> Path:
    """The state dict in two shards, and their index."""
    folder.mkdir(exist_ok=True)
    places = {}
    for number, part in enumerate((dict(list(STATE.items())[:3]), dict(list(STATE.items())[3:])), 1):
        name = f"{stem}-0000{number}-of-00002.{kind}{suffix}"
        save_file(part, folder / name) if kind == "safetensors" else torch.save(part, folder / name)
        places |= dict.fromkeys(part, name)
    index = folder / f"{stem}.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize(("stem", "kind"), [("model", "safetensors"), ("pytorch_model", "bin")])
def test_shards_are_read_by_their_index_or_their_folder(tmp_path: Path, stem: str, kind: str) -> None:
    index = shards(tmp_path / "checkpoint-500", stem, kind)
    for source in (index, index.parent, str(index.parent)):
        assert predicts_as(Checkpoints(Net, source), net(0))


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    index = shards(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    for source in (index, tmp_path):
        with pytest.raises(
            BadInput, match=r"dl-860.*without model-00002-of-00002\.safetensors.*all 2 shards"
        ):
            Checkpoints(Net, source)


def test_a_shard_of_another_training_is_named(tmp_path: Path) -> None:
    index = shards(tmp_path)
    save_file({"head.bias": torch.zeros(3)}, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(BadInput, match=r"dl-860.*without the tensor"):
        Checkpoints(Net, index)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": 3}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "../secret.pt"}}',
        '{"weight_map": {"a": "/etc/passwd"}}',
        "[" * 100_000,
    ],
    ids=range(8),
)
def test_an_index_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(BadInput, match=r"dl-860.*index\.json"):
        Checkpoints(Net, tmp_path)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.safetensors"]
)
def test_a_folder_of_a_saved_model_is_read(tmp_path: Path, name: str) -> None:
    """With all that a trainer leaves beside it."""
    save_file(STATE, tmp_path / name) if name.endswith("rs") else torch.save(STATE, tmp_path / name)
    torch.save({"lr": 0.1}, tmp_path / "optimizer.pt")
    (tmp_path / "config.json").write_text("{}")
    assert predicts_as(Checkpoints(Net, [tmp_path]), net(0))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "no files"),
        (["best.pt", "notes.txt"], r"name the file: .*best\.pt"),
        (["checkpoint-500/x", "checkpoint-900/x"], r"name one of them: .*checkpoint-900"),
        ([".metadata", "__0_0.distcp"], "dcp_to_torch"),
        (["global_step500/x", "latest"], "zero_to_fp32"),
        (["config.json"], "save_pretrained"),
    ],
)
def test_a_folder_without_a_model_says_what_to_name(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(BadInput, match=rf"dl-866.*{words}"):
        Checkpoints(Net, tmp_path)


def test_adapters_and_base_in_one_folder(tmp_path: Path) -> None:
    """Adapters are read for a module that has some, the whole model for one that has none."""
    peft = pytest.importorskip("peft")
    base = net(0, Plain)
    config = peft.LoraConfig(target_modules=["body"], r=2, init_lora_weights=False)
    tuned = peft.get_peft_model(copy.deepcopy(base), config).eval()
    tuned.save_pretrained(tmp_path)
    save_file(base.state_dict(), tmp_path / "model.safetensors")
    assert predicts_as(Checkpoints(Plain, tmp_path), base)
    source = Checkpoints(lambda: peft.get_peft_model(copy.deepcopy(base), config), tmp_path)
    assert predicts_as(source, tuned)
    assert not predicts_as(source, base)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).relu())


def test_a_model_that_transformers_saved(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    make = lambda: transformers.BertForSequenceClassification(config)  # noqa: E731
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert any("position_ids" in name for name in state)
    right = {name: tensor.detach() for name, tensor in model.named_parameters()}
    for source in (tmp_path, state, model):
        (found,) = Checkpoints(make, source).models()
        assert all(torch.equal(found.params[name], tensor) for name, tensor in right.items())


def test_read_gives_the_state_dict(tmp_path: Path) -> None:
    index = shards(tmp_path)
    for source in (index, tmp_path, STATE, net(0)):
        state = Checkpoints.read(source)
        assert {name: t for name, t in state.items() if name != "scale"}.keys() == STATE.keys()
        assert all(np.array_equal(state[name], tensor) for name, tensor in STATE.items())
