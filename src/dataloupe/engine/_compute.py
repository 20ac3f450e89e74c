"""Where gradients are computed, and in which precision."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from dataloupe._errors import BadInput, CapabilityError, DataloupeError
from dataloupe._typing import Facts, Inputs
from dataloupe.core import (
    Contribution,
    Outer,
    Output,
    Rows,
    TorchModel,
    averaged,
    content_keys,
    map_inputs,
)

Precision = Literal["model", "fp32", "tf32", "bf16"]
_TYPES = {"model": None, "fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
_HALF = (torch.float16, torch.bfloat16)
FAR = 0.1
"""The relative distance from which gradients in reduced precision are no longer those of the model."""
ELSEWHERE = re.compile(
    "same device|different device|two devices|expected device|meta tensor|same dtype|should be the same|expected scalar type"
)


@dataclasses.dataclass(frozen=True)
class Compute:
    """Where gradients are computed, and in which precision: both decide bits, and so belong to what is kept.

    ``device`` is "cpu", "cuda" or "cuda:1"; the model and every batch are moved there. ``precision`` is

    - ``"model"``: the types that the parameters have;
    - ``"fp32"``: everything cast to it, and products of matrices exact;
    - ``"tf32"``: the same with factors of products rounded to ten bits (tensor cores of a GPU);
    - ``"bf16"``: parameters and floating inputs cast to it.

    Whatever it is, predictions, sketches and sums are fp32 or better. A model in reduced precision is first held
    against itself in full precision on a few examples, and refused if its gradients are off by more than 10 %,
    unless ``force`` says to go on.

    Raises ``BadInput`` dl-231 (a device or precision that is not there).

    >>> Compute("cpu", "bf16").on
    device(type='cpu')
    """

    device: str = "cpu"
    precision: Precision = "model"
    force: bool = dataclasses.field(default=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what is not there."""
        words = isinstance(self.device, str) and isinstance(self.precision, str)
        kind = str(self.device).partition(":")[0]
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        there = ["cpu", *["cuda"] * bool(count), *(f"cuda:{i}" for i in range(count))]
        fits = words and self.precision in _TYPES and (kind == "cuda" or self.precision != "tf32")
        if not fits or self.device not in there:
            raise BadInput(
                "dl-231",
                asked=f"gradients on {self.device!r} in {self.precision!r}",
                found=f"the devices {', '.join(there)}",
                do=f"use one of them, and one of {', '.join(get_args(Precision))} (tf32 on a GPU only)",
            )

    @classmethod
    def of(cls, device: "str | Compute", precision: Precision) -> "Compute":
        """As a lab is told: by two words, or whole."""
        if isinstance(device, Compute):
            return device if precision == "model" else dataclasses.replace(device, precision=precision)
        return cls(device, precision)

    def __identity__(self) -> dict[str, str]:
        """The kind of device and the precision."""
        return {"device": self.on.type, "precision": self.precision}

    @property
    def on(self) -> torch.device:
        """The device, as torch knows it."""
        return torch.device(self.device)

    @property
    def at_once(self) -> tuple[int, int, int]:
        """The most rows of a batch, and numbers of its values in all and in the largest.

        The largest is to stay near a CPU's cache. A GPU wants large batches, since launching costs more than computing:
        they take about a fifth of its memory.
        """
        if self.on.type != "cuda":
            return 512, 1 << 24, 1 << 21
        numbers = torch.cuda.get_device_properties(self.on).total_memory // 40
        return 4096, numbers, numbers

    def facts(self) -> dict[str, str]:
        """What of it decides bits."""
        if self.on.type == "cpu":
            return {"precision": self.precision}
        card = torch.cuda.get_device_properties(self.on)
        return {
            "precision": self.precision,
            "device": f"{card.name} ({card.major}.{card.minor})",
            "cuda": str(torch.version.cuda or torch.version.hip),
        }

    # --- the model and its rows, there ---

    def model(self, given: TorchModel) -> TorchModel:
        """The model at work; in half precision it gives what it predicts in fp32."""
        params, buffers = (
            {name: _cast(tensor, self.on, _TYPES[self.precision]) for name, tensor in tensors.items()}
            for tensors in (given.params, given.buffers)
        )
        live = dataclasses.replace(given, params=params, buffers=buffers)
        return _Widened(live.module, params, buffers) if halved(live) else live

    def full(self, given: TorchModel) -> TorchModel:
        """The model in full precision: fp32, or more where it has more."""
        params, buffers = (
            {name: widened(tensor.to(self.on)) for name, tensor in tensors.items()}
            for tensors in (given.params, given.buffers)
        )
        return dataclasses.replace(given, params=params, buffers=buffers)

    def rows(self, rows: Rows, *, full: bool = False) -> Rows:
        """Rows there, their inputs cast as the model is; labels keep their type."""
        dtype = _TYPES[self.precision]

        def moved(part: Tensor) -> Tensor:
            return widened(part.to(self.on)) if full else _cast(part, self.on, dtype)

        labels, weights = (
            None if part is None else part.to(self.on) for part in (rows.labels, rows.row_weights)
        )
        keys = content_keys(rows).to(self.on) if dtype is torch.bfloat16 and not full else None
        return Rows(map_inputs(moved, rows.inputs), labels, weights, keys)

    # --- while it works ---

    @contextmanager
    def running(self, *, full: bool = False) -> Iterator[None]:
        """Products as the precision says (``full``: exact), and everything in a fixed order."""
        tf32 = not full and self.precision in ("tf32", "bf16")
        with nullcontext() if self.on.type == "cpu" else products(tf32=tf32):
            yield

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Tells of modules that make tensors on another device or of another type (dl-232)."""
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, DataloupeError) or not ELSEWHERE.search(str(error)):
                raise
            raise CapabilityError(
                "dl-232",
                asked=f"a forward pass on {self.on} in {self.precision}",
                found=str(error).splitlines()[0],
                do="make tensors in forward like an input or a parameter (device=x.device, dtype=weight.dtype), or register them as buffers",
            ) from error

    # --- guards ---

    def checked(
        self,
        output: Output,
        given: TorchModel,
        rows: Rows,
        component: Int[Tensor, " b"],
        found: Callable[[], Mapping[str, Tensor]],
    ) -> Facts:
        """How far gradients ``found`` in reduced precision are from those of a few rows in full (dl-246, dl-247)."""
        if not halved(self.model(given)) and self.precision != "tf32":
            return {}
        apart = size = 0.0
        here = found()
        for i, which in enumerate(component.tolist()):
            exact = self._full_gradient(output, given, one_row(rows, i), which)
            if exact is None:
                continue  # of a diverged model: counted elsewhere
            ours = {name: part[i].view_as(exact[name]) for name, part in here.items()}
            if not _finite(ours.values()):
                self._refuse_overflow(given)
            none = torch.zeros((), device=self.on)
            apart += sum(float((ours.get(name, none) - part).square().sum()) for name, part in exact.items())
            size += sum(float(part.square().sum()) for part in exact.values())
        if size == 0.0:
            return {}
        error = (apart / size) ** 0.5
        if not error <= FAR and not self.force:
            raise CapabilityError(
                "dl-246",
                asked=f"gradients in the precision {self.precision!r}",
                found=f"gradients {error:.1%} away from those in full precision, on {len(component)} examples",
                do="use precision='fp32', or go on nevertheless: Lab(..., force=True)",
            )
        return {"precision_error": float(f"{error:.2g}")}

    def check_overflow(self, output: Output, given: TorchModel, row: Rows, component: int) -> None:
        """A gradient that is not finite in fp16 must not be in full precision either (dl-247)."""
        if self._full_gradient(output, given, row, component) is not None:
            self._refuse_overflow(given)

    def _full_gradient(
        self, output: Output, given: TorchModel, row: Rows, component: int
    ) -> dict[str, Tensor] | None:
        """In full precision; None where it is not finite."""
        with self.running(full=True):
            found = plain_gradient(output, self.full(given), self.rows(row, full=True), component)
        return found if _finite(found.values()) else None

    def _refuse_overflow(self, given: TorchModel) -> None:
        if in_fp16(self.model(given)):
            raise CapabilityError(
                "dl-247",
                asked="gradients of a model in fp16",
                found="a gradient that is finite in full precision and overflows in fp16",
                do="use Lab(precision='bf16') or Lab(precision='fp32')",
            )


HOST = Compute()
"""Gradients where the data is, as the model is."""


class _Widened(TorchModel):
    """A model in half precision whose predictions are fp32, so that outputs of them are."""

    def predict(self, inputs: Inputs) -> Tensor:
        return widened(super().predict(inputs))


def halved(model: TorchModel) -> bool:
    """Whether a parameter has half precision."""
    return any(tensor.dtype in _HALF for tensor in model.params.values())


def in_fp16(model: TorchModel) -> bool:
    """Whether a parameter has the type that overflows."""
    return any(tensor.dtype == torch.float16 for tensor in model.params.values())


def widened(tensor: Tensor) -> Tensor:
    """Half precision as fp32, anything else as it is."""
    return tensor.float() if tensor.dtype in _HALF else tensor


def widened_factors(found: Contribution) -> Contribution:
    """A contribution whose products and sums will be fp32."""
    if not any(isinstance(part, Tensor) and part.dtype in _HALF for part in found):
        return found
    tensors: dict[str, Any] = {
        name: widened(part) for name, part in found._asdict().items() if isinstance(part, Tensor)
    }
    return found._replace(**tensors)


def to_host(tensor: Tensor) -> Tensor:
    """The same on the host; from a GPU to memory that is pinned, which it writes many times as fast."""
    if not tensor.is_cuda:
        return tensor.cpu()
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)


def on_host(found: Contribution) -> Contribution:
    """A contribution where arrays are, for methods that go on there."""
    if next(part for part in found if isinstance(part, Tensor)).device.type == "cpu":
        return found
    if isinstance(found, Outer):
        return Outer(found.left.cpu(), found.right.cpu(), found.kernel)
    tensors: dict[str, Any] = {
        name: part.cpu() for name, part in found._asdict().items() if isinstance(part, Tensor)
    }
    return found._replace(**tensors)


def one_row(rows: Rows, i: int) -> Rows:
    """One of the rows, as a batch."""
    rest = (None if part is None else part[i : i + 1] for part in rows[1:])
    return Rows(map_inputs(lambda part: part[i : i + 1], rows.inputs), *rest)


def plain_gradient(output: Output, model: TorchModel, row: Rows, component: int) -> dict[str, Tensor]:
    """Autograd's gradient of one output of one row, parameter by parameter."""
    with torch.enable_grad():
        params = {name: tensor.detach().clone().requires_grad_() for name, tensor in model.params.items()}
        value = averaged(output, model.with_params(params), row).reshape(-1)[component]
        found = torch.autograd.grad(value, list(params.values()), allow_unused=True)
    return {
        name: torch.zeros_like(tensor) if part is None else part
        for (name, tensor), part in zip(params.items(), found, strict=True)
    }


