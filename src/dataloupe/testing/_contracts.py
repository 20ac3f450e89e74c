"""Contract suites for learners and outputs: inherit, say what is tested, and let pytest run the rest.

::

    class TestMyLearner(LearnerContract):
        def learner(self):
            return MyLearner(epochs=2)

Every method that is no test is a hook to override. A breach raises ``AssertionError`` in a plain sentence.
"""

import abc
import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import grad, vmap

from dataloupe._identity import Stream, canonical, identity
from dataloupe.core import (
    Examples,
    Learner,
    Model,
    Output,
    Rows,
    SteppedLearner,
    TorchModel,
    input_leaves,
    make_batch,
    map_inputs,
    train,
)


def must(holds: Any, sentence: str) -> None:
    """A breach of contract, as an error that says what should have been so."""
    if not bool(holds):
        raise AssertionError(sentence)


def same(a: Any, b: Any) -> bool:
    """Bitwise the same tensors, in nested dicts and tuples."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a.dtype == b.dtype) and torch.equal(a, b)


def blobs(n: int = 48, d: int = 6, classes: int = 3, seed: int = 0) -> Examples:
    """Clouds of points, one a class, that overlap a little; labels 0, 1, 2, 0, 1, 2 ..."""
    draws = Stream.root(seed)("blobs").numpy()
    labels = np.arange(n) % classes
    centres = draws.standard_normal((classes, d)) * 1.5
    inputs = centres[labels] + draws.standard_normal((n, d))
    return Examples(torch.from_numpy(inputs).float(), torch.from_numpy(labels))


class LearnerContract(abc.ABC):
    """What every :class:`Learner` keeps to; design, sections 2 and 5.

    Override ``learner`` (a fresh one at every call); ``data`` where clouds of points are no fit input;
    ``seeded`` with True or False where the seed must or must not change the model.
    """

    seeded: bool | None = None

    @abc.abstractmethod
    def learner(self) -> Learner:
        """The learner under test."""

    def data(self) -> Examples:
        """A few dozen training examples."""
        return blobs()

    def weights(self) -> Float[Tensor, " n"]:
        """A keyed half of the examples kept, every class of the default data among them."""
        n = len(self.data())
        weights = torch.zeros(n)
        weights[Stream.root(1)("contract").bits(np.arange(n)).argsort()[: n // 2]] = 1.0
        return weights

    def garbage(self, data: Examples, weights: Float[Tensor, " n"]) -> Examples:
        """The data with absurd rows where the weight is 0: labels of other classes, enormous inputs."""
        out = weights == 0

        def spoil(part: Tensor) -> Tensor:
            part = part.clone()
            part[out] = 1e30 if part.is_floating_point() else part.max()
            return part

        labels = data.labels
        if labels is not None:
            rolled = labels * 1e30 if labels.is_floating_point() else (labels + 1) % (labels.max() + 1)
            labels = torch.where(out.reshape(-1, *[1] * (labels.ndim - 1)), rolled, labels)
        return Examples(map_inputs(spoil, data.inputs), labels)

    def trained(self, data: Examples, weights: Float[Tensor, " n"], seed: int = 3) -> dict[str, Tensor]:
        """All that can be seen of one trained model: its predictions on the kept rows, its tensors."""
        model = self.learner().train(data, weights, seed=seed)
        rows = self.data().take(self.weights().nonzero().squeeze(1))
        with torch.no_grad():
            seen = {"predictions": model.predict(rows.inputs)}
        return {**seen, **model.params, **model.buffers} if isinstance(model, TorchModel) else seen

    def test_is_a_learner_and_declares_its_removal(self) -> None:
        """``train`` and ``removal``."""
        learner = self.learner()
        must(isinstance(learner, Learner), "a learner has `train(data, weights, *, seed)` and `removal`")
        must(learner.removal in ("repack", "mask"), f"removal is repack or mask, not {learner.removal!r}")

    def test_has_an_identity(self) -> None:
        """Two equal learners are found under one key."""
        must(identity(self.learner()) == identity(self.learner()), "two equal learners have one identity")

    def test_predicts_a_row_for_every_row(self) -> None:
        """``predict`` gives ``[b, c]``, and no row feels the others."""
        data = self.data()
        model = self.learner().train(data, torch.ones(len(data)), seed=0)
        with torch.no_grad():
            whole, one = (model.predict(data.take(ids).inputs) for ids in (np.arange(9), [4]))
        must(whole.ndim == 2 and len(whole) == 9, f"predictions are [b, c], not {tuple(whole.shape)}")
        must(torch.allclose(whole[4:5], one, rtol=1e-3, atol=1e-4), "a row's prediction is its own")

    def test_same_in_same_out(self) -> None:
        """Bitwise the same model of the same data, weights and seed."""
        runs = [self.trained(self.data(), self.weights()) for _ in range(2)]
        must(same(*runs), "training twice on the same data, weights and seed gives the same bits")

    def test_the_data_decides(self) -> None:
        """Another half of the data gives another model."""
        halves = [self.trained(self.data(), w) for w in (self.weights(), 1 - self.weights())]
        must(not same(*halves), "a model depends on the examples it was trained on")

    def test_excluded_rows_are_never_read(self) -> None:
        """Garbage in the rows of weight 0 changes no bit."""
        data, weights = self.data(), self.weights()
        clean, dirty = (self.trained(d, weights) for d in (data, self.garbage(data, weights)))
        must(same(clean, dirty), "examples of weight 0 are never read: garbage there changes no bit")

    def test_the_seed_does_what_it_says(self) -> None:
        """``seeded`` True: another seed, another model. False: the same."""
        runs = [self.trained(self.data(), self.weights(), seed) for seed in (3, 4)]
        if self.seeded is not None:
            must(same(*runs) != self.seeded, f"`seeded` is {self.seeded}, and two seeds say otherwise")

    def test_no_global_generator_is_read_or_moved(self) -> None:
        """Training does not depend on torch's or NumPy's global generators, and leaves them as they were."""
        runs, numpy_before = [], np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]):
                for seed in (1, 2):
                    torch.default_generator.manual_seed(seed)
                    np.random.seed(seed)
                    before = _global_generators()
                    runs.append(self.trained(self.data(), self.weights()))
                    must(same(before, _global_generators()), "training leaves the global generators alone")
        finally:
            np.random.set_state(numpy_before)
        must(same(*runs), "training reads no global generator")

    def test_steps_are_the_plain_loop(self) -> None:
        """A stepped learner's ``train`` is ``core.train``, and its steps change nothing they are given."""
        learner, data, weights = self.learner(), self.data(), self.weights()
        if not isinstance(learner, SteppedLearner):
            return
        plain = train(learner, data, weights, seed=3)
        fast = learner.train(data, weights, seed=3)
        if isinstance(plain, TorchModel) and isinstance(fast, TorchModel):
            must(
                same((plain.params, plain.buffers), (fast.params, fast.buffers)), "`train` is the plain loop"
            )
        must(same(plain.predict(data.inputs), fast.predict(data.inputs)), "`train` is the plain loop")
        state = learner.init(seed=3)
        slot = next(iter(learner.batches(weights, seed=3)))
        batch = make_batch(data, weights, slot, learner.removal)
        before = copy.deepcopy(state)
        steps = [learner.step(state, batch) for _ in range(2)]
        must(same(*map(tuple, steps)), "a step is a pure function of state and batch")
        must(same(tuple(state), tuple(before)), "a step leaves the state it was given as it was")
        must(same(tuple(learner.init(seed=3)), tuple(before)), "`init` is a pure function of the seed")


