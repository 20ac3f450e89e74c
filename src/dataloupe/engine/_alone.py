"""Modules that use their parameters in a way without a rule: per-example gradients of that module by itself."""

import dataclasses
import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from dataloupe._errors import CapabilityError
from dataloupe.core import Direct, TorchModel, is_beside
from dataloupe.engine._digest import RowDigest
from dataloupe.engine._tape import Rules, Take, Tape, places_of, tap

_NOTHING = Rules({}, {}, {}, {}, {})
Axes = tuple[int | None, ...]
"""The batch's axis in each tensor; None where there is none."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """A module (by name) that uses ``params`` itself, and where its inputs and outputs have the batch."""

    module: str
    params: frozenset[str]
    inputs: Axes
    outputs: Axes


class _Doors(NamedTuple):
    inputs: list[Tensor]
    outputs: list[Tensor]


def units_of(
    model: TorchModel, forward: Callable[[TorchModel, int], Tensor], names: frozenset[str]
) -> tuple[Unit, ...]:
    """The innermost modules at work when these parameters are used, if a batch of theirs can be taken apart."""
    if not names:
        return ()
    (two, uses), (three, _) = (_trace(model, forward, b, names) for b in (2, 3))
    axes = {module: _axes(doors, three.get(module, [])) for module, doors in two.items()}
    found: dict[str, set[str]] = {}
    doors = {module: both for module, both in axes.items() if both is not None}
    for name, chain in uses:
        fitting = [module for module in chain if module in doors]
        if not fitting:
            raise CapabilityError(
                "dl-244",
                asked=f"every example's own gradient of {name}",
                found="a use without a rule, and no module around it whose inputs and outputs are one per example",
                do="let the module that uses it take and give tensors with an axis of examples",
            )
        found.setdefault(fitting[-1], set()).add(name)
    return tuple(Unit(module, frozenset(own), *doors[module]) for module, own in found.items())


def _axes(two: list[_Doors], three: list[_Doors]) -> tuple[Axes, Axes] | None:
    """Where the batch is, if that is the same in every call of a module."""
    found = {_axes_once(a, b) for a, b in itertools.zip_longest(two, three)}
    return found.pop() if len(found) == 1 else None


def _axes_once(two: _Doors | None, three: _Doors | None) -> tuple[Axes, Axes] | None:
    """None where an input or output has the batch in no axis of its own, or an output has none at all."""
    if two is None or three is None:
        return None
    sides = []
    for a, b, constants in ((two.inputs, three.inputs, True), (two.outputs, three.outputs, False)):
        places = places_of(a, b)
        fits = {"own", "none"} if constants else {"own"}
        if len(a) != len(b) or not (a or constants) or not all(where.place in fits for where in places):
            return None
        sides.append(tuple(where.axis if where.place == "own" else None for where in places))
    return sides[0], sides[1]


def _trace(
    model: TorchModel, forward: Callable[[TorchModel, int], Tensor], b: int, names: frozenset[str]
) -> tuple[dict[str, list[_Doors]], list[tuple[str, list[str]]]]:
    """What passes every module's doors, and for every use of a parameter the modules at work that own it."""
    doors: dict[str, list[_Doors]] = {}
    uses: list[tuple[str, list[str]]] = []
    stack: list[str] = []
    owned = _owned(model)

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: stack.append(name)

    def leave(name: str) -> Callable[..., None]:
        def note(_: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            stack.pop()
            if is_beside():
                return
            doors.setdefault(name, []).append(_Doors(_tensors((args, kwargs))[0], _tensors(out)[0]))

        return note

    tape = Tape({name: model.params[name] for name in names}, b, _NOTHING)
    tape.on_unruled = lambda name: uses.append((name, [m for m in stack if name in owned[m]]))
    with ExitStack() as hooks:
        for name, module in model.module.named_modules():
            hooks.callback(module.register_forward_pre_hook(enter(name)).remove)
            hooks.callback(module.register_forward_hook(leave(name), with_kwargs=True).remove)
        with torch.no_grad(), tape:
            forward(model, b)
    return doors, uses


def _owned(model: TorchModel) -> dict[str, set[str]]:
    """The parameters of every module, its children's and tied ones included, by the model's names."""
    names = {id(p): name for name, p in model.module.named_parameters()}
    return {
        place: {names[id(p)] for p in module.parameters() if names[id(p)] in model.params}
        for place, module in model.module.named_modules()
    }


def _tensors(tree: Any) -> tuple[list[Tensor], list[Any], TreeSpec]:
    """The tensors of nested arguments, all leaves, and how they were nested."""
    leaves, spec = tree_flatten(tree)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)], leaves, spec


