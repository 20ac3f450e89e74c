"""Which number of a model we look at: of classifiers, regressions, language models, and models of pairs."""

from dataloupe.outputs._classification import HardMargin as HardMargin
from dataloupe.outputs._classification import Logits as Logits
from dataloupe.outputs._classification import LogProb as LogProb
from dataloupe.outputs._classification import Loss as Loss
from dataloupe.outputs._classification import Margin as Margin
from dataloupe.outputs._classification import hard_margin as hard_margin
from dataloupe.outputs._classification import log_prob as log_prob
from dataloupe.outputs._classification import loss as loss
from dataloupe.outputs._classification import margin as margin
from dataloupe.outputs._contrastive import PairLoss as PairLoss
from dataloupe.outputs._contrastive import PairMargin as PairMargin
from dataloupe.outputs._language import SequenceLogProb as SequenceLogProb
from dataloupe.outputs._language import SequenceLoss as SequenceLoss
from dataloupe.outputs._language import SequenceMargin as SequenceMargin
from dataloupe.outputs._language import TokenLogProb as TokenLogProb
from dataloupe.outputs._language import TokenLoss as TokenLoss
from dataloupe.outputs._language import TokenMargin as TokenMargin
from dataloupe.outputs._language import sequence_log_prob as sequence_log_prob
from dataloupe.outputs._language import sequence_loss as sequence_loss
from dataloupe.outputs._language import sequence_margin as sequence_margin
from dataloupe.outputs._language import token_log_prob as token_log_prob
from dataloupe.outputs._language import token_loss as token_loss
from dataloupe.outputs._language import token_margin as token_margin
from dataloupe.outputs._regression import Value as Value
from dataloupe.outputs._regression import value as value
