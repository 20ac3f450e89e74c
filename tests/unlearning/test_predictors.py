"""Predicted oracles: exact in a world where removals add up, and honest about what is their own."""

import dataclasses

import numpy as np
import pytest
from unlearning_cases import digits

from dataloupe._errors import BadInput, UnitsError
from dataloupe._identity import Stream
from dataloupe.core import AbstractAttributor, DenseAttribution, Info, MemoryLab, Outcomes, Subsets
from dataloupe.lab import Lab
from dataloupe.methods import TRAK, FeatureSimilarity
from dataloupe.unlearning import (
    Attributed,
    Calibrated,
    Context,
    Gradients,
    Integrated,
    Predictor,
    Regression,
    everything,
)
from dataloupe.unlearning._calibrated import _drawn

N, ROWS, COLUMNS = 300, 400, 10
ENOUGH = Subsets(n=N, count=400, fraction=0.75, kind="bernoulli")
"""Of several sizes: subsets of one size cannot tell what the size does."""


class Additive(MemoryLab):
    """A lab whose trainings predict the sum of the kept rows' effects, planted."""

    def __init__(self, effects, noise=0.0, luck=0.0):
        super().__init__()
        self.effects, self.noise, self.luck = effects, noise, luck

    def outcomes(self, question, subsets, *, repeats=1):  # noqa: ARG002
        masks = subsets.masks().astype(np.float64)
        values = masks @ self.effects
        values += self.noise * np.random.default_rng(0).standard_normal(values.shape)
        values += self.luck * np.random.default_rng(1).standard_normal((len(masks), 1))[subsets.blocks]
        found = Outcomes.from_arrays(masks.astype(bool), np.repeat(values[:, None], repeats, axis=1))
        return dataclasses.replace(found, subsets=dataclasses.replace(found.subsets, seeds=subsets.seeds))


def planted(seed=0, alike=()):
    rng = np.random.default_rng(seed)
    effects = rng.standard_normal((N, ROWS * COLUMNS))
    if len(alike):
        effects[alike] = effects[alike[0]]
    return effects


def change(effects, removed):
    return -effects[removed].sum(0).reshape(ROWS, COLUMNS)


def of(lab, forget, kept=None):
    return Context.of(digits().question, lab, forget, kept=kept)


def error(found, truth):
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


def test_with_enough_trainings_the_sum_is_exact():
    effects, forget = planted(), np.array([4, 9, 77])
    by = Regression(ENOUGH, penalty=1e-7, effect="sum")
    found = by.changes(of(Additive(effects), forget))
    assert found.shape == (ROWS, COLUMNS)
    assert error(found, change(effects, forget)) < 1e-3


def test_what_a_seed_does_to_a_block_is_no_noise():
    effects, forget = planted(), np.array([4, 9, 77])
    lucky = Additive(effects, luck=100.0)
    shared = dataclasses.replace(ENOUGH, seeds=8)
    found = Regression(shared, penalty=1e-7, effect="sum").changes(of(lucky, forget))
    assert error(found, change(effects, forget)) < 1e-3
    alone = Regression(ENOUGH, penalty=1e-7, effect="sum").changes(of(lucky, forget))
    assert error(alone, change(effects, forget)) > 1.0


def test_a_group_of_rows_alike_is_not_shrunk_where_the_sum_is():
    forget = np.arange(20, 50)
    lab = Additive(planted(alike=forget))
    truth = change(lab.effects, forget)
    subsets = Subsets(n=N, count=250, fraction=0.75)
    group = Regression(subsets, penalty=1.0, effect="group").changes(of(lab, forget))
    total = Regression(subsets, penalty=1.0, effect="sum").changes(of(lab, forget))
    scale = [float((one * truth).sum() / (truth**2).sum()) for one in (group, total)]
    assert scale[0] == pytest.approx(1.0, abs=0.05)
    assert scale[1] < 0.7


def test_diag_is_each_rows_own_and_nothing_else():
    effects, forget = planted(), np.array([4, 9])
    by = Regression(ENOUGH, penalty=1e-7, effect="diag")
    found = by.changes(of(Additive(effects), forget))
    assert not found[np.setdiff1d(np.arange(ROWS), forget)].any()
    own = effects.reshape(N, ROWS, COLUMNS)
    for row in forget:
        assert np.allclose(found[row], -own[row, row], atol=1e-2)


