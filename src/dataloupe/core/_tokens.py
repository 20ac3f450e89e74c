"""Sequences of tokens: which token each place of a sequence is about."""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe.core._examples import Rows

IGNORED = -100
"""The label of a place that is not to be predicted, as in torch's own cross-entropy."""


def next_tokens(rows: Rows) -> Int[Tensor, "*b t"]:
    """The token that place t of every sequence should predict, :data:`IGNORED` where there is none.

    These are the labels ``[b, t]``, place by place, or without labels the inputs moved by one: place t is asked for token
    t + 1, and the last place for nothing. Inputs are token ids ``[b, t]``, or a dict as Hugging Face's models take it: its
    ``input_ids``, or its ``labels`` if it has some, are what is moved, and places where its ``attention_mask`` is 0 predict
    nothing and are not predicted. A mask of pairs of places, ``[b, 1, t, t]`` (0 or -inf and less where place s is hidden from place t), as
    packed sequences have it, tells the sequences apart: place t is asked for token t + 1 only if that one sees t. Of an encoder and decoder the decoder's sequence is meant: ``decoder_input_ids`` and
    ``decoder_attention_mask``, with labels beside the inputs or none.

    Raises ``BadInput`` dl-807 (no sequences of token ids), dl-808 (labels of another shape).
    """
    inputs, labels = rows.inputs, rows.labels
    ids = token_ids(rows)
    if not _whole(ids) or ids.ndim < 2:
        raise BadInput(
            "dl-807",
            asked="sequences of tokens",
            found=f"inputs {_described(ids)}",
            do='give token ids [n, t] as whole numbers, or {"input_ids": ..., "attention_mask": ...}',
        )
    real = _real(inputs, ids)
    if labels is None:
        own = inputs.get("labels", ids) if isinstance(inputs, dict) else ids
        if own.shape != ids.shape:
            raise BadInput(
                "dl-808",
                asked=f"labels in the dict for sequences of shape {tuple(ids.shape)}",
                found=f"labels {_described(own)}, as an encoder and decoder has them",
                do="give decoder_input_ids in the dict (a start token, then the answer), and the answer as Examples(..., labels)",
            )
        following = torch.cat([own[..., 1:], torch.full_like(own[..., :1], IGNORED)], dim=-1)
        told = (
            real
            & torch.cat([real[..., 1:], torch.zeros_like(real[..., :1])], dim=-1)
            & _sees_last(inputs, ids)
        )
        return torch.where(told, following, IGNORED)
    if not _whole(labels) or labels.shape != ids.shape:
        raise BadInput(
            "dl-808",
            asked=f"a label for each place of sequences of shape {tuple(ids.shape)}",
            found=f"labels {_described(labels)}",
            do="give the next token of every place [n, t], -100 where none is to be predicted; or give no labels",
        )
    return torch.where(real, labels, IGNORED)


def real_tokens(rows: Rows) -> Bool[Tensor, "*b t"] | None:
    """Which places of every sequence hold a token; None for rows that are no sequences of token ids.

    >>> ids, mask = torch.tensor([[5, 6, 0]]), torch.tensor([[1, 1, 0]])
    >>> real_tokens(Rows({"input_ids": ids, "attention_mask": mask}, None)).tolist()
    [[True, True, False]]
    """
    ids = token_ids(rows)
    return _real(rows.inputs, ids) if _whole(ids) and ids.ndim >= 2 else None


def _real(inputs: Any, ids: Tensor) -> Bool[Tensor, "*b t"]:
    """Which places hold a token: of a mask of pairs, those that see themselves."""
    mask = inputs.get(_named(inputs, "attention_mask")) if isinstance(inputs, dict) else None
    if not isinstance(mask, Tensor):
        return torch.ones_like(ids, dtype=torch.bool)
    if mask.ndim <= ids.ndim:
        return mask != 0
    return _open(mask).diagonal(dim1=-2, dim2=-1)


def _sees_last(inputs: Any, ids: Tensor) -> Bool[Tensor, "*b t"]:
    """Whether the token behind every place sees it: False where another sequence begins."""
    mask = inputs.get(_named(inputs, "attention_mask")) if isinstance(inputs, dict) else None
    seen = torch.ones_like(ids, dtype=torch.bool)
    if isinstance(mask, Tensor) and mask.ndim > ids.ndim:
        seen[..., :-1] = _open(mask).diagonal(offset=-1, dim1=-2, dim2=-1)
    return seen


def _open(mask: Tensor) -> Bool[Tensor, "*b t t"]:
    """Which place sees which, of a mask ``[b, 1, t, t]`` of booleans, of 1 and 0, or of numbers that are added."""
    pairs = mask[..., 0, :, :]
    added = mask.is_floating_point() and bool((mask < 0).any())
    return pairs == 0 if added else pairs != 0


def token_ids(rows: Rows) -> Any:
    """The sequences that are asked about: the inputs, of a dict its ``input_ids``, or the decoder's where it has a decoder."""
    inputs = rows.inputs
    return inputs.get(_named(inputs, "input_ids")) if isinstance(inputs, dict) else inputs


def _named(inputs: dict[str, Tensor], name: str) -> str:
    """The decoder's part of that name, if there is a decoder."""
    return f"decoder_{name}" if "decoder_input_ids" in inputs else name


def _whole(part: Any) -> bool:
    return isinstance(part, Tensor) and not part.is_floating_point() and part.dtype != torch.bool


def _described(part: Any) -> str:
    return f"of {part.dtype}, shape {tuple(part.shape)}" if isinstance(part, Tensor) else f"{part!r}"
