"""Fingerprints of arrays, of code and of objects: what a result was made by, as plain JSON."""

from dataloupe._fingerprints._arrays import array_digest as array_digest
from dataloupe._fingerprints._arrays import content_digest as content_digest
from dataloupe._fingerprints._objects import attributes_read as attributes_read
from dataloupe._fingerprints._objects import canonical as canonical
from dataloupe._fingerprints._objects import module_settings as module_settings
from dataloupe._fingerprints._objects import module_structure as module_structure
