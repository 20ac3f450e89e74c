"""Which handwritten digits make a small network read others right?

1,437 training images of 8 x 8 pixels, 100 targets, a network of 2,410 parameters. Ships with the install.

    dataloupe attribute examples/digits.py:question --with datamodel --subsets 1000 --lab runs/digits
    dataloupe attribute examples/digits.py:question --with trak --lab runs/digits
    dataloupe judge examples/digits.py:question --lab runs/digits
    dataloupe show runs/digits --target 7 --only trak
    dataloupe what-if examples/digits.py:question --lab runs/digits --only trak --target 7 --remove-top 40
    dataloupe report runs/digits --out digits.html

Expect an LDS near 0.32 for the datamodel and 0.54 for TRAK under a ceiling of 0.76, and target 7's margin to fall by
4.7 [4.2, 5.2] without the 40 digits that help it most (predicted: 3, from 2 to 5).
"""

from torch import nn

import dataloupe as dl


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


train, test = dl.data.digits()

question = dl.Question(
    learner=dl.SGD(make_model, epochs=15, lr=0.1, momentum=0.9, batch_size=64),
    train=train,
    targets=test[:100],
    output=dl.outputs.margin,
)
