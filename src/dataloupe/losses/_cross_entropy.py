"""Cross-entropy of classes, of tokens and of pixels: weighted, smoothed, focal, with places that are ignored."""

import dataclasses
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.core import IGNORED, Examples, PlainLoss, Rows, check_settings, next_tokens
from dataloupe.losses._checks import as_floats, check_setting, joined_name


class _Places(NamedTuple):
    """Logits ``[b, s, c]`` of s places per row, their classes ``[b, s]`` (0 where ignored), and which places count."""

    logits: Float[Tensor, "b s c"]
    classes: Int[Tensor, "b s"]
    counted: Bool[Tensor, "b s"]


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """The cross-entropy of a row, the mean over its places that are not ignored:

        loss_i = 1/S sum_s (1 - p_sy)^gamma [(1 - e) w_y (-log p_sy) + e/C sum_c w_c (-log p_sc)]

    with class weights w, label smoothing e and focal exponent gamma. Predictions and labels are ``[b, c]`` and ``[b]`` (one place);
    ``[b, t, v]`` and the next tokens (:func:`core.next_tokens`); or ``[b, c, h, w]`` and ``[b, h, w]`` (more or fewer axes of space, too).

    Args:
        class_weights: One number of at least 0 for each class.
        label_smoothing: The share e of the target that all classes split, in [0, 1).
        ignore_index: Places with this label do not count; a row without any other has loss 0. None: -100 of tokens and pixels only.
        focal_gamma: The exponent of the focal loss; not together with smoothing.

    Raises:
        BadInput: dl-833 (settings), dl-834 (labels or predictions of another shape).

    Differs from ``torch.nn.functional.cross_entropy(..., reduction="mean")`` by: the mean is over places, never over the sum of
        their class weights, so that no row's loss depends on the other rows of its batch.

    >>> loss = CrossEntropy(class_weights=[1.0, 8.0])
    >>> loss.per_row(torch.zeros(2, 2), Rows(torch.zeros(2, 1), torch.tensor([0, 1])))
    tensor([0.6931, 5.5452])

    Source: Szegedy et al. 2016 (label smoothing); Lin et al. 2017 (focal loss).
    """

    class_weights: Any = None  # tuple of floats or None from then on
    label_smoothing: float = 0.0
    ignore_index: int | None = IGNORED
    focal_gamma: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-833")
        weights = as_floats(self.class_weights)
        object.__setattr__(self, "class_weights", weights)
        wrong = {
            "class_weights": weights is not None and not (min(weights, default=-1.0) >= 0 < max(weights)),
            "label_smoothing": not 0 <= self.label_smoothing < 1,
            "focal_gamma": not 0 <= self.focal_gamma < float("inf"),
            "label_smoothing (with a focal_gamma)": self.label_smoothing > 0 and self.focal_gamma > 0,
        }
        check_setting(self, wrong)

    @property
    def name(self) -> str:
        """The settings that are no defaults."""
        parts = {
            "class weights": self.class_weights,
            "label smoothing": self.label_smoothing,
            "focal": self.focal_gamma,
        }
        return joined_name("cross-entropy", parts)

    def per_row(self, predictions: Tensor, rows: Rows) -> Float[Tensor, " b"]:
        """The loss of every row (dl-834)."""
        places = self._places(predictions, rows)
        logs = places.logits.log_softmax(-1)
        own = _own(logs, places.classes)
        weights = self._weights(logs)
        losses = -own if weights is None else -own * weights[places.classes]
        if self.label_smoothing:
            every = -logs if weights is None else -logs * weights
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * every.mean(-1)
        if self.focal_gamma:
            losses = losses * (-torch.expm1(own)).clamp(min=torch.finfo(own.dtype).tiny) ** self.focal_gamma
        counted = places.counted
        return (losses * counted).sum(1) / counted.sum(1).clamp(min=1)

    def check(self, data: Examples) -> None:
        """Refuse class numbers that are negative, but the one that is ignored, or that have no weight (dl-834)."""
        labels = data.labels
        if labels is None or self.weighs("tokens") or not _whole(labels):
            return
        classes = labels if self.ignore_index is None else labels[labels != self.ignore_index]
        known = len(self.class_weights) if self.class_weights is not None else None
        if classes.numel() == 0:
            found = "labels that are all ignored"
        elif int(classes.min()) < 0 or (known is not None and int(classes.max()) >= known):
            found = f"labels from {int(classes.min())} to {int(classes.max())}"
        else:
            return
        raise BadInput(
            "dl-834",
            asked=f"{self.name} of classes from 0" + ("" if known is None else f" to {known - 1}"),
            found=found,
            do="number the classes from 0, give each a weight, and name the label that is ignored: CrossEntropy(ignore_index=...)",
        )

    def weighs(self, plain: PlainLoss) -> bool:
        """Of classes with weights; of tokens without."""
        if self.label_smoothing or self.focal_gamma:
            return False
        return plain == "classes" or (
            plain == "tokens" and self.class_weights is None and self.ignore_index in (None, IGNORED)
        )

    def equals(self, plain: PlainLoss) -> bool:
        """Without weights, and without ignored classes."""
        weighs = self.weighs(plain) and self.class_weights is None
        return weighs and (plain == "tokens" or self.ignore_index is None)

    def weighed(self, rows: Rows) -> tuple[Rows, Float[Tensor, " b"] | None]:
        """Ignored rows as rows of class 0 and weight 0; the weight of every other's class."""
        labels = rows.labels
        if labels is None or not _whole(labels) or labels.ndim != 1:
            return rows, None
        if self.class_weights is None and self.ignore_index is None:
            return rows, None
        ignored = (
            labels == self.ignore_index if self.ignore_index is not None else torch.zeros_like(labels).bool()
        )
        classes = labels.masked_fill(ignored, 0)
        weights = self._weights(torch.zeros(1, device=labels.device))
        own = torch.ones(len(labels), device=labels.device) if weights is None else weights[classes]
        return rows._replace(labels=classes), own * ~ignored

    def curvature_root(self, predictions: Tensor, rows: Rows, signs: Tensor) -> Tensor:
        """``diag(p) - p p'`` of every place, times its weights; of the focal loss what of its second derivative is convex."""
        z, y, counted = self._places(predictions, rows)
        s, back = _by_place(signs)
        share = counted.to(z) / counted.sum(1, keepdim=True).clamp(min=1)
        weights = self._weights(z)
        total = share if weights is None else share * weights[y]
        if self.label_smoothing and weights is not None:
            total = share * ((1 - self.label_smoothing) * weights[y] + self.label_smoothing * weights.mean())
        own = torch.zeros_like(z, dtype=torch.bool).scatter(-1, y[..., None], True)
        if not self.focal_gamma:
            return back(total[..., None].sqrt() * _softmax_root(z, s))
        # As a function of the margin m = z_y - logsumexp of the others: h'' a a' - h' times the softmax curvature of the others.
        margin = _own(z, y) - z.masked_fill(own, -torch.inf).logsumexp(-1)
        first, second = self._along_margin(margin)
        others = z.masked_fill(own, -torch.inf)
        a = own.to(z) - others.softmax(-1)
        along = second.clamp(min=0).sqrt() * s.masked_fill(~own, 0.0).sum(-1)
        across = (-first).clamp(min=0).sqrt()[..., None] * _softmax_root(others, s.masked_fill(own, 0.0))
        return back(total[..., None].sqrt() * (along[..., None] * a + across))

    def _along_margin(self, margin: Float[Tensor, "b s"]) -> tuple[Tensor, Tensor]:
        """First and second derivative of ``h(m) = sigmoid(-m)^gamma softplus(-m)``."""
        g, q = self.focal_gamma, torch.sigmoid(-margin)  # q = 1 - p
        p, loss = 1.0 - q, torch.nn.functional.softplus(-margin)
        power = q**g
        first = -power * (g * p * loss + q)
        second = power * (g * p * loss * (g * p - q) + p * q * (2 * g + 1))
        return first, second

    def _weights(self, like: Tensor) -> Float[Tensor, " c"] | None:
        if self.class_weights is None:
            return None
        dtype = like.dtype if like.is_floating_point() else torch.float32
        return torch.tensor(self.class_weights, device=like.device, dtype=dtype)

    def _places(self, predictions: Tensor, rows: Rows) -> _Places:
        if predictions.ndim < 2 or predictions.shape[-1 if predictions.ndim == 3 else 1] < 2:
            self._refuse(predictions, rows.labels)
        logits, _ = _by_place(predictions)
        tokens = predictions.ndim == 3
        labels = next_tokens(rows) if tokens else rows.labels
        space = predictions.shape[:-1] if tokens else (len(predictions), *predictions.shape[2:])
        if labels is None or not _whole(labels) or labels.shape != space:
            self._refuse(predictions, labels)
        if self.class_weights is not None and len(self.class_weights) != logits.shape[-1]:
            raise BadInput(
                "dl-834",
                asked=f"{self.name} of {logits.shape[-1]} classes",
                found=f"{len(self.class_weights)} class weights",
                do="give one weight for each column of the predictions",
            )
        ignore = IGNORED if self.ignore_index is None and predictions.ndim > 2 else self.ignore_index
        y = labels.reshape(logits.shape[:2]).long()  # type: ignore[union-attr]
        counted = torch.ones_like(y, dtype=torch.bool) if ignore is None else y != ignore
        return _Places(logits, y.masked_fill(~counted, 0), counted)

    def _refuse(self, predictions: Tensor, labels: Tensor | None) -> None:
        shape = list(predictions.shape)
        told = "no labels" if labels is None else f"labels {labels.dtype} of shape {tuple(labels.shape)}"
        raise BadInput(
            "dl-834",
            asked=f"{self.name} of predictions of shape {tuple(shape)}",
            found=told,
            do="give predictions [b, c] with class numbers [b] as labels, or [b, c, h, w] with [b, h, w], whole numbers; "
            "for 0/1 labels [b, c] use losses.BinaryCrossEntropy(), for numbers losses.SquaredError()",
        )


