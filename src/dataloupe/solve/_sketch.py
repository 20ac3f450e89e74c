"""Random linear maps of gradients to fewer dimensions that keep inner products on average."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import scipy.special
import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import Contribution, Direct, sum_of
from dataloupe.kernels import bucket_add, on_gpu

BLOCK = 1 << 20
_BLOCK_NUMBERS = 1 << 24


class Flat:
    """A sketch of all parameters one after the other: each contribution is multiplied out, some rows at a time.

    ``add_part(out, rows [b, size], start)`` sketches the parameters from number ``start`` on.
    """

    def __init__(
        self,
        shapes: Mapping[str, torch.Size],
        width: int,
        add_part: Callable[[Tensor, Tensor, int], None],
    ) -> None:
        self.width = width
        self._sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        starts = np.cumsum([0, *self._sizes.values()]).tolist()
        self._starts = dict(zip(shapes, starts, strict=False))
        self._add_part = add_part

    def add(self, out: Float[Tensor, "b d"], name: str, *found: Contribution) -> None:
        """Add the sketch of contributions to ``out``."""
        at_once = max(1, _BLOCK_NUMBERS // max(1, self._sizes[name]))
        for rows in torch.arange(len(out)).split(at_once):
            span = slice(int(rows[0]), int(rows[-1]) + 1)
            product = sum_of([one.part(span).product().flatten(1) for one in found])
            self._add_part(out[span], product, self._starts[name])


def _projected(
    sketch: "HashSketch | DenseSketch | Exact", gradients: Float[Tensor, "b p"]
) -> Float[Tensor, "b d"]:
    bound = sketch.bind({"": gradients.shape[1:]})
    out = torch.zeros(len(gradients), bound.width, device=gradients.device)
    bound.add(out, "", Direct(gradients))
    return out


@dataclasses.dataclass(frozen=True)
class Exact:
    """No sketch at all: S x = x.

    >>> Exact().width(7), Exact().project(torch.ones(1, 2)).tolist()
    (7, [[1.0, 1.0]])
    """

    def width(self, p: int) -> int:
        """d = p."""
        return p

    def bind(self, shapes: Mapping[str, torch.Size]) -> Flat:
        """Every parameter at its place."""
        return Flat(shapes, _count(shapes), _place)

    def project(self, gradients: Float[Tensor, "b p"]) -> Float[Tensor, "b p"]:
        """The gradients as they are, in fp32."""
        return _projected(self, gradients)


@dataclasses.dataclass(frozen=True)
class HashSketch:
    """A sparse Johnson-Lindenstrauss map: parameter i goes, with a random sign, to ``s`` random buckets of ``dim``.

        (S x)_j = s^-1/2 sum_t sum_{i: bucket_t(i) = j} sign_t(i) x_i,    E <S x, S y> = <x, y>

    Bucket and sign are pure functions of (seed, t, i), so a row's sketch does not depend on its batch. Adding
    neighbouring pairs of buckets gives the sketch of half the ``dim``. With p <= dim there is nothing to gain
    and gradients stay exact. Memory: 12 s bytes per parameter.

    Raises ``BadInput`` dl-703. Source: Kane and Nelson 2014 (SJLT); s = 1 is the count sketch.

    >>> sketch = HashSketch(dim=4, seed=0)
    >>> sketch.width(10), sketch.width(3), tuple(sketch.project(torch.ones(2, 10)).shape)
    (4, 3, (2, 4))
    """

    dim: int
    seed: int = 0
    s: int = 1

    def __post_init__(self) -> None:
        """Check the sizes."""
        _check(self.dim >= 1 and self.s >= 1, f"a sketch of {self.dim} dimensions and {self.s} buckets each")

    def width(self, p: int) -> int:
        """dim, or p where that is no more."""
        return min(self.dim, p)

    def bind(self, shapes: Mapping[str, torch.Size]) -> Flat:
        """The sketch of a model's parameters, one after the other."""
        p = _count(shapes)
        return Flat(shapes, self.width(p), functools.partial(self.add, p))

    def add(self, p: int, out: Float[Tensor, "b d"], rows: Float[Tensor, "b size"], start: int) -> None:
        """Add the sketch of the numbers from ``start`` on, of p, in fp32 and in their order."""
        if p <= self.dim:
            _place(out, rows, start)
            return
        buckets, signs = hash_tables(self.seed, self.s, self.dim, p, rows.device)
        part = slice(start, start + rows.shape[1])
        for bucket, sign in zip(buckets, signs, strict=True):
            bucket_add(out, rows, bucket[part], sign[part])

    def project(self, gradients: Float[Tensor, "b p"]) -> Float[Tensor, "b d"]:
        """The sketched gradients, summed in fp32 in the order of the parameters."""
        return _projected(self, gradients)


