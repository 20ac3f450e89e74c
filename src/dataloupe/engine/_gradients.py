"""Per-example gradients of outputs, batch by batch, and the inputs of the last layer."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._errors import CapabilityError
from dataloupe._identity import Stream
from dataloupe._typing import Facts
from dataloupe.core import (
    Chunked,
    Contribution,
    Embeddings,
    Examples,
    Features,
    Model,
    Output,
    Question,
    Rows,
    Side,
    Sketch,
    Swept,
    TorchModel,
    Use,
    averaged,
    averaged_slope,
    counted,
    draw_signs,
    draws_of,
    last_layer_inputs,
    merged,
    several_components,
    sum_of,
    torch_model,
)
from dataloupe.engine._batch import Gathered, chosen, one_batch, one_draw, taped, verified
from dataloupe.engine._compute import (
    HOST,
    Compute,
    in_fp16,
    on_host,
    to_host,
)
from dataloupe.engine._survey import Survey, survey

WRONG = 0.01
"""The relative distance from which two gradients are not the same (in half precision: 16 units of rounding)."""
BROKEN = 4.0
"""So many times the error of a dense random sketch is no sketch any more."""
SAMPLED = 16
"""So many rows are looked at."""


def features(question: Question, model: Model, sketch: Sketch, compute: Compute = HOST) -> Features:
    """Sketched gradients of the train output on every example and of the output on every target row, in memory.

    Of a diverged model they are not finite; methods leave it out and count it. Raises as :class:`Pass` does.
    """
    sides: tuple[Side, ...] = ("train", "targets")
    train, targets = (
        Featuriser(Pass(question, model, side, compute), sketch).rows(slice(0, None)) for side in sides
    )
    draws = None if train.draws is None else Chunked.of(train.draws)
    facts = both_sides(train.facts, targets.facts)
    return Features(Chunked.of(train.features), train.slope, targets.features, facts, draws)


def both_sides(train: Facts, targets: Facts) -> Facts:
    """What is told of the features of a model: errors and what is not finite of both, zeros of the training rows."""
    return {**merged(train, targets), "zero_rows": train["zero_rows"]}


def gradients(
    question: Question,
    model: Model,
    side: Side,
    use: Use,
    scale: Callable[[Tensor], Tensor] = torch.ones_like,
    compute: Compute = HOST,
) -> Swept:
    """Every row's gradient, times ``scale(slopes)``, to ``use`` on the host, batch by batch; raises as :class:`Pass` does."""
    ready = Pass(question, model, side, compute)

    def hosted(name: str, uses: list[Contribution], place: slice) -> None:
        use(name, [on_host(one) for one in uses], place)

    return Swept(ready.sweep(slice(0, len(ready.pairs)), hosted, scale), ready.facts)


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

    ``facts`` tell which share of the parameters was seen how, and how far the gradient of one example in a batch
    of three is from autograd's of that example alone. Raises ``CapabilityError`` dl-208 if the train output
    has several components, dl-241 / dl-242 if an example feels the others of its batch, dl-243 if the two
    gradients differ, dl-232 / dl-246 / dl-247 where the precision or device does not fit (:class:`Compute`),
    ``BadInput`` dl-240 if a layer's input is changed in place.
    """

    def __init__(self, question: Question, model: Model, side: Side, compute: Compute = HOST) -> None:
        train = side == "train"
        self.side, self.compute, self.given = side, compute, torch_model(model)
        self.live = compute.model(self.given)
        self.data = question.train if train else question.targets
        self.output = question.on_train if train else question.output
        self.pairs = pairs_of(question, side)
        rows, which = self.data.take(self.pairs[:3, 0]), self.pairs[:3, 1].to(compute.on)
        with compute.watching():
            with compute.running(full=True):
                full = compute.full(self.given)
                self.seen = surveyed(self.output, full, self.data, compute)
                error = verified(self.output, full, compute.rows(rows, full=True), which, self.seen)
                check_own(error, full, force=compute.force)
            reduced = compute.checked(
                self.output, self.given, rows, which, lambda: self._taped(compute.rows(rows), which)
            )
        self.facts: Facts = {"coverage": coverage(self.live, self.seen), "gradient_error": error} | reduced

    def _taped(self, rows: Rows, component: Int[Tensor, " b"]) -> dict[str, Tensor]:
        with self.compute.running():
            return taped(self.output, self.live, rows, component, self.seen)

    def sweep(
        self, rows: slice, use: Use, scale: Callable[[Tensor], Tensor] = torch.ones_like
    ) -> Float[np.ndarray, " rows"]:
        """The gradients of some rows, to ``use`` with their places in the whole; gives their slopes.

        Of an output of many draws they come draw by draw, each a share of the mean, so that batches are as large as those of one draw.
        """
        wanted = None if scale is torch.ones_like else scale
        return self._swept(rows, lambda block, place: self._batch(block, use, place, wanted))

    def sweep_apart(
        self, rows: slice, use: Use, after: Callable[[slice, int], None] = lambda _, __: None
    ) -> Float[np.ndarray, " rows"]:
        """The same for what adds up over uses, too: each use of a parameter as it comes. ``after`` hears the end of every draw of a batch."""
        return self._swept(rows, lambda block, place: self._batch(block, use, place, None, after))

    def _swept(self, rows: slice, batch: Callable[[Tensor, slice], Tensor]) -> Float[np.ndarray, " rows"]:
        slopes, start, pairs = [], rows.start, self.pairs[rows]
        batches = max(1, -(-len(pairs) // self._rows_of(self._once)))
        even = -(-len(pairs) // batches)  # a small batch at the end costs nearly as much as a large one
        for block in pairs.split(even):
            place = slice(start, start + len(block))
            slopes.append(batch(block, place))
            start = place.stop
        return torch.cat(slopes).cpu().numpy()

    @property
    def at_once(self) -> int:
        """How many rows a batch has whose draws are all there together."""
        return self._rows_of(self.seen)

    def _rows_of(self, seen: Survey) -> int:
        most, numbers, largest = self.compute.at_once
        fitting = min(numbers // max(1, seen.numbers), largest // max(1, seen.largest))
        return int(np.clip(fitting, 1, most))

    @functools.cached_property
    def _once(self) -> Survey:
        """What one draw of the output does with the parameters."""
        if self.output.repeats == 1:
            return self.seen
        draw = draws_of(self.output)[0]
        with self.compute.watching(), self.compute.running(full=True):
            full = self.compute.full(self.given)
            return surveyed(self.output, full, self.data, self.compute, draw)

    def _batch(
        self,
        pairs: Int[Tensor, "b 2"],
        use: Use,
        place: slice,
        scale: Callable[[Tensor], Tensor] | None,
        after: Callable[[slice, int], None] | None = None,
    ) -> Float[Tensor, " b"]:
        """The gradients of some (example, component), draw by draw, and use by use where somebody listens; gives their slopes."""
        checked = self._checked(use) if in_fp16(self.live) else use
        rows, which = self.compute.rows(self.data.take(pairs[:, 0])), pairs[:, 1].to(self.compute.on)
        draws = draws_of(self.output) if self.output.repeats > 1 else [None]
        uses = self._once.uses if after is None else dict.fromkeys(self._once.uses, 1)
        gathered = Gathered(uses, checked, place)
        values, slopes = [], None
        with self.compute.running():
            for number, draw in enumerate(draws):
                found, slopes = one_draw(
                    self.output, self.live, rows, which, self._once, gathered, draw, scale
                )
                values.append(found / len(draws))
                if after is not None:
                    after(place, number)
            if slopes is None or len(draws) > 1:
                slopes = chosen(averaged_slope(self.output, self.live, rows, sum_of(values)), which).float()
            return slopes

    def batch(
        self, pairs: Int[Tensor, "b 2"], use: Use, place: slice, scale: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, " b"]:
        """The gradients of some (example, component), to ``use``; gives their slopes."""
        gathered = Gathered(self.seen.uses, self._checked(use) if in_fp16(self.live) else use, place)
        rows, which = self.compute.rows(self.data.take(pairs[:, 0])), pairs[:, 1].to(self.compute.on)
        with self.compute.running():
            return one_batch(self.output, self.live, rows, which, self.seen, gathered, scale)

    def _checked(self, use: Use) -> Use:
        """``use``, after a look for numbers that overflowed in fp16 (dl-247)."""

        def checked(name: str, uses: list[Contribution], place: slice) -> None:
            for part in (part for one in uses for part in one if isinstance(part, Tensor)):
                lost = (~part.isfinite()).flatten(1).any(1)
                if bool(lost.any()):
                    example, component = self.pairs[place.start + int(lost.nonzero()[0])].tolist()
                    self.compute.check_overflow(self.output, self.given, self.data.take([example]), component)
            use(name, uses, place)

        return checked


class Featuriser:
    """Sketched gradients of a pass. Its facts tell the sketch's error on a few rows (dl-248 where it is broken)."""

    def __init__(self, ready: Pass, sketch: Sketch) -> None:
        self.ready = ready
        self.projection = sketch.bind({name: p.shape for name, p in ready.live.params.items()})
        error = self._error()
        usual = (2 / self.projection.width) ** 0.5
        if error is not None and error > BROKEN * usual and not ready.compute.force:
            raise CapabilityError(
                "dl-248",
                asked=f"inner products of gradients from a sketch of {self.projection.width} dimensions",
                found=f"products {error:.2g} away from the exact ones, where {usual:.2g} is usual",
                do="take a sketch of more dimensions or of wider sides, or force it: Lab(..., force=True)",
            )
        told = {} if error is None else {"sketch_error": float(f"{error:.2g}")}
        self.facts: Facts = {**ready.facts, **told}

    def _error(self) -> float | None:
        """Root mean square of (<Sx, Sy> - <x, y>) / |x| |y| over pairs of some rows, their own among them.

        None where no gradient of theirs is finite and not all zero: that is counted elsewhere.
        """
        rows = min(SAMPLED, self.ready.at_once, len(self.ready.pairs))
        spread = torch.linspace(0, len(self.ready.pairs) - 1, rows).long()
        out = torch.zeros(rows, self.projection.width, device=self.ready.compute.on)
        exact = torch.zeros(rows, rows, dtype=torch.float64)

        def use(name: str, uses: list[Contribution], _: slice) -> None:
            product = torch.stack([one.product().flatten(1).float() for one in uses]).sum(0)
            exact.add_((product @ product.T).double().cpu())
            self.projection.add(out, name, *uses)

        self.ready.batch(self.ready.pairs[spread], use, slice(0, rows), torch.ones_like)
        size = exact.diagonal().sqrt()
        pairs = torch.triu_indices(rows, rows)
        sketched = out.double().cpu()
        left = (sketched @ sketched.T - exact) / (size[:, None] * size)
        error = left[pairs[0], pairs[1]].square()
        known = error[error.isfinite()]
        return float(known.mean().sqrt()) if len(known) else None

    def rows(self, rows: slice) -> "Rendered":
        """The sketched gradients of some rows."""
        first, last, _ = rows.indices(len(self.ready.pairs))
        found, repeats = self._zeros(last - first), self.ready.output.repeats
        if repeats == 1 or self.ready.side == "targets":

            def add(name: str, uses: list[Contribution], place: slice) -> None:
                self.projection.add(found[place.start - first : place.stop - first], name, *uses)

            return self._rendered(found, self.ready.sweep_apart(slice(first, last), add), None)
        one = self._zeros(0)
        signs = torch.from_numpy(draw_signs(np.arange(first, last), repeats) * repeats).to(found)
        draws = torch.zeros(*signs.shape[:2], found.shape[1], device=found.device)

        def use(name: str, uses: list[Contribution], place: slice) -> None:
            nonlocal one
            if len(one) != place.stop - place.start:
                one = self._zeros(place.stop - place.start)
            self.projection.add(one, name, *uses)

        def after(place: slice, draw: int) -> None:
            mine = slice(place.start - first, place.stop - first)
            found[mine] += one
            draws[mine].addcmul_(one[:, None], signs[mine, :, draw, None])
            one.zero_()

        return self._rendered(found, self.ready.sweep_apart(slice(first, last), use, after), draws)

    def _zeros(self, rows: int) -> Tensor:
        return torch.zeros(rows, self.projection.width, device=self.ready.compute.on)

    def _rendered(self, found: Tensor, slopes: Float[np.ndarray, " b"], draws: Tensor | None) -> "Rendered":
        features = to_host(found).numpy()
        told = None if draws is None else to_host(draws.flatten(0, 1)).numpy()
        return Rendered(features, slopes, self.facts | counted(features, slopes), told)


