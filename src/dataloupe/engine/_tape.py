"""One forward and one backward of a whole batch give every example's own gradient, as factors.

A :class:`Tape` watches the functions that a forward pass calls. Where one is given a parameter of the model
(``F.linear``, a convolution, a normalisation ...) the tape keeps its input and taps its value; the backward pass
brings the gradient of that value, and input and gradient are the factors. No gradient of a parameter is computed.

Which axis of a value is the batch is not guessed: passes with batches of two and of three tell (:func:`survey`),
and tell as well which parameters are used in a way that has no rule. Neither is trusted for other rows: in every
batch :meth:`Tape.follows` compares the calls with those of the survey, and ``moves_rows`` tells of calls that can
move data from one row of the batch to another.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dataloupe._errors import BadInput
from dataloupe.core import Contribution, Direct, Outer, is_beside
from dataloupe.engine._digest import RowDigest
from dataloupe.engine._row_moves import may_move_rows, read_as_number


class Part(NamedTuple):
    """A parameter as a function was given it: whole, transposed, or some of its rows."""

    name: str
    transposed: bool = False
    rows: tuple[int, int, int] | None = None
    """first, last + 1, of how many."""


class Where(NamedTuple):
    """The batch in a value: an axis of its own; merged into axis 0, before or after others; nowhere; or who knows."""

    place: Literal["own", "outer", "inner", "none", "odd"]
    axis: int = 0

    def multiple(self, shape: torch.Size, batch: int) -> int:
        """How many entries of the batch's axis belong to each row of a batch; 0 where they cannot be shared out evenly."""
        if self.place == "none":
            return 1
        if self.axis >= len(shape):
            return 0
        size = shape[self.axis]
        if self.place == "own":
            return int(size == batch)
        return size // batch if size % batch == 0 else 0


class Kept(NamedTuple):
    """An input of a call, as it was."""

    tensor: Tensor
    version: int

    def read(self) -> Tensor:
        """The input, if nobody has changed it since (dl-240)."""
        if self.tensor._version != self.version:
            raise BadInput(
                "dl-240",
                asked="every example's gradient, from the inputs of the layers",
                found=f"an input of shape {tuple(self.tensor.shape)} that was changed in place after a layer had read it",
                do="write the change out of place: x = x + y instead of x += y",
            )
        return self.tensor


@dataclasses.dataclass(frozen=True)
class Call:
    """One watched call, as its rule sees it: which arguments are parameters, and where the batch is."""

    find: Callable[[Any], Part | None]
    batch: int
    where: Where
    inputs: list[Kept] = dataclasses.field(default_factory=list)

    def keep(self, tensor: Tensor) -> Kept:
        """Keep an input for the backward pass."""
        kept = Kept(tensor.detach(), tensor._version)
        self.inputs.append(kept)
        return kept

    def input(self, kept: Kept, features: int) -> Tensor:
        """An input as ``[b, t, ...]``, its last ``features`` axes as they are."""
        tensor = kept.read()
        if self.where.place == "none":
            tensor = tensor.expand(self.batch, *tensor.shape)
        return self.gradient(tensor, features)

    def gradient(self, gradient: Tensor, features: int) -> Tensor:
        """The value's gradient as ``[b, t, ...]``, likewise."""
        rest = gradient.shape[gradient.ndim - features :]
        if self.where.place == "own":
            gradient = gradient.movedim(self.where.axis, 0)
        elif self.where.place == "inner":
            gradient = gradient.unflatten(0, (-1, self.batch)).movedim(1, 0)
        return gradient.reshape(self.batch, -1, *rest)


Gradients = Callable[[Tensor], Iterator[tuple[Part, Contribution]]]
"""From the gradient of a value to what each parameter gets."""
Take = Callable[[str, Contribution], None]
"""Called with every use of a parameter, as the backward pass comes by it."""
Rule = Callable[..., Gradients | None]
"""Called with the :class:`Call` and then as the function was; None where the call is not one for the rule."""


class Rules(NamedTuple):
    """What a tape understands: calls it taps, calls whose inside it watches, calls that give parts of parameters.

    ``prepared`` gives a tapped call other arguments with the same numbers, ``replaced`` are calls that would mind.
    """

    prepared: Mapping[Any, Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]]
    replaced: Mapping[Any, Callable[..., Any]]
    tapped: Mapping[Any, Rule]
    opened: Mapping[Any, Callable[..., Any]]
    derived: Mapping[Any, Callable[..., Any]]


