"""Every method keeps the attributor's contract."""

from dataloupe.core import Subsets
from dataloupe.methods import (
    TRAK,
    Datamodel,
    FeatureSimilarity,
    GradientSimilarity,
    Influence,
    RandomScores,
)
from dataloupe.testing import AttributorContract


class TestRidgeDatamodel(AttributorContract):
    def attributor(self):
        return Datamodel(Subsets(n=60, count=300))


class TestDatamodelTowardTRAK(AttributorContract):
    def attributor(self):
        return Datamodel(Subsets(n=60, count=300), prior=TRAK(models=3, ridge=0.01))


class TestLassoDatamodel(AttributorContract):
    def attributor(self):
        return Datamodel(Subsets(n=60, count=300), estimator="lasso")


class TestOLSDatamodel(AttributorContract):
    def attributor(self):
        return Datamodel(Subsets(n=60, count=300), estimator="ols")


class TestMeansDatamodel(AttributorContract):
    def attributor(self):
        return Datamodel(Subsets(n=60, count=300), estimator="means")


class TestTRAK(AttributorContract):
    def attributor(self):
        return TRAK(models=3, ridge=0.01)


class TestInfluence(AttributorContract):
    def attributor(self):
        return Influence(models=3, damping=0.01, curved=False)


class TestGradientDot(AttributorContract):
    def attributor(self):
        return GradientSimilarity()


class TestGradientCosine(AttributorContract):
    def attributor(self):
        return GradientSimilarity(kind="cosine")


class TestFeatureSimilarity(AttributorContract):
    least = None  # a control: it need not predict anything

    def attributor(self):
        return FeatureSimilarity()


class TestRandomScores(AttributorContract):
    least = None

    def attributor(self):
        return RandomScores()
