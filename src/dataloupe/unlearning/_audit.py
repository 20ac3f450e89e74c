"""Judge methods of unlearning by models retrained without the rows."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array, Ids
from dataloupe.core import Lab, Model, Question, Subsets, TorchModel, checked, torch_model
from dataloupe.judge import Estimator, audit_outputs
from dataloupe.unlearning._context import Context, Unlearner
from dataloupe.unlearning._plain import DoNothing
from dataloupe.unlearning._receipt import MethodCost, Receipt
from dataloupe.unlearning._rows import everything, measured, predictions_of
from dataloupe.unlearning._unlearn import Unlearned, rows_digest, unlearn


class Ensembles(NamedTuple):
    """What an audit compares: models trained on all rows, and the predictions of oracles, for one request."""

    every: Question
    full: Sequence[TorchModel]
    before: Float[np.ndarray, "f rows c"]
    oracles: Float[np.ndarray, "o rows c"]
    diverged: dict[str, int]


@checked("dl-511")
def audit(  # budget: 8 parameters, five of which say how many and how judged, with defaults
    methods: Mapping[str, Unlearner] | Sequence[Unlearner],
    forget: Ids,
    *,
    question: Question,
    lab: Lab,
    models: int = 100,
    oracles: int = 100,
    estimator: Estimator = "quantile",
    seed: int = 0,
) -> Receipt:
    """Train models with and without the rows, unlearn, and say how far what is left is from retraining.

    Unlearning is a property of an algorithm, not of one model: ``models`` models are trained on all of the data,
    unlearned by each method, and compared with ``oracles`` models that never saw the rows, on the rows to forget, on the
    retained ones and on the question's targets ("validation"), by :func:`klom` of the margins with its floor, by accuracy
    and by distance. Doing nothing is judged always. All are kept by the lab: another method costs its own fine-tuning only.

    Diverged models are left out and counted; so is a method that has none left, beside others (dl-697 alone). Raises as :func:`unlearn` and :func:`audit_outputs` do (dl-922: too few models
    for the estimator), ``BadInput`` dl-696 (no class labels: margins need them).

    Source: Georgiev et al. 2024 (Attribute-to-Delete), section 3.
    """
    if min(models, oracles) < 1:
        raise BadInput(
            "dl-696",
            asked=f"an audit with {models} models and {oracles} oracles",
            found="none of one kind",
            do="train 20 models and 50 oracles at least",
        )
    named = _named(methods)
    if isinstance(named.get(DoNothing.name), DoNothing):
        del named[DoNothing.name]
    context = Context.of(question, lab, forget, seed=seed)
    _check_labels(question)
    ensembles = ensembles_for(context, models, oracles)
    found: dict[str, Float[np.ndarray, "u rows c"]] = {}
    costs: dict[str, MethodCost] = {}
    diverged = dict(ensembles.diverged)
    for name, method in named.items():
        done = unlearn(ensembles.full, context.forget, method=method, lab=lab, question=question, seed=seed)
        kept = [model for model, fine in zip(done.models, done.finite, strict=True) if fine]
        diverged[name] = int((~done.finite).sum())
        costs[name] = _cost(method, done)
        if kept:
            found[name] = predictions_all(kept, ensembles.every)
    if named and not found:
        raise BadInput(
            "dl-697",
            asked=f"an audit of {', '.join(named)}",
            found="that it diverged for every model",
            do="lower the learning rate",
        )
    judged = audit_outputs(
        found,
        ensembles.oracles,
        ensembles.before,
        np.asarray(ensembles.every.targets.labels),
        splits_of(context),
        estimator=estimator,
        diverged={name: lost for name, lost in diverged.items() if name in found or name not in named},
        seed=seed,
    )
    return Receipt(
        audit=dataclasses.replace(judged, diverged=diverged),
        costs=costs,
        forget=context.forget,
        digest=rows_digest(context.forget),
        train=question.train.fingerprint,
        question=question.identity,
        rows=question.n,
        seed=seed,
        looks=(question.train, question.targets),
        provenance=question.provenance,
    )


def ensembles_for(context: Context, models: int, oracles: int) -> Ensembles:
    """Models with the rows and predictions of models without, each with seeds of its own; diverged ones left out."""
    question, lab = context.question, context.lab
    every = everything(question)
    root = Stream.root(context.seed)("audit")
    trained = lab.models(question, Subsets.full(question.n, models, seed=root("full").seed()))
    full = [torch_model(model) for model in trained]
    before = predictions_all(full, every)
    fine = np.isfinite(before).all(axis=(1, 2))
    without = context.without(oracles, root("oracles").seed())
    after = measured(every, lab, without)
    lost = {"nothing": int((~fine).sum()), "oracles": oracles - len(after)}
    return Ensembles(
        every, [model for model, ok in zip(full, fine, strict=True) if ok], before[fine], after, lost
    )


def predictions_all(models: Sequence[Model], every: Question) -> Float[np.ndarray, "M rows c"]:
    """The predictions of all models for every row."""
    return np.stack([predictions_of(model, every) for model in models])


def splits_of(context: Context) -> dict[str, Array]:
    """Rows to forget, retained rows, and the question's targets, as rows of :func:`everything`."""
    n = context.question.n
    validation = np.arange(n, n + len(context.question.targets))
    return {"forget": context.forget, "retain": context.retained, "validation": validation}


def _named(methods: Mapping[str, Unlearner] | Sequence[Unlearner]) -> dict[str, Unlearner]:
    if isinstance(methods, Mapping):
        return dict(methods)
    names = [method.name for method in methods]
    if len(set(names)) < len(names) or not names:
        raise BadInput(
            "dl-698",
            asked=f"an audit of {', '.join(names) or 'no method'}",
            found="two methods of one name, or none",
            do='name them: audit({"DMM, 4 epochs": ..., "DMM, 8 epochs": ...})',
        )
    return dict(zip(names, methods, strict=True))


def _check_labels(question: Question) -> None:
    labels = question.targets.labels
    if labels is None or labels.is_floating_point() or labels.ndim != 1:
        found = "no labels" if labels is None else f"labels of {labels.dtype}, shape {tuple(labels.shape)}"
        raise BadInput(
            "dl-696",
            asked="an audit by margins",
            found=found,
            do="give training rows and targets class labels",
        )


def _cost(method: Unlearner, done: Unlearned) -> MethodCost:
    """What the method spent on every model, and how many trainings stand behind it."""
    by = getattr(method, "by", None)
    return MethodCost(
        share=done.share,
        passes=done.passes,
        seconds=done.seconds / max(1, len(done.models)),
        trainings=0 if by is None else trainings_behind(by),
        settings=dict(done.facts["settings"]),
    )


def trainings_behind(by: object) -> int:
    """Trainings that a predictor rests on: its own, and those of its prior or method."""
    behind = getattr(by, "prior", None)
    return int(getattr(by, "trainings", 0)) + int(getattr(behind, "models", 0))
