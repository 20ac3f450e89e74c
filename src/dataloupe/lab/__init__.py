"""The lab: the only way anything gets computed."""

from dataloupe.lab._lab import Lab as Lab