@dataclasses.dataclass(frozen=True)
class DenseSketch:
    """A dense random matrix, the reference: (S x)_j = d^-1/2 sum_i r(i, j) x_i, E <S x, S y> = <x, y>.

    r(i, j) is a random sign (Rademacher), or standard normal (``kind="gaussian"``): a pure function of (seed, i, j), drawn
    block by block of parameters and never kept; signs on a GPU that has triton inside the product.

    Raises ``BadInput`` dl-703. Source: Johnson and Lindenstrauss 1984; Achlioptas 2003 for signs.

    >>> DenseSketch(dim=64).project(torch.ones(1, 5)).shape
    torch.Size([1, 64])
    """

    dim: int
    seed: int = 0
    kind: Literal["rademacher", "gaussian"] = "rademacher"

    def __post_init__(self) -> None:
        """Check the size."""
        _check(self.dim >= 1, f"a sketch of {self.dim} dimensions")
        if self.kind not in ("rademacher", "gaussian"):
            raise BadInput(
                "dl-703",
                asked=f"a dense sketch of kind {self.kind!r}",
                found="a word that is neither",
                do='use "rademacher" or "gaussian"',
            )

    def width(self, p: int) -> int:  # noqa: ARG002  (the same for every p)
        """dim, whatever p."""
        return self.dim

    def bind(self, shapes: Mapping[str, torch.Size]) -> Flat:
        """The sketch of a model's parameters, one after the other."""
        return Flat(shapes, self.dim, self._add)

    def _add(self, out: Float[Tensor, "b d"], rows: Float[Tensor, "b size"], first: int) -> None:
        fast = on_gpu(rows)
        if fast is not None and self.kind == "rademacher":
            fast.sign_add(out, rows, self._stream.key, first)
            return
        step = max(1, BLOCK // self.dim)
        for start in range(0, rows.shape[1], step):
            part = rows[:, start : start + step].float()
            drawn = self._drawn(np.arange(first + start, first + start + part.shape[1]))
            out += part @ drawn.to(rows.device) / self.dim**0.5

    def project(self, gradients: Float[Tensor, "b p"]) -> Float[Tensor, "b d"]:
        """The sketched gradients, blocks of parameters added in order, in fp32."""
        return _projected(self, gradients)

    @property
    def _stream(self) -> Stream:
        return Stream.root(self.seed)("dense sketch")

    def _drawn(self, ids: np.ndarray) -> Float[Tensor, "block d"]:
        if self.kind == "gaussian":
            uniform = self._stream.uniform(ids[:, None], np.arange(self.dim)) + 2.0**-54  # never 0
            return torch.from_numpy(scipy.special.ndtri(uniform).astype(np.float32))
        words = self._stream.bits(ids[:, None], np.arange(-(-self.dim // 64)))
        bits = np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, count=self.dim, bitorder="little")
        return torch.from_numpy(bits.astype(np.float32) * 2 - 1)


@functools.lru_cache(maxsize=4)
def hash_tables(seed: int, s: int, dim: int, p: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Buckets ``[s, p]`` int64 and signs ``[s, p]`` (scaled by s^-1/2) of a hash sketch."""
    stream = Stream.root(seed)("hash sketch")
    buckets, signs = np.empty((s, p), dtype=np.int64), np.empty((s, p), dtype=np.float32)
    for t in range(s):
        for start in range(0, p, BLOCK):
            bits = stream.bits(np.arange(start, min(start + BLOCK, p)), t)
            block = slice(start, start + len(bits))
            buckets[t, block] = ((bits >> np.uint64(32)) * np.uint64(dim)) >> np.uint64(32)
            signs[t, block] = (bits & np.uint64(1)).astype(np.float32) * 2 - 1
    return torch.from_numpy(buckets).to(device), torch.from_numpy(signs * s**-0.5).to(device)


def _place(out: Float[Tensor, "b d"], rows: Float[Tensor, "b size"], start: int) -> None:
    out[:, start : start + rows.shape[1]] += rows.float()


def _count(shapes: Mapping[str, torch.Size]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def _check(fits: bool, asked: str) -> None:
    if not fits:
        raise BadInput("dl-703", asked=asked, found="a number below 1", do="give at least 1 of each")
