"""Applications: from attributions to decisions that retraining can test."""

from dataloupe.apps._what_if import WhatIf as WhatIf
from dataloupe.apps._what_if import what_if as what_if
