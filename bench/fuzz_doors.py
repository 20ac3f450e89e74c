"""The public doors that `audit_fuzz.py` knocks at: functions, settings and verbs, each with valid arguments.

A door's parameters are those that are given here and those that have a default; each is tried with bad values in turn.
"""

import inspect
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

import dataloupe as dl
from dataloupe import unlearning
from dataloupe.cli._main import BAD_USE, CLAIM_FAILED, DONE, main
from dataloupe.core import torch_model

Call = Callable[..., Any]


class Door(NamedTuple):
    """A function and arguments that it takes."""

    name: str
    function: Call
    given: dict[str, Any]


class World(NamedTuple):
    """A small question, and everything that can be asked of it."""

    folder: Path
    question: dl.Question
    lab: dl.Lab
    subsets: dl.Subsets
    outcomes: dl.Outcomes
    fresh: dl.Outcomes
    datamodel: dl.DenseAttribution
    trak: dl.DenseAttribution
    model: dl.TorchModel


def make_model() -> nn.Module:
    return nn.Linear(8, 3)


def world_in(folder: Path) -> World:
    """Forty rows of eight numbers, three classes, a linear model."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(48, 8, generator=draws)
    y = x[:, :3].argmax(1)
    meta = {"source": np.array(["web", "book"] * 20)}
    train, targets = dl.Examples(x[:40], labels=y[:40], meta=meta), dl.Examples(x[40:], labels=y[40:])
    learner = dl.SGD(make_model, epochs=2, lr=0.1, batch_size=10)
    question = dl.Question(learner, train, targets, dl.outputs.margin)
    lab = dl.Lab(folder / "lab", backend="loop", progress=False)
    subsets = dl.Subsets(n=40, count=12)
    outcomes = lab.outcomes(question, subsets, repeats=2)
    fresh = lab.outcomes(question, dl.Subsets(n=40, count=12, seed=1), repeats=2)
    datamodel = dl.Datamodel(subsets).attribute(question, lab)
    trak = dl.TRAK(models=2, dim=64).attribute(question, lab)
    model = torch_model(lab.models(question, dl.Subsets.full(40, 1))[0])
    return World(folder, question, lab, subsets, outcomes, fresh, datamodel, trak, model)


def with_defaults(function: Call, given: dict[str, Any]) -> dict[str, Any]:
    """The given arguments and the defaults of the others."""
    parameters = inspect.signature(function).parameters.values()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty and p.kind not in several}
    plain = {name: value for name, value in defaults.items() if "factory" not in repr(value)}
    return {**given, **{name: value for name, value in plain.items() if name not in given}}


def doors(world: World) -> Iterator[Door]:
    """Every door."""
    for group in (nouns, settings, methods, judges, apps, apps_of_arrays, forgetting, files):
        for function, given in group(world):
            name = getattr(function, "__qualname__", repr(function)).removeprefix("World.")
            yield Door(name.rpartition("<locals>.")[2], function, with_defaults(function, given))


Pairs = Iterator[tuple[Call, dict[str, Any]]]


def nouns(w: World) -> Pairs:
    q, x, y = w.question, w.question.train.inputs, w.question.train.labels
    scores, masks = w.datamodel.scores, w.subsets.masks()
    yield dl.Examples, {"inputs": x, "labels": y, "meta": {}}
    yield q.train.take, {"ids": [0, 1]}
    yield dl.Subsets, {"n": 40, "count": 4}
    yield dl.Subsets.full, {"n": 40}
    yield dl.Subsets.listed, {"masks": masks}
    yield dl.Subsets.without, {"n": 40, "removals": [[0, 1]]}
    yield w.subsets.first, {"count": 3}
    yield w.subsets.masks, {"rows": [0, 1]}
    yield dl.Question, {"learner": q.learner, "train": q.train, "targets": q.targets, "output": q.output}
    yield dl.Lab, {"where": str(w.folder / "other")}
    yield w.lab.outcomes, {"question": q, "subsets": w.subsets}
    yield w.lab.models, {"question": q, "subsets": dl.Subsets.full(40, 1)}
    yield dl.Outcomes, {"subsets": w.subsets, "values": w.outcomes.values, "status": w.outcomes.status}
    yield dl.Outcomes.from_arrays, {"masks": masks, "values": w.outcomes.values}
    yield w.outcomes.on, {"targets": [0]}
    yield dl.DenseAttribution, {"scores": scores, "info": dl.Info("by hand"), "bias": np.zeros(8, np.float32)}
    yield dl.Info, {"method": "by hand"}
    yield w.datamodel.top, {"target": 0, "k": 3}
    yield w.datamodel.effect, {"removals": [[0, 1]], "targets": [0]}
    yield w.datamodel.error, {"removals": [[0, 1]], "targets": [0]}
    yield w.datamodel.predict, {"subsets": w.subsets}
    yield w.datamodel.rows, {"targets": [0]}
    yield w.datamodel.on, {"targets": np.array([0])}


def settings(w: World) -> Pairs:
    yield dl.SGD, {"module": make_model, "loss": "cross_entropy"}
    yield dl.Checkpoints, {"module": make_model, "sources": [make_model().state_dict()]}
    yield dl.learners.Flip, {}
    yield dl.learners.Shift, {}
    yield dl.losses.CrossEntropy, {}
    yield dl.losses.BinaryCrossEntropy, {}
    yield dl.losses.Custom, {"function": torch.nn.functional.cross_entropy}
    yield dl.outputs.LabelMargins, {"labels": 3}
    yield dl.outputs.Logits, {"classes": 3}
    yield dl.outputs.Value, {}
    yield dl.outputs.SequenceLogProb, {}
    yield dl.outputs.MultilabelLoss, {}
    yield dl.outputs.PairMargin, {"negatives": w.question.train, "count": 5}
    yield dl.Diffusion, {}
    yield dl.outputs.DenoisingLoss, {"diffusion": dl.Diffusion()}
    yield dl.Sampler, {"diffusion": dl.Diffusion()}
    yield dl.AA, {}
    yield dl.transforms.Blur, {}
    yield dl.transforms.Colour, {"colour": 0.5}
    yield dl.transforms.Occlude, {"colour": 0.5}
    yield dl.transforms.Patch, {"size": 2}
    yield dl.transforms.InsertToken, {"token": 3}
    yield dl.transforms.ReplaceToken, {"token": 3}
    yield dl.transforms.SetColumn, {"column": 0, "value": 1.0}
    yield dl.transforms.ShiftColumn, {"column": 0, "deviation": 1.0}
    yield dl.CounterfactualTest, {"transform": dl.transforms.SetColumn(0, 1.0)}
    for kind in (
        "GradientAscent",
        "GradientDescent",
        "NegGradPlus",
        "SCRUB",
        "CFk",
        "EUk",
        "L1Sparse",
        "Mix",
    ):
        yield getattr(unlearning, kind), {}
    for kind in ("AscentDescent", "NewtonStep", "Gates"):
        yield getattr(unlearning, kind), {}


def methods(w: World) -> Pairs:
    kinds: list[tuple[type, dict[str, Any]]] = [
        (dl.TRAK, {"models": 2, "dim": 64}),
        (dl.Influence, {"models": 1}),
        (dl.Datamodel, {"subsets": w.subsets}),
        (dl.RandomScores, {}),
        (dl.GradientNorm, {"dim": 64}),
        (dl.GradientSimilarity, {"dim": 64}),
        (dl.FeatureSimilarity, {}),
        (dl.TrainingLoss, {}),
    ]
    for kind, given in kinds:
        yield attributing(kind, w), given
    yield dl.BM25, {}
    yield dl.calibrate, {"attribution": w.trak, "outcomes": w.fresh}
    yield dl.calibration_removals, {"attribution": w.trak}
    yield dl.pooled, {"attributions": [w.trak, w.trak]}


def attributing(kind: type, w: World) -> Call:
    """A method's settings, tried to the end."""

    def attribute(**given: Any) -> Any:
        return kind(**given).attribute(w.question, w.lab)

    attribute.__qualname__ = kind.__name__
    attribute.__signature__ = inspect.signature(kind)  # type: ignore[attr-defined]
    return attribute


