"""Outputs of causal language models: margin, loss and log-probability of a sequence, and of every token in it.

Inputs are token ids ``[b, t]``, or a dict with ``input_ids`` and ``attention_mask``; which token place t is asked for is
told by :func:`dataloupe.core.next_tokens`. The model gives logits ``[b, t, v]``, or an object that has them as ``logits``. The
training loss behind every ``slope`` is a sequence's cross-entropy, the mean over its tokens unless said otherwise.
"""

# ruff: noqa: ARG002  (the protocol hands every output the model, the rows and the draw)

import dataclasses
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import IGNORED, Better, Model, PlainLoss, Rows, check_settings, next_tokens
from dataloupe.outputs._checks import check_tokens, others, pick, token_logits


def _margins(z: Float[Tensor, "n v"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    return pick(z, y) - others(z, y).logsumexp(1)


def _log_probs(z: Float[Tensor, "n v"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    return pick(z.log_softmax(1), y)


class _Language:
    """What the outputs of language models share."""

    name: ClassVar[str]
    repeats: ClassVar[int] = 1
    asked_of_token: ClassVar[staticmethod]

    def _tokens(self, model: Model, rows: Rows) -> tuple[Float[Tensor, "b t"], Bool[Tensor, "b t"]]:
        """The number of every token, 0 where none is asked for; and where one is."""
        tokens = next_tokens(rows)
        told = tokens != IGNORED
        z = token_logits(model, rows, told)
        found = self.asked_of_token(z.flatten(0, 1), tokens.masked_fill(~told, 0).flatten())
        return found.view(told.shape).masked_fill(~told, 0.0), told


class _OfSequence(_Language):
    """One number for every sequence."""

    @property
    def plain_loss(self) -> PlainLoss:
        """The loss that ``slope`` belongs to: the mean over the tokens of a sequence, or their sum."""
        return "token sums" if getattr(self, "reduction", "mean") == "sum" else "tokens"

    def valid(self, rows: Rows) -> Bool[Tensor, "b 1"]:
        """One component per sequence (dl-804, dl-807 to dl-810)."""
        return check_tokens(rows, f"the {self.name}").any(1, keepdim=True)


class _OfToken(_Language):
    """One number for every place of a sequence: a component is a token to be predicted. For targets."""

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, "b t"]:
        """The number of every token, 0 at places that are not valid."""
        return self._tokens(model, rows)[0]

    def valid(self, rows: Rows) -> Bool[Tensor, "b t"]:
        """The places that are asked for a token (dl-804, dl-807 to dl-810)."""
        return check_tokens(rows, f"the {self.name}")


@dataclasses.dataclass(frozen=True)
class SequenceMargin(_OfSequence):
    """The mean log-odds of a sequence's T tokens: ``F = 1/T sum_t f_t``, ``f_t = log(p_t / (1 - p_t))``.

    ``value [b]`` in nats; higher is a better fit. The training loss ``1/T sum_t softplus(-f_t)`` is no function of F, so
    ``slope = 1/T sum_t (1 - p_t)`` is an approximation: it is exact where all token margins move by the same amount, and
    for one token. It asks the model once more, since F alone does not tell it. The ``curvature``
    ``q (1 - q)`` at slope q is that of T tokens of one probability, at least the mean of ``p_t (1 - p_t)``.

    Raises ``BadInput`` dl-804 (a token outside the vocabulary), dl-807 to dl-811 (inputs, labels, logits).

    >>> from dataloupe.core import TorchModel
    >>> fair = TorchModel(torch.nn.Embedding(2, 2), {"weight": torch.zeros(2, 2)})
    >>> sequence_margin.value(fair, Rows(torch.tensor([[0, 1, 1]]), None))
    tensor([0.])

    Source: Park et al. 2023 (TRAK), who take a language model for a sequence of classifications.
    """

    name: ClassVar[str] = "sequence margin"
    better: ClassVar[Better | None] = "higher"
    asked_of_token = staticmethod(_margins)

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """The mean over the tokens."""
        return _mean(*self._tokens(model, rows))

    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, " b"], draw: Stream | None = None
    ) -> Float[Tensor, " b"]:
        """The mean of ``1 - p``, between 0 and 1."""
        with torch.no_grad():
            margins, told = self._tokens(model, rows)
        return _mean(torch.sigmoid(-margins), told)

    def curvature(self, slopes: Float[Tensor, " b"], rows: Rows) -> Float[Tensor, " b"]:
        """The second derivative of the training loss, were all tokens alike: ``p (1 - p)``."""
        return slopes * (1.0 - slopes)


@dataclasses.dataclass(frozen=True)
class SequenceLoss(_OfSequence):
    """The cross-entropy of a sequence: ``F = -1/T sum_t log p_t``, or the sum alone (``reduction="sum"``).

    ``value [b]`` in nats, at least 0; *lower* is better: an example with a positive score raises it, and so hurts. ``slope = -1``: the
    output is the training loss itself, if that treats the tokens of a sequence so. :class:`dataloupe.SGD` takes their
    mean; a loop that averages over all tokens of a batch at once weighs each alike, as the sum does.

    Raises ``BadInput`` dl-804 (a token outside the vocabulary), dl-807 to dl-811 (inputs, labels, logits), dl-812.

    >>> from dataloupe.core import TorchModel
    >>> fair = TorchModel(torch.nn.Embedding(2, 2), {"weight": torch.zeros(2, 2)})
    >>> SequenceLoss("sum").value(fair, Rows(torch.tensor([[0, 1, 1]]), None))
    tensor([1.3863])
    """

    reduction: Literal["mean", "sum"] = "mean"
    name: ClassVar[str] = "sequence loss"
    better: ClassVar[Better | None] = "lower"
    asked_of_token = staticmethod(_log_probs)

    def __post_init__(self) -> None:
        """Check the setting."""
        check_settings(self, "dl-812")
        _check_reduction(self.reduction)

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """Minus the mean or the sum of the log-probabilities."""
        found, told = self._tokens(model, rows)
        return -(_mean(found, told) if self.reduction == "mean" else found.sum(1))

    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, " b"], draw: Stream | None = None
    ) -> Float[Tensor, " b"]:
        """-1 everywhere."""
        return -torch.ones_like(values)


