"""A lab in memory, in plain loops: the reference that faster labs are held against, and a lab for tests."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dataloupe._errors import CapabilityError
from dataloupe._identity import identity
from dataloupe._typing import Array, Facts
from dataloupe.core._chunked import Chunked
from dataloupe.core._copies import copied_module
from dataloupe.core._diffusion import as_called
from dataloupe.core._draws import OneDraw, draw_signs
from dataloupe.core._examples import Examples
from dataloupe.core._factors import Contribution, Direct, Use
from dataloupe.core._finetune import Seen, Tuned, Tuning
from dataloupe.core._isolation import isolated
from dataloupe.core._lab import Embeddings, Features, Scale, Side, Sketch, Swept, counted
from dataloupe.core._learner import ModelSource, must_train
from dataloupe.core._model import Model, TorchModel, call_module
from dataloupe.core._outcomes import DIVERGED, OK, Outcomes
from dataloupe.core._question import Output, Question, averaged_slope, draws_of
from dataloupe.core._run_training import trained
from dataloupe.core._settings import checked
from dataloupe.core._settled import unchanged
from dataloupe.core._subsets import Subsets
from dataloupe.core._tokens import real_tokens
from dataloupe.core._trainings import outcome_facts


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

    @checked("dl-227")
    @isolated()
    def outcomes(self, question: Question, subsets: Subsets, *, repeats: int = 1) -> Outcomes:
        """Train every (subset, seed) in turn."""
        learner = must_train(question.learner)
        subsets.refuse_empty()
        facts = outcome_facts(question, subsets, repeats)
        values = np.empty((subsets.count, repeats, question.m), dtype=np.float32)
        keys = _Keys.of(question)
        with unchanged(question):
            for k in range(subsets.count):
                for r in range(repeats):
                    values[k, r] = question.measure(self._model(question, keys, subsets, k, r))
        status = np.where(np.isfinite(values).all(axis=2), OK, DIVERGED).astype(np.uint8)
        values[status == DIVERGED] = np.nan
        return Outcomes(subsets, values, status, learner.removal, facts)

    def blocks(self, question: Question, subsets: Subsets, *, repeats: int = 1) -> Iterator[Outcomes]:
        """All in one block."""
        return iter([self.outcomes(question, subsets, repeats=repeats)])

    @isolated()
    def models(self, question: Question, subsets: Subsets) -> Sequence[Model]:
        """One model a subset."""
        if isinstance(question.learner, ModelSource):
            return question.learner.models()[: subsets.count]
        subsets.refuse_empty()
        keys = _Keys.of(question)
        with unchanged(question):
            return [self._model(question, keys, subsets, k, 0) for k in range(subsets.count)]

    @isolated()
    def features(self, question: Question, subsets: Subsets, k: int, sketch: Sketch) -> Features:
        """Batch-of-one autograd, then the sketch."""
        shapes = {name: p.shape for name, p in torch_model(self.models(question, subsets)[k]).params.items()}
        projection = sketch.bind(shapes)

        def sketched(asked: Question, side: Side) -> tuple[Array, Swept]:
            out = torch.zeros(asked.n if side == "train" else asked.m, projection.width)

            def use(name: str, uses: list[Contribution], place: slice) -> None:
                projection.add(out[place], name, *uses)

            swept = self.gradients(asked, subsets, k, side, use)
            return out.numpy(), swept

        (targets, _), (train, swept) = sketched(question, "targets"), sketched(question, "train")
        made, asked = counted(train, swept.slope), counted(targets, np.zeros(question.m))
        facts = swept.facts | made | {"not_finite": made["not_finite"] + asked["not_finite"]}
        repeats, draws = question.on_train.repeats, None
        if repeats > 1:
            alone = [OneDraw(question.on_train, r) for r in range(repeats)]
            each = np.stack(
                [sketched(dataclasses.replace(question, train_output=one), "train")[0] for one in alone]
            )
            signs = draw_signs(np.arange(question.n), repeats).astype(np.float32)
            draws = Chunked.of(np.einsum("nqr,rnd->nqd", signs, each).reshape(-1, projection.width))
        return Features(Chunked.of(train), swept.slope, targets, facts, draws)

    @isolated()
    def gradients(
        self,
        question: Question,
        subsets: Subsets,
        k: int,
        side: Side,
        use: Use,
        scale: Scale | None = None,
    ) -> Swept:
        """Batches of one, by autograd."""
        model = torch_model(self.models(question, subsets)[k])
        train = side == "train"
        data, output = (question.train, question.on_train) if train else (question.targets, question.output)
        rows = sum(int(output.valid(block).sum()) for _, block in question.blocks(data))
        if train and rows != question.n:
            raise several_components(question, rows)
        slope = _plain_gradients(output, model, data, use, scale)
        return Swept(slope, {"coverage": {"by autograd, one by one": 1.0}})

    @isolated()
    def finetune(
        self, question: Question, models: Sequence[TorchModel], tuning: Tuning, seeds: Sequence[int]
    ) -> Tuned:
        """One model after the other."""
        each = [
            _tuned(model, question.train, tuning, seed, k)
            for k, (model, seed) in enumerate(zip(models, seeds, strict=True))
        ]
        finite = np.array([all(bool(p.isfinite().all()) for p in one.params.values()) for one, _, _ in each])
        return Tuned(
            [one for one, _, _ in each], finite, np.stack([loss for _, loss, _ in each], 1), each[0][2]
        )

    @isolated()
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

    def _model(self, question: Question, keys: "_Keys", subsets: Subsets, k: int, r: int) -> Model:
        learner = must_train(question.learner)
        mask = subsets.masks([k])[0]
        seed = subsets.train_seed(k, r)
        key = identity([keys.training, np.packbits(mask), seed])
        if key not in self._models:
            weights = torch.from_numpy(mask.astype(np.float32))
            where = f" on subset {k}, repeat {r}"
            model = trained(learner, question.train, weights, seed=seed, where=where)
            if isinstance(model, TorchModel) and model.origin is not None:
                model = dataclasses.replace(model, origin=model.origin._replace(learner=keys.learner))
            self._models[key] = model
        return self._models[key]


class _Keys(NamedTuple):
    """What its models are found by, and the learner that they know; looked at once a call."""

    training: str
    learner: str

    @classmethod
    def of(cls, question: Question) -> "_Keys":
        return cls(identity(question.training_identity), question.provenance.get("learner", ""))


def _tuned(
    model: TorchModel, data: Examples, tuning: Tuning, seed: int, place: int
) -> tuple[TorchModel, Array, int]:
    """One model tuned by torch's own optimizer, its module called as it is."""
    module = copied_module(model.module).train(not tuning.frozen_norms)
    params = {
        name: p.detach().clone().requires_grad_(name not in tuning.still) for name, p in model.params.items()
    }
    buffers = {name: b.detach().clone() for name, b in model.buffers.items()}
    optimizer = tuning.optimizer.over([p for p in params.values() if p.requires_grad])
    losses, passes = [], 0
    for stage in tuning.stages:
        for option in optimizer.param_groups:
            option["lr"] = tuning.optimizer.lr * stage.rate
        found = []
        for turn in stage.batches(seed):
            rows = data.take(turn.ids)
            predicted = call_module(module, {**params, **buffers}, rows.inputs)
            labels = None if rows.labels is None else rows.labels[None]
            weights = torch.from_numpy(turn.weights).to(predicted.dtype)[None]
            alone = {name: p[None] for name, p in params.items()}
            seen = Seen(predicted[None], labels, turn.ids[None], weights, slice(place, place + 1), alone)
            loss = stage.objective(seen)[0]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(float(loss.detach()))
            passes += len(turn.ids)
        losses.append(float(np.mean(found)) if found else 0.0)
    done = TorchModel(model.module, {name: p.detach() for name, p in params.items()}, buffers, model.origin)
    return done, np.array(losses), passes


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
    """What the last module with parameters sees, ``[b, e]``: of sequences of tokens the mean over tokens, else flattened.

    Samples of a diffusion that name no timestep are looked at in timestep 0.
    """
    last = [module for module in model.module.modules() if list(module.parameters(recurse=False))][-1]
    seen: list[Tensor] = []
    found: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    try:
        with torch.no_grad():
            for start in range(0, len(data), rows):
                some = data.take(np.arange(start, min(start + rows, len(data))))
                model.predict(as_called(some.inputs))
                found.append(_pooled(seen[-1], real_tokens(some)))
                seen.clear()
    finally:
        handle.remove()
    return torch.cat(found).float().cpu().numpy()


