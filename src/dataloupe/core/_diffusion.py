"""Diffusion: noise added step by step, and what a model that takes it away again says."""

import dataclasses
import math
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._typing import Inputs
from dataloupe.core._examples import Rows
from dataloupe.core._settings import check_settings

ANY = -1
"""The timestep of an example that is looked at in all of them: each draw takes one."""

Says = Literal["noise", "sample", "velocity"]


@dataclasses.dataclass(frozen=True)
class Diffusion:
    """What becomes of a sample x in so many timesteps, ``x_t = sqrt(a_t) x + sqrt(1 - a_t) e``, e standard normal.

    ``schedule`` says how a_t falls: ``linear`` (beta_t = 1 - a_t / a_{t-1} from 0.1 / steps to 20 / steps), ``cosine``, or the
    numbers a_0 > a_1 > ... themselves. ``says`` is what the model is taught to say of x_t: the ``noise`` e, the ``sample`` x, or the
    ``velocity`` sqrt(a_t) e - sqrt(1 - a_t) x.

    Examples are dicts of ``sample`` (floating point, any shape; what a VAE makes of an image is one too), ``timestep`` (:data:`ANY`, or
    the timestep that this row is about) and whatever else the model takes, such as ``class_labels``. The module is called with these
    keywords, ``sample`` being x_t, as those of the library diffusers are; it gives a tensor or an object that has it as ``sample``.

    Raises ``BadInput`` dl-112 (settings), dl-816 (no samples and timesteps), dl-817 (a timestep outside the range).

    >>> diffusion = Diffusion(1000)
    >>> diffusion.noised(torch.ones(2, 1), torch.zeros(2, 1), torch.tensor([0, 999])).flatten()
    tensor([0.9999, 0.0064])

    Source: Ho, Jain and Abbeel 2020 (DDPM), equations 4 and 14; Nichol and Dhariwal 2021 (cosine); Salimans and Ho 2022 (velocity).
    """

    steps: int = 1000
    schedule: Literal["linear", "cosine"] | tuple[float, ...] = "linear"
    says: Says = "noise"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-816")
        given = self.schedule if isinstance(self.schedule, tuple) else None
        wrong = (
            f"steps={self.steps!r}"
            if self.steps < 1
            else f"says={self.says!r}"
            if self.says not in ("noise", "sample", "velocity")
            else f"schedule={self.schedule!r}"
            if given is None and self.schedule not in ("linear", "cosine")
            else f"a schedule of {len(given)} numbers for {self.steps} steps"
            if given is not None and len(given) != self.steps
            else "a schedule that does not fall within (0, 1)"
            if given is not None and not (given[-1] > 0 and given[0] < 1 and bool((np.diff(given) < 0).all()))
            else None
        )
        if wrong is not None:
            raise BadInput(
                "dl-112",
                asked=f"a diffusion with {wrong}",
                found="a setting that means nothing",
                do='give steps >= 1, schedule "linear", "cosine" or falling numbers a_t between 0 and 1, one for each step, '
                'and says "noise", "sample" or "velocity"; Diffusion.of(scheduler) reads them from diffusers',
            )

    @classmethod
    def of(cls, scheduler: Any) -> "Diffusion":
        """That of a scheduler of the library diffusers: its ``alphas_cumprod`` and ``prediction_type`` (dl-112 where it has none).

        ::

            diffusion = Diffusion.of(diffusers.DDPMScheduler(1000))
        """
        alphas = getattr(scheduler, "alphas_cumprod", None)
        kind = getattr(getattr(scheduler, "config", None), "prediction_type", "epsilon")
        says = {"epsilon": "noise", "sample": "sample", "v_prediction": "velocity"}.get(kind)
        if not isinstance(alphas, Tensor) or says is None:
            raise BadInput(
                "dl-112",
                asked=f"the diffusion of a {type(scheduler).__name__}",
                found=f"a prediction of {kind!r}"
                if isinstance(alphas, Tensor)
                else "no tensor `alphas_cumprod`",
                do="give a scheduler such as diffusers.DDPMScheduler, or Diffusion(steps, schedule=(a_0, a_1, ...))",
            )
        found = tuple(float(a) for a in alphas.double())
        return cls(len(found), found, says)  # type: ignore[arg-type]

    @property
    def alphas(self) -> Float[Tensor, " steps"]:
        """``a_t``, the share of the sample's variance that is left at every timestep, in double precision."""
        known = self.__dict__.get("_alphas")
        if known is None:
            known = torch.tensor(self._alphas_made(), dtype=torch.float64)
            object.__setattr__(self, "_alphas", known)
        return known

    def _alphas_made(self) -> list[float]:
        if isinstance(self.schedule, tuple):
            return list(self.schedule)
        if self.schedule == "linear":
            betas = np.minimum(np.linspace(0.1 / self.steps, 20 / self.steps, self.steps), 0.999)
        else:
            way = [
                math.cos((i / self.steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(self.steps + 1)
            ]
            betas = np.minimum(1 - np.array(way[1:]) / np.array(way[:-1]), 0.999)
        return np.cumprod(1 - betas).tolist()

    def noised(self, sample: Tensor, noise: Tensor, timesteps: Int[Tensor, " b"]) -> Tensor:
        """``x_t``: of every sample, its noise and its timestep."""
        kept, added = self._shares(sample, timesteps)
        return kept * sample + added * noise

    def aim(self, sample: Tensor, noise: Tensor, timesteps: Int[Tensor, " b"]) -> Tensor:
        """What the model should say of ``x_t``."""
        if self.says == "noise":
            return noise.expand_as(sample)
        if self.says == "sample":
            return sample
        kept, added = self._shares(sample, timesteps)
        return kept * noise - added * sample

    def read(self, noisy: Tensor, said: Tensor, timesteps: Int[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """The sample and the noise that the model takes ``x_t`` to be made of, from what it said."""
        kept, added = self._shares(noisy, timesteps)
        if self.says == "noise":
            return (noisy - added * said) / kept, said
        if self.says == "sample":
            return said, (noisy - kept * said) / added
        return kept * noisy - added * said, added * noisy + kept * said

    def _shares(self, like: Tensor, timesteps: Int[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        alphas = self.alphas.to(like.device)[timesteps].reshape(-1, *[1] * (like.ndim - 1))
        return alphas.sqrt().to(like.dtype), (1 - alphas).sqrt().to(like.dtype)

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def clean_of(rows: Rows) -> tuple[Float[Tensor, "..."], Int[Tensor, "..."]]:
    """The samples of rows and the timesteps that they are about, :data:`ANY` where in all (dl-816); looks at shapes only."""
    inputs = rows.inputs
    if isinstance(inputs, dict):
        sample, timesteps = inputs.get("sample"), inputs.get("timestep")
        if isinstance(sample, Tensor) and isinstance(timesteps, Tensor):  # noqa: SIM102
            if sample.is_floating_point() and sample.ndim >= 2 and not timesteps.is_floating_point():
                return sample, timesteps
    raise BadInput(
        "dl-816",
        asked="samples to add noise to, and timesteps",
        found=f"inputs {_described(inputs)}",
        do='give Examples({"sample": images / 127.5 - 1, "timestep": torch.full((n,), -1)}): floating point, and -1 for any timestep',
    )


def noised_inputs(rows: Rows, noisy: Tensor, timesteps: Int[Tensor, " b"]) -> Inputs:
    """The rows' inputs with ``x_t`` and t in place of their own."""
    return {**rows.inputs, "sample": noisy, "timestep": timesteps}  # type: ignore[dict-item]


def as_called(inputs: Inputs) -> Inputs:
    """Inputs that a module can be called with as they stand: those of samples that name no timestep, at timestep 0.

    >>> as_called({"sample": torch.zeros(2, 1), "timestep": torch.tensor([-1, 7])})["timestep"].tolist()
    [0, 7]
    """
    if (
        isinstance(inputs, dict)
        and isinstance(inputs.get("sample"), Tensor)
        and isinstance(inputs.get("timestep"), Tensor)
    ):
        return {**inputs, "timestep": inputs["timestep"].clamp(min=0)}
    return inputs


def said_of(found: Any, sample: Tensor) -> Tensor:
    """What a model said of noised samples, a tensor of their shape (dl-818)."""
    if isinstance(found, Tensor) and found.shape == sample.shape:
        return found
    raise BadInput(
        "dl-818",
        asked=f"what a model says of noised samples, as large as they are: {tuple(sample.shape)}",
        found=f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"{type(found).__name__}",
        do="let the model return a tensor, or an object with `sample`; a variance that it learns is no part of the loss: cut it off",
    )


def check_timesteps(rows: Rows, diffusion: Diffusion) -> None:
    """Refuse timesteps that the diffusion has not, on concrete data (dl-816, dl-817)."""
    _, timesteps = clean_of(rows)
    lowest, highest = int(timesteps.min()), int(timesteps.max())
    if lowest < ANY or highest >= diffusion.steps:
        raise BadInput(
            "dl-817",
            asked=f"timesteps from 0 to {diffusion.steps - 1}, or {ANY} for any",
            found=f"timesteps from {lowest} to {highest}",
            do="number them as the scheduler does: 0 is nearly clean, the last is nearly noise",
        )


def _described(inputs: Any) -> str:
    if isinstance(inputs, dict):
        return "of a dict: " + ", ".join(
            f"{name} {str(part.dtype).removeprefix('torch.')} {list(part.shape[1:])}"
            for name, part in inputs.items()
        )
    return f"of {type(inputs).__name__}, {getattr(inputs, 'dtype', 'no tensor')}"
