"""One backward pass of a whole batch = batch-of-one autograd, for every kind of layer."""

# ruff: noqa: ARG002  (an output is handed more than it needs)

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dataloupe._errors import BadInput, CapabilityError
from dataloupe.core import Examples, Outer, TorchModel
from dataloupe.engine._alone import units_of
from dataloupe.engine._batch import BatchTask, Gathered, together, verified
from dataloupe.engine._checks import check_own, coverage
from dataloupe.engine._convolutions import _Patches, unfolded
from dataloupe.engine._pass import surveyed
from dataloupe.engine._tape import Where


@dataclasses.dataclass(frozen=True)
class Energy:
    """A smooth number of every prediction."""

    name: str = "energy"
    repeats: int = 1

    def value(self, model, rows, draw=None):
        return torch.sin(model.predict(rows.inputs).flatten(1)).pow(3).sum(1)

    def slope(self, model, rows, values, draw=None):
        return torch.ones_like(values)

    def valid(self, rows):
        return torch.ones(len(rows.inputs), 1, dtype=torch.bool)


def torch_model(module, dtype, seed=0):
    draws = torch.Generator().manual_seed(seed)
    module = module.to(dtype).eval()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=draws, dtype=dtype) * 0.4)
        for name, buffer in module.named_buffers():
            if "running" in name:
                buffer.copy_(torch.rand(buffer.shape, generator=draws, dtype=dtype) + 0.5)
    params = {name: p.detach() for name, p in module.named_parameters()}
    return TorchModel(module, params, dict(module.named_buffers()))


def at_once(model, inputs):
    data = Examples(inputs)
    seen, found = surveyed(Energy(), model, data), {}

    def use(name, uses, place):
        assert place == slice(0, len(data)) and name not in found
        found[name] = sum(one.product().flatten(1) for one in uses)

    gathered = Gathered(seen.uses, use, slice(0, len(data)))
    rows, component = data.take(range(len(data))), torch.zeros(len(data), dtype=torch.int64)
    assert together(BatchTask(Energy(), model, rows, component), seen, set(), gathered) is not None
    return seen, found


def one_by_one(model, inputs):
    found = {name: [] for name in model.params}
    for row in inputs.split(1):
        live = {name: p.clone().requires_grad_() for name, p in model.params.items()}
        value = Energy().value(model.with_params(live), Examples(row).take([0]))
        gradients = torch.autograd.grad(value.sum(), list(live.values()), allow_unused=True)
        for (name, p), g in zip(live.items(), gradients, strict=True):
            found[name].append(torch.zeros_like(p) if g is None else g)
    return {name: torch.stack(gs).flatten(1) for name, gs in found.items()}


def numbers(*shape):
    return lambda dtype: torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def words(*shape, of=11):
    return lambda _: torch.randint(of, shape, generator=torch.Generator().manual_seed(1))


class Attention(nn.Module):
    """Keys and values from the queries, from each other, or from three places."""

    def __init__(self, kind, batch_first, **settings):
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=batch_first, **settings)
        self.other, self.kind, self.batch_first = nn.Linear(8, 8), kind, batch_first

    def forward(self, x):
        x = x if self.batch_first else x.transpose(0, 1)
        keys = x if self.kind == "self" else self.other(x)
        values = x + 1 if self.kind == "three" else keys
        found = self.inner(x, keys, values, need_weights=False)[0]
        return found if self.batch_first else found.transpose(0, 1)


class Language(nn.Module):
    """Tied and re-used weights, positions without a batch, a scale, a token for all, and a stray parameter."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(11, 8, padding_idx=0), nn.Embedding(7, 8)
        self.bias, self.start = nn.Parameter(torch.zeros(1, 7, 8)), nn.Parameter(torch.zeros(1, 1, 8))
        self.norm, self.lone = nn.LayerNorm(8), nn.LayerNorm(8)
        self.inner, self.scale = nn.Linear(8, 8), nn.Parameter(torch.ones(8))
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.words.weight
        self.stray = nn.Parameter(torch.zeros(3))

    def forward(self, ids):
        place = self.lone(self.places(torch.arange(ids.shape[1])[None]))
        x = self.words(ids) + place + self.bias
        x = torch.cat([self.start.expand(len(x), -1, -1), x], 1)
        x = x + self.inner(self.norm(x)) * self.scale
        return self.head(x + self.inner(x))


class Pictures(nn.Module):
    """One channel, pools, and a view that minds the order of memory."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3, stride=2), nn.Linear(20, 3)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.one(x)), 2)
        x = torch.tanh(self.two(x))
        return self.out(x.view(len(x), -1))


