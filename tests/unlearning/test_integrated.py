"""Effects integrated over density: right where support saturates, the regression's where it does not."""

import dataclasses
import functools

import numpy as np
import pytest
from unlearning_cases import digits

from dataloupe._errors import BadInput, TrainingError
from dataloupe.core import MemoryLab, Outcomes, Subsets
from dataloupe.lab import Lab
from dataloupe.methods import TRAK
from dataloupe.solve import RemovalDesign
from dataloupe.unlearning import Calibrated, Context, Growth, Integrated, Regression
from dataloupe.unlearning import _integrated as integrated_module
from dataloupe.unlearning._integrated import _along, _quietly

N, ROWS, COLUMNS = 150, 155, 10
SUPPORT = np.arange(20, 110)
"""Rows that do the same."""


def subsets(count=3000, fraction=0.75, seed=0, **more):
    return Subsets(n=N, count=count, fraction=fraction, seed=seed, kind="bernoulli", **more)


def by(**more):
    return Regression(subsets(**more), penalty=1e-7, effect="sum")


def integrated():
    return Integrated(by(), subsets(fraction=0.25, seed=1))


class Saturating(MemoryLab):
    """Outputs go as log(c + the share of SUPPORT that is there), or as that share itself, in one planted direction."""

    def __init__(self, c=None, seed=0):
        super().__init__()
        self.c = c
        self.common = np.random.default_rng(seed).standard_normal(ROWS * COLUMNS)

    def answers(self, masks):
        there = masks[:, SUPPORT].mean(axis=1)
        amount = there if self.c is None else np.log(self.c + there)
        return 10 * amount[:, None] * self.common

    def outcomes(self, question, subsets, *, repeats=1):  # noqa: ARG002
        masks = subsets.masks()
        values = np.repeat(self.answers(masks.astype(np.float64))[:, None], repeats, axis=1)
        found = Outcomes.from_arrays(masks, values)
        return dataclasses.replace(found, subsets=dataclasses.replace(found.subsets, seeds=subsets.seeds))

    def truth(self, removed):
        """Exactly what removing rows from all does."""
        masks = np.ones((2, N))
        masks[1, removed] = 0.0
        answers = self.answers(masks)
        return (answers[1] - answers[0]).reshape(ROWS, COLUMNS)


@functools.cache
def question():
    whole = digits().question
    return dataclasses.replace(whole, train=whole.train[:N], targets=whole.targets[: ROWS - N])


def of(lab, forget, kept=None):
    return Context.of(question(), lab, forget, kept=kept)


def error(found, truth):
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


@pytest.mark.parametrize("c", [0.3, 1.0])
@pytest.mark.parametrize("rows", [10, 45, 90])
def test_support_that_saturates_is_integrated(c, rows):
    lab, forget = Saturating(c), SUPPORT[:rows]
    context, found = of(lab, forget), integrated()
    growth = found.growth(context)
    assert abs(growth.ratio - (c + 0.75) / (c + 0.25)) < 2 * growth.error + 0.02
    assert growth.error < 0.15
    assert growth.share == pytest.approx(rows / 90, abs=0.04)
    assert error(found.changes(context), lab.truth(forget)) < 0.05


def test_sparse_trainings_may_see_any_smaller_share():
    lab, found = Saturating(0.3), Integrated(by(), subsets(fraction=0.5, seed=1))
    assert error(found.changes(of(lab, SUPPORT[:60])), lab.truth(SUPPORT[:60])) < 0.05


def test_without_it_the_error_is_large_on_both_sides():
    lab = Saturating(0.3)
    sizes = {rows: of(lab, SUPPORT[:rows]) for rows in (10, 90)}
    told = {rows: by().changes(context) for rows, context in sizes.items()}
    over = {rows: float((told[rows] / lab.truth(SUPPORT[:rows])).mean()) for rows in sizes}
    assert over[10] > 1.15
    assert over[90] < 0.75


