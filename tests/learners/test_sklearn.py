"""scikit-learn estimators as learners: their contract, what they answer, and what is refused."""

import tempfile

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import DBSCAN
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeRegressor
from xgboost import XGBClassifier

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import identity
from dataloupe.core import Examples, MemoryLab, Question, Subsets
from dataloupe.lab import Lab
from dataloupe.learners import SklearnLearner
from dataloupe.testing import LearnerContract, blobs, ridge_data


class TestRidgeClassifier(LearnerContract):
    seeded = False

    def learner(self):
        return SklearnLearner.ridge_classifier()


class TestLogistic(LearnerContract):
    seeded = False

    def learner(self):
        return SklearnLearner.logistic()


class TestForest(LearnerContract):
    seeded = True

    def learner(self):
        return SklearnLearner(RandomForestClassifier(n_estimators=5))


class TestPipelineWithAScaler(LearnerContract):
    """The scaler too must see kept rows only, and the nested random_state must be keyed."""

    seeded = True

    def learner(self):
        return SklearnLearner(make_pipeline(StandardScaler(), SGDClassifier(max_iter=20, tol=None)))


class TestRegressor(LearnerContract):
    seeded = False

    def learner(self):
        return SklearnLearner(Ridge(), fit="weights")

    def data(self):
        return ridge_data(48, seed=1)


def ones(data):
    return torch.ones(len(data))


# --- what a model answers ---


def test_binary_decisions_become_two_columns_whose_margin_is_the_decision():
    data = blobs(40, classes=2)
    model = SklearnLearner.logistic().train(data, ones(data), seed=0)
    plain = LogisticRegression(C=1.0, max_iter=1000).fit(data.inputs.numpy(), data.labels.numpy())
    margin = outputs.margin.value(model, data.take(np.arange(40))).numpy()
    decided = plain.decision_function(data.inputs.numpy())
    np.testing.assert_allclose(margin, np.where(data.labels.numpy() == 1, decided, -decided), rtol=1e-6)


def test_the_margin_of_a_logistic_regression_is_its_log_odds():
    data = blobs()
    model = SklearnLearner.logistic(penalty=2.0).train(data, ones(data), seed=0)
    plain = LogisticRegression(C=0.5, max_iter=1000).fit(data.inputs.numpy(), data.labels.numpy())
    p = plain.predict_proba(data.inputs.numpy())[np.arange(48), data.labels.numpy()]
    margin = outputs.margin.value(model, data.take(np.arange(48))).numpy()
    np.testing.assert_allclose(margin, np.log(p / (1 - p)), rtol=1e-4, atol=1e-6)


def test_probabilities_are_logged_and_floored():
    data = blobs()
    learner = SklearnLearner(KNeighborsClassifier(3), floor=1e-3)
    found = learner.train(data, ones(data), seed=0).predict(data.inputs).numpy()
    plain = KNeighborsClassifier(3).fit(data.inputs.numpy(), data.labels.numpy())
    p = plain.predict_proba(data.inputs.numpy())
    assert (p == 0).any()
    np.testing.assert_allclose(found, np.log(np.maximum(p, 1e-3)))


@pytest.mark.parametrize("estimator", [LogisticRegression(max_iter=500), GaussianNB()])
def test_a_class_that_is_left_out_keeps_its_column_at_the_floor(estimator):
    data = blobs()
    weights = (data.labels != 1).float()
    model = SklearnLearner(estimator, floor=1e-4).train(data, weights, seed=0)
    found = model.predict(data.inputs)
    assert found.shape == (48, 3)
    np.testing.assert_allclose(found.softmax(1)[:, 1], 1e-4, rtol=0.01)
    kept = data.labels != 1
    assert (found.argmax(1)[kept] == data.labels[kept]).float().mean() > 0.9


def rare_class():
    """80 rows of the classes 0 and 2, and a single one of class 1."""
    labels = torch.zeros(80, dtype=torch.int64)
    labels[:30], labels[0] = 2, 1
    return Examples(torch.from_numpy(np.random.default_rng(0).normal(size=(80, 5)).astype("f4")), labels)


