"""The two ends of the scale: nothing done, and all done again."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from dataloupe._identity import Stream
from dataloupe.core import Subsets, TorchModel, torch_model
from dataloupe.unlearning._context import Context
from dataloupe.unlearning._tuned import Tuner


@dataclasses.dataclass(frozen=True)
class DoNothing(Tuner):
    """The models as they are: what a method must beat. Costs nothing.

    >>> DoNothing().name
    'nothing'
    """

    name: ClassVar[str] = "nothing"

    def many(self, models: Sequence[TorchModel], context: Context) -> list[TorchModel]:  # noqa: ARG002
        """The same models."""
        return list(models)


@dataclasses.dataclass(frozen=True)
class Retrain(Tuner):
    """Models trained anew without the rows to forget: what unlearning should equal, at 100% of the cost.

    Model i of a run is model i of ``lab.models(question, Retrain().subsets(context, count))``: it has a seed of its own
    and shares nothing with the model given. A model alone in a run that is not the first (``context.first``) is the
    last of a longer list, and a lab that does not hold the earlier ones trains them too.

    >>> Retrain().name
    'retrain'
    """

    name: ClassVar[str] = "retrain"

    def many(self, models: Sequence[TorchModel], context: Context) -> list[TorchModel]:
        """As many new models, trained by the lab."""
        subsets = self.subsets(context, context.first + len(models))
        found = context.lab.models(context.question, subsets)
        context.ledger.book(context.retraining)
        return [torch_model(one) for one in found[context.first :]]

    def subsets(self, context: Context, count: int) -> Subsets:
        """The retained rows ``count`` times, each with a training seed of its own, keyed by the context's seed."""
        return context.without(count, Stream.root(context.seed)("unlearn", "retrain").seed())
