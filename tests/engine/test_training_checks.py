"""A recipe's first steps are held against themselves and against plain torch: what is not the same is refused by name."""

import itertools
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from dataloupe import outputs
from dataloupe._errors import CapabilityError, TrainingError
from dataloupe.core import Examples, MemoryLab, Question, Subsets, TorchModel, vmap_models
from dataloupe.core import train as train_by_steps
from dataloupe.engine import Backend, Work, choose, run_unit
from dataloupe.learners import SGD

LOOP, STACKED = Backend("loop"), Backend("stacked", 4)
BACKENDS = pytest.mark.parametrize("backend", [LOOP, STACKED], ids=["loop", "stacked"])
SETTINGS = {"epochs": 2, "lr": 0.2, "momentum": 0.9, "batch_size": 8}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.calls = nn.Linear(8, 12), nn.Linear(12, 3), 0

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def points():
    x = torch.randn(48, 8, generator=torch.Generator().manual_seed(0))
    return Examples(x, x[:, :3].argmax(1))


def unit(learner, backend, examples=None, kind="fixed"):
    examples = points() if examples is None else examples
    question = Question(learner, examples, examples[:5], outputs.margin)
    subsets = Subsets(n=48, count=4, seed=3, kind=kind)
    return run_unit(Work(question, subsets, 1, backend, True, first=0), (0, 4))


# --- randomness that nothing keys ---


class NumpyNoise(Net):
    def forward(self, x):
        return super().forward(x + (float(np.random.randn()) if self.training else 0))


class PythonNoise(Net):
    def forward(self, x):
        return super().forward(x * (random.choice([0.5, 1.5]) if self.training else 1))


class NoiseOfTheSystem(Net):
    def forward(self, x):
        return super().forward(x + (float(np.random.default_rng().normal()) if self.training else 0))


class RandomPredictions(Net):
    def forward(self, x):
        return super().forward(x) + (0 if self.training else random.random())


class CountsForAll(Net):
    total = itertools.count()

    def forward(self, x):
        return super().forward(x) * (1 + 0.01 * (next(self.total) if self.training else 0))


@BACKENDS
@pytest.mark.parametrize(
    ("module", "code"),
    [
        (NumpyNoise, "dl-222.*NumPy"),
        (PythonNoise, "dl-261.*steps"),
        (NoiseOfTheSystem, "dl-261.*steps"),
        (RandomPredictions, "dl-261.*predict"),
        (CountsForAll, "dl-261.*steps"),
    ],
)
def test_a_module_that_does_not_come_out_the_same_is_refused(module, code, backend):
    with pytest.raises((CapabilityError, TrainingError), match=code):
        unit(SGD(module, **SETTINGS), backend)


# --- what a forward pass leaves in its module ---


class Counter(Net):
    def forward(self, x):
        self.calls += self.training
        return super().forward(x) * (1 + 0.01 * self.calls)


class PlainAverage(Net):
    def __init__(self):
        super().__init__()
        self.mean = torch.zeros(8)

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return super().forward(x - self.mean)


@BACKENDS
@pytest.mark.parametrize("module", [Counter, PlainAverage])
def test_a_module_whose_own_state_outlives_training_is_refused(module, backend):
    with pytest.raises(TrainingError, match="dl-266.*predictions"):
        unit(SGD(module, **SETTINGS), backend)


class CountsInTraining(Net):
    def forward(self, x):
        if not self.training:
            return super().forward(x)
        self.calls += 1
        return super().forward(x) * (1 + 0.1 * self.calls)


