"""Outputs of denoisers: by hand, the same draws for all, parts of a sample, the engine's gradients, retraining."""

import dataclasses

import numpy as np
import pytest
import torch
from denoisers import DIFFUSION, Linear, clouds, held, small_unet

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError
from dataloupe.core import ANY, Diffusion, Examples, MemoryLab, Question, Rows, Subsets, draws_of
from dataloupe.engine import Compute, Pass, features
from dataloupe.engine._batch import taped
from dataloupe.engine._compute import plain_gradient
from dataloupe.judge import lds
from dataloupe.lab import Lab
from dataloupe.learners import SGD, Checkpoints
from dataloupe.methods import TRAK, ByProxy, Influence
from dataloupe.solve import Exact, FactoredSketch
from dataloupe.testing import OutputContract


class TestDenoisingLoss(OutputContract):
    def output(self):
        return outputs.DenoisingLoss(DIFFUSION, repeats=3)

    def model(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return held(Linear())

    def rows(self):
        return clouds(12, dtype=torch.float64).take(np.arange(12))

    def training_loss(self, model, rows):
        return self.output().value(model, rows)


class TestPredictionNorm(TestDenoisingLoss):
    def output(self):
        return outputs.PredictionNorm(DIFFUSION, repeats=3)


class TestMasked(TestDenoisingLoss):
    def output(self):
        return outputs.DenoisingLoss(DIFFUSION, 3, mask=torch.tensor([[1.0, 0.0], [0.0, 2.0]]))


@pytest.mark.parametrize("says", ["noise", "sample", "velocity"])
def test_by_hand(says):
    """One noise and one timestep a draw, whatever the rows: the r-th part of the timesteps, standard normal noise."""
    diffusion = Diffusion(20, says=says)
    loss, norm = (kind(diffusion, repeats=4) for kind in (outputs.DenoisingLoss, outputs.PredictionNorm))
    rows, model = clouds(6, dtype=torch.float64).take(np.arange(6)), held(Linear())
    x = rows.inputs["sample"].numpy()
    for r, draw in enumerate(draws_of(loss)):
        t = int((r + draw("timestep").uniform([0])[0]) / 4 * 20)
        assert r * 5 <= t < (r + 1) * 5
        noise = draw("noise").numpy().standard_normal((1, 2, 2))
        a = float(diffusion.alphas[t])
        noisy = a**0.5 * x + (1 - a) ** 0.5 * noise
        aim = {"noise": noise + 0 * x, "sample": x, "velocity": a**0.5 * noise - (1 - a) ** 0.5 * x}[says]
        said = (
            model.predict({"sample": torch.from_numpy(noisy), "timestep": torch.full((6,), t)})
            .detach()
            .numpy()
        )
        np.testing.assert_allclose(
            loss.value(model, rows, draw).detach(), ((said - aim) ** 2).mean((1, 2, 3))
        )
        np.testing.assert_allclose(norm.value(model, rows, draw).detach(), (said**2).mean((1, 2, 3)))


def test_a_row_is_looked_at_at_its_own_timestep():
    model, loss = held(Linear()), outputs.DenoisingLoss(DIFFUSION, repeats=2)
    mixed = clouds(4, dtype=torch.float64, times=[ANY, 0, 7, 19]).take(np.arange(4))
    for draw in draws_of(loss):
        whole = loss.value(model, mixed, draw)
        for i, t in enumerate([ANY, 0, 7, 19]):
            alone = Rows({"sample": mixed.inputs["sample"][[i]], "timestep": torch.tensor([t])}, None)
            torch.testing.assert_close(loss.value(model, alone, draw), whole[[i]])
        apart = {float(v) for v in whole.detach()}
        assert len(apart) == 4


def test_parts_of_a_sample_add_up():
    model, rows = held(Linear()), clouds(5, dtype=torch.float64).take(np.arange(5))
    left = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    whole, one, other = (
        outputs.DenoisingLoss(DIFFUSION, 1, mask=mask).value(model, rows) for mask in (None, left, 1 - left)
    )
    torch.testing.assert_close((one + other) / 2, whole)


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("kind", ["plain", "attention", "classes"])
def test_gradients_of_diffusers_networks(kind, repeats):
    """Every example's gradient of a UNet, its draws averaged, against plain autograd of that example alone."""
    module = small_unet(attention=kind == "attention", classes=3 if kind == "classes" else None)
    data = clouds(6, dtype=torch.float64, shape=(1, 8, 8), times=[ANY, ANY, 3, 19, ANY, 0])
    if kind == "classes":
        data = Examples({**data.inputs, "class_labels": torch.tensor([0, 1, 2, 0, 1, 2])})
    output = outputs.DenoisingLoss(DIFFUSION, repeats)
    question = Question(Checkpoints(module, [module.state_dict()]), data, data, output)
    model = held(module)
    ready = Pass(question, model, "train")
    assert ready.facts["gradient_error"] < 1e-9
    assert ready.facts["coverage"] == {"as factors": 1.0}
    rows = data.take(np.arange(6))
    found = taped(output, model, rows, torch.zeros(6, dtype=torch.int64), ready.seen)
    for i in range(6):
        truth = plain_gradient(output, model, data.take([i]), 0)
        size = max(float(g.abs().max()) for g in truth.values())
        for name, gradient in truth.items():
            torch.testing.assert_close(found[name][i], gradient.flatten(), rtol=1e-9, atol=1e-9 * size)


@pytest.mark.parametrize("repeats", [1, 5])
def test_features_of_draws_one_after_the_other_are_those_of_all_together(repeats, tmp_path):
    """The lab goes draw by draw, the reference lab takes the gradient of the mean, row by row."""
    data = clouds(7, shape=(1, 8, 8), times=[ANY, ANY, 3, 19, ANY, 0, ANY])
    learner = SGD(small_unet, epochs=1, lr=1e-3, batch_size=4, loss=DIFFUSION)
    question = Question(learner, data, data[:2], outputs.DenoisingLoss(DIFFUSION, repeats))
    subsets, sketch = Subsets(n=7, count=1), FactoredSketch(256, seed=0)
    found, plain = (
        lab.features(question, subsets, 0, sketch)
        for lab in (Lab(tmp_path, backend="loop", progress=False), MemoryLab())
    )
    for ours, theirs in ((found.train.whole(), plain.train.whole()), (found.targets, plain.targets)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
    np.testing.assert_array_equal(found.slope, -1.0)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Forty samples of four kinds, a linear denoiser, and the truth of 24 subsets."""
    learner = SGD(Linear, epochs=100, lr=0.02, batch_size=10, optimizer="adamw", loss=DIFFUSION)
    question = Question(learner, clouds(), clouds(8, seed=0), outputs.DenoisingLoss(DIFFUSION, repeats=20))
    lab = Lab(tmp_path_factory.mktemp("lab"), progress=False)
    return question, lab, lab.outcomes(question, Subsets(n=40, count=24, seed=1), repeats=4)


@pytest.mark.parametrize("method", [TRAK(models=5, dim=64), Influence(models=5)], ids=["TRAK", "EK-FAC"])
@pytest.mark.usefixtures("unchecked")
def test_scores_predict_retraining(asked, method):
    """Their sign and order: the loss falls where rows are added that teach this sample's kind."""
    question, lab, truth = asked
    assert lds(method.attribute(question, lab), truth).interval[0] > 0.2


@pytest.mark.usefixtures("unchecked")
def test_by_proxy(asked):
    question, lab, truth = asked
    norm, trak = outputs.PredictionNorm(DIFFUSION, repeats=20), TRAK(models=3, dim=64)
    found = ByProxy(trak, norm).attribute(question, lab)
    own = trak.attribute(dataclasses.replace(question, output=norm), lab)
    np.testing.assert_array_equal(found.scores, own.scores)
    assert found.units == "relative"
    assert found.info.method == "TRAK by norm of the prediction"
    assert found.info.output == "denoising loss"
    assert len(found.parts()) == 3
    turned = ByProxy(trak, norm, sign=-1).attribute(question, lab)
    np.testing.assert_array_equal(turned.scores, -found.scores)
    same = ByProxy(trak, question.output).attribute(question, lab)
    assert lds(same, truth).value == lds(trak.attribute(question, lab), truth).value


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: outputs.DenoisingLoss(DIFFUSION, 0), "0 draws"),
        (lambda: outputs.DenoisingLoss(DIFFUSION, mask=torch.zeros(2, 2)), "zeros"),
        (lambda: outputs.DenoisingLoss(DIFFUSION, mask=torch.tensor([1.0, -1.0])), "below 0"),
        (lambda: outputs.DenoisingLoss(DIFFUSION, mask=torch.full((2,), torch.nan)), "no number"),
    ],
)
def test_settings_that_mean_nothing(make, told):
    with pytest.raises(BadInput, match=f"dl-819(.|\n)*{told}"):
        make()