class Rendered(NamedTuple):
    """Sketched gradients ``[b, d]``, their slopes ``[b]``, how they were made, and their ``draws [b q, d]`` where there are many."""

    features: Float[np.ndarray, "b d"]
    slope: Float[np.ndarray, " b"]
    facts: Facts
    draws: Float[np.ndarray, "bq d"] | None


def embeddings(question: Question, model: Model) -> Embeddings:
    """What the last layer sees, on both sides."""
    live = torch_model(model)
    return Embeddings(last_layer_inputs(live, question.train), last_layer_inputs(live, question.targets))


def surveyed(
    output: Output, model: TorchModel, data: Examples, compute: Compute = HOST, draw: Stream | None = None
) -> Survey:
    """How the model uses its parameters for this output, or for one draw of it, told by the first three examples."""

    def forward(live: TorchModel, b: int) -> Tensor:
        rows = compute.rows(data.take(np.arange(b) % len(data)), full=True)
        return averaged(output, live, rows) if draw is None else output.value(live, rows, draw)

    return survey(model, forward)


def coverage(model: TorchModel, seen: Survey) -> dict[str, float]:
    """Which share of the parameters is seen by a rule, in a module alone, or not used at all."""
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


def check_own(error: float, model: TorchModel, *, force: bool) -> None:
    """Refuse gradients that are more than 1 % away from the example's own (dl-243)."""
    rounding = max(torch.finfo(part.dtype).eps for part in model.params.values())
    if error > max(WRONG, 16 * rounding) and not force:
        raise CapabilityError(
            "dl-243",
            asked="every example's own gradient from one pass of a batch",
            found=f"a gradient {error:.1%} away from that of the example alone",
            do="look for a forward pass that mixes examples, or force it: Lab(..., force=True)",
        )