def judges(w: World) -> Pairs:
    both = {"attribution": w.datamodel, "outcomes": w.fresh, "resamples": 20}
    yield dl.lds, both
    yield dl.fidelity, both
    yield dl.calibration, both
    yield dl.ceiling, {"outcomes": w.fresh, "resamples": 20}
    yield (
        dl.removal,
        {
            "question": w.question,
            "lab": w.lab,
            "attribution": w.datamodel,
            "targets": [0],
            "k": 2,
            "repeats": 2,
        },
    )
    rng = np.random.default_rng(0)
    margins, oracles = rng.normal(size=(100, 6)), rng.normal(size=(100, 6))
    yield dl.klom, {"unlearned": margins, "oracles": oracles}
    yield dl.halves, {"oracles": oracles}
    yield dl.ulira, ulira_arguments(rng)
    named = {"unlearned": {"mine": margins}, "oracles": oracles, "full": margins, "labels": None}
    yield dl.audit_outputs, {**named, "splits": {"forget": [0, 1], "retain": [2, 3, 4]}, "worst": 2}


def ulira_arguments(rng: np.random.Generator) -> dict[str, Any]:
    bases = np.repeat(np.arange(20), 4)
    roles = np.where(rng.random((20, 6)) < 0.5, 1, -1)[bases]
    return {"margins": rng.normal(size=(80, 6)), "roles": roles, "bases": bases}