def _finite(parts: Iterable[Tensor]) -> bool:
    return all(bool(part.isfinite().all()) for part in parts)


@contextmanager
def products(*, tf32: bool) -> Iterator[None]:
    """Products on NVIDIA GPUs with or without tf32, sums of halves in fp32, no choice of kernels by the clock."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    wanted: list[tuple[Any, str, bool]] = [
        (matmul, "allow_bf16_reduced_precision_reduction", False),
        (matmul, "allow_fp16_reduced_precision_reduction", False),
        (cudnn, "deterministic", True),
        (cudnn, "benchmark", False),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in wanted]
    if hasattr(
        matmul, "fp32_precision"
    ):  # torch from 2.9; the older switch is set as well, but refuses to be read
        rounded = matmul.fp32_precision == "tf32", cudnn.conv.fp32_precision == "tf32"
    else:
        rounded = matmul.allow_tf32, cudnn.allow_tf32
    before += [(matmul, "allow_tf32", rounded[0]), (cudnn, "allow_tf32", rounded[1])]
    try:
        for where, name, value in [*wanted, (matmul, "allow_tf32", tf32), (cudnn, "allow_tf32", tf32)]:
            setattr(where, name, value)
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)


def _cast(tensor: Tensor, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(device, dtype) if dtype is not None and tensor.is_floating_point() else tensor.to(device)
