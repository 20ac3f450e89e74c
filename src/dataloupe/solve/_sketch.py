"""Random linear maps of gradients to fewer dimensions that keep inner products on average."""

import dataclasses
import functools

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.kernels import bucket_sum

BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Exact:
    """No sketch at all: S x = x.

    >>> Exact().width(7), Exact().project(torch.ones(1, 2)).tolist()
    (7, [[1.0, 1.0]])
    """

    def width(self, p: int) -> int:
        """d = p."""
        return p

    def project(self, gradients: Float[Tensor, "b p"]) -> Float[Tensor, "b p"]:
        """The gradients as they are, in fp32."""
        return gradients.float()


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

    def project(self, gradients: Float[Tensor, "b p"]) -> Float[Tensor, "b d"]:
        """The sketched gradients, summed in fp32 in the order of the parameters."""
        p = gradients.shape[1]
        if p <= self.dim:
            return gradients.float()
        buckets, signs = hash_tables(self.seed, self.s, self.dim, p, gradients.device)
        parts = [
            bucket_sum(gradients, bucket, sign, self.dim) for bucket, sign in zip(buckets, signs, strict=True)
        ]
        return functools.reduce(torch.add, parts)


@dataclasses.dataclass(frozen=True)
class DenseSketch:
    """A dense sign matrix, the reference: (S x)_j = d^-1/2 sum_i sign(i, j) x_i, E <S x, S y> = <x, y>.

    sign(i, j) is a pure function of (seed, i, j), drawn block by block of parameters and never kept.

    Raises ``BadInput`` dl-703. Source: Achlioptas 2003.

    >>> DenseSketch(dim=64).project(torch.ones(1, 5)).shape
    torch.Size([1, 64])
    """

    dim: int
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the size."""
        _check(self.dim >= 1, f"a sketch of {self.dim} dimensions")

    def width(self, p: int) -> int:  # noqa: ARG002  (the same for every p)
        """dim, whatever p."""
        return self.dim

    def project(self, gradients: Float[Tensor, "b p"]) -> Float[Tensor, "b d"]:
        """The sketched gradients, blocks of parameters added in order, in fp32."""
        p = gradients.shape[1]
        found = torch.zeros(len(gradients), self.dim, device=gradients.device)
        step = max(1, BLOCK // self.dim)
        for start in range(0, p, step):
            signs = self._signs(np.arange(start, min(start + step, p)))
            found += gradients[:, start : start + step].float() @ signs.to(gradients.device)
        return found / self.dim**0.5

    def _signs(self, ids: np.ndarray) -> Float[Tensor, "block d"]:
        words = Stream.root(self.seed)("dense sketch").bits(ids[:, None], np.arange(-(-self.dim // 64)))
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


def _check(fits: bool, asked: str) -> None:
    if not fits:
        raise BadInput("dl-703", asked=asked, found="a number below 1", do="give at least 1 of each")
