"""Per-example gradients at once = one by one by autograd; in float64 to 1e-10."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe import outputs
from dataloupe._errors import CapabilityError
from dataloupe._identity import Stream
from dataloupe.core import Examples, MemoryLab, Question, Subsets, TorchModel
from dataloupe.engine import Compute, Featuriser, Pass, embeddings, features
from dataloupe.learners import SGD
from dataloupe.solve import DenseSketch, Exact, FactoredSketch, HashSketch


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(48, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.norm(self.conv(x))).flatten(1))


def images(n, seed):
    draws = torch.Generator().manual_seed(seed)
    return Examples(torch.randn(n, 1, 6, 6, generator=draws), torch.randint(0, 3, (n,), generator=draws))


def asked(output, train_output=None):
    learner = SGD(Net, epochs=1, lr=0.1, batch_size=8)
    return Question(learner, images(14, 0), images(5, 1), output, train_output)


@pytest.mark.parametrize(
    "output", [outputs.margin, outputs.hard_margin, outputs.loss, outputs.log_prob], ids=lambda o: o.name
)
def test_the_same_as_one_by_one(output):
    question, lab, subsets = asked(output), MemoryLab(), Subsets(n=14, count=1)
    plain = lab.features(question, subsets, 0, Exact())
    fast = features(question, lab.models(question, subsets)[0], Exact())
    for ours, theirs in zip(fast.whole, plain.whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "sketch",
    [HashSketch(64), HashSketch(64, s=3), DenseSketch(32), FactoredSketch(64), FactoredSketch(40, side=2)],
    ids=str,
)
def test_sketches_take_factors_as_they_take_gradients(sketch):
    question, lab, subsets = asked(outputs.margin), MemoryLab(), Subsets(n=14, count=1)
    plain = lab.features(question, subsets, 0, sketch)
    fast = features(question, lab.models(question, subsets)[0], sketch)
    for ours, theirs in zip(fast.whole, plain.whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@dataclasses.dataclass(frozen=True)
class Shaken(outputs.Margin):
    """A margin on inputs that a keyed draw shifts; three draws are averaged."""

    repeats: int = 3

    def value(self, model, rows, draw=None):
        return super().value(model, rows._replace(inputs=rows.inputs + draw.uniform([0])[0]))


def test_keyed_draws_are_averaged_on_every_path():
    question, lab, subsets = asked(Shaken()), MemoryLab(), Subsets(n=14, count=1)
    model = lab.models(question, subsets)[0]
    shifts = [Stream.root(0)("draw", i).uniform([0])[0] for i in range(3)]
    rows = question.targets.take(range(5))
    moved = [outputs.margin.value(model, rows._replace(inputs=rows.inputs + s)).detach() for s in shifts]
    np.testing.assert_allclose(question.measure(model), torch.stack(moved).mean(0), rtol=1e-5)
    plain = lab.features(question, subsets, 0, Exact())
    for ours, theirs in zip(features(question, model, Exact()).whole, plain.whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_every_component_of_a_target_has_its_row():
    question, lab, subsets = asked(outputs.Logits(3), outputs.margin), MemoryLab(), Subsets(n=14, count=1)
    plain = lab.features(question, subsets, 0, Exact())
    fast = features(question, lab.models(question, subsets)[0], Exact())
    assert fast.targets.shape[0] == question.m == 15
    np.testing.assert_allclose(fast.targets, plain.targets, rtol=1e-4, atol=1e-5)


def test_several_components_on_the_training_side_are_refused():
    question = asked(outputs.Logits(3))
    with pytest.raises(CapabilityError, match=r"dl-208.*train_output"):
        features(question, MemoryLab().models(question, Subsets(n=14, count=1))[0], Exact())


def test_a_diverged_model_gives_what_it_has_for_the_method_to_count():
    question = asked(outputs.margin)
    model = MemoryLab().models(question, Subsets(n=14, count=1))[0]
    broken = TorchModel(model.module, {k: p * float("inf") for k, p in model.params.items()}, model.buffers)
    found = features(question, broken, Exact())
    assert not np.isfinite(found.train.whole()).all()
    assert found.facts["not_finite"] > 0 and "sketch_error" not in found.facts


def test_embeddings_are_what_the_last_layer_sees():
    question = asked(outputs.margin)
    model = MemoryLab().models(question, Subsets(n=14, count=1))[0]
    found = embeddings(question, model)
    assert found.train.shape == (14, 48) and found.targets.shape == (5, 48)
    logits = found.targets @ model.params["out.weight"].numpy().T + model.params["out.bias"].numpy()
    np.testing.assert_allclose(logits, model.predict(question.targets.inputs).detach(), rtol=1e-4, atol=1e-5)


class Silent:
    """A sketch that fails silently: all zeros."""

    width = 512

    def bind(self, _):
        return self

    def add(self, out, name, *found):
        pass


def test_a_sketch_that_keeps_no_inner_products_is_refused_unless_forced():
    question = asked(outputs.margin)
    ready = Pass(question, MemoryLab().models(question, Subsets(n=14, count=1))[0], "train")
    assert 0 < Featuriser(ready, HashSketch(128)).facts["sketch_error"] < 2 * (2 / 128) ** 0.5
    assert Featuriser(ready, Exact()).facts["sketch_error"] < 1e-5
    with pytest.raises(CapabilityError, match=r"dl-248.*away from the exact ones"):
        Featuriser(ready, Silent())
    forced = Pass(question, ready.given, "train", Compute(force=True))
    assert Featuriser(forced, Silent()).facts["sketch_error"] > 0.3


def test_the_error_of_a_sketch_is_that_of_its_products():
    question, sketch = asked(outputs.margin), HashSketch(32)
    ready = Pass(question, MemoryLab().models(question, Subsets(n=14, count=1))[0], "train")
    exact, found = (Featuriser(ready, one).rows(slice(0, 14))[0].astype(float) for one in (Exact(), sketch))
    size = np.linalg.norm(exact, axis=1)
    error = ((found @ found.T - exact @ exact.T) / (size[:, None] * size))[np.triu_indices(14)]
    told = Featuriser(ready, sketch).facts["sketch_error"]
    assert told == pytest.approx(float(np.sqrt((error**2).mean())), rel=0.05)
