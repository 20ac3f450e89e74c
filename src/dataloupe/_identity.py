"""What made a result, as a hash; and random numbers as pure functions of named keys.

Two ideas live here. ``identity`` turns the things that decide an answer (settings, data, callables) into a
short hash, so that results are found by what made them. ``Stream`` turns (root seed, names, example id) into
random bits: no generator is shared, and no order of execution can change a draw.
"""

import dataclasses
import enum
import functools
import hashlib
import inspect
import json
import math
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Array

NUMERICS = 6
"""Raised by hand when the answers of the library change; golden hashes guard it."""

_BLOCK = 1 << 22
"""Arrays are hashed so many numbers at a time: a memory map may be larger than the memory."""

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
    """Where two canonical JSON values differ, as ``path: there -> here``."""
    if isinstance(here, dict) and isinstance(there, dict):
        names = sorted(here.keys() | there.keys())
        return [
            line
            for name in names
            for line in differences(here.get(name), there.get(name), f"{path}.{name}".strip("."))
        ]
    return [] if here == there else [f"{path}: {there} -> {here}"]


def canonical(thing: Any) -> Any:
    """`thing` as JSON that says what decides its answers: the readable form behind :func:`identity`.

    An object that knows better offers ``__identity__() -> Any``; dataclasses give their fields; arrays their
    digest; callables their source and the values they close over.
    """
    if thing is None or isinstance(thing, bool | int | str):
        return thing
    if isinstance(thing, float):
        return thing if math.isfinite(thing) else repr(thing)
    if isinstance(thing, np.generic):
        return canonical(thing.item())
    if isinstance(thing, enum.Enum):
        return thing.name
    if isinstance(thing, torch.dtype | torch.device):
        return str(thing)
    if isinstance(thing, np.ndarray | Tensor):
        return {"array": array_digest(thing)}
    if isinstance(thing, Mapping):
        return {str(k): canonical(v) for k, v in thing.items()}
    if isinstance(thing, tuple | list | range):
        return [canonical(v) for v in thing]
    if hasattr(type(thing), "__identity__"):
        return {"kind": _name(type(thing)), **_as_mapping(thing.__identity__())}
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        fields = {f.name: canonical(getattr(thing, f.name)) for f in dataclasses.fields(thing) if f.compare}
        return {"kind": _name(type(thing)), **fields}
    if isinstance(thing, functools.partial):
        return {
            "partial": canonical(thing.func),
            "args": canonical(thing.args),
            "kw": canonical(thing.keywords),
        }
    if isinstance(thing, type) or callable(thing):
        return _canonical_callable(thing)
    raise BadInput(
        "dl-102",
        asked=f"the identity of a {_name(type(thing))}",
        found="neither data, nor a dataclass, nor a callable with source",
        do='give it `__identity__(self)` returning what decides its answers, or pass `version="..."`',
    )


def array_digest(array: Array | Tensor) -> str:
    """SHA-256 over dtype, shape and bytes of an array, independent of its memory layout; read in blocks of rows."""
    half = isinstance(array, Tensor) and array.dtype == torch.bfloat16
    dtype = np.dtype(np.float32) if half else _as_numpy(array[:0] if array.ndim else array).dtype
    digest = hashlib.sha256(f"{dtype.str}{tuple(array.shape)}".encode())
    size = math.prod(array.shape)
    rows = max(1, _BLOCK // max(1, size // max(1, len(array)))) if array.ndim else 1
    for start in range(0, len(array) if array.ndim else 1, rows) if size else ():
        block = _as_numpy(array[start : start + rows] if array.ndim else array)
        digest.update(np.ascontiguousarray(block).data.cast("B"))
    return digest.hexdigest()[:32]


def _as_numpy(array: Array | Tensor) -> Array:
    """An array; of bfloat16, which NumPy has not, as float32."""
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        return (array.float() if array.dtype == torch.bfloat16 else array).numpy()
    return array


def _canonical_callable(thing: Any) -> dict[str, Any]:
    function = inspect.unwrap(thing)
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        module = getattr(function, "__module__", None) or ""
        if module.split(".")[0] in {"torch", "numpy", "builtins", "math", "sklearn", "scipy"}:
            return {"callable": f"{module}.{function.__qualname__}"}
        raise BadInput(
            "dl-103",
            asked=f"the identity of {thing!r}",
            found="a callable whose source cannot be read (typed at a prompt, or compiled)",
            do='define it in a file, or pass `version="..."` to what holds it',
        ) from error
    closed: dict[str, Any] = {}
    if inspect.isfunction(function):
        names = inspect.getclosurevars(function).nonlocals
        closed = {name: _canonical_leaf(value) for name, value in names.items()}
        closed["defaults"] = [_canonical_leaf(value) for value in function.__defaults__ or ()]
    return {"source": hashlib.sha256(source.encode()).hexdigest()[:32], "closed": closed}


def _canonical_leaf(value: Any) -> Any:
    """A closed-over value: hashed where it can be, else named by its type (its effect shows on the probe)."""
    try:
        return canonical(value)
    except (BadInput, RecursionError):
        return {"opaque": _name(type(value))}


def _as_mapping(value: Any) -> dict[str, Any]:
    value = canonical(value)
    return value if isinstance(value, dict) else {"is": value}


def _name(cls: type) -> str:
    return cls.__qualname__


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