def apps(w: World) -> Pairs:
    asked = {"question": w.question, "lab": w.lab, "attribution": w.datamodel}
    yield dl.what_if, {**asked, "target": 0, "remove": [0, 1], "verify": 2}
    yield dl.support, {**asked, "targets": [0], "verify": 2}
    yield dl.smallest_support, {**asked, "targets": [0], "verify": 2, "rounds": 2}
    yield dl.relabel_support, {**asked, "targets": [0], "verify": 2, "rounds": 2}
    yield dl.leaks, {"attribution": w.trak}
    yield dl.mislabels, {"question": w.question, "lab": w.lab, "subsets": w.subsets}
    yield dl.linear_residual, {"question": w.question, "lab": w.lab, "pairs": 20, "resamples": 20}
    principal = dl.principal(w.datamodel, 2)
    yield dl.removal_of_direction, {**asked, "direction": (principal, 0), "k": 3, "group": 2, "verify": 2}


def apps_of_arrays(w: World) -> Pairs:
    yield dl.models_needed, {"effect": 0.5, "sigma": 1.0}
    yield dl.detectable, {"models": 20, "sigma": 1.0}
    yield dl.detection_power, {"effect": 0.5, "models": 20, "sigma": 1.0}
    yield dl.sigma_of, {"outcomes": w.fresh}
    yield dl.clusters, {"attribution": w.datamodel, "k": 2}
    yield dl.principal, {"attribution": w.datamodel, "components": 2}
    yield dl.neighbours, {"attribution": w.datamodel, "target": 0}
    compared = {"a": w.datamodel, "b": w.datamodel, "components": 2, "null": None}
    yield dl.compare, compared
    difference = dl.compare(**compared)
    meta = {"columns": ["source"], "train": w.question.train}
    yield dl.enrichment, {"difference": difference, **meta}
    groups = np.repeat(np.arange(8), 5)
    yield dl.group_subsets, {"groups": groups, "count": 12}
    grouped = w.lab.outcomes(w.question, dl.group_subsets(groups, 12), repeats=2)
    yield dl.group_influences, {"outcomes": grouped, "groups": groups}
    yield dl.pool_targets, {"outcomes": w.fresh}
    yield dl.answered, {"prompts": [[1, 2], [3]], "answers": [[4], [5, 6]]}


def forgetting(w: World) -> Pairs:
    asked = {"question": w.question, "lab": w.lab}
    descent = unlearning.GradientDescent(epochs=1)
    yield dl.unlearn, {"model": w.model, "forget": [0, 1], "method": descent, **asked}
    yield unlearning.plan_unlearning, {"question": w.question, "forget": [0, 1], "methods": {"gd": descent}}
    counts = {"models": 8, "oracles": 8, "estimator": "gaussian"}
    yield unlearning.audit, {"methods": {"gd": descent}, "forget": [0, 1], **asked, **counts}
    yield unlearning.pick_random, {"n": 40, "count": 3}
    square = dl.DenseAttribution(np.random.default_rng(0).normal(size=(40, 40)), dl.Info("by hand"))
    yield unlearning.pick_like, {"attribution": square, "row": 0, "count": 3}
    yield unlearning.pick_ends, {"attribution": square, "top": 2}
    yield unlearning.pick_where, {"data": w.question.train, "column": "source", "value": "web"}


