"""Outputs of models that take noise away (DDPM): the denoising loss, and the size of what is said.

Rows are dicts with a ``sample`` and a ``timestep`` (:class:`dataloupe.Diffusion`). Every one of ``repeats`` draws holds one noise and one
timestep, the same for all rows and all models, so that what differs between rows or models is no noise of the draws. The training loss behind
``slope`` is the mean squared error that :class:`dataloupe.SGD` takes of a diffusion.
"""

# ruff: noqa: ARG002  (the protocol hands every output the model, the rows and the draw)

import abc
import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import (
    Better,
    Diffusion,
    Model,
    Rows,
    check_settings,
    check_timesteps,
    clean_of,
    draws_of,
    logits_of,
    noised_inputs,
    said_of,
)
from dataloupe.outputs._checks import all_valid, at_least_single


@dataclasses.dataclass(frozen=True, eq=False)
class _OfDenoiser(abc.ABC):
    """One number for every sample, the mean over ``repeats`` draws of noise and timestep.

    A row whose timestep is -1 is looked at in all: draw r takes one of the r-th part of them. A row that names its timestep is looked at
    there, under as many draws of noise.
    """

    diffusion: Diffusion
    repeats: int = 10
    name: ClassVar[str]

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-819")
        if self.repeats < 1:
            raise BadInput(
                "dl-819",
                asked=f"the {self.name} over {self.repeats} draws of noise",
                found="a number below 1",
                do="take 10 or more: the number of draws decides how far a score is noise",
            )

    @abc.abstractmethod
    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """The number of every sample, under one draw."""

    def slope(
        self, model: Model, rows: Rows, values: Float[Tensor, " b"], draw: Stream | None = None
    ) -> Float[Tensor, " b"]:
        """-1 everywhere."""
        return -torch.ones_like(values)

    def valid(self, rows: Rows) -> Bool[Tensor, "b 1"]:
        """One component per row (dl-816, dl-817)."""
        check_timesteps(rows, self.diffusion)
        return all_valid(rows, 1)

    def _said(self, model: Model, rows: Rows, draw: Stream | None) -> tuple[Tensor, Tensor]:
        """What the model says of the noised samples, and what it should say."""
        sample, asked = clean_of(rows)
        draws = draws_of(self)
        draw = draw or draws[0]
        place = (draws.index(draw) + float(draw("timestep").uniform([0])[0])) / self.repeats
        timesteps = torch.where(asked < 0, int(place * self.diffusion.steps), asked)
        shape = sample.shape[1:]
        noise = torch.from_numpy(draw("noise").numpy().standard_normal(shape)).to(sample.device, sample.dtype)
        noisy = self.diffusion.noised(sample, noise, timesteps)
        found = logits_of(model.predict(noised_inputs(rows, noisy, timesteps)))
        said = at_least_single(said_of(found, sample))
        return said, self.diffusion.aim(sample, noise, timesteps).to(said.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class DenoisingLoss(_OfDenoiser):
    """The denoising loss of a sample: ``f = mean_r |said(x_t(r), t(r)) - aim(r)|^2 / D`` over draws r, D numbers in a sample.

    ``value [b]``, at least 0; *lower* is better. ``slope = -1``: the output is the training loss, but for the draws. ``mask``, of the
    sample's shape or spread over it, looks at a part of the sample: ``sum(mask residual^2) / sum(mask)``; such an output is for targets, with
    ``train_output=DenoisingLoss(diffusion)``.

    The journey of a sample from noise: rows that hold what the model took for the sample at timestep t, and t
    (``Journey.targets``): where the sampler was pushed to there, in expectation over the noise.

    Raises ``BadInput`` dl-816 (no samples and timesteps), dl-817 (a timestep outside), dl-818 (a model that says something of another
    shape), dl-819 (settings).

    >>> from dataloupe.core import TorchModel
    >>> class Nothing(torch.nn.Module):
    ...     def forward(self, sample, timestep):
    ...         return 0 * sample
    >>> rows = Rows({"sample": torch.ones(1, 1, 50, 50), "timestep": torch.tensor([-1])}, None)
    >>> DenoisingLoss(Diffusion(), repeats=1).value(TorchModel(Nothing(), {}), rows).round(decimals=1)
    tensor([1.])

    Source: Ho, Jain and Abbeel 2020, equation 14; Georgiev et al. 2023 (the journey), equation 5.
    """

    mask: Tensor | None = None
    name: ClassVar[str] = "denoising loss"
    better: ClassVar[Better | None] = "lower"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        mask = self.mask
        if mask is not None and not (bool((mask >= 0).all()) and bool((mask > 0).any())):
            raise BadInput(
                "dl-819",
                asked=f"the {self.name} under a mask",
                found="numbers below 0" if bool((mask < 0).any()) else "nothing but zeros (or no number)",
                do="give 1 where the sample is looked at and 0 elsewhere",
            )

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """The mean squared error under one draw."""
        said, aim = self._said(model, rows, draw)
        error = (said - aim).square()
        if self.mask is None:
            return error.flatten(1).mean(1)
        try:
            weight = self.mask.to(error.device, error.dtype).expand(error.shape[1:])
        except RuntimeError as wrong:
            raise BadInput(
                "dl-819",
                asked=f"the {self.name} under a mask of shape {tuple(self.mask.shape)}",
                found=f"samples of shape {tuple(error.shape[1:])}",
                do="give a mask of the sample's shape, or one that spreads over it",
            ) from wrong
        return (error * weight).flatten(1).sum(1) / weight.sum()


@dataclasses.dataclass(frozen=True, eq=False)
class PredictionNorm(_OfDenoiser):
    """The size of what the model says: ``f = mean_r |said(x_t(r), t(r))|^2 / D``; what D-TRAK looks at on both sides.

    ``value [b]``, at least 0. ``slope = -1`` by convention: training is taken to lower it as it lowers the loss, which nobody
    has derived; :class:`dataloupe.DTRAK` is judged by retraining.

    Raises ``BadInput`` dl-816 to dl-819, as :class:`DenoisingLoss`.

    >>> PredictionNorm(Diffusion(), repeats=10).name
    'norm of the prediction'

    Source: Zheng et al. 2024 (D-TRAK), section 3.2.
    """

    name: ClassVar[str] = "norm of the prediction"
    better: ClassVar[Better | None] = None

    def value(self, model: Model, rows: Rows, draw: Stream | None = None) -> Float[Tensor, " b"]:
        """The mean square of what is said, under one draw."""
        return self._said(model, rows, draw)[0].square().flatten(1).mean(1)
