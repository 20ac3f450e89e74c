"""Applications: from attributions to decisions that retraining can test."""

from dataloupe.apps._what_if import WhatIf as WhatIf
from dataloupe.apps._what_if import check_what_if as check_what_if
from dataloupe.apps._what_if import what_if as what_if