@dataclasses.dataclass
class _Visit:
    """One call of a module: what went in, and the gradients of what came out, as they arrive."""

    unit: Unit
    given: Any
    gradients: list[Tensor | None]
    outputs: list[Tensor]


class Alone:
    """Watches the modules of ``units`` during a forward pass; ``finish`` hands their gradients over."""

    def __init__(self, model: TorchModel, units: tuple[Unit, ...], anchor: Tensor) -> None:
        self.model, self.units, self.anchor = model, units, anchor
        self.visits: list[_Visit] = []
        self.digest: RowDigest | None = None

    def fits(self, batch: int) -> bool:
        """Whether every tensor that went in or came out has one entry per row, where the survey saw them."""
        return all(
            len(tensors) == len(axes)
            and all(
                a is None or (a < t.ndim and t.shape[a] == batch) for t, a in zip(tensors, axes, strict=True)
            )
            for visit in self.visits
            for tensors, axes in (
                (_tensors(visit.given)[0], visit.unit.inputs),
                (visit.outputs, visit.unit.outputs),
            )
        )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it, calls of the modules are noted and their outputs tapped."""
        with ExitStack() as hooks:
            for unit in self.units:
                module = self.model.module.get_submodule(unit.module)
                hook = module.register_forward_hook(self._note(unit), with_kwargs=True)
                hooks.callback(hook.remove)
            yield

    def _note(self, unit: Unit) -> Callable[..., Any]:
        def note(_: nn.Module, args: Any, kwargs: Any, out: Any) -> Any:
            if is_beside():
                return out
            tensors, leaves, spec = _tensors(out)
            detached = [tensor.detach() for tensor in tensors]
            visit = _Visit(unit, _detached((args, kwargs)), [None] * len(tensors), detached)
            self.visits.append(visit)
            number = itertools.count()
            return tree_unflatten(
                [
                    self._tapped(visit, next(number), leaf) if isinstance(leaf, Tensor) else leaf
                    for leaf in leaves
                ],
                spec,
            )

        return note

    def _tapped(self, visit: _Visit, i: int, tensor: Tensor) -> Tensor:
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return tensor

        visit_number = len(self.visits)

        def show(gradient: Tensor) -> bool:
            visit.gradients[i] = gradient
            if self.digest is None:
                return False
            axis = visit.unit.outputs[i] or 0
            self.digest.add(("module", visit_number, i), gradient.movedim(axis, 0).flatten(1))
            return self.digest.alone

        return tap(tensor.clone(), self.anchor, show)

    def finish(self, take: Take) -> None:
        """Every noted call's gradients, example by example."""
        for visit in self.visits:
            for name, gradient in self._gradients(visit).items():
                take(name, Direct(gradient))
        self.visits.clear()

    def _gradients(self, visit: _Visit) -> dict[str, Tensor]:
        module = self.model.module.get_submodule(visit.unit.module)
        here = _names_here(self.model, module)
        fixed = {own: t for own, (name, t) in here.items() if name not in visit.unit.params}
        params = {name: self.model.params[name] for name in visit.unit.params}
        inputs, leaves, spec = _tensors(visit.given)
        passed = [(i, g) for i, g in enumerate(visit.gradients) if g is not None]
        if not passed:
            return {}

        def value(params: dict[str, Tensor], inputs: list[Tensor], gradients: list[Tensor]) -> Tensor:
            fed = iter(
                t if axis is None else t.unsqueeze(axis)
                for t, axis in zip(inputs, visit.unit.inputs, strict=True)
            )
            args, kwargs = tree_unflatten([next(fed) if isinstance(x, Tensor) else x for x in leaves], spec)
            live = {own: params[name] for own, (name, _) in here.items() if name in params}
            out = _tensors(functional_call(module, {**fixed, **live}, args, kwargs))[0]
            pairs = zip(passed, gradients, strict=True)
            return sum(_inner(out[i], g.unsqueeze(visit.unit.outputs[i] or 0)) for (i, _), g in pairs)  # type: ignore[return-value]

        axes = (None, list(visit.unit.inputs), [visit.unit.outputs[i] for i, _ in passed])
        given = (params, inputs, [g for _, g in passed])
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")  # known, and not the user's
                found, values = torch.vmap(grad_and_value(value), in_dims=axes)(*given)
        except Exception:  # an operation that cannot be batched (a recurrent kernel, packed rows): one by one
            found, values = _one_by_one(grad_and_value(value), axes, given)
        self._check_rows(visit, passed, values)
        return {name: gradient.detach() for name, gradient in found.items()}

    def _check_rows(self, visit: _Visit, passed: list[tuple[int, Tensor]], values: Tensor) -> None:
        """The module gives a row alone what it gave it in its batch, along the gradients (else its rows meet inside)."""
        expected, size = torch.zeros_like(values), torch.zeros_like(values)
        for i, gradient in passed:
            axis = visit.unit.outputs[i] or 0
            rows = (
                (visit.outputs[i].conj() * gradient).real
                if gradient.is_complex()
                else visit.outputs[i] * gradient
            )
            rows = rows.movedim(axis, 0).flatten(1)  # [b, numbers]
            expected, size = expected + rows.sum(1), size + rows.abs().sum(1)
        tolerance = max(1e-3, 16 * torch.finfo(values.dtype).eps)
        if bool(((values.detach() - expected).abs() > tolerance * size + 1e-30).any()):
            raise CapabilityError(
                "dl-242",
                asked="every example's own gradient",
                found=f"the module {visit.unit.module or 'itself'} gives an example in a batch something else than alone",
                do="make the forward pass treat examples apart (no statistics of the batch in evaluation)",
            )


