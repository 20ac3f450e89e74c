"""What is stored is made in a clean state of the process, and leaves it as it was; by one thread at a time."""

import contextlib
import random
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import checkpoint

from dataloupe import outputs
from dataloupe.core import Examples, MemoryLab, Question, Subsets, TorchModel, isolated, without_checkpointing
from dataloupe.engine import Backend
from dataloupe.lab import Lab
from dataloupe.learners import SGD, Checkpoints
from dataloupe.methods import TRAK


@contextlib.contextmanager
def setting(change, restore):
    change()
    try:
        yield
    finally:
        restore()


AROUND = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "default dtype": lambda: setting(
        lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)
    ),
    "default device": lambda: torch.device("meta"),
    "deterministic": lambda: setting(
        lambda: torch.use_deterministic_algorithms(True), lambda: torch.use_deterministic_algorithms(False)
    ),
    "products": lambda: setting(
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: torch.set_float32_matmul_precision("highest"),
    ),
}


def make():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
DATA = Examples(X, X[:, :3].argmax(1))
TARGETS = DATA[:5]


def question():
    return Question(SGD(make, epochs=2, lr=0.3, momentum=0.9, batch_size=8), DATA, TARGETS, outputs.margin)


def state_around():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.get_num_threads(),
    )


def everything(where):
    """What a lab stores, by all its doors."""
    lab = Lab(where, backend=Backend("stacked", 2, unit=4), progress=False)
    subsets = Subsets(n=40, count=4, seed=1)
    asked = question()
    found = [lab.outcomes(asked, subsets).values, TRAK(models=2, dim=16).attribute(asked, lab).scores]
    found += [lab.embeddings(asked, subsets, 1).train, asked.identity]
    plain = MemoryLab()
    return [*found, plain.outcomes(asked, subsets).values, plain.embeddings(asked, subsets, 1).targets]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return everything(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("name", AROUND)
def test_nothing_around_a_call_decides_a_number(tmp_path, name, undisturbed):
    with AROUND[name]():
        before = state_around()
        found = everything(tmp_path)
        assert state_around() == before
    for one, other in zip(found, undisturbed, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", ["autocast", "default dtype", "default device"])
def test_a_factory_works_in_the_clean_state_too(name):
    plain = SGD(make).init(seed=3).params
    source = Checkpoints(make, plain).models()[0].predict(torch.ones(2, 6))
    with AROUND[name]():
        found = SGD(make).init(seed=3).params
        again = Checkpoints(make, plain).models()[0]
    assert all(torch.equal(found[key], plain[key]) for key in plain)
    assert torch.equal(again.predict(torch.ones(2, 6)), source)


def test_generators_are_seeded_and_put_back():
    draws = lambda: (random.random(), np.random.rand(), float(torch.rand(())))  # noqa: E731
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    rest = draws()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    with isolated(seed=2**40 + 1):
        first = draws()
        with isolated(seed=7):
            draws()
        with isolated():
            second = draws()
    with isolated(seed=2**40 + 1):
        assert (draws(), draws()) == (first, second)
    assert draws() == rest


def test_a_factory_may_draw_from_any_generator():
    def noisy():
        net = make()
        with torch.no_grad():
            net[0].bias += random.random() + float(np.random.rand())
        return net

    start, again, other = (SGD(noisy).init(seed=seed).params["0.bias"] for seed in (1, 1, 2))
    assert torch.equal(start, again) and not torch.equal(start, other)


def by_threads(work, count=4):
    """``work(i)`` of all i at once; what each gave or raised."""
    found, together = [None] * count, threading.Barrier(count)

    def one(i):
        together.wait()
        try:
            found[i] = work(i)
        except Exception as error:
            found[i] = error

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_labs_of_several_threads_give_what_they_give_alone(tmp_path):
    """Each with a lab of its own, and two with one lab."""
    subsets = [Subsets(n=40, count=4, seed=i) for i in range(4)]

    def values(lab, i):
        return lab.outcomes(question(), subsets[i]).values

    def lab(name):
        return Lab(tmp_path / name, backend=Backend("stacked", 2, unit=2), progress=False)

    alone = [values(lab(f"alone {i}"), i) for i in range(4)]
    own, shared = [lab(f"own {i}") for i in range(3)], lab("shared")
    found = by_threads(lambda i: values([*own, shared, shared][i], i % 4), 5)
    for one, other in zip(found, [*alone, alone[0]], strict=True):
        assert np.array_equal(one, other)
    again = by_threads(lambda _: values(lab("one folder"), 0), 2)
    assert all(np.array_equal(one, alone[0]) for one in again)


def test_models_of_one_module_predict_from_several_threads():
    """A call puts a model's tensors into the module that it shares with others."""
    learner = SGD(make, epochs=1)
    models = [learner.model(learner.init(seed=seed)) for seed in range(4)]
    x = torch.ones(3, 6)
    alone = [model.predict(x) for model in models]

    def many(i):
        return all(torch.equal(models[i].predict(x), alone[i]) for _ in range(200))

    assert by_threads(many) == [True] * 4


def test_checkpointing_is_as_it_was_after_any_number_of_threads():
    before = checkpoint.CheckpointFunction, checkpoint._checkpoint_without_reentrant_generator
    model = TorchModel(make(), {})

    def predict(i):
        for _ in range(100):
            model.predict(torch.ones(2, 6)) if i % 2 else TorchModel(make(), {}).predict(torch.ones(2, 6))

    by_threads(predict)
    assert before == (checkpoint.CheckpointFunction, checkpoint._checkpoint_without_reentrant_generator)


@pytest.mark.parametrize("reentrant", [True, False])
def test_another_thread_goes_on_checkpointing(reentrant):
    """Within ``without_checkpointing`` of one thread, another's function is called again in its backward pass."""
    calls = []

    def square(x):
        calls.append(threading.current_thread().name)
        return x * x

    def backward(_):
        x = torch.ones(2, requires_grad=True)
        checkpoint.checkpoint(square, x, use_reentrant=reentrant).sum().backward()
        return x.grad.tolist()

    with without_checkpointing():
        assert by_threads(backward, 1) == [[2.0, 2.0]] and len(calls) == 2
        calls.clear()
        assert backward(0) == [2.0, 2.0] and len(calls) == 1


def test_a_module_with_a_part_in_training_mode_predicts_in_evaluation_mode():
    module = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)).eval()
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    model = TorchModel(module, dict(module.named_parameters()), dict(module.named_buffers()))
    expected = model.predict(x)
    module[1].train()
    assert torch.equal(model.predict(x), expected)
