"""Gradients on another device and in another precision: the same answers, or a named refusal.

What needs no GPU is shown without one: bf16 runs anywhere, and a device of numberless tensors ("meta") shows that
nothing is left behind on the host. Where there is a GPU, the same tests run on it.
"""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError
from dataloupe.core import Examples, MemoryLab, Question, Subsets, TorchModel
from dataloupe.core._examples import gather
from dataloupe.engine import HOST, Compute, features, gradients
from dataloupe.engine._batch import BatchTask, differentiate
from dataloupe.engine._compute import products
from dataloupe.engine._pass import surveyed
from dataloupe.lab import Lab
from dataloupe.learners import Checkpoints
from dataloupe.methods import Influence
from dataloupe.solve import DenseSketch, Exact, FactoredSketch, HashSketch

GPU = torch.cuda.is_available()
DEVICES = ["cpu", *["cuda"] * GPU]
SKETCHES = [Exact(), HashSketch(64, s=2), DenseSketch(64), FactoredSketch(64), FactoredSketch(64, side=2)]


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.out = nn.Linear(6 * 16, 3)

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.conv(x))).flatten(1))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(36, 40), nn.GELU(), nn.LayerNorm(40), nn.Linear(40, 3)
        )

    def forward(self, x):
        return self.layers(x)


def images(n, seed, dtype=torch.float32):
    draws = torch.Generator().manual_seed(seed)
    return Examples(
        torch.randn(n, 1, 6, 6, generator=draws).to(dtype), torch.randint(0, 3, (n,), generator=draws)
    )


def asked(make, dtype=torch.float32, count=1):
    """A question to a finished model, and that model."""
    draws = torch.Generator().manual_seed(0)
    shapes = {name: p.shape for name, p in make().named_parameters()}
    states = [
        make().state_dict()
        | {
            name: torch.randn(shape, generator=draws) / max(1, shape[-1]) ** 0.5
            for name, shape in shapes.items()
        }
        for _ in range(count)
    ]
    learner = Checkpoints(make, states)
    question = Question(learner, images(20, 0, dtype), images(6, 1, dtype), outputs.margin)
    model = learner.models()[0]
    params, buffers = (
        {name: part.to(dtype) if part.is_floating_point() else part for name, part in parts.items()}
        for parts in (model.params, model.buffers)
    )
    return question, TorchModel(model.module, params, buffers)


def alike(one, other, least):
    for ours, theirs in zip(one.whole, other.whole, strict=True):
        assert ours.dtype == theirs.dtype == np.float32
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > least