def test_what_does_not_saturate_is_the_regressions():
    lab = Saturating()
    for forget in (SUPPORT, SUPPORT[:20], np.array([25])):
        found = integrated()
        assert found.growth(of(lab, forget)).scale == pytest.approx(1.0, abs=0.02)
        assert error(found.changes(of(lab, forget)), lab.truth(forget)) < 0.03


def test_the_request_after_another_is_what_both_do_less_what_the_first_does():
    lab, first, second = Saturating(0.3), SUPPORT[:30], SUPPORT[30:70]
    kept = np.ones(N, bool)
    kept[first] = False
    found = integrated()
    both, before = found.changes(of(lab, SUPPORT[:70])), found.changes(of(lab, first))
    later = found.changes(of(lab, second, kept))
    np.testing.assert_allclose(later, both - before, atol=1e-9)
    assert error(later, lab.truth(SUPPORT[:70]) - lab.truth(first)) < 0.06


def test_the_removed_rows_alone_are_the_same(tmp_path):
    lab, forget = Lab(tmp_path, progress=False), np.array([3, 40, 41])
    dense = Regression(Subsets(n=N, count=60, fraction=0.75, seeds=20))
    found = Integrated(dense, Subsets(n=N, count=60, fraction=0.25, seeds=20))
    context = of(lab, forget)
    alone = found.of_removed(context.question, lab, forget)
    np.testing.assert_allclose(alone, found.changes(context)[forget], rtol=1e-4, atol=1e-5)
    growth = found.growth(context)
    assert np.isfinite([growth.ratio, growth.error]).all()


def test_calibrated_as_well_has_one_prior_and_the_same_removed_rows(tmp_path):
    lab, forget = Lab(tmp_path, progress=False), np.array([3, 40, 41])
    trak = TRAK(models=3, dim=64)
    dense = Regression(Subsets(n=N, count=60, fraction=0.75, seeds=20), prior=trak)
    found = Calibrated(
        Integrated(dense, Subsets(n=N, count=60, fraction=0.25, seeds=20)), gradients=trak, sets=4, seeds=1
    )
    context = of(lab, forget)
    assert found._factored(context) is dense.fitted(context.question, lab).prior
    for quick, whole in zip(found._of_removed(context), found._basis(context), strict=True):
        np.testing.assert_allclose(quick, whole[forget], rtol=1e-3, atol=1e-4)
    assert found.trainings == 60 + 60 + 5


def test_the_scale_of_a_ratio():
    """At a share of 1 the integral over density, at a small one the effect at full density; noise is left out."""
    for c in (0.1, 0.5, 3.0):
        ratio = (c + 0.75) / (c + 0.25)
        density = (np.arange(4000) + 0.5) / 4000
        assert Growth(ratio, 0.0, 1.0).scale == pytest.approx(np.mean((c + 0.75) / (c + density)), rel=1e-3)
        assert Growth(ratio, 0.0, 1e-6).scale == pytest.approx((c + 0.75) / (c + 1), rel=1e-5)
        rest = 1 - 0.4 * density
        assert Growth(ratio, 0.0, 0.4).scale == pytest.approx(np.mean((c + 0.75) / (c + rest)), rel=1e-6)
    assert Growth(1.4, 0.2, 1.0).scale == pytest.approx(Growth(1.3, 0.0, 1.0).scale)
    for nothing in (
        Growth(1.4, 0.5, 1.0),
        Growth(1.0, 0.0, 1.0),
        Growth(0.6, 0.0, 0.5),
        Growth(9.0, np.inf, 1.0),
    ):
        assert nothing.scale == 1.0
    assert Growth(50.0, 0.0, 1.0).scale == Growth(2.7, 0.0, 1.0).scale < 2.5
    c = (0.6 - 0.3 * 1.3) / 0.3
    assert Growth(1.3, 0.0, 1.0, 0.6, 0.3).scale == pytest.approx((c + 0.6) * np.log(1 + 1 / c))


