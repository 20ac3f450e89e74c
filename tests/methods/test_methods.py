"""Methods on the least-squares oracle, where influence and retraining are algebra."""

import dataclasses

import jaxtyping
import numpy as np
import pytest
import torch

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError, TrainingError
from dataloupe.core import Chunked, Examples, MemoryLab, Outcomes, Question, Subsets, TorchModel
from dataloupe.methods import (
    TRAK,
    Datamodel,
    FeatureSimilarity,
    GradientSimilarity,
    Influence,
    RandomScores,
)
from dataloupe.methods._models import sketch_of
from dataloupe.solve import SuffStats, lasso
from dataloupe.testing import RidgeLearner

N, D, M = 40, 3, 6


@dataclasses.dataclass(frozen=True)
class Solved(RidgeLearner):
    """The ridge oracle, which also shows its models: one on each subset of a recipe (None: nobody knows which)."""

    shown: Subsets | None = None
    known: bool = True

    def models(self):
        train = regression()[0]
        masks = np.ones((4, N), dtype=bool) if self.shown is None else self.shown.masks()
        return [self.train(train, torch.from_numpy(mask.astype(np.float32)), seed=0) for mask in masks]

    def subsets(self, n):
        return (self.shown or Subsets.full(n, 4)) if self.known else None


def regression():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D))
    y = x @ rng.standard_normal(D) + rng.standard_normal(N)
    train = Examples(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))
    phi = torch.tensor(rng.standard_normal((M, D)), dtype=torch.float32)
    return train, Examples(phi, torch.zeros(M))


def question(learner=None):
    train, targets = regression()
    return Question(learner or Solved(penalty=1e-6), train, targets, outputs.value)


def classes():
    rng = np.random.default_rng(1)
    x = torch.tensor(rng.standard_normal((N, D)), dtype=torch.float32)
    data = Examples(x, torch.tensor(rng.integers(0, 3, N)))
    return Question(Solved(penalty=1.0, classes=3), data, data[:M], outputs.margin)


def influence():
    """x' (X'X)^-1 x_i residual_i: what having row i adds, to first order."""
    train, targets = regression()
    x, y, phi = train.inputs.double().numpy(), train.labels.double().numpy(), targets.inputs.double().numpy()
    inverse = np.linalg.inv(x.T @ x)
    return phi @ inverse @ x.T * (y - x @ inverse @ x.T @ y)


METHODS = [
    Datamodel(Subsets(n=N, count=30)),
    Datamodel(Subsets(n=N, count=30), estimator="lasso", select="gcv"),
    Datamodel(Subsets(n=N, count=30), estimator="means", repeats=2),
    TRAK(models=2, dim=2),
    RandomScores(),
    GradientSimilarity(),
    GradientSimilarity(kind="cosine", models=2),
    FeatureSimilarity(),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_asked_twice_a_method_answers_from_memory(method):
    lab = MemoryLab()
    first = method.attribute(question(), lab)
    lab.outcomes = lab.features = lab.embeddings = None
    second = method.attribute(question(), lab)
    assert first.scores.shape == (M, N) and first.scores.std() > 0
    np.testing.assert_array_equal(first.scores, second.scores)
    assert (first.units, first.info) == (second.units, second.info)
    assert first.units == ("output" if isinstance(method, Datamodel) else "relative")
    assert method.needs(question()).fraction > 0
    again = method.attribute(question(), MemoryLab())
    np.testing.assert_array_equal(first.scores, again.scores)


# --- TRAK ---


def test_trak_of_least_squares_is_the_influence_function():
    found = TRAK(models=1, ridge=1e-10, fraction=1.0).attribute(question(), MemoryLab())
    np.testing.assert_allclose(found.scores, influence(), atol=1e-4 * np.abs(influence()).max())
    assert found.units == "relative" and found.info.fraction == 1.0
    assert "all of the data" in found.info.note
    assert found.info.certificate["effective_dimension"] == [pytest.approx(D, abs=0.1)]


def test_its_sign_and_size_are_those_of_leave_one_out_retraining():
    asked = question()
    found = TRAK(models=1, ridge=1e-10, fraction=1.0).attribute(asked, MemoryLab())
    worlds = Subsets.without(N, [[], *([i] for i in range(N))])
    values = MemoryLab().outcomes(asked, worlds).values[:, 0].astype(np.float64)
    having = (values[0] - values[1:]).T
    x = regression()[0].inputs.double().numpy()
    leverage = np.einsum("nd,de,ne->n", x, np.linalg.inv(x.T @ x), x)
    np.testing.assert_allclose(found.scores / (1 - leverage), having, atol=1e-3 * np.abs(having).max())
    clear = np.abs(having) > 1e-4
    assert (np.sign(found.scores) == np.sign(having))[clear].all()


def linear_models(lab, asked, count, dim, seed=0):
    """Every model's sketched features, slope and targets in fp64."""
    subsets = asked.learner.subsets(N)
    found = [lab.features(asked, subsets, k, sketch_of(dim, seed, k)).whole for k in range(count)]
    return [[part.astype(np.float64) for part in one] for one in found]


def test_trak_is_the_product_of_averages_and_tells_single_models():
    half = Subsets(n=N, count=4, seed=5)
    asked = question(Solved(penalty=1.0, shown=half))
    found = TRAK(models=4, dim=2, seed=3, ridge=0.7).attribute(asked, MemoryLab())
    assert len(found.parts()) == 4 and found.info.fraction == 0.5 and "50%" in found.info.note
    values, slopes = [], []
    for x, slope, phi in linear_models(MemoryLab(), asked, 4, 2, seed=3):
        gram = x.T @ x
        values.append(phi @ np.linalg.inv(gram + 0.7 * np.trace(gram) / 2 * np.eye(2)) @ x.T)
        slopes.append(slope)
    expected = np.mean(values, 0) * np.mean(slopes, 0)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4, atol=1e-6)
    for part, v, s in zip(found.parts(), values, slopes, strict=True):
        np.testing.assert_allclose(part.scores, v * s, rtol=1e-4, atol=1e-6)


