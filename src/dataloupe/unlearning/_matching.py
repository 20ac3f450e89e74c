"""Fine-tuning toward what oracles predict, or are predicted to predict."""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import Stream
from dataloupe._typing import Array, Inputs
from dataloupe.core import (
    Model,
    Objective,
    Optimizer,
    Seen,
    Stage,
    TorchModel,
    Tuning,
    check_settings,
)
from dataloupe.unlearning._context import FORWARD, Context, predicted
from dataloupe.unlearning._plain import Retrain
from dataloupe.unlearning._predictors import Predictor
from dataloupe.unlearning._rows import row_keys
from dataloupe.unlearning._settings import finite
from dataloupe.unlearning._tuned import Batches, Tuner, mixed

PROBED, PACE = 32, 10.0
"""Rows that the steepness of a model is probed on, and how fast it goes in units of it."""


@dataclasses.dataclass(frozen=True)
class Mix:
    """Which rows a matching goes over, how often and how fast: the settings that both kinds share.

    Every epoch takes the rows to forget ``repeat`` times each, so that they are ``forget_share`` of the mix, and ``draw``
    retained rows, drawn anew: ``max(ratio |F|, least n)`` of them, all if there are fewer. Batches are small
    whatever the request: it is steps that bring predictions to their aims. The rate falls from ``lr`` to a tenth of it, epoch by
    epoch; ``lr=None`` is 1e-3 for Adam, and for SGD (momentum 0.9) each model's own

        lr = 10 / mean over rows of |d f(x) / d theta|^2

    by a keyed probe of 32 retained rows: squared distances of predictions are as steep as that, and what is slow for one
    network lets another diverge.

    Predictions of the rows to forget have furthest to go and stop a few percent short, so their aims are set further:

        aim' = own + reach (aim - own),    x in F

    Raises ``BadInput`` dl-690.

    >>> Mix().sizes(forget=10, retained=1427)
    (83, 6)
    """

    epochs: int = 6
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float | None = None
    forget_share: float = 0.4
    ratio: float = 8.3
    least: float = 0.04
    batch_size: int = 8
    frozen_norms: bool = True
    reach: float = 1.03

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-690")
        finite("dl-690", self)
        sizes = self.epochs >= 1 and self.batch_size >= 1
        rates = (self.lr is None or self.lr > 0) and self.optimizer in ("sgd", "adam")
        shares = 0 < self.forget_share < 1 and self.ratio >= 0 and 0 <= self.least <= 1 and 0 < self.reach < 2
        if not (sizes and rates and shares):
            raise BadInput(
                "dl-690",
                asked=f"a mix of {self.epochs} epochs by {self.optimizer!r} at lr {self.lr}, {self.forget_share:g} of it to forget, {self.ratio:g} retained rows for each or {self.least:g} of the data, reaching {self.reach:g} of the way",
                found="a number outside its range, or an unknown optimizer",
                do="use at least 1 epoch, sgd or adam, lr above 0, a share between 0 and 1, a ratio of at least 0, a reach between 0 and 2",
            )

    def sizes(self, forget: int, retained: int) -> tuple[int, int]:
        """Retained rows drawn an epoch, and how often each row to forget comes."""
        draw = min(retained, max(round(self.ratio * forget), math.ceil(self.least * (forget + retained))))
        share = self.forget_share / (1.0 - self.forget_share)
        return draw, max(1, math.ceil(share * draw / forget - 1e-9))

    def batches(self, forget: Array, retained: Array) -> list[Batches]:
        """Every epoch's."""
        draw, repeat = self.sizes(len(forget), len(retained))
        return [mixed(forget, retained, draw, repeat, self.batch_size, epoch) for epoch in range(self.epochs)]

    def rates(self) -> list[float]:
        """Of every epoch: from 1 to a tenth, evenly in logarithms."""
        return [10.0 ** (-epoch / max(1, self.epochs - 1)) for epoch in range(self.epochs)]

    def moved_by(self) -> Optimizer:
        """The optimizer; where each model has a rate of its own, this is 1 and the objective holds the model's."""
        if self.optimizer == "adam":
            return Optimizer("adam", lr=self.lr or 1e-3)
        return Optimizer("sgd", lr=self.lr or 1.0, momentum=0.9)

    def paces(self, models: Sequence[TorchModel], context: Context) -> Float[Tensor, " M"]:
        """Each model's own rate, where none is named; else 1."""
        if self.lr is not None or self.optimizer == "adam":
            return torch.ones(len(models))
        context.ledger.book(min(PROBED, len(context.retained)))
        steep = [
            _steepness(model, context, seed)
            for model, seed in zip(models, context.seeds(len(models)), strict=True)
        ]
        return PACE / torch.tensor(steep)


