"""The loss that a learner trains with: where outputs learn it from, and what it makes of an output on the training side.

TRAK and influence functions multiply every row's gradient with ``slope = -dLoss/doutput``, and weigh it by the curvature
of the loss. Both are the loss's as it was trained, by one rule (docs/design/019-training-loss.md):

- the loss of each row is a multiple of the plain loss that the output's own slope belongs to (class weights, row weights,
  ignored rows): slope and curvature are multiplied (:class:`WeightedSlope`);
- any other loss (label smoothing, focal, a mean over pixels, several labels, a function of the user's own) is no function
  of the output: the loss itself takes its place on the training side (:class:`LossAsTrained`).
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import Stream, mix64_torch
from dataloupe.core._direction import Better, better_of
from dataloupe.core._examples import Examples, Rows, input_leaves
from dataloupe.core._model import Model, logits_of
from dataloupe.core._output import CurvedOutput, Output

PlainLoss: TypeAlias = Literal["classes", "tokens", "token sums", "squares"]
"""Cross-entropy of a class, mean or summed cross-entropy of a sequence's tokens, half the squared error: unweighted, unsmoothed."""

LOSS_PROBES = 4
"""Probes per row, and the size of the Hadamard matrix that their signs come from."""


@runtime_checkable
class TrainingLoss(Protocol):
    """The loss of every row given predictions and labels, differentiable in the predictions; ``dataloupe.losses`` has them."""

    @property
    def name(self) -> str:
        """The loss with its settings, in words."""
        ...

    def per_row(self, predictions: Tensor, rows: Rows) -> Float[Tensor, " b"]:
        """The loss of every row; predictions are ``[b, ...]``."""
        ...

    def check(self, data: Examples) -> None:
        """Refuse labels that the loss has no meaning for, on the whole data."""
        ...

    def weighs(self, plain: PlainLoss) -> bool:
        """Whether the loss of every row is a multiple of this plain loss, whatever is predicted."""
        ...

    def equals(self, plain: PlainLoss) -> bool:
        """Whether it is this plain loss: a multiple of 1."""
        ...

    def weighed(self, rows: Rows) -> tuple[Rows, Float[Tensor, " b"] | None]:
        """Rows fit for the plain loss, and the multiples; None where all are 1 and the rows as they were."""
        ...

    def curvature_root(self, predictions: Tensor, rows: Rows, signs: Tensor) -> Tensor:
        """``B signs``, where ``B B'`` is the convex part of the loss's second derivative by the predictions, row by row."""
        ...


@runtime_checkable
class TellsLoss(Protocol):
    """A learner or model source that tells which loss its models were trained with."""

    @property
    def training_loss(self) -> TrainingLoss | None:
        """The loss, None where it is not known, or not one of single rows."""
        ...


@runtime_checkable
class SlopeOfPlainLoss(Output, Protocol):
    """An output that tells which plain loss its ``slope`` and ``curvature`` belong to."""

    @property
    def plain_loss(self) -> PlainLoss:
        """The loss that an unknown training is taken to have had."""
        ...


@runtime_checkable
class LossOutput(Output, Protocol):
    """An output on whose training side there is always a loss: the learner's, or this one where nobody tells."""

    @property
    def assumed_loss(self) -> TrainingLoss:
        """The loss of a training that tells none."""
        ...


def training_loss_of(learner: object) -> TrainingLoss | None:
    """The loss that a learner tells, None where it tells none."""
    return learner.training_loss if isinstance(learner, TellsLoss) else None


def train_side(output: Output, loss: TrainingLoss | None, *, row_weights: bool) -> Output:
    """What stands for the output on the training side of a learner with this loss (None: nobody tells)."""
    if isinstance(output, LossAsTrained | LossProbe | WeightedSlope):
        return output
    if isinstance(output, LossOutput):
        return LossAsTrained(loss or output.assumed_loss)
    multiple = None
    if isinstance(output, SlopeOfPlainLoss) and loss is not None:
        if not loss.weighs(output.plain_loss):
            return LossAsTrained(loss)
        multiple = None if loss.equals(output.plain_loss) else loss
    return WeightedSlope(output, multiple) if multiple is not None or row_weights else output


