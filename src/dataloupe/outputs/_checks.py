"""What every output asks of a model and of the labels before it computes anything."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.core import Model, Rows, input_leaves


def predictions(model: Model, rows: Rows) -> Float[Tensor, "b c"]:
    """The model's raw predictions as a matrix, in single precision or better (dl-800)."""
    found = model.predict(rows.inputs)
    if not isinstance(found, Tensor) or found.ndim != 2 or not found.is_floating_point():
        shape = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"{found!r}"
        raise BadInput(
            "dl-800",
            asked="predictions [b, c] in floating point, one row per example",
            found=shape,
            do="let the model return a matrix: logits [b, classes], or regression values [b, 1]",
        )
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
            do="give whole numbers [n], such as labels.long(); for regression use outputs.value",
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
