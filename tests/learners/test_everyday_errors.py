"""What people hand to SGD by mistake is refused by name, and what is no mistake is trained."""

import warnings

import pytest
import torch
from torch import nn

from dataloupe._errors import BadInput, DataloupeError, TrainingError
from dataloupe.core import Examples
from dataloupe.lab import Lab
from dataloupe.learners import SGD, Checkpoints

pytestmark = pytest.mark.usefixtures("unchecked")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class Pair(Net):
    def forward(self, x):
        return super().forward(x), x


class Detached(Net):
    def forward(self, x):
        return super().forward(x).detach()


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LazyLinear(3)

    def forward(self, x):
        return self.layer(x)


class Frozen(Net):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


X = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
UNLABELLED = torch.where(torch.arange(24) < 5, -100, Y)


def fit(module=Net, inputs=X, labels=Y, **settings):
    learner = SGD(module, **{"epochs": 1, "batch_size": 8, **settings})
    return learner.train(Examples(inputs, labels), torch.ones(24), seed=0)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"module": Pair}, "dl-265.*tuple of 2 parts"),
        ({"module": Detached}, "dl-265.*detach"),
        ({"module": Lazy}, "dl-264.*layer.weight"),
        ({"module": Net()}, r"dl-264.*SGD of a Net.*SGD\(lambda: module\)"),
        ({"module": lambda: "net"}, "dl-264.*gives a str"),
        ({"module": Frozen}, "dl-264.*no parameter"),
        ({"module": nn.Identity}, "dl-264.*no parameter"),
        ({"labels": Y + 1}, "dl-263.*label 3.*3 classes"),
        ({"labels": Y - 1}, "dl-263.*label -1"),
        ({"labels": UNLABELLED}, "dl-263.*label -100"),
        ({"labels": Y.float()}, "dl-26[23]|dl-83.*float"),
        ({"labels": Y[:, None]}, r"dl-263.*\(8, 1\)"),
        ({"loss": "squared"}, "dl-263.*cross_entropy"),
        ({"loss": "contrastive"}, r"dl-263.*\[b, 2, e\]"),
        ({"inputs": X[:, :5]}, "dl-262.*SGD of Net.*cannot be multiplied.*first layer"),
        ({"inputs": (X * 9).long()}, "dl-136.*int64"),
    ],
)
def test_what_cannot_be_trained_is_named(given, code):
    with pytest.raises(DataloupeError, match=code):
        fit(**given)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 1.5}, "whole number"),
        ({"epochs": True}, "whole number"),
        ({"batch_size": "8"}, "whole number"),
        ({"lr": float("inf")}, "above 0"),
        ({"lr": torch.tensor(0.1)}, "above 0"),
        ({"lr": 1j}, "above 0"),
        ({"momentum": float("nan")}, "below 1"),
        ({"weight_decay": float("nan")}, "from 0"),
        ({"nesterov": 1, "momentum": 0.9}, "True or False"),
        ({"optimizer": "adamw", "betas": (1.5, 2)}, "0.9, 0.999"),
        ({"optimizer": "adamw", "betas": 0.9}, "two numbers"),
        ({"optimizer": "adamw", "momentum": 0.9}, "betas"),
        ({"betas": (0.8, 0.9)}, "adamw"),
        ({"optimizer": "adam"}, '"sgd", "adamw"'),
        ({"schedule": "onecycle"}, "triangular.*one-cycle"),
        ({"schedule": ["linear"]}, "one of"),
        ({"loss": "mse"}, "squared"),
        ({"removal": "repacked"}, '"repack", "mask"'),
        ({"augment": torch.flip}, "Flip"),
        ({"label_smoothing": 1}, "below 1"),
        ({"version": 2}, "a text"),
    ],
)
def test_a_setting_tells_what_may_stand_there(settings, words):
    with pytest.raises(BadInput, match=f"dl-211.*{words}"):
        SGD(Net, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": 0},
        {"workers": 1.5},
        {"workers": float("nan")},
        {"workers": True},
        {"runner": "ray"},
        {"keep_models": "yes"},
        {"progress": None},
        {"force": 1},
    ],
)
def test_a_lab_tells_what_may_stand_there(tmp_path, settings):
    with pytest.raises(BadInput, match="dl-268.*give"):
        Lab(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_labels_of_any_whole_type_are_class_numbers():
    models = [fit(labels=Y.to(kind)) for kind in (torch.int64, torch.int32, torch.uint8)]
    for model in models[1:]:
        assert all(torch.equal(models[0].params[name], p) for name, p in model.params.items())


def test_a_module_that_holds_results_of_its_parameters_is_copied():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        module = nn.Sequential(nn.utils.weight_norm(nn.Linear(8, 6)), nn.ReLU(), nn.Linear(6, 3))
    model = Checkpoints(module, module.state_dict()).models()[0]
    with torch.no_grad():
        assert torch.equal(model.predict(X), module.eval()(X))
    trained = fit(lambda: module)
    assert not torch.equal(trained.params["0.weight_v"], module[0].weight_v)


def test_an_error_of_users_code_is_the_cause():
    with pytest.raises(TrainingError, match="dl-262") as caught:
        fit(inputs=X[:, :5])
    assert isinstance(caught.value.__cause__, RuntimeError)