@pytest.mark.parametrize("make", [CNN, MLP])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sketch", SKETCHES, ids=str)
def test_every_device_gives_the_same(make, device, sketch):
    question, model = asked(make)
    plain = MemoryLab().features(question, Subsets.full(20), 0, sketch)
    found = features(question, model, sketch, Compute(device, "fp32"))
    for ours, theirs in zip(found.whole, plain.whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("make", [CNN, MLP])
@pytest.mark.parametrize(
    ("device", "precision"), [("cpu", "bf16"), *[("cuda", "bf16"), ("cuda", "tf32")] * GPU]
)
def test_reduced_precision_gives_nearly_the_same_and_says_how_nearly(make, device, precision):
    question, model = asked(make)
    for sketch in (Exact(), FactoredSketch(64)):
        plain = features(question, model, sketch)
        found = features(question, model, sketch, Compute(device, precision))
        alike(found, plain, 0.999)
        assert not np.array_equal(found.targets, plain.targets)
        assert 0.0 < found.facts["precision_error"] < 0.05
        assert "precision_error" not in plain.facts


def test_factors_in_half_precision_come_to_methods_in_fp32_and_predictions_as_well():
    question, model = asked(CNN)
    seen = set()

    def use(_name, uses, _place):
        seen.update(part.dtype for one in uses for part in one if isinstance(part, torch.Tensor))

    swept = gradients(question, model, "train", use, compute=Compute(precision="bf16"))
    assert seen == {torch.float32}
    inputs = question.train.take([0, 1]).inputs
    assert Compute(precision="bf16").model(model).predict(inputs.bfloat16()).dtype == torch.float32
    np.testing.assert_allclose(swept.slope, gradients(question, model, "train", use).slope, atol=0.05)


def test_a_model_keeps_its_types_unless_others_are_asked_for():
    question, model = asked(MLP, torch.float64)
    plain = MemoryLab().features(asked(MLP)[0], Subsets.full(20), 0, Exact())
    types = {}
    for precision in ("model", "fp32"):
        seen = types.setdefault(precision, set())

        def use(_name, uses, _place, seen=seen):
            seen |= {part.dtype for one in uses for part in one if isinstance(part, torch.Tensor)}

        gradients(question, model, "train", use, compute=Compute(precision=precision))
        found = features(question, model, Exact(), Compute(precision=precision))
        np.testing.assert_allclose(found.targets, plain.targets, rtol=1e-3, atol=1e-4)
    assert types == {"model": {torch.float64}, "fp32": {torch.float32}}


# --- nothing stays behind ---


class OneDevice(TorchDispatchMode):
    """Refuses an operation on tensors of two devices, as a GPU would (torch's own "meta" lets some pass)."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, torch.Tensor)]
        devices = {t.device for t in given if t.ndim or t.device.type != "cpu"}
        moves = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if len(devices) > 1 and not moves:
            raise RuntimeError(f"{func} of tensors on {devices}")
        return func(*args, **(kwargs or {}))


class Anything(set):
    """Holds all signatures: a device without numbers cannot compare any."""

    def __contains__(self, _):
        return True


@pytest.mark.parametrize("make", [CNN, MLP])
@pytest.mark.parametrize("precision", ["model", "bf16"])
@pytest.mark.parametrize("sketch", SKETCHES, ids=str)
def test_a_batch_is_sketched_without_a_tensor_left_on_the_host(monkeypatch, make, precision, sketch):
    monkeypatch.setattr(Compute, "__post_init__", lambda _: None)
    there = Compute("meta", precision)
    question, model = asked(make)
    seen = surveyed(question.output, model, question.train)
    bound = sketch.bind({name: part.shape for name, part in model.params.items()})
    out = torch.zeros(8, bound.width, device="meta")
    added = []

    def use(name, uses, place):
        bound.add(out[place], name, *uses)
        added.extend(name for _ in uses)

    with OneDevice():
        live, rows = there.model(model), there.rows(question.train.take(range(8)))
        which = torch.zeros(8, dtype=torch.int64).to(there.on)
        task = BatchTask(question.output, live, rows, which, lambda slopes, _: torch.ones_like(slopes))
        slopes = differentiate(task, seen, Anything(), use, seen.uses, slice(0, 8)).slopes
    assert slopes.device.type == "meta" and slopes.dtype == torch.float32
    assert set(added) == set(model.params)


def test_the_device_that_refuses_a_second_one_does():
    with OneDevice(), pytest.raises(RuntimeError, match="meta"):
        torch.nn.functional.embedding(torch.ones(2).long(), torch.ones(2, 2, device="meta"))


def test_rows_are_picked_on_the_device_of_the_data():
    rows = gather(torch.ones(5, 2, device="meta"), torch.tensor([3, 1]), every=True)
    assert rows.shape == (2, 2) and rows.device.type == "meta"


def test_models_and_data_on_a_device_go_where_they_are_asked_to():
    question, model = asked(MLP)
    away = TorchModel(model.module, {k: p.to(DEVICES[-1]) for k, p in model.params.items()})
    plain = features(question, model, Exact())
    np.testing.assert_array_equal(features(question, away, Exact()).targets, plain.targets)


# --- refused ---


@pytest.mark.parametrize(
    ("device", "precision"),
    [("cuda:99", "fp32"), ("gpu", "fp32"), ("meta", "fp32"), ("cpu", "fp16"), ("cpu", "tf32")],
)
@pytest.mark.usefixtures("unchecked")
def test_a_device_or_precision_that_is_not_there_is_refused(tmp_path, device, precision):
    with pytest.raises(BadInput, match=r"dl-231.*cpu"):
        Lab(tmp_path, device=device, precision=precision)


def test_cuda_is_refused_on_a_machine_without(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match=r"dl-231.*the devices cpu;"):
        Compute("cuda")


class Elsewhere(MLP):
    def forward(self, x):
        return super().forward(x) + torch.zeros(3, device="meta")


class FixedType(MLP):
    def forward(self, x):
        return super().forward(x + torch.zeros(36).reshape(1, 6, 6))


@pytest.mark.parametrize(("make", "precision"), [(Elsewhere, "model"), (FixedType, "bf16")])
def test_a_module_that_makes_tensors_elsewhere_or_of_another_type_is_told(make, precision):
    question, model = asked(make)
    with pytest.raises(CapabilityError, match=r"dl-232.*device=x.device"):
        features(question, model, Exact(), Compute(precision=precision))


def test_an_error_of_the_modules_own_names_the_module():
    class Broken(MLP):
        def forward(self, _):
            raise RuntimeError("the module's own words")

    question, model = asked(Broken)
    with pytest.raises(
        CapabilityError, match="dl-250.*RuntimeError in Broken: the module's own words"
    ) as raised:
        features(question, model, Exact())
    assert isinstance(raised.value.__cause__, RuntimeError)


class Cancelling(nn.Module):
    """What is left of its input is below the rounding of bf16."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(36, 3)

    def forward(self, x):
        return self.out((x + 300.0 - 300.0).flatten(1))


def test_half_precision_that_changes_the_gradients_is_refused_unless_forced():
    question, model = asked(Cancelling)
    with pytest.raises(CapabilityError, match=r"dl-246.*force=True"):
        features(question, model, Exact(), Compute(precision="bf16"))
    found = features(question, model, Exact(), Compute(precision="bf16", force=True))
    assert found.facts["precision_error"] > 0.1


class Steep(nn.Module):
    """The gradient at its first layer is 300 * 200 x: above 65,504 for rows of large x, as values never are."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False)

    def forward(self, x):
        return self.last(self.first(x) * x * 200.0)


def steep(large):
    inputs = torch.ones(30, 1).half()
    inputs[large] = 4.0
    weights = {
        "first.weight": torch.full((1, 1), 1e-4).half(),
        "last.weight": torch.tensor([[300.0], [0.0]]).half(),
    }
    question = Question(
        Checkpoints(lambda: Steep().half(), [weights]),
        Examples(inputs, torch.zeros(30, dtype=torch.int64)),
        Examples(inputs[:2], torch.zeros(2, dtype=torch.int64)),
        outputs.margin,
    )
    return question, TorchModel(Steep().half(), weights)


@pytest.mark.parametrize("large", [0, 25])
def test_gradients_that_overflow_in_fp16_are_told_and_bf16_holds_them(large):
    question, model = steep(large)
    with pytest.raises(CapabilityError, match=r"dl-247.*bf16"):
        features(question, model, Exact())
    exact = features(question, model, Exact(), Compute(precision="fp32"))
    assert exact.finite and exact.train.whole().max() > 65504
    alike(features(question, model, Exact(), Compute(precision="bf16")), exact, 0.999)


def test_fp16_that_does_not_overflow_is_told_how_near_it_is():
    question, model = asked(MLP, torch.float16)
    found = features(question, model, Exact())
    alike(found, features(question, model, Exact(), Compute(precision="fp32")), 0.9999)
    assert 0.0 < found.facts["precision_error"] < 0.01


def test_a_diverged_model_in_fp16_is_left_to_the_method():
    question, model = asked(MLP, torch.float16)
    broken = TorchModel(model.module, {k: p * float("inf") for k, p in model.params.items()})
    assert not features(question, broken, Exact()).finite


# --- kept ---


def test_features_of_every_precision_are_kept_apart_and_say_so(tmp_path):
    question, _ = asked(MLP)
    subsets = Subsets.full(20)
    labs = {p: Lab(tmp_path, precision=p, progress=False) for p in ("model", "bf16")}
    found = {p: lab.features(question, subsets, 0, FactoredSketch(16)) for p, lab in labs.items()}
    assert not np.array_equal(found["model"].targets, found["bf16"].targets)
    again = Lab(tmp_path, device=Compute("cpu", "bf16", force=True), progress=False)
    kept = again.features(question, subsets, 0, FactoredSketch(16))
    np.testing.assert_array_equal(kept.train.whole(), found["bf16"].train.whole())
    store = again.store
    made = [store.read_facts(f, "made_by") for f in store.folders() if f.startswith("features-")]
    assert sorted(one["made_by"]["compute"]["precision"] for one in made) == ["bf16", "model"]
    assert sorted(one["on"]["environment"]["precision"] for one in made) == ["bf16", "model"]


def test_answers_of_every_precision_are_remembered_apart(tmp_path):
    question, _ = asked(MLP)
    labs = [Lab(tmp_path, precision=p, progress=False) for p in ("model", "bf16", "bf16")]
    plain, half, again = (Influence(models=1).attribute(question, lab).scores for lab in labs)
    assert not np.array_equal(plain, half) and np.array_equal(half, again)
    assert np.corrcoef(plain.ravel(), half.ravel())[0, 1] > 0.99
    labs[0].put("note", "key", {"a": np.ones(1)}, {})
    assert labs[1].get("note", "key") is None and labs[0].get("note", "key") is not None


def test_the_switches_of_products_are_put_back():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn

    def state():
        return (
            matmul.allow_tf32,
            cudnn.allow_tf32,
            cudnn.deterministic,
            matmul.allow_bf16_reduced_precision_reduction,
        )

    before = state()
    with products(tf32=True):
        assert state() == (True, True, True, False)
        with products(tf32=False):
            assert state() == (False, False, True, False)
        assert state() == (True, True, True, False)
    assert state() == before
    with HOST.running():
        assert state() == before


def test_a_lab_is_told_by_two_words_or_whole():
    assert Compute.of("cpu", "bf16") == Compute("cpu", "bf16") == Compute.of(Compute("cpu"), "bf16")
    assert Compute.of(Compute("cpu", "bf16", force=True), "model").force
