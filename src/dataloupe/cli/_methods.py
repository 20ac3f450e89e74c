"""Methods by name: from words on the command line to frozen hyperparameters."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal

import tyro

from dataloupe._errors import BadInput
from dataloupe.cli._base import MaybeNumber, MaybeShare, load_named
from dataloupe.core import AbstractAttributor, Diffusion, Question, Subsets
from dataloupe.methods import (
    BM25,
    TRAK,
    ByProxy,
    Datamodel,
    FeatureSimilarity,
    GradientNorm,
    GradientSimilarity,
    Influence,
    InputSimilarity,
    RandomScores,
    SequenceLength,
    TrainingLoss,
    second_size,
)
from dataloupe.outputs import PredictionNorm

Method = str
"""One of METHODS, or FILE.py:NAME for a method of the user's own."""
Estimator = Literal["ridge", "lasso", "means"]
Kind = Literal["dot", "cosine"]
Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
Prior = Literal["trak", "influence", "gradient-similarity", "feature-similarity", "random"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """A method and its hyperparameters; what is not given keeps the method's own default."""

    method: Annotated[Method, tyro.conf.arg(name="with", metavar="METHOD")]
    """the method, FILE.py:NAME for one of your own, or trak, influence, datamodel, of diffusion models d-trak; or a control: gradient-similarity, feature-similarity, input-similarity, gradient-norm, training-loss, bm25, sequence-length, random"""
    models: MaybeNumber = None
    """trak, influence, similarities: over how many models"""
    dim: MaybeNumber = None
    """trak, gradient-similarity: numbers kept of each gradient"""
    ridge: MaybeShare = None
    """trak: the relative ridge (default: chosen on its own models, held out in turn)"""
    sketches: MaybeNumber = None
    """trak: independent sketches of every model, averaged"""
    by_layer: Flag = False
    """trak: whiten every layer apart"""
    leverage: Flag = False
    """trak: with the leverage of the full Newton step"""
    threshold: Flag = False
    """trak: cut small scores, at a height chosen on held-out models"""
    damping: MaybeShare = None
    """influence: the relative damping of each block (default: chosen on held-out models)"""
    uncurved: Flag = False
    """trak, influence: do not weigh training rows by the curvature of their loss"""
    subsets: MaybeNumber = None
    """datamodel: on how many subsets to train (default: 1000, and 50 of 95 % of the data for the effect of its amount)"""
    fraction: MaybeShare = None
    """trak, influence, datamodel: the share of the data each model sees"""
    estimator: Annotated[Estimator | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """datamodel: how the scores are estimated: ridge, lasso or means"""
    prior: Annotated[Prior | None, tyro.conf.arg(metavar="METHOD", help_behavior_hint="")] = None
    """datamodel: shrink toward this method, which takes its own settings: trak, influence, a similarity or random"""
    kind: Annotated[Kind | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """gradient-similarity: dot or cosine"""
    seed: MaybeNumber = None
    """of the subsets, sketches and models"""

    def attributor(self, question: Question) -> AbstractAttributor:
        """The method, ready to ask a lab.

        Raises ``BadInput`` dl-978 for an unknown method, dl-983 for a setting that the method does not have.
        """
        fields = [f.name for f in dataclasses.fields(Settings) if f.name != "method"]
        every = {name: getattr(self, name) for name in fields}
        given = {name: value for name, value in every.items() if value is not None and value is not False}
        if ".py" in self.method:
            return _own(self.method, given)
        if self.method not in METHODS:
            raise BadInput(
                "dl-978",
                asked=f"the method {self.method}",
                found=f"{', '.join(METHODS)}",
                do="use one of them, or FILE.py:NAME for a method of your own",
            )
        return _made(self.method, question, given)


def _made(method: str, question: Question, given: dict[str, Any]) -> AbstractAttributor:
    make, takes = METHODS[method]
    strange = sorted(set(given) - takes - (PASSED_ON if "prior" in given else frozenset()))
    if strange:
        raise BadInput(
            "dl-983",
            asked=f"{_option(strange[0])} with {method}",
            found=f"{method} takes {', '.join(_option(name) for name in sorted(takes)) or 'no settings'}",
            do=f"leave {_option(strange[0])} out",
        )
    return make(question, given)


def _own(where: str, given: dict[str, Any]) -> AbstractAttributor:
    """A method of the user's own, its settings in its file (dl-983 for others, dl-980 to dl-982)."""
    if given:
        name = _option(min(given))
        raise BadInput(
            "dl-983",
            asked=f"{name} with {where}",
            found="a method of your own, whose settings stand in its file",
            do=f"leave {name} out",
        )
    method: AbstractAttributor = load_named(where, AbstractAttributor, "method", "MyMethod(...)")
    return method


def _option(name: str) -> str:
    """A setting as it is typed."""
    return "--" + name.replace("_", "-")


def _datamodel(question: Question, given: dict[str, Any]) -> AbstractAttributor:
    by_default = "subsets" not in given
    recipe = {"count": given.pop("subsets", 1000)}
    recipe |= {name: given.pop(name) for name in ("fraction", "seed") if name in given}
    if "prior" in given:
        its = {name: given.pop(name) for name in sorted(PASSED_ON) if name in given}
        shared = {name: recipe[name] for name in METHODS[given["prior"]][1] if name in recipe}
        given["prior"] = _made(given["prior"], question, shared | its)
    subsets = Subsets(n=question.n, **recipe)
    amount = second_size(subsets) if by_default and given.get("estimator") != "lasso" else None
    return Datamodel(subsets, amount=amount, **given)


def _d_trak(question: Question, given: dict[str, Any]) -> AbstractAttributor:
    """TRAK by way of the norm of what the model says, under the draws of the question's own output (dl-999)."""
    norm = PredictionNorm(diffusion_of(question), repeats=question.output.repeats)
    return ByProxy(TRAK(**_worded(given)), norm)


def diffusion_of(question: Question) -> Diffusion:
    """What the question's output takes noise away from (dl-999 where that is none of a diffusion model)."""
    found = getattr(question.output, "diffusion", None)
    if isinstance(found, Diffusion):
        return found
    raise BadInput(
        "dl-999",
        asked="what only a diffusion model has",
        found=f"a question about the {question.output.name}",
        do="ask about outputs.DenoisingLoss(diffusion)",
    )


def _worded(given: dict[str, Any]) -> dict[str, Any]:
    """Flags in the words of the methods."""
    words = {"uncurved": ("curved", False), "by_layer": ("blocks", "layer")}
    return dict(words.get(name, (name, value)) for name, value in given.items())


_TRAK = frozenset({"models", "dim", "ridge", "uncurved", "sketches", "by_layer", "leverage", "threshold"})
PASSED_ON = _TRAK | {"damping", "kind"}
"""The settings that a datamodel hands to its prior, besides the seed and the share of the data, which both have."""
Maker = Callable[[Question, dict[str, Any]], AbstractAttributor]
METHODS: dict[str, tuple[Maker, frozenset[str]]] = {
    "trak": (
        lambda _, given: TRAK(**_worded(given)),
        _TRAK | {"fraction", "seed"},
    ),
    "d-trak": (_d_trak, _TRAK | {"fraction", "seed"}),
    "influence": (
        lambda _, given: Influence(**_worded(given)),
        frozenset({"models", "damping", "uncurved", "fraction", "seed"}),
    ),
    "datamodel": (_datamodel, frozenset({"subsets", "fraction", "estimator", "prior", "seed"})),
    "gradient-similarity": (
        lambda _, given: GradientSimilarity(**given),
        frozenset({"models", "dim", "kind", "seed"}),
    ),
    "feature-similarity": (lambda _, given: FeatureSimilarity(**given), frozenset({"models"})),
    "input-similarity": (lambda _, given: InputSimilarity(**given), frozenset()),
    "gradient-norm": (lambda _, given: GradientNorm(**given), frozenset({"models", "dim", "seed"})),
    "training-loss": (lambda _, given: TrainingLoss(**given), frozenset({"models", "seed"})),
    "bm25": (lambda _, given: BM25(**given), frozenset()),
    "sequence-length": (lambda _, given: SequenceLength(**given), frozenset()),
    "random": (lambda _, given: RandomScores(**given), frozenset({"seed"})),
}
"""The name of a method: how it is made, and which settings it takes. A new one is one line here."""
