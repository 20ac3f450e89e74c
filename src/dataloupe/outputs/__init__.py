"""Which number of a model we look at: margin, hard margin, loss, log-probability, logits, regression value."""

from dataloupe.outputs._classification import HardMargin as HardMargin
from dataloupe.outputs._classification import Logits as Logits
from dataloupe.outputs._classification import LogProb as LogProb
from dataloupe.outputs._classification import Loss as Loss
from dataloupe.outputs._classification import Margin as Margin
from dataloupe.outputs._classification import hard_margin as hard_margin
from dataloupe.outputs._classification import log_prob as log_prob
from dataloupe.outputs._classification import loss as loss
from dataloupe.outputs._classification import margin as margin
from dataloupe.outputs._regression import Value as Value
from dataloupe.outputs._regression import value as value
