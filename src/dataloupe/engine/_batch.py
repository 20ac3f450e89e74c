"""One batch: every example's own gradient, from one forward and one backward pass where that is safe, else row by row.

What the survey has learnt from three rows is not trusted for others. In every batch the calls are compared with the
survey's; where rows can have moved, or code has read numbers out of tensors that it had not read before, a second
backward pass with other weights tells whether every gradient belongs to one row; and what does not pass is
differentiated one row at a time.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dataloupe._errors import CapabilityError, DataloupeError
from dataloupe._identity import Stream
from dataloupe.core import (
    Contribution,
    Direct,
    Output,
    Rows,
    Scale,
    TorchModel,
    Use,
    averaged,
    averaged_slope,
)
from dataloupe.engine._alone import Alone
from dataloupe.engine._compute import ELSEWHERE, one_row, widened, widened_factors
from dataloupe.engine._digest import RowDigest, rows_meet
from dataloupe.engine._rules import RULES
from dataloupe.engine._survey import Survey
from dataloupe.engine._tape import Tape


@dataclasses.dataclass(frozen=True, eq=False)
class BatchTask:
    """One component of every row of a batch: of the mean over the output's draws, or the share of one ``draw`` in it.

    Gradients are multiplied by ``scale(slopes, rows)``, where there is a scale.
    """

    output: Output
    model: TorchModel
    rows: Rows
    component: Int[Tensor, " b"]
    scale: Scale | None = None
    draw: Stream | None = None
    mean: bool = True

    def __len__(self) -> int:
        return len(self.component)

    def row(self, i: int) -> "BatchTask":
        """The same of one row."""
        return dataclasses.replace(self, rows=one_row(self.rows, i), component=self.component[i : i + 1])

    def values(self, model: TorchModel | None = None) -> Float[Tensor, "b *c"]:
        """The output on every row."""
        live = model or self.model
        return (
            averaged(self.output, live, self.rows)
            if self.mean
            else self.output.value(live, self.rows, self.draw)
        )

    def weights(
        self, values: Float[Tensor, "b *c"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"] | None]:
        """What every row's gradient is multiplied by, and the slopes that this takes (None where it takes none)."""
        share = 1.0 if self.mean else 1.0 / self.output.repeats
        if self.scale is None:
            return torch.full((len(self),), share, dtype=values.dtype, device=values.device), None
        if self.mean:
            slopes = averaged_slope(self.output, self.model, self.rows, values.detach())
        else:
            slopes = self.output.slope(self.model, self.rows, values.detach(), self.draw)
        slopes = chosen(slopes, self.component).float()
        return self.scale(slopes, self.rows).to(values.dtype) * share, slopes


@dataclasses.dataclass(frozen=True, eq=False)
class BatchResult:
    """The output's values ``[b, c]`` and slopes ``[b]``, how many rows were differentiated ``singly``, and ``moves_rows``."""

    values: Float[Tensor, "b *c"]
    slopes: Float[Tensor, " b"] | None
    singly: int = 0
    moves_rows: bool = False


def differentiate(
    task: BatchTask, seen: Survey | None, trusted: set[Any], use: Use, uses: Mapping[str, int], place: slice
) -> BatchResult:
    """Every row's gradient to ``use``: at once if this batch can be, else one row after the other.

    ``trusted`` holds the signatures of batches that were checked, and grows. Raises ``CapabilityError`` dl-250 for
    what a module itself raises, dl-242 where a row has other values alone than in its batch.
    """
    if seen is not None:
        result = together(task, seen, trusted, Gathered(uses, use, place))
        if result is not None:
            return result
    results = []
    for i in range(len(task)):
        row = task.row(i)
        single, gradients = one_row_gradients(row)
        for name, contributions in gradients.items():
            use(name, contributions, slice(place.start + i, place.start + i + 1))
        results.append(single)
    slopes = [result.slopes for result in results if result.slopes is not None]
    values = torch.cat([result.values for result in results])
    check_alone(task, values)
    return BatchResult(values, torch.cat(slopes) if slopes else None, singly=len(task))


def check_alone(task: BatchTask, alone: Float[Tensor, "b *c"]) -> None:
    """Refuse a model whose outputs of rows alone are not those of their batch (dl-242)."""
    if len(task) < 2:
        return
    with torch.no_grad(), named_errors(task.model.module):
        batched = task.values()
    differences = (batched - alone).abs()
    tolerance = max(1e-3, 16 * rounding(task.model)) * float(batched.abs().max())
    rows = (differences > tolerance).reshape(len(task), -1).any(1).nonzero().flatten()
    if len(rows):
        raise CapabilityError(
            "dl-242",
            asked="every example's own gradient",
            found=f"outputs of {len(rows)} of {len(task)} rows that change by up to {float(differences.max()):.2g} in their batch",
            do="make the forward pass treat examples apart (no statistics of the batch in evaluation)",
        )


