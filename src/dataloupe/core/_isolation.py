"""Stored numbers are made in a clean state of the process, by one thread at a time."""

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

SHORT_SEED = 2**31
"""Seeds that users' code is given lie below it: NumPy, scikit-learn and C libraries take no larger ones."""


class _Process:
    """The lock, and how many blocks its owner is inside of."""

    lock = threading.RLock()
    depth = 0


@contextmanager
def isolated(seed: int | None = None) -> Iterator[None]:
    """Within it nothing around the call decides a number, and nothing of the call is left behind.

    Autocast is off, gradients are recorded, no inference mode; the default type is float32 on the CPU, matrix products
    are exact, deterministic algorithms not demanded. torch's, NumPy's and Python's global generators are as they were
    afterwards; within, they are seeded where ``seed`` is given (users' code may draw from them). The block belongs to one
    thread: another that wants to compute waits. Blocks nest; without a seed, an inner block changes nothing.

    >>> with torch.no_grad(), isolated(seed=0):
    ...     torch.is_grad_enabled(), random.random()
    (True, 0.8444218515250481)
    """
    with _Process.lock:
        if seed is None and _Process.depth:
            yield
            return
        _Process.depth += 1
        before = global_generators()
        try:
            with ExitStack() as stack:
                _enter_clean_state(stack)
                if seed is not None:
                    _seed_generators(seed)
                yield
        finally:
            _Process.depth -= 1
            _restore_generators(before)


class Generators(NamedTuple):
    """The states of the global generators."""

    torch: torch.Tensor
    numpy: dict[str, Any]
    python: tuple[Any, ...]
    cuda: list[torch.Tensor]

    def moved_since(self, before: "Generators") -> list[str]:
        """Which of torch's and NumPy's drew numbers since ``before`` (type checkers draw from Python's: it tells nothing)."""
        moved = {
            "torch's": not torch.equal(self.torch, before.torch),
            "NumPy's": not _same(self.numpy, before.numpy),
        }
        return [name for name, changed in moved.items() if changed]


def global_generators() -> Generators:
    """The states now."""
    gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    return Generators(
        torch.random.default_generator.get_state(),
        np.random.get_state(legacy=False),
        random.getstate(),
        torch.cuda.get_rng_state_all() if gpu else [],
    )


def _same(one: Any, other: Any) -> bool:
    """Equal values in nested dicts of numbers and arrays."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return bool(np.array_equal(one, other))


def _seed_generators(seed: int) -> None:
    """Users' code may draw from the global generators: they are keyed here, and put back afterwards."""
    torch.random.default_generator.manual_seed(seed)
    np.random.seed(seed % SHORT_SEED)
    random.seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def _restore_generators(states: Generators) -> None:
    torch.random.default_generator.set_state(states.torch)
    np.random.set_state(states.numpy)
    random.setstate(states.python)
    if states.cuda:
        torch.cuda.set_rng_state_all(states.cuda)


def _enter_clean_state(stack: ExitStack) -> None:
    """Undo what a caller may have set around the call; the stack puts it back."""
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    for device in ("cpu", "cuda", "mps", "xpu"):
        if torch.is_autocast_enabled(device):
            stack.enter_context(torch.autocast(device, enabled=False))
    if torch.get_default_dtype() != torch.float32:
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
    if torch.get_default_device().type != "cpu":
        stack.enter_context(torch.device("cpu"))
    if torch.are_deterministic_algorithms_enabled():
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        stack.callback(torch.use_deterministic_algorithms, True, warn_only=warn_only)
        torch.use_deterministic_algorithms(False)
    if torch.get_float32_matmul_precision() != "highest":
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
