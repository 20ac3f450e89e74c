"""Labels of any whole type and inputs of any floating-point type give the outcomes of int64 and of the model's own type."""

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe import outputs
from dataloupe._errors import BadInput
from dataloupe.core import Examples, MemoryLab, Question, Subsets, match_dtype
from dataloupe.engine import Backend
from dataloupe.lab import Lab
from dataloupe.learners import SGD, Checkpoints
from dataloupe.methods import TRAK

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(46, 4)).astype("f4").astype("f2"), RNG.integers(0, 3, 46)  # exact in every type
CHECKPOINT = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def make():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


class Branches(nn.Module):
    """Goes through torch.vmap, and takes its inputs by name."""

    def __init__(self):
        super().__init__()
        self.own = make()

    def forward(self, x, place):
        return self.own(x) + place[:, None]


def asked(x, y, learner, *, named=False):
    inputs = {"x": x, "place": np.arange(46) % 3} if named else x
    data = Examples(inputs, labels=y)
    return Question(learner, data[:40], data[40:], outputs.margin)


def values(tmp_path, question, kind):
    lab = Lab(tmp_path, backend=Backend(kind, 2, 1, 2), progress=False)
    return lab.outcomes(question, Subsets(n=40, count=2)).values


@pytest.mark.parametrize("kind", ["loop", "stacked"])
@pytest.mark.parametrize("named", [False, True])
def test_outcomes_do_not_feel_the_type_of_labels_and_inputs(tmp_path, kind, named):
    learner = SGD(Branches if named else make, epochs=2, lr=0.1, batch_size=10)
    right = values(tmp_path / "right", asked(X.astype("f4"), Y, learner, named=named), kind)
    for inputs, labels in (("f8", "u1"), ("f2", "i2"), (">f8", "u4")):
        question = asked(X.astype(inputs), Y.astype(labels), learner, named=named)
        assert np.array_equal(values(tmp_path / inputs, question, kind), right)
    in_memory = MemoryLab().outcomes(asked(X.astype("f8"), Y, learner, named=named), Subsets(n=40, count=2))
    np.testing.assert_allclose(in_memory.values, right, rtol=1e-4, atol=1e-5)


def test_a_model_in_double_precision_takes_single(tmp_path):
    def double():
        return make().double()

    learner = SGD(double, epochs=2, lr=0.1, batch_size=10)
    wide, narrow = (values(tmp_path / t, asked(X.astype(t), Y, learner), "stacked") for t in ("f8", "f4"))
    assert np.array_equal(wide, narrow)


def test_gradients_do_not_feel_the_type_of_inputs(tmp_path):
    learner = Checkpoints(make, [CHECKPOINT.state_dict()])
    found = [
        TRAK(models=1, dim=16).attribute(asked(X.astype(t), Y, learner), Lab(tmp_path / t, progress=False))
        for t in ("f4", "f8")
    ]
    assert np.array_equal(found[0].rows(slice(None)), found[1].rows(slice(None)))


@pytest.mark.parametrize("learner", [SGD(make, epochs=1), Checkpoints(make, [CHECKPOINT.state_dict()])])
def test_whole_numbers_are_refused_by_layers_that_compute_with_fractions(tmp_path, learner):
    question = asked((X * 9).astype("i8"), Y, learner)
    lab = Lab(tmp_path, backend="stacked", progress=False)
    with pytest.raises(BadInput, match=r"dl-136.*int64.*float\(\)"):
        lab.outcomes(question, Subsets(n=40, count=2)) if isinstance(learner, SGD) else TRAK(
            models=1, dim=16
        ).attribute(question, lab)


def test_images_of_bytes_are_refused_by_convolutions():
    with pytest.raises(BadInput, match="dl-136.*uint8.*/ 255"):
        SGD(lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)), epochs=1).train(
            Examples(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.zeros(4).long()), torch.ones(4), seed=0
        )


@pytest.mark.parametrize(
    ("inputs", "model", "becomes"),
    [
        ("float64", ["float32"], "float32"),
        ("float16", ["float32"], "float32"),
        ("float32", ["float64"], "float64"),
        ("float64", ["bfloat16"], "bfloat16"),
        ("float32", ["bfloat16"], "float32"),  # an additive mask of the lowest float32 would overflow
        ("float64", ["float32", "bfloat16"], "float64"),  # the forward of a model of several types decides
        ("int64", ["float32"], "int64"),
        ("complex128", ["float32"], "complex128"),
        ("float64", ["int64"], "float64"),
    ],
)
def test_which_types_are_cast(inputs, model, becomes):
    tensors = {str(i): torch.zeros(2, dtype=getattr(torch, name)) for i, name in enumerate(model)}
    given = torch.zeros(3, dtype=getattr(torch, inputs))
    assert match_dtype(given, tensors).dtype == getattr(torch, becomes)