class Holeless(LogisticRegression):
    """Wants its classes numbered without a hole, and counts what it was asked."""

    def fit(self, X, y, sample_weight=None):
        if len(np.unique(y)) != y.max() + 1:
            raise ValueError("Invalid classes: expected [0 1]")
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize(
    "estimator", [XGBClassifier(n_estimators=5), make_pipeline(StandardScaler(), Holeless())]
)
def test_classes_without_a_hole_are_numbered_for_those_that_want_them_so(estimator):
    data = rare_class()
    question = Question(SklearnLearner(estimator), data[:60], data[60:], outputs.margin)
    assert np.isfinite(MemoryLab().outcomes(question, Subsets(n=60, count=5)).values).all()
    weights = (data.labels != 1).float()
    model = SklearnLearner(estimator, floor=1e-4, fit="subset").train(data, weights, seed=0)
    found = model.predict(data.inputs).softmax(1).numpy()
    kept = weights.numpy() == 1
    plain = clone(estimator).fit(data.inputs.numpy()[kept], data.labels.numpy()[kept] // 2)
    np.testing.assert_allclose(found[:, 1], 1e-4, rtol=0.01)
    np.testing.assert_allclose(found[:, [0, 2]], plain.predict_proba(data.inputs.numpy()), atol=1e-3)
    answered = SklearnLearner(estimator, predict="value").train(data, weights, seed=0).predict(data.inputs)
    assert set(answered.flatten().tolist()) == {0.0, 2.0}


def test_a_setting_by_class_number_is_never_read_as_one_of_another_class():
    data, estimator = rare_class(), Holeless(class_weight={0: 1.0, 1: 9.0, 2: 2.0})
    with pytest.raises(ValueError, match="Invalid classes"):
        SklearnLearner(estimator).train(data, (data.labels != 1).float(), seed=0)


def test_an_error_of_another_kind_is_not_tried_again():
    class Broken(LogisticRegression):
        def fit(self, *_, **__):
            raise ValueError("singular matrix")

    data = rare_class()
    with pytest.raises(ValueError, match="singular"):
        SklearnLearner(Broken()).train(data, (data.labels != 1).float(), seed=0)


def test_classes_counts_columns_that_no_row_has():
    data = blobs(classes=2)
    model = SklearnLearner(LogisticRegression(), classes=5).train(data, ones(data), seed=0)
    assert model.predict(data.inputs).shape == (48, 5)


def test_a_regressor_gives_one_column_a_label_column():
    data = ridge_data(30, seed=1)
    model = SklearnLearner(LinearRegression()).train(data, ones(data), seed=0)
    plain = LinearRegression().fit(data.inputs.numpy(), data.labels.numpy()).predict(data.inputs.numpy())
    np.testing.assert_allclose(model.predict(data.inputs)[:, 0], plain)
    two = Examples(data.inputs, torch.stack([data.labels, -data.labels], 1))
    model = SklearnLearner(LinearRegression()).train(two, ones(data), seed=0)
    np.testing.assert_allclose(model.predict(data.inputs), np.stack([plain, -plain], 1), atol=1e-5)


def test_images_are_flattened():
    flat = blobs()
    data = Examples(flat.inputs.reshape(48, 1, 2, 3), flat.labels)
    learner = SklearnLearner.ridge_classifier()
    found, wanted = (learner.train(d, ones(d), seed=0).predict(d.inputs) for d in (data, flat))
    assert torch.equal(found, wanted)


def test_a_weight_of_two_is_an_example_twice():
    data = ridge_data(20, seed=1)
    weights = ones(data)
    weights[3] = 2.0
    twice = Examples(torch.cat([data.inputs, data.inputs[3:4]]), torch.cat([data.labels, data.labels[3:4]]))
    learner = SklearnLearner(Ridge(), fit="weights")
    found = learner.train(data, weights, seed=0).predict(data.inputs)
    wanted = learner.train(twice, ones(twice), seed=0).predict(data.inputs)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    unweighted = learner.train(data, ones(data), seed=0).predict(data.inputs)
    assert (found - unweighted).abs().max() > 1e-3


def test_the_given_estimator_stays_unfitted():
    estimator = RidgeClassifier()
    data = blobs()
    SklearnLearner(estimator).train(data, ones(data), seed=0)
    assert not hasattr(estimator, "coef_")


def test_a_lab_retrains_it():
    data = blobs()
    question = Question(SklearnLearner.ridge_classifier(), data, blobs(9, seed=0), outputs.margin)
    found = MemoryLab().outcomes(question, Subsets(n=48, count=3), repeats=2).values
    assert found.shape == (3, 2, 9)
    assert (found[:, 0] == found[:, 1]).all()
    assert (found[0] != found[1]).any()


@pytest.mark.parametrize("lab", [MemoryLab, lambda: Lab(tempfile.mkdtemp(), progress=False)])
def test_a_lab_trains_nothing_where_a_subset_is_empty(lab):
    data, asked = blobs(), []

    class Counted(RidgeClassifier):
        def fit(self, X, y, sample_weight=None):
            asked.append(len(X))
            return super().fit(X, y, sample_weight)

    question = Question(SklearnLearner(Counted()), data, blobs(9, seed=0), outputs.margin)
    with pytest.raises(BadInput, match=r"dl-302.*48 examples.*0\.05.*keeps nothing"):
        lab().outcomes(question, Subsets(n=48, count=40, kind="bernoulli", fraction=0.05))
    assert not asked


# --- identity ---


def test_identity_is_class_parameters_and_settings():
    learners = [
        SklearnLearner(Ridge()),
        SklearnLearner(Ridge(alpha=2.0)),
        SklearnLearner(LinearRegression()),
        SklearnLearner(Ridge(), fit="weights"),
        SklearnLearner(make_pipeline(StandardScaler(), Ridge())),
        SklearnLearner(make_pipeline(StandardScaler(with_mean=False), Ridge())),
        SklearnLearner(GaussianNB()),
        SklearnLearner(GaussianNB(), floor=1e-3),
        SklearnLearner(GaussianNB(), classes=4),
    ]
    assert len({identity(learner) for learner in learners}) == len(learners)
    assert identity(learners[1]) == identity(SklearnLearner(Ridge(alpha=2.0)))
    assert identity(SklearnLearner(GaussianNB())) == identity(
        SklearnLearner(GaussianNB(), predict="log_proba")
    )


# --- refusals ---


class OnlyFits:
    def fit(self, *_):
        return self


@pytest.mark.parametrize("estimator", [Ridge, OnlyFits(), DBSCAN(), "ridge"])
def test_what_is_no_estimator_is_refused(estimator):
    with pytest.raises(CapabilityError, match="dl-840"):
        SklearnLearner(estimator)


def test_weights_need_an_estimator_that_takes_them():
    with pytest.raises(CapabilityError, match=r"dl-844.*KNeighborsClassifier.*subset"):
        SklearnLearner(KNeighborsClassifier(), fit="weights")


@pytest.mark.parametrize(
    ("estimator", "reading", "found"),
    [
        (GaussianNB(), "decision", "no decision_function"),
        (SVC(), "log_proba", "no predict_proba"),
        (DecisionTreeRegressor(), "log_proba", "no predict_proba"),
        (IsolationForest(), "decision", "no classifier"),
        (SVC(decision_function_shape="ovo"), "auto", "one-against-one"),
        (make_pipeline(StandardScaler(), SVC(decision_function_shape="ovo")), "auto", "one-against-one"),
    ],
)
def test_readings_that_an_estimator_lacks_are_refused(estimator, reading, found):
    with pytest.raises(CapabilityError, match=f"dl-845.*{found}"):
        SklearnLearner(estimator, predict=reading)


@pytest.mark.parametrize("settings", [{"floor": 0.0}, {"floor": 1.0}, {"classes": 1}])
def test_settings_that_do_not_exist_are_refused(settings):
    with pytest.raises(BadInput, match="dl-847"):
        SklearnLearner(GaussianNB(), **settings)


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        (torch.ones(47), "shape"),
        (torch.zeros(48), "no weight above 0"),
        (-torch.ones(48), "negative"),
        (torch.full((48,), torch.nan), "infinite"),
        (torch.full((48,), 0.5), "fractional"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(weights, found):
    with pytest.raises(BadInput, match=f"dl-846.*{found}"):
        SklearnLearner.ridge_classifier().train(blobs(), weights, seed=0)


def test_a_single_class_is_refused():
    data = blobs()
    with pytest.raises(BadInput, match=r"dl-843.*16 kept rows.*single class 2"):
        SklearnLearner.ridge_classifier().train(data, (data.labels == 2).float(), seed=0)


@pytest.mark.parametrize("lab", ["in memory", "in a folder"])
def test_a_refused_training_says_which_it_was(lab, tmp_path):
    data = blobs()
    question = Question(SklearnLearner.ridge_classifier(), data, data[:4], outputs.margin)
    masks = np.ones((3, 48), dtype=bool)
    masks[2] = (data.labels == 2).numpy()
    made = MemoryLab() if lab == "in memory" else Lab(tmp_path, progress=False, workers=1)
    with pytest.raises(
        BadInput,
        match=r"dl-843.* on 16 kept rows on subset 2, repeat 0 \(seed \d+\); found: the single class 2",
    ):
        made.outcomes(question, Subsets.listed(masks), repeats=2)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (None, "without labels"),
        (torch.zeros(48), "float32"),
        (torch.arange(48) - 1, "lowest -1"),
        (torch.zeros(48, 2, dtype=torch.int64), r"\(48, 2\)"),
        (torch.arange(48), "a label 47"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, found):
    data = Examples(blobs().inputs, labels)
    with pytest.raises(BadInput, match=f"dl-841.*{found}"):
        SklearnLearner(LogisticRegression(), classes=3).train(data, torch.ones(48), seed=0)


def test_inputs_of_several_tensors_are_refused():
    data = blobs()
    pair = Examples((data.inputs, data.inputs), data.labels)
    with pytest.raises(BadInput, match=r"dl-842.*several tensors"):
        SklearnLearner.ridge_classifier().train(pair, torch.ones(48), seed=0)
