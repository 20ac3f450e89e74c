"""Small denoisers and small samples, for the tests of everything that has to do with diffusion."""

import warnings

import numpy as np
import torch
from torch import nn

from dataloupe.core import ANY, Diffusion, Examples, TorchModel

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import diffusers

DIFFUSION = Diffusion(20)


class Linear(nn.Module):
    """Says a linear function of the sample, and something by timestep."""

    def __init__(self, size=4, steps=20):
        super().__init__()
        self.layer, self.by_time = nn.Linear(size, size), nn.Embedding(steps + 1, size)

    def forward(self, sample, timestep):
        flat = self.layer(sample.flatten(1)) + self.by_time(timestep.clamp(min=0))
        return flat.view(sample.shape)


class ByTime(nn.Module):
    """Says, of every number of the sample, a linear function of it with two coefficients by timestep: enough for normal data."""

    def __init__(self, size=4, steps=20):
        super().__init__()
        self.slope, self.offset = nn.Embedding(steps, size), nn.Embedding(steps, size)

    def forward(self, sample, timestep):
        timestep = timestep.clamp(min=0)
        return sample * self.slope(timestep).view(sample.shape) + self.offset(timestep).view(sample.shape)


def small_unet(attention=False, classes=None):
    """The UNet of the library diffusers, as small as it comes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return diffusers.UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "AttnDownBlock2D" if attention else "DownBlock2D"),
            up_block_types=("AttnUpBlock2D" if attention else "UpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            num_class_embeds=classes,
        )


def clouds(n=40, seed=0, dtype=torch.float32, shape=(1, 2, 2), times=None):
    """Samples of four kinds, at any timestep or at those given."""
    draws = np.random.default_rng(seed)
    centres = draws.normal(size=(4, *shape))
    x = centres[draws.integers(0, 4, size=n)] + 0.2 * draws.normal(size=(n, *shape))
    timestep = torch.full((n,), ANY) if times is None else torch.as_tensor(times)
    return Examples({"sample": torch.from_numpy(x).to(dtype), "timestep": timestep})


def held(module):
    """A model of a module's own numbers, in double precision."""
    module = module.double().eval()
    return TorchModel(module, {name: p.detach() for name, p in module.named_parameters()})
