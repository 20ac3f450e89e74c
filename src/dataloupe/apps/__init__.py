"""Applications: from attributions to decisions that retraining can test."""

from dataloupe.apps._direction import DirectionRemoval as DirectionRemoval
from dataloupe.apps._direction import GroupEffect as GroupEffect
from dataloupe.apps._direction import removal_of_direction as removal_of_direction
from dataloupe.apps._leaks import Leaks as Leaks
from dataloupe.apps._leaks import leaks as leaks
from dataloupe.apps._mislabels import Mislabels as Mislabels
from dataloupe.apps._mislabels import mislabels as mislabels
from dataloupe.apps._space import Clusters as Clusters
from dataloupe.apps._space import Neighbours as Neighbours
from dataloupe.apps._space import Principal as Principal
from dataloupe.apps._space import clusters as clusters
from dataloupe.apps._space import neighbours as neighbours
from dataloupe.apps._space import principal as principal
from dataloupe.apps._what_if import WhatIf as WhatIf
from dataloupe.apps._what_if import check_what_if as check_what_if
from dataloupe.apps._what_if import what_if as what_if
