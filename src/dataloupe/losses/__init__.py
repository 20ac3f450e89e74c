"""Training losses of single rows: what :class:`dataloupe.SGD` trains with, and what outputs are told on the training side."""

from dataloupe.losses._binary import BinaryCrossEntropy as BinaryCrossEntropy
from dataloupe.losses._cross_entropy import CrossEntropy as CrossEntropy
from dataloupe.losses._custom import Custom as Custom
from dataloupe.losses._squared import SquaredError as SquaredError
