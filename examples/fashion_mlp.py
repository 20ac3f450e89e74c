r"""The question of fashion.py, asked of a network small enough to be trained by the thousands.

    dataloupe attribute examples/fashion_mlp.py:question --with datamodel --estimator lasso --prior trak \
        --ridge 0.3 --subsets 1000 --lab runs/mlp
    dataloupe judge examples/fashion_mlp.py:question --lab runs/mlp --subsets 100 --repeats 2

Expect an LDS near 0.80 under a ceiling of 0.96 (with 5 seeds per subset), where the lasso alone has 0.68.
"""

import torch
from torch import Tensor, nn

import dataloupe as dl


class Scale(nn.Module):
    """Pixels 0 to 255 as numbers around 0."""

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.to(torch.float32) / 255 - 0.286) / 0.353


def make_model() -> nn.Module:
    return nn.Sequential(Scale(), nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


train, test = dl.data.fashion_mnist(train=5000, test=500)

question = dl.Question(
    learner=dl.SGD(
        make_model,
        epochs=15,
        lr=0.05,
        momentum=0.9,
        weight_decay=5e-4,
        batch_size=128,
        schedule="linear",
        warmup=0.1,
    ),
    train=train,
    targets=test,
    output=dl.outputs.margin,
)
