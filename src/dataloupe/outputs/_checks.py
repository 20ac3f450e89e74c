"""What every output asks of a model and of the labels before it computes anything."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.core import IGNORED, Model, Rows, input_leaves, logits_of, next_tokens, token_ids


def predictions(model: Model, rows: Rows) -> Float[Tensor, "b c"]:
    """The model's raw predictions as a matrix, in single precision or better (dl-800)."""
    found = logits_of(model.predict(rows.inputs))
    if not isinstance(found, Tensor) or found.ndim != 2 or not found.is_floating_point():
        raise BadInput(
            "dl-800",
            asked="predictions [b, c] in floating point, one row per example",
            found=_in_words(found),
            do="let the model return a matrix: logits [b, classes], or regression values [b, 1]; "
            "for a language model use outputs.sequence_loss, for segmentation outputs.pixel_loss",
        )
    return at_least_single(found)


def pixel_logits(model: Model, rows: Rows) -> Float[Tensor, "b c *space"]:
    """The logits of every pixel, in single precision or better (dl-838); looks at types and shapes only."""
    found, labels = logits_of(model.predict(rows.inputs)), _labels(rows, "an output of pixels")
    fits = isinstance(found, Tensor) and found.ndim >= 3 and found.is_floating_point() and found.shape[1] >= 2
    if not fits or labels.shape != (len(found), *found.shape[2:]):
        raise BadInput(
            "dl-838",
            asked="the logits of every pixel, [b, c, h, w], for labels [b, h, w]",
            found=f"{_in_words(found)}, labels of shape {tuple(labels.shape)}",
            do="let the model return a score per class and pixel, classes on the second axis, at the size of the labels",
        )
    return at_least_single(found)


def check_pixels(rows: Rows, asked: str) -> None:
    """Refuse labels that are no class numbers of pixels, on concrete data (dl-802, dl-838)."""
    labels = _labels(rows, asked)
    whole = not labels.is_floating_point() and labels.dtype != torch.bool
    counted = labels[labels != IGNORED] if whole else labels
    if labels.ndim < 2 or not whole or (counted.numel() and int(counted.min()) < 0):
        raise BadInput(
            "dl-838",
            asked=f"{asked}: class numbers [n, h, w], -100 where a pixel does not count",
            found=f"labels {_in_words(labels)}"
            if labels.ndim < 2 or not whole
            else f"the label {int(counted.min())}",
            do="give whole numbers from 0, and -100 where a pixel does not count; for one class per row use outputs.loss",
        )


def binary_labels(rows: Rows, asked: str, columns: int | None = None) -> Float[Tensor, "b c"]:
    """Labels of 0 and 1, several per row, as floats (dl-802, dl-838); looks at shapes only."""
    labels = _labels(rows, asked)
    matrix = labels[:, None] if labels.ndim == 1 else labels
    if matrix.ndim != 2 or (columns is not None and matrix.shape[1] != columns):
        raise BadInput(
            "dl-838",
            asked=f"{asked}: labels [n, {'c' if columns is None else columns}]",
            found=f"labels {_in_words(labels)}",
            do="give 0 where a label is not there, 1 where it is, -100 where nobody knows",
        )
    return matrix.float()


def check_binary(rows: Rows, asked: str, columns: int | None = None) -> Float[Tensor, "b c"]:
    """The same after a look at concrete data: refuse what is neither 0 nor 1 nor ignored (dl-802, dl-838)."""
    labels = binary_labels(rows, asked, columns)
    known = (labels == 0) | (labels == 1) | (labels == IGNORED)
    if not bool(known.all()):
        raise BadInput(
            "dl-838",
            asked=f"{asked}: labels of 0 and 1",
            found=f"the label {float(labels[~known][0]):g}",
            do="give 0 where a label is not there, 1 where it is, -100 where nobody knows; for class numbers use outputs.margin",
        )
    return labels


def _labels(rows: Rows, asked: str) -> Tensor:
    """The labels (dl-802 where there are none)."""
    if rows.labels is None:
        raise BadInput(
            "dl-802",
            asked=asked,
            found="examples without labels",
            do="give labels: Examples(inputs, labels=...)",
        )
    return rows.labels


