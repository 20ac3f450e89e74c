"""Sequences of tokens: which token each place of a sequence is about."""

from typing import Any

import torch
from jaxtyping import Int
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
    nothing and are not predicted. Of an encoder and decoder the decoder's sequence is meant: ``decoder_input_ids`` and
    ``decoder_attention_mask``, with labels beside the inputs or none.

    Raises ``BadInput`` dl-807 (no sequences of token ids), dl-808 (labels of another shape).
    """
    inputs, labels = rows
    ids = token_ids(rows)
    if not _whole(ids) or ids.ndim < 2:
        raise BadInput(
            "dl-807",
            asked="sequences of tokens",
            found=f"inputs {_described(ids)}",
            do='give token ids [n, t] as whole numbers, or {"input_ids": ..., "attention_mask": ...}',
        )
    seen = inputs.get(_named(inputs, "attention_mask")) if isinstance(inputs, dict) else None
    real = torch.ones_like(ids, dtype=torch.bool) if seen is None else seen != 0
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
        told = real & torch.cat([real[..., 1:], torch.zeros_like(real[..., :1])], dim=-1)
        return torch.where(told, following, IGNORED)
    if not _whole(labels) or labels.shape != ids.shape:
        raise BadInput(
            "dl-808",
            asked=f"a label for each place of sequences of shape {tuple(ids.shape)}",
            found=f"labels {_described(labels)}",
            do="give the next token of every place [n, t], -100 where none is to be predicted; or give no labels",
        )
    return torch.where(real, labels, IGNORED)


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
