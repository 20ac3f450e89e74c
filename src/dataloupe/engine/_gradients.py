"""Per-example gradients of outputs, batch by batch, and the inputs of the last layer."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import CapabilityError
from dataloupe._typing import Facts
from dataloupe.core import (
    Chunked,
    Contribution,
    Embeddings,
    Features,
    Model,
    Question,
    Scale,
    Side,
    Sketch,
    Swept,
    Use,
    counted,
    draw_signs,
    last_layer_inputs,
    merged,
    torch_model,
)
from dataloupe.engine._batch import named_errors
from dataloupe.engine._checks import spread_rows
from dataloupe.engine._compute import HOST, Compute, on_host, to_host
from dataloupe.engine._pass import Pass

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
    scale: Scale | None = None,
    compute: Compute = HOST,
) -> Swept:
    """Every row's gradient, times ``scale(slopes, rows)`` if there is one, to ``use`` on the host, batch by batch; raises as :class:`Pass` does."""
    ready = Pass(question, model, side, compute)

    def hosted(name: str, uses: list[Contribution], place: slice) -> None:
        use(name, [on_host(one) for one in uses], place)

    return Swept(ready.sweep(slice(0, len(ready.pairs)), hosted, scale), ready.facts)


class Featuriser:
    """Sketched gradients of a pass. Its facts tell the sketch's error on a few rows (dl-248 where it is broken)."""

    def __init__(self, ready: Pass, sketch: Sketch) -> None:
        self.ready = ready
        self.projection = sketch.bind(
            {
                name: torch.Size([*p.shape, 2]) if p.is_complex() else p.shape
                for name, p in ready.live.params.items()
            }
        )
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
        self._facts: Facts = told

    @property
    def facts(self) -> Facts:
        """How the gradients of the pass and their sketch were made and checked."""
        return self.ready.facts | self._facts

    def _error(self) -> float | None:
        """Root mean square of (<Sx, Sy> - <x, y>) / |x| |y| over pairs of some rows, their own among them.

        None where no gradient of theirs is finite and not all zero: that is counted elsewhere.
        """
        rows = min(SAMPLED, self.ready.at_once, len(self.ready.pairs))
        spread = spread_rows(len(self.ready.pairs), rows)
        out = torch.zeros(rows, self.projection.width, device=self.ready.compute.on)
        whole: dict[str, Tensor] = {}  # [rows, numbers] of every parameter; rows may come one by one

        def use(name: str, uses: list[Contribution], where: slice) -> None:
            product = torch.stack([one.product().flatten(1).float() for one in uses]).sum(0)
            whole.setdefault(name, product.new_zeros(rows, product.shape[1]))[where] += product
            self.projection.add(out[where], name, *uses)

        self.ready.batch(self.ready.pairs[spread], use, slice(0, rows))
        exact = torch.zeros(rows, rows, dtype=torch.float64)
        for product in whole.values():
            exact += (product @ product.T).double().cpu()
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
        current = self._zeros(last - first)  # one draw's share, of the rows that are there
        signs = torch.from_numpy(draw_signs(np.arange(first, last), repeats) * repeats).to(found)
        draws = torch.zeros(*signs.shape[:2], found.shape[1], device=found.device)

        def use(name: str, uses: list[Contribution], place: slice) -> None:
            self.projection.add(current[place.start - first : place.stop - first], name, *uses)

        def after(place: slice, draw: int) -> None:
            mine = slice(place.start - first, place.stop - first)
            found[mine] += current[mine]
            draws[mine].addcmul_(current[mine][:, None], signs[mine, :, draw, None])
            current[mine] = 0.0

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
    with named_errors(live.module):
        return Embeddings(last_layer_inputs(live, question.train), last_layer_inputs(live, question.targets))
