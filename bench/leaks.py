"""Planted near duplicates of test digits in the training data: who finds them, from how many models?

    python bench/leaks.py [--json FILE] [--lab FOLDER]

The 360 test digits are the targets; of 180 of them a copy, with its label, joins the 1,437 training digits: with Gaussian
noise of 2, 5 or 10 % of the pixels' range, or shifted by one of 8 pixels. AUC of the planted among all pairs, AUC of
the leaked among all targets by their best pair, and how often a leaked target's best pair is the planted one; 95 %
intervals over targets drawn again. Natural near duplicates (the same writer) count as wrong.
"""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

import dataloupe as dl
from dataloupe._identity import Stream

HERE = Path(__file__).parent
RESAMPLES = 100
WAYS = ("profile", "row", "weight")


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def planted(kind: str, seed: int) -> tuple[dl.Question, np.ndarray]:
    """The question, and which training row copies each target (-1: none)."""
    train, test = dl.data.digits()
    draws = Stream.root(seed)("planted copies").numpy()
    leaked = np.sort(draws.choice(len(test), len(test) // 2, replace=False))
    copies = test.inputs[leaked].reshape(-1, 8, 8)
    if kind == "shift by a pixel":
        copies = torch.roll(copies, 1, dims=2)
    else:
        noise = draws.standard_normal(tuple(copies.shape)).astype(np.float32)
        copies = copies + float(kind.removeprefix("noise ")) * torch.from_numpy(noise)
    data = dl.Examples(
        torch.cat([train.inputs, copies.reshape(-1, 64)]), torch.cat([train.labels, test.labels[leaked]])
    )
    copy_of = np.full(len(test), -1)
    copy_of[leaked] = len(train) + np.arange(len(leaked))
    learner = dl.SGD(make_model, epochs=15, lr=0.1, momentum=0.9, batch_size=64, schedule="linear")
    return dl.Question(learner, data, test, dl.outputs.margin), copy_of


def pair_scores(attribution: dl.DenseAttribution, by: str) -> np.ndarray:
    """The score of every pair, [m, n]."""
    bare = dataclasses.replace(attribution, uncertainty=None)  # errors are asked pair by pair
    found = dl.leaks(bare, attribution.m * attribution.n, by=by)
    scores = np.empty((attribution.m, attribution.n))
    scores[found.targets, found.rows] = found.scores
    return scores


def measured(scores: np.ndarray, copy_of: np.ndarray) -> dict[str, object]:
    """The three figures, with intervals."""
    leaked = copy_of >= 0
    truth = np.zeros(scores.shape, dtype=bool)
    truth[leaked, copy_of[leaked]] = True
    best, first = scores.max(axis=1), scores.argmax(axis=1) == copy_of
    # the share of unplanted pairs below each planted one: an AUC that is a mean over leaked targets
    others = np.sort(scores[~truth])
    planted_scores = scores[truth]
    below = np.searchsorted(others, planted_scores, "left") + np.searchsorted(others, planted_scores, "right")
    rank = np.full(len(leaked), np.nan)
    rank[leaked] = below / (2 * len(others))
    draws = Stream.root(0)("bootstrap").numpy()

    def figures(ids: np.ndarray) -> list[float]:
        return [np.nanmean(rank[ids]), roc_auc_score(leaked[ids], best[ids]), first[ids][leaked[ids]].mean()]

    again = [figures(draws.integers(0, len(leaked), len(leaked))) for _ in range(RESAMPLES)]
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    names = ("pair_auc", "target_auc", "first")
    return {
        name: [round(float(v), 5) for v in parts]
        for name, *parts in zip(names, figures(np.arange(len(leaked))), low, high, strict=True)
    }


def rows_of(kind: str, lab: dl.Lab, counts: tuple[int, ...]) -> list[dict[str, object]]:
    question, copy_of = planted(kind, seed=0)
    rows = []

    def note(method: str, models: int, by: str, scores: np.ndarray) -> None:
        rows.append(
            {"copies": kind, "method": method, "models": models, "by": by} | measured(scores, copy_of)
        )
        say(rows[-1])

    x, targets = question.train.inputs.numpy(), question.targets.inputs.numpy()
    distance = ((targets[:, None] - x[None]) ** 2).sum(axis=2)
    note("pixel distance", 0, "weight", -distance)
    note("feature similarity", 10, "weight", dl.FeatureSimilarity(models=10).attribute(question, lab).scores)
    for models in (1, 10):
        trak = dl.TRAK(models=models).attribute(question, lab)
        for by in WAYS:
            note("TRAK", models, by, pair_scores(trak, by))
    positive = np.maximum(trak.scores, 0)
    note("TRAK", 10, "share of positive weight", positive / positive.sum(axis=1, keepdims=True))
    for count in counts:
        datamodel = dl.Datamodel(dl.Subsets(n=question.n, count=count)).attribute(question, lab)
        for by in WAYS:
            note("Datamodel (ridge)", count, by, pair_scores(datamodel, by))
    return rows


def say(row: dict) -> None:
    figures = "  ".join(f"{row[name][0]:.4f}" for name in ("pair_auc", "target_auc", "first"))
    print(f"{row['copies']:17s} {row['method']:20s} {row['models']:5d} {row['by']:25s} {figures}", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "leaks.json")
    arguments.add_argument("--lab", type=Path, help="keep the models' outputs there")
    arguments.add_argument("--workers", type=int)
    given = arguments.parse_args()
    print(f"{'copies':17s} {'method':20s} models by {'':22s} pair   target  first")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        lab = dl.Lab(given.lab or folder, workers=given.workers, progress=False)
        for kind in ("noise 0.02", "noise 0.05", "noise 0.1", "shift by a pixel"):
            rows += rows_of(kind, lab, (1000, 4000, 8000, 12000) if kind == "noise 0.05" else ())
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
