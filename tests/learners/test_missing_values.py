"""NaN is a missing value to some learners and refused for all others, before any work."""

import numpy as np
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn
from xgboost import XGBClassifier

from dataloupe import outputs
from dataloupe._errors import BadInput
from dataloupe._identity import identity
from dataloupe.core import Examples, MemoryLab, Question, Subsets
from dataloupe.learners import SGD, Checkpoints, SklearnLearner
from dataloupe.learners._missing import missing_after
from dataloupe.methods import InputSimilarity
from dataloupe.outputs import PairMargin


def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5)).astype("f4")
    y = (x[:, 0] > 0).astype(int)
    x[rng.random(x.shape) < 0.1] = np.nan
    return x, y


def asked(learner):
    x, y = table()
    return Question(learner, Examples(x[:60], labels=y[:60]), Examples(x[60:], labels=y[60:]), outputs.margin)


@pytest.mark.parametrize(
    "estimator",
    [
        HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=3),
        XGBClassifier(n_estimators=5),
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
    ],
    ids=["boosting", "xgboost", "imputer"],
)
def test_outcomes_of_tables_with_nan_are_those_of_refits_by_hand(estimator):
    x, y = table()
    subsets = Subsets(n=60, count=3)
    found = MemoryLab().outcomes(asked(SklearnLearner(estimator)), subsets).values[:, 0]
    for mask, margins in zip(subsets.masks(), found, strict=True):
        logs = np.log(estimator.fit(x[:60][mask], y[:60][mask]).predict_proba(x[60:]).clip(1e-6))
        by_hand = (logs[:, 1] - logs[:, 0]) * np.where(y[60:] == 1, 1, -1)
        np.testing.assert_allclose(margins, by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "after"),
    [
        (HistGradientBoostingRegressor(), "passed on"),
        (RandomForestClassifier(), "passed on"),
        (LogisticRegression(), "refused"),
        (make_pipeline(StandardScaler(), HistGradientBoostingClassifier()), "passed on"),
        (make_pipeline(StandardScaler(), Ridge()), "refused"),
        (make_pipeline("passthrough", SimpleImputer(), Ridge()), "filled"),
        (make_pipeline(SimpleImputer(missing_values=-9), Ridge()), "refused"),
        (make_pipeline(make_union(SimpleImputer(), StandardScaler()), Ridge()), "refused"),
        (make_pipeline(make_union(SimpleImputer(), SimpleImputer(strategy="median")), Ridge()), "filled"),
        (make_pipeline(ColumnTransformer([("a", SimpleImputer(), [0])]), Ridge()), "filled"),
        (
            make_pipeline(ColumnTransformer([("a", SimpleImputer(), [0])], remainder="passthrough"), Ridge()),
            "refused",
        ),
        (GridSearchCV(make_pipeline(SimpleImputer(), Ridge()), {}), "filled"),
    ],
)
def test_what_becomes_of_nan_is_read_from_the_tags(estimator, after):
    assert missing_after(estimator) == after
    assert SklearnLearner(estimator).takes_nan == (after != "refused")


def test_what_one_knows_of_an_estimator_goes_before_its_tags():
    filling = make_pipeline(FunctionTransformer(np.nan_to_num), LogisticRegression())
    with pytest.raises(BadInput, match="dl-105.*allow_nan=True"):
        asked(SklearnLearner(filling))
    learner = SklearnLearner(filling, allow_nan=True)
    assert MemoryLab().outcomes(asked(learner), Subsets(n=60, count=2)).values.shape == (2, 1, 20)
    assert identity(learner) == identity(SklearnLearner(filling))
    with pytest.raises(BadInput, match="dl-105"):
        asked(SklearnLearner(HistGradientBoostingClassifier(), allow_nan=False))


class Mine:
    removal, takes_nan = "repack", True

    def train(self, data, weights, *, seed):
        raise NotImplementedError


def test_nan_is_refused_for_learners_that_do_not_say_they_take_it():
    x, y = table()
    first = int(np.isnan(x[:60]).any(1).argmax())
    for learner in (
        SGD(lambda: nn.Linear(5, 2)),
        Checkpoints(nn.Linear(5, 2), nn.Linear(5, 2).state_dict()),
        SklearnLearner(LogisticRegression()),
    ):
        with pytest.raises(BadInput, match=f"dl-105.*{type(learner).__name__}.*NaN.*row {first}.*imputer"):
            asked(learner)
    clean, missing = Examples(np.nan_to_num(x), labels=y), Examples(x, labels=y)
    with pytest.raises(BadInput, match="dl-105"):
        Question(SGD(lambda: nn.Linear(5, 2)), clean, missing, outputs.margin)
    assert asked(Mine()).n == 60
    with pytest.raises(BadInput, match="dl-105.*LogisticRegression.*imputer"):
        SklearnLearner(LogisticRegression()).train(missing, torch.ones(80), seed=0)


def test_nan_is_refused_where_rows_are_compared():
    question = asked(SklearnLearner(HistGradientBoostingClassifier()))
    with pytest.raises(BadInput, match="dl-105.*similarity"):
        InputSimilarity().attribute(question, MemoryLab())
    with pytest.raises(BadInput, match="dl-105.*negatives"):
        PairMargin(question.train, 3)


@pytest.mark.usefixtures("unchecked")
def test_a_question_is_about_examples():
    data = Examples(torch.eye(4), labels=torch.tensor([0, 1, 0, 1]))
    for train, targets, said in (
        (data, data.labels, "targets.*Tensor.*not a column"),
        ([1, 2], data, "train.*list"),
    ):
        with pytest.raises(BadInput, match=f"dl-135.*{said}"):
            Question(SklearnLearner.ridge_classifier(), train, targets, outputs.margin)
