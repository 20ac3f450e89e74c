"""Source classes against a downstream task: influences, then the counterfactual, removed classes and retrained sources.

    python bench/transfer.py [--lab runs/bench-transfer]

The question of examples/transfer.py. 400 models on half of the source classes give each class's influence on the
probe's margin. Then the k classes of highest and of lowest influence leave the whole source, k = 1, 2, 3, beside
up to 10 random choices; every removal is retrained and transferred with 10 seeds. Accuracy is the share of the 600 test
images whose margin is above 0; +- is the standard error over seeds (for random: over choices). One core, 90 s.

Two cautions. The task is one of several tried: in others (shoes, knitwear, digits) features of an untrained network
did as well or better, so that there was nothing to transfer. And classes are ranked and removals scored on the same
test images, by other retrainings.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

import dataloupe as dl
from dataloupe.run import load_module

HERE = Path(__file__).parent
MODELS, SEEDS, CHOICES = 400, 10, 10


def accuracies(lab: dl.Lab, question: dl.Question, labels: np.ndarray, removals: list) -> np.ndarray:
    """Accuracy by removal and seed, each removal a list of source classes; seeds are common to all."""
    masks = np.stack([~np.isin(labels, gone) for gone in removals])
    subsets = dl.Subsets.listed(masks, seed=1, paired=True)
    return (lab.outcomes(question, subsets, repeats=SEEDS).values > 0).mean(axis=2)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--lab", default="runs/bench-transfer")
    arguments.add_argument("--workers", type=int, default=1)
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "transfer.json")
    given = arguments.parse_args()
    question = load_module(HERE.parent / "examples" / "transfer.py").question
    lab = dl.Lab(given.lab, workers=given.workers)
    labels = question.train.labels.numpy()
    classes, names = np.unique(labels), question.train.names
    subsets = dl.Subsets(n=question.n, count=MODELS, kind="groups", groups=labels)
    pooled = dl.pool_targets(lab.outcomes(question, subsets))
    called = dict(enumerate(names))
    influences = dl.group_influences(pooled, labels, names=called, estimator="regression")
    print(influences, flush=True)
    best = classes[np.argsort(-influences.influence[0], kind="stable")]
    draws = np.random.default_rng(0)
    removals, rows = [[]], [{"removed": "none", "k": 0, "classes": []}]
    for k in (1, 2, 3):
        chosen = [("most helpful", best[:k]), ("least helpful", best[::-1][:k])]
        choices = draws.permutation(list(itertools.combinations(classes, k)))[:CHOICES]
        chosen += [("random", gone) for gone in choices]
        removals += [list(gone) for _, gone in chosen]
        rows += [{"removed": how, "k": k, "classes": [names[c] for c in gone]} for how, gone in chosen]
    found = accuracies(lab, question, labels, removals)
    table = []
    for how, k in dict.fromkeys((row["removed"], row["k"]) for row in rows):
        mine = [i for i, row in enumerate(rows) if (row["removed"], row["k"]) == (how, k)]
        runs = found[mine].mean(axis=1) if len(mine) > 1 else found[mine[0]]
        error = float(runs.std(ddof=1) / len(runs) ** 0.5)
        gone = [rows[i]["classes"] for i in mine]
        table.append(
            {"removed": how, "k": k, "accuracy": float(runs.mean()), "error": error, "classes": gone}
        )
        words = ", ".join(gone[0]) if len(mine) == 1 else f"{len(mine)} choices"
        print(f"without {k} {how:14s} {100 * runs.mean():5.1f} +- {100 * error:.1f} %   {words}", flush=True)
    facts = {"influences": influences.to_json(), "seeds": SEEDS, "table": table}
    given.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
