"""The command line: one file a verb."""

from dataloupe.cli._main import main as main
