"""SCRUB: a student that leaves its teacher on the rows to forget and stays with it elsewhere."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._typing import Array
from dataloupe.core import Examples, Objective, Seen, Stage, TorchModel
from dataloupe.unlearning._context import FORWARD, Context, predicted
from dataloupe.unlearning._settings import FineTuned, losses_of, refused
from dataloupe.unlearning._tuned import shuffled


@dataclasses.dataclass(frozen=True)
class SCRUB(FineTuned):
    """Distillation in turns: away from the teacher on the rows to forget, towards it on the retained ones::

        max steps, the first max_epochs epochs:   min -T^2 KL(p_teacher || p_student) on F
        min steps, every epoch:                   min gamma loss + alpha T^2 KL(p_teacher || p_student) on R

    The teacher is the model given, its predictions are computed once; p are classes' probabilities at temperature T. The
    learning rate is a tenth of itself after each epoch of ``decays``, one state of SGD goes through all steps. Where student
    and teacher are equal the distance has no slope: the very first max steps move by weight decay alone.

    ``rewind=True`` is SCRUB+R: of the models after every epoch the one whose error on the rows to forget is nearest to the
    last one's error on the question's targets of the same classes (of equals the latest). It costs one forward pass over
    the rows to forget an epoch, and one over these targets. The epochs are in the ledger's last stage.

    Raises ``BadInput`` dl-670, dl-672 (settings), dl-677 (no targets to rewind to), ``CapabilityError`` dl-676 (no classes).
    Source: Kurmanji et al. 2023, "Towards unbounded machine unlearning".

    >>> SCRUB().name, SCRUB(rewind=True).name
    ('SCRUB', 'SCRUB+R')
    """

    epochs: int = 5
    lr: float = 5e-4
    max_epochs: int = 3
    alpha: float = 0.1
    gamma: float = 0.99
    temperature: float = 4.0
    decays: tuple[int, ...] = (3, 5, 9)
    forget_batch: int | None = None
    rewind: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        wrong = {
            "max_epochs": not 1 <= self.max_epochs <= self.epochs,
            "alpha": not self.alpha >= 0,
            "gamma": not self.gamma >= 0,
            "temperature": not self.temperature > 0,
            "decays": any(epoch < 1 for epoch in self.decays),
            "forget_batch": self.forget_batch is not None and self.forget_batch < 1,
            "rewind": self.rewind and not self.frozen_norms,
        }
        do = "use 1 to `epochs` max_epochs, weights of at least 0, a temperature above 0; rewind only with frozen norms"
        refused("dl-672", self, wrong, do)

    @property
    def name(self) -> str:
        """Its name in tables."""
        return "SCRUB+R" if self.rewind else "SCRUB"

    def many(self, models: Sequence[TorchModel], context: Context) -> list[TorchModel]:
        """The students of these teachers."""
        _must_have_classes(context)
        reference = _alike(context) if self.rewind else np.empty(0, np.int64)
        ids = np.concatenate([context.forget, context.retained])
        teacher = _Teacher(
            context.predictions(models, ids), _places(ids, context.question.n), self.temperature
        )
        states = _States()
        found = self.tuned(models, context, self._stages(context, teacher, states))
        return _rewound(found, states, context, reference, self.epochs) if self.rewind else found

    def _stages(self, context: Context, teacher: "_Teacher", states: "_States") -> list[Stage]:
        size, stages = self.size(context), []
        for epoch in range(self.epochs):
            rate = 0.1 ** sum(epoch >= end for end in self.decays)
            found = []
            if epoch < self.max_epochs:
                rows = shuffled(context.forget, self.forget_batch or size, epoch)
                found.append(Stage("max", rows, teacher.leave, rate))
            rows = shuffled(context.retained, size, epoch)
            found.append(Stage("min", rows, teacher.stay(self.gamma, self.alpha), rate))
            if self.rewind and epoch:
                found[0] = found[0]._replace(objective=states.seen_at(epoch, found[0].objective))
            stages += found
        return stages


@dataclasses.dataclass(frozen=True, eq=False)
class _Teacher:
    """What the teachers predict, ``[M, rows, c]``, and where each row stands in it."""

    predictions: Float[Tensor, "M rows c"]
    places: Int[np.ndarray, " n"]
    temperature: float

    def distance(self, seen: Seen) -> Float[Tensor, " M"]:
        """T^2 KL(p_teacher || p_student), the mean of the batch."""
        known = self.predictions[seen.models]
        rows = torch.from_numpy(self.places[seen.ids])
        wanted = known[torch.arange(len(known))[:, None], rows].to(seen.predicted)
        p = functional.log_softmax(wanted / self.temperature, -1)
        q = functional.log_softmax(seen.predicted / self.temperature, -1)
        return self.temperature**2 * (p.exp() * (p - q)).sum(-1).mean(1)

    def leave(self, seen: Seen) -> Float[Tensor, " M"]:
        """The objective of max steps."""
        return -self.distance(seen)

    def stay(self, gamma: float, alpha: float) -> Objective:
        """The objective of min steps."""
        return lambda seen: gamma * losses_of(seen).mean(1) + alpha * self.distance(seen)


class _States:
    """The parameters after each epoch: what the first step of the next one sees, copied."""

    def __init__(self) -> None:
        self._known: dict[int, dict[int, dict[str, Tensor]]] = {}

    def seen_at(self, epoch: int, objective: Objective) -> Objective:
        """The objective of the first stage of an epoch, which also keeps the state that it finds."""

        def kept(seen: Seen) -> Float[Tensor, " M"]:
            known = self._known.setdefault(epoch, {})
            if seen.models.start not in known:
                for i, place in enumerate(range(seen.models.start, seen.models.stop)):
                    known[place] = {name: p.detach()[i].clone() for name, p in seen.params.items()}
            return objective(seen)

        return kept

    def after(self, epoch: int, place: int) -> dict[str, Tensor]:
        """The parameters of model ``place`` after so many epochs (less than all)."""
        return self._known[epoch][place]


def _rewound(
    found: list[TorchModel], states: _States, context: Context, reference: Array, epochs: int
) -> list[TorchModel]:
    """Of every model the epoch whose error on the rows to forget is nearest to the last one's on the reference."""
    chosen, ends = [], []
    for place, last in enumerate(found):
        each = [last.with_params(states.after(epoch, place)) for epoch in range(1, epochs)] + [last]
        wanted = _error(last, context.question.targets, reference)
        away = [abs(_error(one, context.data, context.forget) - wanted) for one in each]
        best = max(epoch for epoch in range(epochs) if away[epoch] == min(away))
        if not all(bool(p.isfinite().all()) for p in last.params.values()):
            best = epochs - 1  # a diverged model comes back as it is
        chosen.append(each[best])
        ends.append(float(best + 1))
    context.ledger.book(FORWARD * (epochs * len(context.forget) + len(reference)))
    context.ledger.stages.append(("rewound to epoch", ends))
    return chosen


