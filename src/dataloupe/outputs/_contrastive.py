"""Outputs of models of two sides, pictures and captions say, that learn which belong together (CLIP).

The model gives ``[b, 2, e]`` for b pairs: two vectors u_i and v_i, such that u_i . v_j is the logit of pair (i, j), temperature
included. The training loss behind every ``slope`` is the symmetric cross-entropy among the pairs of a batch,
``l_i = 1/2 [lse_j u_i.v_j - u_i.v_i] + 1/2 [lse_j u_j.v_i - u_i.v_i]`` (``SGD(loss="contrastive")``).
"""

# ruff: noqa: ARG002  (the protocol hands every output the model, the rows and the draw)

import abc
import dataclasses
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Inputs
from dataloupe.core import (
    Better,
    Examples,
    Model,
    Rows,
    beside,
    check_settings,
    draws_of,
    input_leaves,
    map_inputs,
)
from dataloupe.outputs._checks import all_valid, pair_vectors

_ROUNDING = 1e-13
"""Sums of the same numbers in another order differ by no more of what was summed."""
Marks = tuple[Float[Tensor, "_ s"], Float[Tensor, "_ s"]]
Ways = tuple[Float[Tensor, " b"], Float[Tensor, " b"]]


@dataclasses.dataclass(frozen=True, eq=False)
class _OfPair(abc.ABC):
    """One number for every pair, among ``count`` others that are drawn from ``negatives`` and frozen.

    A training pair meets others in every batch; here they are the same for all rows and all models: rows of ``negatives``
    drawn by a key, another draw for each of ``repeats``. What they say is not differentiated, and a pair is not compared with
    itself. ``count`` is one less than the batch size of the training, so that probabilities are those of a true batch.
    """

    negatives: Examples
    count: int = 63
    repeats: int = 1
    name: ClassVar[str]

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-813")
        self.negatives.refuse_missing("the negatives of a contrastive output", "drop these rows")
        most = len(self.negatives)
        if not (1 <= self.count <= most and self.repeats >= 1):
            raise BadInput(
                "dl-813",
                asked=f"the {self.name} among {self.count} other pairs, {self.repeats} times",
                found=f"{most} pairs to draw from" if self.count > most else "a number below 1",
                do="give at least one other pair, and no more than there are: one less than the batch size of the training",
            )

    @abc.abstractmethod
    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """The number of every pair."""

    @abc.abstractmethod
    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, " b"], draw: Stream | None = None
    ) -> Float[Tensor, " b"]:
        """Minus the derivative of the training loss."""

    def valid(self, rows: Rows) -> Bool[Tensor, "b 1"]:
        """One component per pair (dl-814: a pair whose others are all itself)."""
        for draw in draws_of(self):
            itself = _same(_marks(rows.inputs), _marks(self._drawn(draw, rows)))
            if bool(itself.all(1).any()):
                raise BadInput(
                    "dl-814",
                    asked=f"the {self.name} of a pair among {self.count} others",
                    found="others that are all this very pair",
                    do="draw more of them, or from other pairs",
                )
        return all_valid(rows, 1)

    def _margins(self, model: Model, rows: Rows, draw: Stream | None) -> Ways:
        """The log-odds of v_i given u_i, and of u_i given v_i."""
        u, v = pair_vectors(model, rows).unbind(1)
        others, marks = self._others(model, rows, draw or draws_of(self)[0])
        itself = _same(_marks(rows.inputs), marks)
        own = (u * v).sum(1)
        ways = (side @ others[:, 1 - i].T for i, side in enumerate((u, v)))
        first, second = (own - logits.masked_fill(itself, -torch.inf).logsumexp(1) for logits in ways)
        return first, second

    def _others(self, model: Model, rows: Rows, draw: Stream) -> tuple[Float[Tensor, "k 2 e"], Marks]:
        """The vectors of the other pairs by this model, and their marks; made once for a model that lives."""
        known = self.__dict__.setdefault("_known", WeakIdKeyDictionary()).setdefault(model, {})
        where = (draw.key, *((part.device, part.dtype) for part in input_leaves(rows.inputs)))
        if where not in known:
            inputs = self._drawn(draw, rows)
            with beside():
                known[where] = pair_vectors(model, Rows(inputs, None)), _marks(inputs)
        return known[where]

    def _drawn(self, draw: Stream, rows: Rows) -> Inputs:
        """The other pairs, where and as the rows are."""
        order = np.argsort(draw("negatives").bits(np.arange(len(self.negatives))), kind="stable")
        like = iter(input_leaves(rows.inputs))

        def moved(part: Tensor) -> Tensor:
            other = next(like)
            return part.to(other.device, other.dtype if part.is_floating_point() else part.dtype)

        return map_inputs(moved, self.negatives.take(np.sort(order[: self.count])).inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class PairMargin(_OfPair):
    """The mean log-odds of a pair, both ways: ``f = (a + b) / 2``,

        a_i = u_i.v_i - lse_j u_i.v_j,    b_i = u_i.v_i - lse_j u_j.v_i,    j over frozen others

    ``value [b]`` in nats; higher is a better fit. With p and q the probabilities of the pair both ways, the training loss is
    ``1/2 softplus(-a) + 1/2 softplus(-b)``; ``slope = 1 - (p + q) / 2`` takes both margins to move alike. It asks the model
    once more, since f alone does not tell p and q.

    Raises ``BadInput`` dl-813 (settings), dl-814 (a pair among copies of itself), dl-815 (no pairs of vectors).

    >>> from dataloupe.core import TorchModel
    >>> pairs = Examples(torch.eye(4).reshape(4, 2, 2))
    >>> PairMargin(pairs, count=3).value(TorchModel(torch.nn.Identity(), {}), pairs.take([0])).shape
    torch.Size([1])

    Source: Radford et al. 2021 (CLIP) for the loss; Park et al. 2023 (TRAK) for its output function, twice this one.
    """

    name: ClassVar[str] = "pair margin"
    better: ClassVar[Better | None] = "higher"

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """The mean of both log-odds."""
        first, second = self._margins(model, rows, draw)
        return 0.5 * (first + second)

    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, " b"], draw: Stream | None = None
    ) -> Float[Tensor, " b"]:
        """One less the mean probability, between 0 and 1."""
        with torch.no_grad():
            first, second = self._margins(model, rows, draw)
        return 0.5 * (torch.sigmoid(-first) + torch.sigmoid(-second)).to(values.dtype)

    def curvature(self, slopes: Float[Tensor, " b"], rows: Rows) -> Float[Tensor, " b"]:
        """The second derivative of the training loss, were both probabilities the same: ``p (1 - p)``."""
        return slopes * (1.0 - slopes)


