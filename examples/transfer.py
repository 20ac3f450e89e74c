"""Which kinds of clothing teach a small network features that a task on other clothing can use?

Source: 1,800 images of six Fashion-MNIST classes. Downstream task: T-shirt, coat, sneaker or bag, which are none of
them, from 10 labelled images each, by a linear probe (ridge, solved) on the frozen features of the source's network.
The output is the lead of the right class in the probe's scores, on 600 test images. Fashion-MNIST: from Debian's
package dataset-fashion-mnist, or downloaded once.

    dataloupe groups examples/transfer.py:question --by label --models 200 --lab runs/transfer

Expect pullover (+0.063 [0.037, 0.090]) and sandal (+0.053 [0.026, 0.080]) to teach more than the average class,
trouser and ankle boot less. `bench/transfer.py` retrains: with all six the probe is right on 85.8 %, without the three
least helpful on 85.6 %, the three most helpful 73.5 %, three at random 77.2 %; fewer removed tell little apart.
"""

import dataclasses
from collections import OrderedDict

import numpy as np
import torch
from torch import nn

import dataloupe as dl

TASK = ("T-shirt", "coat", "sneaker", "bag")


def make_model(classes: int = 10) -> nn.Module:
    body = (nn.Flatten(), nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    return nn.Sequential(OrderedDict(features=nn.Sequential(*body), head=nn.Linear(32, classes)))


with torch.device("meta"):  # structure only, no numbers
    PROBED = make_model(len(TASK))


@dataclasses.dataclass(frozen=True, eq=False)
class Transfer(dl.SGD):
    """SGD on the source; the model that comes out has its head replaced by a probe of the downstream task."""

    few: dl.Examples | None = None
    penalty: float = 0.03

    def model(self, state):
        body = {name: p for name, p in state.params.items() if name.startswith("features.")}
        inside = {name.removeprefix("features."): p for name, p in body.items()}
        z = dl.TorchModel(PROBED.features, inside).predict(self.few.inputs)
        y = nn.functional.one_hot(self.few.labels).float()
        centred = z - z.mean(0)
        gram = centred.T @ centred
        ridge = self.penalty * gram.diagonal().mean() + 1e-6
        head = torch.linalg.solve(gram + ridge * torch.eye(len(gram)), centred.T @ (y - y.mean(0)))
        probe = {"head.weight": head.T, "head.bias": y.mean(0) - z.mean(0) @ head}
        return dl.TorchModel(PROBED, body | probe)


def small(data: dl.Examples) -> dl.Examples:
    """14 x 14 pixels around 0."""
    return dataclasses.replace(data, inputs=nn.functional.avg_pool2d(data.inputs.float() / 255, 2) - 0.286)


def classes(data: dl.Examples, names: tuple[str, ...], count: int) -> np.ndarray:
    """The first ``count`` rows of each of the classes."""
    labels = data.labels.numpy()
    return np.concatenate([np.flatnonzero(labels == data.names.index(name))[:count] for name in names])


def downstream(data: dl.Examples, count: int) -> dl.Examples:
    """Rows of the task's classes, labelled 0 to 3."""
    labels = torch.arange(len(TASK)).repeat_interleave(count)
    return dataclasses.replace(data[classes(data, TASK, count)], labels=labels, names=TASK)


train, test = (small(data) for data in dl.data.fashion_mnist(train=10_000, test=3_000))
others = tuple(name for name in train.names if name not in TASK)
learner = Transfer(
    make_model, epochs=10, lr=0.1, momentum=0.9, batch_size=64, schedule="linear", few=downstream(train, 10)
)
question = dl.Question(
    learner, train[classes(train, others, 300)], downstream(test, 150), dl.outputs.hard_margin
)
