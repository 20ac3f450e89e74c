"""What the case studies of `dataloupe.compare` share (`diff_*.py`): the network, the recipe, how a study is run and told.

TRAK with 10 models of each algorithm, trained on the same halves of 2,000 images of Fashion-MNIST with the same seeds; the
targets are 500 others. Last digits differ from run to run with the back end that a lab chooses by the clock. Fashion-MNIST: from Debian's package dataset-fashion-mnist, or downloaded once.
"""

import time

import numpy as np
import torch
from torch import Tensor, nn

import dataloupe as dl

METHOD = dl.TRAK(models=10, dim=1024, ridge=0.3)
"""The ridge is given, and the same for both: one that each ensemble chooses for itself is a difference, too."""
COMPONENTS = 5
MOST = 50
"""So many targets stand for a direction."""


class Scale(nn.Module):
    """Pixels 0 to 255 as numbers around 0, 14 x 14 of them."""

    def forward(self, pixels: Tensor) -> Tensor:
        return (nn.functional.avg_pool2d(pixels.to(torch.float32), 2) / 255 - 0.286) / 0.353


def make_model() -> nn.Module:
    return nn.Sequential(
        Scale(),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 3 * 3, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def learner(**other) -> dl.SGD:
    """The common recipe, but for what an algorithm does otherwise."""
    recipe = {"module": make_model, "epochs": 15, "lr": 0.05, "momentum": 0.9, "batch_size": 64}
    recipe |= {"weight_decay": 5e-4, "schedule": "linear", "warmup": 0.1}
    return dl.SGD(**(recipe | other))


def attributed(questions: dict[str, dl.Question], lab: dl.Lab) -> list[dl.DenseAttribution]:
    """The attributions of both algorithms, and how often their models are right."""
    found = []
    for name, question in questions.items():
        start = time.perf_counter()
        found.append(METHOD.attribute(question, lab))
        seconds = time.perf_counter() - start
        models = lab.models(question, dl.Subsets(n=question.n, count=METHOD.models))
        guesses = [model.predict(question.targets.inputs).argmax(1) for model in models]
        right = [(guess == question.targets.labels).float().mean() for guess in guesses]
        print(f"{name}: models are right on {np.mean(right):.1%} of the targets; {seconds:.0f} s", flush=True)
    return found


def compared(questions: dict[str, dl.Question], lab: dl.Lab) -> dl.Difference:
    """The difference of two questions, told."""
    a, b = attributed(questions, lab)
    found = dl.compare(a, b, components=COMPONENTS, names=tuple(questions))
    told(found, next(iter(questions.values())).targets)
    return found


def studied(
    questions: dict[str, dl.Question], claim: dl.CounterfactualTest, folder: str, examples=None
) -> dict:
    """A difference, the test of a claim about it, and the figures of both."""
    lab = dl.Lab(folder)
    found = compared(questions, lab)
    answer = claim.run(questions, lab, models=METHOD.models, examples=examples)
    print(answer)
    return facts(found, answer)


def told(found: dl.Difference, targets: dl.Examples) -> None:
    """The difference, and the classes at both ends of every direction that is kept."""
    print(found)
    for side, c in found.found:
        top, bottom = side.targets(c, MOST // 2)
        print(f"  direction {c} of {side.of}: {classes(targets, top)} against {classes(targets, bottom)}")


def classes(data: dl.Examples, rows: np.ndarray) -> str:
    """The commonest classes of some rows."""
    counts = np.bincount(data.labels[torch.from_numpy(rows.copy())].numpy(), minlength=len(data.names))
    return ", ".join(f"{counts[c]} {data.names[c]}" for c in np.argsort(-counts)[:3] if counts[c])


def facts(found: dl.Difference, answer: dl.Counterfactual | None = None, **more) -> dict:
    """The figures of a comparison, under its name."""
    directions = [
        {
            "of": side.of,
            "component": c,
            "value": float(side.values[c]),
            "ratio": float(side.ratio[c]),
            "p": float(side.p[c]),
            "ratio_p": float(side.ratio_p[c]),
            "stability": float(side.stability[c]),
            "kept": bool(side.kept[c]),
        }
        for side in found.sides
        for c in range(len(side.values))
    ]
    said = {
        "found": len(found.found),
        "said": str(found),
        "apart": found.chance.apart,
        "cosine": float(found.cosine.mean()),
        "limit": found.chance.value,
        "directions": directions,
    }
    if answer is not None:
        said |= {"verdict": answer.verdict, "test": str(answer)}
        said["effects"] = [
            [effect.algorithm, effect.strength, effect.mean, list(effect.interval)]
            for effect in (*answer.effects, *answer.interactions)
        ]
    return {" against ".join(found.names): said | more}
