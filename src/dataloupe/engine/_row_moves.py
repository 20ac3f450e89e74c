"""Calls that can move data from one row of a batch to another, or whose work depends on what the rows hold."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Args = tuple[Any, ...]
Named = Mapping[str, Any]


def may_move_rows(func: Any, args: Args, kwargs: Named, batch: int) -> bool:
    """Whether this call can have moved data between rows of the batch: a guess on the safe side.

    It decides where a batch is looked at more closely (two backward passes), and nothing else.
    """
    test = _TESTS.get(func)
    return batch > 1 and test is not None and test(args, kwargs, batch)


def read_as_number(func: Any) -> bool:
    """Whether a call gives Python code a number out of a tensor: what the code does next may depend on it."""
    return func in _READS


def batch_axis(tensor: Tensor, batch: int) -> int | None:
    """The axis that is most likely the batch's: the first of its size, else the first of a multiple of it."""
    for fits in (lambda size: size == batch, lambda size: size > 0 and size % batch == 0):
        for axis, size in enumerate(tensor.shape):
            if fits(size):
                return axis
    return None


def _argument(args: Args, kwargs: Named, place: int, name: str, default: Any = None) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _meets(tensor: Any, dims: Any, batch: int) -> bool:
    """Whether one of these axes may be the batch's (``None``: all of them)."""
    if not isinstance(tensor, Tensor) or tensor.ndim == 0:
        return False
    axis = batch_axis(tensor, batch)
    if axis is None:
        return False
    if dims is not None and not isinstance(dims, int | tuple | list):
        return False  # an element-wise maximum, say
    every = range(tensor.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    return axis in {dim % tensor.ndim for dim in every if isinstance(dim, int)}


def _always(_: Args, __: Named, ___: int) -> bool:
    return True


def _along(default: Any, *, differentiable: bool = True) -> Callable[[Args, Named, int], bool]:
    """For calls with the axis second."""

    def test(args: Args, kwargs: Named, batch: int) -> bool:
        tensor = _argument(args, kwargs, 0, "input")
        dims = _argument(args, kwargs, 1, "dim", default)
        relevant = isinstance(tensor, Tensor) and (tensor.requires_grad or not differentiable)
        return relevant and _meets(tensor, dims, batch)

    return test


def _top(args: Args, kwargs: Named, batch: int) -> bool:
    return _meets(_argument(args, kwargs, 0, "input"), _argument(args, kwargs, 2, "dim", -1), batch)


def _flipped(args: Args, kwargs: Named, batch: int) -> bool:
    dims = args[1:] if len(args) > 1 else (kwargs.get("dims"),)
    flat = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    return args[0].requires_grad and _meets(args[0], flat, batch)


def _rolled(args: Args, kwargs: Named, batch: int) -> bool:
    return args[0].requires_grad and _meets(args[0], _argument(args, kwargs, 2, "dims"), batch)


def _picked(args: Args, kwargs: Named, batch: int) -> bool:
    """Rows picked along an axis, of a value that is differentiated or into one."""
    tensor, dim = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "dim", 0)
    tensors = [part for part in (*args, *kwargs.values()) if isinstance(part, Tensor)]
    if not any(part.requires_grad for part in tensors) or not isinstance(dim, int):
        return False
    return _meets(tensor, dim, batch) or dim == 0


def _indexed(args: Args, _: Named, batch: int) -> bool:
    """``x[...]`` with a tensor among the indices: a mask, or row numbers that are not simply 0 to b - 1."""
    tensor, index = args[0], args[1]
    places = index if isinstance(index, tuple) else (index,)
    tensors = [part for part in places if isinstance(part, Tensor)]
    if not tensors:
        return False
    if any(part.dtype in (torch.bool, torch.uint8) for part in tensors):
        return True
    if not any(part.requires_grad for part in args if isinstance(part, Tensor)):
        return False
    axis, known = 0, batch_axis(tensor, batch)
    for number, part in enumerate(places):
        if part is None:
            continue
        if part is Ellipsis:
            axis = tensor.ndim - sum(1 for later in places[number + 1 :] if later is not None)
            continue
        if isinstance(part, Tensor) and axis in (0, known) and not _in_order(part, tensor.shape[axis]):
            return True
        axis += 1
    return False


