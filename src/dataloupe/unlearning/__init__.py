"""Unlearning: methods that make a model forget rows, and what they are told (a context)."""

from dataloupe.unlearning._audit import audit as audit
from dataloupe.unlearning._audit import ensembles_for as ensembles_for
from dataloupe.unlearning._context import Context as Context
from dataloupe.unlearning._context import Ledger as Ledger
from dataloupe.unlearning._context import Unlearner as Unlearner
from dataloupe.unlearning._matching import DMM as DMM
from dataloupe.unlearning._matching import DMDirect as DMDirect
from dataloupe.unlearning._matching import Mix as Mix
from dataloupe.unlearning._matching import OracleMatching as OracleMatching
from dataloupe.unlearning._pick import pick_ends as pick_ends
from dataloupe.unlearning._pick import pick_like as pick_like
from dataloupe.unlearning._pick import pick_random as pick_random
from dataloupe.unlearning._pick import pick_where as pick_where
from dataloupe.unlearning._predictors import Attributed as Attributed
from dataloupe.unlearning._predictors import Gradients as Gradients
from dataloupe.unlearning._predictors import Predictor as Predictor
from dataloupe.unlearning._predictors import Regression as Regression
from dataloupe.unlearning._receipt import Gates as Gates
from dataloupe.unlearning._receipt import MethodCost as MethodCost
from dataloupe.unlearning._receipt import Receipt as Receipt
from dataloupe.unlearning._rows import Predictions as Predictions
from dataloupe.unlearning._rows import everything as everything
from dataloupe.unlearning._unlearn import Unlearned as Unlearned
from dataloupe.unlearning._unlearn import rows_digest as rows_digest
from dataloupe.unlearning._unlearn import unlearn as unlearn
