"""A linear function of the data weights, with an error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloupe._errors import BadInput, CapabilityError, UnitsError
from dataloupe._identity import identity
from dataloupe.core import Attribution, DenseAttribution, Info, Subsets, Uncertainty, needs_units

SCORES = np.array([[1.0, -2.0, 0.5, 0.0], [0.0, 3.0, -1.0, 2.0]], dtype=np.float32)


def dense(**settings):
    return DenseAttribution(SCORES, Info("by hand"), bias=np.array([1.0, -1.0]), **settings)


def test_keeps_the_protocol():
    assert isinstance(dense(), Attribution)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
def test_an_effect_is_the_difference_of_two_predictions(ids):
    both = dense().predict(Subsets.without(4, [[], ids]))
    np.testing.assert_allclose(dense().effect([ids])[0], both[1] - both[0], atol=1e-5)
    np.testing.assert_allclose(dense().effect([ids], targets=[1])[0], (both[1] - both[0])[1:], atol=1e-5)


def test_a_prediction_is_bias_plus_the_scores_of_the_kept():
    subsets = Subsets(n=4, count=9, seed=2)
    expected = subsets.masks() @ SCORES.T + np.array([1.0, -1.0])
    np.testing.assert_allclose(dense().predict(subsets), expected, atol=1e-6)


def test_memory_mapped_scores_are_read_as_they_lie(tmp_path):
    np.save(tmp_path / "scores.npy", SCORES)
    mapped = DenseAttribution(np.load(tmp_path / "scores.npy", mmap_mode="r"), Info("mapped"))
    assert np.array_equal(mapped.rows([1]), SCORES[1:]) and mapped.top(1, 2).tolist() == [1, 3]


def test_the_top_helps_or_hurts_and_ties_go_by_row():
    assert dense().top(0, 2).tolist() == [0, 2]
    assert dense().top(0, 2, sign="hurts").tolist() == [1, 3]
    assert DenseAttribution(np.zeros((1, 4)), Info("flat")).top(0, 3).tolist() == [0, 1, 2]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True))
def test_the_error_is_the_formula_of_its_parts(ids):
    known = Uncertainty(
        spread=np.array([0.1, 0.2]),
        slope=np.array([0.01, 0.04]),
        basis=np.eye(4)[:, :2],
        spectrum=np.array([[0.5, -0.05], [0.0, 0.1]]),
    )
    u = np.zeros(4)
    u[ids] = 1
    variance = (
        known.spread * u.sum() + known.slope * (SCORES @ u) ** 2 + known.spectrum @ (known.basis.T @ u) ** 2
    )
    np.testing.assert_allclose(dense(uncertainty=known).error([ids])[0], np.sqrt(variance), rtol=1e-5)


def test_what_it_cannot_do_it_says():
    with pytest.raises(CapabilityError, match="dl-504.*features"):
        dense().effect([[0]], kind="group")
    with pytest.raises(CapabilityError, match="dl-505.*calibrate"):
        dense().error([[0]])
    with pytest.raises(UnitsError, match="dl-507.*calibrate"):
        needs_units(dense(units="relative"), "a change")
    needs_units(dense(), "a change")


def test_at_rest_and_back():
    known = Uncertainty(spread=np.array([0.1, 0.2]), slope=np.array([0.01, 0.04]))
    whole = dense(uncertainty=known, index=np.array([[0, 0], [1, 0]]))
    back = DenseAttribution.from_arrays(*whole.to_arrays())
    assert np.array_equal(back.scores, whole.scores) and back.info == whole.info and back.units == "output"
    assert np.array_equal(back.error([[1, 2]]), whole.error([[1, 2]])) and np.array_equal(
        back.index, whole.index
    )


@pytest.mark.usefixtures("unchecked")
def test_bad_use_is_refused():
    with pytest.raises(BadInput, match="dl-501"):
        DenseAttribution(SCORES, Info("x"), bias=np.zeros(3))
    with pytest.raises(BadInput, match="dl-502.*target rows 0"):
        DenseAttribution(np.full((2, 2), np.nan), Info("x"))
    with pytest.raises(BadInput, match="dl-503"):
        dense().predict(Subsets(n=5, count=1))
    for k in (0, 5):
        with pytest.raises(BadInput, match="dl-506"):
            dense().top(0, k)
    with pytest.raises(BadInput, match="dl-109.*row 2"):
        dense().top(2, 1)
    with pytest.raises(BadInput, match="dl-108"):
        dense().effect([[]])


def test_it_is_known_by_its_scores_and_not_by_what_they_cost():
    def made(scores=SCORES, **settings):
        info = {"method": "by hand", "cost": {"seconds": 1.0}} | settings
        return identity(DenseAttribution(scores, Info(**info)))

    others = [
        made(-SCORES),
        made(SCORES.astype(np.float64)),
        made(method="by foot"),
        made(settings={"seed": 1}),
        made(question="another"),
        made(removal="mask"),
        identity(dense()),
        identity(dense(units="relative")),
        identity(dense(uncertainty=Uncertainty(spread=np.ones(2)))),
    ]
    assert len({made(), *others}) == 1 + len(others)
    assert made() == made(SCORES.copy(), cost={"seconds": 1.1}, certificate={"seconds": 2.0})
