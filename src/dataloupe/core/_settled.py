"""What stays the same while a question's code runs: its data must, and the code's own counters and logs do not count."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import Stream, canonical, identity
from dataloupe.core._diffusion import as_called
from dataloupe.core._examples import Examples
from dataloupe.core._isolation import isolated
from dataloupe.core._learner import (
    Learner,
    ModelSource,
    Slot,
    StackedLearner,
    SteppedLearner,
    fresh,
    make_batch,
)

_BEFORE: dict[str, Any] = {}
"""From what code has become by running to what it was before: both are the same code."""
_PROBE_ROWS, _PROBE_NUMBERS = 4, 20


@runtime_checkable
class _Asked(Protocol):
    """A question, as far as it is needed here."""

    @property
    def learner(self) -> Learner | ModelSource: ...
    @property
    def train(self) -> Examples: ...
    @property
    def targets(self) -> Examples: ...
    @property
    def output(self) -> Any: ...
    @property
    def train_output(self) -> Any: ...


def settled(part: Any) -> Any:
    """The canonical form of a learner or output, its own running set aside."""
    now = canonical(part)
    return _BEFORE.get(identity(now), now) if _BEFORE else now


@contextmanager
def unchanged(question: _Asked) -> Iterator[Callable[[], None]]:
    """Around all that runs a question's code; gives a check that its data are what they were.

    What a learner or output changes of its own state by running (a counter, a log, a cache among its globals or
    attributes) is no edit of it: the question stays the same. Data that change are refused, by the check and at the end
    (``BadInput`` dl-114).
    """
    data = [question.train.fingerprint, question.targets.fingerprint]
    before = [canonical(part) for part in _parts(question)]

    def check() -> None:
        for name, part, known in zip(
            ("train", "targets"), (question.train, question.targets), data, strict=True
        ):
            if part.fingerprint != known:
                raise BadInput(
                    "dl-114",
                    asked=f"a run of {type(question.learner).__name__} on data that stay as they are",
                    found=f"that the question's `{name}` changed while it ran",
                    do="let the training work on copies (x = x / 255, not x /= 255)",
                )

    try:
        yield check
    except Exception:
        check()  # data that changed explain whatever came of it
        raise
    finally:
        for old, part in zip(before, _parts(question), strict=True):
            new = canonical(part)
            if new != old:
                _BEFORE[identity(new)] = _BEFORE.get(identity(old), old)
    check()


def _parts(question: _Asked) -> list[Any]:
    return [question.learner, question.output, question.train_output]


# --- probes ------------------------------------------------------------------------------------------------


def probe_training(learner: Learner | ModelSource, data: Examples) -> dict[str, Any] | None:
    """A few rounded numbers that show what code does of which the text cannot be followed (files that it reads, packages).

    Of a stepped learner: what the untrained model of seed 0 predicts of two rows, and by how much one step on four rows
    moves it, in training mode. It works on a copy, under generators of its own, and leaves nothing behind. Of finished
    models: what the first predicts. A learner that only trains is not probed: nobody knows what its training costs.
    """
    if isinstance(learner, ModelSource):
        try:
            return {"first model": _predictions(learner.models()[0], data)}
        except Exception as error:  # the question says for itself what is wrong with its models
            return {"first model": f"none: {type(error).__name__}"}
    if not isinstance(learner, SteppedLearner):
        return None
    with isolated(Stream.root(0)("probe").seed()):
        own = fresh(copy.copy(learner))
        untrained = _predictions(own.model(own.init(seed=0)), data)
        return {"untrained": untrained, "one step": _one_step(own, data)}


def _predictions(model: Any, data: Examples) -> list[float]:
    rows = data.take(np.arange(min(2, len(data))))
    with torch.no_grad():
        return _rounded(model.predict(as_called(rows.inputs)))


def _one_step(learner: SteppedLearner, data: Examples) -> list[float] | str:
    """The length of the first step on a few rows, and its sum under fixed signs; or why there is none."""
    ids = np.arange(min(_PROBE_ROWS, len(data)))
    try:
        with torch.inference_mode(False), torch.enable_grad():
            before = learner.init(seed=0)
            start = {name: p.detach().clone() for name, p in before.params.items()}
            batch = make_batch(data, torch.ones(len(data)), Slot(ids, 0, 0.5), learner.removal)
            if isinstance(learner, StackedLearner):  # the way that engines take
                after = learner.steps(_one_of_many(before), _one_of_many(batch))
            else:
                after = learner.step(before, batch)
        parts = [(after.params[name].detach() - start[name]).flatten() for name in sorted(start)]
        real = [torch.view_as_real(part).flatten() if part.is_complex() else part for part in parts]
        moved = torch.cat(real).double()
    except Exception as error:  # so few rows may be no batch; a training tells what is wrong with it
        return f"none: {type(error).__name__}"
    even = torch.from_numpy(Stream.root(0)("probe").bits(np.arange(len(moved))) % np.uint64(2) == 0)
    length = float(moved.norm())
    signed = float(torch.where(even, moved, -moved).sum()) / (length or 1.0)
    return [float(f"{length:.2e}"), round(signed, 2) + 0.0]


def _one_of_many(part: Any) -> Any:
    """A state or batch with a leading axis of one model."""
    if isinstance(part, Tensor):
        return part[None]
    if isinstance(part, dict):
        return {name: _one_of_many(inner) for name, inner in part.items()}
    if isinstance(part, tuple):
        inner = [_one_of_many(inner) for inner in part]
        return type(part)(*inner) if hasattr(part, "_fields") else tuple(inner)
    return part


def _rounded(output: Tensor) -> list[float]:
    """The first numbers, to three digits of the largest, so that another processor's last bits do not miss."""
    numbers = output.double().flatten()[:_PROBE_NUMBERS]
    scale = float(numbers.abs().max()) or 1.0
    return [round(float(v) / scale, 3) + 0.0 for v in numbers] + [float(f"{scale:.2e}")]
