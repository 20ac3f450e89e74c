"""Judges: how well an attribution predicts what retraining does, each number with its interval."""

from dataloupe.judge._bootstrap import Bootstrap as Bootstrap
from dataloupe.judge._bootstrap import Interval as Interval
from dataloupe.judge._calibration import Calibration as Calibration
from dataloupe.judge._calibration import calibration as calibration
from dataloupe.judge._ceiling import Ceiling as Ceiling
from dataloupe.judge._ceiling import ceiling as ceiling
from dataloupe.judge._crossed import crossed_difference as crossed_difference
from dataloupe.judge._fidelity import Fidelity as Fidelity
from dataloupe.judge._fidelity import fidelity as fidelity
from dataloupe.judge._lds import LDS as LDS
from dataloupe.judge._lds import Control as Control
from dataloupe.judge._lds import lds as lds
from dataloupe.judge._removal import RemovalTest as RemovalTest
from dataloupe.judge._removal import crossed_mean as crossed_mean
from dataloupe.judge._removal import removal as removal
from dataloupe.judge._spearman import spearman as spearman
