"""How models are trained and differentiated: interchangeable back ends, one answer."""

from dataloupe.engine._choose import Choice as Choice
from dataloupe.engine._choose import choose as choose
from dataloupe.engine._choose import rates as rates
from dataloupe.engine._compute import HOST as HOST
from dataloupe.engine._compute import Compute as Compute
from dataloupe.engine._compute import Precision as Precision
from dataloupe.engine._finetune import finetune as finetune
from dataloupe.engine._gradients import Featuriser as Featuriser
from dataloupe.engine._gradients import both_sides as both_sides
from dataloupe.engine._gradients import embeddings as embeddings
from dataloupe.engine._gradients import features as features
from dataloupe.engine._gradients import gradients as gradients
from dataloupe.engine._kinds import takes_steps as takes_steps
from dataloupe.engine._pass import Pass as Pass
from dataloupe.engine._pass import pairs_of as pairs_of
from dataloupe.engine._stack import measure_stack as measure_stack
from dataloupe.engine._stack import train_stack as train_stack
from dataloupe.engine._train import Backend as Backend
from dataloupe.engine._train import Unit as Unit
from dataloupe.engine._train import Work as Work
from dataloupe.engine._train import environment as environment
from dataloupe.engine._train import rebuilt as rebuilt
from dataloupe.engine._train import run_unit as run_unit
from dataloupe.engine._train import threads as threads