@pytest.mark.parametrize("blocks", [False, True])
def test_the_slope_is_least_squares_and_its_error_is_what_it_varies_by(blocks):
    rng, removed, rows = np.random.default_rng(0), np.array([2, 5, 9]), 400
    masks = rng.random((rows, 12)) < 0.5
    design = RemovalDesign(masks, np.arange(rows) % 8 if blocks else None)
    weights = rng.standard_normal((3, 4))
    signal = masks[:, removed, None] * 2.0 - masks[:, removed].sum(1)[:, None, None] * 0.5
    slopes, errors = [], []
    for _ in range(200):
        outputs = design.centred(signal + rng.standard_normal((rows, 3, 4)))
        found, spread = _along(design, outputs, removed, weights)
        slopes.append(found)
        errors.append(spread)
    own = design.centred(masks[:, removed].astype(float))
    plain = 0.0
    for j in range(3):
        kept = np.stack([own[:, j], own.sum(1) - own[:, j]], axis=1)
        gains = np.linalg.lstsq(kept, outputs[:, j], rcond=None)[0]
        plain -= float(weights[j] @ (gains[0] + 2 * gains[1]))
    assert found == pytest.approx(plain, rel=1e-9)
    assert np.mean(slopes) == pytest.approx(
        -float(weights.sum()) * (1.5 - 1.0), abs=4 * np.std(slopes) / 200**0.5
    )
    assert np.mean(errors) == pytest.approx(np.std(slopes), rel=0.25)


def test_weights_turn_from_what_trainings_swing_along():
    rng, told = np.random.default_rng(0), np.ones((3, 2))
    outputs = rng.standard_normal((500, 3, 2))
    outputs[:, 0, 0] += 10 * rng.standard_normal(500)
    outputs -= outputs.mean(0)
    flat = outputs.reshape(500, -1)
    covariance = flat.T @ flat / 500
    exact = np.linalg.solve(covariance + 3 * np.trace(covariance) / 6 * np.eye(6), told.ravel())
    np.testing.assert_allclose(_quietly(outputs, told).ravel(), exact, rtol=1e-3)
    assert _quietly(outputs, told)[0, 0] < 0.5 * _quietly(outputs, told)[1, 0]
    np.testing.assert_array_equal(_quietly(np.zeros((5, 3, 2)), told), told)


def test_weights_that_are_not_found_are_a_named_error(monkeypatch):
    monkeypatch.setattr(integrated_module, "cg", lambda _, b, **__: (b, 7))
    with pytest.raises(TrainingError, match=r"dl-659.*6 outputs.*7 steps"):
        _quietly(np.ones((5, 3, 2)), np.ones((3, 2)))


class Still(Saturating):
    """Nothing that is removed does anything."""

    def answers(self, masks):
        return np.zeros((len(masks), ROWS * COLUMNS))


def test_where_nothing_happens_nothing_grows():
    found = integrated()
    assert found.growth(of(Still(), SUPPORT)) == Growth(1.0, float("inf"), 1.0)
    assert not found.changes(of(Still(), SUPPORT)).any()


def test_settings_that_cannot_be_meant():
    for many, few in ((0.25, 0.75), (0.5, 0.5)):
        with pytest.raises(BadInput, match=r"dl-687.*see no less"):
            Integrated(by(fraction=many), subsets(fraction=few))
    with pytest.raises(BadInput, match=r"dl-681.*sparse subsets of 149"):
        Integrated(by(), Subsets(n=149, count=60, fraction=0.25))
    with pytest.raises(BadInput, match=r"dl-680.*3 trainings a seed"):
        Integrated(by(), subsets(count=40, fraction=0.25, seeds=20))
    kept = Subsets(n=N, count=4, fraction=0.25)
    with pytest.raises(BadInput, match="dl-684"):
        Integrated(by(), kept).changes(of(Saturating(), np.arange(100)))
    assert Integrated(by(count=500), subsets(count=200, fraction=0.25)).trainings == 700