class Conv1D(nn.Module):
    """A linear map as some language models write it: flattened, weight [in, out]."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(5, 4)), nn.Parameter(torch.zeros(4))
        self.plain, self.turned = nn.Parameter(torch.zeros(4, 4)), nn.Parameter(torch.zeros(3, 4))

    def forward(self, x):
        y = torch.addmm(self.bias, x.reshape(-1, 5), self.weight).reshape(*x.shape[:-1], 4)
        return torch.tanh(y @ self.plain) @ self.turned.T


def conv(kind, inputs, **settings):
    layer = nn.Conv2d if kind == 2 else nn.Conv1d
    return nn.Sequential(layer(4, 8, 3, **settings), nn.ReLU(inplace=True), layer(8, 4, 2)), inputs


RULED = {
    "linear": (nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)), numbers(6, 5)),
    "linear over places": (nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3, bias=False)), numbers(6, 7, 5)),
    **{
        f"conv{kind}d {settings}": conv(kind, numbers(5, 4, *(9, 8)[:kind]), **settings)
        for kind in (1, 2)
        for settings in (
            {},
            {"stride": 2, "padding": 1},
            {"dilation": 2, "padding": "same"},
            {"groups": 2, "bias": False},
            {"groups": 4, "padding": 1, "padding_mode": "reflect"},
        )
    },
    "depthwise": (
        nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.Tanh(), nn.Conv2d(8, 3, 1)), numbers(5, 4, 6, 7)
    ),
    "conv2d uneven": (
        nn.Sequential(nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), nn.Flatten()),
        numbers(5, 2, 7, 8),
    ),
    "conv3d": (nn.Sequential(nn.Conv3d(2, 3, 2, padding=1), nn.Tanh(), nn.Conv3d(3, 2, 2)), numbers(4, 2, 3, 4, 3)),
    **{
        f"transposed {layer.__name__} {settings}": (
            nn.Sequential(layer(4, 6, 3, **settings), nn.Tanh(), layer(6, 2, 2)), numbers(4, 4, *places)
        )
        for layer, places in ((nn.ConvTranspose1d, (6,)), (nn.ConvTranspose2d, (4, 5)))
        for settings in (
            {},
            {"stride": 2, "padding": 1, "output_padding": 1},
            {"groups": 2, "dilation": 2, "bias": False},
        )
    },
    "pictures": (Pictures(), numbers(5, 1, 13, 12)),
    "pictures, more channels than places": (
        nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(32, 3),
        ),
        numbers(5, 3, 6, 6),
    ),
    "norms": (
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(64, 6),
            nn.LayerNorm(6), nn.Tanh(), nn.RMSNorm(6), nn.BatchNorm1d(6),
        ),
        numbers(5, 3, 6, 6),
    ),
    **{
        f"attention, {kind}, batch {'first' if first else 'second'}": (Attention(kind, first), numbers(4, 5, 8))
        for kind in ("self", "two", "three")
        for first in (True, False)
    },
    "attention, no bias": (Attention("self", True, bias=False), numbers(4, 5, 8)),
    "encoder": (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2), numbers(4, 5, 8)
    ),
    "language": (Language(), words(5, 7)),
    "conv1d of language models": (Conv1D(), numbers(5, 3, 5)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "kernel", "settings", "groups"),
    [
        ((5, 1, 4, 7, 6), (3, 3), (1, 0, 1), 1),
        ((5, 1, 4, 7, 6), (3, 3), (1, 0, 1), 2),
        ((5, 1, 12, 7, 6), (3, 3), (1, 1, 1), 1),
        ((5, 2, 12, 9, 8), (3, 3), ((2, 1), (1, 0), (1, 2)), 1),
        ((5, 1, 64, 7, 6), (2, 3), (2, "valid", 1), 2),
        ((5, 1, 16, 5, 6, 4), (3, 2, 2), (1, "same", 1), 1),
    ],
)
def test_patches_of_some_examples_are_those_of_all(shape, kernel, settings, groups):
    x = numbers(*shape)(torch.float64)
    seen = _Patches(x, kernel, settings, groups)
    left = numbers(5, groups, seen.whole.shape[2], 3)(torch.float64)
    found = unfolded(left, x, kernel, settings)
    part, whole = found.part(slice(1, 3)), Outer(found.left, found.right, found.kernel)
    assert found.seen.in_strips == (shape[2] // groups * kernel[-1] >= 32)
    assert found.matrix == whole.matrix == (3 * groups, shape[2] // groups * math.prod(kernel))
    torch.testing.assert_close(part.product(), whole.product()[1:3])
    torch.testing.assert_close(part.right, whole.right[1:3])
    torch.testing.assert_close(found.product(), whole.product())


class Odd(nn.Module):
    """What no rule knows: a recurrent kernel, a parametrised weight, bilinear, PReLU, einsum."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 5, batch_first=True)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))
        self.pairs, self.kink = nn.Bilinear(4, 4, 3), nn.PReLU()
        self.mix = nn.Parameter(torch.zeros(3, 3))

    def forward(self, x):
        x = self.normed(self.gru(x)[0])
        x = self.kink(self.pairs(x, x.flip(1)))
        return torch.einsum("btc,cd->btd", x, self.mix)


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-10), (torch.float32, 3e-5)])
@pytest.mark.parametrize("kind", RULED)
def test_ruled_layers(kind, dtype, accuracy):
    module, inputs = RULED[kind]
    model, inputs = torch_model(module, dtype), inputs(dtype)
    seen, found = at_once(model, inputs)
    assert not seen.alone and not seen.why
    same(found, one_by_one(model, inputs), accuracy)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_what_has_no_rule_is_differentiated_in_its_module_alone(dtype, accuracy):
    model, inputs = torch_model(Odd(), dtype), numbers(4, 5, 6)(dtype)
    seen, found = at_once(model, inputs)
    assert coverage(model, seen).keys() == {"as factors", "in a module alone"}
    assert {unit.module for unit in seen.alone} == {"gru", "normed", "pairs", "kink", ""}
    assert seen.ruled == {"normed.bias"}
    same(found, one_by_one(model, inputs), accuracy)


