"""Diffusion: retraining truth (40 half-size subsets x 2 seeds), what each method scores on it, and counterfactual samples.

    python bench/diffusion.py                                       # judges on the committed truth (Debian's package dataset-fashion-mnist)
    python bench/diffusion.py --fresh --lab runs/bench-diffusion    # trains the truth (an hour on two cores) and writes it
    python bench/diffusion.py --quick                               # TRAK and what needs no model, in minutes
    python bench/diffusion.py --draws 40                            # TRAK by more draws than the truth's ten; writes nothing
    python bench/diffusion.py --regenerate                          # counterfactual samples of 10 journeys, 72 trainings (an hour on two cores)

The targets are garments that no model saw, the ends of 16 journeys of a model that saw all, and where these stood at 8 of their
steps, each at its own timestep. Methods have their default settings; nothing is chosen on the truth.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dataloupe as dl
from dataloupe.apps import pictures
from dataloupe.run import Processes, load_module

HERE = Path(__file__).parent
SAMPLES, STEPS = 16, (0, 7, 14, 21, 28, 35, 42, 49)
REMADE, REMOVED, SEEDS = 10, 100, 3
TRUTH = HERE / "results" / "diffusion-truth.npz"


def journey_of(lab: dl.Lab, question: dl.Question, sampler: dl.Sampler) -> dl.Journey:
    """The samples of a model that saw all."""
    model = lab.models(question, dl.Subsets.full(question.n))[0]
    return sampler.journey(model, question.train.inputs["sample"].shape[1:], SAMPLES)


def together(*parts: dl.Examples) -> dl.Examples:
    """The rows of several examples, one after the other."""
    return dl.Examples(
        {name: torch.cat([part.inputs[name] for part in parts]) for name in ("sample", "timestep")}
    )


def truth(lab: dl.Lab, asked: dl.Question, *, fresh: bool) -> tuple[dl.Question, dl.Outcomes]:
    """The question about all targets and its outcomes: retrained and written, or read.

    The targets are written, too: models of another machine end elsewhere in the last digits, and these were measured.
    """
    subsets = dl.Subsets(n=asked.n, count=40, seed=1)
    if fresh:
        journey = journey_of(lab, asked, dl.Sampler(asked.learner.loss))
        targets = together(asked.targets, journey.ends(), journey.targets(STEPS))
        question = dataclasses.replace(asked, targets=targets)
        found = lab.outcomes(question, subsets, repeats=2)
        np.savez_compressed(
            TRUTH, values=found.values, status=found.status, question=question.identity, **targets.inputs
        )
    with np.load(TRUTH) as known:
        inputs = {name: torch.from_numpy(known[name]) for name in ("sample", "timestep")}
        targets = dl.Examples(inputs, images=pictures(inputs["sample"]))
        question = dataclasses.replace(asked, targets=targets)
        if str(known["question"]) != question.identity:
            raise SystemExit(f"{TRUTH} holds the truth of another question: use --fresh")
        return question, dl.Outcomes(subsets, known["values"], known["status"])


def methods(question: dl.Question, *, quick: bool) -> dict[str, dl.AbstractAttributor]:
    """Everything at its defaults; or TRAK and what needs no model."""
    if quick:
        return {
            "random": dl.RandomScores(),
            "pixel similarity": dl.InputSimilarity(),
            "TRAK, models: 5": dl.TRAK(models=5),
            "TRAK, models: 5, ridge: 0.1": dl.TRAK(models=5, ridge=0.1),
        }
    norm = dl.outputs.PredictionNorm(question.learner.loss)
    found: dict[str, dl.AbstractAttributor] = {
        "random": dl.RandomScores(),
        "pixel similarity": dl.InputSimilarity(),
        "feature similarity": dl.FeatureSimilarity(models=5),
        "gradient similarity": dl.GradientSimilarity(models=5),
        "gradient norm": dl.GradientNorm(models=5),
        "training loss": dl.TrainingLoss(models=5),
    }
    for models in (1, 5):
        found[f"TRAK, models: {models}"] = dl.TRAK(models=models)
        found[f"D-TRAK, models: {models}"] = dl.ByProxy(dl.TRAK(models=models), norm)
        found[f"Influence (EK-FAC), models: {models}"] = dl.Influence(models=models)
    return found


def judged(
    lab: dl.Lab, question: dl.Question, outcomes: dl.Outcomes, parts: dict[str, Any], *, quick: bool
) -> dict[str, Any]:
    """The LDS of every method on every part of the targets, and the ceilings."""
    rows: dict[str, Any] = {
        name: {"ceiling": dl.ceiling(_some(outcomes, part)).to_json(), "methods": {}}
        for name, part in parts.items()
    }
    for name, method in methods(question, quick=quick).items():
        start = time.perf_counter()
        found = method.attribute(question, lab)
        for part, place in parts.items():
            score = dl.lds(
                dl.DenseAttribution(found.scores[place], found.info, units="relative"), _some(outcomes, place)
            )
            kept = {k: v for k, v in score.to_json().items() if k in ("value", "interval", "ceiling")}
            rows[part]["methods"][name] = {**kept, "certificate": found.info.certificate}
            print(f"{part:10s} {name:32s} {score}   ({time.perf_counter() - start:.0f} s)", flush=True)
    return rows


def remade(lab: dl.Lab, asked: dl.Question, sampler: dl.Sampler) -> dict[str, Any]:
    """By method and step: the same noise without the rows that each sample is attributed to, and without random ones."""
    some = journey_of(lab, asked, sampler).part(np.arange(REMADE))
    question = dataclasses.replace(asked, targets=some.ends())
    found: dict[str, Any] = {}
    tops = []
    for name, method in {"EK-FAC": dl.Influence(models=5), "TRAK": dl.TRAK(models=5)}.items():
        scores = method.attribute(question, lab)
        tops.append([set(scores.top(j, REMOVED, sign="lowers")) for j in range(REMADE)])
        for step in (0, 10, 20, 30, 40):
            one = dl.regenerate(
                question, lab, scores, some, sampler, remove=REMOVED, repeats=SEEDS, step=step
            )
            found.setdefault(name, {})[f"t = {sampler.timesteps[step]}"] = one.to_json()
            print(f"{name:8} t = {sampler.timesteps[step]:<4}", one, flush=True)
            print(f"{'':17} difference {one.difference:.3f} {one.difference_interval}", flush=True)
            if step == 0:
                found["apart"] = {
                    "seeds": apart(one.unremoved),
                    "samples": apart(one.unremoved.transpose(0, 1)),
                }
    found["in common"] = float(np.mean([len(one & other) for one, other in zip(*tops, strict=True)]))
    print(f"top rows in common: {found['in common']:.0f} of {REMOVED}; {found['apart']}")
    return found


def apart(samples: torch.Tensor) -> float:
    """The mean distance of all pairs along the first axis."""
    pairs = [(i, j) for j in range(len(samples)) for i in range(j)]
    return float(
        np.mean(
            [float((samples[i] - samples[j]).square().mean((-3, -2, -1)).sqrt().mean()) for i, j in pairs]
        )
    )


def _some(outcomes: dl.Outcomes, place: Any) -> dl.Outcomes:
    return dl.Outcomes(outcomes.subsets, outcomes.values[:, :, place], outcomes.status)


def main() -> None:
    """The truth, every method on it, and on request the counterfactual samples."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--lab", default="runs/bench-diffusion")
    arguments.add_argument("--fresh", action="store_true")
    arguments.add_argument(
        "--quick", action="store_true", help="TRAK and what needs no model; writes nothing"
    )
    arguments.add_argument("--draws", type=int, default=10)
    arguments.add_argument("--regenerate", action="store_true")
    given = arguments.parse_args()
    asked = load_module(HERE.parent / "examples" / "diffusion.py").question
    lab = dl.Lab(given.lab, backend="loop", runner=Processes(2))
    sampler = dl.Sampler(asked.learner.loss)
    if given.regenerate:
        told = json.dumps(remade(lab, asked, sampler), indent=1)
        (HERE / "results" / "diffusion-regenerated.json").write_text(told + "\n")
        return
    question, outcomes = truth(lab, asked, fresh=given.fresh)
    first, second = asked.m, asked.m + SAMPLES
    rows = np.arange(question.m)
    parts = {"held out": rows[:first], "generated": rows[first:second]}
    for i, step in enumerate(STEPS):
        parts[f"t = {sampler.timesteps[step]}"] = rows[second + i :: len(STEPS)]
    quick = given.quick or given.draws != 10
    if quick:
        loss = dl.outputs.DenoisingLoss(asked.learner.loss, repeats=given.draws)
        question = dataclasses.replace(question, output=loss)
    result = judged(lab, question, outcomes, parts, quick=quick)
    if quick:
        return
    (HERE / "results" / "diffusion.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
