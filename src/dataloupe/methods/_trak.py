"""TRAK: linearise a few models, sketch their gradients, whiten, average."""

import dataclasses
import functools
from typing import ClassVar, Literal, NamedTuple

from dataloupe._errors import BadInput
from dataloupe._typing import Facts
from dataloupe.core import (
    PROBES,
    AbstractAttributor,
    DenseAttribution,
    Info,
    Lab,
    Needs,
    Question,
    capabilities,
    check_settings,
    merged,
    room_for,
    torch_model,
)
from dataloupe.methods._ensemble import (
    Ensemble,
    curvatures,
    in_its_lab,
    probe_features,
    probe_questions,
    told,
    witnesses,
)
from dataloupe.methods._factored import FactoredAttribution
from dataloupe.methods._models import all_diverged, check_models, sketch_of
from dataloupe.solve import (
    LEAST,
    Beside,
    ByLayer,
    Choice,
    FactoredSketch,
    Linearised,
    check_penalty,
    held_out_ridge,
    held_out_threshold,
    product_of_averages,
    soft_threshold,
)

ORDINARY = 2048
"""Where too few models can tell a ridge, it is the mean eigenvalue that a sketch of so many dimensions would have."""


class Solved(NamedTuple):
    """The models that are finite, the ridge, and what chose it."""

    models: list[Linearised]
    facts: list[Facts]
    ridge: float
    choice: Choice | None
    threshold: Choice | None