class Tape(TorchFunctionMode):
    """Watches a forward pass of ``batch`` examples; ``take`` gets the contributions during the backward pass.

    ``places`` says where every tapped value has its batch. What comes after the last one is noted, not tapped.
    Without (``None``) the batch is one row, to which every value belongs whole. Calls with parameters ``elsewhere``,
    whose gradients are computed by other means, are counted and not tapped.
    """

    def __init__(
        self,
        params: Mapping[str, Tensor],
        batch: int,
        rules: Rules,
        places: tuple[Where, ...] | None = (),
        take: Take | None = None,
        elsewhere: Set[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.batch, self.rules, self.take = batch, rules, take
        self.places = places
        self.parts: dict[int, Part] = {
            id(tensor): Part(name) for name, tensor in params.items() if name not in elsewhere
        }
        self.elsewhere = {id(params[name]): name for name in elsewhere if name in params}
        self.alive: list[Tensor] = list(params.values())  # an id is of one tensor only while that one lives
        self.values: list[Tensor] = []
        self.count = 0
        self.names: list[set[str]] = []
        self.multiples: list[int] = []
        self.unruled: list[tuple[str, str]] = []
        self.on_unruled: Callable[[str], None] = lambda _: None
        self.uses_elsewhere: Counter[str] = Counter()
        self.numbers_read: list[float | int | bool] = []
        self.moves_rows = False
        self.inputs: list[Kept] = []
        self.digest: RowDigest | None = None
        self.anchor = torch.zeros((), requires_grad=True)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function; tap its value if a parameter went in and there is a rule for it."""
        kwargs = kwargs or {}
        given = {*self._named(args), *self._named(kwargs.values())}
        if not given or is_beside():
            value = self.rules.replaced.get(func, func)(*args, **kwargs)
            if not is_beside():
                self._note(func, args, kwargs, value)
            return value
        if func in self.rules.opened:
            with self:
                return self.rules.opened[func](*args, **kwargs)
        if func in self.rules.prepared:
            args, kwargs = self.rules.prepared[func](*args, **kwargs)
        value = func(*args, **kwargs)
        if not _holds_tensors(value):
            self._note(func, args, kwargs, value)
            return value
        if func in self.rules.derived and self._derive(self.rules.derived[func], value, args, kwargs):
            return value
        if func in self.rules.tapped and isinstance(value, Tensor):
            tapped = self._tap(self.rules.tapped[func], value, given, args, kwargs)
            if tapped is not None:
                return tapped
        for name in given:
            self.unruled.append((name, getattr(func, "__name__", str(func))))
            self.on_unruled(name)
        return value

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> None:
        """What decides whether this batch is like others: numbers read from tensors, calls that may move rows."""
        if self.elsewhere:
            self.uses_elsewhere.update(
                self.elsewhere[id(part)] for part in _leaves((args, kwargs)) if id(part) in self.elsewhere
            )
        if isinstance(value, bool | int | float) and read_as_number(func):
            self.numbers_read.append(value)
        elif not self.moves_rows:
            self.moves_rows = may_move_rows(func, args, kwargs, self.batch)

    def follows(self, names: tuple[frozenset[str], ...], uses_elsewhere: Mapping[str, int]) -> bool:
        """Whether the calls of this batch were those of the survey, each with its rows shared out evenly."""
        return (
            not self.unruled
            and self.uses_elsewhere == Counter(uses_elsewhere)
            and tuple(map(frozenset, self.names)) == names
            and all(self.multiples)
        )

    def check_inputs(self) -> None:
        """Refuse inputs of layers that were changed in place since (dl-240)."""
        for kept in self.inputs:
            kept.read()

    @property
    def signature(self) -> tuple[Any, ...]:
        """What can differ between batches whose calls are the same: entries for a row, numbers that code has read."""
        return (*self.multiples, None, *self.numbers_read)

    def find(self, tensor: Any) -> Part | None:
        """The parameter behind an argument."""
        return self.parts.get(id(tensor)) if isinstance(tensor, Tensor) else None

    def _named(self, given: Iterable[Any]) -> Iterator[str]:
        """The parameters among nested arguments."""
        for one in given:
            if (part := self.parts.get(id(one))) is not None:
                yield part.name
            elif isinstance(one, list | tuple | dict):
                yield from self._named(one.values() if isinstance(one, dict) else one)

    def _derive(self, parts_of: Callable[..., Any], value: Any, args: tuple[Any, ...], kwargs: Any) -> bool:
        """Note the parts of a parameter that a call gave (its transpose, some rows); whether it did."""
        found = parts_of(self.find(args[0]), *args, **kwargs)
        if found is None:
            return False
        values = (value,) if isinstance(value, Tensor) else tuple(value)
        self.parts.update({id(one): part for one, part in zip(values, found, strict=True)})
        self.alive.extend(values)
        return True

    def _tap(
        self, rule: Rule, value: Tensor, given: set[str], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor | None:
        number = self.count
        where = self._where(number, value)
        call = Call(self.find, self.batch, where, self.inputs)
        gradients = None if value.is_complex() else rule(call, *args, **kwargs)
        if self.take is None:
            self.values.append(value.detach().clone())
        self.count += 1  # with or without a rule, so that a call keeps its number from pass to pass
        self.names.append(given if gradients is not None else set())
        if gradients is None:
            self.multiples.append(1)
            return None
        multiple = where.multiple(value.shape, self.batch)
        self.multiples.append(multiple)
        if (self.places is not None and number >= len(self.places)) or where.place == "odd" or not multiple:
            return value
        if where.place == "none":
            lead = value.shape[1:] if value.shape[:1] == (1,) else value.shape
            value = value.expand(self.batch, *lead).clone()
        return tap(value, self.anchor, lambda gradient: self._show(number, call, gradients, gradient))

    def _where(self, number: int, value: Tensor) -> Where:
        if self.places is None:
            return Where("own" if value.shape[:1] == (1,) else "outer")
        return self.places[number] if number < len(self.places) else Where("none")

    def _show(self, number: int, call: Call, gradients: Gradients, gradient: Tensor) -> bool:
        """Hand on what a value's gradient tells; whether the graph is needed once more."""
        if self.digest is not None:
            self.digest.add(number, call.gradient(gradient, 0))
            if self.digest.alone:
                return True
        if self.take is not None:
            for part, found in gradients(gradient):
                self.take(part.name, whole(part, found))
        return False

    def backward(self, total: Tensor) -> None:
        """Every example's gradient of a sum of one value per example."""
        again = self.digest is not None and self.digest.alone
        if total.requires_grad:
            torch.autograd.grad(total, self.anchor, allow_unused=True, retain_graph=again)


def tap(value: Tensor, anchor: Tensor, show: Callable[[Tensor], bool]) -> Tensor:
    """The value; ``show`` gets its gradient in a backward pass to the anchor, in a further one if it says so."""
    if value._is_view():  # a change in place would make autograd copy its base
        value = torch.ops.aten._unsafe_view(value, value.shape)
    return _Tap.apply(value, anchor, show)


class _Tap(torch.autograd.Function):
    """The identity, in place; backward shows the gradient that passes."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, anchor: Tensor, show: Callable[[Tensor], bool]) -> Tensor:  # noqa: ARG004
        ctx.mark_dirty(value)
        ctx.show = show
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        show, ctx.show = ctx.show, None
        if show(gradient):
            ctx.show = show
        return gradient, None, None


def whole(part: Part, found: Contribution) -> Contribution:
    """A contribution to part of a parameter as one to all of it."""
    if part.rows is not None:
        first, last, of = part.rows
        if isinstance(found, Outer) and found.left.shape[1] == 1:
            found = found._replace(left=torch.nn.functional.pad(found.left, (first, of - last)))
        else:
            product = found.product()
            padded = product.new_zeros(len(product), of, *product.shape[2:])
            padded[:, first:last] = product
            found = Direct(padded)
    if part.transposed:
        if isinstance(found, Outer) and found.left.shape[1] == 1:
            return Outer(found.right, found.left)
        return Direct(found.product().mT)
    return found


def places_of(two: list[Tensor], three: list[Tensor]) -> tuple[Where, ...]:
    """Where the batch is in every value, from the values of two examples and of these two and a third."""
    nothing = torch.empty(0)
    return tuple(_place(a, b) for a, b in itertools.zip_longest(two, three, fillvalue=nothing))


def _place(two: Tensor, three: Tensor) -> Where:
    if two.shape == three.shape:
        return Where("none")
    differing = [axis for axis in range(min(two.ndim, three.ndim)) if two.shape[axis] != three.shape[axis]]
    if two.ndim != three.ndim or len(differing) != 1:
        return Where("odd")
    (axis,) = differing
    if (two.shape[axis], three.shape[axis]) == (2, 3):
        return Where("own", axis)
    if axis != 0 or two.shape[0] % 2 or two.shape[0] // 2 * 3 != three.shape[0]:
        return Where("odd")
    outer = _close(two.unflatten(0, (2, -1)), three.unflatten(0, (3, -1))[:2])
    inner = _close(two.unflatten(0, (-1, 2)), three.unflatten(0, (-1, 3))[:, :2])
    return Where("odd") if outer == inner else Where("outer" if outer else "inner")


def _close(one: Tensor, other: Tensor) -> bool:
    """Alike but for rounding."""
    scale = float(one.abs().max()) if one.numel() else 0.0
    return bool(((one - other).abs() <= 1e-4 * scale).all())


def _leaves(nested: Any) -> Iterator[Any]:
    """What nested arguments hold."""
    if isinstance(nested, list | tuple | dict):
        for part in nested.values() if isinstance(nested, dict) else nested:
            yield from _leaves(part)
    else:
        yield nested


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, tuple | list) and any(isinstance(one, Tensor) for one in value)
    )
