"""Closed-form oracles and contract suites, public: a new method, output, learner or store is judged by them."""

from dataloupe.testing._attributor_contract import AttributorContract as AttributorContract
from dataloupe.testing._attributor_contract import OpenRidge as OpenRidge
from dataloupe.testing._attributor_contract import RidgeSource as RidgeSource
from dataloupe.testing._attributor_contract import ShutRidge as ShutRidge
from dataloupe.testing._attributor_contract import ridge_data as ridge_data
from dataloupe.testing._attributor_contract import ridge_truth as ridge_truth
from dataloupe.testing._contracts import LearnerContract as LearnerContract
from dataloupe.testing._contracts import OutputContract as OutputContract
from dataloupe.testing._contracts import blobs as blobs
from dataloupe.testing._oracles import RidgeLearner as RidgeLearner
from dataloupe.testing._planted import spiked as spiked
from dataloupe.testing._runner_contract import RunnerContract as RunnerContract
from dataloupe.testing._store_contract import StoreContract as StoreContract