@dataclasses.dataclass(frozen=True, eq=False)
class PairLoss(_OfPair):
    """The symmetric cross-entropy of a pair among frozen others: ``f = 1/2 softplus(-a) + 1/2 softplus(-b)``.

    a and b are those of :class:`PairMargin`. ``value [b]`` in nats, at least 0; *lower* is better. ``slope = -1``: the output
    is the training loss, but for the others' share in it.

    Raises ``BadInput`` dl-813 (settings), dl-814 (a pair among copies of itself), dl-815 (no pairs of vectors).

    >>> from dataloupe.core import TorchModel
    >>> pairs = Examples(torch.zeros(4, 2, 2) + torch.arange(4.0).reshape(4, 1, 1) * torch.tensor([[0.0], [1.0]]))
    >>> PairLoss(pairs, count=3).name
    'pair loss'
    """

    name: ClassVar[str] = "pair loss"
    better: ClassVar[Better | None] = "lower"

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """The mean of both cross-entropies."""
        first, second = self._margins(model, rows, draw)
        return 0.5 * (torch.nn.functional.softplus(-first) + torch.nn.functional.softplus(-second))

    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, " b"], draw: Stream | None = None
    ) -> Float[Tensor, " b"]:
        """-1 everywhere."""
        return -torch.ones_like(values)


def _marks(inputs: Inputs) -> Marks:
    """What tells the contents of rows apart: two random sums of every part, and the size of what was summed."""
    sums, sizes = [], []
    for number, part in enumerate(input_leaves(inputs)):
        flat = part.detach().reshape(len(part), -1).double()
        draws = Stream.root(0)("marks", number).uniform(np.arange(flat.shape[1])[:, None], np.arange(2)) + 0.5
        weights = torch.from_numpy(draws).to(flat.device)
        sums.append(flat @ weights)
        sizes.append(flat.abs() @ weights)
    return torch.cat(sums, 1), torch.cat(sizes, 1)


def _same(some: Marks, others: Marks) -> Bool[Tensor, "b k"]:
    """Which rows hold the same as which others: sums that differ by rounding alone."""
    apart = (some[0][:, None] - others[0]).abs()
    return (apart <= _ROUNDING * (some[1][:, None] + others[1])).all(-1)
