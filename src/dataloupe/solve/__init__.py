"""Arrays in, arrays and a certificate of the numerics out: no files, no processes, no models."""

from dataloupe.solve._lasso import Lasso as Lasso
from dataloupe.solve._lasso import lasso as lasso
from dataloupe.solve._means import Means as Means
from dataloupe.solve._means import means as means
from dataloupe.solve._prior import SIMILARITIES as SIMILARITIES
from dataloupe.solve._prior import PriorRidge as PriorRidge
from dataloupe.solve._prior import prior_ridge as prior_ridge
from dataloupe.solve._ridge import PENALTIES as PENALTIES
from dataloupe.solve._ridge import Ridge as Ridge
from dataloupe.solve._ridge import ridge as ridge
from dataloupe.solve._sketch import DenseSketch as DenseSketch
from dataloupe.solve._sketch import Exact as Exact
from dataloupe.solve._sketch import HashSketch as HashSketch
from dataloupe.solve._whitening import Whitened as Whitened
from dataloupe.solve._whitening import check_penalty as check_penalty
from dataloupe.solve._whitening import whitened as whitened
