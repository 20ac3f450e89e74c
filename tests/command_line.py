"""What the tests of the command line share: its type, a question on digits, and scores by hand in a lab."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dataloupe.cli._base import load_question
from dataloupe.core import DenseAttribution, Info, Question
from dataloupe.lab import Lab

Run = Callable[..., tuple[int, str, str]]
"""The command line in this process: words to (exit code, stdout, stderr); the fixture ``run``."""

RIDGE = """
import dataloupe.data
from dataloupe import core, outputs, testing

train, test = dataloupe.data.digits()
learner = testing.RidgeLearner(penalty=10.0, classes=10)
question = core.Question(learner, train[:40], test[:31], outputs.margin)
itself = core.Question(learner, train[:40], train[:40], outputs.margin)
"""


def by_hand(question: Question) -> DenseAttribution:
    """Inner products of the images, and a bias of each target's own."""
    scores = question.targets.inputs.numpy() @ question.train.inputs.numpy().T
    info = Info("by hand", question=question.identity, output="margin")
    return DenseAttribution(scores, info, bias=np.arange(len(scores), dtype=np.float32), index=question.index)


def with_scores(folder: Path) -> Path:
    """The folder with two questions and a lab that holds scores by hand for both."""
    (folder / "ridge.py").write_text(RIDGE)
    made = Lab(folder / "lab", progress=False)
    for name in ("question", "itself"):
        question = load_question(f"{folder}/ridge.py:{name}")
        made.put("attribution", {"by": name}, *by_hand(question).to_arrays())
    return folder
