"""Changes of inputs for counterfactual tests: of images, of texts, of tables."""

from dataloupe.core import BoundedTransform as BoundedTransform
from dataloupe.core import Transform as Transform
from dataloupe.transforms._images import Blend as Blend
from dataloupe.transforms._images import Blur as Blur
from dataloupe.transforms._images import Colour as Colour
from dataloupe.transforms._images import Occlude as Occlude
from dataloupe.transforms._images import Patch as Patch
from dataloupe.transforms._tables import SetColumn as SetColumn
from dataloupe.transforms._tables import ShiftColumn as ShiftColumn
from dataloupe.transforms._text import InsertToken as InsertToken
from dataloupe.transforms._text import ReplaceToken as ReplaceToken