@dataclasses.dataclass(frozen=True)
class TRAK(AbstractAttributor):
    """Product of averages over models k of sketched gradients X_k of the train output and phi_k of the target's:

        tau_ji = mean_k [phi_kj (X_k' W_k X_k + ridge tr(X_k' W_k X_k) / d I)^-1 x_ki]  *  mean_k [slope_ki]

    ``slope`` is minus dLoss/doutput. Each model has a sketch of its own, of ``dim`` dimensions (gradients stay
    exact where the model has no more parameters): :class:`dataloupe.solve.FactoredSketch`, for which no example's
    gradient is ever made where its factors are smaller. ``fraction`` of the data trains each model; a model source gives
    its own models. Units are relative: :func:`dataloupe.calibrate` gives the scale.

    ``ridge=None`` chooses it: the models are held out in turn, and the others predict their outputs
    (:func:`dataloupe.solve.held_out_ridge`); no truth is touched. With fewer than three models, or where nobody knows
    what they saw, it is 1, the mean eigenvalue (above 2,048 dimensions that of as many: trace / 2,048). ``curved`` weighs each row of the Gram matrix by the curvature w of
    the training loss in the output, which the paper derives and then leaves out: p (1 - p) for margins, 1 for
    regression, and 1 where an output knows of none. Of an output that is a mean over draws (of noise and timestep) the Gram matrix is the
    mean of those of single draws, as the curvature of a mean is: ``sum_i w_i mean_r x_kir x_kir'``.

    Options: ``sketches`` of every model are whitened apart and averaged; ``blocks="layer"`` whitens each module's
    own sketch of ``dim`` dimensions apart and adds; ``leverage`` is the denominator of the full Newton step;
    ``threshold`` cuts small scores to 0, softly, at a height chosen as the ridge is (3 models or more that are known).

    The features are kept by the lab: another ridge or option, further models, targets, or rows at the end cost no
    gradient again, a killed run goes on where it was, and the attribution tells the effect of groups as groups
    (``effect(..., kind="group")``, each model's removal with its curvature taken out, then averaged).

    A model whose gradients are not finite is left out and counted. Raises ``BadInput`` dl-711 (settings), dl-715
    (a threshold that nothing can choose), dl-701 (ridge), ``TrainingError`` dl-712 (no model is finite).
    Source: Park et al. 2023 (TRAK), algorithm 1, with a relative ridge; the curvature is R of its section 3.

    >>> TRAK(models=5).dim
    2048
    """

    models: int = 10
    dim: int = 2048
    ridge: float | None = None
    fraction: float = 0.5
    seed: int = 0
    curved: bool = True
    sketches: int = 1
    blocks: Literal["all", "layer"] = "all"
    leverage: bool = False
    threshold: bool = False

    requires: ClassVar[frozenset[str]] = frozenset({"models"})
    penalty: ClassVar[str | None] = "ridge"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-711")
        if self.ridge is not None:
            check_penalty(self.ridge)
        check_models(self.models, self.dim, self.fraction)
        known, most = self.blocks in ("all", "layer"), 1 if self.blocks == "layer" else self.sketches
        if not known or not 1 <= self.sketches <= most:
            raise BadInput(
                "dl-711",
                asked=f"TRAK with blocks={self.blocks!r} and {self.sketches} sketches",
                found="neither 'all' nor 'layer', no sketch, or several sketches of every layer",
                do="use one sketch a layer, or one or several of all parameters",
            )

    def needs(self, question: Question) -> Needs:
        """A training (unless the models are there) and a gradient pass per model."""
        trains = self.models if "train" in capabilities(question) else 0
        width = self.dim * self.sketches
        repeats = question.on_train.repeats
        probes = len(probe_questions(question, self.curved))
        rows = question.n * (1 + (min(repeats, PROBES) if repeats > 1 else probes)) + question.m
        disk = 4 * self.models * rows * width + 4 * question.m * question.n
        return Needs(trains, self.fraction, gradient_passes=self.models * (1 + probes), disk_bytes=disk)

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:
        """Features, whitening, ridge; then one stream over the training rows of all models."""
        solved = self._solved(question, lab)
        scores = room_for((question.m, question.n))
        product_of_averages(solved.models, solved.ridge, scores, leverage=self.leverage)
        if solved.threshold is not None:
            for start in range(0, question.m, 64):
                some = slice(start, start + 64)
                scores[some] = soft_threshold(scores[some], solved.threshold.best)
        info = self._told(solved, question, lab)
        return DenseAttribution(scores, info, units="relative")

    def extended(self, found: DenseAttribution, question: Question, lab: Lab) -> DenseAttribution:
        """What it can tell while its lab is there: single models, and groups as groups."""
        ridge = float(found.info.certificate["ridge"])
        models = functools.cache(lambda: self._linearised(question, lab)[0])
        alone = dataclasses.replace(found.info, note="")

        def single(k: int) -> DenseAttribution:
            scores = room_for((question.m, question.n))
            product_of_averages([models()[k]], ridge, scores, leverage=self.leverage)
            return DenseAttribution(scores, alone, units="relative")

        return in_its_lab(found, single, models, ridge)

    def factored(self, question: Question, lab: Lab) -> FactoredAttribution:
        """The same attribution as its factors: for questions with more targets than a matrix of scores has room for.

        Memory: ``models x (n + m) x dim`` numbers of features. The ridge is chosen as :meth:`attribute` does; the options
        ``leverage`` and ``threshold`` have no factors (dl-711). Raises ``CapabilityError`` dl-205 as :meth:`attribute`.
        """
        self.check_capabilities(question)
        if self.leverage or self.threshold:
            raise BadInput(
                "dl-711",
                asked="TRAK as its factors, with leverage or threshold",
                found="scores that are changed one by one, which factors cannot tell",
                do="leave these options out, or use `attribute`",
            )
        solved = self._solved(question, lab)
        info = self._told(solved, question, lab)
        return FactoredAttribution(info, solved.models, solved.ridge)

    def _told(self, solved: Solved, question: Question, lab: Lab) -> Info:
        chosen = solved.choice is not None or solved.threshold is not None
        certificate = _certificate(solved, self.models)
        return told(self, self._ensemble(), question, lab, certificate, chosen=chosen)

    def _ensemble(self) -> Ensemble:
        return Ensemble("TRAK", self.models, self.fraction, self.seed)

    def _solved(self, question: Question, lab: Lab) -> Solved:
        """The models, and the settings that they choose."""
        models, facts, used = self._linearised(question, lab)
        wanted = self.ridge is None or self.threshold
        seen = witnesses(question, lab, self._ensemble().subsets(question), used) if wanted else None
        if self.threshold and seen is None:
            raise BadInput(
                "dl-715",
                asked="a threshold that held-out models choose",
                found=f"{len(models)} models, fewer than {LEAST} of which are known to have seen different rows",
                do=f"give at least {LEAST} models trained on known, different subsets, or threshold=False",
            )
        choice = held_out_ridge(models, *seen) if seen and self.ridge is None else None
        ridge = choice.best if choice else self.ridge or max(1.0, models[0].width / ORDINARY)
        threshold = None
        if seen and self.threshold:
            threshold = held_out_threshold(models, *seen, ridge, leverage=self.leverage)
        return Solved(models, facts, ridge, choice, threshold)

    def _linearised(self, question: Question, lab: Lab) -> tuple[list[Linearised], list[Facts], list[int]]:
        """The finite models, how their features were made, and their numbers."""
        subsets = self._ensemble().subsets(question)
        found: list[Linearised] = []
        facts: list[Facts] = []
        used: list[int] = []
        for k in range(self.models):
            sketch = self._sketch(k)
            features = lab.features(question, subsets, k, sketch)
            if not features.finite:
                continue
            blocks: tuple[slice, ...] = (slice(None),)
            if not isinstance(sketch, FactoredSketch):
                model = torch_model(lab.models(question, subsets)[k])
                blocks = sketch.bind({name: p.shape for name, p in model.params.items()}).blocks
            share = 1.0 if self.blocks == "layer" else 1.0 / len(blocks)
            w = curvatures(question, self.curved, features.slope)
            draws = probe_features(question, lab, subsets, k, sketch, curved=self.curved) or features.draws
            found.append(
                Linearised(features.train, features.slope, w, features.targets, blocks, share, draws)
            )
            facts.append(features.facts)
            used.append(k)
        if not found:
            raise all_diverged("TRAK", self.models)
        return found, facts, used

    def _sketch(self, k: int) -> FactoredSketch | Beside | ByLayer:
        """The sketch of model k: every model has one of its own."""
        if self.blocks == "layer":
            return ByLayer(self.dim, sketch_of(self.dim, self.seed, k).seed)
        first = sketch_of(self.dim, self.seed, k)
        others = [sketch_of(self.dim, self.seed, k, b) for b in range(1, self.sketches)]
        return Beside((first, *others)) if others else first


def _certificate(solved: Solved, asked: int) -> Facts:
    """What is known of the numerics and of the choices, with the worst of every error."""
    facts = merged(*solved.facts)
    found: Facts = {
        "models": len(solved.models),
        "left_out": asked - len(solved.models),
        "residual": max(one.residual for one in solved.models),
        **{name: value for name, value in facts.items() if name not in ("width", "not_finite")},
        "zero_rows": max(one["zero_rows"] for one in solved.facts),
        "dimensions": solved.models[0].features.width,
        "effective_dimension": [round(one.dimension(solved.ridge), 1) for one in solved.models],
        "ridge": solved.ridge,
        "ridge_chosen": "on held-out models" if solved.choice else "as given, or by rule",
    }
    if solved.choice:
        found |= {"held_out_correlation": solved.choice.correlation, "held_out_slope": solved.choice.slope}
    if solved.threshold:
        found |= {"threshold": solved.threshold.best, "threshold_correlation": solved.threshold.correlation}
    return found
