"""Data to ask questions about: digits (ships with the install), Fashion-MNIST, with captions or as small samples too, The Jargon File, quotations."""

from dataloupe.data._captions import CAPTION_WORDS as CAPTION_WORDS
from dataloupe.data._captions import fashion_captions as fashion_captions
from dataloupe.data._digits import digits as digits
from dataloupe.data._fashion import fashion_mnist as fashion_mnist
from dataloupe.data._fortunes import fortunes as fortunes
from dataloupe.data._samples import fashion_samples as fashion_samples
from dataloupe.data._text import ALPHABET as ALPHABET
from dataloupe.data._text import jargon as jargon