@dataclasses.dataclass(frozen=True)
class SequenceLogProb(_OfSequence):
    """The log-probability of a sequence: ``F = sum_t log p_t``.

    ``value [b]`` in nats, at most 0; higher is better, and longer sequences have less. ``slope`` is ``1 / T`` for a training
    loss that is the mean over T tokens, and 1 for one that is their sum (``reduction="sum"``); both are exact.

    Raises ``BadInput`` dl-804 (a token outside the vocabulary), dl-807 to dl-811 (inputs, labels, logits), dl-812.

    >>> from dataloupe.core import TorchModel
    >>> fair = TorchModel(torch.nn.Embedding(2, 2), {"weight": torch.zeros(2, 2)})
    >>> sequence_log_prob.value(fair, Rows(torch.tensor([[0, 1, 1]]), None)).exp()
    tensor([0.2500])
    """

    reduction: Literal["mean", "sum"] = "mean"
    name: ClassVar[str] = "sequence log probability"
    better: ClassVar[Better | None] = "higher"
    asked_of_token = staticmethod(_log_probs)

    def __post_init__(self) -> None:
        """Check the setting."""
        check_settings(self, "dl-812")
        _check_reduction(self.reduction)

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """The sum over the tokens."""
        return self._tokens(model, rows)[0].sum(1)

    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, " b"], draw: Stream | None = None
    ) -> Float[Tensor, " b"]:
        """One over the number of tokens, or 1."""
        ones = torch.ones_like(values)
        return ones if self.reduction == "sum" else ones / _count(next_tokens(rows) != IGNORED)


