"""How examples look, kept in a lab for the verbs that only read: all that `Examples` shows, and nothing that trains."""

from typing import Any

import numpy as np
import torch

from dataloupe._errors import BadInput
from dataloupe._identity import array_digest, identity
from dataloupe._typing import Array, Facts
from dataloupe.core import Examples, Question, input_leaves, next_tokens, token_ids
from dataloupe.lab import Lab

_CELLS = 12
"""So many numbers of a row stand for it where it has no image, text or columns (:meth:`Examples.show`)."""
_ROWS = 1024
_CURRENT = "current"


def keep_looks(lab: Lab, question: Question) -> None:
    """Remember how the examples look and what they are labelled, for ``show`` and ``report``.

    Looks are kept under their own contents, and the question points to the newest: a file that is mended mends its reports.
    """
    for side, data in (("train", question.train), ("targets", question.targets)):
        arrays, facts = _looks(data, tokens=side == "targets")
        digest = identity([facts, {name: array_digest(array) for name, array in arrays.items()}])
        folder, current = _pointer(question.identity, side), {"looks": digest}
        lab.put("looks", current, arrays, facts)
        if lab.store.read_facts(folder, _CURRENT) != current:
            lab.store.write_facts(folder, _CURRENT, current)


def looks_of(lab: Lab, question: str, side: str) -> Examples | None:
    """Examples that can be shown (their inputs stayed behind), of a question by its hash."""
    current = lab.store.read_facts(_pointer(question, side), _CURRENT)
    # Labs of before kept one look for each question.
    kind, key = ("looks", current) if current else ("examples", {"question": question, "side": side})
    known = lab.get(kind, key)
    if known is None:
        return None
    arrays, facts = known
    inputs = arrays.get("tokens", arrays.get("cells", np.zeros((facts["rows"], 1), np.float32)))
    meta = {
        name: arrays[f"meta{i}"] if values is None else values
        for i, (name, values) in enumerate(facts.get("meta", []))
    }
    return Examples(
        inputs,
        arrays.get("labels"),
        images=arrays.get("images"),
        texts=facts.get("texts"),
        names=facts["names"],
        meta=meta,
    )


def _pointer(question: str, side: str) -> str:
    """The folder that tells which looks are a question's."""
    return f"examples-{identity({'question': question, 'side': side})}"


def _looks(data: Examples, *, tokens: bool) -> tuple[dict[str, Array], Facts]:
    """Arrays and facts from which examples that look the same can be made."""
    arrays: dict[str, Array] = {} if data.labels is None else {"labels": _plain(data.labels)}
    if data.images is not None:
        arrays["images"] = np.ascontiguousarray(data.images)
    meta: list[list[Any]] = []
    for i, (name, column) in enumerate(data.meta.items()):
        numbers = isinstance(column, np.ndarray) and column.dtype.kind in "biuf"
        meta.append([name, None if numbers else [_cell(value) for value in column]])
        if numbers:
            arrays[f"meta{i}"] = np.ascontiguousarray(column)
    sequences = _sequences(data) if tokens and data.names is not None else None
    if sequences is not None:
        arrays["tokens"], arrays["labels"] = sequences
    elif data.images is None and data.texts is None and not meta:
        leaves = [leaf.reshape(len(data), -1)[:, :_CELLS] for leaf in input_leaves(data.inputs)]
        if not any(leaf.is_complex() for leaf in leaves):
            arrays["cells"] = torch.cat([leaf.double() for leaf in leaves], 1)[:, :_CELLS].numpy()
    return arrays, {"rows": len(data), "names": data.names, "texts": data.texts, "meta": meta}


def _sequences(data: Examples) -> tuple[Array, Array] | None:
    """The tokens ``[n, t]`` of sequences, and which token every place is asked for; None for rows of another kind."""
    ids, following = [], []
    try:
        for start in range(0, len(data), _ROWS):
            rows = data.take(np.arange(start, min(start + _ROWS, len(data))))
            following.append(next_tokens(rows).to(torch.int32))
            ids.append(token_ids(rows).to(torch.int32))
    except BadInput:  # dl-807, dl-808: no sequences
        return None
    return torch.cat(ids).numpy(), torch.cat(following).numpy()


def _plain(labels: torch.Tensor) -> Array:
    return (labels.float() if labels.dtype == torch.bfloat16 else labels).numpy()


def _cell(value: Any) -> Any:
    """A value of a column as JSON has it; None where a number is missing."""
    value = (
        value.item()
        if isinstance(value, np.generic) or (hasattr(value, "item") and np.ndim(value) == 0)
        else value
    )
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