class NewBuffer(Net):
    """A running mean that is put in the buffer's place, not written into it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return super().forward(x - self.mean)


class Unused(Net):
    def __init__(self):
        super().__init__()
        self.idle, self.scale = nn.Linear(3, 3), nn.Parameter(torch.tensor(1.3))

    def forward(self, x):
        return super().forward(x) * self.scale


class Keeps(Net):
    def forward(self, x):
        self.seen, self.calls = x, self.calls + 1
        return super().forward(x)


def by_plain_torch(learner, examples, k, kind="fixed"):
    subsets = Subsets(n=48, count=4, seed=3, kind=kind)
    weights = torch.from_numpy(subsets.masks([k])[0].astype(np.float32))
    seed = subsets.train_seed(k, 0)
    module, start = learner.module(), learner.init(seed=seed)
    module.load_state_dict({**start.params, **start.buffers}, strict=False)
    module.train()
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(
            p, learner.lr, momentum=learner.momentum, weight_decay=learner.weight_decay
        ),
        "adamw": lambda p: torch.optim.AdamW(p, learner.lr, weight_decay=learner.weight_decay),
    }[learner.optimizer](module.parameters())
    for slot in learner.batches(weights, seed=seed):
        optimizer.zero_grad()
        functional.cross_entropy(module(examples.inputs[slot.ids]), examples.labels[slot.ids]).backward()
        optimizer.step()
    module.eval()(examples.inputs[:5])  # a table with max_norm is changed by a look, too
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def same_as_plain_torch(learner, backend, examples=None, kind="fixed"):
    examples = points() if examples is None else examples
    found = unit(learner, backend, examples, kind)
    start = learner.init(seed=0)
    for k in (0, 2, 3):
        for name, tensor in by_plain_torch(learner, examples, k, kind).items():
            kept = found.tensors[name][k] if name in found.tensors else start.buffers[name]
            np.testing.assert_allclose(kept, tensor.detach(), rtol=2e-3, atol=2e-5, err_msg=name)


@BACKENDS
@pytest.mark.parametrize("module", [CountsInTraining, NewBuffer, Unused, Keeps])
@pytest.mark.parametrize(
    "settings",
    [{"weight_decay": 0.1}, {"optimizer": "adamw", "lr": 0.02, "weight_decay": 0.1, "momentum": 0.0}],
    ids=["sgd", "adamw"],
)
def test_the_same_as_plain_torch(module, settings, backend):
    """Every training has a module of its own; buffers are kept however they change; what is not used does not move."""
    same_as_plain_torch(SGD(module, **{**SETTINGS, **settings}), backend)


class Routed(nn.Module):
    """A branch that only some batches take: its parameters have no gradient in the others."""

    def __init__(self):
        super().__init__()
        self.trunk, self.rare = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x):
        return self.trunk(x) + (self.rare(x) if float(x.sum()) > 0 else 0)


def test_parameters_of_a_branch_move_in_the_steps_that_take_it():
    for optimizer in ({"weight_decay": 0.1}, {"optimizer": "adamw", "lr": 0.02, "momentum": 0.0}):
        same_as_plain_torch(SGD(Routed, **{**SETTINGS, **optimizer}), LOOP)


def test_a_factory_may_give_the_same_module_each_time():
    net = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = unit(SGD(lambda: net, **SETTINGS), LOOP)
    assert np.abs(found.tensors["1.running_mean"]).max() > 0.01
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


# --- many models in one program ---


class Padded(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.table, self.out = nn.Embedding(9, 6, **settings), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.table(x).mean(1))


class PaddedFunction(Padded):
    def forward(self, x):
        return self.out(functional.embedding(x, self.table.weight, padding_idx=-7).mean(1))


class PaddedBag(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.EmbeddingBag(9, 6, padding_idx=2), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.table(x))


def tokens():
    draws = torch.Generator().manual_seed(0)
    return Examples(torch.randint(0, 9, (48, 5), generator=draws), torch.arange(48) % 3)


@BACKENDS
@pytest.mark.parametrize(
    "module",
    [
        lambda: Padded(padding_idx=2),
        PaddedFunction,
        PaddedBag,
        lambda: Padded(sparse=True),
        lambda: Padded(padding_idx=2, scale_grad_by_freq=True),
    ],
    ids=["padding", "function", "bag", "sparse", "by frequency"],
)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_embedding_tables_are_trained_as_in_plain_torch_in_every_model(module, backend):
    """``vmap`` folds the model into the index: the padding row was trained in all models of a stack but the first."""
    dense = {"momentum": 0.0} if module().table.sparse else {}
    same_as_plain_torch(SGD(module, **{**SETTINGS, **dense}), backend, tokens())


def test_a_token_beyond_the_table_does_not_reach_the_table_of_the_next_model():
    tables, rows = torch.arange(6.0).reshape(2, 3, 1), torch.tensor([[0, 3], [0, 1]])
    with pytest.raises(IndexError, match="out of range"):
        vmap_models(lambda table, rows: functional.embedding(rows, table))(tables, rows)


class Renormed(Padded):
    def __init__(self):
        super().__init__(max_norm=1.0)


def test_what_cannot_be_stacked_is_trained_by_the_loop_as_in_plain_torch():
    learner = SGD(Renormed, **SETTINGS)
    same_as_plain_torch(learner, LOOP, tokens())
    with pytest.raises(TrainingError, match="dl-217.*max_norm"):
        unit(learner, STACKED, tokens())
    question = Question(learner, tokens(), tokens()[:5], outputs.margin)
    assert choose(question, Subsets(n=48, count=40), 40, 1).backend.kind == "loop"


class OfTheFirstModel(torch.autograd.Function):
    """An operation whose rule for ``vmap`` mixes models up: all get what the first one gives."""

    @staticmethod
    def forward(x):
        return x * 1.0

    @staticmethod
    def setup_context(_, inputs, output):
        pass

    @staticmethod
    def backward(_, gradient):
        return gradient

    @staticmethod
    def vmap(info, dims, x):
        return (x.movedim(dims[0], 0)[:1].expand(info.batch_size, *x.shape[1:]) * 1.0, 0)


class Mixed(Net):
    def forward(self, x):
        return OfTheFirstModel.apply(super().forward(x))


def test_a_stack_whose_second_model_is_not_the_model_alone_is_refused_or_not_taken():
    learner = SGD(Mixed, **SETTINGS)
    unit(learner, LOOP)
    with pytest.raises(TrainingError, match="dl-260.*off by"):
        unit(learner, STACKED)
    question = Question(learner, points(), points()[:5], outputs.margin)
    assert choose(question, Subsets(n=48, count=40), 40, 1).backend.kind == "loop"


class Centred(Net):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class Directions(Net):
    def forward(self, x):
        return super().forward(x / x.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("module", [Centred, Directions])
def test_rows_that_feel_a_masked_row_are_refused(module):
    """The mean of the batch holds the masked row; a row of zeros has no direction, and 0 times NaN is NaN."""
    with pytest.raises(CapabilityError, match="dl-267.*feel each other"):
        unit(SGD(module, removal="mask", **SETTINGS), LOOP)
    unit(SGD(Net, removal="mask", **SETTINGS), STACKED)


def test_rows_that_feel_each_other_are_not_filled_up_with_others():
    same_as_plain_torch(SGD(Centred, **SETTINGS), STACKED)
    same_as_plain_torch(SGD(Centred, **SETTINGS), LOOP, kind="bernoulli")
    with pytest.raises(TrainingError, match="dl-260"):
        unit(SGD(Centred, **SETTINGS), STACKED, kind="bernoulli")


@BACKENDS
@pytest.mark.parametrize("lr", [1e30, 30.0])
def test_a_recipe_that_diverges_is_no_recipe_that_differs(lr, backend):
    unit(SGD(Net, **{**SETTINGS, "lr": lr}), backend)


# --- learners of the user's own ---


class Loop:
    """A training loop of the user's own; what it does with its seed is handed in."""

    removal = "repack"

    def __init__(self, noise):
        self.noise, self.seeds = noise, []

    def train(self, data, weights, *, seed):
        assert len(weights) == len(data)
        self.seeds.append(seed)
        net = nn.Linear(8, 3)
        with torch.no_grad():
            net.weight += self.noise(seed)
        return TorchModel(net, {name: p.detach() for name, p in net.named_parameters()})

    def __identity__(self):
        return {}