def test_what_does_not_fit():
    model, rows = held(Linear()), clouds(3, dtype=torch.float64).take(np.arange(3))
    with pytest.raises(BadInput, match="dl-819"):
        outputs.DenoisingLoss(DIFFUSION, mask=torch.ones(3, 3)).value(model, rows)
    with pytest.raises(BadInput, match="dl-817"):
        Question(
            SGD(Linear, loss=DIFFUSION), clouds(3), clouds(2, times=[1, 20]), outputs.DenoisingLoss(DIFFUSION)
        )
    with pytest.raises(BadInput, match="dl-816"):
        Question(
            SGD(Linear, loss=DIFFUSION),
            clouds(3),
            Examples(torch.zeros(2, 1)),
            outputs.DenoisingLoss(DIFFUSION),
        )
    with pytest.raises(BadInput, match="dl-711"):
        ByProxy(TRAK(), outputs.DenoisingLoss(DIFFUSION), sign=0)


class Steep(torch.nn.Module):
    """Says six times the sample; the way back goes through numbers that fp16 has not."""

    def __init__(self):
        super().__init__()
        self.first, self.last = (torch.nn.Parameter(torch.tensor([v])) for v in (1e-4, 300.0))

    def forward(self, sample, timestep):  # noqa: ARG002
        return self.last * (self.first * sample * 200.0)


def test_gradients_of_a_draw_that_overflow_in_fp16_are_told_and_bf16_holds_them():
    data = Examples(clouds(5).inputs | {"sample": clouds(5).inputs["sample"].half()})
    learner = Checkpoints(Steep().half(), [Steep().half().state_dict()])
    asked = Question(learner, data, data[:2], outputs.DenoisingLoss(DIFFUSION, repeats=3))
    model, sketch = learner.models()[0], Exact()
    with pytest.raises(CapabilityError, match=r"dl-247.*bf16"):
        features(asked, model, sketch)
    held_by = features(asked, model, sketch, Compute(precision="bf16"))
    full = features(asked, model, sketch, Compute(precision="fp32"))
    np.testing.assert_allclose(held_by.train.whole(), full.train.whole(), rtol=0.1)
