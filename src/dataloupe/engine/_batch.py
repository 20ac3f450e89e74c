"""One batch: every example's own gradient from one forward and one backward pass, and how far it is from the truth."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._identity import Stream
from dataloupe.core import Contribution, Output, Rows, TorchModel, Use, averaged, averaged_slope
from dataloupe.engine._alone import Alone
from dataloupe.engine._compute import one_row, plain_gradient, widened, widened_factors
from dataloupe.engine._rules import RULES
from dataloupe.engine._survey import Survey
from dataloupe.engine._tape import Tape


def verified(
    output: Output, model: TorchModel, rows: Rows, component: Int[Tensor, " b"], seen: Survey
) -> float:
    """How far the last example's gradient among these is from autograd's of it alone."""
    found = taped(output, model, rows, component, seen)
    truth = plain_gradient(output, model, one_row(rows, len(component) - 1), int(component[-1]))
    apart = size = 0.0
    for name, gradient in truth.items():
        exact = widened(gradient.flatten())
        apart += float((found[name][-1] - exact if name in found else exact).square().sum())
        size += float(exact.square().sum())
    error = (apart / size) ** 0.5 if size > 0.0 else float(apart > 0.0)
    return float(f"{error:.2g}")


def taped(
    output: Output, model: TorchModel, rows: Rows, component: Int[Tensor, " b"], seen: Survey
) -> dict[str, Float[Tensor, "b p"]]:
    """The gradients of a few rows, made as those of many are."""
    found: dict[str, Tensor] = {}

    def use(name: str, uses: list[Contribution], _: slice) -> None:
        found[name] = torch.stack([one.product().flatten(1) for one in uses]).sum(0)

    gathered = Gathered(seen.uses, use, slice(0, len(component)))
    one_batch(output, model, rows, component, seen, gathered, torch.ones_like)
    return found


def one_batch(
    output: Output,
    model: TorchModel,
    rows: Rows,
    component: Int[Tensor, " b"],
    seen: Survey,
    gathered: "Gathered",
    scale: Callable[[Tensor], Tensor],
) -> Float[Tensor, " b"]:
    """The gradients of one component of every row, in one forward and one backward; gives the slopes."""
    slopes: list[Tensor] = []

    def weigh(values: Tensor) -> Tensor:
        slopes.append(chosen(averaged_slope(output, model, rows, values.detach()), component).float())
        return scale(slopes[0]).to(values.dtype)

    _pass(model, component, seen, gathered, lambda: averaged(output, model, rows), weigh)
    return slopes[0]


def one_draw(
    output: Output,
    model: TorchModel,
    rows: Rows,
    component: Int[Tensor, " b"],
    seen: Survey,
    gathered: "Gathered",
    draw: Stream | None,
    scale: Callable[[Tensor], Tensor] | None,
) -> tuple[Float[Tensor, "b *c"], Float[Tensor, " b"] | None]:
    """The share of one draw in the gradients of one component of every row; gives the draw's values, and its slopes if ``scale`` wants them."""
    share, slopes = 1.0 / output.repeats, list[Tensor]()

    def weigh(values: Tensor) -> Tensor | float:
        if scale is None:
            return share
        slopes.append(chosen(output.slope(model, rows, values.detach(), draw), component).float())
        return scale(slopes[0]).to(values.dtype) * share

    values = _pass(model, component, seen, gathered, lambda: output.value(model, rows, draw), weigh)
    return values, slopes[0] if slopes else None


def chosen(values: Float[Tensor, "b *c"], component: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """One component of every row."""
    return values.reshape(len(component), -1).gather(1, component[:, None])[:, 0]


def _pass(
    model: TorchModel,
    component: Int[Tensor, " b"],
    seen: Survey,
    gathered: "Gathered",
    value: Callable[[], Tensor],
    weigh: Callable[[Tensor], Tensor | float],
) -> Float[Tensor, "b *c"]:
    """One forward and one backward of the chosen components, weighed; gives the values."""
    with torch.enable_grad():
        params = {name: model.params[name] for name in seen.ruled}
        tape = Tape(params, len(component), RULES, seen.places, gathered.take)
        alone = Alone(model, seen.alone, tape.anchor)
        with tape, alone.watching():
            values = value()
        tape.backward((weigh(values) * chosen(values, component)).sum())
        alone.finish(gathered.take)
        gathered.close()
    return values.detach()


class Gathered:
    """Hands a parameter on when all its uses in a batch are there."""

    def __init__(self, uses: Mapping[str, int], use: Use, place: slice) -> None:
        self._uses, self._use, self._place = uses, use, place
        self._waiting: dict[str, list[Contribution]] = {}

    def take(self, name: str, found: Contribution) -> None:
        """One use."""
        self._waiting.setdefault(name, []).append(widened_factors(found))
        if len(self._waiting[name]) == self._uses.get(name):
            self._use(name, self._waiting.pop(name), self._place)

    def close(self) -> None:
        """The batch is over: hand on what is left."""
        for name, found in self._waiting.items():
            self._use(name, found, self._place)
        self._waiting.clear()
