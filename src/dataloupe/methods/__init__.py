"""Methods: from a question to an attribution."""

from dataloupe.methods._amount import second_size as second_size
from dataloupe.methods._baselines import FeatureSimilarity as FeatureSimilarity
from dataloupe.methods._baselines import GradientSimilarity as GradientSimilarity
from dataloupe.methods._baselines import RandomScores as RandomScores
from dataloupe.methods._by_proxy import ByProxy as ByProxy
from dataloupe.methods._calibrate import calibrate as calibrate
from dataloupe.methods._datamodel import Datamodel as Datamodel
from dataloupe.methods._influence import Influence as Influence
from dataloupe.methods._input_similarity import InputSimilarity as InputSimilarity
from dataloupe.methods._removal_law import calibration_removals as calibration_removals
from dataloupe.methods._row_controls import GradientNorm as GradientNorm
from dataloupe.methods._row_controls import TrainingLoss as TrainingLoss
from dataloupe.methods._text_controls import BM25 as BM25
from dataloupe.methods._text_controls import SequenceLength as SequenceLength
from dataloupe.methods._trak import TRAK as TRAK
