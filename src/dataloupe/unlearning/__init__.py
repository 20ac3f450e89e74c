"""Unlearning: methods that make a model forget rows, and what they are told (a context)."""

from dataloupe.unlearning._context import Context as Context
from dataloupe.unlearning._context import Ledger as Ledger
from dataloupe.unlearning._context import Unlearner as Unlearner
from dataloupe.unlearning._descent import AscentDescent as AscentDescent
from dataloupe.unlearning._descent import GradientAscent as GradientAscent
from dataloupe.unlearning._descent import GradientDescent as GradientDescent
from dataloupe.unlearning._descent import L1Sparse as L1Sparse
from dataloupe.unlearning._descent import NegGradPlus as NegGradPlus
from dataloupe.unlearning._layers import CFk as CFk
from dataloupe.unlearning._layers import EUk as EUk
from dataloupe.unlearning._newton import NewtonStep as NewtonStep
from dataloupe.unlearning._plain import DoNothing as DoNothing
from dataloupe.unlearning._plain import Retrain as Retrain
from dataloupe.unlearning._rows import Predictions as Predictions
from dataloupe.unlearning._rows import everything as everything
from dataloupe.unlearning._scrub import SCRUB as SCRUB
from dataloupe.unlearning._unlearn import Unlearned as Unlearned
from dataloupe.unlearning._unlearn import rows_digest as rows_digest
from dataloupe.unlearning._unlearn import unlearn as unlearn
