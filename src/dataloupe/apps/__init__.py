"""Applications: from attributions to decisions that retraining can test."""

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
