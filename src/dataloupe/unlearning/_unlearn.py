"""Make a model forget some rows: checked before, counted while, looked at after."""

import dataclasses
import hashlib
import time
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from dataloupe._errors import BadInput
from dataloupe._typing import Array, Facts, Ids
from dataloupe.core import Lab, Model, Origin, Question, TorchModel, checked
from dataloupe.unlearning._context import Context, Ledger, Unlearner, predicted, stepped
from dataloupe.unlearning._tuned import settings_of

_LOOKED_AT = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Unlearned:
    """Models after a method of unlearning, in the order of those given.

    ``finite [M]``: where it is false the method diverged, and the model is the one given. ``passes`` are rows that each
    model went forward and back over, ``retraining`` those that a training without the rows goes over; ``share`` is
    their ratio. ``stages`` tell the mean objective of every stage. What a predictor of targets cost is not in it.
    """

    models: Sequence[Model]
    method: str
    forget: Int[np.ndarray, " f"]
    finite: Bool[np.ndarray, " M"]
    passes: float
    retraining: int
    seconds: float
    stages: Sequence[tuple[str, list[float]]]
    facts: Facts
    notes: tuple[str, ...] = ()

    @property
    def model(self) -> Model:
        """The model, of a run of one (dl-665)."""
        if len(self.models) != 1:
            raise BadInput(
                "dl-665", asked="the model", found=f"{len(self.models)} of them", do="use `models`"
            )
        return self.models[0]

    @property
    def share(self) -> float:
        """Of one retraining, in rows."""
        return self.passes / self.retraining

    def __str__(self) -> str:
        many = f"{len(self.models)} models" if len(self.models) > 1 else "a model"
        lost = int((~self.finite).sum())
        said = f"{self.method}: {len(self.forget)} rows forgotten by {many}, {self.share:.1%} of a retraining each"
        return said + (f"; {lost} diverged and are as they were" if lost else "")


@checked("dl-511")
def unlearn(  # budget: 7 parameters: what, from what, how, by whom
    model: TorchModel | Sequence[TorchModel],
    forget: Ids,
    *,
    method: Unlearner,
    lab: Lab,
    question: Question,
    seed: int = 0,
) -> Unlearned:
    """Make a model, or many at once, forget rows of the training data, by a method of :mod:`dataloupe.unlearning`.

    ``question`` tells what the model was trained on and by which learner; its targets are the validation rows. The
    models given are not touched; one whose tuning diverges comes back as it was, and is counted. Whether anything was
    unlearned is another matter: :func:`audit` asks retrained models.

    Raises ``BadInput`` dl-108 to dl-111 (rows), dl-661 (rows that the model was not trained on, or all of them), dl-666 (a
    model of other data or another structure), dl-513 (of another learner), ``CapabilityError`` dl-662 (a learner without steps).

    >>> import torch
    >>> import dataloupe as dl
    >>> data = dl.Examples(torch.eye(4), labels=torch.tensor([0, 1, 0, 1]))
    >>> question = dl.Question(dl.SGD(lambda: torch.nn.Linear(4, 2), epochs=3), data, data, dl.outputs.margin)
    >>> lab = dl.MemoryLab()
    >>> model = lab.models(question, dl.Subsets.full(4))[0]
    >>> print(unlearn(model, [1], method=dl.unlearning.GradientDescent(epochs=1), lab=lab, question=question))
    gradient descent: 1 rows forgotten by a model, 33.3% of a retraining each
    """
    stepped(question)
    models = [model] if isinstance(model, TorchModel) else list(model)
    context = Context.of(question, lab, forget, kept=_kept(models, question), seed=seed)
    retraining, settings = (
        context.retraining,
        settings_of(method),
    )  # what cannot be told is refused before work starts
    start = time.perf_counter()
    many = getattr(method, "many", None)
    if many is not None:
        found = list(many(models, context))
    else:
        alone = [context.at(i) for i in range(len(models))]
        found = [method(one, own) for one, own in zip(models, alone, strict=True)]
        context.ledger.book(float(np.mean([own.ledger.passes for own in alone])))
        context.ledger.stages += stages_of([own.ledger for own in alone])
    finite = np.array([_is_finite(one, context) for one in found])
    trained_by = question.provenance.get("learner", "")
    kept = context.kept.copy()
    kept[context.forget] = False
    found = [
        _without(after, Origin(question.train.fingerprint, kept, trained_by)) if fine else before
        for after, before, fine in zip(found, models, finite, strict=True)
    ]
    return Unlearned(
        models=found,
        method=method.name,
        forget=context.forget,
        finite=finite,
        passes=context.ledger.passes,
        retraining=retraining,
        seconds=time.perf_counter() - start,
        stages=context.ledger.stages,
        facts={
            "settings": settings,
            "train": question.train.fingerprint,
            "forget": rows_digest(context.forget),
            "seed": seed,
        },
        notes=_notes(models, finite),
    )


