"""Which of 5,000 pieces of clothing make a small convolutional network read 500 others right?

Fashion-MNIST: from Debian's package dataset-fashion-mnist, or downloaded once (`pip install dataloupe[data]`).

    dataloupe plan examples/fashion.py:question --with trak --models 10
    dataloupe attribute examples/fashion.py:question --with trak --models 10 --lab runs/fashion
    dataloupe judge examples/fashion.py:question --lab runs/fashion --subsets 100 --repeats 2

Expect an LDS of 0.51 [0.48, 0.52] for TRAK with 10 models, under a ceiling of 0.69. The truth is 200 trainings:
about half an hour on two cores.
"""

import torch
from torch import Tensor, nn

import dataloupe as dl


class Scale(nn.Module):
    """Pixels 0 to 255 as numbers around 0."""

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.to(torch.float32) / 255 - 0.286) / 0.353


def make_model() -> nn.Module:
    return nn.Sequential(
        Scale(),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


train, test = dl.data.fashion_mnist(train=5000, test=500)

question = dl.Question(
    learner=dl.SGD(
        make_model,
        epochs=15,
        lr=0.05,
        momentum=0.9,
        weight_decay=5e-4,
        batch_size=64,
        schedule="linear",
        warmup=0.1,
    ),
    train=train,
    targets=test,
    output=dl.outputs.margin,
)
