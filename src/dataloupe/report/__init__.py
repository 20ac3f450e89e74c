"""Attributions, judgements and answers as one HTML file that opens anywhere, offline."""

from dataloupe.report._page import report as report
