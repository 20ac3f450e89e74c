"""The diffusion: its formulas, the library diffusers' numbers, what a model says read back, bad settings."""

import pickle

import numpy as np
import pytest
import torch
from denoisers import diffusers
from hypothesis import given
from hypothesis import strategies as st

from dataloupe._errors import BadInput
from dataloupe.core import ANY, Diffusion, Rows, check_timesteps, clean_of, said_of

NAMES = {"noise": "epsilon", "sample": "sample", "velocity": "v_prediction"}


@pytest.mark.parametrize(("schedule", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_the_shares_are_those_of_diffusers(schedule, theirs):
    alphas = diffusers.DDPMScheduler(1000, beta_schedule=theirs).alphas_cumprod
    torch.testing.assert_close(Diffusion(1000, schedule).alphas.float(), alphas, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("says", list(NAMES))
def test_a_scheduler_is_taken_over(says):
    scheduler = diffusers.DDPMScheduler(50, prediction_type=NAMES[says])
    diffusion = Diffusion.of(scheduler)
    assert (diffusion.steps, diffusion.says) == (50, says)
    sample, noise = torch.randn(2, 4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0, 7, 30, 49])
    torch.testing.assert_close(
        diffusion.noised(sample, noise, times), scheduler.add_noise(sample, noise, times)
    )
    if says == "velocity":
        theirs = scheduler.get_velocity(sample, noise, times)
        torch.testing.assert_close(diffusion.aim(sample, noise, times), theirs)


@pytest.mark.parametrize("says", list(NAMES))
@given(steps=st.integers(1, 40), seed=st.integers(0, 99), schedule=st.sampled_from(["linear", "cosine"]))
def test_who_says_what_he_should_is_read_right(says, steps, seed, schedule):
    diffusion = Diffusion(steps, schedule, says)
    assert bool((diffusion.alphas[1:] < diffusion.alphas[:-1]).all())
    draws = np.random.default_rng(seed)
    sample, noise = torch.from_numpy(draws.normal(size=(2, 5, 2, 2)))
    times = torch.from_numpy(draws.integers(0, steps, size=5))
    noisy = diffusion.noised(sample, noise, times)
    a = diffusion.alphas[times][:, None, None]
    torch.testing.assert_close(noisy, a.sqrt() * sample + (1 - a).sqrt() * noise)
    found = diffusion.read(noisy, diffusion.aim(sample, noise, times), times)
    torch.testing.assert_close(found[0], sample, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[1], noise, rtol=1e-6, atol=1e-6)


def test_it_travels_and_is_found_by_its_settings():
    diffusion = Diffusion(10)
    assert diffusion.alphas.shape == (10,)
    again = pickle.loads(pickle.dumps(diffusion))
    assert again == diffusion and hash(again) == hash(diffusion)
    torch.testing.assert_close(again.alphas, diffusion.alphas)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"steps": 0}, "steps=0"),
        ({"steps": 3, "schedule": (0.9, 0.5)}, "2 numbers for 3 steps"),
        ({"steps": 2, "schedule": (0.5, 0.9)}, "does not fall"),
        ({"steps": 2, "schedule": (1.0, 0.5)}, "does not fall"),
    ],
)
def test_settings_that_mean_nothing(settings, told):
    with pytest.raises(BadInput, match=f"dl-112(.|\n)*{told}"):
        Diffusion(**settings)


@pytest.mark.parametrize(
    "scheduler", [object(), diffusers.FlowMatchEulerDiscreteScheduler()], ids=["anything", "flow"]
)
def test_a_scheduler_that_has_no_shares(scheduler):
    with pytest.raises(BadInput, match="dl-112"):
        Diffusion.of(scheduler)


SAMPLE, TIME = torch.zeros(2, 1, 2, 2), torch.full((2,), ANY)


@pytest.mark.parametrize(
    "inputs",
    [
        SAMPLE,
        {"sample": SAMPLE},
        {"timestep": TIME},
        {"sample": SAMPLE.to(torch.uint8), "timestep": TIME},
        {"sample": SAMPLE, "timestep": TIME.float()},
        {"sample": torch.zeros(2), "timestep": TIME},
    ],
)
def test_rows_without_samples_and_timesteps(inputs):
    with pytest.raises(BadInput, match="dl-816"):
        clean_of(Rows(inputs, None))


@pytest.mark.parametrize("bad", [-2, 10])
def test_timesteps_out_of_range(bad):
    times = torch.tensor([3, bad])
    with pytest.raises(BadInput, match=r"dl-817(.|\n)*from 0 to 9"):
        check_timesteps(Rows({"sample": SAMPLE, "timestep": times}, None), Diffusion(10))
    check_timesteps(Rows({"sample": SAMPLE, "timestep": torch.tensor([-1, 9])}, None), Diffusion(10))


@pytest.mark.parametrize("found", [None, torch.zeros(2, 2, 2, 2), torch.zeros(2)])
def test_a_model_that_says_something_of_another_shape(found):
    with pytest.raises(BadInput, match="dl-818"):
        said_of(found, SAMPLE)