@pytest.mark.parametrize(
    "noise",
    [
        lambda _: np.random.randn(),
        lambda _: random.random(),
        lambda seed: np.random.default_rng(seed).normal(),
        lambda seed: np.random.RandomState(seed).randn(),
        lambda _: 0.0,
    ],
    ids=["numpy", "python", "generator", "legacy", "none"],
)
def test_generators_are_seeded_around_a_training_loop(noise):
    """Seeds below 2^31, as NumPy takes them; the global generators afterwards as if nothing had been drawn."""
    states = np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    learner = Loop(noise)
    found = unit_of_values(learner)
    assert len(learner.seeds) == 5 and learner.seeds[0] == learner.seeds[1]  # the first one twice
    assert all(0 <= seed < 2**31 for seed in learner.seeds) and len(set(learner.seeds)) == 4
    assert np.random.get_state()[1].tolist() == states[0]
    assert torch.equal(torch.random.get_rng_state(), states[1])
    assert np.array_equal(found, unit_of_values(Loop(noise)))
    examples = points()
    question = Question(Loop(noise), examples, examples[:5], outputs.margin)
    plain = MemoryLab().outcomes(question, Subsets(n=48, count=4, seed=3))
    assert np.array_equal(plain.values[:, 0], found)


def unit_of_values(learner):
    examples = points()
    question = Question(learner, examples, examples[:5], outputs.margin)
    work = Work(question, Subsets(n=48, count=4, seed=3), 1, LOOP, False, first=0)
    return run_unit(work, (0, 4)).values


