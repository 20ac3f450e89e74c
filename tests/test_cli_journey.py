"""`journey` on the command line says what the library says."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import RIDGE, Run

from dataloupe.apps import Sampler, likelihoods, regenerate
from dataloupe.cli._base import load_question
from dataloupe.core import Subsets
from dataloupe.lab import Lab
from dataloupe.methods import TRAK, ByProxy
from dataloupe.outputs import PredictionNorm

pytestmark = pytest.mark.usefixtures("no_probe")

CLOUDS = """
import torch
from torch import nn

import dataloupe as dl


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.by_time = nn.Linear(4, 4), nn.Embedding(20, 4)

    def forward(self, sample, timestep, class_labels):
        said = self.layer(sample.flatten(1)) + self.by_time(timestep) + class_labels[:, None]
        return said.view(sample.shape)


def rows(count, seed):
    kinds = torch.arange(count) % 2
    draws = torch.Generator().manual_seed(seed)
    x = (kinds * 1.2 - 0.6).view(-1, 1, 1, 1) + 0.2 * torch.randn(count, 1, 2, 2, generator=draws)
    inputs = {"sample": x, "timestep": torch.full((count,), -1), "class_labels": kinds.float() / 10}
    return dl.Examples(inputs, kinds, names=["low", "high"])


def classify(samples):
    high = torch.sigmoid(4 * samples.flatten(1).mean(1))
    return torch.stack([1 - high, high], 1)


diffusion = dl.Diffusion(20)
learner = dl.SGD(Denoiser, epochs=3, lr=0.05, batch_size=8, optimizer="adamw", loss=diffusion)
question = dl.Question(learner, rows(24, 0), rows(4, 1), dl.outputs.DenoisingLoss(diffusion, repeats=3))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A question about a small diffusion model, and one about none."""
    (tmp_path / "clouds.py").write_text(CLOUDS)
    (tmp_path / "ridge.py").write_text(RIDGE)
    return tmp_path


def words(place: Path) -> tuple:
    asked = (
        "journey",
        f"{place}/clouds.py:question",
        "--with",
        "trak",
        "--models",
        2,
        "--lab",
        place / "lab",
    )
    return (*asked, "--samples", 3, "--steps", 6, "--looks", 4, "--out", place / "way.html", "--workers", 1)


def test_it_is_the_journey_the_scores_the_classes_and_the_retrainings(run: Run, place: Path) -> None:
    more = ("--classify", f"{place}/clouds.py:classify", "--remove", 6, "--repeats", 2, "--step", 2, "--json")
    code, out, _ = run(*words(place), *more)
    facts = json.loads(out)
    question = load_question(f"{place}/clouds.py")
    lab = Lab(place / "lab", progress=False)
    sampler = Sampler(question.learner.loss, steps=6)
    model = lab.models(question, Subsets.full(24))[0]
    told = {"class_labels": question.train.inputs["class_labels"][:3]}
    way = sampler.journey(model, (1, 2, 2), 3, given=told)
    asked = dataclasses.replace(question, targets=way.targets([0, 2, 3, 5]))
    scores = TRAK(models=2).attribute(asked, lab)
    assert facts["timesteps"] == way.timesteps[[0, 2, 3, 5]].tolist()
    assert facts["top"] == scores.scores.argmin(1).reshape(3, 4).tolist()
    np.testing.assert_allclose(facts["scores"], scores.scores.min(1).reshape(3, 4), rtol=1e-5)
    classes = load_classifier(place)
    likely = likelihoods(sampler, model, way, classes, steps=[0, 2, 3, 5])
    np.testing.assert_allclose(facts["likelihoods"]["ending"], likely.ending, rtol=1e-5)
    there = dataclasses.replace(question, targets=way.targets([2]))
    of_step = TRAK(models=2).attribute(there, lab)
    test = regenerate(there, lab, of_step, way, sampler, remove=6, repeats=2, step=2)
    np.testing.assert_allclose(facts["regenerated"]["top"], test.top, rtol=1e-4)
    assert code == int(test.verdict == "disagree")
    page = (place / "way.html").read_text()
    assert "was decided" in page and "What would the same noise have become" in page


def load_classifier(place: Path):
    from dataloupe.run import load_module

    return load_module(place / "clouds.py").classify


def test_people_read_a_line_a_sample(run: Run, place: Path) -> None:
    code, out, _ = run(*words(place))
    assert code == 0
    assert "by timestep" in out and "19" in out and ("low" in out or "high" in out) and "way.html" in out


def test_d_trak_is_trak_by_way_of_the_norm(run: Run, place: Path) -> None:
    asked, lab = f"{place}/clouds.py:question", place / "lab"
    code, _, _ = run("attribute", asked, "--with", "d-trak", "--models", 2, "--lab", lab, "--workers", 1)
    question = load_question(asked)
    norm = PredictionNorm(question.output.diffusion, repeats=3)
    right = ByProxy(TRAK(models=2), norm).attribute(question, Lab(place / "other", progress=False))
    kept = [load() for _, load in Lab(lab).entries("attribution")]
    assert code == 0
    assert any(np.allclose(one["scores"], right.scores, rtol=1e-4, atol=1e-7) for one in kept)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (("--looks", 7), "dl-747"),
        (("--step", 6), "dl-747"),
        (("--samples", 0), "dl-747"),
        (("--remove", 24), "dl-749"),
        (("--remove", 3, "--repeats", 1), "dl-749"),
        (("--out", "nowhere/way.html"), "dl-998"),
        (("--classify", "nowhere.py:classify"), "dl-980"),
    ],
)
def test_what_cannot_be_meant_ends_before_work(run: Run, place: Path, more: tuple, error: str) -> None:
    code, _, err = run(*words(place), *more)
    assert (code, error in err) == (2, True)
    assert not list((place / "lab").glob("models-*"))


@pytest.mark.parametrize("verb", [("journey", "--with", "trak"), ("attribute", "--with", "d-trak")])
def test_questions_about_other_models_are_refused(run: Run, place: Path, verb: tuple) -> None:
    name, *more = verb
    code, _, err = run(name, f"{place}/ridge.py:question", *more, "--lab", place / "lab")
    assert (code, "dl-999" in err) == (2, True)
