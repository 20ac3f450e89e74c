"""Methods by name: from words on the command line to frozen hyperparameters."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal

import tyro

from dataloupe._errors import BadInput
from dataloupe.cli._base import MaybeNumber, MaybeShare
from dataloupe.core import AbstractAttributor, Question, Subsets
from dataloupe.methods import TRAK, Datamodel, FeatureSimilarity, GradientSimilarity, RandomScores

Method = Literal["trak", "datamodel", "gradient-similarity", "feature-similarity", "random"]
Estimator = Literal["ridge", "lasso", "means"]
Kind = Literal["dot", "cosine"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """A method and its hyperparameters; what is not given keeps the method's own default."""

    method: Annotated[Method, tyro.conf.arg(name="with", metavar="METHOD")]
    """the method: trak, datamodel, gradient-similarity, feature-similarity or random"""
    models: MaybeNumber = None
    """trak, similarities: over how many models"""
    dim: MaybeNumber = None
    """trak, gradient-similarity: numbers kept of each gradient"""
    ridge: MaybeShare = None
    """trak: the relative ridge"""
    subsets: MaybeNumber = None
    """datamodel: on how many subsets to train (default: 1000)"""
    fraction: MaybeShare = None
    """trak, datamodel: the share of the data each model sees"""
    estimator: Annotated[Estimator | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """datamodel: how the scores are estimated: ridge, lasso or means"""
    kind: Annotated[Kind | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """gradient-similarity: dot or cosine"""
    seed: MaybeNumber = None
    """of the subsets, sketches and models"""

    def attributor(self, question: Question) -> AbstractAttributor:
        """The method, ready to ask a lab.

        Raises ``BadInput`` dl-983 for a setting that the method does not have.
        """
        make, takes = METHODS[self.method]
        fields = [f.name for f in dataclasses.fields(Settings) if f.name != "method"]
        given = {name: value for name in fields if (value := getattr(self, name)) is not None}
        strange = sorted(set(given) - takes)
        if strange:
            raise BadInput(
                "dl-983",
                asked=f"--{strange[0]} with {self.method}",
                found=f"{self.method} takes {', '.join(f'--{name}' for name in sorted(takes))}",
                do=f"leave --{strange[0]} out",
            )
        return make(question, given)


def _datamodel(question: Question, given: dict[str, Any]) -> AbstractAttributor:
    recipe = {"count": given.pop("subsets", 1000)}
    recipe |= {name: given.pop(name) for name in ("fraction", "seed") if name in given}
    return Datamodel(Subsets(n=question.n, **recipe), **given)


Maker = Callable[[Question, dict[str, Any]], AbstractAttributor]
METHODS: dict[str, tuple[Maker, frozenset[str]]] = {
    "trak": (
        lambda _, given: TRAK(**given),
        frozenset({"models", "dim", "ridge", "fraction", "seed"}),
    ),
    "datamodel": (_datamodel, frozenset({"subsets", "fraction", "estimator", "seed"})),
    "gradient-similarity": (
        lambda _, given: GradientSimilarity(**given),
        frozenset({"models", "dim", "kind", "seed"}),
    ),
    "feature-similarity": (lambda _, given: FeatureSimilarity(**given), frozenset({"models"})),
    "random": (lambda _, given: RandomScores(**given), frozenset({"seed"})),
}
"""The name of a method: how it is made, and which settings it takes. A new one is one line here."""
