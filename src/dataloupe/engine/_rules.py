"""What each function of torch does to the gradients of the parameters it is given: one rule a function."""

# ruff: noqa: A002, ARG001  (rules are called as the functions are)

import types
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dataloupe._errors import CapabilityError
from dataloupe.core import Contribution, Direct, Outer, Picked
from dataloupe.engine._convolutions import channels_last, convolution, ordered, transposed_convolution, viewed
from dataloupe.engine._tape import Call, Gradients, Part, Rules

Found = Iterator[tuple[Part, Contribution]]


def linear(call: Call, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Gradients | None:
    """y = x W' + b."""
    w, b = call.find(weight), call.find(bias)
    if call.find(input):
        return None
    kept = call.keep(input) if w else None

    def gradients(gradient: Tensor) -> Found:
        left = call.gradient(gradient, 1)
        if w and kept:
            yield w, Outer(left[:, None], call.input(kept, 1)[:, None])
        if b:
            yield b, Direct(left.sum(1))

    return gradients


def addmm(
    call: Call, input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1.0, alpha: float = 1.0
) -> Gradients | None:
    """y = beta b + alpha x W."""
    w, b = call.find(mat2), call.find(input)
    if call.find(mat1) or (b and input.ndim != 1):
        return None
    kept = call.keep(mat1) if w else None

    def gradients(gradient: Tensor) -> Found:
        right = call.gradient(gradient, 1)
        if w and kept:
            yield w, Outer(alpha * call.input(kept, 1)[:, None], right[:, None])
        if b:
            yield b, Direct(beta * right.sum(1))

    return gradients


def matmul(call: Call, input: Tensor, other: Tensor) -> Gradients | None:
    """y = x W."""
    w = call.find(other)
    if w is None or call.find(input) or other.ndim != 2 or input.ndim < 2:
        return None
    kept = call.keep(input)

    def gradients(gradient: Tensor) -> Found:
        yield w, Outer(call.input(kept, 1)[:, None], call.gradient(gradient, 1)[:, None])

    return gradients


def embedding(
    call: Call,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Gradients | None:
    """y_t = W[ids_t]; the padding row has no gradient."""
    w = call.find(weight)
    if w is None or w.rows or w.transposed or scale_grad_by_freq or max_norm is not None:
        return None
    kept, rows = call.keep(input), weight.shape[0]

    def gradients(gradient: Tensor) -> Found:
        ids, right = call.input(kept, 0), call.gradient(gradient, 1)
        if padding_idx is not None:
            right = right.masked_fill((ids == padding_idx)[..., None], 0.0)
        yield w, Picked(ids, right, rows)

    return gradients


def layer_norm(
    call: Call, input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Gradients | None:
    """y = norm(x) w + b over the last axes."""
    return _scaled(
        call, input, weight, bias, len(normalized_shape), lambda x: F.layer_norm(x, normalized_shape, eps=eps)
    )


def rms_norm(
    call: Call, input: Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Gradients | None:
    """y = x / rms(x) w over the last axes."""
    return _scaled(
        call, input, weight, None, len(normalized_shape), lambda x: F.rms_norm(x, normalized_shape, eps=eps)
    )


def _scaled(
    call: Call, input: Tensor, weight: Any, bias: Any, features: int, normal: Any
) -> Gradients | None:
    w, b = call.find(weight), call.find(bias)
    if call.find(input):
        return None
    kept = call.keep(input) if w else None

    def gradients(gradient: Tensor) -> Found:
        passed = call.gradient(gradient, features)
        if w and kept:
            yield w, Direct((passed * normal(call.input(kept, features))).sum(1))
        if b:
            yield b, Direct(passed.sum(1))

    return gradients


def batch_norm(  # budget: 9 parameters, as torch's own
    call: Call,
    input: Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Gradients | None:
    """With running statistics: y = (x - mean) / sqrt(var + eps) w + b, channel by channel (dl-241 without)."""
    if training:
        raise CapabilityError(
            "dl-241",
            asked="every example's own gradient",
            found="a batch normalisation with the statistics of the batch: an example alone has another output",
            do="use track_running_stats=True and evaluation mode, or GroupNorm / LayerNorm",
        )

    def normal(x: Tensor) -> Tensor:
        return F.batch_norm(x, running_mean, running_var, eps=eps)

    return _channels(call, input, weight, bias, normal)


def group_norm(
    call: Call, input: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Gradients | None:
    """y = norm(x) w + b, channel by channel."""
    return _channels(call, input, weight, bias, lambda x: F.group_norm(x, num_groups, eps=eps))


def _channels(call: Call, input: Tensor, weight: Any, bias: Any, normal: Any) -> Gradients | None:
    w, b = call.find(weight), call.find(bias)
    if call.where.axis != 0 or call.find(input):
        return None
    kept, features = call.keep(input), input.ndim - 1

    def gradients(gradient: Tensor) -> Found:
        passed = call.gradient(gradient, features)
        if w:
            x = call.input(kept, features)
            scaled = normal(x.flatten(0, 1)).view_as(passed).mul_(passed)
            yield w, Direct(scaled.flatten(3).sum((1, 3)) if features > 1 else scaled.sum(1))
        if b:
            yield b, Direct(passed.flatten(3).sum((1, 3)) if features > 1 else passed.sum(1))

    return gradients


def add(call: Call, input: Any, other: Any, *, alpha: float = 1.0) -> Gradients | None:
    """y = x + alpha theta, broadcast."""
    return _broadcast(call, input, other, (1.0, alpha), None)


def mul(call: Call, input: Any, other: Any) -> Gradients | None:
    """y = x theta, broadcast."""
    first = call.find(input) is not None
    return _broadcast(call, input, other, (1.0, 1.0), other if first else input)


def _broadcast(call: Call, one: Any, two: Any, signs: tuple[float, float], factor: Any) -> Gradients | None:
    p, q = call.find(one), call.find(two)
    part, theta, other, sign = (p, one, two, signs[0]) if p else (q, two, one, signs[1])
    ndim = max(theta.ndim, other.ndim if isinstance(other, Tensor) else 0)
    if (p and q) or part is None or not _spreads(call, part, theta, ndim):
        return None
    kept = call.keep(factor) if isinstance(factor, Tensor) else None

    def gradients(gradient: Tensor) -> Found:
        scale = 1.0 if factor is None else factor if kept is None else kept.read()
        yield part, Direct(_gathered(call, sign * gradient * scale, theta.shape, ndim))

    return gradients


def expand(call: Call, input: Tensor, *sizes: Any, **_: Any) -> Gradients | None:
    """y = theta, once for every example."""
    part = call.find(input)
    first = sizes[0] if sizes else 0
    ndim = first.ndim if isinstance(first, Tensor) else len(sizes) if isinstance(first, int) else len(first)
    if part is None or not _spreads(call, part, input, ndim):
        return None
    shape = input.shape
    return lambda gradient: iter([(part, Direct(_gathered(call, gradient, shape, ndim)))])


def _spreads(call: Call, part: Part, theta: Tensor, ndim: int) -> bool:
    """Whether a whole parameter meets every example alike."""
    axis = call.where.axis - (ndim - theta.ndim)
    alike = axis < 0 or theta.shape[axis] == 1
    return not (part.transposed or part.rows) and (
        call.where.place == "none" or (call.where.place == "own" and alike)
    )


def _gathered(call: Call, gradient: Tensor, shape: torch.Size, ndim: int) -> Tensor:
    """The gradient of a value, summed over all that a parameter was spread over, but for the examples."""
    aligned = (1,) * (ndim - len(shape)) + tuple(shape)
    if call.where.place == "own":
        gradient = gradient.movedim(call.where.axis, 0)
        aligned = aligned[: call.where.axis] + aligned[call.where.axis + 1 :]
    elif gradient.ndim == ndim:
        aligned = aligned[1:]
    spread = [axis + 1 for axis, size in enumerate(aligned) if size == 1 and gradient.shape[axis + 1] != 1]
    summed = gradient.sum(spread) if spread else gradient
    return summed.reshape(len(gradient), *shape)


# --- parts of parameters, and functions whose inside is watched --------------------------------------------


def transposed(part: Part | None, tensor: Tensor, *axes: int, **_: Any) -> tuple[Part] | None:
    """The transpose of a matrix."""
    if part is None or part.rows or tensor.ndim != 2 or (axes and {a % 2 for a in axes} != {0, 1}):
        return None
    return (part._replace(transposed=not part.transposed),)


def split(part: Part | None, tensor: Tensor, sizes: Any, dim: int = 0) -> list[Part] | None:
    """Rows of a parameter, in pieces of these sizes."""
    if part is None or part.rows or part.transposed or dim != 0:
        return None
    total = tensor.shape[0]
    if isinstance(sizes, int):
        sizes = [min(sizes, total - start) for start in range(0, total, sizes)]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [part._replace(rows=(end - size, end, total)) for size, end in zip(sizes, ends, strict=True)]


def chunk(part: Part | None, tensor: Tensor, chunks: int, dim: int = 0) -> list[Part] | None:
    """Rows of a parameter, in so many pieces."""
    return split(part, tensor, -(-tensor.shape[0] // chunks), dim)


def _opened(function: Any) -> Any:
    """A Python function of torch with its own dispatch switched off, so that the calls inside it are watched."""
    inside = {**function.__globals__, "has_torch_function": lambda _: False}
    copy = types.FunctionType(function.__code__, inside, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


_T, _MT = (vars(torch._C.TensorBase)[name].__get__ for name in ("T", "mT"))


RULES = Rules(
    prepared={F.conv2d: channels_last},
    replaced={
        Tensor.view: viewed,
        Tensor.view_as: lambda tensor, other: viewed(tensor, other.shape),
        **{shape: ordered(shape) for shape in (Tensor.flatten, torch.flatten, Tensor.reshape, torch.reshape)},
    },
    tapped={
        F.linear: linear,
        **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), convolution),
        **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), transposed_convolution),
        F.embedding: embedding,
        F.layer_norm: layer_norm,
        F.rms_norm: rms_norm,
        F.batch_norm: batch_norm,
        F.group_norm: group_norm,
        torch.addmm: addmm,
        **dict.fromkeys((torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__), matmul),
        **dict.fromkeys((torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__), add),
        **dict.fromkeys((Tensor.expand, Tensor.expand_as), expand),
        **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__), mul),
    },
    opened={F.multi_head_attention_forward: _opened(F.multi_head_attention_forward)},
    derived={
        **dict.fromkeys(
            (Tensor.t, torch.t, _T, _MT, torch.transpose, Tensor.transpose),
            transposed,
        ),
        **dict.fromkeys((torch.split, Tensor.split), split),
        **dict.fromkeys((torch.chunk, Tensor.chunk), chunk),
    },
)
