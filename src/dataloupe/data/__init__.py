"""Data to ask questions about: digits (ships with the install), Fashion-MNIST."""

from dataloupe.data._digits import digits as digits
from dataloupe.data._fashion import fashion_mnist as fashion_mnist