class _Matching(Tuner):
    """Aims for some rows, then half the squared distance of predictions to them, by a mix of rows."""

    mix: Mix

    @abc.abstractmethod
    def aims(
        self, models: Sequence[TorchModel], context: Context, ids: list[Array]
    ) -> Float[Tensor, "M n c"]:
        """What model i should predict for the rows ``ids[i]``."""

    def many(self, models: Sequence[TorchModel], context: Context) -> list[TorchModel]:
        """Aims once, then the mix."""
        batches = self.mix.batches(context.forget, context.retained)
        ids = [_rows_of(batches, seed) for seed in context.seeds(len(models))]
        aims = self.aims(models, context, ids)
        context.ledger.book(FORWARD * len(context.forget))
        for model, aim in zip(models, aims, strict=True):
            own = predicted(model, context.data, context.forget)
            aim[context.forget] = own.float() + self.mix.reach * (aim[context.forget] - own.float())
        objective = _matched(aims, self.mix.paces(models, context))
        stages = [
            Stage(f"match, epoch {epoch + 1}", own, objective, rate)
            for epoch, (own, rate) in enumerate(zip(batches, self.mix.rates(), strict=True))
        ]
        tuning = Tuning(stages, self.mix.moved_by(), frozen_norms=self.mix.frozen_norms)
        return context.finetune(models, tuning)


@dataclasses.dataclass(frozen=True)
class DMM(_Matching):
    """Datamodel matching: fine-tune toward what retraining is predicted to make of the model's own predictions.

        aim_x = f(x; theta_0) + change_x,    minimise  mean over the mix of 1/2 |f(x; theta) - aim_x|^2

    ``by`` predicts the changes (:class:`Regression`, :class:`Gradients`, :class:`Attributed`) for rows to forget and
    retained rows alike. Aims are made once: a forward pass over the rows that the mix will show. Each model keeps its own
    noise, so that many models unlearned are as different from each other as models retrained.

    Source: Georgiev et al. 2024 (Attribute-to-Delete), algorithm A.2.

    >>> import dataloupe as dl
    >>> DMM(dl.unlearning.Regression(dl.Subsets(n=100, count=500, fraction=0.75))).mix.epochs
    6
    """

    by: Predictor
    mix: Mix = Mix()
    name: ClassVar[str] = "DMM"

    def aims(
        self, models: Sequence[TorchModel], context: Context, ids: list[Array]
    ) -> Float[Tensor, "M n c"]:
        """Own predictions and the predicted changes."""
        changes = torch.from_numpy(self.by.changes(context)[: context.question.n])
        context.ledger.book(FORWARD * float(np.mean([len(rows) for rows in ids])))
        return _filled(
            models, context, ids, lambda i, rows: predicted(models[i], context.data, rows) + changes[rows]
        )


@dataclasses.dataclass(frozen=True)
class OracleMatching(_Matching):
    """The same toward a true oracle of each model's own: what matching could do with perfect predictions.

        aim_x = f(x; oracle),    one oracle a model, trained without the rows

    It costs a retraining, which is counted: a yardstick, not a method.

    Source: Georgiev et al. 2024 (Attribute-to-Delete), algorithm A.1.

    >>> OracleMatching().name
    'oracle matching'
    """

    mix: Mix = Mix()
    name: ClassVar[str] = "oracle matching"

    def aims(
        self, models: Sequence[TorchModel], context: Context, ids: list[Array]
    ) -> Float[Tensor, "M n c"]:
        """Predictions of models trained without the rows."""
        oracles = Retrain().many(models, context)
        context.ledger.book(FORWARD * float(np.mean([len(rows) for rows in ids])))
        return _filled(models, context, ids, lambda i, rows: predicted(oracles[i], context.data, rows))


