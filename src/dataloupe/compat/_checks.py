"""What a script may get wrong, told before anything is computed; and where things lie in the folder."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from dataloupe._errors import BadInput, CapabilityError
from dataloupe.compat._shelf import Contents, Shelf
from dataloupe.compat._tasks import Batch, leaves, size_of


def model_folder(model_id: int) -> str:
    """Where a model's features lie."""
    return f"models/{int(model_id)}"


def targets_folder(exp_name: str, model_id: int) -> str:
    """Where the targets' features lie at a model."""
    return f"experiments/{exp_name}/{model_folder(model_id)}"


def row_ids(
    batch: Batch, inds: Any, num_samples: int | None, first: int, rows: Contents
) -> Int[np.ndarray, " b"]:
    """The numbers of a batch's rows: those given, or the next ``num_samples`` (dl-964, dl-965)."""
    if (inds is None) == (num_samples is None):
        raise out_of_order("a batch", "both or neither of inds and num_samples", "give one of them")
    if inds is None:
        ids = np.arange(first, first + (num_samples or 0))
    else:
        ids = np.asarray(inds.cpu() if isinstance(inds, Tensor) else inds).reshape(-1)
    b, count = size_of(batch), len(rows.there)
    fits = len(ids) == b > 0 and ids.dtype.kind in "iu" and ids.min() >= 0 and ids.max() < count
    if not fits or len(np.unique(ids)) != b:
        named = f"{len(ids)} rows" + (f" from {ids.min()} to {ids.max()}" if len(ids) else "")
        raise BadInput(
            "dl-965",
            asked=f"{named}, of {count}",
            found=f"a batch of {b}" if b >= 0 else "a batch whose parts differ in length or are no tensors",
            do="name every row of the batch once, by its number from 0 on",
        )
    return ids.astype(np.int64)


def check_device(batch: Batch, device: torch.device) -> None:
    """Refuse a batch elsewhere than the model (dl-960)."""
    elsewhere = {part.device for part in leaves(batch)} - {device}
    if elsewhere:
        raise BadInput(
            "dl-960",
            asked=f"a batch for the model on {device}",
            found=f"tensors on {', '.join(map(str, elsewhere))}",
            do=f"move the batch: [part.to({str(device)!r}) for part in batch]",
        )


def rows_missing(what: str, shelf: Shelf, call: str) -> BadInput:
    """Rows that no batch has brought yet (dl-966)."""
    first = ", ".join(map(str, shelf.missing[:4]))
    return BadInput(
        "dl-966",
        asked=what,
        found=f"{len(shelf.missing)} of {len(shelf.there)} rows missing, first {first}",
        do=f"call {call} for these rows; nothing is filled in for you",
    )


def out_of_order(asked: str, found: str, do: str) -> BadInput:
    """A call before its time (dl-964)."""
    return BadInput("dl-964", asked=asked, found=found, do=do)


def no_counterpart(**given: Any) -> None:
    """Refuse parts of the original that have no counterpart (dl-961)."""
    for name, thing in given.items():
        if thing is not None:
            raise CapabilityError(
                "dl-961",
                asked=f"{name}={thing!r}",
                found="a part of the original that has no counterpart here",
                do=f"leave {name} out: gradients, files and solves are dataloupe's own",
            )


def device_for(model: nn.Module, device: Any) -> torch.device:
    """Where features are computed (dl-960)."""
    first = next(model.parameters(), torch.empty(0))
    found = first.device if device is None else torch.device(device)
    if found.type == "cuda" and not torch.cuda.is_available():
        raise BadInput(
            "dl-960",
            asked=f"device={device!r}",
            found="no CUDA device here",
            do='give device="cpu", or leave it out',
        )
    return torch.empty(0, device=found).device


def known_parameters(model: nn.Module, names: Iterable[str] | None) -> list[str] | None:
    """``grad_wrt``, if the model has them (dl-972)."""
    wanted = None if names is None else sorted(names)
    there = dict(model.named_parameters())
    unknown = [name for name in wanted or [] if name not in there]
    if unknown or wanted == []:
        raise BadInput(
            "dl-972",
            asked=f"gradients with respect to {', '.join(unknown) or 'nothing'}",
            found=f"the parameters {', '.join(list(there)[:6])}" + (" ..." if len(there) > 6 else ""),
            do="name parameters as model.named_parameters() does, or leave grad_wrt out for all",
        )
    return wanted
