"""A recipe's first steps are held against each other, and against plain torch, before it is trained many times.

- The same steps twice, under other global generators, give the same bits (dl-261), and draw from none (dl-222).
- A module, ``backward`` and ``torch.optim`` take the same steps, where the learner has such a ``reference`` (dl-266).
- In a stack, the second model takes the steps that it takes alone (dl-260).
- Another content of a row of weight 0 changes nothing, where such rows are in a batch (dl-260, dl-267).
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.utils._pytree import tree_map

from dataloupe._errors import CapabilityError, TrainingError
from dataloupe._identity import Stream
from dataloupe.core import (
    Question,
    State,
    SteppedLearner,
    TorchModel,
    as_called,
    fresh,
    isolated,
    make_batch,
    name_of,
    one_value,
)
from dataloupe.engine._kinds import takes_reference
from dataloupe.engine._stack import pick, stack_batch, train_stack

FIRST_STEPS = 3
_TARGETS = 16
_RELATIVE = {torch.float64: 1e-6, torch.float32: 1e-3}
_RELATIVE_HALF = 0.1
_OTHER_SEED = 1
_NOISE = 8.0
"""Two ways may be so many times farther apart than one is from itself when its start is off by rounding."""


class Pair(NamedTuple):
    """Two trainings of a recipe: the subsets ``[2, n]`` and the seeds."""

    weights: Tensor
    seeds: list[int]

    @classmethod
    def of(cls, learner: SteppedLearner, masks: Bool[np.ndarray, "k n"], seeds: Sequence[int]) -> "Pair":
        """The first and the last of some trainings; of one subset where rows feel each other."""
        last = masks[0] if learner.couples_rows and masks[-1].sum() != masks[0].sum() else masks[-1]
        weights = torch.from_numpy(np.stack([masks[0], last]).astype(np.float32))
        return cls(weights, [seeds[0], seeds[-1] if len(seeds) > 1 else Stream.root(seeds[0])("pair").seed()])


def check_recipe(
    question: Question, learner: SteppedLearner, pair: Pair, *, stacked: bool, same_size: bool
) -> None:
    """All checks of a stepped learner, for the second of two trainings; a few steps each.

    ``same_size``: all subsets have one size, so that no batch of a stack is filled up.
    """
    first = _Steps(question, learner, pair)
    first.check_twice()
    first.check_reference()
    problem = first.masked_content()
    if problem and learner.removal == "mask":
        raise CapabilityError(
            "dl-267",
            asked=f'{name_of(learner)} with removal="mask"',
            found=f"rows of a batch that feel each other: {problem}",
            do='use removal="repack", or take each row by itself in forward (no statistics over the batch)',
        )
    if stacked:
        first.check_stack(None if same_size else problem)


def stack_problem(question: Question, learner: SteppedLearner, pair: Pair, *, same_size: bool) -> str | None:
    """Why the recipe cannot be trained in stacks, or None."""
    first = _Steps(question, learner, pair)
    try:
        first.check_stack(None if same_size else first.masked_content())
    except TrainingError as error:
        return str(error)
    return None


class _Steps:
    """The first steps of the second training of a pair, one way and another."""

    def __init__(self, question: Question, learner: SteppedLearner, pair: Pair) -> None:
        self.question, self.learner, self.pair = question, learner, pair
        self.start = learner.init(seed=pair.seeds[1])
        with isolated(seed=0):
            self.alone = self._by_the_loop(self.start)
        self.rounded = self._by_the_loop(_off_by_rounding(self.start))
        self.rounding = _Rounding(_leaves(self.alone), _leaves(self.rounded))

    def check_twice(self) -> None:
        """The steps again, and the outputs again: the same bits."""
        if not is_repeatable(self.learner):
            return
        with isolated(seed=_OTHER_SEED):
            again = self._by_the_loop(self.start)
        if not _same_bits(self.alone, again):
            raise not_repeatable(self.learner, "the same first steps, twice, are not the same")
        model = self.learner.model(self.alone)
        rows = self.question.targets.take(np.arange(min(_TARGETS, len(self.question.targets))))
        values = [one_value(self.question.output, model, rows) for _ in range(2)]
        if not _same_bits(*values):
            raise not_repeatable(self.learner, "the same model, asked twice, does not predict the same")

    def check_reference(self) -> None:
        """Plain torch takes the same steps, and its module predicts the same afterwards."""
        learner = self.learner
        if not takes_reference(learner):
            return
        batches = [
            make_batch(self.question.train, self.pair.weights[1], slot, self.learner.removal)
            for slot in self._slots()
        ]
        truth = learner.reference(self.start, batches)
        tensors = truth.params | truth.buffers
        problem = _apart(_leaves(self.alone), tensors, _leaves(self.start), self.rounding)
        problem = problem or self._predictions_apart(truth)
        if problem:
            raise TrainingError(
                "dl-266",
                asked=f"{name_of(self.learner)}",
                found=f"steps that are not those of plain torch (a module, backward, torch.optim): {problem}",
                do="keep what forward changes in buffers (register_buffer), and parameters where torch puts them",
            )

    def check_stack(self, masked: str | None) -> None:
        """The second model of a stack of two takes the steps that it takes alone."""
        problem = masked
        if problem is None:
            both = train_stack(
                self.learner, self.question.train, self.pair.weights, self.pair.seeds, steps=FIRST_STEPS
            )
            second, alone, start = (_leaves(state) for state in (pick(both, 1), self.alone, self.start))
            problem = _apart(second, alone, start, self.rounding)
        if problem:
            raise TrainingError(
                "dl-260",
                asked=f"many models of {name_of(self.learner)} in one program",
                found=f"steps that are not those of one model after the other: {problem}",
                do='train with Lab(backend="auto"), which then takes the loop, or Lab(backend="loop")',
            )

    def masked_content(self) -> str | None:
        """What changes in a step when rows of weight 0 hold something else, or None."""
        slot = next(iter(self._slots()))
        ids = torch.as_tensor(slot.ids)
        ids = ids[self.pair.weights[1][ids] > 0]
        if self.learner.couples_rows or len(ids) < 2:
            return None
        weights = torch.zeros_like(self.pair.weights[1])
        weights[ids[::2]] = 1.0
        empty = stack_batch(self.question.train, weights[None], [slot], self.learner.removal)
        filled = empty._replace(data=self.question.train.take(torch.as_tensor(slot.ids)[None]))
        with_nothing, with_rows = (_leaves(self._one_step(batch)) for batch in (empty, filled))
        return _apart(with_nothing, with_rows, _leaves(self.start), _Rounding({}, {}))

    # --- the ways ---

    def _slots(self) -> list[Any]:
        schedule = self.learner.batches(self.pair.weights[1], seed=self.pair.seeds[1])
        return list(itertools.islice(schedule, FIRST_STEPS))

    def _by_the_loop(self, start: State) -> State:
        """As the back end ``loop`` does it."""
        weights, seeds = self.pair.weights[1:], self.pair.seeds[1:]
        return pick(
            train_stack(
                self.learner, self.question.train, weights, seeds, steps=FIRST_STEPS, states=_stacked(start)
            ),
            0,
        )

    def _one_step(self, batch: Any) -> State:
        single = tree_map(lambda leaf: leaf[0] if isinstance(leaf, Tensor) else leaf, batch)
        return fresh(self.learner).step(self.start, single)

    def _predictions_apart(self, truth: TorchModel) -> str | None:
        inputs = as_called(
            self.question.targets.take(np.arange(min(_TARGETS, len(self.question.targets)))).inputs
        )
        with torch.no_grad():
            predicted = [
                {"the predictions": model.predict(inputs)}
                for model in (truth, *map(self.learner.model, (self.alone, self.start, self.rounded)))
            ]
        exact, alone, start, rounded = predicted
        return _apart(alone, exact, start, _Rounding(alone, rounded))


def is_repeatable(learner: Any) -> bool:
    """Whether a learner promises the same model again, as all do that do not say ``repeatable = False``."""
    return getattr(learner, "repeatable", True) is not False


def not_repeatable(learner: Any, problem: str) -> TrainingError:
    """The error of a learner whose numbers do not come again."""
    return TrainingError(
        "dl-261",
        asked=f"{name_of(learner)}: the same data, weights and seed, the same model",
        found=problem,
        do="make its randomness a function of the seed it is given, and keep nothing from one training to the next; "
        "if its numbers cannot come again (kernels of a GPU), say so with the attribute repeatable = False",
    )


def _stacked(state: State) -> State:
    return tree_map(lambda leaf: leaf[None].clone(), state)


def _off_by_rounding(state: State) -> State:
    """The start, every parameter moved by two units in its last place."""

    def moved(p: Tensor) -> Tensor:
        if not (p.is_floating_point() or p.is_complex()):
            return p
        bits = Stream.root(0)("rounding").bits(np.arange(p.numel())) & np.uint64(1)
        signs = torch.from_numpy(bits.astype(np.float32) * 2 - 1).reshape(p.shape)
        return p * (1 + 2 * torch.finfo(p.dtype).eps * signs.to(p.dtype))

    return state._replace(params={name: moved(p) for name, p in state.params.items()})


def _leaves(state: State) -> dict[str, Tensor]:
    """All tensors of a state by name."""
    moments = {f"{kind} of {name}": v for kind, part in state.optimizer.items() for name, v in part.items()}
    return state.params | state.buffers | moments


def _same_bits(one: Any, other: Any) -> bool:
    """Equal in every number; NaN is equal to NaN."""
    equal: list[bool] = []
    tree_map(lambda a, b: equal.append(bool(((a == b) | ((a != a) & (b != b))).all())), one, other)
    return all(equal)


class _Rounding(NamedTuple):
    """A way of computing, and the same from a start that is off by rounding."""

    exact: dict[str, Tensor]
    rounded: dict[str, Tensor]

    def reach(self, name: str) -> float:
        """How far rounding carries a tensor; NaN where it does not stay finite."""
        if name not in self.exact:
            return 0.0
        return float((_wide(self.exact[name]) - _wide(self.rounded[name])).abs().max())


def _apart(
    found: dict[str, Tensor], truth: dict[str, Tensor], start: dict[str, Tensor], rounding: _Rounding
) -> str | None:
    """The tensor that is farther from the truth than rounding explains, in words; None if there is none."""
    for name in (name for name in truth if name in found):
        one, exact, before = (_wide(tensors[name]) for tensors in (found, truth, start))
        dtype = truth[name].dtype
        if one.shape != exact.shape:
            return f"{name} has shape {tuple(one.shape)} and not {tuple(exact.shape)}"
        if exact.numel() == 0:
            continue
        if not (dtype.is_floating_point or dtype.is_complex):
            if not torch.equal(one, exact):
                return f"{name} is another"
            continue
        reach, finite = rounding.reach(name), [bool(part.isfinite().all()) for part in (one, exact)]
        if not all(finite):
            if finite[0] == finite[1] or not np.isfinite(reach):
                continue  # diverged both ways
            return f"{name} is {'finite' if finite[0] else 'not finite'}"
        moved = float((exact - before).abs().max()) if before.shape == exact.shape else 0.0
        last_place = float(torch.finfo(dtype).eps) * float(exact.abs().max())
        allowed = _RELATIVE.get(dtype, _RELATIVE_HALF) * moved + _NOISE * (last_place + reach)
        difference = float((one - exact).abs().max())
        if not difference <= allowed and np.isfinite(reach):
            return f"{name} is off by {difference:.2g}, where rounding explains {allowed:.1g}"
    return None


def _wide(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    if tensor.is_complex():
        return torch.view_as_real(tensor).double()
    return tensor.double() if tensor.is_floating_point() else tensor
