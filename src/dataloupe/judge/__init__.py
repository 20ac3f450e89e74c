"""Judges: how well an attribution predicts what retraining does, each number with its interval."""

from dataloupe.judge._audit import Audit as Audit
from dataloupe.judge._audit import audit_outputs as audit_outputs
from dataloupe.judge._bootstrap import Bootstrap as Bootstrap
from dataloupe.judge._bootstrap import Interval as Interval
from dataloupe.judge._calibration import Calibration as Calibration
from dataloupe.judge._calibration import calibration as calibration
from dataloupe.judge._ceiling import Ceiling as Ceiling
from dataloupe.judge._ceiling import ceiling as ceiling
from dataloupe.judge._crossed import crossed_difference as crossed_difference
from dataloupe.judge._divergences import Estimator as Estimator
from dataloupe.judge._fidelity import Fidelity as Fidelity
from dataloupe.judge._fidelity import fidelity as fidelity
from dataloupe.judge._klom import Floor as Floor
from dataloupe.judge._klom import KLoM as KLoM
from dataloupe.judge._klom import Levels as Levels
from dataloupe.judge._klom import halves as halves
from dataloupe.judge._klom import klom as klom
from dataloupe.judge._lds import LDS as LDS
from dataloupe.judge._lds import Control as Control
from dataloupe.judge._lds import lds as lds
from dataloupe.judge._removal import RemovalTest as RemovalTest
from dataloupe.judge._removal import crossed_mean as crossed_mean
from dataloupe.judge._removal import removal as removal
from dataloupe.judge._spearman import spearman as spearman
from dataloupe.judge._ulira import ULiRA as ULiRA
from dataloupe.judge._ulira import ulira as ulira
