"""Per-example gradients of outputs, batch by batch, and the inputs of the last layer."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._errors import CapabilityError
from dataloupe.core import (
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
    last_layer_inputs,
    map_inputs,
    several_components,
    torch_model,
)
from dataloupe.engine._alone import Alone
from dataloupe.engine._rules import RULES
from dataloupe.engine._survey import Survey, survey
from dataloupe.engine._tape import Tape

_BLOCK_NUMBERS, _LARGEST = 1 << 24, 1 << 21
"""A batch's values have no more numbers than this in all, and in the largest, which is to stay near the cache."""
WRONG = 0.01
"""The relative distance from which two gradients are not the same (in half precision: 16 units of rounding)."""


def features(question: Question, model: Model, sketch: Sketch) -> Features:
    """Sketched gradients of the train output on every example and of the output on every target row.

    Of a diverged model they are not finite; methods leave it out and count it. Raises as :func:`gradients` does.
    """
    live = torch_model(model)
    projection = sketch.bind({name: tensor.shape for name, tensor in live.params.items()})

    def sketched(side: Side, rows: int) -> tuple[Float[np.ndarray, "rows d"], Swept]:
        out = torch.zeros(rows, projection.width)

        def use(name: str, uses: list[Contribution], place: slice) -> None:
            for one in uses:
                projection.add(out[place], name, one)

        swept = gradients(question, live, side, use)
        return out.numpy(), swept

    train, swept = sketched("train", question.n)
    targets, asked = sketched("targets", question.m)
    worst = max(side.facts["gradient_error"] for side in (swept, asked))
    return Features(train, swept.slope, targets, {**swept.facts, "gradient_error": worst})


def gradients(
    question: Question,
    model: Model,
    side: Side,
    use: Use,
    scale: Callable[[Tensor], Tensor] = torch.ones_like,
) -> Swept:
    """Every row's gradient, times ``scale(slopes)``, to ``use``, batch by batch.

    The facts tell which share of the parameters was seen how, and how far the gradient of one example in a batch
    of three is from autograd's of that example alone. Raises ``CapabilityError`` dl-208 if the train output
    has several components, dl-241 / dl-242 if an example feels the others of its batch, dl-243 if the two
    gradients differ, ``BadInput`` dl-240 if a layer's input is changed in place.
    """
    live, train = torch_model(model), side == "train"
    data, output = (question.train, question.on_train) if train else (question.targets, question.output)
    valid = torch.cat([output.valid(data.take(ids)) for ids in torch.arange(len(data)).split(1024)])
    pairs = valid.nonzero()
    if train and len(pairs) != question.n:
        raise several_components(question, len(pairs))
    seen = surveyed(output, live, data)
    facts = {
        "coverage": coverage(live, seen),
        "gradient_error": verified(output, live, data.take(pairs[:3, 0]), pairs[:3, 1], seen),
    }
    slopes = torch.empty(len(pairs))
    start = 0
    fitting = min(_BLOCK_NUMBERS // max(1, seen.numbers), _LARGEST // max(1, seen.largest))
    for block in pairs.split(int(np.clip(fitting, 1, 512))):
        place = slice(start, start + len(block))
        slopes[place] = one_batch(
            output, live, data.take(block[:, 0]), block[:, 1], seen, _Gathered(seen.uses, use, place), scale
        )
        start += len(block)
    return Swept(slopes.numpy(), facts)


def embeddings(question: Question, model: Model) -> Embeddings:
    """What the last layer sees, on both sides."""
    live = torch_model(model)
    return Embeddings(last_layer_inputs(live, question.train), last_layer_inputs(live, question.targets))


def surveyed(output: Output, model: TorchModel, data: Examples) -> Survey:
    """How the model uses its parameters for this output, told by the first three examples."""

    def forward(live: TorchModel, b: int) -> Tensor:
        return averaged(output, live, data.take(np.arange(b) % len(data)))

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


def verified(
    output: Output, model: TorchModel, rows: Rows, component: Int[Tensor, " b"], seen: Survey
) -> float:
    """How far the last example's gradient among these is from autograd's of it alone (dl-243 above 1 %)."""
    found: dict[str, Tensor] = {}

    def use(name: str, uses: list[Contribution], _: slice) -> None:
        found[name] = torch.stack([one.product()[-1].flatten() for one in uses]).sum(0)

    gathered = _Gathered(seen.uses, use, slice(0, len(component)))
    one_batch(output, model, rows, component, seen, gathered, torch.ones_like)
    last = Rows(
        map_inputs(lambda part: part[-1:], rows.inputs), None if rows.labels is None else rows.labels[-1:]
    )
    with torch.enable_grad():
        params = {name: tensor.detach().clone().requires_grad_() for name, tensor in model.params.items()}
        value = averaged(output, model.with_params(params), last).reshape(-1)[component[-1]]
        truth = torch.autograd.grad(value, list(params.values()), allow_unused=True)
    apart = size = 0.0
    for (name, tensor), gradient in zip(params.items(), truth, strict=True):
        exact = torch.zeros_like(tensor).flatten() if gradient is None else gradient.flatten()
        apart += float((found.get(name, torch.zeros_like(exact)) - exact).square().sum())
        size += float(exact.square().sum())
    error = (apart / size) ** 0.5 if size > 0.0 else float(apart > 0.0)
    if error > max(WRONG, 16 * torch.finfo(value.dtype).eps):
        raise CapabilityError(
            "dl-243",
            asked="every example's own gradient from one pass of a batch",
            found=f"a gradient {error:.1%} away from that of the example alone",
            do="look for a forward pass that mixes examples; tell us of the module, this should have been noticed",
        )
    return float(f"{error:.2g}")


def one_batch(
    output: Output,
    model: TorchModel,
    rows: Rows,
    component: Int[Tensor, " b"],
    seen: Survey,
    gathered: "_Gathered",
    scale: Callable[[Tensor], Tensor],
) -> Float[Tensor, " b"]:
    """The gradients of one component of every row, in one forward and one backward; gives the slopes."""

    def chosen(values: Tensor) -> Tensor:
        return values.reshape(len(component), -1).gather(1, component[:, None])[:, 0]

    with torch.enable_grad():
        params = {name: model.params[name] for name in seen.ruled}
        tape = Tape(params, len(component), RULES, seen.places, gathered.take)
        alone = Alone(model, seen.alone, tape.anchor)
        with tape, alone.watching():
            values = averaged(output, model, rows)
        slopes = chosen(averaged_slope(output, model, rows, values.detach())).float()
        tape.backward((scale(slopes).to(values.dtype) * chosen(values)).sum())
        alone.finish(gathered.take)
        gathered.close()
    return slopes


class _Gathered:
    """Hands a parameter on when all its uses in a batch are there."""

    def __init__(self, uses: Mapping[str, int], use: Use, place: slice) -> None:
        self._uses, self._use, self._place = uses, use, place
        self._waiting: dict[str, list[Contribution]] = {}

    def take(self, name: str, found: Contribution) -> None:
        """One use."""
        self._waiting.setdefault(name, []).append(found)
        if len(self._waiting[name]) == self._uses.get(name):
            self._use(name, self._waiting.pop(name), self._place)

    def close(self) -> None:
        """The batch is over: hand on what is left."""
        for name, found in self._waiting.items():
            self._use(name, found, self._place)
        self._waiting.clear()
