"""Training a model to take noise away: which noise, and at which timestep."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._identity import Stream, mix64_torch, uniform_torch
from dataloupe._typing import Inputs
from dataloupe.core import Diffusion, Rows, clean_of, noised_inputs

_NOISE = Stream.root(0)("noise").seed()


def noised(
    diffusion: Diffusion,
    inputs: Inputs,
    seed: Int[Tensor, ""],
    ids: Int[Tensor, " b"],
    epoch: Int[Tensor, ""],
) -> tuple[Inputs, Tensor]:
    """The inputs of samples with noise, and what the model should say of them; keyed by (seed, epoch, example id)."""
    rows = Rows(inputs, None)
    sample, timesteps = clean_of(rows)
    size = math.prod(sample.shape[1:])
    uniforms = uniform_torch(mix64_torch(seed ^ _NOISE), ids, epoch, 1 + size + size % 2)
    drawn = (uniforms[:, 0] * diffusion.steps).long().clamp(max=diffusion.steps - 1)
    timesteps = torch.where(timesteps < 0, drawn, timesteps)
    noise = normals(uniforms[:, 1:])[:, :size].reshape(sample.shape).to(sample.dtype)
    noisy = diffusion.noised(sample, noise, timesteps)
    return noised_inputs(rows, noisy, timesteps), diffusion.aim(sample, noise, timesteps)


def images_of(inputs: Inputs) -> Tensor:
    """What an augmentation changes: the inputs, or of what is to be noised the sample."""
    return clean_of(Rows(inputs, None))[0] if isinstance(inputs, dict) else inputs  # type: ignore[return-value]


def with_images(inputs: Inputs, images: Tensor) -> Inputs:
    """The inputs with other images."""
    return {**inputs, "sample": images} if isinstance(inputs, dict) else images


def normals(uniforms: Float[Tensor, "b draws"]) -> Float[Tensor, "b draws"]:
    """Standard normal numbers from an even number of uniform ones (Box and Muller 1958)."""
    first, second = uniforms.chunk(2, dim=1)
    length, angle = (-2 * torch.log1p(-first)).sqrt(), 2 * math.pi * second
    return torch.cat([length * angle.cos(), length * angle.sin()], dim=1)