def _by_place(values: Tensor) -> tuple[Float[Tensor, "b s c"], Any]:
    """``[b, c]``, ``[b, t, v]`` or ``[b, c, *space]`` as ``[b, s, c]``, and the way back."""
    if values.ndim == 2:
        return values[:, None], lambda placed: placed[:, 0]
    if values.ndim == 3:
        return values, lambda placed: placed
    moved = values.movedim(1, -1)  # [b, *space, c]
    return moved.flatten(1, -2), lambda placed: placed.reshape(moved.shape).movedim(-1, 1)


def _own(values: Float[Tensor, "b s c"], classes: Int[Tensor, "b s"]) -> Float[Tensor, "b s"]:
    """The column of every place's own class (dl-834 where there is none)."""
    try:
        return values.gather(-1, classes[..., None]).squeeze(-1)
    except (RuntimeError, IndexError) as error:
        raise BadInput(
            "dl-834",
            asked="the cross-entropy of every label's class",
            found=f"a label without a column: the model has {values.shape[-1]}",
            do="number the classes from 0, give the model a column for each, and name what is ignored: CrossEntropy(ignore_index=...)",
        ) from error


def _softmax_root(z: Float[Tensor, "b s c"], signs: Float[Tensor, "b s c"]) -> Float[Tensor, "b s c"]:
    """``B signs`` with ``B B' = diag(p) - p p'``, ``B = diag(sqrt p) - p sqrt(p)'``."""
    p = z.softmax(-1)
    turned = p.sqrt() * signs
    return turned - p * turned.sum(-1, keepdim=True)


def _whole(labels: Tensor) -> bool:
    return not labels.is_floating_point() and not labels.is_complex() and labels.dtype != torch.bool
