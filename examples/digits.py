"""Which handwritten digits make a small network read others right?

1,437 training images of 8 x 8 pixels, 100 targets, a network of 2,410 parameters. Ships with the install.

    dataloupe attribute examples/digits.py:question --with datamodel --subsets 1000 --lab runs/digits
    dataloupe attribute examples/digits.py:question --with trak --lab runs/digits
    dataloupe judge examples/digits.py:question --lab runs/digits
    dataloupe show runs/digits --target 7 --only trak
    dataloupe what-if examples/digits.py:question --lab runs/digits --only trak --target 7 --remove-top 40
    dataloupe report runs/digits --out digits.html

Expect an LDS near 0.44 for the datamodel and 0.67 for TRAK under a ceiling of 0.83, and target 7's margin to fall by
3.4 [3.1, 3.7] without the 40 digits that help it most (predicted: 3, from 2 to 4).
"""

from torch import nn

import dataloupe as dl


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


train, test = dl.data.digits()

question = dl.Question(
    learner=dl.SGD(make_model, epochs=15, lr=0.1, momentum=0.9, batch_size=64, schedule="linear"),
    train=train,
    targets=test[:100],
    output=dl.outputs.margin,
)