def together(task: BatchTask, seen: Survey, trusted: set[Any], gathered: "Gathered") -> BatchResult | None:
    """One forward and one backward pass; None where gradients of rows cannot be told apart, and nothing is handed on."""
    with torch.enable_grad():
        model = task.model
        tape = Tape(model.params, len(task), RULES, seen.places, gathered.take, seen.why.keys())
        modules = Alone(model, seen.alone, tape.anchor)
        try:
            with tape, modules.watching():
                values = task.values()
        except DataloupeError:
            raise
        except Exception:  # the module may work for single rows: they tell
            return None
        if not (tape.follows(seen.names, seen.elsewhere) and modules.fits(len(task))):
            return None
        with named_errors(model.module):
            weights, slopes = task.weights(values.detach())
        selected = chosen(values, task.component)
        suspect = len(task) > 1 and (tape.moves_rows or tape.signature not in trusted)
        if not suspect:
            tape.inputs.clear()  # so that each is freed as the backward pass has gone by
            with named_errors(model.module, RuntimeError):
                tape.backward((weights * selected).sum())
            modules.finish(gathered.take)
        elif not _checked(tape, modules, gathered, selected, weights):
            return None
        gathered.close()
        if suspect and not tape.moves_rows:
            trusted.add(tape.signature)
    return BatchResult(values.detach(), slopes, moves_rows=tape.moves_rows)


def _checked(
    tape: Tape,
    modules: Alone,
    gathered: "Gathered",
    selected: Float[Tensor, " b"],
    weights: Float[Tensor, " b"],
) -> bool:
    """Two backward passes, with random weights and with the true ones; contributions are handed on if no rows meet."""
    held: list[tuple[str, Contribution]] = []
    tape.take = lambda name, contribution: held.append((name, contribution))
    random_weights = 1.0 + torch.from_numpy(Stream.root(0)("row digest").uniform(range(len(weights)))).to(
        weights
    )
    digests = RowDigest(alone=True), RowDigest(alone=False)
    try:
        for digest, scaled in zip(digests, (random_weights, weights), strict=True):
            tape.digest = modules.digest = digest
            tape.backward((scaled * selected).sum())
        modules.finish(tape.take)
    except DataloupeError as error:
        if error.code != "dl-242":
            raise
        return False
    except RuntimeError:
        tape.check_inputs()
        return False
    finally:
        tape.digest = modules.digest = None
    unit = max(torch.finfo(selected.dtype).eps, rounding(modules.model))
    if rows_meet(*digests, random_weights, weights.detach(), max(1e-3, 8 * unit), unit):
        return False
    for name, contribution in held:
        gathered.take(name, contribution)
    return True


def one_row_gradients(task: BatchTask) -> tuple[BatchResult, dict[str, list[Contribution]]]:
    """The gradient of one row, as factors where there are rules, by autograd where there are none.

    Of one row every value belongs to it whole, so nothing has to be known of batches.
    """
    gradients: dict[str, list[Contribution]] = {}

    def take(name: str, contribution: Contribution) -> None:
        gradients.setdefault(name, []).append(normalised(contribution))

    with torch.enable_grad(), named_errors(task.model.module):
        leaves = {name: p.detach().clone().requires_grad_() for name, p in task.model.params.items()}
        elsewhere = {name for name, p in leaves.items() if p.is_complex()}
        tape = Tape(leaves, 1, RULES, None, take, elsewhere)
        with tape:
            values = task.values(task.model.with_params(leaves))
        weights, slopes = task.weights(values.detach())
        plain = sorted(elsewhere | {name for name, _ in tape.unruled})
        total = (weights * chosen(values, task.component)).sum()
        if total.requires_grad:
            inputs = [tape.anchor, *(leaves[name] for name in plain)]
            _, *by_autograd = torch.autograd.grad(total, inputs, allow_unused=True)
            for name, gradient in zip(plain, by_autograd, strict=True):
                gradients.pop(name, None)  # autograd counts all uses
                if gradient is not None:
                    take(name, Direct(gradient[None]))
    return BatchResult(values.detach(), slopes), gradients