def stages_of(ledgers: Sequence[Ledger]) -> list[tuple[str, list[float]]]:
    """The stages of models that went one by one, side by side; none if they did not go the same way."""
    names = [[name for name, _ in one.stages] for one in ledgers]
    if any(each != names[0] for each in names[1:]):
        return []
    return [(name, [x for one in ledgers for x in one.stages[i][1]]) for i, name in enumerate(names[0])]


def rows_digest(ids: Array) -> str:
    """A hash of row numbers: which rows a request named, in any order."""
    return hashlib.sha256(np.sort(np.asarray(ids, dtype="<i8")).tobytes()).hexdigest()[:16]


def _kept(models: list[TorchModel], question: Question) -> Array:
    """The rows that all the models were trained on, if they fit the question (dl-666)."""
    if not models:
        raise BadInput("dl-666", asked="models that forget", found="none", do="give at least one")
    shapes = [{name: p.shape for name, p in one.params.items()} for one in models]
    origins = [one.origin for one in models if one.origin is not None]
    other = [one.train for one in origins if one.train != question.train.fingerprint]
    if other or any(shape != shapes[0] for shape in shapes[1:]):
        raise BadInput(
            "dl-666",
            asked=f"models trained on the data {question.train.fingerprint}",
            found=f"one trained on {other[0]}" if other else "models of several structures",
            do="give models that were trained on this question's training data, all of one structure",
        )
    learners = {one.learner for one in origins} - {"", question.provenance.get("learner", "")}
    if learners:
        raise BadInput(
            "dl-513",
            asked="models that forget, as the question's learner would have trained them",
            found=f"a model trained by another learner ({min(learners)[:8]})",
            do="ask the question of the learner that trained the models",
        )
    if any((one.kept != origins[0].kept).any() for one in origins[1:]):
        raise BadInput(
            "dl-666",
            asked="models that forget the same rows together",
            found="models that were trained on other rows than each other",
            do="give models of one subset at a time",
        )
    return origins[0].kept if origins else np.ones(question.n, dtype=bool)


def _is_finite(model: Model, context: Context) -> bool:
    """Whether parameters and the predictions of some rows are numbers."""
    params = getattr(model, "params", {}).values()
    if not all(bool(p.isfinite().all()) for p in params):
        return False
    ids = np.concatenate([context.forget[:_LOOKED_AT], context.retained[:_LOOKED_AT]])
    return bool(predicted(model, context.data, ids).isfinite().all())


def _without(model: Model, origin: Origin) -> Model:
    """The model, knowing which rows are left in it."""
    return dataclasses.replace(model, origin=origin) if isinstance(model, TorchModel) else model


def _notes(models: list[TorchModel], finite: Array) -> tuple[str, ...]:
    notes: list[str] = []
    if any(one.origin is None for one in models):
        notes.append("nobody knows what the models were trained on: taken to be all of the question's rows")
    if not finite.all():
        notes.append(f"{int((~finite).sum())} of {len(finite)} diverged: these models are as they were given")
    return tuple(notes)