@dataclasses.dataclass(frozen=True)
class TokenMargin(_OfToken):
    """The log-odds of every token: ``f_t = log(p_t / (1 - p_t))``.

    ``value [b, t]`` in nats; higher is better. ``slope_t = (1 - p_t) / T``. For targets: the training side wants one number per
    sequence, such as ``Question(..., output=token_margin, train_output=sequence_loss)``.

    Raises ``BadInput`` dl-804 (a token outside the vocabulary), dl-807 to dl-811 (inputs, labels, logits).

    >>> from dataloupe.core import TorchModel
    >>> fair = TorchModel(torch.nn.Embedding(2, 2), {"weight": torch.zeros(2, 2)})
    >>> token_margin.valid(Rows(torch.tensor([[0, 1, 1]]), None))
    tensor([[ True,  True, False]])
    """

    name: ClassVar[str] = "token margin"
    better: ClassVar[Better | None] = "higher"
    asked_of_token = staticmethod(_margins)

    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, "b t"], draw: Stream | None = None
    ) -> Float[Tensor, "b t"]:
        """``1 - p`` over the number of tokens, 0 at places that are not valid."""
        return torch.sigmoid(-values) * _shares(rows, values)


@dataclasses.dataclass(frozen=True)
class TokenLoss(_OfToken):
    """The cross-entropy of every token: ``f_t = -log p_t``.

    ``value [b, t]`` in nats, at least 0; *lower* is better. ``slope_t = -1 / T``. For targets, as :class:`TokenMargin`.

    Raises ``BadInput`` dl-804 (a token outside the vocabulary), dl-807 to dl-811 (inputs, labels, logits).

    >>> from dataloupe.core import TorchModel
    >>> fair = TorchModel(torch.nn.Embedding(2, 2), {"weight": torch.zeros(2, 2)})
    >>> token_loss.value(fair, Rows(torch.tensor([[0, 1, 1]]), None))
    tensor([[0.6931, 0.6931, 0.0000]])
    """

    name: ClassVar[str] = "token loss"
    better: ClassVar[Better | None] = "lower"

    @staticmethod
    def asked_of_token(z: Float[Tensor, "n v"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Minus the log-softmax at the token."""
        return -_log_probs(z, y)

    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, "b t"], draw: Stream | None = None
    ) -> Float[Tensor, "b t"]:
        """Minus one over the number of tokens, 0 at places that are not valid."""
        return -_shares(rows, values)


@dataclasses.dataclass(frozen=True)
class TokenLogProb(_OfToken):
    """The log-probability of every token: ``f_t = log p_t``.

    ``value [b, t]`` in nats, at most 0; higher is better. ``slope_t = 1 / T``. For targets, as :class:`TokenMargin`.

    Raises ``BadInput`` dl-804 (a token outside the vocabulary), dl-807 to dl-811 (inputs, labels, logits).

    >>> from dataloupe.core import TorchModel
    >>> fair = TorchModel(torch.nn.Embedding(2, 2), {"weight": torch.zeros(2, 2)})
    >>> token_log_prob.value(fair, Rows(torch.tensor([[0, 1, 1]]), None))[0, :2].exp()
    tensor([0.5000, 0.5000])
    """

    name: ClassVar[str] = "token log probability"
    better: ClassVar[Better | None] = "higher"
    asked_of_token = staticmethod(_log_probs)

    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, "b t"], draw: Stream | None = None
    ) -> Float[Tensor, "b t"]:
        """One over the number of tokens, 0 at places that are not valid."""
        return _shares(rows, values)


def _count(told: Bool[Tensor, "b t"]) -> Int[Tensor, " b"]:
    """How many tokens are asked for, at least 1."""
    return told.sum(1).clamp(min=1)


def _mean(values: Float[Tensor, "b t"], told: Bool[Tensor, "b t"]) -> Float[Tensor, " b"]:
    """The mean over the tokens that are asked for."""
    return (values * told).sum(1) / _count(told)


def _shares(rows: Rows, values: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """What each token counts in the mean of its sequence."""
    told = next_tokens(rows) != IGNORED
    return told.to(values.dtype) / _count(told)[:, None]


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum"):
        raise BadInput(
            "dl-812",
            asked=f"a training loss of reduction {reduction!r}",
            found="a word that is neither",
            do='say "mean" or "sum": how the training loss takes the tokens of a sequence together',
        )


sequence_margin = SequenceMargin()
sequence_loss = SequenceLoss()
sequence_log_prob = SequenceLogProb()
token_margin = TokenMargin()
token_loss = TokenLoss()
token_log_prob = TokenLogProb()