def row_gradient(tasks: list[BatchTask]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Plain autograd: the gradient of one row, its draws added, in real numbers; and its values, draw by draw."""
    model = tasks[0].model
    with torch.enable_grad(), named_errors(model.module):
        leaves = {name: p.detach().clone().requires_grad_() for name, p in model.params.items()}
        values = [task.values(model.with_params(leaves)) for task in tasks]
        total = sum(
            (task.weights(value.detach())[0] * chosen(value, task.component)).sum()
            for task, value in zip(tasks, values, strict=True)
        )
        gradients: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if isinstance(total, Tensor) and total.requires_grad:
            gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    real = {
        name: widened(as_real(torch.zeros_like(leaf) if gradient is None else gradient)).detach()
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }
    return real, [value.detach() for value in values]


# --- for checks of a few rows ---


def verified(
    output: Output,
    model: TorchModel,
    rows: Rows,
    component: Int[Tensor, " b"],
    seen: Survey | None,
    trusted: set[Any] | None = None,
) -> float:
    """How far the last example's gradient among these is from autograd's of it alone."""
    gradients = taped(output, model, rows, component, seen, trusted)
    task = BatchTask(output, model, rows, component).row(len(component) - 1)
    truth, _ = row_gradient([task])
    return relative_error({name: part[-1] for name, part in gradients.items()}, truth)


def relative_error(gradients: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> float:
    """|g - truth| / |truth| over all parameters, a missing one being 0."""
    difference = size = 0.0
    for name, gradient in truth.items():
        exact = gradient.flatten().double()
        own = gradients[name].flatten().double() if name in gradients else torch.zeros_like(exact)
        difference += float((own - exact).square().sum())
        size += float(exact.square().sum())
    error = (difference / size) ** 0.5 if size > 0.0 else float(difference > 0.0)
    return float(f"{error:.2g}")


def taped(
    output: Output,
    model: TorchModel,
    rows: Rows,
    component: Int[Tensor, " b"],
    seen: Survey | None,
    trusted: set[Any] | None = None,
) -> dict[str, Float[Tensor, "b p"]]:
    """The gradients of a few rows, made as those of many are; the signature of their batch joins the ``trusted``."""
    trusted = set() if trusted is None else trusted
    gradients: dict[str, Tensor] = {}
    sizes = {name: p.numel() * (2 if p.is_complex() else 1) for name, p in model.params.items()}

    def use(name: str, uses: list[Contribution], place: slice) -> None:
        product = torch.stack([contribution.product().flatten(1) for contribution in uses]).sum(0)
        if name not in gradients:
            gradients[name] = product.new_zeros(len(component), sizes[name])
        gradients[name][place] += product

    task = BatchTask(output, model, rows, component)
    differentiate(task, seen, trusted, use, {} if seen is None else seen.uses, slice(0, len(component)))
    return gradients


def chosen(values: Float[Tensor, "b *c"], component: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """One component of every row."""
    return values.reshape(len(component), -1).gather(1, component[:, None])[:, 0]


def rounding(model: TorchModel) -> float:
    """The unit of rounding of the model's coarsest parameters."""
    return max(torch.finfo(part.dtype).eps for part in model.params.values())


def as_real(tensor: Tensor) -> Tensor:
    """A gradient in real numbers: real and imaginary parts as a last axis of two, sparse ones dense."""
    dense = tensor.to_dense() if tensor.layout is not torch.strided else tensor
    return torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense


def normalised(contribution: Contribution) -> Contribution:
    """Sums of products in fp32 or better, in real numbers, and an axis behind the examples' in any case."""
    if isinstance(contribution, Direct):
        values = as_real(contribution.values)
        contribution = Direct(values if values.ndim > 1 else values[:, None])  # of a scalar parameter
    return widened_factors(contribution)


class Gathered:
    """Hands a parameter on when all its uses in a batch are there."""

    def __init__(self, uses: Mapping[str, int], use: Use, place: slice) -> None:
        self._uses, self._use, self._place = uses, use, place
        self._waiting: dict[str, list[Contribution]] = {}

    def take(self, name: str, found: Contribution) -> None:
        """One use."""
        self._waiting.setdefault(name, []).append(normalised(found))
        if len(self._waiting[name]) == self._uses.get(name):
            self._use(name, self._waiting.pop(name), self._place)

    def close(self) -> None:
        """The batch is over: hand on what is left."""
        for name, found in self._waiting.items():
            self._use(name, found, self._place)
        self._waiting.clear()


@contextmanager
def named_errors(module: nn.Module, kinds: type[Exception] = Exception) -> Iterator[None]:
    """What a module raises, as an error that names the module (dl-250); our own errors pass."""
    try:
        yield
    except DataloupeError:
        raise
    except kinds as error:
        if ELSEWHERE.search(str(error)):
            raise  # tensors on another device or of another type: Compute.watching tells what to do
        raise CapabilityError(
            "dl-250",
            asked="gradients of examples",
            found=f"{type(error).__name__} in {_where(module, error)}: {_first_line(error)}",
            do="call the module on one row and on several rows of the data: forward must work for both",
        ) from error


def _where(module: nn.Module, error: Exception) -> str:
    """The innermost module at work when an error was raised."""
    names = {id(part): name for name, part in module.named_modules()}
    place, trace = type(module).__name__, error.__traceback__
    while trace is not None:
        part = trace.tb_frame.f_locals.get("self")
        if isinstance(part, nn.Module):
            name = names.get(id(part), "")
            place = f"{name} ({type(part).__name__})" if name else type(part).__name__
        trace = trace.tb_next
    return place


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else "no message"