def same(found, expected, accuracy):
    for name, truth in expected.items():
        ours = found.get(name, torch.zeros_like(truth))
        scale = max(float(t.abs().max()) for t in expected.values())
        assert float((ours - truth).abs().max()) <= accuracy * scale, name


class Learned(nn.Module):
    """Parameters where data usually goes: into a layer, a normalisation, and a sum along an axis of places."""

    def __init__(self):
        super().__init__()
        self.asked, self.places = nn.Parameter(torch.zeros(1, 4, 5)), nn.Parameter(torch.zeros(4, 1, 5))
        self.inner, self.norm = nn.Linear(5, 5), nn.LayerNorm(5)

    def forward(self, x):
        x = x.transpose(0, 1) + self.places
        asked = self.norm(self.asked) + self.inner(self.asked)
        return torch.tanh(x.transpose(0, 1)) * asked


def test_parameters_may_stand_where_data_does():
    model, inputs = torch_model(Learned(), torch.float64), numbers(3, 4, 5)(torch.float64)
    seen, found = at_once(model, inputs)
    assert "places" in seen.ruled and seen.alone
    same(found, one_by_one(model, inputs), 1e-10)


class Unused(nn.Module):
    """A module without a rule whose output goes nowhere."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.PReLU(), nn.Linear(5, 3)

    def forward(self, x):
        self.one(x)
        return self.two(x)


def test_a_module_whose_output_goes_nowhere_adds_nothing():
    model, inputs = torch_model(Unused(), torch.float64), numbers(3, 5)(torch.float64)
    _, found = at_once(model, inputs)
    same(found, one_by_one(model, inputs), 1e-10)


def test_a_parameter_that_no_module_has_to_itself_is_refused():
    model = torch_model(Lone(), torch.float64)
    with pytest.raises(CapabilityError, match=r"dl-244.*mix"):
        units_of(model, lambda live, b: live.predict(numbers(3, 5)(torch.float64)[:b]), frozenset({"mix"}))


class Lone(nn.Module):
    """Gives one number for all examples."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(5))

    def forward(self, x):
        return (x @ self.mix).sum()


class Shared(nn.Module):
    """Adds to what a layer has read, in place."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x):
        y = torch.tanh(self.one(x))
        z = self.two(y)
        y += 1
        return y * z


def test_an_input_changed_in_place_is_refused():
    with pytest.raises(BadInput, match="dl-240"):
        at_once(torch_model(Shared(), torch.float64), numbers(4, 5)(torch.float64))


class Centred(nn.Module):
    """Feels its batch."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(5, 3)

    def forward(self, x):
        y = self.inner(x)
        return y - y.mean(0)


def test_examples_that_feel_their_batch_are_refused():
    with pytest.raises(CapabilityError, match="dl-242"):
        at_once(torch_model(Centred(), torch.float64), numbers(4, 5)(torch.float64))
    lone = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(CapabilityError, match="dl-241"):
        at_once(torch_model(lone, torch.float64), numbers(4, 5)(torch.float64))


def test_a_wrong_gradient_is_noticed():
    model, inputs = torch_model(RULED["encoder"][0], torch.float64), RULED["encoder"][1](torch.float64)
    data, component = Examples(inputs).take(range(3)), torch.zeros(3, dtype=torch.int64)
    seen = surveyed(Energy(), model, Examples(inputs))
    assert verified(Energy(), model, data, component, seen) < 1e-10
    assert coverage(model, seen) == {"as factors": 1.0}
    swapped = dataclasses.replace(seen, places=tuple(misplaced(where) for where in seen.places))
    task = BatchTask(Energy(), model, data, component)
    assert together(task, swapped, set(), Gathered({}, lambda *_: None, slice(0, 3))) is None
    assert verified(Energy(), model, data, component, swapped) < 1e-10  # row by row
    with pytest.raises(CapabilityError, match="dl-243"):
        check_own(0.02, model, force=False)
    check_own(0.02, model, force=True)
    check_own(1e-10, model, force=False)


def misplaced(where):
    """The batch looked for on the wrong side."""
    return Where("outer") if where.place == "inner" else where


def test_no_weight_gradient_is_computed():
    model, inputs = torch_model(RULED["encoder"][0], torch.float64), RULED["encoder"][1](torch.float64)
    assert not any(p.requires_grad for p in model.params.values())
    _, found = at_once(model, inputs)
    assert found.keys() == model.params.keys()
    assert all(p.grad is None for p in model.module.parameters())