def test_a_training_loop_that_does_not_come_out_the_same_is_refused():
    def system(_):
        return np.random.default_rng().normal()

    with pytest.raises(TrainingError, match=r"dl-261.*Loop.*away"):
        unit_of_values(Loop(system))
    learner = Loop(system)
    learner.repeatable = (
        False  # kernels of a GPU, say: the numbers do not come again, and the learner says so
    )
    assert np.isfinite(unit_of_values(learner)).all() and len(learner.seeds) == 4


class ClippedLoop(SGD):
    """Trains by a ``train`` of its own: the inherited steps are not its training."""

    def train(self, data, weights, *, seed):
        model = super().train(data, weights, seed=seed)
        return model.with_params({name: p.clamp(-0.1, 0.1) for name, p in model.params.items()})


class ClippedSteps(SGD):
    """Takes a ``step`` of its own: the inherited ``steps`` for many models are not many of it."""

    def step(self, state, batch):
        state = super().step(state, batch)
        return state._replace(params={name: p.clamp(-0.1, 0.1) for name, p in state.params.items()})


@BACKENDS
@pytest.mark.parametrize("learner", [ClippedLoop, ClippedSteps])
def test_what_a_subclass_writes_anew_is_what_trains(learner, backend):
    found = unit(learner(Net, **SETTINGS), backend)
    assert all(np.abs(tensor).max() <= 0.1 for tensor in found.tensors.values())


def test_errors_of_users_code_name_the_training_and_keep_their_cause():
    class Broken(Net):
        def forward(self, x):
            return super().forward(x) if not self.training else 1 / 0

    with pytest.raises(TrainingError, match=r"dl-262.*Broken.*subset 0.*ZeroDivisionError") as caught:
        unit(SGD(Broken, **SETTINGS), LOOP)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def out_of_luck(_):
        raise KeyError("batch")

    with pytest.raises(TrainingError, match=r"dl-262.*Loop on subset 0, repeat 0 \(seed \d+\).*KeyError"):
        unit_of_values(Loop(out_of_luck))


def test_the_plain_loop_of_a_stepped_learner_has_a_module_of_its_own_too():
    learner, weights = SGD(CountsInTraining, **SETTINGS), torch.ones(48)
    models = [train_by_steps(learner, points(), weights, seed=1) for _ in range(2)]
    assert all(torch.equal(models[0].params[name], p) for name, p in models[1].params.items())


def test_no_warning_is_raised_by_the_checks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unit(SGD(Net, **SETTINGS), LOOP)
