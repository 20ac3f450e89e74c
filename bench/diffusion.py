"""Diffusion: retraining truth (40 half-size subsets x 2 seeds), what each method scores on it, and counterfactual samples.

    python bench/diffusion.py                                       # judges on the committed truth (Debian's package dataset-fashion-mnist)
    python bench/diffusion.py --fresh --lab runs/bench-diffusion    # trains the truth (an hour on two cores) and writes it
    python bench/diffusion.py --quick                               # TRAK and what needs no model, in minutes
    python bench/diffusion.py --regenerate                          # counterfactual samples of 10 journeys, 36 trainings (half an hour)

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
from dataloupe.run import Processes, load_module

HERE = Path(__file__).parent
SAMPLES, STEPS, REMADE, REMOVED = 16, (0, 7, 14, 21, 28, 35, 42, 49), 10, 100
TRUTH = HERE / "results" / "diffusion-truth.npz"


def journey_of(lab: dl.Lab, question: dl.Question, sampler: dl.Sampler) -> dl.Journey:
    """The samples of a model that saw all."""
    model = lab.models(question, dl.Subsets.full(question.n))[0]
    return sampler.journey(model, question.train.inputs["sample"].shape[1:], SAMPLES)


def together(*parts: dl.Examples) -> dl.Examples:
    """The rows of several examples, one after the other."""
    return dl.Examples(
        {name: torch.cat([part.inputs[name] for part in parts]) for name in ("sample", "timestep")},
        images=np.concatenate([part.images for part in parts]),
    )


def truth(lab: dl.Lab, question: dl.Question, *, fresh: bool) -> dl.Outcomes:
    """Retrained and written, or read and checked against the question that made it."""
    subsets = dl.Subsets(n=question.n, count=40, seed=1)
    if fresh:
        found = lab.outcomes(question, subsets, repeats=2)
        np.savez_compressed(TRUTH, values=found.values, status=found.status, question=question.identity)
    with np.load(TRUTH) as known:
        if str(known["question"]) != question.identity:
            raise SystemExit(f"{TRUTH} holds the truth of another question: use --fresh")
        return dl.Outcomes(subsets, known["values"], known["status"])


def methods(question: dl.Question, *, quick: bool) -> dict[str, dl.AbstractAttributor]:
    """Everything at its defaults; or TRAK and what needs no model."""
    if quick:
        return {
            "random": dl.RandomScores(),
            "pixel similarity": dl.InputSimilarity(),
            "TRAK, models: 5": dl.TRAK(models=5),
        }
    norm = dl.outputs.PredictionNorm(question.learner.loss)
    found: dict[str, dl.AbstractAttributor] = {
        "random": dl.RandomScores(),
        "pixel similarity": dl.InputSimilarity(),
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


def remade(
    lab: dl.Lab, asked: dl.Question, journey: dl.Journey, sampler: dl.Sampler
) -> dict[str, dl.Regenerated]:
    """From several steps of the way, the same noise without the rows that each sample is attributed to, and without random ones."""
    some = journey.part(np.arange(REMADE))
    question = dataclasses.replace(asked, targets=some.ends())
    trak = dl.TRAK(models=5).attribute(question, lab)
    return {
        f"t = {sampler.timesteps[step]}": dl.regenerate(
            question, lab, trak, some, sampler, remove=REMOVED, repeats=3, step=step
        )
        for step in (0, 10, 20, 30, 40)
    }


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
    arguments.add_argument("--regenerate", action="store_true")
    given = arguments.parse_args()
    asked = load_module(HERE.parent / "examples" / "diffusion.py").question
    lab = dl.Lab(given.lab, backend="loop", runner=Processes(2))
    sampler = dl.Sampler(asked.learner.loss)
    journey = journey_of(lab, asked, sampler)
    if given.regenerate:
        found = remade(lab, asked, journey, sampler)
        for name, one in found.items():
            print(f"{name:8}", one, f"(difference {one.difference:.3f} {one.difference_interval})")
        told = json.dumps({name: one.to_json() for name, one in found.items()}, indent=1)
        (HERE / "results" / "diffusion-regenerated.json").write_text(told + "\n")
        return
    ends, stands = journey.ends(), journey.targets(STEPS)
    question = dataclasses.replace(asked, targets=together(asked.targets, ends, stands))
    first, second = asked.m, asked.m + len(ends)
    rows = np.arange(question.m)
    parts = {"held out": rows[:first], "generated": rows[first:second]}
    for i, step in enumerate(STEPS):
        parts[f"t = {journey.timesteps[step]}"] = rows[second + i :: len(STEPS)]
    outcomes = truth(lab, question, fresh=given.fresh)
    result = judged(lab, question, outcomes, parts, quick=given.quick)
    if given.quick:
        return
    (HERE / "results" / "diffusion.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