@dataclasses.dataclass(frozen=True)
class WeightedSlope:
    """An output under a training loss that is a multiple of the one that its slope belongs to: ``w_i`` of ``loss`` times row weight.

    ``slope = w_i slope_i``, ``curvature = w_i curvature_i``; the value is the output's own. Ignored rows have slope 0.
    """

    output: Output
    loss: TrainingLoss | None = None

    @property
    def name(self) -> str:
        """The output's."""
        return self.output.name

    @property
    def repeats(self) -> int:
        """The output's."""
        return self.output.repeats

    @property
    def better(self) -> Better | None:
        """The output's."""
        return better_of(self.output)

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Tensor:
        """The output's value."""
        return self.output.value(model, self._weighed(rows)[0], draw)

    def slope(self, model: Model, rows: Rows, values: Tensor, draw: Stream | None = None) -> Tensor:
        """The output's slope, times the weight of the row."""
        plain, weights = self._weighed(rows)
        slope = self.output.slope(model, plain, values, draw)
        if weights is None:
            return slope
        return slope * weights.to(slope).reshape(-1, *[1] * (slope.ndim - 1))

    def curvature(self, slopes: Float[Tensor, " b"], rows: Rows) -> Float[Tensor, " b"]:
        """The output's curvature at its own slope (1 where it knows of none), times the weight of the row."""
        plain, weights = self._weighed(rows)
        weights = torch.ones_like(slopes) if weights is None else weights.to(slopes)
        if not isinstance(self.output, CurvedOutput):
            return weights
        own = torch.where(weights > 0, slopes / weights.clamp(min=torch.finfo(slopes.dtype).tiny), 0.0)
        return weights * self.output.curvature(own, plain)

    def valid(self, rows: Rows) -> Bool[Tensor, "b c"]:
        """The output's components."""
        return self.output.valid(self._weighed(rows)[0])

    def _weighed(self, rows: Rows) -> tuple[Rows, Float[Tensor, " b"] | None]:
        """Rows that the output can be asked about, and the product of both weights."""
        plain, weights = (rows, None) if self.loss is None else self.loss.weighed(rows)
        if rows.row_weights is None:
            return plain, weights
        return plain, rows.row_weights if weights is None else weights * rows.row_weights


@dataclasses.dataclass(frozen=True)
class LossAsTrained:
    """The loss that a learner trains with, as an output: ``f_i = loss(prediction_i, label_i)``, lower is better.

    ``value [b]``, ``slope = -1`` times the row weight. The curvature of such a loss has more directions than its gradient:
    :data:`LOSS_PROBES` probes per row carry it (:class:`LossProbe`), so a method needs as many further passes over the training rows.

    >>> from dataloupe import losses
    >>> from dataloupe.core import TorchModel
    >>> smoothed = LossAsTrained(losses.CrossEntropy(label_smoothing=0.1))
    >>> rows = Rows(torch.zeros(1, 2), torch.tensor([1]))
    >>> smoothed.value(TorchModel(torch.nn.Identity(), {}), rows)
    tensor([0.6931])
    """

    loss: TrainingLoss
    name: ClassVar[str] = "training loss"
    repeats: ClassVar[int] = 1
    better: ClassVar[Better] = "lower"

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:  # noqa: ARG002
        """The loss of every row, without its row weight."""
        return self.loss.per_row(_predictions(model, rows), rows)

    def slope(
        self,
        model: Model,  # noqa: ARG002
        rows: Rows,
        values: Float[Tensor, " b"],
        draw: Stream | None = None,  # noqa: ARG002
    ) -> Float[Tensor, " b"]:
        """-1, or minus the row weight."""
        return -torch.ones_like(values) if rows.row_weights is None else -rows.row_weights.to(values)

    def probes(self) -> "Sequence[LossProbe]":
        """The directions in which the loss curves."""
        return [LossProbe(self.loss, number) for number in range(LOSS_PROBES)]

    def valid(self, rows: Rows) -> Bool[Tensor, "b 1"]:
        """One component per row."""
        return torch.ones((len(input_leaves(rows.inputs)[0]), 1), dtype=torch.bool)


