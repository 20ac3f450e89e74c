"""Arrays in, arrays and a certificate of the numerics out: no files, no processes, no models."""

from dataloupe.solve._centred import Centred as Centred
from dataloupe.solve._fista import Fista as Fista
from dataloupe.solve._given import Selection as Selection
from dataloupe.solve._lasso import Engine as Engine
from dataloupe.solve._lasso import Lasso as Lasso
from dataloupe.solve._lasso import Path as Path
from dataloupe.solve._lasso import lasso as lasso
from dataloupe.solve._means import Means as Means
from dataloupe.solve._means import means as means
from dataloupe.solve._ols import LeastSquares as LeastSquares
from dataloupe.solve._ols import least_squares as least_squares
from dataloupe.solve._ridge import PENALTIES as PENALTIES
from dataloupe.solve._ridge import Ridge as Ridge
from dataloupe.solve._ridge import ridge as ridge
from dataloupe.solve._ridge_path import ridge_path as ridge_path
from dataloupe.solve._sketch import DenseSketch as DenseSketch
from dataloupe.solve._sketch import Exact as Exact
from dataloupe.solve._sketch import HashSketch as HashSketch
from dataloupe.solve._sparse_pca import SparsePCA as SparsePCA
from dataloupe.solve._sparse_pca import sparse_pca_support as sparse_pca_support
from dataloupe.solve._stats import SuffStats as SuffStats
from dataloupe.solve._stats import blocks_of as blocks_of
from dataloupe.solve._stats import folds_of as folds_of
from dataloupe.solve._whitening import Whitened as Whitened
from dataloupe.solve._whitening import check_penalty as check_penalty
from dataloupe.solve._whitening import whitened as whitened
