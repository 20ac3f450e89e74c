"""Which of a learner's methods the engine trains by: the one that was written last."""

from typing import TypeGuard

from dataloupe.core import Learner, ModelSource, StackedLearner, SteppedLearner, TorchReference


def takes_steps(learner: Learner | ModelSource) -> TypeGuard[SteppedLearner]:
    """Whether the steps of a learner are its training: a subclass that writes ``train`` anew trains by that."""
    return isinstance(learner, SteppedLearner) and not _written_anew(learner, "train", after="step")


def takes_stacks(learner: Learner | ModelSource) -> TypeGuard[StackedLearner]:
    """Whether ``steps`` of a learner are many of its ``step``: a subclass that writes ``step`` anew has none."""
    return isinstance(learner, StackedLearner) and not _written_anew(learner, "step", after="steps")


def takes_reference(learner: Learner | ModelSource) -> TypeGuard[TorchReference]:
    """Whether plain torch takes the learner's steps: not those of a subclass that writes ``step`` anew."""
    return isinstance(learner, TorchReference) and not _written_anew(learner, "step", after="reference")


def _written_anew(learner: object, method: str, *, after: str) -> bool:
    """Whether a class defines a method above the class that defines the other."""
    order = type(learner).__mro__
    places = [
        next((place for place, cls in enumerate(order) if name in vars(cls)), None)
        for name in (method, after)
    ]
    return None not in places and places[0] < places[1]  # type: ignore[operator]