def files(w: World) -> Pairs:
    def report(path: Any, attribution: Any, outcomes: Any, top: Any = 8, targets: Any = None) -> Any:
        return dl.report(path, attribution, outcomes, top=top, targets=targets)

    yield report, {"path": w.folder / "page.html", "attribution": w.datamodel, "outcomes": w.fresh}
    yield dl.formats.to_sparse, {"attribution": w.datamodel, "k": 3}
    yield dl.formats.export, {"attribution": w.datamodel, "path": w.folder / "scores.npz", "k": 3}
    sparse = dl.formats.to_sparse(w.datamodel, k=3)
    yield dl.formats.from_sparse, {"matrix": sparse, "info": dl.Info("by hand")}
    exported = dl.formats.export(w.datamodel, w.folder / "all.npz")
    yield dl.formats.read_attribution, {"path": exported}
    masks, margins = w.folder / "masks.npy", w.folder / "margins.npy"
    np.save(masks, w.subsets.masks())
    np.save(margins, w.outcomes.values[:, 0])
    yield dl.formats.read_outcomes, {"masks": masks, "margins": margins}
    yield dl.data.digits, {}


# --- verbs -------------------------------------------------------------------------------------------------

ASKED = """
import dataloupe as dl
from dataloupe import testing
train, test = dl.data.digits()
question = dl.Question(testing.RidgeLearner(penalty=10.0, classes=10), train[:40], test[:4], dl.outputs.margin)
"""

WORDS = (
    "-1",
    "0",
    "1.5",
    "nan",
    "inf",
    "1e30",
    "100000000000000000000",
    "x",
    "",
    "[]",
    "None",
    "True",
    "0,1",
    "é",
)

ASKING = "{asked} --lab {lab} --device cpu --precision model --workers 1 "
VERBS = {
    "attribute": ASKING + "--with datamodel --subsets 40 --fraction 0.5 --estimator ridge --seed 0",
    "judge": ASKING + "--subsets 12 --repeats 2 --fraction 0.5 --seed 1 --only datamodel",
    "predict": ASKING + "--remove 3 --show 3 --only datamodel",
    "what-if": ASKING + "--target 0 --remove 3 --verify 2 --calibration 0 --only datamodel --seed 1",
    "support": ASKING
    + "--targets 0 --limit 0.1 --verify 2 --inflate 1.2 --calibration 0 --only datamodel --seed 1",
    "groups": ASKING + "--by label --models 12 --fraction 0.5 --kind fixed --estimator means --seed 1",
    "leaks": ASKING + "--k 3 --by profile --threshold 0.5 --only datamodel",
    "mislabels": ASKING + "--k 3 --by mean --subsets 12 --seed 1",
    "space": ASKING + "--clusters 2 --components 2 --target 0 --k 2 --only datamodel",
    "show": "{lab} --target 0 --top 3 --only datamodel",
    "report": "{lab} --out {page} --title scores --targets 0 --top 3 --only datamodel",
    "export": "{lab} --to {file} --top 3 --only datamodel",
    "plan": "{asked} --with datamodel --subsets 40 --fraction 0.5 --effect 0.5 --workers 1",
}
"""A valid call of each verb; its words that are no options are made bad, one at a time."""


def verbs(folder: Path) -> Iterator[Door]:
    """Every word of every verb above: a door of one parameter."""
    (folder / "asked.py").write_text(ASKED)
    places = {"asked": f"{folder}/asked.py:question", "page": folder / "page.html", "file": folder / "s.npz"}
    first = [word.format(**places, lab=folder / "first") for word in VERBS["attribute"].split()]
    run(["attribute", *first])
    for verb, line in VERBS.items():
        lab = shutil.copytree(folder / "first", folder / verb)
        words = [verb, *(word.format(**places, lab=lab) for word in line.split())]
        run(words)
        for place in range(1, len(words)):
            option = words[place - 1] if words[place - 1].startswith("--") else "the question or lab"
            if not words[place].startswith("--"):
                yield Door(f"dataloupe {verb}", at(words, place), {option: words[place]})


def at(words: list[str], place: int) -> Call:
    """The verb with another word in one place."""

    def said(**given: str) -> None:
        (word,) = given.values()
        run([*words[:place], word, *words[place + 1 :]])

    return said


class UsageRefused(dl.DataloupeError):
    """A verb that ended with 2: it said what is wrong with its words."""


def run(words: list[str]) -> None:
    """A verb in this process: a refusal becomes a DataloupeError, a defect any other error."""
    try:
        main(words)
    except SystemExit as end:
        if end.code == BAD_USE:
            raise UsageRefused("a verb", asked=" ".join(words), found="a refusal", do="see stderr") from end
        if end.code not in (DONE, CLAIM_FAILED):
            raise RuntimeError(f"exit code {end.code}") from end