class OutputContract(abc.ABC):
    """What every :class:`Output` keeps to: shapes, sign of the slope, parity under ``torch.func``.

    Override ``output``; ``model`` and ``rows`` where a linear model on clouds of three classes does not fit;
    ``training_loss`` where the loss behind ``slope`` is not the cross-entropy (None: there is none).
    """

    @abc.abstractmethod
    def output(self) -> Output:
        """The output under test."""

    def model(self) -> TorchModel:
        """A float64 model with parameters of moderate size."""
        module = nn.Linear(6, 3).double()
        draws = Stream.root(0)("contract", "model").numpy()
        params = {name: torch.from_numpy(draws.normal(size=p.shape)) for name, p in module.named_parameters()}
        return TorchModel(module, params)

    def rows(self) -> Rows:
        """About a dozen rows, float64."""
        data = blobs(n=12)
        return Rows(map_inputs(lambda part: part.double(), data.inputs), data.labels)

    def training_loss(self, model: Model, rows: Rows) -> Float[Tensor, " b"] | None:
        """The loss that the learner minimises, one number a row."""
        if rows.labels is None:
            return None
        return nn.functional.cross_entropy(model.predict(rows.inputs), rows.labels, reduction="none")

    def values(self, model: Model, rows: Rows) -> Float[Tensor, "b c"]:
        """The output, a component a column."""
        value = self.output().value(model, rows)
        return value.reshape(len(value), -1)

    def test_is_an_output(self) -> None:
        """All five parts, a name, an identity."""
        output = self.output()
        must(isinstance(output, Output), "an output has name, repeats, value, slope and valid")
        must(output.name and output.repeats >= 1, "an output has a name and at least one draw")
        must(canonical(output) == canonical(self.output()), "two equal outputs have one identity")

    def test_declares_which_way_it_is_better(self) -> None:
        """``better`` is "higher", "lower" or None (as if it were left out): "helps" and "hurts" follow it."""
        better = getattr(self.output(), "better", None)
        must(better in ("higher", "lower", None), f"an output declares `better`, not {better!r}")

    def test_shapes_agree(self) -> None:
        """``value`` and ``slope`` give ``[b]`` or ``[b, c]``, ``valid`` gives ``[b, c]`` booleans."""
        rows, model, output = self.rows(), self.model(), self.output()
        value = output.value(model, rows)
        slope = output.slope(model, rows, value)
        valid = output.valid(rows)
        must(
            value.ndim in (1, 2) and value.shape == slope.shape, "slope has the shape of value, [b] or [b, c]"
        )
        must(valid.dtype == torch.bool, "valid is boolean")
        must(valid.shape == value.reshape(len(value), -1).shape, "valid tells every component of value")
        must(valid.any() and value.isfinite().all() and slope.isfinite().all(), "value and slope are finite")

    def test_rows_do_not_feel_each_other(self) -> None:
        """The value of a row alone is its value among others."""
        rows, model = self.rows(), self.model()
        whole = self.values(model, rows)
        alone = torch.cat([self.values(model, _row(rows, i)) for i in range(len(whole))])
        must(torch.allclose(whole, alone, rtol=1e-9), "the value of a row does not depend on the others")

    def test_slope_is_minus_the_derivative_of_the_loss(self) -> None:
        """For small steps of the parameters: change of the loss = - sum_c slope_c * change of value_c."""
        rows, model, step = self.rows(), self.model(), 1e-5
        if self.training_loss(model, rows) is None:
            return
        draws = Stream.root(0)("contract", "direction").numpy()
        slope = self.output().slope(model, rows, self.output().value(model, rows))
        for _ in range(3):
            way = {name: torch.from_numpy(draws.normal(size=p.shape)) for name, p in model.params.items()}
            ends = [
                model.with_params({n: p + sign * step * way[n] for n, p in model.params.items()})
                for sign in (1, -1)
            ]
            up, down = (self.training_loss(end, rows) for end in ends)
            raised, lowered = (self.values(end, rows) for end in ends)
            told = -(slope.reshape(raised.shape) * (raised - lowered) / (2 * step)).sum(1)
            must(
                torch.allclose((up - down) / (2 * step), told, rtol=1e-4, atol=1e-6),  # type: ignore[operator]
                "slope is MINUS the derivative of the training loss by the value",
            )

    def test_gradients_under_vmap_are_the_plain_ones(self) -> None:
        """``vmap(grad)`` over rows, one at a time, equals a loop of plain autograd."""
        rows, model = self.rows(), self.model()

        def one(p: dict[str, Tensor], inputs: Any, label: Tensor | None) -> Tensor:
            labels = None if label is None else label[None]
            return self.values(
                model.with_params(p), Rows(map_inputs(lambda part: part[None], inputs), labels)
            ).sum()

        axes = (None, 0, None if rows.labels is None else 0)
        fast = vmap(grad(one), in_dims=axes)(model.params, rows.inputs, rows.labels)
        for i in range(len(input_leaves(rows.inputs)[0])):
            live = {name: p.clone().requires_grad_() for name, p in model.params.items()}
            plain = torch.autograd.grad(
                self.values(model.with_params(live), _row(rows, i)).sum(), list(live.values())
            )
            for name, wanted in zip(live, plain, strict=True):
                must(
                    torch.allclose(fast[name][i], wanted, rtol=1e-9, atol=1e-12),
                    "gradients under vmap are those of plain autograd",
                )

    def test_many_models_under_vmap_are_the_plain_ones(self) -> None:
        """``vmap`` over stacked parameters equals one model after the other; slopes too."""
        rows, params, output, model = self.rows(), self.model().params, self.output(), self.model()
        several = [{name: p * scale for name, p in params.items()} for scale in (0.5, 1.0, -2.0)]
        stacked = {name: torch.stack([p[name] for p in several]) for name in params}

        def both(p: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            live = model.with_params(p)
            value = output.value(live, rows)
            return value, output.slope(live, rows, value)

        for fast, *plain in zip(vmap(both)(stacked), *map(both, several), strict=True):
            must(torch.allclose(fast, torch.stack(plain), rtol=1e-9), "many models at once are as one by one")


def _global_generators() -> tuple[Tensor, Tensor]:
    state: Any = np.random.get_state()
    return torch.get_rng_state(), torch.from_numpy(np.append(state[1].astype(np.int64), state[2]))


def _row(rows: Rows, i: int) -> Rows:
    return Rows(
        map_inputs(lambda part: part[i : i + 1], rows.inputs),
        None if rows.labels is None else rows.labels[i : i + 1],
    )
