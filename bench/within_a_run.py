"""Does averaging over the checkpoints within a run help? fashion-5k, TRAK at fixed ridges, on the committed truth.

    python bench/within_a_run.py        # five trainings on halves of the data, then three settings x two ridges

Five runs of 15 epochs keep their state after 5, 10 and 15: the last alone, the last two, all three.
"""

import argparse
import json
from pathlib import Path

import torch
from fashion import truth_of

import dataloupe as dl
from dataloupe.core import make_batch
from dataloupe.run import load_module

HERE = Path(__file__).parent
RUNS, RIDGES = 5, (0.3, 1.0)
KEPT = {"epoch 15": (15,), "epochs 10, 15": (10, 15), "epochs 5, 10, 15": (5, 10, 15)}


def states(question: dl.Question, mask: torch.Tensor, seed: int) -> dict[int, dict[str, torch.Tensor]]:
    """The parameters after 5, 10 and 15 epochs of one run."""
    learner, found = question.learner, {}
    state, slots = learner.init(seed=seed), list(learner.batches(mask, seed=seed))
    for i, slot in enumerate(slots):
        state = learner.step(state, make_batch(question.train, mask, slot, learner.removal))
        epoch = slot.epoch + 1
        if i + 1 == len(slots) or slots[i + 1].epoch + 1 > epoch:
            found[epoch] = {name: p.detach().clone() for name, p in learner.model(state).params.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lab", default="runs/bench-within-a-run")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "within_a_run.json")
    asked = parser.parse_args()
    lab = dl.Lab(asked.lab)
    question = load_module(HERE.parent / "examples" / "fashion.py").question
    truth, subsets = truth_of(lab, question), dl.Subsets(n=question.n, count=RUNS)
    masks = subsets.masks()
    runs = [
        states(question, torch.from_numpy(mask).float(), subsets.train_seed(k, 0))
        for k, mask in enumerate(masks)
    ]
    result = {}
    for name, epochs in KEPT.items():
        sources = [run[epoch] for run in runs for epoch in epochs]
        kept = masks.repeat(len(epochs), axis=0)
        learner = dl.Checkpoints(question.learner.module, sources, kept=kept)
        ours = dl.Question(learner, question.train, question.targets, question.output)
        for ridge in RIDGES:
            found = dl.TRAK(models=len(sources), ridge=ridge).attribute(ours, lab)
            score, slope = dl.lds(found, truth), dl.calibration(found, truth).slope
            result[f"{name}, ridge {ridge:g}"] = {"lds": score.value, "of": score.ceiling, "slope": slope}
            print(
                f"{name:18s} ridge {ridge:<4g} LDS {score.value:.3f}, {score.value / score.ceiling:.2f} of the ceiling; slope {slope:.2f}"
            )
    asked.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
