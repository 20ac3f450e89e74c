"""Common training seeds: how much of what subsets differ in is the luck of seeds, and how many trainings it saves.

    python bench/seeds.py --json bench/results/seeds.json        # about 4 minutes on one core

Digits. First the variance of predictions over 200 trainings on 75 % and 90 % of the data, with seeds of their own and with one
seed. Then predicted changes of the predictions of removed rows (random sets and rows alike), from as many trainings with
seeds of their own and with 20 seeds in turn, against 20 pairs of trainings with and without the rows: |predicted - true| / |true|.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

import dataloupe as dl
from dataloupe.run import load_module

EXAMPLES = Path(__file__).parent.parent / "examples"
COUNTS = (500, 1000, 2000, 4000)


def main() -> None:
    """Train both ways, compare, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lab", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    question = load_module(EXAMPLES / "digits.py").question
    learner = dataclasses.replace(question.learner, batch_size=63)
    question = dataclasses.replace(question, learner=learner, targets=dl.data.digits()[1])
    lab = dl.Lab(asked.lab, progress=False)
    found = {"variance": variances(question, lab), "error": errors(question, lab)}
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


def variances(question: dl.Question, lab: dl.Lab) -> dict[str, dict[str, float]]:
    """Median over predictions of their variance over trainings."""
    every, told = dl.unlearning.everything(question), {}
    for fraction in (0.75, 0.9):
        recipe = dl.Subsets(n=question.n, count=200, fraction=fraction, seed=31)
        row = {
            name: float(np.median(lab.outcomes(every, subsets).values[:, 0].var(axis=0)))
            for name, subsets in {"own": recipe, "one": dataclasses.replace(recipe, paired=True)}.items()
        }
        told[f"{fraction:.0%}"] = row
        print(
            f"variance over trainings on {fraction:.0%}: {row['own']:.3f} with seeds of their own, {row['one']:.3f} with one seed"
        )
    return told


def errors(question: dl.Question, lab: dl.Lab) -> list[dict[str, float]]:
    """How far predicted changes of removed rows are from retraining, by number of trainings."""
    n, size = question.n, round(0.02 * question.n)
    by_train = dataclasses.replace(question, targets=question.train)
    alike = dl.FeatureSimilarity(models=1).attribute(by_train, lab)
    sets = {
        "random": [dl.unlearning.pick_random(n, size, seed=s) for s in range(6)],
        "alike": [dl.unlearning.pick_like(alike, row=100 * s, count=size) for s in range(6)],
    }
    every = dl.unlearning.everything(question)
    removals = [ids for some in sets.values() for ids in some]
    kept = lab.outcomes(
        every, dl.Subsets.without(n, [np.empty(0, np.int64), *removals], seed=9), repeats=20
    ).values
    truth = (kept[1:] - kept[:1]).mean(axis=1).reshape(len(removals), -1, 10)
    rows = []
    for count in COUNTS:
        row: dict[str, float] = {"trainings": count}
        for name, seeds in {"own": None, "20": 20}.items():
            by = dl.unlearning.Regression(
                dl.Subsets(n=n, count=count, fraction=0.75, seed=5, seeds=seeds), effect="group"
            )
            place = 0
            for kind, some in sets.items():
                away = size_ = 0.0
                for ids in some:
                    told = by.changes(dl.unlearning.Context.of(question, lab, ids))
                    away += float(((told[ids] - truth[place][ids]) ** 2).sum())
                    size_ += float((truth[place][ids] ** 2).sum())
                    place += 1
                row[f"{kind}, {name}"] = (away / size_) ** 0.5
        rows.append(row)
        print(
            f"{count:5d} trainings: error on random rows {row['random, own']:.2f} with seeds of their own, {row['random, 20']:.2f} with 20 seeds; "
            f"on rows alike {row['alike, own']:.2f}, {row['alike, 20']:.2f}",
            flush=True,
        )
    return rows


if __name__ == "__main__":
    main()
