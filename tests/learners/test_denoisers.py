"""SGD on denoisers: the usual loop of torch, many at once, keyed noise, and what normal data teach in closed form."""

import numpy as np
import pytest
import torch
from denoisers import DIFFUSION, ByTime, Linear, clouds, small_unet

from dataloupe._errors import BadInput
from dataloupe.core import Diffusion, Examples, Question, Subsets, make_batch
from dataloupe.engine import train_stack
from dataloupe.engine._train import pick
from dataloupe.lab import Lab
from dataloupe.learners import SGD
from dataloupe.learners._augment import Flip
from dataloupe.learners._denoise import noised, normals
from dataloupe.outputs import DenoisingLoss
from dataloupe.testing import LearnerContract

N = 40
HALF = (torch.arange(N) % 2).float()


class TestOfDenoisers(LearnerContract):
    seeded = True

    def learner(self):
        return SGD(Linear, epochs=2, lr=0.1, batch_size=8, loss=DIFFUSION)

    def data(self):
        return clouds(N, shape=(4,))


class TestOfDenoisersUnderMask(TestOfDenoisers):
    def learner(self):
        return SGD(Linear, epochs=2, lr=0.1, batch_size=8, loss=DIFFUSION, removal="mask", optimizer="adamw")


def drawn(ids, seed=3, epoch=1, diffusion=DIFFUSION, data=None):
    data = data or clouds(N)
    ids = torch.as_tensor(ids)
    return noised(diffusion, data.take(ids).inputs, torch.tensor(seed), ids, torch.tensor(epoch))


@pytest.mark.parametrize("says", ["noise", "sample", "velocity"])
def test_the_plain_loop_of_torch(says):
    """Batch by batch: noise, forward, mean squared error, backward, a step."""
    diffusion = Diffusion(20, says=says)
    learner = SGD(Linear, epochs=2, lr=0.1, batch_size=8, loss=diffusion)
    found = learner.train(clouds(N), HALF, seed=5).params
    state = learner.init(seed=5)
    module = Linear()
    module.load_state_dict(state.params)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for slot in learner.batches(HALF, seed=5):
        inputs, aim = drawn(slot.ids, int(state.seed), slot.epoch, diffusion)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(module(**inputs), aim).backward()
        optimizer.step()
    for name, p in module.named_parameters():
        torch.testing.assert_close(found[name], p.detach(), rtol=1e-4, atol=1e-6)


def test_many_at_once_are_the_same_as_one_by_one():
    learner = SGD(Linear, epochs=2, lr=0.1, batch_size=8, loss=DIFFUSION)
    weights = torch.stack([HALF, 1 - HALF])
    states = train_stack(learner, clouds(N), weights, [5, 6])
    for i, seed in enumerate((5, 6)):
        alone = learner.train(clouds(N), weights[i], seed=seed).params
        for name, tensor in pick(states, i).params.items():
            torch.testing.assert_close(tensor, alone[name], rtol=1e-4, atol=1e-6)


def test_noise_is_keyed_by_the_example():
    """The same for an example whoever shares its batch; another for another example, epoch or seed."""
    inputs, aim = drawn([4, 9, 17])
    alone, own = drawn([9])
    torch.testing.assert_close(inputs["sample"][[1]], alone["sample"], rtol=0, atol=0)
    torch.testing.assert_close(aim[[1]], own, rtol=0, atol=0)
    assert inputs["timestep"][1] == alone["timestep"][0]
    for other in (drawn([9], epoch=2), drawn([9], seed=4)):
        assert not torch.equal(other[1], own)
    assert not torch.equal(aim[0], aim[1])


def test_noise_is_standard_normal_and_timesteps_uniform():
    data = Examples({"sample": torch.zeros(3000, 3), "timestep": torch.full((3000,), -1)})  # an odd size
    inputs, noise = drawn(np.arange(3000), data=data)
    assert noise.mean().abs() < 0.04 and (noise.std() - 1).abs() < 0.03
    assert (noise.pow(4).mean() - 3).abs() < 0.4
    assert torch.corrcoef(noise.T).fill_diagonal_(0).abs().max() < 0.08
    counts = torch.bincount(inputs["timestep"], minlength=20).float()
    assert len(counts) == 20 and (counts / 150 - 1).abs().max() < 0.35
    assert torch.corrcoef(torch.stack([inputs["timestep"].float(), noise[:, 0]]))[0, 1].abs() < 0.08
    assert normals(torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]


