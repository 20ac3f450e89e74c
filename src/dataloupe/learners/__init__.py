"""Learning algorithms: torch modules by SGD, any scikit-learn estimator, models trained elsewhere."""

from dataloupe.learners._augment import Augment as Augment
from dataloupe.learners._augment import Chain as Chain
from dataloupe.learners._augment import Flip as Flip
from dataloupe.learners._augment import Shift as Shift
from dataloupe.learners._checkpoints import Checkpoints as Checkpoints
from dataloupe.learners._sgd import SGD as SGD
from dataloupe.learners._sklearn import SklearnLearner as SklearnLearner
