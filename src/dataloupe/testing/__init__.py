"""Closed-form oracles and contract suites, public: a new method, output, learner or store is judged by them."""

from dataloupe.testing._oracles import RidgeLearner as RidgeLearner
