"""The only way anything gets computed, as protocols: lab, store, runner, sketch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from dataloupe._typing import Array, Facts
from dataloupe.core._model import Model
from dataloupe.core._outcomes import Outcomes
from dataloupe.core._question import Question
from dataloupe.core._subsets import Subsets


@runtime_checkable
class Sketch(Protocol):
    """A linear map of gradients ``[b, p]`` to ``[b, d]``: a pure function of its own fields and of p."""

    def width(self, p: int) -> int:
        """d for gradients of p numbers."""
        ...

    def project(self, gradients: Float[Tensor, "b p"]) -> Float[Tensor, "b d"]:
        """The sketched gradients."""
        ...


class Features(NamedTuple):
    """Gradients of the outputs at one model, sketched.

    ``train [n, d]`` of the train output, ``slope [n]`` minus dLoss/dvalue there, ``targets [m, d]``.
    """

    train: Float[np.ndarray, "n d"]
    slope: Float[np.ndarray, " n"]
    targets: Float[np.ndarray, "m d"]


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
