"""Data to ask questions about: digits (ships with the install), Fashion-MNIST, The Jargon File."""

from dataloupe.data._digits import digits as digits
from dataloupe.data._fashion import fashion_mnist as fashion_mnist
from dataloupe.data._text import ALPHABET as ALPHABET
from dataloupe.data._text import jargon as jargon
