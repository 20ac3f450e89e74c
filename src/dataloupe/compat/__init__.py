"""Doors for scripts that were written for other libraries: one import changes, the engine is ours."""

from dataloupe.compat._projection import NoOpProjector as NoOpProjector
from dataloupe.compat._tasks import AbstractModelOutput as AbstractModelOutput
from dataloupe.compat._traker import TRAKer as TRAKer
