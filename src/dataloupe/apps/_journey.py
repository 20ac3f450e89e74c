"""Samples of a diffusion model on their way from noise, and where on it their fate is decided."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Ids
from dataloupe.core import Diffusion, Examples, Model, check_ids, check_settings, checked, said_of

BLOCK = 512
"""So many samples are asked about at once."""


class _Stand(NamedTuple):
    """Samples at a timestep: x_t, and what the model takes for the sample there."""

    noisy: Float[Tensor, "k *shape"]
    clean: Float[Tensor, "k *shape"]


@dataclasses.dataclass(frozen=True, eq=False)
class Journey:
    """k samples on their way from noise: at each of s falling ``timesteps`` where they stood, and what they seemed to become.

    ``noisy [s, k, ...]`` is x_t; ``clean [s, k, ...]`` what the model took for the sample there, E[x_0 | x_t]; ``samples [k, ...]`` the end.
    ``given`` is what else the model was told of every sample (its class, say). Made by :class:`Sampler`.
    ``numbers`` and the seed are the keys of their noise.
    """

    timesteps: Int[np.ndarray, " s"]
    noisy: Float[Tensor, "s k *shape"]
    clean: Float[Tensor, "s k *shape"]
    samples: Float[Tensor, "k *shape"]
    given: Mapping[str, Tensor]
    seed: int
    numbers: Int[np.ndarray, " k"]

    def __len__(self) -> int:
        return len(self.samples)

    def part(self, samples: Ids) -> "Journey":
        """Some of the samples, which keep their noise (dl-108 to dl-111)."""
        ids = check_ids(samples, len(self), "samples of a journey")
        return dataclasses.replace(
            self,
            noisy=self.noisy[:, ids],
            clean=self.clean[:, ids],
            samples=self.samples[ids],
            given={name: part[ids] for name, part in self.given.items()},
            numbers=self.numbers[ids],
        )

    def targets(self, steps: Sequence[int] | None = None) -> Examples:
        """Rows (sample, timestep) to explain: what each sample seemed to become at some of the steps (all of them), sample by sample.

        Row ``j * len(steps) + i`` is sample j at step ``steps[i]``: with ``outputs.DenoisingLoss`` the expectation over noise at this
        timestep. ``meta`` tells sample and timestep.

        Raises ``BadInput`` dl-747 (a step that there is not).
        """
        some = self._steps(steps)
        clean = self.clean[some].transpose(0, 1).flatten(0, 1)
        times = np.tile(self.timesteps[some], len(self))
        samples = np.repeat(np.arange(len(self)), len(some))
        return self._rows(clean, times, samples)

    def ends(self) -> Examples:
        """The finished samples as rows to explain, at any timestep."""
        return self._rows(self.samples, np.full(len(self), -1), np.arange(len(self)))

    def _rows(self, clean: Tensor, times: Int[np.ndarray, " b"], samples: Int[np.ndarray, " b"]) -> Examples:
        given = {name: part[samples] for name, part in self.given.items()}
        inputs = {"sample": clean, "timestep": torch.from_numpy(times.astype(np.int64)), **given}
        meta = {"sample": samples.tolist(), "timestep": times.tolist()}
        titles = [
            f"sample {s}" + ("" if t < 0 else f", t = {t}") for s, t in zip(samples, times, strict=True)
        ]
        return Examples(inputs, images=pictures(clean), texts=titles, meta=meta)

    def _steps(self, steps: Sequence[int] | None) -> Int[np.ndarray, " i"]:
        every = np.arange(len(self.timesteps))
        some = every if steps is None else np.asarray(steps)
        if len(some) == 0 or not np.isin(some, every).all():
            raise BadInput(
                "dl-747",
                asked=f"the steps {list(some)} of a journey",
                found=f"{len(every)} steps, numbered from 0 (noise) to {len(every) - 1}",
                do="name some of these; `journey.timesteps` tells which timestep each is",
            )
        return some


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Takes noise away, timestep by timestep, by numbers keyed by (seed, sample, timestep).

    From x_t and what the model takes for sample x and noise e there, to the next of ``steps`` timesteps u < t,

        x_u = sqrt(a_u) x + sqrt(1 - a_u - s^2) e + s z,    s^2 = eta^2 (1 - a_u) / (1 - a_t) (1 - a_t / a_u)

    with z standard normal: ``eta=1`` is DDPM's sampler, ``eta=0`` DDIM's, which draws no z. x is held within ``clip`` (None for latents), and e
    follows. Two models sample from the same noise; so does one model, however many samples are asked for.

    Raises ``BadInput`` dl-747 (settings).

    >>> class Nothing:
    ...     def predict(self, inputs):
    ...         return 0 * inputs["sample"]
    >>> journey = Sampler(Diffusion(), steps=5).journey(Nothing(), (1, 2, 2), count=3)
    >>> journey.timesteps.tolist(), journey.noisy.shape, len(journey)
    ([999, 749, 500, 250, 0], torch.Size([5, 3, 1, 2, 2]), 3)

    Source: Song, Meng and Ermon 2021 (DDIM), equations 12 and 16.
    """

    diffusion: Diffusion
    steps: int = 50
    eta: float = 1.0
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-747")
        most = self.diffusion.steps
        if (
            not 1 <= self.steps <= most
            or not 0 <= self.eta <= 1
            or (self.clip is not None and not self.clip > 0)
        ):
            raise BadInput(
                "dl-747",
                asked=f"a sampler with steps={self.steps}, eta={self.eta}, clip={self.clip}",
                found=f"a diffusion of {most} timesteps",
                do=f"give 1 to {most} steps, eta from 0 (DDIM) to 1 (DDPM), and a clip above 0 or None",
            )

    @property
    def timesteps(self) -> Int[np.ndarray, " s"]:
        """The timesteps that it stops at, falling to 0."""
        last = self.diffusion.steps - 1
        return (
            np.round(np.linspace(last, 0, self.steps)).astype(np.int64)
            if self.steps > 1
            else np.array([last])
        )

    @checked("dl-747")
    def journey(
        self,
        model: Model,
        shape: Sequence[int],
        count: int = 8,
        *,
        seed: int = 0,
        given: Mapping[str, Tensor] | None = None,
    ) -> Journey:
        """``count`` samples from noise, and all that was on the way."""
        root = Stream.root(seed)
        start = torch.stack([_normal(root("start", j), shape) for j in range(count)])
        stands = list(self._walk(model, start, 0, [root("walk", j) for j in range(count)], given or {}))
        noisy, clean = (torch.stack(parts) for parts in zip(*stands, strict=True))
        return Journey(self.timesteps, noisy, clean, clean[-1], given or {}, seed, np.arange(count))

    @checked("dl-747")
    def onwards(
        self, model: Model, journey: Journey, step: int, draws: int = 8
    ) -> Float[Tensor, "draws k *shape"]:
        """Other ends from where the samples stood at a step: ``draws`` of them, under noise of their own."""
        (step,) = journey._steps([step])
        root = Stream.root(journey.seed)
        streams = [root("onwards", d, int(j)) for d in range(draws) for j in journey.numbers]
        given = {name: part.repeat(draws, *[1] * (part.ndim - 1)) for name, part in journey.given.items()}
        start = journey.noisy[step]
        *_, end = self._walk(model, start.repeat(draws, *[1] * (start.ndim - 1)), int(step), streams, given)
        return end.clean.unflatten(0, (draws, -1))

    @checked("dl-747")
    def again(self, model: Model, journey: Journey, step: int = 0) -> Float[Tensor, "k *shape"]:
        """The samples that this model makes from where the journey stood at a step, under the journey's own noise."""
        (step,) = journey._steps([step])
        root = Stream.root(journey.seed)
        streams = [root("walk", int(j)) for j in journey.numbers]
        *_, end = self._walk(model, journey.noisy[step], int(step), streams, journey.given)
        return end.clean

    def _walk(
        self, model: Model, noisy: Tensor, step: int, streams: Sequence[Stream], given: Mapping[str, Tensor]
    ) -> Any:
        """Where samples stand at every step from this one on."""
        alphas, times = self.diffusion.alphas, self.timesteps
        place = next(iter(getattr(model, "params", {}).values()), noisy)
        noisy, given = noisy.to(place), {name: part.to(place.device) for name, part in given.items()}
        for i in range(step, len(times)):
            clean, noise = self._read(model, noisy, int(times[i]), given)
            yield _Stand(noisy, clean)
            if i + 1 == len(times):
                return
            now, after = float(alphas[times[i]]), float(alphas[times[i + 1]])
            spread = self.eta * ((1 - after) / (1 - now) * (1 - now / after)) ** 0.5
            noisy = after**0.5 * clean + max(0.0, 1 - after - spread**2) ** 0.5 * noise
            if spread:
                fresh = [_normal(one("step", int(times[i])), noisy.shape[1:]) for one in streams]
                noisy = noisy + spread * torch.stack(fresh).to(noisy)

    def _read(
        self, model: Model, noisy: Tensor, timestep: int, given: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """What a model takes for sample and noise of x_t."""
        said = []
        for start in range(0, len(noisy), BLOCK):
            some = slice(start, start + BLOCK)
            times = torch.full((len(noisy[some]),), timestep, device=noisy.device)
            inputs = {
                "sample": noisy[some],
                "timestep": times,
                **{name: part[some] for name, part in given.items()},
            }
            with torch.no_grad():
                said.append(said_of(model.predict(inputs), noisy[some]))
        times = torch.full((len(noisy),), timestep, device=noisy.device)
        clean, noise = self.diffusion.read(noisy, torch.cat(said), times)
        if self.clip is not None:
            clean = clean.clamp(-self.clip, self.clip)
            a = float(self.diffusion.alphas[timestep])
            noise = (noisy - a**0.5 * clean) / (1 - a) ** 0.5
        return clean, noise


@dataclasses.dataclass(frozen=True, eq=False)
class Likelihoods:
    """How likely each class is along a journey: of what the samples seemed to become, and of where they would end from there.

    ``seeming [s, k, c]`` classifies E[x_0 | x_t]; ``ending [s, k, c]`` is the mean over ``draws`` other ends from x_t, which is the
    probability of the class given x_t, with a standard error of at most ``1 / (2 sqrt(draws))``.
    """

    journey: Journey
    steps: Int[np.ndarray, " s"]
    seeming: Float[np.ndarray, "s k c"]
    ending: Float[np.ndarray, "s k c"]
    draws: int

    @property
    def timesteps(self) -> Int[np.ndarray, " s"]:
        """The timestep of every step looked at."""
        return self.journey.timesteps[self.steps]

    @property
    def classes(self) -> Int[np.ndarray, " k"]:
        """The class that each sample ended in."""
        return self.seeming[-1].argmax(1)

    @property
    def decisions(self) -> Int[np.ndarray, " k"]:
        """The step by which each sample's own class became more likely than not for good: its decision."""
        own = np.take_along_axis(self.ending, self.classes[None, :, None], axis=2)[:, :, 0]
        doubtful = own <= 0.5
        last = len(own) - 1 - doubtful[::-1].argmax(0)
        return np.where(doubtful.any(0), np.minimum(last + 1, len(own) - 1), 0)


@checked("dl-747")
def likelihoods(
    sampler: Sampler,
    model: Model,
    journey: Journey,
    classify: Callable[[Tensor], Tensor],
    steps: Sequence[int] | None = None,
    draws: int = 16,
) -> Likelihoods:
    """The classes of a journey's samples at some of its steps (all): ``classify`` gives probabilities ``[b, c]`` of samples ``[b, ...]``.

    Costs ``draws`` samplings from every step on.

    ::

        found = likelihoods(sampler, model, journey, lambda x: classifier(x).softmax(1), steps=range(0, 50, 5))
        found.decisions  # the step at which each sample's own class was decided

    Raises ``BadInput`` dl-747 (a step that there is not, no draws), dl-748 (a classifier that gives no probabilities).

    Source: Georgiev et al. 2023, section 4.
    """
    if draws < 1:
        raise BadInput(
            "dl-747", asked=f"likelihoods by {draws} draws", found="a number below 1", do="take 16 or more"
        )
    some = journey._steps(steps)
    seeming = [_probabilities(classify, journey.clean[i]) for i in some]
    ending = []
    for i in some:
        ends = sampler.onwards(model, journey, int(i), draws)
        ending.append(_probabilities(classify, ends.flatten(0, 1)).unflatten(0, (draws, -1)).mean(0))
    seen, ended = (torch.stack(parts).double().numpy() for parts in (seeming, ending))
    return Likelihoods(journey, some, seen, ended, draws)


def _probabilities(classify: Callable[[Tensor], Tensor], samples: Tensor) -> Float[Tensor, "b c"]:
    with torch.no_grad():
        found = classify(samples)
    fits = isinstance(found, Tensor) and found.ndim == 2 and len(found) == len(samples)
    if (
        not fits
        or not bool(((found >= 0) & (found <= 1 + 1e-4)).all())
        or not bool((found.sum(1) - 1 < 1e-3).all())
    ):
        raise BadInput(
            "dl-748",
            asked=f"the classes of {len(samples)} samples",
            found=f"{found.dtype} of shape {tuple(found.shape)}" + (", no probabilities" if fits else "")
            if isinstance(found, Tensor)
            else f"{type(found).__name__}",
            do="let the classifier return probabilities [b, c]: net(samples).softmax(1)",
        )
    return found


def pictures(samples: Float[Tensor, "b *shape"]) -> np.ndarray | None:
    """Samples of one or three channels from -1 to 1 as images; None for anything else (latents)."""
    if samples.ndim != 4 or samples.shape[1] not in (1, 3):
        return None
    levels = ((samples.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return (levels[:, 0] if samples.shape[1] == 1 else levels.movedim(1, -1)).cpu().numpy()


def _normal(stream: Stream, shape: Sequence[int]) -> Tensor:
    return torch.from_numpy(stream.numpy().standard_normal(tuple(shape), dtype=np.float32))