def test_a_row_that_names_its_timestep_is_trained_there_alone():
    data = clouds(N, times=torch.arange(N) % 2 * 7)
    inputs, _ = drawn(np.arange(N), data=data)
    assert inputs["timestep"].tolist() == (torch.arange(N) % 2 * 7).tolist()
    model = SGD(Linear, epochs=2, lr=0.1, batch_size=8, loss=DIFFUSION).train(data, torch.ones(N), seed=0)
    moved = (
        model.params["by_time.weight"] - SGD(Linear, loss=DIFFUSION).init(seed=0).params["by_time.weight"]
    ).abs()
    assert sorted(moved.sum(1).nonzero().flatten().tolist()) == [0, 7]


def test_normal_data_teach_their_closed_form():
    """Of independent normal numbers, mean m and variance v, E[e | x_t] = sqrt(1 - a) (x_t - sqrt(a) m) / (a v + 1 - a)."""
    draws = np.random.default_rng(0)
    mean, spread = np.array([0.5, -0.3, 0.0, 0.8]), np.array([0.4, 0.6, 1.0, 0.8])
    x = (mean + spread * draws.normal(size=(500, 4))).reshape(500, 1, 2, 2)
    data = Examples({"sample": torch.from_numpy(x).float(), "timestep": torch.full((500,), -1)})
    diffusion = Diffusion(4)
    learner = SGD(
        lambda: ByTime(steps=4),
        epochs=120,
        lr=0.05,
        batch_size=50,
        optimizer="adamw",
        schedule="linear",
        loss=diffusion,
    )
    params = learner.train(data, torch.ones(500), seed=0).params
    m, v = x.reshape(500, 4).mean(0), x.reshape(500, 4).var(0)
    a = diffusion.alphas.numpy()[:, None]
    slope = np.sqrt(1 - a) / (a * v + 1 - a)
    np.testing.assert_allclose(params["slope.weight"], slope, atol=0.06)
    np.testing.assert_allclose(params["offset.weight"], -slope * np.sqrt(a) * m, atol=0.06)


def test_samples_are_augmented_before_they_are_noised():
    wide = clouds(N, shape=(1, 1, 3))
    flipped = Examples({"sample": wide.inputs["sample"].flip(-1), "timestep": wide.inputs["timestep"]})
    augmented, plain = (
        SGD(lambda: Linear(3), epochs=1, lr=0.1, batch_size=8, loss=DIFFUSION, augment=change)
        for change in (Flip(1.0), None)
    )
    found = augmented.train(wide, HALF, seed=2).params
    for name, tensor in plain.train(flipped, HALF, seed=2).params.items():
        torch.testing.assert_close(found[name], tensor)


def test_a_unet_is_trained_one_by_one():
    data = clouds(12, shape=(1, 8, 8))
    learner = SGD(small_unet, epochs=2, lr=1e-3, batch_size=6, optimizer="adamw", loss=DIFFUSION)
    batch = make_batch(data, torch.ones(12), next(iter(learner.batches(torch.ones(12), seed=0))), "repack")
    before = learner.init(seed=0)
    after = learner.step(before, batch)
    assert all(not torch.equal(after.params[name], p) for name, p in before.params.items() if p.ndim > 1)
    params = learner.train(data, torch.ones(12), seed=0).params
    assert all(bool(p.isfinite().all()) for p in params.values())


@pytest.mark.parametrize("bad", [-2, 20])
def test_training_rows_at_timesteps_that_there_are_not(bad, tmp_path):
    """Alone, and by the lab, which retrains without asking for a gradient."""
    learner, data = SGD(Linear, epochs=1, loss=DIFFUSION), clouds(4, times=[0, 1, bad, -1])
    with pytest.raises(BadInput, match="dl-817"):
        learner.train(data, torch.ones(4), seed=0)
    question = Question(learner, data, clouds(2), DenoisingLoss(DIFFUSION))
    with pytest.raises(BadInput, match="dl-817"):
        Lab(tmp_path, backend="loop", progress=False).outcomes(question, Subsets.full(4))


def test_what_does_not_fit():
    learner = SGD(Linear, epochs=1, loss=DIFFUSION)
    with pytest.raises(BadInput, match="dl-816"):
        learner.train(Examples(torch.zeros(4, 4)), torch.ones(4), seed=0)
    with pytest.raises(BadInput, match="dl-818"):
        SGD(lambda: Half(), epochs=1, loss=DIFFUSION).train(clouds(4), torch.ones(4), seed=0)


class Half(Linear):
    """Says half of what it should."""

    def forward(self, sample, timestep):
        return super().forward(sample, timestep)[..., :1]
