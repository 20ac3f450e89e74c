"""Models from the user's own loop: read whole, checked against the module, refused by name."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import identity
from dataloupe.core import Learner, MemoryLab, ModelSource, Question, Subsets
from dataloupe.learners import Checkpoints
from dataloupe.testing import blobs


class Net(nn.Module):
    """A parameter, a persistent and a non-persistent buffer, BatchNorm."""

    def __init__(self, width=4):
        super().__init__()
        self.body = nn.Linear(6, width)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, 3)
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)

    def forward(self, x):
        return self.head(self.norm(self.body(x)).relu()) * self.scale


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6, bias=False)
        self.b = nn.Linear(6, 6, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x))


def net(seed, cls=Net):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = cls()
        for buffer in module.buffers():
            if buffer.is_floating_point() and buffer.ndim:
                buffer.uniform_(0.5, 1.5)
    return module.eval()


def written(module, path):
    state = module.state_dict()
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


INPUTS = blobs(9).inputs


@pytest.mark.parametrize("kind", ["state", "x.safetensors", "x.pt", "x.pth", "x.bin"])
def test_models_predict_as_their_modules_did(tmp_path, kind):
    nets = [net(0), net(1)]
    sources = [
        n.state_dict() if kind == "state" else written(n, tmp_path / f"{i}{kind}") for i, n in enumerate(nets)
    ]
    source = Checkpoints(Net, sources)
    assert isinstance(source, ModelSource)
    assert not isinstance(source, Learner)
    for model, original in zip(source.models(), nets, strict=True):
        with torch.no_grad():
            assert torch.equal(model.predict(INPUTS), original(INPUTS))
        assert set(model.params) == {name for name, _ in original.named_parameters()}
        assert set(model.buffers) == {name for name, _ in original.named_buffers()}


def test_one_source_need_not_be_in_a_list(tmp_path):
    path = written(net(0), tmp_path / "x.safetensors")
    for one in (path, str(path), net(0).state_dict()):
        assert len(Checkpoints(Net, one).models()) == 1


def test_models_do_not_move_with_the_users_module():
    module = net(0).train()
    source = Checkpoints(module, [module.state_dict()])
    before = source.models()[0].predict(INPUTS)
    assert module.training
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.zero_()
        module.scale.zero_()
    assert torch.equal(source.models()[0].predict(INPUTS), before)


def test_a_factory_moves_no_global_generator():
    before = torch.get_rng_state()
    Checkpoints(Net, [net(0).state_dict()])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("names", [["a.weight"], ["b.weight"], ["a.weight", "b.weight"]])
def test_tied_tensors_are_found_under_any_of_their_names(names):
    module = net(0, Tied)
    state = {name: module.a.weight.detach() for name in names}
    (model,) = Checkpoints(Tied, [state]).models()
    with torch.no_grad():
        assert torch.equal(model.predict(INPUTS), module(INPUTS))


def test_files_of_save_model_leave_tied_names_out(tmp_path):
    module = net(0, Tied)
    save_model(module, str(tmp_path / "tied.safetensors"))
    (model,) = Checkpoints(Tied, [tmp_path / "tied.safetensors"]).models()
    with torch.no_grad():
        assert torch.equal(model.predict(INPUTS), module(INPUTS))


def test_tied_names_with_different_tensors_are_refused():
    state = {"a.weight": torch.zeros(6, 6), "b.weight": torch.ones(6, 6)}
    with pytest.raises(BadInput, match=r"dl-861.*a.weight, b.weight"):
        Checkpoints(Tied, [state])


def test_subsets_are_what_each_saw():
    kept = np.array([[True, False, True], [True, True, False]])
    source = Checkpoints(Net, [net(0).state_dict(), net(1).state_dict()], kept=kept)
    assert (source.subsets(3).masks() == kept).all()
    assert Checkpoints(Net, [net(0).state_dict()]).subsets(3) is None
    with pytest.raises(BadInput, match=r"dl-864.*over 3"):
        source.subsets(4)


@pytest.mark.parametrize("kept", [np.ones((2, 3)), np.ones((3, 3), dtype=bool), np.ones(3, dtype=bool)])
def test_kept_of_another_shape_or_kind_is_refused(kept):
    with pytest.raises(BadInput, match="dl-864"):
        Checkpoints(Net, [net(0).state_dict(), net(1).state_dict()], kept=kept)


def test_identity_is_tensors_module_and_subsets(tmp_path):
    class Other(Net):
        def forward(self, x):
            return -super().forward(x)

    states = [net(0).state_dict(), net(1).state_dict()]
    kept = np.array([[True, False], [False, True]])
    scaled = net(0)
    scaled.scale.fill_(3.0)
    sources = [
        Checkpoints(Net, states[:1]),
        Checkpoints(Net, states[1:]),
        Checkpoints(Net, states),
        Checkpoints(Net, states[::-1]),
        Checkpoints(Net, states, kept=kept),
        Checkpoints(Net, states, kept=~kept),
        Checkpoints(Other, states),
        Checkpoints(scaled, states),
    ]
    assert len({identity(source) for source in sources}) == len(sources)
    files = [written(net(i), tmp_path / f"{i}.safetensors") for i in (0, 1)]
    assert identity(Checkpoints(net(5), files)) == identity(sources[2])


def test_a_lab_reads_it_and_does_not_retrain_it():
    data = blobs()
    question = Question(Checkpoints(Net, [net(0).state_dict()]), data, data[:4], outputs.margin)
    subsets = Subsets.full(48)
    assert question.measure(MemoryLab().models(question, subsets)[0]).shape == (4,)
    with pytest.raises(CapabilityError, match="dl-207"):
        MemoryLab().outcomes(question, subsets)


# --- refusals ---


def changed(**tensors):
    return {**net(0).state_dict(), **tensors}


def test_missing_and_unknown_tensors_are_named():
    state = changed(extra=torch.zeros(1))
    del state["head.bias"]
    with pytest.raises(BadInput, match=r"dl-861.*checkpoint 1.*missing: head.bias; unknown: extra"):
        Checkpoints(Net, [net(0).state_dict(), state])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_a_wrappers_prefix_is_recognised(prefix):
    state = {prefix + name: tensor for name, tensor in net(0).state_dict().items()}
    with pytest.raises(BadInput, match=rf'dl-861.*do: strip the prefix.*removeprefix\("{prefix}"\)'):
        Checkpoints(Net, [state])


@pytest.mark.parametrize("tensor", [torch.zeros(5), torch.zeros(3, dtype=torch.float16)])
def test_other_shapes_and_dtypes_are_refused(tmp_path, tensor):
    path = tmp_path / "odd.safetensors"
    save_file(changed(**{"head.bias": tensor}), path)
    with pytest.raises(BadInput, match=r"dl-862.*odd.safetensors.*head.bias, torch.float32 of shape \(3,\)"):
        Checkpoints(Net, [path])


@pytest.mark.parametrize("name", ["body.weight", "norm.running_var"])
def test_nan_is_refused_by_name(name):
    bad = torch.full_like(net(0).state_dict()[name], torch.nan)
    with pytest.raises(BadInput, match=rf"dl-863.*checkpoint 0.*{name}"):
        Checkpoints(Net, [changed(**{name: bad})])


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.95])
def test_truncated_files_are_refused_by_name(tmp_path, suffix, keep):
    path = written(net(0), tmp_path / f"cut{suffix}")
    raw = path.read_bytes()
    path.write_bytes(raw[: keep if isinstance(keep, int) else int(len(raw) * keep)])
    with pytest.raises(BadInput, match=rf"dl-860.*cut{suffix}"):
        Checkpoints(Net, [path])


@pytest.mark.parametrize("name", ["none.safetensors", "none.pt"])
def test_a_missing_file_is_refused_by_name(tmp_path, name):
    with pytest.raises(BadInput, match=rf"dl-860.*{name}"):
        Checkpoints(Net, [tmp_path / name])


def test_a_pickled_module_is_not_run(tmp_path):
    torch.save(nn.Linear(6, 3), tmp_path / "module.pt")
    with pytest.raises(BadInput, match=r"dl-860.*module.pt.*tensors only"):
        Checkpoints(nn.Linear(6, 3), [tmp_path / "module.pt"])


def test_a_training_checkpoint_is_told_from_a_state_dict(tmp_path):
    torch.save({"model": net(0).state_dict(), "epoch": 3}, tmp_path / "all.pt")
    with pytest.raises(BadInput, match=r"dl-866.*all.pt.*also model: OrderedDict, epoch: int"):
        Checkpoints(Net, [tmp_path / "all.pt"])
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(BadInput, match=r"dl-866.*a list"):
        Checkpoints(Net, [tmp_path / "list.pt"])


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"dl-866.*kind .h5.*\.ckpt.*save_pretrained"):
        Checkpoints(Net, [tmp_path / "x.h5"])


def test_a_training_checkpoints_state_dict_is_named_where_it_lies(tmp_path):
    torch.save({"epoch": 3, "state_dict": net(0).state_dict(), "optimizer": {"lr": 0.1}}, tmp_path / "all.pt")
    with pytest.raises(BadInput, match=r'dl-866.*do: hand its state dict over.*\["state_dict"\]'):
        Checkpoints(Net, [tmp_path / "all.pt"])


def test_state_dicts_taken_in_training_without_a_copy_are_refused():
    """All of them are the last one."""
    module, states, copies = net(0), [], []
    for _ in range(3):
        with torch.no_grad():
            module.body.weight += 1.0
        states.append(module.state_dict())
        copies.append(copy.deepcopy(module.state_dict()))
    with pytest.raises(BadInput, match=r"dl-865.*checkpoint 1, which is checkpoint 0: the same tensors"):
        Checkpoints(Net, states)
    assert len(Checkpoints(Net, copies).models()) == 3


def test_checkpoints_may_share_some_tensors():
    """A frozen body under several heads."""
    body, heads = net(0).state_dict(), [net(seed).state_dict() for seed in (1, 2)]
    states = [{**body, **{name: head[name] for name in ("head.weight", "head.bias")}} for head in heads]
    assert len(Checkpoints(Net, states).models()) == 2


def test_a_module_without_numbers_of_its_own_will_do():
    """As on the meta device: structure is all that is asked of it."""
    state = nn.Linear(6, 3).state_dict()
    (model,) = Checkpoints(nn.Linear(6, 3, device="meta"), state).models()
    assert torch.equal(model.predict(INPUTS), INPUTS @ state["weight"].T + state["bias"])


@pytest.mark.parametrize(("module", "sources"), [(lambda: 3, [{}]), (Net, [])])
def test_no_module_or_no_sources_are_refused(module, sources):
    with pytest.raises(BadInput, match="dl-865"):
        Checkpoints(module, sources)
