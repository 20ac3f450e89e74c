"""A lab in memory, in plain loops: the reference that faster labs are held against, and a lab for tests."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dataloupe._errors import CapabilityError
from dataloupe._identity import identity
from dataloupe._typing import Array, Facts
from dataloupe.core._examples import Examples
from dataloupe.core._lab import Embeddings, Features, Sketch
from dataloupe.core._learner import ModelSource, must_train
from dataloupe.core._model import Model, TorchModel
from dataloupe.core._outcomes import DIVERGED, OK, Outcomes
from dataloupe.core._question import Output, Question, averaged, averaged_slope
from dataloupe.core._subsets import Subsets


class MemoryLab:
    """A :class:`Lab` that trains one model after the other and differentiates one example at a time.

    >>> from dataloupe import data, learners, outputs
    >>> train, test = data.digits()
    >>> question = Question(learners.SklearnLearner.ridge_classifier(), train, test[:2], outputs.margin)
    >>> MemoryLab().outcomes(question, Subsets(n=question.n, count=3)).values.shape
    (3, 1, 2)
    """

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._known: dict[tuple[str, str], tuple[dict[str, Array], Facts]] = {}

    def outcomes(self, question: Question, subsets: Subsets, *, repeats: int = 1) -> Outcomes:
        """Train every (subset, seed) in turn."""
        learner = must_train(question.learner)
        values = np.empty((subsets.count, repeats, question.m), dtype=np.float32)
        for k in range(subsets.count):
            for r in range(repeats):
                values[k, r] = question.measure(self._model(question, subsets, k, r))
        status = np.where(np.isfinite(values).all(axis=2), OK, DIVERGED).astype(np.uint8)
        values[status == DIVERGED] = np.nan
        return Outcomes(subsets, values, status, learner.removal, {"question": question.identity})

    def blocks(self, question: Question, subsets: Subsets, *, repeats: int = 1) -> Iterator[Outcomes]:
        """All in one block."""
        return iter([self.outcomes(question, subsets, repeats=repeats)])

    def models(self, question: Question, subsets: Subsets) -> Sequence[Model]:
        """One model a subset."""
        if isinstance(question.learner, ModelSource):
            return question.learner.models()[: subsets.count]
        return [self._model(question, subsets, k, 0) for k in range(subsets.count)]

    def features(self, question: Question, subsets: Subsets, k: int, sketch: Sketch) -> Features:
        """Batch-of-one autograd, then the sketch."""
        model = torch_model(self.models(question, subsets)[k])
        train, slope = _plain_gradients(question.on_train, model, question.train, sketch)
        targets, _ = _plain_gradients(question.output, model, question.targets, sketch)
        if len(slope) != question.n:
            raise CapabilityError(
                "dl-208",
                asked="one gradient per training example",
                found=f"{len(slope)} components of {question.n}",
                do="give the question a `train_output` of one component, such as outputs.margin",
            )
        return Features(train, slope, targets)

    def embeddings(self, question: Question, subsets: Subsets, k: int) -> Embeddings:
        """The inputs of the last layer."""
        model = torch_model(self.models(question, subsets)[k])
        return Embeddings(*(last_layer_inputs(model, data) for data in (question.train, question.targets)))

    def put(self, kind: str, made_by: Any, arrays: dict[str, Array], facts: Facts) -> None:
        """Remember, in memory."""
        self._known[kind, identity(made_by)] = arrays, facts

    def get(self, kind: str, made_by: Any) -> tuple[dict[str, Array], Facts] | None:
        """Recall."""
        return self._known.get((kind, identity(made_by)))

    def _model(self, question: Question, subsets: Subsets, k: int, r: int) -> Model:
        learner = must_train(question.learner)
        mask = subsets.masks([k])[0]
        seed = subsets.train_seed(k, r)
        key = identity([question.training_identity, np.packbits(mask), seed])
        if key not in self._models:
            self._models[key] = learner.train(
                question.train, torch.from_numpy(mask.astype(np.float32)), seed=seed
            )
        return self._models[key]


def torch_model(model: Model) -> TorchModel:
    """The model, if its parameters can be seen (dl-209)."""
    if not isinstance(model, TorchModel):
        raise CapabilityError(
            "dl-209",
            asked="gradients",
            found=f"a {type(model).__name__}, whose parameters cannot be seen",
            do="use a torch learner, or a method that only retrains (Datamodel)",
        )
    return model


def last_layer_inputs(model: TorchModel, data: Examples, rows: int = 1024) -> Array:
    """What the last module with parameters sees, flattened to ``[b, e]``."""
    last = [module for module in model.module.modules() if list(module.parameters(recurse=False))][-1]
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().flatten(1)))
    try:
        with torch.no_grad():
            for start in range(0, len(data), rows):
                model.predict(data.take(np.arange(start, min(start + rows, len(data)))).inputs)
    finally:
        handle.remove()
    return torch.cat(seen).float().cpu().numpy()


def _plain_gradients(
    output: Output, model: TorchModel, data: Examples, sketch: Sketch
) -> tuple[Array, Array]:
    params = {name: p.detach().clone().requires_grad_() for name, p in model.params.items()}
    live = model.with_params(params)
    features, slopes = [], []
    for i in range(len(data)):
        rows = data.take([i])
        values = averaged(output, live, rows)
        slope = averaged_slope(output, live, rows, values.detach()).reshape(-1)
        valid = output.valid(rows)[0]
        for c in torch.nonzero(valid).flatten().tolist():
            gradients = torch.autograd.grad(
                values.reshape(-1)[c], list(params.values()), retain_graph=True, allow_unused=True
            )
            flat = torch.cat(
                [
                    (torch.zeros_like(p) if g is None else g).flatten()
                    for g, p in zip(gradients, params.values(), strict=True)
                ]
            )
            features.append(sketch.project(flat[None].detach())[0])
            slopes.append(slope[c].detach())
    return torch.stack(features).float().numpy(), torch.stack(slopes).float().numpy()
