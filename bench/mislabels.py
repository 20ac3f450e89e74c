"""Planted wrong labels among the digits: who finds them?

    python bench/mislabels.py [--json FILE] [--lab FOLDER]

5 % and 10 % of the 1,437 training labels are replaced by another class at random, for a network that hardly memorises
(64-32-10, 15 epochs), one that does (64-128-10, 40 epochs), three plantings each, and one that fits the wrong labels
(64-128-10, 120 epochs), one planting each. AUC and precision among as many rows as were planted, with 95 % intervals
over rows drawn again; the mean over all plantings says who wins.
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
RESAMPLES = 200


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def wide() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def sgd(make: object, epochs: int) -> dl.SGD:
    return dl.SGD(make, epochs=epochs, lr=0.1, momentum=0.9, batch_size=64, schedule="linear")


LEARNERS = {
    "64-32-10, 15 epochs": sgd(small, 15),
    "64-128-10, 40 epochs": sgd(wide, 40),
    "64-128-10, 120 epochs": sgd(wide, 120),
}
PLANTINGS = {"64-32-10, 15 epochs": 3, "64-128-10, 40 epochs": 3, "64-128-10, 120 epochs": 1}
"""At each share; the longest trainings get one."""


def planted(share: float, seed: int) -> tuple[dl.Examples, np.ndarray, dl.Examples]:
    """The training digits with wrong labels, which they are, and the test digits."""
    train, test = dl.data.digits()
    draws = Stream.root(seed)("planted labels").numpy()
    wrong = np.sort(draws.choice(len(train), round(share * len(train)), replace=False))
    other = (train.labels[wrong] + torch.from_numpy(draws.integers(1, 10, len(wrong)))) % 10
    return train.with_labels(wrong, other), np.isin(np.arange(len(train)), wrong), test


def scores(learner: dl.SGD, train: dl.Examples, test: dl.Examples, lab: dl.Lab) -> dict[str, np.ndarray]:
    """Every way to suspect a row."""
    n = len(train)
    question = dl.Question(learner, train, test[:200], dl.outputs.margin)
    of_loss = dataclasses.replace(question, output=dl.outputs.loss)
    one = dl.Subsets.full(n, 10)
    found = {
        "baseline: loss, 10 full models": dl.mislabels(of_loss, lab, by="full", subsets=one).scores,
        "baseline: margin, 10 full models": dl.mislabels(question, lab, by="full", subsets=one).scores,
        "mean margin, 100 models at 80 %": dl.mislabels(question, lab, by="mean").scores,
        "held-out margin, 100 models at 80 %": dl.mislabels(question, lab, by="held-out").scores,
        "memorisation, 100 models at 80 %": dl.mislabels(question, lab, by="memorisation").scores,
    }
    single = dataclasses.replace(question, targets=train)
    found["baseline: margin, 1 full model"] = -lab.outcomes(single, one).values[0, 0]
    found["baseline: loss, 1 full model"] = lab.outcomes(
        dataclasses.replace(of_loss, targets=train), one
    ).values[0, 0]
    trak = dl.TRAK(models=10).attribute(question, lab)
    found["effect on 200 test margins, TRAK of 10"] = dl.mislabels(
        question, lab, by="effect", attribution=trak
    ).scores
    own = dl.TRAK(models=10).attribute(single, lab).scores
    found["effect on itself, TRAK of 10"] = np.diag(own)
    found["effect on other training margins, TRAK of 10"] = np.diag(own) - own.sum(axis=0)
    return found


def measured(score: np.ndarray, wrong: np.ndarray, seed: int) -> dict[str, object]:
    """AUC and precision with intervals."""
    draws = Stream.root(seed)("bootstrap").numpy()

    def both(ids: np.ndarray) -> tuple[float, float]:
        s, y = score[ids], wrong[ids]
        first = np.argsort(-s, kind="stable")[: y.sum()]
        return roc_auc_score(y, s), y[first].mean()

    again = np.array([both(draws.integers(0, len(score), len(score))) for _ in range(RESAMPLES)])
    auc, precision = both(np.arange(len(score)))
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    return {
        "auc": round(float(auc), 4),
        "auc_interval": [round(float(low[0]), 4), round(float(high[0]), 4)],
        "precision": round(float(precision), 3),
        "precision_interval": [round(float(low[1]), 3), round(float(high[1]), 3)],
    }


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "mislabels.json")
    arguments.add_argument("--lab", type=Path, help="keep the models' outputs there")
    arguments.add_argument("--workers", type=int)
    given = arguments.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        lab = dl.Lab(given.lab or folder, workers=given.workers, progress=False)
        for network, learner in LEARNERS.items():
            for share in (0.05, 0.1):
                for seed in range(PLANTINGS[network]):
                    train, wrong, test = planted(share, seed)
                    for way, score in scores(learner, train, test, lab).items():
                        facts = {"network": network, "share": share, "seed": seed, "way": way}
                        rows.append(facts | measured(score, wrong, seed))
    means = summary(rows)
    for line in means:
        print(
            f"{line['way']:46s} {line['network']:22s} AUC {line['auc']:.4f}  precision {line['precision']:.3f}"
        )
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps({"means": means, "plantings": rows}, indent=1) + "\n")


def summary(rows: list[dict]) -> list[dict]:
    """The mean over plantings, by network and over all; the best first."""
    found = []
    for network in [*LEARNERS, "all"]:
        chosen = [row for row in rows if network in (row["network"], "all")]
        lines = []
        for way in dict.fromkeys(row["way"] for row in rows):
            mine = [row for row in chosen if row["way"] == way]
            line = {"network": network, "way": way, "plantings": len(mine)}
            for name in ("auc", "precision"):
                line[name] = round(float(np.mean([row[name] for row in mine])), 4)
            lines.append(line | {"worst_auc": min(row["auc"] for row in mine)})
        found += sorted(lines, key=lambda line: -line["auc"])
    return found


if __name__ == "__main__":
    main()
