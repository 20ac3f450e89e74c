"""TRAK as its factors: the attribution that `attribute` gives, without the matrix."""

import numpy as np
import pytest
from torch import nn

from dataloupe import data, outputs
from dataloupe._errors import BadInput, CapabilityError
from dataloupe.core import DenseAttribution, Info, MemoryLab, Question, Subsets
from dataloupe.lab import Lab
from dataloupe.learners import SGD
from dataloupe.methods import TRAK

REMOVALS = [[3], [5, 8, 13, 40]]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The factors and the matrix of one method, on all logits of some targets."""
    train, test = data.digits()
    learner = SGD(lambda: nn.Linear(64, 10), epochs=2, batch_size=20)
    question = Question(learner, train[:80], test[:7], outputs.Logits(10), train_output=outputs.margin)
    lab, method = Lab(tmp_path_factory.mktemp("lab"), progress=False), TRAK(models=3, dim=128, ridge=0.5)
    return method.factored(question, lab), method.attribute(question, lab)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_scores_and_predictions_are_those_of_the_matrix(both):
    factored, dense = both
    assert (factored.n, factored.m, factored.units) == (dense.n, dense.m, dense.units) == (80, 70, "relative")
    close(factored.rows(slice(None)), dense.scores)
    close(factored.rows([60, 2]), dense.scores[[60, 2]])
    subsets = Subsets(n=80, count=5)
    close(factored.predict(subsets), dense.predict(subsets))
    for sign in ("helps", "hurts"):
        assert factored.top(4, 6, sign=sign).tolist() == dense.top(4, 6, sign=sign).tolist()


def test_sums_along_directions_and_of_some_targets(both):
    factored, dense = both
    directions = np.random.default_rng(0).standard_normal((80, 4))
    close(factored.along(directions), directions.T @ dense.scores.T)
    close(dense.along(directions), directions.T @ dense.scores.T)
    for one in both:
        close(one.on(np.array([9, 1])).along(directions), directions.T @ dense.scores[[9, 1]].T)


@pytest.mark.parametrize("kind", ["sum", "group"])
def test_effects_are_those_of_the_matrix(both, kind):
    factored, dense = both
    close(factored.effect(REMOVALS, kind=kind), dense.effect(REMOVALS, kind=kind))
    close(factored.effect(REMOVALS, kind=kind, targets=[7]), dense.effect(REMOVALS, kind=kind, targets=[7]))


def test_embedded_rows_have_their_effects_on_each_other_as_inner_products(both):
    first = both[0].models[0]
    rows = first.features.whole()
    expected = (
        both[0].slope[:, None] * first.scores(rows, first.share * _solved(first, rows, 0.5)) * both[0].slope
    )
    close(both[0].embedded() @ both[0].embedded().T, expected)


def _solved(one, rows, ridge):
    """(A + ridge)^-1 x of every row, of a model of one block."""
    (whitening,) = one.whitenings
    return whitening.weights(rows, ridge)


def test_the_parts_are_single_models_and_there_is_no_error(both):
    factored, dense = both
    for part, single in zip(factored.parts(), dense.parts(), strict=True):
        close(part.rows([11]), single.rows([11]))
    with pytest.raises(CapabilityError, match="dl-505"):
        factored.error(REMOVALS)


def test_options_that_have_no_factors():
    train, test = data.digits()
    question = Question(SGD(lambda: nn.Linear(64, 10)), train[:20], test[:2], outputs.margin)
    for method in (TRAK(leverage=True), TRAK(threshold=True)):
        with pytest.raises(BadInput, match="dl-711"):
            method.factored(question, MemoryLab())


def test_some_targets_of_a_matrix():
    dense = DenseAttribution(np.arange(6.0).reshape(3, 2), Info("by hand"))
    assert dense.on(np.array([2, 0])).scores.tolist() == [[4.0, 5.0], [0.0, 1.0]]
