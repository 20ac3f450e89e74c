"""Hashes and random streams: pure functions, the same on every machine and in every version."""

import dataclasses
import functools
import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dataloupe._errors import BadInput
from dataloupe._identity import Stream, array_digest, canonical, identity, mix64, mix64_torch, uniform_torch
from dataloupe.core import Subsets
from dataloupe.learners import SGD

# Golden values: when one changes, answers change, and NUMERICS must be raised by hand.
GOLDEN_BITS = [11899618049979253940, 5186472218414122672, 9704769606928144777]
GOLDEN_MASKS = "8d89874cc7b488bb"
GOLDEN_ORDER = "95bbfeb97a4b173a"
SPLITMIX_OF_0 = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_the_mixer_is_splitmix64():
    state = np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert mix64(state).tolist() == SPLITMIX_OF_0


def test_golden_draws():
    stream = Stream.root(0)("order", 3)
    assert stream.key == 10546495604855594399
    assert stream.bits([0, 1, 2], 5).tolist() == GOLDEN_BITS
    assert Subsets(n=1000, count=4, seed=7).digest() == GOLDEN_MASKS
    slots = SGD(lambda: torch.nn.Linear(1, 2), epochs=2, batch_size=7).batches(torch.ones(40), seed=3)
    assert hashlib.sha256(np.concatenate([s.ids for s in slots]).tobytes()).hexdigest()[:16] == GOLDEN_ORDER


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_torch_and_numpy_mix_the_same_bits(numbers):
    array = np.array(numbers, dtype=np.uint64)
    assert np.array_equal(
        mix64(array).view(np.int64), mix64_torch(torch.from_numpy(array.view(np.int64))).numpy()
    )


@given(
    st.integers(0, 2**62),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=10, unique=True),
    st.integers(0, 99),
)
def test_a_draw_depends_on_its_own_key_alone(key, ids, epoch):
    stream = Stream(key)
    together = stream.bits(ids, epoch)
    assert [int(stream.bits([i], epoch)[0]) for i in ids] == together.tolist()
    assert np.array_equal(stream.bits(ids, np.array([[epoch], [epoch + 1]]))[0], together)
    uniforms = uniform_torch(torch.tensor(key), torch.tensor(ids), torch.tensor(epoch), 3)
    alone = uniform_torch(torch.tensor(key), torch.tensor(ids[-1:]), torch.tensor(epoch), 3)
    assert torch.equal(uniforms[-1:], alone)
    assert bool(((uniforms >= 0) & (uniforms < 1)).all())


def test_draws_look_uniform_and_independent_between_names_counters_and_ids():
    root = Stream.root(1)
    draws = root("a").uniform(np.arange(200), np.arange(200)[:, None])
    assert abs(draws.mean() - 0.5) < 0.005 and abs(draws.var() - 1 / 12) < 0.002
    others = [root("b").uniform(np.arange(200), np.arange(200)[:, None]), draws.T, np.roll(draws, 1, axis=1)]
    for other in others:
        assert abs(np.corrcoef(draws.ravel(), other.ravel())[0, 1]) < 0.02


def test_seed_plus_epoch_is_not_the_next_seed():
    """The fault of a well-known loader: (seed 0, epoch 1) must not be (seed 1, epoch 0)."""
    assert not np.array_equal(
        Stream.root(0)("order").bits(range(9), 1), Stream.root(1)("order").bits(range(9), 0)
    )


@dataclasses.dataclass(frozen=True)
class Settings:
    rate: float = 0.1
    names: tuple[str, ...] = ("a",)


@dataclasses.dataclass(frozen=True)
class Others:
    rate: float = 0.1
    names: tuple[str, ...] = ("a",)


@dataclasses.dataclass
class Held:
    rows: object


def make(width):
    return lambda: width


def test_identity_sees_what_decides_an_answer():
    base = {"a": 1, "b": [1.0, None, "x"], "c": np.arange(3)}
    assert identity(base) == identity({"c": np.arange(3), "b": (1.0, None, "x"), "a": 1})
    different = [
        {**base, "a": 2},
        {**base, "c": np.arange(3.0)},
        {**base, "c": np.arange(3)[None]},
        {**base, "b": [1.0, None, "y"]},
        Settings(),
        Settings(rate=0.2),
        Others(),
        make(1),
        make(2),
        functools.partial(make, 1),
        float("nan"),
        torch.float32,
    ]
    assert len({identity(thing) for thing in [base, *different]}) == 1 + len(different)
    assert identity(make(1)) == identity(make(1))


def test_array_digest_does_not_feel_the_layout():
    array = np.arange(6.0).reshape(2, 3)
    assert (
        array_digest(array)
        == array_digest(np.asfortranarray(array))
        == array_digest(torch.from_numpy(array).T.contiguous().T)
    )
    assert array_digest(torch.ones(2, dtype=torch.bfloat16)) == array_digest(torch.ones(2))


def test_what_cannot_be_hashed_is_refused_and_says_how():
    with pytest.raises(BadInput, match="dl-102.*generator.*version.*__identity__"):
        canonical(number for number in range(3))
    with pytest.raises(BadInput, match="dl-102.*`rows` in Held: a generator"):
        canonical(Held(number for number in range(3)))
    assert canonical(torch.nn.Linear) == canonical(torch.nn.Linear)