def _inner(output: Tensor, gradient: Tensor) -> Tensor:
    """The real inner product, whose derivative by the output is the gradient."""
    return (output.conj() * gradient).real.sum() if output.is_complex() else (output * gradient).sum()


def _one_by_one(
    function: Callable[..., tuple[dict[str, Tensor], Tensor]], axes: Any, given: Any
) -> tuple[dict[str, Tensor], Tensor]:
    """What ``torch.vmap`` would give, by a loop."""
    _, inputs, gradients = given
    every = [*zip(inputs, axes[1], strict=True), *zip(gradients, axes[2], strict=True)]
    size = next(tensor.shape[axis] for tensor, axis in every if axis is not None)

    def pick(tensors: list[Tensor], places: list[int | None], i: int) -> list[Tensor]:
        return [t if a is None else t.select(a, i) for t, a in zip(tensors, places, strict=True)]

    rows = [function(given[0], pick(inputs, axes[1], i), pick(gradients, axes[2], i)) for i in range(size)]
    stacked = {name: torch.stack([gradients[name] for gradients, _ in rows]) for name in given[0]}
    return stacked, torch.stack([value.detach() for _, value in rows])


def _detached(tree: Any) -> Any:
    _, leaves, spec = _tensors(tree)
    return tree_unflatten([x.detach() if isinstance(x, Tensor) else x for x in leaves], spec)


def _names_here(model: TorchModel, module: nn.Module) -> dict[str, tuple[str, Tensor]]:
    """Parameters and buffers by the module's own names: (the model's name, the tensor)."""
    names = {id(p): n for n, p in [*model.module.named_parameters(), *model.module.named_buffers()]}
    tensors = {**model.params, **model.buffers}
    own = [*module.named_parameters(), *module.named_buffers()]
    return {here: (names[id(t)], tensors[names[id(t)]]) for here, t in own if names[id(t)] in tensors}
