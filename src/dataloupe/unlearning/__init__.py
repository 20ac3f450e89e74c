"""Unlearning: methods that make a model forget rows, and what they are told (a context)."""

from dataloupe.unlearning._context import Context as Context
from dataloupe.unlearning._context import Ledger as Ledger
from dataloupe.unlearning._context import Unlearner as Unlearner
from dataloupe.unlearning._rows import Predictions as Predictions
from dataloupe.unlearning._rows import everything as everything
from dataloupe.unlearning._unlearn import Unlearned as Unlearned
from dataloupe.unlearning._unlearn import rows_digest as rows_digest
from dataloupe.unlearning._unlearn import unlearn as unlearn
