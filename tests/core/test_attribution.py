"""A linear function of the data weights, with an error."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dataloupe._errors import BadInput, CapabilityError, UnitsError
from dataloupe._identity import identity
from dataloupe.core import Attribution, DenseAttribution, Examples, Info, Subsets, Uncertainty, needs_units

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


# --- what is made by hand ----------------------------------------------------------------------------------


def by_hand(scores=None, **changes):
    scores = np.arange(60.0).reshape(3, 20) - 30 if scores is None else scores
    return DenseAttribution(scores, Info("by hand"), **changes)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"scores": np.ones((3, 20)) * 1j}, "dl-501.*complex"),
        ({"scores": np.full((3, 20), 1e300)}, "dl-502.*single precision"),
        ({"scores": np.full((3, 20), "x")}, "dl-501"),
        ({"scores": np.ma.masked_array(np.ones((3, 20)), mask=True)}, "dl-501.*MaskedArray"),
        ({"scores": [[1.0, 2.0]]}, "dl-501.*list"),
        ({"scores": np.ones((3, 0))}, "dl-501"),
        ({"bias": np.array([0.0, np.nan, 1.0])}, "dl-502.*bias"),
        ({"bias": np.ones(4)}, "dl-501"),
        ({"bias": np.ones(3) * 1j}, "dl-501"),
        ({"units": "x"}, "dl-510.*units"),
        ({"train": Examples(torch.ones(19, 1))}, "dl-501.*19 training"),
        ({"index": np.zeros((2, 2), int)}, "dl-501.*index"),
        (
            {"targets": Examples(torch.ones(2, 1)), "index": np.array([[0, 0], [1, 0], [2, 0]])},
            "dl-501.*up to 2",
        ),
        ({"uncertainty": Uncertainty(np.ones(4))}, "dl-501.*spread"),
        ({"uncertainty": Uncertainty(np.array([1.0, np.nan, 1.0]))}, "dl-502.*spread"),
        (
            {"uncertainty": Uncertainty(np.ones(3), basis=np.ones((19, 2)), spectrum=np.ones((3, 2)))},
            "dl-501.*basis",
        ),
    ],
)
def test_what_is_no_attribution_is_refused(changes, code):
    with pytest.raises(BadInput, match=code):
        by_hand(**changes)


@pytest.mark.usefixtures("unchecked")
def test_unknown_words_are_refused_and_counts_are_whole():
    """Case r06: any sign but "helps" gave the harmful rows, any kind of effect was a sum."""
    made = by_hand()
    for sign in ("help", "HELPS", "positive", None, "", 1):
        with pytest.raises(BadInput, match=r"dl-510.*'helps', 'hurts', 'raises', 'lowers'"):
            made.top(0, 3, sign=sign)
    with pytest.raises(BadInput, match=r"dl-510.*gruop"):
        made.effect([[1]], kind="gruop")
    for k in (2.5, True, 0, 21, float("nan"), "3"):
        with pytest.raises(BadInput, match="dl-506"):
            made.top(0, k)
    for word in ({"role": "judge"}, {"better": "up"}, {"removal": "drop"}, {"fraction": "half"}):
        with pytest.raises(BadInput, match="dl-510"):
            Info("by hand", **word)


def test_helps_and_hurts_follow_what_the_output_declares():
    scores = np.array([[3.0, -2.0, 0.5, -4.0]])

    def first(sign, better):
        return int(DenseAttribution(scores, Info("x", better=better)).top(0, 1, sign=sign)[0])

    assert [first("helps", better) for better in ("higher", "lower", None)] == [0, 3, 0]
    assert [first("hurts", better) for better in ("higher", "lower", None)] == [3, 0, 3]
    for better in ("higher", "lower", None):
        assert first("raises", better) == 0 and first("lowers", better) == 3