def test_the_ridge_is_chosen_on_held_out_models_and_said():
    asked = question(Solved(penalty=1.0, shown=Subsets(n=N, count=8, seed=5)))
    found = TRAK(models=8).attribute(asked, MemoryLab())
    told = found.info.certificate
    assert told["ridge_chosen"] == "on held-out models"
    reached = told["held_out_correlation"]
    assert reached[f"{told['ridge']:g}"] >= max(reached.values()) - 0.01 > 0.9
    given = TRAK(models=8, ridge=told["ridge"]).attribute(asked, MemoryLab())
    np.testing.assert_array_equal(found.scores, given.scores)
    for alike in (Solved(), Solved(known=False), Solved(penalty=1.0, shown=Subsets(n=N, count=2, seed=5))):
        few = TRAK(models=2).attribute(question(alike), MemoryLab()).info.certificate
        assert few["ridge"] == 1.0 and "rule" in few["ridge_chosen"]


def test_leverage_is_leaving_out_exactly():
    asked = question()
    found = TRAK(models=1, ridge=1e-10, fraction=1.0, leverage=True).attribute(asked, MemoryLab())
    worlds = Subsets.without(N, [[], *([i] for i in range(N))])
    values = MemoryLab().outcomes(asked, worlds).values[:, 0].astype(np.float64)
    having = (values[0] - values[1:]).T
    np.testing.assert_allclose(found.scores, having, atol=1e-3 * np.abs(having).max())


def test_groups_as_groups_are_what_retraining_without_them_gives():
    """Least squares: one Newton step is exact, and a cluster does more than the sum of its rows."""
    asked, lab = question(), MemoryLab()
    found = TRAK(models=1, ridge=1e-10, fraction=1.0).attribute(asked, lab)
    groups = [[3], [0, 1, 2, 3, 4], list(range(20))]
    values = MemoryLab().outcomes(asked, Subsets.without(N, [[], *groups])).values[:, 0].astype(np.float64)
    truth = values[1:] - values[0]
    told = found.effect(groups, kind="group")
    np.testing.assert_allclose(told, truth, atol=2e-3 * np.abs(truth).max())
    apart = np.abs(found.effect(groups) - truth).max()
    assert apart > 20 * np.abs(told - truth).max()
    np.testing.assert_array_equal(found.effect(groups, kind="group", targets=[2]), told[:, [2]])
    again = TRAK(models=1, ridge=1e-10, fraction=1.0).attribute(asked, lab)  # remembered
    np.testing.assert_array_equal(again.effect(groups, kind="group"), told)