@dataclasses.dataclass(frozen=True)
class DMDirect:
    """The predicted oracle itself, as a model: own predictions plus predicted changes, for rows that it knows.

        f(x) + change_x

    It knows the training rows and the question's targets, by their contents; others are refused (dl-691). Nothing is
    fine-tuned: the weights behind it still contain the rows. For serving, not for deletion.

    Source: Georgiev et al. 2024 (Attribute-to-Delete), DM-Direct.

    >>> import dataloupe as dl
    >>> DMDirect(dl.unlearning.Regression(dl.Subsets(n=100, count=500, fraction=0.75))).name
    'DM-Direct'
    """

    by: Predictor
    name: ClassVar[str] = "DM-Direct"

    def __call__(self, model: TorchModel, context: Context) -> Model:
        """One model."""
        return self.many([model], context)[0]

    def many(self, models: Sequence[TorchModel], context: Context) -> list[Model]:
        """Many, which share what is predicted."""
        changes = torch.from_numpy(self.by.changes(context))
        known: dict[bytes, int] = {}
        for start, data in ((0, context.data), (context.question.n, context.question.targets)):
            known |= {
                key: start + i for i, key in enumerate(row_keys(data.take(np.arange(len(data))).inputs))
            }
        return [Corrected(model, known, changes) for model in models]


@dataclasses.dataclass(frozen=True, eq=False)
class Corrected:
    """A model whose predictions for known rows are corrected afterwards."""

    model: Model
    known: dict[bytes, int]
    changes: Float[Tensor, "rows c"]

    def predict(self, inputs: Inputs) -> Float[Tensor, "b c"]:
        """The model's own and the correction (dl-691 for a row without one)."""
        places = [self.known.get(key, -1) for key in row_keys(inputs)]
        if -1 in places:
            raise CapabilityError(
                "dl-691",
                asked="a corrected prediction",
                found=f"row {places.index(-1)} of the batch, for which nothing was predicted",
                do="ask about training rows and targets of the question, or unlearn by DMM",
            )
        found = self.model.predict(inputs)
        return found + self.changes[places].to(found.dtype)


def _rows_of(batches: list[Batches], seed: int) -> Int[np.ndarray, " u"]:
    """All rows that a model's batches show."""
    return np.unique(np.concatenate([turn.ids for epoch in batches for turn in epoch(seed)]))


def _filled(
    models: Sequence[TorchModel], context: Context, ids: list[Array], of: Any
) -> Float[Tensor, "M n c"]:
    """Aims in place, NaN where none is needed."""
    first = of(0, ids[0])
    found = torch.full((len(models), context.question.n, first.shape[1]), torch.nan, dtype=torch.float32)
    found[0, ids[0]] = first.float()
    for i in range(1, len(models)):
        found[i, ids[i]] = of(i, ids[i]).float()
    return found


def _matched(aims: Float[Tensor, "M n c"], paces: Float[Tensor, " M"]) -> Objective:
    """Half the squared distance to the aims, the mean over a batch, times each model's pace."""

    def objective(seen: Seen) -> Float[Tensor, " M"]:
        models = torch.arange(seen.models.start, seen.models.stop)[:, None]
        away = seen.predicted - aims[models, torch.from_numpy(seen.ids)].to(seen.predicted.dtype)
        return paces[seen.models] * 0.5 * (seen.weights * away.square().sum(-1)).mean(-1)

    return objective


def _steepness(model: TorchModel, context: Context, seed: int) -> float:
    """The mean of |d f(x) / d theta|^2 over some retained rows: that of a random sign of the outputs, row by row."""
    stream = Stream.root(seed)("steepness")
    ids = context.retained[np.argsort(stream.bits(context.retained))][:PROBED]
    live = model.with_params({name: p.detach().clone().requires_grad_() for name, p in model.params.items()})
    total = 0.0
    for row in ids:
        outputs = live.predict(context.data.take([row]).inputs)[0]
        signs = torch.from_numpy(np.sign(stream("signs").uniform(np.arange(len(outputs)), row) - 0.5)).to(
            outputs.dtype
        )
        found = torch.autograd.grad((signs * outputs).sum(), list(live.params.values()), allow_unused=True)
        total += sum(float(one.square().sum()) for one in found if one is not None)
    return max(total / len(ids), 1e-12)
