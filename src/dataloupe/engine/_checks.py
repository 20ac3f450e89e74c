"""Checks of gradients while they are made: rows of every sweep against autograd, in the batch where they stand."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from dataloupe._errors import CapabilityError, DataloupeError
from dataloupe._identity import Stream
from dataloupe._typing import Facts
from dataloupe.core import Contribution, TorchModel, Use, map_inputs, sum_of
from dataloupe.engine._batch import (
    BatchResult,
    BatchTask,
    differentiate,
    relative_error,
    rounding,
    row_gradient,
)
from dataloupe.engine._compute import Compute
from dataloupe.engine._survey import Survey

MAX_ERROR = 1e-3
"""Two gradients further apart than this are looked at in double precision; if they differ there, they are not the same."""
MAX_DOUBLE_ERROR = 1e-6
"""The same in double precision, where rounding explains nothing of this size."""


class RowChecks:
    """Holds a few rows of every sweep against autograd of the row alone: from its middle, its end, and one at random."""

    def __init__(self, compute: Compute) -> None:
        self.compute = compute
        self.rows: list[int] = []
        self.checked = self.singly = 0
        self.error = 0.0
        self._results: list[BatchResult] = []

    def choose(self, sweep: slice) -> None:
        """Rows of a sweep: keyed by its place and size alone."""
        count = sweep.stop - sweep.start
        self.checked, self.singly, self.error = 0, 0, 0.0
        if count > 0:
            draw = int(Stream.root(0)("checked row", sweep.start, count).uniform([0])[0] * count)
            self.rows = sorted({sweep.start + row for row in (count // 2, count - 1, draw)})

    def facts(self) -> Facts:
        """How many rows of the newest sweep were checked and differentiated singly, and the largest error."""
        return {"row_error": self.error, "checked_rows": self.checked, "single_rows": self.singly}

    def note(self, result: BatchResult) -> None:
        """One draw of the batch is done."""
        self._results.append(result)
        self.singly += result.singly

    @contextmanager
    def of_batch(
        self, tasks: Sequence[BatchTask], seen: Survey | None, place: slice, use: Use
    ) -> Iterator[Use]:
        """Within it, gradients go through what it gives to ``use``; at the end those of the chosen rows are checked."""
        self._results = []
        rows = [row for row in self.rows if place.start <= row < place.stop]
        if not rows:
            yield use
            return
        capture = RowCapture(rows)

        def watched(name: str, uses: list[Contribution], where: slice) -> None:
            capture(name, uses, where)
            use(name, uses, where)

        yield watched
        for row in rows:
            self._check(tasks, seen, place, row, capture.gradients[row])

    def _check(
        self, tasks: Sequence[BatchTask], seen: Survey | None, place: slice, row: int, own: dict[str, Tensor]
    ) -> None:
        """One row against autograd of it alone (dl-243), and its value in the batch against that alone (dl-242)."""
        i, model = row - place.start, tasks[0].model
        single = [task.row(i) for task in tasks]
        truth, alone = row_gradient(single)
        for result, value in zip(self._results, alone, strict=True):
            scale = float(result.values.abs().max())
            change = float((result.values[i] - value[0]).abs().max())
            if change > self._tolerance(model) * scale and not self.compute.force:
                raise CapabilityError(
                    "dl-242",
                    asked="every example's own gradient",
                    found=f"an output of row {row} of {change:.2g} less or more in its batch of {len(tasks[0])} than alone",
                    do="make the forward pass treat examples apart (no statistics of the batch in evaluation)",
                )
        error = relative_error(own, truth)
        finite = all(bool(part.isfinite().all()) for part in truth.values())
        wrong = error > self._tolerance(model) or (finite and error != error)
        if wrong and not self._is_rounding(tasks, seen, place, row) and not self.compute.force:
            raise CapabilityError(
                "dl-243",
                asked="every example's own gradient from one pass of a batch",
                found=f"a gradient of row {row}, in a batch of {len(tasks[0])}, {error:.2%} away from that of the row alone",
                do="look for a forward pass that mixes examples, or force it: Lab(..., force=True)",
            )
        self.checked += 1
        self.error = max(self.error, error if error == error else 0.0)

    def _tolerance(self, model: TorchModel) -> float:
        tf32 = 2.0**-10 if self.compute.precision in ("tf32", "bf16") else 0.0
        return max(MAX_ERROR, 32 * max(rounding(model), tf32))

    def _is_rounding(self, tasks: Sequence[BatchTask], seen: Survey | None, place: slice, row: int) -> bool:
        """Whether the two gradients are the same in double precision: then the difference was rounding."""
        if rounding(tasks[0].model) > torch.finfo(torch.float32).eps:
            return False
        exact = [in_double(task) for task in tasks]
        capture = RowCapture([row])
        try:
            for task in exact:
                differentiate(task, seen, set(), capture, {}, place)
            truth, _ = row_gradient([task.row(row - place.start) for task in exact])
        except DataloupeError:  # forward makes tensors of one type only: there is no second opinion
            return False
        return relative_error(capture.gradients[row], truth) <= MAX_DOUBLE_ERROR


class RowCapture:
    """Adds up the gradients of some rows, parameter by parameter."""

    def __init__(self, rows: Sequence[int]) -> None:
        self.gradients: dict[int, dict[str, Tensor]] = {row: {} for row in rows}

    def __call__(self, name: str, uses: list[Contribution], where: slice) -> None:
        """All uses of one parameter by the rows of ``where``."""
        for row, gradients in self.gradients.items():
            if where.start <= row < where.stop:
                part = slice(row - where.start, row - where.start + 1)
                product = sum_of([contribution.part(part).product().flatten(1)[0] for contribution in uses])
                gradients[name] = gradients[name] + product if name in gradients else product.clone()


def in_double(task: BatchTask) -> BatchTask:
    """The same in double precision."""

    def widened(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(torch.complex128)
        return tensor.double() if tensor.is_floating_point() else tensor

    model = dataclasses.replace(
        task.model,
        params={name: widened(p) for name, p in task.model.params.items()},
        buffers={name: widened(b) for name, b in task.model.buffers.items()},
    )
    rows = task.rows._replace(inputs=map_inputs(widened, task.rows.inputs))
    return dataclasses.replace(task, model=model, rows=rows)


def spread_rows(count: int, rows: int) -> Int[Tensor, " rows"]:
    """So many row numbers from the first to the last of ``count``."""
    return torch.from_numpy(np.linspace(0, max(count - 1, 0), min(rows, count)).round().astype(np.int64))


def is_own(error: float, model: TorchModel) -> bool:
    """Whether a gradient with this relative error is the example's own."""
    return not error > max(0.01, 16 * rounding(model))


def check_own(error: float, model: TorchModel, *, force: bool) -> None:
    """Refuse gradients that are more than 1 % away from the example's own (dl-243)."""
    if not is_own(error, model) and not force:
        raise CapabilityError(
            "dl-243",
            asked="every example's own gradient from one pass of a batch",
            found=f"a gradient {error:.1%} away from that of the example alone",
            do="look for a forward pass that mixes examples, or force it: Lab(..., force=True)",
        )


def coverage(model: TorchModel, seen: Survey | None) -> dict[str, float]:
    """Which share of the parameters is seen by a rule, in a module alone, or not used by the surveyed examples."""
    if seen is None:
        return {"row by row": 1.0}
    alone = frozenset().union(*(unit.params for unit in seen.alone))
    sizes = {name: tensor.numel() for name, tensor in model.params.items()}
    groups = {
        "as factors": seen.ruled,
        "in a module alone": alone,
        "unused": sizes.keys() - seen.ruled - alone,
    }
    every = sum(sizes.values())
    return {
        how: round(sum(sizes[name] for name in names) / every, 6) for how, names in groups.items() if names
    }
