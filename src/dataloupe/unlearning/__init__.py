"""Unlearning: methods that make a model forget rows, and what they are told (a context)."""

from dataloupe.unlearning._context import Context as Context
from dataloupe.unlearning._context import Ledger as Ledger
from dataloupe.unlearning._context import Unlearner as Unlearner
from dataloupe.unlearning._matching import DMM as DMM
from dataloupe.unlearning._matching import DMDirect as DMDirect
from dataloupe.unlearning._matching import Mix as Mix
from dataloupe.unlearning._matching import OracleMatching as OracleMatching
from dataloupe.unlearning._predictors import Attributed as Attributed
from dataloupe.unlearning._predictors import Gradients as Gradients
from dataloupe.unlearning._predictors import Predictor as Predictor
from dataloupe.unlearning._predictors import Regression as Regression
from dataloupe.unlearning._rows import Predictions as Predictions
from dataloupe.unlearning._rows import everything as everything
from dataloupe.unlearning._unlearn import Unlearned as Unlearned
from dataloupe.unlearning._unlearn import rows_digest as rows_digest
from dataloupe.unlearning._unlearn import unlearn as unlearn
