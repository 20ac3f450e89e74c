"""A pass over the rows of one side of a question: every row's own gradient, checked while it is made."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._errors import CapabilityError, DataloupeError
from dataloupe._identity import Stream
from dataloupe._typing import Facts
from dataloupe.core import (
    Contribution,
    Examples,
    Model,
    Output,
    Question,
    Rows,
    Scale,
    Side,
    TorchModel,
    Use,
    averaged,
    averaged_slope,
    draws_of,
    several_components,
    sum_of,
    torch_model,
)
from dataloupe.engine._batch import BatchTask, chosen, differentiate, named_errors, taped, verified
from dataloupe.engine._checks import RowChecks, check_own, coverage, is_own, spread_rows
from dataloupe.engine._compute import HOST, Compute, in_fp16
from dataloupe.engine._survey import Survey, survey

SINGLY = 64
"""Rows of a batch whose rows are differentiated one by one."""
REFUSALS = ("dl-241", "dl-242")
"""What a survey refuses for any batch; other failures of it are met row by row."""


def pairs_of(question: Question, side: Side) -> Int[Tensor, "rows 2"]:
    """(example, component) of every row of a side (dl-208 if the train output has several components)."""
    if side == "targets":
        return torch.from_numpy(question.index)
    data, output = question.train, question.on_train
    valid = [output.valid(data.take(ids)).cpu() for ids in torch.arange(len(data)).split(1024)]
    pairs = torch.cat(valid).nonzero()
    if len(pairs) != question.n or not bool((pairs[:, 0] == torch.arange(question.n)).all()):
        raise several_components(question, len(pairs))
    return pairs


class Pass:
    """Gradients of one side of a question at one model: looked at and checked once, then swept in any parts.

    ``facts`` tell which share of the parameters was seen how, how far gradients are from autograd's of the example
    alone (one of the first batch of three, and rows from the middle and the end of every part that is swept), how many rows
    were held against autograd and how many were differentiated singly. Raises ``CapabilityError`` dl-208 if the train output
    has several components, dl-241 / dl-242 if an example feels the others of its batch, dl-243 if the two
    gradients differ, dl-250 for what the module itself raises, dl-232 / dl-246 / dl-247 where the precision or device does not
    fit (:class:`Compute`), ``BadInput`` dl-240 if a layer's input is changed in place.
    """

    def __init__(self, question: Question, model: Model, side: Side, compute: Compute = HOST) -> None:
        train = side == "train"
        self.side, self.compute, self.given = side, compute, torch_model(model)
        self.live = compute.model(self.given)
        self.data = question.train if train else question.targets
        self.output = question.on_train if train else question.output
        self.pairs = pairs_of(question, side)
        self.trusted: set[Any] = set()
        self.checks = RowChecks(compute)
        spread = spread_rows(len(self.pairs), 3)
        rows, which = self.data.take(self.pairs[spread, 0]), self.pairs[spread, 1].to(compute.on)
        with compute.watching():
            with compute.running(full=True):
                full = compute.full(self.given)
                self.seen = surveyed_or_none(self.output, full, self.data, compute)
                error = self._verified(full, compute.rows(rows, full=True), which)
            reduced = compute.checked(
                self.output, self.given, rows, which, lambda: self._taped(compute.rows(rows), which)
            )
        self._facts: Facts = {"coverage": coverage(self.live, self.seen), "gradient_error": error} | reduced

    def _verified(self, full: TorchModel, rows: Rows, component: Int[Tensor, " b"]) -> float:
        """The error of an example's gradient in a small batch; row by row is the way out where it is not its own."""
        error = verified(self.output, full, rows, component, self.seen, self.trusted)
        if self.seen is not None and not is_own(error, full):
            survey_of_batches, self.seen = self.seen, None
            if not is_own(verified(self.output, full, rows, component, None), full):
                self.seen = survey_of_batches
            else:
                return verified(self.output, full, rows, component, None)
        check_own(error, full, force=self.compute.force)
        return error

    @property
    def facts(self) -> Facts:
        """How the gradients were made and checked, so far."""
        return self._facts | self.checks.facts()

    def _taped(self, rows: Rows, component: Int[Tensor, " b"]) -> dict[str, Tensor]:
        with self.compute.running():
            return taped(self.output, self.live, rows, component, self.seen)

    def sweep(self, rows: slice, use: Use, scale: Scale | None = None) -> Float[np.ndarray, " rows"]:
        """The gradients of some rows, to ``use`` with their places in the whole; gives their slopes.

        Of an output of many draws they come draw by draw, each a share of the mean, so that batches are as large as those of one draw.
        """
        return self._swept(rows, lambda block, place: self._batch(block, use, place, scale))

    def sweep_apart(
        self, rows: slice, use: Use, after: Callable[[slice, int], None] = lambda _, __: None
    ) -> Float[np.ndarray, " rows"]:
        """The same for what adds up over uses, too: each use of a parameter as it comes. ``after`` hears the end of every draw of a batch."""
        return self._swept(rows, lambda block, place: self._batch(block, use, place, None, after))

    def _swept(self, rows: slice, batch: Callable[[Tensor, slice], Tensor]) -> Float[np.ndarray, " rows"]:
        slopes, start, pairs = [], rows.start, self.pairs[rows]
        batches = max(1, -(-len(pairs) // self._rows_of(self._once)))
        even = -(-len(pairs) // batches)  # a small batch at the end costs nearly as much as a large one
        self.checks.choose(slice(start, start + len(pairs)))
        for block in pairs.split(even):
            place = slice(start, start + len(block))
            slopes.append(batch(block, place))
            start = place.stop
        return torch.cat(slopes).cpu().numpy()

    @property
    def at_once(self) -> int:
        """How many rows a batch has whose draws are all there together."""
        return self._rows_of(self.seen)

    def _rows_of(self, seen: Survey | None) -> int:
        most, numbers, largest = self.compute.at_once
        if seen is None:
            return min(most, SINGLY)
        fitting = min(numbers // max(1, seen.numbers), largest // max(1, seen.largest))
        return int(np.clip(fitting, 1, most))

    @functools.cached_property
    def _once(self) -> Survey | None:
        """What one draw of the output does with the parameters."""
        if self.output.repeats == 1 or self.seen is None:
            return self.seen
        draw = draws_of(self.output)[0]
        with self.compute.watching(), self.compute.running(full=True):
            full = self.compute.full(self.given)
            return surveyed_or_none(self.output, full, self.data, self.compute, draw)

    def _batch(
        self,
        pairs: Int[Tensor, "b 2"],
        use: Use,
        place: slice,
        scale: Scale | None,
        after: Callable[[slice, int], None] | None = None,
    ) -> Float[Tensor, " b"]:
        """The gradients of some (example, component), draw by draw, and use by use where somebody listens; gives their slopes."""
        rows, which = self.compute.rows(self.data.take(pairs[:, 0])), pairs[:, 1].to(self.compute.on)
        draws = draws_of(self.output) if self.output.repeats > 1 else [None]
        task = BatchTask(self.output, self.live, rows, which, scale, mean=False)
        tasks = [dataclasses.replace(task, draw=draw) for draw in draws]
        counts = {} if self._once is None else self._once.uses
        uses = counts if after is None else dict.fromkeys(counts, 1)
        values: list[Tensor] = []
        slopes = None
        with (
            self.compute.running(),
            self.checks.of_batch(tasks, self._once, place, self._checked(use)) as watched,
        ):
            for number, part in enumerate(tasks):
                result = differentiate(part, self._once, self.trusted, watched, uses, place)
                self.checks.note(result)
                slopes = result.slopes
                values.append(result.values / len(draws))
                if after is not None:
                    after(place, number)
            if slopes is None or len(draws) > 1:
                slopes = chosen(averaged_slope(self.output, self.live, rows, sum_of(values)), which).float()
            return slopes

    def batch(self, pairs: Int[Tensor, "b 2"], use: Use, place: slice) -> None:
        """The gradients of some (example, component), to ``use``."""
        rows, which = self.compute.rows(self.data.take(pairs[:, 0])), pairs[:, 1].to(self.compute.on)
        task = BatchTask(self.output, self.live, rows, which)
        uses = {} if self.seen is None else self.seen.uses
        with self.compute.watching(), self.compute.running():
            differentiate(task, self.seen, set(self.trusted), self._checked(use), uses, place)

    def _checked(self, use: Use) -> Use:
        """``use``, after a look for numbers that overflowed in fp16 (dl-247)."""
        if not in_fp16(self.live):
            return use

        def checked(name: str, uses: list[Contribution], place: slice) -> None:
            for part in (part for one in uses for part in one if isinstance(part, Tensor)):
                lost = (~part.isfinite()).flatten(1).any(1)
                if bool(lost.any()):
                    example, component = self.pairs[place.start + int(lost.nonzero()[0])].tolist()
                    self.compute.check_overflow(self.output, self.given, self.data.take([example]), component)
            use(name, uses, place)

        return checked


def surveyed(
    output: Output, model: TorchModel, data: Examples, compute: Compute = HOST, draw: Stream | None = None
) -> Survey:
    """How the model uses its parameters for this output, or for one draw of it, by three examples from start to end."""
    examples = spread_rows(len(data), 3).numpy()

    def forward(live: TorchModel, b: int) -> Tensor:
        rows = compute.rows(data.take(examples[np.arange(b) % len(examples)]), full=True)
        return averaged(output, live, rows) if draw is None else output.value(live, rows, draw)

    return survey(model, forward)


def surveyed_or_none(
    output: Output, model: TorchModel, data: Examples, compute: Compute = HOST, draw: Stream | None = None
) -> Survey | None:
    """The same, or None where three examples tell nothing of larger batches: rows are then differentiated one by one.

    Raises ``CapabilityError`` dl-241 / dl-242 where examples feel each other, and what a single row raises.
    """
    try:
        return surveyed(output, model, data, compute, draw)
    except DataloupeError as error:
        if error.code in REFUSALS or not isinstance(error, CapabilityError):
            raise
    except Exception:  # of more rows than one, perhaps: what a row alone raises is told by its name
        with torch.no_grad(), named_errors(model.module):
            averaged(output, model, compute.rows(data.take([0]), full=True))
    return None