class Told(TRAK):
    """A method that knows the planted effects, up to a scale."""

    effects = planted()

    def factored(self, question, lab):  # noqa: ARG002
        return DenseAttribution(0.25 * self.effects.T, Info("told"), units="relative")


def test_subsets_of_one_size_tell_effects_but_for_their_mean():
    effects, forget = planted() + 5.0, np.array([4, 9, 77])
    by = Regression(Subsets(n=N, count=400, fraction=0.75), penalty=1e-7, effect="sum")
    found = by.changes(of(Additive(effects), forget))
    assert error(found, change(effects - effects.mean(0), forget)) < 1e-3


def test_a_prior_tells_what_few_trainings_do_not_and_gets_its_scale_from_them():
    forget = np.array([4, 9, 77, 120])
    lab = Additive(planted())
    subsets = Subsets(n=N, count=30, fraction=0.75)
    alone = Regression(subsets, penalty=1.0).changes(of(lab, forget))
    helped = Regression(subsets, penalty=1.0, prior=Told()).changes(of(lab, forget))
    truth = change(lab.effects, forget)
    assert error(alone, truth) > 0.5
    assert error(helped, truth) < 1e-3


def test_the_penalty_is_chosen_by_leave_one_out():
    lab = Additive(planted(), noise=60.0)
    by = Regression(Subsets(n=N, count=100, fraction=0.75))
    by.changes(of(lab, [3]))
    noisy = by.fitted(digits().question, lab).penalty
    clean = (
        Regression(Subsets(n=N, count=400, fraction=0.75))
        .fitted(digits().question, Additive(planted()))
        .penalty
    )
    assert clean < noisy


def test_what_is_gone_already_is_not_removed_again():
    effects = planted()
    kept = np.ones(N, dtype=bool)
    kept[[1, 2]] = False
    by = Regression(ENOUGH, penalty=1e-7, effect="sum")
    found = by.changes(of(Additive(effects), [5, 6], kept))
    assert error(found, change(effects, np.array([5, 6]))) < 1e-3


def test_gradients_of_real_models_point_the_way_that_retraining_goes(tmp_path):
    case, lab = digits(), Lab(tmp_path, backend="stacked", progress=False)
    forget = np.flatnonzero(case.question.train.labels.numpy() == 3)[:20]
    context = Context.of(case.question, lab, forget)
    every = everything(case.question)
    by = Gradients(TRAK(models=3, dim=512), Subsets(n=N, count=12, seed=2))
    mask = np.ones((6, N), dtype=bool)
    mask[:, forget] = False
    without = lab.outcomes(every, Subsets.listed(mask, seed=1)).values.mean((0, 1))
    before = lab.outcomes(every, Subsets.full(N, 6, seed=2)).values.mean((0, 1))
    truth = (without - before).reshape(-1, COLUMNS)
    for effect in ("sum", "group"):
        found = Gradients(by.method, by.subsets, effect).changes(context)
        assert np.corrcoef(found[forget].ravel(), truth[forget].ravel())[0, 1] > 0.5


def test_an_attribution_needs_units_and_is_taken_as_it_is():
    effects = planted()
    relative = DenseAttribution(effects.T, Info("raw"), units="relative")
    with pytest.raises(UnitsError, match="dl-507"):
        Attributed(relative).changes(of(Additive(effects), [1]))
    with pytest.raises(BadInput, match="dl-686"):
        Attributed(DenseAttribution(effects.T[:800], Info("other"))).changes(of(Additive(effects), [1]))
    found = Attributed(DenseAttribution(effects.T, Info("known"))).changes(of(Additive(effects), [1, 8]))
    assert error(found, change(effects, np.array([1, 8]))) < 1e-6


class Off:
    """A predictor that is right but for its scale."""

    trainings = 7

    def __init__(self, effects, scale):
        self.effects, self.scale = effects, scale

    def changes(self, context):
        return change(self.effects, context.forget) * self.scale


@pytest.mark.parametrize("effect", ["sum", "group", "diag"])
def test_the_removed_rows_alone_are_the_same_rows(effect):
    """With noise, so that the group's part is shrunk, by a residual that is of all predictions."""
    alike = np.array([4, 9, 77, 150])
    lab, few = Additive(planted(alike=alike), noise=2.0), Subsets(n=N, count=200, fraction=0.75, seed=3)
    by, context = Regression(few, effect=effect), of(lab, alike)
    alone = by.of_removed(context.question, lab, alike)
    np.testing.assert_allclose(alone, by.changes(context)[alike], rtol=1e-4, atol=1e-4)


