"""Unlearning: KLoM of every method on random and coherent forget sets of several sizes, beside oracles and doing nothing.

    python bench/unlearning.py --only digits --json bench/results/unlearning-digits.json
    python bench/unlearning.py --only fashion --json bench/results/unlearning-fashion.json     # about an hour on two cores
    python bench/unlearning.py --only cnn --json bench/results/unlearning-cnn.json

100 models of all of the data and 100 oracles per forget set (CNN: 50). Batch sizes are such that a removal of up to 2 %
leaves the number of steps as it was: a step more or less moves every output a little, whatever the rows.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np

import dataloupe as dl
from dataloupe.run import load_module

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
SHARES = (0.007, 0.02, 0.1)


def digits() -> dl.Question:
    question = load_module(EXAMPLES / "digits.py").question
    learner = dataclasses.replace(question.learner, batch_size=63)
    return dataclasses.replace(question, learner=learner, targets=dl.data.digits()[1])


def fashion() -> dl.Question:
    question = load_module(EXAMPLES / "fashion_mlp.py").question
    return dataclasses.replace(question, learner=dataclasses.replace(question.learner, batch_size=125))


def cnn() -> dl.Question:
    question = load_module(EXAMPLES / "fashion.py").question
    return dataclasses.replace(question, learner=dataclasses.replace(question.learner, batch_size=125))


SETTINGS = {
    "digits": {"question": digits, "subsets": 8000, "dim": 4096, "trak": 10, "models": 100, "group": "8"},
    "fashion": {"question": fashion, "subsets": 3000, "dim": 2048, "trak": 5, "models": 100, "group": "Shirt"},
    "cnn": {"question": cnn, "subsets": 300, "dim": 2048, "trak": 5, "models": 50, "group": "Shirt"},
}


def forget_sets(question: dl.Question, lab: dl.Lab, group: str, models: int) -> dict[str, np.ndarray]:
    """Random rows, the top of the first principal component, and one class's rows most alike, of every size."""
    by_train = dataclasses.replace(question, targets=question.train)
    trak = dl.TRAK(models=models).attribute(by_train, lab)
    members = dl.unlearning.pick_where(question.train, "label", group)
    found = {}
    for share in SHARES:
        count = round(share * question.n)
        found[f"random {share:.1%}"] = dl.unlearning.pick_random(question.n, count)
        found[f"component {share:.1%}"] = dl.unlearning.pick_ends(trak, 0, top=count)
        found[f"class {share:.1%}"] = alike(question.train, members, count)
    return found


def alike(data: dl.Examples, members: np.ndarray, count: int) -> np.ndarray:
    """The rows of a class that are nearest to its first, in pixels."""
    x = data.take(members).inputs.flatten(1).double()
    away = ((x - x[0]) ** 2).sum(1).numpy()
    return np.sort(members[np.argsort(away, kind="stable")[:count]])