def _error(model: TorchModel, data: Examples, ids: Array) -> float:
    """The share of rows whose class is not the likeliest."""
    wrong = predicted(model, data, ids).argmax(-1) != data.labels[torch.from_numpy(ids)].long()
    return float(wrong.double().mean())


def _places(ids: Array, n: int) -> Int[np.ndarray, " n"]:
    places = np.full(n, -1)
    places[ids] = np.arange(len(ids))
    return places


def _must_have_classes(context: Context) -> None:
    labels = context.data.labels
    if labels is None or labels.is_floating_point():
        raise CapabilityError(
            "dl-676",
            asked="SCRUB, whose distances are between probabilities of classes",
            found="training rows without class labels",
            do="use GradientDescent, AscentDescent or NewtonStep",
        )


def _alike(context: Context) -> Int[np.ndarray, " t"]:
    """The targets of the same classes as the rows to forget (dl-677)."""
    labels = context.question.targets.labels
    forget = context.data.labels[torch.from_numpy(context.forget)]
    found = np.empty(0, np.int64) if labels is None else np.flatnonzero(torch.isin(labels, forget).numpy())
    if len(found) == 0:
        raise BadInput(
            "dl-677",
            asked="SCRUB with rewind",
            found="no target of the classes of the rows to forget",
            do="give the question labelled validation rows of these classes, or use rewind=False",
        )
    return found
