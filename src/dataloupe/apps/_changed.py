"""Inputs as a transform changes them, and what a transform may not do to them."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Inputs
from dataloupe.core import Examples, Question, Transform, input_leaves, keyed_uniforms

ROWS = 256
"""A block has no more rows than this."""
ROUNDING = 16
"""How many units of rounding a value may lie outside of a range."""
ALIKE = 1e-4
"""How far, relative to the largest value, an example's change may differ between batches: rounding."""

Ends = tuple[float, float]


def changed_inputs(
    transform: Transform, data: Examples, ids: Int[np.ndarray, " b"], strength: float, seed: int
) -> Inputs:
    """The inputs of these examples, changed: the same whoever asks, and in whatever company."""
    return transform(data.take(ids).inputs, strength, keyed_uniforms(ids, transform.draws, seed=seed))


def check_transform(
    transform: Transform,
    strengths: tuple[float, ...],
    questions: Sequence[Question],
    ids: Int[np.ndarray, " x"],
    seed: int,
) -> tuple[str, ...]:
    """Apply it to all examples at all strengths, and tell at which strengths it changes none.

    Raises ``BadInput`` dl-796 (it spoils inputs, or is not a pure function of each), dl-797 (values outside of its own
    ``limits``, else of those in the targets and training data), dl-798 (it changes nothing).
    """
    data, name = questions[0].targets, type(transform).__name__
    changed = np.zeros((len(strengths), len(ids)), dtype=bool)
    reached: dict[int, Ends] = {}
    for j, strength in enumerate(strengths):
        for start in range(0, len(ids), ROWS):
            block = ids[start : start + ROWS]
            before = data.take(block).inputs
            after = changed_inputs(transform, data, block, strength, seed)
            _check_kept(name, strength, before, after)
            if start == 0:
                _check_pure(transform, strength, data, block, after, seed)
            for number, (old, new) in enumerate(zip(input_leaves(before), input_leaves(after), strict=True)):
                other = old != new
                changed[j, start : start + len(block)] |= other.flatten(1).any(1).cpu().numpy()
                if other.any():
                    reached[number] = _wider(reached.get(number), new[other])
    if not changed.any():
        raise BadInput(
            "dl-798",
            asked=f"what {name} does at the strengths {strengths}",
            found=f"{len(ids)} examples, none of them changed at any strength",
            do="give a greater strength, or a transform that meets what the examples hold",
        )
    _check_range(transform, questions, reached)
    return tuple(
        f"at strength {strength:g} {name} changes {int(rows.sum())} of {len(ids)} examples"
        for strength, rows in zip(strengths, changed, strict=True)
        if strength != 0 and not rows.all()
    )


def _spoilt(name: str, strength: float, found: str, do: str) -> BadInput:
    return BadInput("dl-796", asked=f"inputs changed by {name} at strength {strength:g}", found=found, do=do)


def _check_kept(name: str, strength: float, before: Inputs, after: Inputs) -> None:
    """The same structure, shapes and types, and finite numbers (dl-796)."""
    told = [_told(inputs) for inputs in (before, after)]
    if told[0] != told[1]:
        found, do = f"{told[1]} for {told[0]}", "give inputs of the same structure, shape and dtype back"
        raise _spoilt(name, strength, found, do)
    for leaf in input_leaves(after):
        if leaf.is_floating_point() and not bool(leaf.isfinite().all()):
            raise _spoilt(name, strength, "NaN or infinity", "keep values finite")


def _told(inputs: Inputs) -> str:
    """Structure, types and shapes in words."""
    if isinstance(inputs, dict):
        return "a dict of " + ", ".join(f"{key}: {_told(part)}" for key, part in inputs.items())
    if isinstance(inputs, tuple | list):
        return "a tuple of " + ", ".join(_told(part) for part in inputs)
    if not isinstance(inputs, Tensor):
        return type(inputs).__name__
    return f"{str(inputs.dtype).removeprefix('torch.')} of shape {tuple(inputs.shape)}"


def _check_pure(
    transform: Transform,
    strength: float,
    data: Examples,
    block: Int[np.ndarray, " b"],
    after: Inputs,
    seed: int,
) -> None:
    """The same again, and the same for one example alone (dl-796)."""
    again = changed_inputs(transform, data, block, strength, seed)
    alone = changed_inputs(transform, data, block[:1], strength, seed)
    name = type(transform).__name__
    for new, same, single in zip(*(input_leaves(part) for part in (after, again, alone)), strict=True):
        if not torch.equal(new, same):
            found, do = "other values when asked again", "draw nothing: make all chance from the uniforms"
            raise _spoilt(name, strength, found, do)
        gap = (new[:1].double() - single.double()).abs().max() if single.numel() else 0.0
        if float(gap) > (ALIKE * float(new.abs().max()) if new.is_floating_point() else 0.0):
            found, do = (
                "other values for an example alone than among others",
                "change each example by itself",
            )
            raise _spoilt(name, strength, found, do)


def _wider(ends: Ends | None, leaf: Tensor) -> Ends:
    low, high = float(leaf.min()), float(leaf.max())
    return (low, high) if ends is None else (min(ends[0], low), max(ends[1], high))


def _check_range(transform: Transform, questions: Sequence[Question], reached: dict[int, Ends]) -> None:
    """Changed values stay in the transform's own range, or else in that of the data (dl-797)."""
    own = getattr(transform, "limits", None)
    for number, (least, most) in reached.items():
        low, high = own or _range_of_data(questions, number)
        leaf = input_leaves(questions[0].targets.inputs)[number]
        unit = torch.finfo(leaf.dtype).eps if leaf.is_floating_point() else 0.0
        slack = ROUNDING * unit * max((abs(end) for end in (low, high) if np.isfinite(end)), default=0.0)
        if low - slack <= least and most <= high + slack:
            continue
        raise BadInput(
            "dl-797",
            asked=f"inputs changed by {type(transform).__name__}",
            found=f"values from {least:g} to {most:g}, where {'its limits are' if own else 'the data have'} {low:g} to {high:g}",
            do="clip them; or, if models should see such values, give the transform `limits` = (low, high)",
        )


def _range_of_data(questions: Sequence[Question], number: int) -> Ends:
    """The least and the greatest value in the targets and in the training data of every algorithm."""
    ends: Ends | None = None
    every = {id(data): data for question in questions for data in (question.targets, question.train)}
    for data in every.values():
        leaves = input_leaves(data.inputs)
        if number < len(leaves):
            ends = _wider(ends, leaves[number])
    return ends or (-np.inf, np.inf)
