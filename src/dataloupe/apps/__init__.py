"""Applications: from attributions to decisions that retraining can test."""

from dataloupe.apps._groups import GroupInfluences as GroupInfluences
from dataloupe.apps._groups import group_influences as group_influences
from dataloupe.apps._groups import group_subsets as group_subsets
from dataloupe.apps._groups import pool_targets as pool_targets
from dataloupe.apps._linearity import LinearResidual as LinearResidual
from dataloupe.apps._linearity import correlated_subsets as correlated_subsets
from dataloupe.apps._linearity import linear_residual as linear_residual
from dataloupe.apps._sample_size import Spread as Spread
from dataloupe.apps._sample_size import detectable as detectable
from dataloupe.apps._sample_size import detection_power as detection_power
from dataloupe.apps._sample_size import models_needed as models_needed
from dataloupe.apps._sample_size import sigma_of as sigma_of
from dataloupe.apps._support import check_support as check_support
from dataloupe.apps._support import support as support
from dataloupe.apps._support_found import Support as Support
from dataloupe.apps._support_found import SupportCase as SupportCase
from dataloupe.apps._support_found import SupportCurve as SupportCurve
from dataloupe.apps._support_search import relabel_support as relabel_support
from dataloupe.apps._support_search import smallest_support as smallest_support
from dataloupe.apps._what_if import WhatIf as WhatIf
from dataloupe.apps._what_if import check_what_if as check_what_if
from dataloupe.apps._what_if import what_if as what_if
