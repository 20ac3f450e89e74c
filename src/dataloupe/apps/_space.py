"""The space of score rows: who is near a target, which targets form groups, which directions carry most."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Facts
from dataloupe.apps._leaks import plain
from dataloupe.core import Attribution, Better, check_ids, checked, provenance_of

BLOCK = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbours:
    """A target's training rows that help and hurt it most, and the targets most like it.

    Of an output that is better the lower, what helps has the smallest scores; of one of no direction (``better`` is None)
    ``helps`` are the rows that raise it and ``hurts`` those that lower it. ``targets [k]`` with ``cosines [k]``, the cosines of their score rows with this target's.
    """

    target: int
    helps: Int[np.ndarray, " k"]
    help_scores: Float[np.ndarray, " k"]
    hurts: Int[np.ndarray, " k"]
    hurt_scores: Float[np.ndarray, " k"]
    targets: Int[np.ndarray, " t"]
    cosines: Float[np.ndarray, " t"]
    better: Better | None = None
    provenance: Facts = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        like = ", ".join(f"{j} ({c:.2f})" for j, c in zip(self.targets, self.cosines, strict=True))
        words = ("raised", "lowered") if self.better is None else ("helped", "hurt")
        return f"target {self.target}: {words[0]} by {self.helps.tolist()}, {words[1]} by {self.hurts.tolist()}; like {like}"

    def to_json(self) -> Facts:
        """Every field as JSON holds it."""
        return plain(self)


@checked("dl-759")
def neighbours(attribution: Attribution, target: int, k: int = 5) -> Neighbours:
    """The k training rows at either end of a target's scores, and the k targets of most similar score rows.

        cosine_j = s_j . s_target / (|s_j| |s_target|)

    A target without any score is like no other (cosine 0). Ties go to the smaller number.

    Raises ``BadInput`` dl-108 to dl-111 (the target), dl-759 (k).

    >>> from dataloupe.core import DenseAttribution, Info
    >>> scores = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0], [4.0, 0.1, -2.0]])
    >>> print(neighbours(DenseAttribution(scores, Info("by hand")), target=0, k=1))
    target 0: raised by [0], lowered by [2]; like 2 (1.00)

    Source: Ilyas et al. 2022 (datamodels), section 4.2.
    """
    j = int(check_ids([target], attribution.m, "a target row")[0])
    _check_count("neighbours", k, attribution.n, "training rows")
    row = np.asarray(attribution.rows([j])[0], dtype=np.float64)
    cosines = np.concatenate(
        [_unit(attribution.rows(part)) @ _unit(row[None])[0] for part in _parts(attribution.m)]
    )
    cosines[j] = -np.inf
    like = np.argsort(-cosines, kind="stable")[: min(k, attribution.m - 1)]
    helps, hurts = attribution.top(j, k), attribution.top(j, k, sign="hurts")
    better, record = attribution.info.better, provenance_of(attribution)
    return Neighbours(j, helps, row[helps], hurts, row[hurts], like, cosines[like], better, record)


@dataclasses.dataclass(frozen=True, eq=False)
class Clusters:
    """Groups of targets that the same training rows move.

    ``labels [m]`` the group of every target, 0 the largest; ``sizes [k]``; ``central [k]`` each group's most typical
    target; ``top [k, 5]`` the training rows of largest mean score in each group, best first.
    """

    labels: Int[np.ndarray, " m"]
    sizes: Int[np.ndarray, " k"]
    central: Int[np.ndarray, " k"]
    top: Int[np.ndarray, "k t"]

    def __str__(self) -> str:
        return f"{len(self.labels)} targets in groups of {', '.join(str(size) for size in self.sizes)}"

    def to_json(self) -> Facts:
        """Every field as JSON holds it."""
        return plain(self)


@checked("dl-759")
def clusters(attribution: Attribution, k: int, seed: int = 0) -> Clusters:
    """Spectral clustering of the targets by their score rows, never forming an m x m matrix:

        R = rows of length 1,   A = (1 + R R') / 2,   D = diag(A 1),   B = D^(-1/2) [1, R] / sqrt(2)

    The k leading left singular vectors of B (B B' is the normalised affinity), their rows at length 1, then k-means.

    Raises ``BadInput`` dl-759 (fewer than 2 groups, or more than targets).

    >>> from dataloupe.core import DenseAttribution, Info
    >>> scores = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.1], [0.0, 0.0, 1.0]])
    >>> clusters(DenseAttribution(scores, Info("by hand")), k=2).labels.tolist()
    [0, 0, 1]

    Source: Ng, Jordan and Weiss 2001; of datamodels, Ilyas et al. 2022, section 4.3.
    """
    from sklearn.cluster import KMeans

    _check_count("groups", k, attribution.m, "targets", least=2)
    rows = _unit(attribution.rows(slice(None)))
    degree = (attribution.m + rows @ rows.sum(axis=0)) / 2
    scale = 1 / np.sqrt(2 * np.maximum(degree, 1e-12))
    joined = np.concatenate([np.ones((attribution.m, 1)), rows], axis=1) * scale[:, None]
    left, _, _ = _svd(joined, k, Stream.root(seed)("clusters"))
    embedded = _unit(left)
    state = Stream.root(seed)("clusters", "k-means").seed() % 2**32
    model = KMeans(n_clusters=k, n_init=10, random_state=state).fit(embedded)
    sizes = np.bincount(model.labels_, minlength=k)
    first = np.array([np.flatnonzero(model.labels_ == g)[0] if sizes[g] else attribution.m for g in range(k)])
    order = np.lexsort((first, -sizes))
    labels = np.argsort(order)[model.labels_]
    away = np.linalg.norm(embedded - model.cluster_centers_[model.labels_], axis=1)
    central, top = np.full(k, -1), np.zeros((k, min(5, attribution.n)), dtype=np.int64)
    for g in np.flatnonzero(sizes[order]):
        members = np.flatnonzero(labels == g)
        central[g] = members[away[members].argmin()]
        mean = attribution.rows(members).mean(axis=0, dtype=np.float64)
        top[g] = np.argsort(-mean, kind="stable")[: top.shape[1]]
    return Clusters(labels, sizes[order], central, top)


@dataclasses.dataclass(frozen=True, eq=False)
class Principal:
    """The principal directions of the score rows.

    ``directions [c, n]`` of length 1, in the space of training rows, signed so that the largest entry in size is
    positive; ``coordinates [m, c]`` of the centred score rows along them; ``explained [c]`` shares of the variance;
    ``effective_dimension = (sum_i v_i)^2 / sum_i v_i^2`` over all variances v_i: how many directions of equal size
    would spread the targets as much.
    """

    directions: Float[np.ndarray, "c n"]
    coordinates: Float[np.ndarray, "m c"]
    explained: Float[np.ndarray, " c"]
    effective_dimension: float
    provenance: Facts = dataclasses.field(default_factory=dict)

    @checked("dl-759")
    def rows(self, component: int, k: int) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        """The k training rows at the top and at the bottom of a direction, outermost first."""
        return self._ends(self.directions, component, k, "training rows")

    @checked("dl-759")
    def targets(self, component: int, k: int) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        """The k targets at the top and at the bottom of a direction, outermost first."""
        return self._ends(self.coordinates.T, component, k, "targets")

    def _ends(
        self, along: Float[np.ndarray, "c s"], component: int, k: int, what: str
    ) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        c = int(check_ids([component], len(along), "a component")[0])
        _check_count(f"{what} at either end", k, along.shape[1] // 2, f"{what} on either side")
        order = np.argsort(-along[c], kind="stable")
        return order[:k], order[::-1][:k]

    def __str__(self) -> str:
        shares = ", ".join(f"{share:.1%}" for share in self.explained)
        return (
            f"directions explain {shares} of the variance; effective dimension {self.effective_dimension:.1f}"
        )

    def to_json(self) -> Facts:
        """Every field as JSON holds it."""
        return plain(self)


@checked("dl-759")
def principal(attribution: Attribution, components: int = 5, seed: int = 0) -> Principal:
    """The directions along which the score rows of the targets differ most, by a centred, randomised SVD:

        S - 1 mean(S)' = U diag(d) V',   directions V', coordinates U diag(d), explained d_c^2 / |S - 1 mean(S)'|^2

    Raises ``BadInput`` dl-759 (components, or targets that all have the same scores).

    >>> from dataloupe.core import DenseAttribution, Info
    >>> scores = np.array([[3.0, 0.0, 0.1], [-3.0, 0.0, 0.1], [0.0, 1.0, 0.1], [0.0, -1.0, 0.1]])
    >>> found = principal(DenseAttribution(scores, Info("by hand")), components=2)
    >>> found.explained.round(2).tolist(), round(found.effective_dimension, 2)
    ([0.9, 0.1], 1.22)

    Source: Ilyas et al. 2022 (datamodels), section 4.3; Halko, Martinsson and Tropp 2011.
    """
    _check_count("components", components, min(attribution.m - 1, attribution.n), "directions at most")
    scores = np.asarray(attribution.rows(slice(None)), dtype=np.float64)
    scores = scores - scores.mean(axis=0)
    total = float((scores**2).sum())
    if not total > 0:
        raise BadInput(
            "dl-759",
            asked="directions along which targets differ",
            found="the same scores for every target",
            do="give targets that differ, or another attribution",
        )
    left, size, right = _svd(scores, components, Stream.root(seed)("principal"))
    sign = np.sign(right[np.arange(components), np.abs(right).argmax(axis=1)])
    sign[sign == 0] = 1.0
    side = scores if attribution.m <= attribution.n else scores.T
    squares = sum(float(((side[part] @ side.T) ** 2).sum()) for part in _parts(len(side)))
    directions, coordinates = right * sign[:, None], left * size * sign
    record = provenance_of(attribution)
    return Principal(directions, coordinates, size**2 / total, total**2 / squares, record)


def _svd(
    matrix: Float[np.ndarray, "m n"], k: int, stream: Stream
) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " k"], Float[np.ndarray, "k n"]]:
    """The k leading singular vectors and values."""
    from sklearn.utils.extmath import randomized_svd

    return randomized_svd(matrix, k, n_iter=7, random_state=stream.seed() % 2**32)


def _unit(rows: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m n"]:
    """Rows of length 1 in double precision; all-zero rows stay."""
    rows = np.asarray(rows, dtype=np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def _parts(m: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, m)) for start in range(0, m, BLOCK)]


def _check_count(what: str, k: int, most: int, of: str, least: int = 1) -> None:
    if not least <= k <= most:
        raise BadInput("dl-759", asked=f"{k} {what}", found=f"{most} {of}", do=f"ask for {least} to {most}")
