"""Samplers held against those of diffusers and a closed form; journeys, their classes, and counterfactual samples."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from denoisers import DIFFUSION, Linear, clouds, diffusers, held, small_unet

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError, TrainingError
from dataloupe._identity import Stream
from dataloupe.apps import Sampler, likelihoods, regenerate
from dataloupe.core import (
    DenseAttribution,
    Diffusion,
    Examples,
    Info,
    MemoryLab,
    Question,
    Subsets,
    TorchModel,
)
from dataloupe.learners import SGD, Checkpoints


class Normal:
    """What normal data of mean m and variance v make the best model say."""

    def __init__(self, diffusion, m, v):
        self.diffusion, self.m, self.v = diffusion, m, v

    def predict(self, inputs):
        a = self.diffusion.alphas[inputs["timestep"]][:, None].float()
        x = inputs["sample"]
        return (1 - a).sqrt() * (x - a.sqrt() * self.m) / (a * self.v + 1 - a)


def fresh(stream):
    return torch.from_numpy(stream.numpy().standard_normal((1, 2, 2), dtype=np.float32)).double()


@pytest.mark.parametrize("says", ["noise", "sample", "velocity"])
@pytest.mark.parametrize(("eta", "theirs"), [(1.0, "DDPM"), (0.0, "DDIM"), (0.5, "DDIM")])
def test_steps_are_those_of_diffusers(says, eta, theirs, monkeypatch):
    kind = {"noise": "epsilon", "sample": "sample", "velocity": "v_prediction"}[says]
    scheduler = {"DDPM": diffusers.DDPMScheduler, "DDIM": diffusers.DDIMScheduler}[theirs](
        20, prediction_type=kind
    )
    scheduler.set_timesteps(20)
    sampler, model = Sampler(Diffusion.of(scheduler), steps=20, eta=eta), held(Linear())
    found = sampler.journey(model, (1, 2, 2), count=3, seed=1)
    assert found.timesteps.tolist() == scheduler.timesteps.tolist()
    x = found.noisy[0]
    root = Stream.root(1)
    for i, t in enumerate(scheduler.timesteps):
        torch.testing.assert_close(found.noisy[i], x, rtol=1e-4, atol=1e-5)
        said = model.predict({"sample": x, "timestep": t.repeat(3)})
        noise = torch.stack([fresh(root("walk", j)("step", int(t))) for j in range(3)])
        if theirs == "DDIM":
            step = scheduler.step(said, t, x, eta=eta, use_clipped_model_output=True, variance_noise=noise)
        else:
            monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: noise)  # noqa: B023
            step = scheduler.step(said, t, x)
        torch.testing.assert_close(found.clean[i], step.pred_original_sample, rtol=1e-4, atol=1e-5)
        x = step.prev_sample
    torch.testing.assert_close(found.samples, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_normal_data_are_sampled_as_they_are(eta):
    diffusion = Diffusion(200)
    sampler = Sampler(diffusion, steps=60, eta=eta, clip=None)
    m, v = torch.tensor([0.5, -1.0]), torch.tensor([0.25, 0.04])
    ends = sampler.journey(Normal(diffusion, m, v), (2,), count=800).samples
    torch.testing.assert_close(ends.mean(0), m, atol=0.06, rtol=0)
    torch.testing.assert_close(ends.var(0), v, atol=0.02, rtol=0.15)


def test_what_it_seems_to_become_is_the_mean_of_where_it_ends():
    diffusion = Diffusion(100)
    sampler = Sampler(diffusion, steps=40, clip=None)
    model = Normal(diffusion, torch.tensor([0.3]), torch.tensor([0.5]))
    journey = sampler.journey(model, (1,), count=4)
    for step in (0, 24, 38):
        ends = sampler.onwards(model, journey, step, draws=200)
        assert ends.shape == (200, 4, 1)
        torch.testing.assert_close(ends.mean(0), journey.clean[step], atol=0.15, rtol=0)


def test_the_same_noise_for_whoever_asks():
    sampler, model = Sampler(DIFFUSION, steps=5), held(Linear())
    many, few = (sampler.journey(model, (1, 2, 2), count) for count in (5, 2))
    torch.testing.assert_close(many.samples[:2], few.samples)
    for step in (0, 2, 4):
        torch.testing.assert_close(sampler.again(model, many, step), many.samples)
    torch.testing.assert_close(sampler.again(model, many.part([3, 1])), many.samples[[3, 1]])
    other = sampler.journey(model, (1, 2, 2), 2, seed=1)
    assert not torch.allclose(other.samples, few.samples)
    ddim = Sampler(DIFFUSION, steps=5, eta=0.0)
    calm = ddim.journey(model, (1, 2, 2), 2)
    ends = ddim.onwards(model, calm, 2, draws=3)
    for end in ends:
        torch.testing.assert_close(end, calm.samples)


def test_rows_to_explain():
    sampler, model = Sampler(DIFFUSION, steps=5), held(small_unet(classes=3))
    classes = {"class_labels": torch.tensor([2, 0, 1])}
    journey = sampler.journey(model, (1, 8, 8), 3, given=classes)
    rows = journey.targets([1, 4])
    assert rows.meta["sample"] == [0, 0, 1, 1, 2, 2]
    assert rows.meta["timestep"] == journey.timesteps[[1, 4] * 3].tolist()
    torch.testing.assert_close(rows.inputs["sample"][3], journey.clean[4, 1])
    assert rows.inputs["class_labels"].tolist() == [2, 2, 0, 0, 1, 1]
    assert rows.show(3).text == "sample 1, t = 0" and rows.images.shape == (6, 8, 8)
    assert len(journey.targets()) == 15
    ends = journey.ends()
    assert set(ends.inputs["timestep"].tolist()) == {-1}
    torch.testing.assert_close(ends.inputs["sample"], journey.samples)
    torch.testing.assert_close(journey.part([2]).targets([1]).inputs["sample"], rows.inputs["sample"][[4]])
    latents = sampler.journey(held(Linear()), (4,), 2)
    assert latents.ends().images is None


def test_classes_along_the_way():
    """One number, normal about 0: the class is its sign, and the decision falls when the sign is more likely than not."""
    diffusion = Diffusion(50)
    sampler = Sampler(diffusion, steps=50, clip=None)
    model = Normal(diffusion, torch.tensor([0.0]), torch.tensor([1.0]))
    journey = sampler.journey(model, (1,), count=6)

    def sign(x):
        up = (x > 0).float()
        return torch.cat([1 - up, up], 1)

    found = likelihoods(sampler, model, journey, sign, steps=[0, 20, 40, 49], draws=150)
    assert found.timesteps.tolist() == journey.timesteps[[0, 20, 40, 49]].tolist()
    np.testing.assert_allclose(found.ending.sum(2), 1)
    assert found.classes.tolist() == (journey.samples[:, 0] > 0).long().tolist()
    a = diffusion.alphas[found.timesteps].numpy()[:, None]
    x = journey.noisy[[0, 20, 40, 49], :, 0].numpy()
    exact = torch.distributions.Normal(0, 1).cdf(torch.from_numpy(a**0.5 * x / (1 - a) ** 0.5)).numpy()
    np.testing.assert_allclose(found.ending[:, :, 1], exact, atol=0.13)
    own = np.where(found.classes, found.ending[:, :, 1], found.ending[:, :, 0])
    for j, step in enumerate(found.decisions):
        assert (own[step:, j] > 0.5).all() and (step == 0 or own[step - 1, j] <= 0.5)


SETTINGS = {
    "epochs": 100,
    "lr": 0.05,
    "batch_size": 40,
    "optimizer": "adamw",
    "schedule": "linear",
    "loss": DIFFUSION,
}


def question_about(journey, data, **settings):
    learner = SGD(Linear, **(SETTINGS | settings))
    return Question(learner, data, journey.ends(), outputs.DenoisingLoss(DIFFUSION, repeats=4))


@pytest.fixture(scope="module")
def two_kinds():
    """Rows that decide one number of what is made, and rows that do not: the first ten, far off, are what moves the samples."""
    data = clouds(40)
    sample = data.inputs["sample"].clone()
    sample[10:] = 0.05 * sample[10:]
    sample[:10] = 0.9
    data = Examples({**data.inputs, "sample": sample})
    sampler, lab = Sampler(DIFFUSION, steps=10), MemoryLab()
    learner = SGD(Linear, **SETTINGS)
    model = learner.train(data, torch.ones(40), seed=9)
    return data, sampler, lab, sampler.journey(model, (1, 2, 2), count=6)


def planted(question, rows):
    """Scores that say these rows lower the loss."""
    scores = np.zeros((question.m, question.n), dtype=np.float32)
    scores[:, rows] = -1.0
    return DenseAttribution(scores, Info("planted"), units="relative")


def test_removed_top_rows_move_a_sample_and_random_rows_do_not(two_kinds):
    data, sampler, lab, journey = two_kinds
    question = question_about(journey, data)
    found = regenerate(question, lab, planted(question, slice(10)), journey, sampler, remove=10, repeats=3)
    assert found.verdict == "agree"
    assert found.top_mean > 3 * found.random_mean
    assert "agree; 6 samples x 3 seeds" in str(found)
    wrong = regenerate(
        question, lab, planted(question, slice(30, 40)), journey, sampler, remove=10, repeats=3
    )
    assert wrong.verdict != "agree"
    told = found.to_json()
    assert told["verdict"] == "agree" and np.shape(told["top"]) == (6, 3)
    assert found.without_top.shape == (3, 6, 1, 2, 2)
    # by hand: the same seeds, the same noise
    every = lab.models(question, Subsets.without(40, [[], [0], list(range(10))], seed=1))
    torch.testing.assert_close(sampler.again(every[0], journey), found.unremoved[1])
    moved = (sampler.again(every[2], journey)[0] - found.unremoved[1, 0]).square().mean().sqrt()
    np.testing.assert_allclose(found.top[0, 1], moved, rtol=1e-5)


def test_another_distance_and_a_later_start(two_kinds):
    data, sampler, lab, journey = two_kinds
    question = question_about(journey, data, epochs=2)
    scores = planted(question, slice(10))
    found = regenerate(
        question,
        lab,
        scores,
        journey,
        sampler,
        remove=10,
        step=9,
        distance=lambda a, b: (a - b).flatten(1).abs().amax(1),
    )
    assert found.step == 9 and found.top.shape == (6, 2)


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda _: Sampler(DIFFUSION, steps=0), "dl-747"),
        (lambda _: Sampler(DIFFUSION, steps=21), "dl-747"),
        (lambda _: Sampler(DIFFUSION, eta=1.5, steps=2), "dl-747"),
        (lambda _: Sampler(DIFFUSION, clip=0.0, steps=2), "dl-747"),
        (lambda o: o.journey.targets([10]), "dl-747"),
        (lambda o: o.journey.targets([]), "dl-747"),
        (lambda o: o.journey.part([6]), "dl-109"),
        (
            lambda o: likelihoods(o.sampler, held(Linear()), o.journey, lambda x: x.flatten(1), draws=2),
            "dl-748",
        ),
        (lambda o: likelihoods(o.sampler, held(Linear()), o.journey, lambda _: None, draws=2), "dl-748"),
        (lambda o: likelihoods(o.sampler, held(Linear()), o.journey, lambda x: x, draws=0), "dl-747"),
        (
            lambda o: regenerate(
                o.question, MemoryLab(), planted(o.question, [0]), o.journey, o.sampler, remove=40
            ),
            "dl-749",
        ),
        (
            lambda o: regenerate(
                o.question, MemoryLab(), planted(o.question, [0]), o.journey, o.sampler, repeats=1, remove=2
            ),
            "dl-749",
        ),
        (
            lambda o: regenerate(
                o.question, MemoryLab(), planted(o.question, [0]), o.journey.part([0]), o.sampler, remove=2
            ),
            "dl-749",
        ),
    ],
)
def test_what_cannot_be_meant(two_kinds, ask, code):
    data, sampler, _, journey = two_kinds
    with pytest.raises(BadInput, match=code):
        ask(SimpleNamespace(sampler=sampler, question=question_about(journey, data), journey=journey))


def test_retraining_wants_a_learner_and_numbers(two_kinds):
    data, sampler, lab, journey = two_kinds
    question = question_about(journey, data)
    held_only = dataclasses.replace(question, learner=Checkpoints(Linear, [Linear().state_dict()]))
    with pytest.raises(CapabilityError, match="dl-734"):
        regenerate(held_only, lab, planted(question, [0]), journey, sampler, remove=2)
    diverging = question_about(journey, data, lr=1e30, optimizer="sgd")
    with pytest.raises(TrainingError, match="dl-718"):
        regenerate(diverging, lab, planted(question, [0]), journey, sampler, remove=2)


def test_a_model_of_diffusers_is_sampled():
    sampler = Sampler(DIFFUSION, steps=3)
    found = sampler.journey(held(small_unet()), (1, 8, 8), count=2)
    assert isinstance(held(small_unet()), TorchModel) and bool(found.samples.isfinite().all())