@dataclasses.dataclass(frozen=True)
class LossProbe:
    """One direction in which the loss of each row curves: ``f_i = <B_i s_i, z_i>`` with z the predictions, ``B_i s_i`` held constant.

    ``B_i B_i'`` is the second derivative of the loss by z (its convex part), and s_i signs with ``mean_r s_ir s_ir' = I`` over the
    probes r: exactly for up to :data:`LOSS_PROBES` predicted numbers per row, in expectation for more. With J = dz/dparameters, the mean
    of ``y_r y_r'`` over gradients y_r of the probes is then ``J' B B' J``, the Gauss-Newton curvature of the row.
    """

    loss: TrainingLoss
    number: int
    repeats: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """Which probe of what."""
        return f"probe {self.number} of the training loss"

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:  # noqa: ARG002
        """The predictions along the direction."""
        z = _predictions(model, rows)
        fixed = z.detach()
        signs = probe_signs(content_keys(rows), fixed, self.number)
        along = self.loss.curvature_root(fixed, rows, signs).flatten(1)  # [b, numbers predicted]
        if rows.row_weights is not None:
            along = along * rows.row_weights.sqrt().to(along)[:, None]
        return (along * z.flatten(1)).sum(1)

    def slope(
        self,
        model: Model,  # noqa: ARG002
        rows: Rows,  # noqa: ARG002
        values: Float[Tensor, " b"],
        draw: Stream | None = None,  # noqa: ARG002
    ) -> Float[Tensor, " b"]:
        """1 by convention: a probe is asked for its gradient alone."""
        return torch.ones_like(values)

    def valid(self, rows: Rows) -> Bool[Tensor, "b 1"]:
        """One component per row."""
        return torch.ones((len(input_leaves(rows.inputs)[0]), 1), dtype=torch.bool)


def content_keys(rows: Rows) -> Int[Tensor, " b"]:
    """A hash of each row's inputs, the same in whatever batch, examples and precision from fp32 up the row comes.

    >>> one, two = Rows(torch.tensor([[1.0], [2.0]]), None), Rows(torch.tensor([[2.0]]).double(), None)
    >>> bool(content_keys(one)[1] == content_keys(two)[0]), bool(content_keys(one)[0] == content_keys(two)[0])
    (True, False)
    """
    if rows.keys is not None:
        return rows.keys
    leaves = input_leaves(rows.inputs)
    total = torch.zeros(len(leaves[0]), dtype=torch.int64, device=leaves[0].device)
    for number, leaf in enumerate(leaves):
        part = torch.view_as_real(leaf) if leaf.is_complex() else leaf.to_dense() if leaf.is_sparse else leaf
        whole = (part.float() + 0.0).view(torch.int32) if part.is_floating_point() else part  # -0.0 is 0.0
        bits = whole.reshape(len(total), -1).to(torch.int64)
        place = torch.arange(bits.shape[1], device=bits.device) * 64 + number
        total = total + mix64_torch(bits ^ mix64_torch(place)).sum(
            1
        )  # sums of int64 wrap: any order, the same bits
    return mix64_torch(total)


def probe_signs(keys: Int[Tensor, " b"], like: Float[Tensor, "b *z"], number: int) -> Float[Tensor, "b *z"]:
    """Signs ``s_r`` of probe r for every predicted number: columns of a Hadamard matrix, turned at random row by row.

    >>> s = torch.stack([probe_signs(torch.tensor([7]), torch.zeros(1, 4), r)[0] for r in range(LOSS_PROBES)])
    >>> torch.equal(s.T @ s / LOSS_PROBES, torch.eye(4))
    True
    """
    numbers = torch.arange(like[0].numel(), device=like.device)
    bits = mix64_torch(keys.to(like.device)[:, None] ^ mix64_torch(numbers + 1))  # [b, numbers]
    column = numbers % LOSS_PROBES
    both = column & number  # entry (number, column) of the Hadamard matrix: parity of the bits in both
    parity = (both ^ (both >> 1)) & 1
    return (1 - 2 * ((bits >> 17 & 1) ^ parity)).to(like.dtype).view_as(like)


def _predictions(model: Model, rows: Rows) -> Float[Tensor, "b *z"]:
    """What the model predicts, a tensor of a row per example in single precision or better (dl-834)."""
    found = logits_of(model.predict(rows.inputs))
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.ndim < 1:
        raise BadInput(
            "dl-834",
            asked="the training loss of a model's predictions",
            found=f"{type(found).__name__}, which is no tensor in floating point",
            do="let the model return a tensor [b, ...], or an object that has it as `logits`",
        )
    return found.float() if found.dtype in (torch.float16, torch.bfloat16) else found
