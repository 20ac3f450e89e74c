"""Results of other programs, and results for other programs: outcomes and weights in, attributions out."""

from dataloupe.formats._export import export as export
from dataloupe.formats._export import read_attribution as read_attribution
from dataloupe.formats._madry import read_outcomes as read_outcomes
from dataloupe.formats._madry import read_store as read_store
from dataloupe.formats._sparse import from_sparse as from_sparse
from dataloupe.formats._sparse import to_sparse as to_sparse
from dataloupe.formats._weights import read_weights as read_weights
