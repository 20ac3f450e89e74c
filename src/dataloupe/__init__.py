"""Predictive data attribution: ask any training run a what-if question about its data, and have it verified.

Six words are enough to begin: a ``Question`` (learner, training data, targets, output), ``Subsets`` (which
retrainings), ``Outcomes`` (what they did), an ``Attribution`` (what predicts them), an attributor (a method such
as ``TRAK`` or ``Datamodel``) and a ``Lab`` (where everything is computed and kept).
"""

from dataloupe import data as data
from dataloupe import learners as learners
from dataloupe import outputs as outputs
from dataloupe import testing as testing
from dataloupe._errors import BadInput as BadInput
from dataloupe._errors import CapabilityError as CapabilityError
from dataloupe._errors import DataloupeError as DataloupeError
from dataloupe._errors import StoreError as StoreError
from dataloupe._errors import TrainingError as TrainingError
from dataloupe._errors import UnitsError as UnitsError
from dataloupe.apps import Clusters as Clusters
from dataloupe.apps import DirectionRemoval as DirectionRemoval
from dataloupe.apps import Leaks as Leaks
from dataloupe.apps import Mislabels as Mislabels
from dataloupe.apps import Neighbours as Neighbours
from dataloupe.apps import Principal as Principal
from dataloupe.apps import WhatIf as WhatIf
from dataloupe.apps import clusters as clusters
from dataloupe.apps import leaks as leaks
from dataloupe.apps import mislabels as mislabels
from dataloupe.apps import neighbours as neighbours
from dataloupe.apps import principal as principal
from dataloupe.apps import removal_of_direction as removal_of_direction
from dataloupe.apps import what_if as what_if
from dataloupe.core import AbstractAttributor as AbstractAttributor
from dataloupe.core import Attribution as Attribution
from dataloupe.core import DenseAttribution as DenseAttribution
from dataloupe.core import Examples as Examples
from dataloupe.core import Info as Info
from dataloupe.core import Learner as Learner
from dataloupe.core import MemoryLab as MemoryLab
from dataloupe.core import Model as Model
from dataloupe.core import Outcomes as Outcomes
from dataloupe.core import Output as Output
from dataloupe.core import Question as Question
from dataloupe.core import SteppedLearner as SteppedLearner
from dataloupe.core import Subsets as Subsets
from dataloupe.core import TorchModel as TorchModel
from dataloupe.judge import LDS as LDS
from dataloupe.judge import Calibration as Calibration
from dataloupe.judge import RemovalTest as RemovalTest
from dataloupe.judge import calibration as calibration
from dataloupe.judge import ceiling as ceiling
from dataloupe.judge import lds as lds
from dataloupe.judge import removal as removal
from dataloupe.lab import Lab as Lab
from dataloupe.learners import SGD as SGD
from dataloupe.learners import Checkpoints as Checkpoints
from dataloupe.learners import SklearnLearner as SklearnLearner
from dataloupe.methods import TRAK as TRAK
from dataloupe.methods import Datamodel as Datamodel
from dataloupe.methods import FeatureSimilarity as FeatureSimilarity
from dataloupe.methods import GradientSimilarity as GradientSimilarity
from dataloupe.methods import RandomScores as RandomScores
from dataloupe.methods import calibrate as calibrate
from dataloupe.report import report as report