def test_several_sketches_are_averaged_and_layers_added():
    asked = question(Solved(penalty=1.0, shown=Subsets(n=N, count=2, seed=5)))
    one, two = (TRAK(models=1, dim=2, ridge=0.5, sketches=b).attribute(asked, MemoryLab()) for b in (1, 2))
    expected = []
    for b in (0, 1):
        sketched = MemoryLab().features(asked, asked.learner.subsets(N), 0, sketch_of(2, 0, 0, b))
        x, slope, phi = (part.astype(np.float64) for part in sketched.whole)
        gram = x.T @ x
        expected.append(phi @ np.linalg.inv(gram + 0.5 * np.trace(gram) / 2 * np.eye(2)) @ x.T * slope)
    np.testing.assert_allclose(one.scores, expected[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(two.scores, np.mean(expected, 0), rtol=1e-4, atol=1e-6)
    layer = TRAK(models=1, ridge=0.5, blocks="layer").attribute(asked, MemoryLab())
    whole = TRAK(models=1, ridge=0.5).attribute(asked, MemoryLab())
    np.testing.assert_allclose(layer.scores, whole.scores, rtol=1e-5)  # one layer


def test_a_threshold_is_chosen_or_refused():
    asked = question(Solved(penalty=1.0, shown=Subsets(n=N, count=6, seed=5)))
    plain = TRAK(models=6, ridge=0.5).attribute(asked, MemoryLab())
    found = TRAK(models=6, ridge=0.5, threshold=True).attribute(asked, MemoryLab())
    chosen = found.info.certificate["threshold"]
    limit = chosen * np.sqrt((plain.scores**2).mean(1))[:, None]
    expected = np.sign(plain.scores) * np.maximum(np.abs(plain.scores) - limit, 0)
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)
    with pytest.raises(BadInput, match=r"dl-715.*2 models"):
        TRAK(models=2, threshold=True).attribute(asked, MemoryLab())
    with pytest.raises(BadInput, match=r"dl-711.*several sketches of every layer"):
        TRAK(blocks="layer", sketches=2)
    with pytest.raises(BadInput, match=r"dl-711.*0 sketches"):
        TRAK(sketches=0)


class Broken(MemoryLab):
    """Some models have gradients that are not finite."""

    def __init__(self, bad):
        super().__init__()
        self.bad = bad

    def features(self, question, subsets, k, sketch):
        found = super().features(question, subsets, k, sketch)
        if k not in self.bad:
            return found
        return found._replace(
            train=Chunked.of(found.train.whole() * np.nan), facts=found.facts | {"not_finite": N}
        )


@pytest.mark.parametrize("make", [TRAK, GradientSimilarity])
def test_a_diverged_model_is_left_out_and_counted(make):
    found = make(models=3).attribute(question(), Broken({1}))
    assert found.info.certificate["left_out"] == 1 and "1 models without finite" in found.info.note
    with pytest.raises(TrainingError, match="dl-712"):
        make(models=2).attribute(question(), Broken({0, 1}))


def test_trak_says_when_nobody_knows_what_its_models_saw():
    found = TRAK(models=2).attribute(question(Solved(known=False)), MemoryLab())
    assert found.info.fraction is None and "nobody knows" in found.info.note


# --- baselines ---


def test_dot_is_the_first_order_effect_of_a_gradient_step():
    found = GradientSimilarity().attribute(question(), MemoryLab()).scores
    train, targets = regression()
    model = question().learner.models()[0]
    left = train.labels - model.predict(train.inputs)[:, 0]
    expected = targets.inputs @ (left[:, None] * train.inputs).T
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    step = {"weight": model.params["weight"] + 1e-3 * left[7] * train.inputs[7]}
    moved = model.with_params(step).predict(targets.inputs) - model.predict(targets.inputs)
    np.testing.assert_allclose(moved[:, 0] / 1e-3, found[:, 7], atol=1e-2)


def test_cosine_is_between_minus_one_and_one_and_keeps_the_sign():
    dot = GradientSimilarity().attribute(question(), MemoryLab()).scores
    cosine = GradientSimilarity(kind="cosine").attribute(question(), MemoryLab())
    assert np.abs(cosine.scores).max() <= 1.0001
    assert (np.sign(cosine.scores) == np.sign(dot))[np.abs(dot) > 1e-3].all()
    assert cosine.info.certificate["zero_gradients"] == 0


def test_feature_similarity_is_signed_by_the_label():
    asked = classes()
    found = FeatureSimilarity().attribute(asked, MemoryLab())
    x, labels = asked.train.inputs.numpy(), asked.train.labels.numpy()
    unit = x / np.linalg.norm(x, axis=1)[:, None]
    sign = np.where(labels[:M, None] == labels, 1, -1)
    np.testing.assert_allclose(found.scores, unit[:M] @ unit.T * sign, atol=1e-5)
    assert found.scores[0, 0] == pytest.approx(1.0, abs=1e-5)
    plain = FeatureSimilarity(signed=False).attribute(asked, MemoryLab())
    np.testing.assert_allclose(plain.scores, unit[:M] @ unit.T, atol=1e-5)


def test_without_classes_feature_similarity_has_no_sign_and_says_so():
    found = FeatureSimilarity().attribute(question(), MemoryLab())
    assert "no class labels" in found.info.note


def test_random_scores_are_standard_normal_and_keyed():
    a, b = (RandomScores(seed).attribute(question(), MemoryLab()).scores for seed in (0, 1))
    assert abs(a.mean()) < 0.3 and 0.8 < a.std() < 1.2 and not np.array_equal(a, b)


# --- datamodels ---


@pytest.mark.parametrize(
    ("estimator", "select", "least"),
    [
        ("ridge", "hold-out", 0.8),
        ("lasso", "hold-out", 0.75),
        ("lasso", "k-fold", 0.75),
        ("lasso", "gcv", 0.75),
        ("ols", "hold-out", 0.75),
        ("means", "hold-out", 0.5),
    ],
)
def test_a_datamodel_predicts_new_subsets_in_units_of_the_output(estimator, select, least):
    asked = question(Solved(penalty=5.0))
    lab = MemoryLab()
    found = Datamodel(Subsets(n=N, count=300), estimator=estimator, select=select).attribute(asked, lab)
    fresh = lab.outcomes(asked, Subsets(n=N, count=60, seed=9))
    predicted, measured = found.predict(fresh.subsets), fresh.mean()
    r2 = 1 - ((measured - predicted) ** 2).sum(0) / ((measured - measured.mean(0)) ** 2).sum(0)
    assert r2.mean() > least
    assert found.info.fraction == 0.5 and found.info.certificate["subsets"] == 300
    assert found.info.cost["trainings"] == 300


def test_training_examples_are_explained_by_the_others():
    """Train by train: what an example does to itself stays out, and the rest is a fit without it."""
    asked = dataclasses.replace(question(), targets=question().train)
    lab, subsets = MemoryLab(), Subsets(n=N, count=200)
    method = Datamodel(subsets, estimator="lasso", select="gcv", exclude_self=True)
    found = method.attribute(asked, lab)
    assert not np.diagonal(found.scores).any() and found.scores.any(axis=1).all()
    outcomes = lab.outcomes(asked, subsets)
    others = np.delete(subsets.masks(), 3, axis=1)
    alone = lasso(SuffStats.of(others, outcomes.mean()[:, [3]].astype(float)), select="gcv")
    np.testing.assert_allclose(np.delete(found.scores[3], 3), alone.weights[0], atol=1e-4)
    with pytest.raises(BadInput, match=r"dl-719.*other examples"):
        method.attribute(question(), lab)
    with pytest.raises(BadInput, match=r"dl-719.*ridge"):
        Datamodel(subsets, exclude_self=True)


@pytest.mark.parametrize("estimator", ["ridge", "lasso"])
def test_diverged_subsets_are_left_out_and_counted(estimator):
    class Diverging(MemoryLab):
        def outcomes(self, question, subsets, *, repeats=1):
            whole = super().outcomes(question, subsets, repeats=repeats)
            values = whole.values.copy()
            values[[2, 5], 0] = np.nan
            return Outcomes.from_arrays(subsets.masks(), values)

    settings = {"estimator": estimator, "select": "gcv"}
    found = Datamodel(Subsets(n=N, count=20), **settings).attribute(question(), Diverging())
    assert found.info.certificate["left_out"] == 2 and found.info.certificate["subsets"] == 18
    assert "2 subsets with a diverged run" in found.info.note
    masks = np.delete(Subsets(n=N, count=20).masks(), [2, 5], axis=0)
    kept = MemoryLab().outcomes(question(), Subsets.listed(masks))
    direct = Datamodel(Subsets.listed(masks), **settings).attribute(question(), MemoryLab())
    assert kept.diverged == 0
    np.testing.assert_allclose(found.scores, direct.scores, atol=1e-6)


def test_a_remembered_datamodel_keeps_its_error():
    lab, method = MemoryLab(), Datamodel(Subsets(n=N, count=30))
    first, second = method.attribute(question(), lab), method.attribute(question(), lab)
    np.testing.assert_array_equal(first.error([[1, 2], [3]]), second.error([[1, 2], [3]]))
    assert (first.error([[1, 2]]) > 0).all()


# --- bad use ---


def test_impossible_settings_are_refused_when_they_are_made():
    with pytest.raises(BadInput, match="dl-701"):
        TRAK(ridge=0.0)
    for bad in (
        lambda: TRAK(models=0),
        lambda: TRAK(fraction=1.5),
        lambda: FeatureSimilarity(models=0),
    ):
        with pytest.raises(BadInput, match="dl-711"):
            bad()
    for bad in (
        lambda: Datamodel(Subsets(n=N, count=2)),
        lambda: Datamodel(Subsets(n=N, count=30), repeats=0),
    ):
        with pytest.raises(BadInput, match="dl-710"):
            bad()


def test_unknown_words_are_refused_where_types_are_not_checked(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(BadInput, match=r"dl-711.*'angle'.*cosine"):
        GradientSimilarity(kind="angle")
    with pytest.raises(BadInput, match=r"dl-710.*'boosting'.*ridge.*lasso.*ols.*means"):
        Datamodel(Subsets(n=N, count=30), estimator="boosting")


def test_subsets_of_other_data_are_refused():
    with pytest.raises(BadInput, match=r"dl-710.*subsets of 41 examples.*40 training"):
        Datamodel(Subsets(n=N + 1, count=30)).attribute(question(), MemoryLab())


def test_a_learner_that_shows_no_models_is_refused_by_gradient_methods():
    for method in (TRAK(), GradientSimilarity(), FeatureSimilarity()):
        with pytest.raises(CapabilityError, match="dl-205"):
            method.attribute(question(RidgeLearner()), MemoryLab())
    assert isinstance(question().learner.models()[0], TorchModel)


def test_influence_of_least_squares_is_the_influence_function():
    method = Influence(models=1, damping=1e-6, fraction=1.0, curved=False)
    found = method.attribute(question(), MemoryLab())
    np.testing.assert_allclose(found.scores, influence(), atol=1e-3 * np.abs(influence()).max())
    assert found.units == "relative" and found.info.method == "Influence"
    assert found.info.certificate["effective_dimension"] == [pytest.approx(D, abs=0.1)]


def test_influence_in_pieces_is_influence_at_once(monkeypatch):
    method = Influence(models=2, curved=False)
    whole = method.attribute(question(), MemoryLab()).scores
    monkeypatch.setattr("dataloupe.methods._curved.NUMBERS", 2 * N)
    np.testing.assert_allclose(method.attribute(question(), MemoryLab()).scores, whole, rtol=1e-5, atol=1e-7)


def test_the_curvature_weighs_the_blocks_of_influence():
    asked = dataclasses.replace(classes(), learner=Classified(penalty=1.0, classes=3))
    lab = MemoryLab()
    x, slope, phi = (
        a.astype(np.float64) for a in lab.features(asked, Subsets(n=N, count=1), 0, sketch_of(64, 0, 0)).whole
    )
    gram = x.T @ (x * (slope * (1 - slope))[:, None])
    ridge = 0.1 * np.trace(gram) / len(gram)
    expected = phi @ np.linalg.solve(gram + ridge * np.eye(len(gram)), x.T) * slope
    found = Influence(models=1, damping=0.1).attribute(asked, lab)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


class Classified(Solved):
    """The oracle that shows one model, of classes."""

    def models(self):
        return [self.train(classes().train, torch.ones(N), seed=0)]

    def subsets(self, n):
        return Subsets.full(n, 1)


def test_the_curvature_weighs_the_rows_of_the_gram():
    asked = dataclasses.replace(classes(), learner=Classified(penalty=1.0, classes=3))
    lab = MemoryLab()
    x, slope, phi = (
        a.astype(np.float64) for a in lab.features(asked, Subsets(n=N, count=1), 0, sketch_of(64, 0, 0)).whole
    )
    gram = x.T @ (x * (slope * (1 - slope))[:, None])
    ridge = 0.1 * np.trace(gram) / len(gram)
    expected = phi @ np.linalg.solve(gram + ridge * np.eye(len(gram)), x.T) * slope
    found = TRAK(models=1, dim=64, ridge=0.1, curved=True).attribute(asked, lab)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_where_an_output_knows_no_curvature_rows_weigh_alike():
    asked = dataclasses.replace(classes(), learner=Classified(penalty=1.0, classes=3), output=outputs.loss)
    for method in (TRAK(models=1), Influence(models=1)):
        flat = dataclasses.replace(method, curved=False)
        same = [one.attribute(asked, MemoryLab()).scores for one in (method, flat)]
        np.testing.assert_array_equal(*same)