def _pooled(seen: Tensor, real: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b e"]:
    """One vector a row: the mean over the places that hold a token, where there is something for each place."""
    if real is None or seen.ndim != 3 or seen.shape[:2] != real.shape:
        return seen.flatten(1)
    weight = real.to(seen)[:, :, None]
    return (seen * weight).sum(1) / weight.sum(1).clamp(min=1)


def several_components(question: Question, found: int) -> CapabilityError:
    """The train output has more than one number per example (dl-208)."""
    wanted = {
        "token margin": "sequence_margin",
        "token loss": "sequence_loss",
        "token log probability": "sequence_log_prob",
    }.get(question.on_train.name, "margin")
    return CapabilityError(
        "dl-208",
        asked="one gradient per training example",
        found=f"{found} components of {question.n} examples",
        do=f"give the question a `train_output` of one component, such as outputs.{wanted}",
    )


def _plain_gradients(
    output: Output, model: TorchModel, data: Examples, use: Use, scale: Scale | None
) -> Array:
    params = {name: p.detach().clone().requires_grad_() for name, p in model.params.items()}
    live = model.with_params(params)
    slopes: list[Tensor] = []
    draws = draws_of(output) if output.repeats > 1 else [None]
    for i in range(len(data)):
        rows = data.take([i])
        each = [output.value(live, rows, draw) for draw in draws]
        own = [
            output.slope(live, rows, value.detach(), draw).reshape(-1).float()
            for value, draw in zip(each, draws, strict=True)
        ]
        slope = own[0]
        if len(draws) > 1:
            mean = torch.stack([value.detach() for value in each]).mean(0)
            slope = averaged_slope(output, live, rows, mean).reshape(-1).float()
        for c in torch.nonzero(output.valid(rows)[0]).flatten().tolist():
            for value, at in zip(each, own, strict=True):
                factor = 1.0 if scale is None else scale(at[c : c + 1], rows)[0]
                scaled = value.reshape(-1)[c] * factor / len(draws)
                gradients = torch.autograd.grad(
                    scaled, list(params.values()), retain_graph=True, allow_unused=True
                )
                for name, gradient in zip(params, gradients, strict=True):
                    if gradient is not None:
                        use(name, [Direct(gradient.detach()[None])], slice(len(slopes), len(slopes) + 1))
            slopes.append(slope[c].detach())
    return torch.stack(slopes).numpy()
