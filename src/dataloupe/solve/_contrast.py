"""Directions in which the score rows of one algorithm vary and those of another do not."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from dataloupe._identity import Stream
from dataloupe.solve._sparse_pca import sparse_pca_support

By = Literal["residual", "contrastive", "generalised", "sparse"]
POWER = 2
"""Steps of subspace iteration: as many for what is measured as for what chance does."""
RIDGE = 0.1
"""Of generalised directions: the share of its mean variance that is added to every direction of the other."""
SCREENED = 2000
"""Columns that sparse directions choose from."""


class Contrast(NamedTuple):
    """``vectors [c, n]`` of length 1, their ``values [c]``, and ``coordinates [m, c]`` of the centred rows along them.

    A value is the root mean square of the coordinates of residual rows (residual, sparse), or the eigenvalue.
    """

    vectors: Float[np.ndarray, "c n"]
    values: Float[np.ndarray, " c"]
    coordinates: Float[np.ndarray, "m c"]


class _Given(NamedTuple):
    """Rows of both, their weights, and how many directions are wanted."""

    a: Float[np.ndarray, "m n"]
    b: Float[np.ndarray, "m n"]
    weight: Float[np.ndarray, " m"]
    k: int
    stream: Stream


def contrast(
    a: Float[np.ndarray, "m n"],
    b: Float[np.ndarray, "m n"],
    components: int,
    *,
    by: By = "residual",
    weight: Float[np.ndarray, " m"] | None = None,
    stream: Stream,
) -> Contrast:
    """Directions u of score rows that a has and b has not; rows at length 1, times ``weight``.

        residual      leading right singular vectors of  R - 1 mean(R)',   R_x = a_x - <a_x, b_x> b_x / |b_x|^2
        contrastive   leading eigenvectors of  S_a - S_b,                  S = covariance of the rows
        generalised   S_a u = l (S_b + t I) u,  largest l,                 t = a tenth of the mean variance of b in the span
        sparse        as residual, on a support of at most sqrt(n) columns, chosen by sparse regression among the
                      2,000 of largest variance; further directions after taking the earlier ones out

    All-zero rows stay zero; a row without a partner is its own residual. Eigenproblems are solved in the span of the
    leading directions of rows and residuals. Signs: the largest entry in size is positive.

    >>> a, b = np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> contrast(a, b, 1, stream=Stream.root(0)).vectors.round(3).tolist()
    [[0.0, 1.0]]

    Source: Shah, Park, Ilyas and Madry 2023 (ModelDiff), section 3; Abid et al. 2018 (contrastive PCA); Bresler,
    Park and Persu 2018 (sparse).
    """
    weight = np.ones(len(a)) if weight is None else weight
    found = _BY[by](_Given(a, b, weight, components, stream))
    sign = np.sign(found.vectors[np.arange(components), np.abs(found.vectors).argmax(axis=1)])
    sign[sign == 0] = 1.0
    return Contrast(found.vectors * sign[:, None], found.values, found.coordinates * sign)


def residuals(
    a: Float[np.ndarray, "m n"], b: Float[np.ndarray, "m n"], weight: Float[np.ndarray, " m"]
) -> Float[np.ndarray, "m n"]:
    """``weight (a / |a| - cos(a, b) b / |b|)``, row by row, in fp32."""
    one, two = torch.from_numpy(a), torch.from_numpy(b)
    aa, bb, ab = _products(a, a), _products(b, b), _products(a, b)
    own = weight / np.sqrt(np.where(aa > 0, aa, np.inf))
    other = own * ab / np.where(bb > 0, bb, np.inf)
    found = one * torch.from_numpy(own.astype(np.float32))[:, None]
    found.addcmul_(two, torch.from_numpy(other.astype(np.float32))[:, None], value=-1.0)
    return found.numpy()


def variances(rows: Float[np.ndarray, "m n"], vectors: Float[np.ndarray, "c n"]) -> Float[np.ndarray, " c"]:
    """The variance of rows of length 1 along every vector: mean_x ((x - mean) . u)^2."""
    size = _products(rows, rows)
    along = (rows @ vectors.T).astype(np.float64) / np.sqrt(np.where(size > 0, size, np.inf))[:, None]
    return along.var(axis=0)


def cosines(a: Float[np.ndarray, "m n"], b: Float[np.ndarray, "m n"]) -> Float[np.ndarray, " m"]:
    """Of rows; 0 where one is all zero."""
    sizes = np.sqrt(_products(a, a) * _products(b, b))
    return np.divide(_products(a, b), sizes, out=np.zeros(len(a)), where=sizes > 0)


def _products(a: Float[np.ndarray, "m n"], b: Float[np.ndarray, "m n"]) -> Float[np.ndarray, " m"]:
    """Inner products row by row."""
    return np.einsum("xi,xi->x", a, b).astype(np.float64)


def _centred(rows: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m n"]:
    """Less their mean, in place."""
    tensor = torch.from_numpy(rows)
    tensor.sub_(tensor.mean(dim=0))
    return rows


def _units(rows: Float[np.ndarray, "m n"], weight: Float[np.ndarray, " m"]) -> Float[np.ndarray, "m n"]:
    """Rows of the length of their weight, centred."""
    size = _products(rows, rows)
    return _centred(rows * (weight / np.sqrt(np.where(size > 0, size, np.inf))).astype(np.float32)[:, None])


def leading(rows: Float[np.ndarray, "m n"], k: int, stream: Stream) -> Float[np.ndarray, "k n"]:
    """The k leading right singular vectors, by subspace iteration that keeps to the side of the targets.

    The range of R R' R ... G, G normal, is made orthonormal as columns of length m; the other side is only multiplied.
    Source: Halko, Martinsson and Tropp 2011, algorithm 4.4.
    """
    matrix = torch.from_numpy(rows)
    wide = torch.randn(rows.shape[1], min(k + 10, *rows.shape), generator=stream.torch(), dtype=matrix.dtype)
    for _ in range(POWER + 1):
        basis, _ = torch.linalg.qr(matrix @ wide)
        wide = matrix.T @ basis
    size, turn = torch.linalg.eigh((wide.T @ wide).double())
    size, turn = size.flip(0)[:k].clamp(min=0).sqrt(), turn.flip(1)[:, :k]
    scale = torch.where(size > 1e-6 * size[0], 1 / size, torch.zeros_like(size))
    return (wide @ (turn * scale).to(wide.dtype)).T.contiguous().numpy()


def _residual(given: _Given) -> Contrast:
    rows = _centred(residuals(given.a, given.b, given.weight))
    return _along(rows, leading(rows, given.k, given.stream))


def _along(rows: Float[np.ndarray, "m n"], vectors: Float[np.ndarray, "k n"]) -> Contrast:
    """Centred rows along directions, which are put in the order of what they carry."""
    coordinates = (rows @ vectors.T).astype(np.float64)
    values = np.sqrt((coordinates**2).mean(axis=0))
    order = np.argsort(-values, kind="stable")
    return Contrast(vectors[order], values[order], coordinates[:, order])


def _sparse(given: _Given) -> Contrast:
    rows = _centred(residuals(given.a, given.b, given.weight))
    spread = np.einsum("xi,xi->i", rows, rows)
    columns = np.sort(np.argsort(-spread, kind="stable")[: min(SCREENED, int((spread > 0).sum()))])
    inner = rows[:, columns].astype(np.float64)
    n = rows.shape[1]
    size = max(1, min(int(np.sqrt(n)), len(columns) - 1))
    vectors = np.zeros((given.k, n), dtype=np.float32)
    for c in range(given.k):
        support = _support(inner, size)
        _, _, right = np.linalg.svd(inner[:, support], full_matrices=False)
        vectors[c, columns[support]] = right[0]
        inner[:, support] -= np.outer(inner[:, support] @ right[0], right[0])
    return _along(rows, vectors)


def _support(inner: Float[np.ndarray, "m c"], size: int) -> Int[np.ndarray, " s"]:
    """Columns of a sparse direction; those without variance are left out."""
    moving = np.flatnonzero(inner.var(axis=0) > 1e-12 * max(inner.var(axis=0).max(), 1e-300))
    if len(moving) <= size:
        return moving
    return moving[sparse_pca_support(inner[:, moving], size).support]


def _spanned(
    given: _Given,
) -> tuple[Float[np.ndarray, "r n"], Float[np.ndarray, "m r"], Float[np.ndarray, "m r"]]:
    """An orthonormal basis of what both vary in most, and both sets of centred rows in it."""
    a, b, weight, k, stream = given
    rank = min(4 * k + 20, *a.shape)
    one, two = _units(a, weight), _units(b, weight)
    apart = [_centred(residuals(x, y, weight)) for x, y in ((a, b), (b, a))]
    found = [leading(rows, rank, stream("span", i)) for i, rows in enumerate((one, two, *apart))]
    _, size, basis = np.linalg.svd(np.concatenate(found), full_matrices=False)
    basis = basis[size > 1e-5 * size[0]].astype(np.float32)
    return basis, (one @ basis.T).astype(np.float64), (two @ basis.T).astype(np.float64)


def _contrastive(given: _Given) -> Contrast:
    basis, one, two = _spanned(given)
    values, inner = np.linalg.eigh((one.T @ one - two.T @ two) / len(one))
    return _lifted(basis, one, values[::-1][: given.k], inner[:, ::-1][:, : given.k])


def _generalised(given: _Given) -> Contrast:
    import scipy.linalg

    basis, one, two = _spanned(given)
    below = two.T @ two / len(two)
    below += RIDGE * np.trace(below) / len(below) * np.eye(len(below))
    values, inner = scipy.linalg.eigh(one.T @ one / len(one), below)
    inner = inner / np.linalg.norm(inner, axis=0)
    return _lifted(basis, one, values[::-1][: given.k], inner[:, ::-1][:, : given.k])


def _lifted(
    basis: Float[np.ndarray, "r n"],
    rows: Float[np.ndarray, "m r"],
    values: Float[np.ndarray, " k"],
    inner: Float[np.ndarray, "r k"],
) -> Contrast:
    return Contrast((inner.T @ basis).astype(np.float32), values.copy(), rows @ inner)


_BY: dict[str, Callable[[_Given], Contrast]] = {
    "residual": _residual,
    "contrastive": _contrastive,
    "generalised": _generalised,
    "sparse": _sparse,
}
