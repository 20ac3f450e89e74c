"""The only way anything gets computed, as protocols: lab, store, runner, sketch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from dataloupe._typing import Array, Facts
from dataloupe.core._chunked import Chunked
from dataloupe.core._examples import Rows
from dataloupe.core._factors import Contribution, Use
from dataloupe.core._finetune import Tuned, Tuning
from dataloupe.core._model import Model, TorchModel
from dataloupe.core._outcomes import Outcomes
from dataloupe.core._question import Question
from dataloupe.core._subsets import Subsets

Side: TypeAlias = Literal["train", "targets"]
"""The train output on every example, or the output on every target row."""

Scale: TypeAlias = Callable[[Tensor, Rows], Tensor]
"""From slopes ``[b]`` and their rows to what the rows' gradients are multiplied with, ``[b]``."""


@runtime_checkable
class Projection(Protocol):
    """A sketch of the gradients of one model: where each use of a parameter goes."""

    @property
    def width(self) -> int:
        """d."""
        ...

    def add(self, out: Float[Tensor, "b d"], name: str, *found: Contribution) -> None:
        """Add the sketch of contributions to the parameter ``name``, example by example, to ``out``."""
        ...


@runtime_checkable
class Sketch(Protocol):
    """A linear map of gradients ``[b, p]`` to ``[b, d]``: a pure function of its own fields and of the shapes."""

    def bind(self, shapes: Mapping[str, torch.Size]) -> Projection:
        """The map for a model whose parameters have these shapes."""
        ...


class Features(NamedTuple):
    """Gradients of the outputs at one model, sketched.

    ``train [n, d]`` of the train output, ``slope [n]`` minus dLoss/dvalue there, ``targets [m, d]``; ``facts`` tell how
    they were made. ``draws [n q, d]``, of a train output of many draws: q rows for each example, whose outer products are on average
    those of the gradients of its single draws (:func:`draw_signs`); None of an output without.
    """

    train: Chunked
    slope: Float[np.ndarray, " n"]
    targets: Float[np.ndarray, "m d"]
    facts: Facts
    draws: Chunked | None = None

    @property
    def finite(self) -> bool:
        """Whether all are numbers: they are not where a model diverged."""
        return bool(self.facts["not_finite"] == 0)

    @property
    def whole(self) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"], Float[np.ndarray, "m d"]]:
        """Train, slope and targets, in memory."""
        return self.train.whole(), self.slope, self.targets


def counted(rows: Float[np.ndarray, "b d"], slope: Float[np.ndarray, " b"]) -> Facts:
    """How many rows of features are all zero, and of how many features or slope are not numbers."""
    finite = np.isfinite(rows).all(axis=1) & np.isfinite(slope)
    return {"zero_rows": int((~rows.any(axis=1)).sum()), "not_finite": int((~finite).sum())}


def merged(*facts: Facts) -> Facts:
    """What holds of several passes: the largest of every error, the sum of every count, the rest as the first says."""
    found = dict(facts[0])
    for name in sorted({name for one in facts for name in one}):
        known = [one[name] for one in facts if name in one]
        if name.endswith("_error"):
            found[name] = max(known)
        elif name.endswith("_rows") or name == "not_finite":
            found[name] = sum(known)
    return found


class Swept(NamedTuple):
    """What a pass over all rows leaves: ``slope [rows]``, and how the gradients were made."""

    slope: Float[np.ndarray, " rows"]
    facts: Facts


class Embeddings(NamedTuple):
    """What a model's last layer sees: ``train [n, e]`` and ``targets [t, e]`` (a row per target example)."""

    train: Float[np.ndarray, "n e"]
    targets: Float[np.ndarray, "t e"]


@runtime_checkable
class Lab(Protocol):
    """Trains, measures and remembers. Methods and applications ask it, and never see an engine or a file."""

    def outcomes(self, question: Question, subsets: Subsets, *, repeats: int = 1) -> Outcomes:
        """What training on every subset, with ``repeats`` seeds each, does to the question's outputs."""
        ...

    def blocks(self, question: Question, subsets: Subsets, *, repeats: int = 1) -> Iterator[Outcomes]:
        """The same, block by block in order: for sums over more subsets than memory holds."""
        ...

    def models(self, question: Question, subsets: Subsets) -> Sequence[Model]:
        """The models themselves, one a subset (a model source gives its own)."""
        ...

    def features(self, question: Question, subsets: Subsets, k: int, sketch: Sketch) -> Features:
        """Sketched gradients at model k of the subsets."""
        ...

    def gradients(
        self,
        question: Question,
        subsets: Subsets,
        k: int,
        side: Side,
        use: Use,
        scale: Scale | None = None,
    ) -> Swept:
        """Every row's gradient at model k of the subsets, times ``scale(slopes, rows)`` if there is one, to ``use``.

        Contributions come batch by batch, as factors where these are smaller; they add up over uses. Of an output of many draws
        they come draw by draw, each a share of the mean: they add up over draws, too, and ``scale`` sees the draw's own slopes.
        """
        ...

    def finetune(
        self, question: Question, models: Sequence[TorchModel], tuning: Tuning, seeds: Sequence[int]
    ) -> Tuned:
        """The models, each tuned with a seed of its own on rows of the question's training data."""
        ...

    def embeddings(self, question: Question, subsets: Subsets, k: int) -> Embeddings:
        """Inputs of the last layer at model k of the subsets."""
        ...

    def put(self, kind: str, made_by: Any, arrays: dict[str, Array], facts: Facts) -> None:
        """Remember arrays under what made them."""
        ...

    def get(self, kind: str, made_by: Any) -> tuple[dict[str, Array], Facts] | None:
        """What was remembered under it, or None."""
        ...


@runtime_checkable
class Store(Protocol):
    """Immutable units in folders that are found by what made them."""

    def write(self, folder: str, name: str, arrays: dict[str, Array], facts: Facts) -> None:
        """Publish a unit, whole or not at all. Writing a unit that is there already changes nothing."""
        ...

    def read(self, folder: str, name: str) -> tuple[dict[str, Shaped[np.ndarray, "..."]], Facts] | None:
        """A unit, its checksum verified; None if there is none. A damaged one raises ``StoreError``."""
        ...

    def write_facts(self, folder: str, name: str, facts: Facts) -> None:
        """Publish a JSON file, whole or not at all (replacing one of that name)."""
        ...

    def read_facts(self, folder: str, name: str) -> Facts | None:
        """A JSON file, or None."""
        ...

    def units(self, folder: str) -> list[str]:
        """The names of the units in a folder, sorted."""
        ...

    def folders(self) -> list[str]:
        """All folders, sorted."""
        ...


@runtime_checkable
class Runner(Protocol):
    """Carries jobs out, here or elsewhere."""

    @property
    def workers(self) -> int:
        """How many jobs run at once."""
        ...

    def map(
        self, work: Callable[[Any, Any], Any], context: Any, jobs: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        """``work(context, job)`` for every job, as (number of the job, result), in the order they end."""
        ...