def _in_order(index: Tensor, size: int) -> bool:
    """Whether an index is 0, 1, 2, ... over the whole axis: every row stays where it is."""
    rows = index.flatten()
    return len(rows) == size and bool((rows == torch.arange(size, device=rows.device)).all())


def _repeated(args: Args, kwargs: Named, _: int) -> bool:
    return isinstance(_argument(args, kwargs, 1, "repeats"), Tensor)


def _one_argument(args: Args, kwargs: Named, _: int) -> bool:
    return len(args) + len(kwargs) == 1


def _contracted(args: Args, kwargs: Named, batch: int) -> bool:
    """A product that sums over the batch: an adjacency matrix, x' x."""
    one, two = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "other")
    if two is None:
        two = kwargs.get("mat2")
    if (
        not isinstance(one, Tensor)
        or not isinstance(two, Tensor)
        or not (one.requires_grad or two.requires_grad)
    ):
        return False
    right = two.ndim == 2 and two.requires_grad and batch_axis(two, batch) == 0
    left = one.ndim == 2 and one.requires_grad and batch_axis(one, batch) == 1
    return right or left


def _of_both(names: str) -> tuple[Any, ...]:
    """Functions of these names, of ``torch`` and of ``Tensor``."""
    return tuple(getattr(owner, name) for owner in (torch, Tensor) for name in names.split())


def _in_place(names: str) -> tuple[Any, ...]:
    return tuple(getattr(Tensor, f"{name}_") for name in names.split())


_FLAT = (torch.nonzero, Tensor.nonzero, torch.argwhere, Tensor.argwhere, torch.masked_select)
_READS = frozenset(
    {
        Tensor.item,
        Tensor.__bool__,
        Tensor.__int__,
        Tensor.__float__,
        Tensor.__index__,
        torch.equal,
        Tensor.equal,
        torch.allclose,
        Tensor.allclose,
        torch.is_nonzero,
        Tensor.is_nonzero,
    }
)
_TESTS: dict[Any, Callable[[Args, Named, int], bool]] = {
    **dict.fromkeys(
        (
            *_FLAT,
            Tensor.masked_select,
            torch.unique,
            Tensor.unique,
            torch.unique_consecutive,
            Tensor.unique_consecutive,
            Tensor.masked_scatter,
            Tensor.masked_scatter_,
            Tensor.numpy,
            Tensor.__array__,
            Tensor.tolist,
            Tensor.data_ptr,
            torch._VF._pack_padded_sequence,
            torch.take,
            Tensor.take,
            torch.bincount,
            Tensor.bincount,
        ),
        _always,
    ),
    torch.where: _one_argument,
    **dict.fromkeys((torch.flip, Tensor.flip), _flipped),
    **dict.fromkeys((torch.roll, Tensor.roll), _rolled),
    **dict.fromkeys((torch.repeat_interleave, Tensor.repeat_interleave), _repeated),
    **dict.fromkeys(
        (torch.sort, Tensor.sort, torch.argsort, Tensor.argsort), _along(-1, differentiable=False)
    ),
    **dict.fromkeys((torch.topk, Tensor.topk), _top),
    **dict.fromkeys((Tensor.__getitem__, Tensor.__setitem__, Tensor.index_put, Tensor.index_put_), _indexed),
    **dict.fromkeys(
        _of_both("index_select index_add index_copy index_fill gather scatter scatter_add"), _picked
    ),
    **dict.fromkeys(_in_place("index_add index_copy index_fill scatter scatter_add scatter_reduce"), _picked),
    **dict.fromkeys(_of_both("scatter_reduce"), _picked),
    **dict.fromkeys(_of_both("mean sum amax amin max min std var prod median logsumexp"), _along(None)),
    **dict.fromkeys(
        (*_of_both("softmax log_softmax cumsum cumprod"), F.softmax, F.log_softmax), _along(None)
    ),
    **dict.fromkeys(
        (torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__, torch.bmm, Tensor.bmm),
        _contracted,
    ),
}
