"""The case studies of `compare`: two questions each that differ in the learner alone. Nothing is trained but a start."""

from pathlib import Path

import numpy as np
import pytest
import torch

import dataloupe as dl
from dataloupe._identity import identity
from dataloupe.data._fashion import NAMES
from dataloupe.run import load_module

EXAMPLES = Path(__file__).parents[1] / "examples"
STUDIES = sorted(path.stem for path in EXAMPLES.glob("diff_*.py") if path.stem != "diff_common")


@pytest.fixture
def fashion(monkeypatch):
    """Noise in place of clothes, so that no data set needs to be here."""

    def made(train, test):
        draws = torch.Generator().manual_seed(0)
        pixels = [
            torch.randint(256, (n, 1, 28, 28), generator=draws, dtype=torch.uint8) for n in (train, test)
        ]
        return tuple(
            dl.Examples(x, torch.arange(len(x)) % 10, images=x[:, 0].numpy(), names=NAMES) for x in pixels
        )

    monkeypatch.setattr(dl.data, "fashion_mnist", made)


def test_the_five_are_there():
    assert [name.removeprefix("diff_") for name in STUDIES] == [
        "augmentation",
        "noise",
        "patch",
        "pretrained",
        "same",
    ]


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.usefixtures("fashion")
def test_the_questions_of_a_study_differ_in_the_learner_alone(name):
    module = load_module(EXAMPLES / f"{name}.py")
    assert "Expect" in module.__doc__
    assert callable(module.main)
    questions = {key: value for key, value in vars(module).items() if isinstance(value, dl.Question)}
    assert sorted(key.split("_")[0] for key in questions) == ["with", "without"]
    one, two = questions.values()
    assert (one.n, one.m) == (2000, 500)
    assert one.train.fingerprint == two.train.fingerprint
    assert one.targets.fingerprint == two.targets.fingerprint
    assert one.output is two.output
    assert identity(one.learner) != identity(two.learner)
    for question in questions.values():
        model = question.learner.model(question.learner.init(seed=0))
        assert np.isfinite(question.measure(model)).all()
    if (claim := getattr(module, "claim", None)) is not None:
        assert claim.to_json()["strengths"]
