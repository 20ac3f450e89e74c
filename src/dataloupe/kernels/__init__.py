"""Inner loops. Each has a plain reference of the same name in ``_reference``, and a parity test."""

from dataloupe.kernels._bucket_sum import bucket_add as bucket_add
from dataloupe.kernels._bucket_sum import bucket_add_reference as bucket_add_reference
from dataloupe.kernels._counts import co_occurrences as co_occurrences
from dataloupe.kernels._counts import pack_columns as pack_columns
from dataloupe.kernels._descent import Gram as Gram
from dataloupe.kernels._descent import Held as Held
from dataloupe.kernels._descent import Side as Side
from dataloupe.kernels._descent import Trace as Trace
from dataloupe.kernels._descent import descend as descend
from dataloupe.kernels._descent import room as room
from dataloupe.kernels._fold import fold_add as fold_add
from dataloupe.kernels._fold import fold_add_reference as fold_add_reference
from dataloupe.kernels._on_gpu import on_gpu as on_gpu
from dataloupe.kernels._ranks import dense_ranks as dense_ranks
from dataloupe.kernels._ranks import kendall_tau as kendall_tau
from dataloupe.kernels._ranks import rank_correlations as rank_correlations