def test_the_removed_rows_alone_have_the_same_prior(tmp_path):
    lab, forget = Lab(tmp_path, progress=False), np.array([3, 40, 41])
    trak = TRAK(models=3, dim=64)
    by = Regression(Subsets(n=N, count=20, fraction=0.75), prior=trak)
    context = of(lab, forget)
    alone = by.of_removed(context.question, lab, forget)
    np.testing.assert_allclose(alone, by.changes(context)[forget], rtol=1e-3, atol=1e-4)
    calibrated = Calibrated(by, gradients=trak, sets=4, seeds=1)
    assert calibrated._factored(context) is by.fitted(context.question, lab).prior
    for quick, whole in zip(calibrated._of_removed(context), calibrated._basis(context), strict=True):
        np.testing.assert_allclose(quick, whole[forget], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("effect", ["sum", "group"])
def test_the_removed_rows_alone_by_gradients(tmp_path, effect):
    lab, forget = Lab(tmp_path, progress=False), np.array([3, 40, 41])
    by = Gradients(TRAK(models=3, dim=64), Subsets(n=N, count=12, seed=2), effect)
    context = of(lab, forget)
    alone = by.of_removed(context.question, lab, forget)
    np.testing.assert_allclose(alone, by.changes(context)[forget], rtol=1e-3, atol=1e-4)
    calibrated = Calibrated(by, gradients=by.method, sets=4, seeds=1)
    assert calibrated._factored(context) is by.scores(context.question, lab)
    assert calibrated.trainings == 12 + 5, "the models are behind the predictor already"


def test_pseudo_forget_sets_tell_the_scale():
    effects = planted() - planted().mean(0)
    by = Calibrated(Off(effects, 0.5), sets=8)
    context = of(Additive(effects), np.arange(30, 50))
    assert error(by.changes(context), change(effects, context.forget)) < 0.02
    assert by.trainings == 7 + 9 * 5


def test_a_scale_grows_with_the_change():
    """Truth is (a + b r) times the sum, r the root mean square of the sum on the removed rows; the predictor gives the sum."""
    effects = planted() - planted().mean(0)

    class Growing(Additive):
        def outcomes(self, question, subsets, *, repeats=1):
            found = super().outcomes(question, subsets, repeats=repeats)
            for values, mask in zip(found.values, subsets.masks(), strict=True):
                told = change(effects, np.flatnonzero(~mask))
                strength = 0.0 if mask.all() else np.sqrt((told[:N][~mask] ** 2).mean())
                values[:] = effects.sum(0) + (0.5 + 0.25 * strength) * told.ravel()
            return found

    context = of(Growing(effects), np.arange(30, 34))
    by = Calibrated(Off(effects, 1.0), sets=8)
    scales = by.scales(context)
    assert (scales.a, scales.b) == pytest.approx((0.5, 0.25), rel=1e-3)


class Bent(AbstractAttributor):
    """Gradients whose group effect is their sum and half of another world's."""

    models = 3

    def __init__(self, effects, other):
        self.effects, self.other = effects, other

    def needs(self, *_):
        raise NotImplementedError

    compute = needs

    def factored(self, every, lab):  # noqa: ARG002
        return self

    def embedded(self):
        return self.other[:N, :3]

    def on(self, targets):
        return OfSome(self, targets)

    def effect(self, removals, *, kind):
        found = [change(self.effects + (kind == "group") * 0.5 * self.other, ids) for ids in removals]
        return np.stack(found).reshape(len(found), -1)


class OfSome:
    """The same on some predictions."""

    def __init__(self, whole, targets):
        self.whole, self.targets = whole, targets

    def effect(self, removals, *, kind):
        return self.whole.effect(removals, kind=kind)[:, self.targets]


def test_what_a_group_does_beyond_the_sum_comes_from_gradients():
    effects, other = (planted(seed) - planted(seed).mean(0) for seed in (0, 1))
    by = Calibrated(Off(effects, 0.5), gradients=Bent(7 * effects, other), sets=8)
    context = of(Additive(effects + 0.3 * other), np.arange(30, 50))
    scales = by.scales(context)
    assert (scales.a, scales.b) == pytest.approx((2.0, 0.6), rel=1e-3)
    assert by.trainings == 7 + 9 * 5 + 3
    assert error(by.changes(context), change(effects + 0.3 * other, context.forget)) < 1e-3
    with pytest.raises(BadInput, match=r"dl-685.*no factors"):
        Calibrated(Off(effects, 1.0), gradients=FeatureSimilarity())


class Lawful(Integrated):
    """An integrated prediction that is told."""

    def changes(self, context):
        return change(planted() - planted().mean(0), context.forget)

    def of_removed(self, question, lab, removed):  # noqa: ARG002
        return change(planted() - planted().mean(0), removed)[removed]


def test_a_scale_that_a_law_gives_is_not_fitted_again():
    """The truth is 0.8 p + 0.3 d, with d nearly orthogonal to p: a stays 1, and b is what d has alone."""
    effects, other = (planted(seed) - planted(seed).mean(0) for seed in (0, 1))
    sparse = Subsets(n=N, count=60, fraction=0.25)
    by = Calibrated(Lawful(Regression(ENOUGH), sparse), gradients=Bent(effects, 2 * other), sets=8)
    scales = by.scales(of(Additive(0.8 * effects + 0.3 * other), np.arange(30, 50)))
    assert scales.a == 1.0
    assert scales.b == pytest.approx(0.3, abs=0.02)


class Diverging(Additive):
    """Trainings without some rows diverge, but for the first few."""

    sound = 0

    def outcomes(self, question, subsets, *, repeats=1):
        found = super().outcomes(question, subsets, repeats=repeats)
        lost = ~subsets.masks().all(axis=1) & (np.arange(subsets.count) > self.sound)
        return dataclasses.replace(found, status=np.where(lost[:, None], 1, found.status).astype(np.uint8))


def test_pseudo_forget_sets_whose_trainings_diverged_are_left_out_and_counted():
    effects = planted() - planted().mean(0)
    lab = Diverging(effects)
    by, context = Calibrated(Off(effects, 0.5), sets=8), of(lab, np.arange(9))
    with pytest.raises(BadInput, match=r"dl-685.*0 with a pair"):
        by.scales(context)
    lab.sound = 5
    scales = by.scales(context)
    assert (scales.sets, scales.lost) == (5, 3)
    assert error(by.changes(context), change(effects, context.forget)) < 0.02


def test_coherent_pseudo_forget_sets_are_the_rows_nearest_to_one():
    places = np.repeat(np.eye(4), 10, axis=0) + 1e-3 * np.random.default_rng(0).standard_normal((40, 4))
    places[10:] *= 1e-6
    drawn = _drawn(places, 10, Stream.root(3), coherent=True)
    assert drawn.tolist() == list(range(10))  # the loud ones, and all of them
    alone = _drawn(places, 10, Stream.root(3), coherent=False)
    assert len(np.unique(alone)) == 10 and len(np.unique(alone // 10)) > 1
    assert len(_drawn(np.zeros((40, 4)), 10, Stream.root(3), coherent=True)) == 10


def test_pseudo_forget_sets_that_tell_nothing_are_refused():
    with pytest.raises(BadInput, match="dl-685"):
        Calibrated(Off(planted(), 1.0), sets=2)
    with pytest.raises(BadInput, match="dl-685"):
        Calibrated(Off(planted(), 1.0)).changes(of(Additive(planted()), np.arange(200)))


def test_settings_that_cannot_be_meant():
    subsets = Subsets(n=N, count=40)
    with pytest.raises(BadInput, match="dl-680"):
        Regression(subsets, penalty=0.0)
    with pytest.raises(BadInput, match="dl-680"):
        Gradients(TRAK(), Subsets(n=N, count=2))
    with pytest.raises(BadInput, match=r"dl-680.*3 trainings a seed"):
        Regression(Subsets(n=N, count=40, seeds=20))
    with pytest.raises(BadInput, match="dl-681"):
        Regression(Subsets(n=7, count=40)).changes(of(Additive(planted()), [1]))
    assert all(isinstance(one, Predictor) for one in (Regression(subsets), Gradients(TRAK(), subsets)))
    assert Regression(subsets).trainings == 40
