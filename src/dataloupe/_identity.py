"""What made a result, as a hash; and random numbers as pure functions of named keys.

Two ideas live here. ``identity`` turns the things that decide an answer (settings, data, callables) into a
short hash, so that results are found by what made them. ``Stream`` turns (root seed, names, example id) into
random bits: no generator is shared, and no order of execution can change a draw.
"""

import dataclasses
import hashlib
import json
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dataloupe._fingerprints import array_digest as array_digest
from dataloupe._fingerprints import attributes_read as attributes_read
from dataloupe._fingerprints import canonical as canonical
from dataloupe._fingerprints import content_digest as content_digest
from dataloupe._fingerprints import module_settings as module_settings
from dataloupe._fingerprints import module_structure as module_structure
from dataloupe._typing import Array

NUMERICS = 7
"""Raised by hand when the answers of the library change; golden hashes guard it."""

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


# --- identity ----------------------------------------------------------------------------------------------


def identity(thing: Any) -> str:
    """A short hash of what makes `thing` what it is.

    >>> identity({"a": 1}) == identity({"a": 1})
    True
    >>> identity({"a": 1}) == identity({"a": 2})
    False
    """
    text = json.dumps(canonical(thing), sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def differences(here: Any, there: Any, path: str = "") -> list[str]:
    """Where two canonical JSON values differ, as ``path: there -> here``; digests say only that something changed.

    >>> differences({"lr": 0.1, "code": {"train": {"text": "0" * 16}}}, {"lr": 0.2, "code": {"train": {"text": "1" * 16}}})
    ['train changed', 'lr: 0.2 -> 0.1']
    """
    if isinstance(here, dict) and isinstance(there, dict):
        names = sorted(here.keys() | there.keys())
        return [
            line
            for name in names
            for line in differences(here.get(name), there.get(name), f"{path}.{name}".strip("."))
        ]
    if here == there:
        return []
    place = path.rsplit(".code.", 1)[-1].removeprefix("code.") if "code." in path else path
    name = re.sub(r"(\.text|\.digest|\.array)$", "", place)
    if name != place or ("code." in path and not _is_short(here, there)):
        return [f"{name} " + ("changed" if here and there else "is new" if here else "is gone")]
    return [f"{place}: {there} -> {here}"]


def _is_short(*values: Any) -> bool:
    return all(value is None or isinstance(value, bool | int | float | str) for value in values)


# --- named random streams ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Stream:
    """A named source of random bits: a pure function of its key, of counters and of example ids.

    >>> root = Stream.root(0)
    >>> a, b = root("order", 3), root("order", 4)
    >>> bool((a.bits(range(5)) == root("order", 3).bits(range(5))).all()), a.key == b.key
    (True, False)

    The bits of example 7 do not depend on which other examples are asked for:

    >>> bool(a.bits([7])[0] == a.bits(range(10))[7])
    True
    """

    key: int

    @classmethod
    def root(cls, seed: int) -> "Stream":
        """The stream that every other one of this seed descends from."""
        return cls(0)("root", seed)

    def __call__(self, *names: str | int) -> "Stream":
        """The child stream of that name."""
        text = json.dumps([self.key, *[n if isinstance(n, str) else int(n) for n in names]])
        return Stream(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))

    def bits(self, ids: Any, *counters: Any) -> Array:
        """64 random bits for every id (broadcast against the counters: epoch, draw ...), as uint64."""
        key: Any = np.uint64(self.key)
        for counter in counters:
            key = mix64(key ^ mix64(np.asarray(counter).astype(np.uint64) + np.uint64(1)))
        return mix64(key + mix64(np.asarray(ids).astype(np.uint64) + np.uint64(1)))

    def uniform(self, ids: Any, *counters: Any) -> Array:
        """Uniform numbers in [0, 1), float64, one for every id."""
        return (self.bits(ids, *counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def seed(self) -> int:
        """A 63-bit seed for a library that wants one."""
        return self.key >> 1

    def torch(self) -> torch.Generator:
        """A private torch generator (CPU) of this stream."""
        return torch.Generator().manual_seed(self.seed())

    def numpy(self) -> np.random.Generator:
        """A private NumPy generator of this stream."""
        return np.random.Generator(np.random.Philox(key=self.key))


def mix64(x: Any) -> Any:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014), a bijection of 64 bits, on uint64 arrays."""
    with np.errstate(over="ignore"):
        x = np.asarray(x, dtype=np.uint64) + np.uint64(_GOLDEN)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2)
        return x ^ (x >> np.uint64(31))


def mix64_torch(x: Tensor) -> Tensor:
    """:func:`mix64` on int64 tensors: the same bits, on any device, under vmap."""
    x = x + _signed(_GOLDEN)
    x = (x ^ _shift(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift(x, 27)) * _signed(_MIX_2)
    return x ^ _shift(x, 31)


def uniform_torch(key: Tensor, ids: Tensor, counter: Tensor, draws: int) -> Tensor:
    """`draws` uniform numbers in [0, 1) for every id: a pure function of (key, counter, id, draw).

    Shapes: key and counter scalar int64, ids ``[b]`` int64; returns float32 ``[b, draws]``.
    """
    keyed = mix64_torch(key ^ mix64_torch(counter + 1))
    rows = mix64_torch(keyed + mix64_torch(ids + 1))
    columns = mix64_torch(torch.arange(1, draws + 1, dtype=torch.int64, device=ids.device))
    return _shift(mix64_torch(rows[:, None] ^ columns), 40).to(torch.float32) * 2.0**-24


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >= 1 << 63 else x