def token_logits(model: Model, rows: Rows, told: Bool[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
    """The logits of a language model at every place, in single precision or better (dl-811)."""
    found = logits_of(model.predict(rows.inputs))
    if not isinstance(found, Tensor) or found.shape[:-1] != told.shape or not found.is_floating_point():
        raise BadInput(
            "dl-811",
            asked=f"the logits of a language model, [b, t, v] for sequences of shape {tuple(told.shape)}",
            found=_in_words(found),
            do="let the model return the logits of every place, or an object or dict that has them as `logits`",
        )
    return at_least_single(found)


def pair_vectors(model: Model, rows: Rows) -> Float[Tensor, "b 2 e"]:
    """The two vectors of every pair, in single precision or better (dl-815)."""
    found = logits_of(model.predict(rows.inputs))
    fits = isinstance(found, Tensor) and found.ndim == 3 and found.shape[1] == 2 and found.is_floating_point()
    if not fits:
        raise BadInput(
            "dl-815",
            asked="two vectors of every pair, [b, 2, e], whose inner products are logits",
            found=_in_words(found),
            do="let the model return torch.stack([scale * image, text], 1), both of length 1 and scale the temperature's inverse",
        )
    return at_least_single(found)


def _in_words(found: Any) -> str:
    """Type and shape of what a model gave."""
    return f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"{found!r}"


def at_least_single(found: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Half precision read in single."""
    return found.float() if found.dtype in (torch.float16, torch.bfloat16) else found


def logits(model: Model, rows: Rows) -> Float[Tensor, "b c"]:
    """The predictions of a classifier: at least two columns (dl-801)."""
    found = predictions(model, rows)
    if found.shape[1] < 2:
        raise BadInput(
            "dl-801",
            asked="the logits of a classifier",
            found="a single column",
            do="give a binary classifier two columns: torch.cat([torch.zeros_like(z), z], dim=1)",
        )
    return found


def class_labels(rows: Rows, asked: str) -> Int[Tensor, " b"]:
    """The class of every row (dl-802 no labels, dl-803 no classes); looks at types and shapes only."""
    labels = rows.labels
    if labels is None:
        raise BadInput(
            "dl-802",
            asked=asked,
            found="examples without labels",
            do="give labels: Examples(inputs, labels=...)",
        )
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise BadInput(
            "dl-803",
            asked=f"{asked}: one class number per example",
            found=f"labels of {labels.dtype}, one of shape {tuple(labels.shape[1:])}",
            do="give whole numbers [n], such as labels.long(); for regression use outputs.value, for several labels per row "
            "outputs.LabelMargins or multilabel_loss, for segmentation outputs.pixel_loss",
        )
    return labels


def check_classes(rows: Rows, asked: str, classes: int | None = None) -> None:
    """Refuse class numbers below 0 or above the last class, on concrete data (dl-804)."""
    labels = class_labels(rows, asked)
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or (classes is not None and highest >= classes):
        raise BadInput(
            "dl-804",
            asked=f"{asked}: classes from 0 to {'c - 1' if classes is None else classes - 1}",
            found=f"labels from {lowest} to {highest}",
            do="number the classes from 0, and give the model a column for each",
        )


def check_tokens(rows: Rows, asked: str) -> Bool[Tensor, "b t"]:
    """Which places are asked for a token, after a look at concrete data (dl-804, dl-807 to dl-810)."""
    tokens = next_tokens(rows)
    told = tokens != IGNORED
    if not bool(told.any(1).all()):
        raise BadInput(
            "dl-809",
            asked=f"{asked}: at least one token to predict in every sequence",
            found=f"row {int((~told.any(1)).nonzero()[0])} of a block with none",
            do="leave empty sequences out; without labels a sequence has two tokens or more",
        )
    ids = token_ids(rows)
    if rows.labels is not None and told.sum() > len(told) and torch.equal(tokens[told], ids[told]):
        raise BadInput(
            "dl-810",
            asked=f"{asked}: the next token of every place as its label",
            found="labels that are the inputs themselves",
            do="give no labels, leave them in the dict of inputs, or move them: "
            "torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)",
        )
    if int(tokens[told].min()) < 0:
        raise BadInput(
            "dl-804",
            asked=f"{asked}: tokens from 0",
            found=f"the token {int(tokens[told].min())}",
            do="number the tokens from 0; -100 alone says that a place predicts nothing",
        )
    return told


def own(z: Float[Tensor, "b c"], y: Int[Tensor, " b"]) -> Bool[Tensor, "b c"]:
    """True at every row's own class."""
    return torch.arange(z.shape[1], device=z.device) == y[:, None]


def others(z: Float[Tensor, "b c"], y: Int[Tensor, " b"]) -> Float[Tensor, "b c"]:
    """The logits with every row's own class at minus infinity."""
    return z.masked_fill(own(z, y), -torch.inf)


def pick(values: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The column of every row's own class (dl-804 where the model has no such column)."""
    try:
        return values.gather(1, labels.long()[:, None]).squeeze(1)
    except (RuntimeError, IndexError) as error:
        raise BadInput(
            "dl-804",
            asked="the prediction for every row's own class",
            found=f"a label without a column: the model has {values.shape[1]} ({error})",
            do="number the classes from 0, and give the model a column for each",
        ) from error


def all_valid(rows: Rows, components: int) -> Bool[Tensor, "b c"]:
    """Every component of every row exists."""
    return torch.ones((len(input_leaves(rows.inputs)[0]), components), dtype=torch.bool)
