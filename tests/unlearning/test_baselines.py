"""Every baseline is itself, leaves what it is given alone, and does to many models what it does to one."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from torch import nn
from unlearning_cases import (
    FORGET,
    METHODS,
    TUNED,
    asked,
    assert_same,
    context,
    digits,
    linear_data,
    loss,
    norms,
    numbers,
    small_cnn,
)

from dataloupe import outputs, unlearning
from dataloupe._errors import BadInput, CapabilityError
from dataloupe.core import Examples, MemoryLab, Question, Subsets, TorchModel
from dataloupe.lab import Lab
from dataloupe.learners import SGD
from dataloupe.testing import RidgeLearner
from dataloupe.unlearning import (
    SCRUB,
    AscentDescent,
    CFk,
    EUk,
    GradientAscent,
    GradientDescent,
    L1Sparse,
    NegGradPlus,
    NewtonStep,
    Retrain,
    Unlearner,
    unlearn,
)
from dataloupe.unlearning._scrub import _rewound, _States, _Teacher

# --- what holds for all ------------------------------------------------------------------------------------


def test_every_method_that_is_handed_on_is_tested():
    known = {name for name in vars(unlearning) if isinstance(getattr(unlearning, name), type)}
    methods = {name for name in known if hasattr(getattr(unlearning, name), "many")}
    assert methods - MATCHING == {type(method).__name__ for method in METHODS}


MATCHING = {"DMM", "OracleMatching", "DMDirect"}
"""Tested in test_matching.py."""


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
class TestEveryMethod:
    def test_it_is_a_method_with_a_word_for_tables(self, method):
        assert isinstance(method, Unlearner)
        assert re.fullmatch(r"[\w+ -]{3,20}", method.name)

    def test_the_models_given_are_not_touched(self, method):
        case = digits()
        before = [numbers(model) for model in case.models]
        method.many(case.models[:2], context(case))
        for model, known in zip(case.models, before, strict=True):
            assert_same(numbers(model), known)

    def test_many_are_one_by_one(self, method):
        case = digits()
        asked = context(case, seed=5)
        many = method.many(case.models, asked)
        alone = [method(model, asked.at(i)) for i, model in enumerate(case.models)]
        for one, other in zip(many, alone, strict=True):
            assert_same(numbers(one), numbers(other), 1e-5)

    def test_the_same_again(self, method):
        case = digits()
        first, second = (method(case.models[0], context(case)) for _ in range(2))
        assert_same(numbers(first), numbers(second))

    def test_it_answers_a_request(self, method):
        case = digits()
        found = unlearn(case.models[0], FORGET, method=method, lab=case.lab, question=case.question)
        assert found.finite.all() and found.method == method.name
        assert not found.model.origin.kept[FORGET].any()
        assert found.passes > 0 or method.name == "nothing"


@pytest.mark.parametrize("method", TUNED, ids=lambda method: method.name)
def test_a_lab_tunes_as_the_plain_one_does(method, tmp_path):
    case = digits()
    here = method.many(case.models, context(case))
    fast = dataclasses.replace(context(case), lab=Lab(tmp_path))
    for one, other in zip(here, method.many(case.models, fast), strict=True):
        assert_same(numbers(one), numbers(other), 1e-5)


@pytest.mark.parametrize("method", TUNED, ids=lambda method: method.name)
def test_frozen_norms_keep_their_statistics(method):
    case = norms()
    model = case.models[0]
    assert_same(method(model, context(case)).buffers, model.buffers)
    if not getattr(method, "rewind", False):
        live = dataclasses.replace(method, frozen_norms=False)(model, context(case))
        assert not torch.equal(live.buffers["1.running_mean"], model.buffers["1.running_mean"])


@pytest.mark.parametrize("frozen", [True, False])
def test_a_lab_tunes_models_with_norms_as_the_plain_one_does(frozen, tmp_path):
    case = norms()
    method = GradientDescent(epochs=1, lr=0.02, frozen_norms=frozen)
    here = method.many(case.models, context(case))
    fast = dataclasses.replace(context(case), lab=Lab(tmp_path))
    for one, other in zip(here, method.many(case.models, fast), strict=True):
        assert_same(numbers(one), numbers(other), 1e-5)


def test_a_lab_tunes_convolutions_as_the_plain_one_does(tmp_path):
    """One by one, where others are stacked."""
    case = asked(small_cnn, rows=120, epochs=1)
    method = GradientDescent(epochs=1, lr=0.02)
    here = method.many(case.models, context(case))
    fast = dataclasses.replace(context(case), lab=Lab(tmp_path))
    for one, other in zip(here, method.many(case.models, fast), strict=True):
        assert_same(numbers(one), numbers(other), 1e-5)


# --- nothing, and all --------------------------------------------------------------------------------------


def test_retraining_is_what_the_lab_measures():
    case = digits()
    asked = context(case, seed=3)
    subsets = Retrain().subsets(asked, 3)
    found = Retrain().many(case.models, asked)
    measured = case.lab.outcomes(case.question, subsets).values[:, 0]
    np.testing.assert_array_equal([case.question.measure(model) for model in found], measured)
    assert subsets.masks().sum() == 3 * (case.question.n - len(FORGET))
    assert asked.ledger.passes == asked.retraining == 5 * 260


def test_retrained_models_differ_from_each_other():
    case = digits()
    a, b = Retrain().many(case.models[:2], context(case))
    assert not torch.equal(a.params["0.weight"], b.params["0.weight"])


# --- by gradients ------------------------------------------------------------------------------------------


def change(method):
    """How much a method moves the loss on the rows to forget, and on those that stay."""
    case = digits()
    asked = context(case)
    model = case.models[0]
    found = method(model, asked)
    return [
        loss(found, case.question.train, ids) - loss(model, case.question.train, ids)
        for ids in (asked.forget, asked.retained)
    ]


def test_descent_lowers_the_retained_loss():
    assert change(GradientDescent(epochs=2, lr=0.02))[1] < -0.01


def test_ascent_raises_the_loss_of_the_rows_to_forget():
    forget, retained = change(GradientAscent(epochs=4, lr=0.02))
    assert forget > 0.01 and forget > retained


def test_ascent_and_descent_do_both():
    """Each epoch of both leaves the rows to forget worse, and the others better, than the other half alone."""
    both = change(AscentDescent(epochs=3, ascents=3, lr=0.02, forget_batch=8))
    down, up = (
        change(GradientDescent(epochs=3, lr=0.02)),
        change(GradientAscent(epochs=3, lr=0.02, batch_size=8)),
    )
    assert both[0] > down[0] and both[1] < up[1]


def test_neggrad_does_both():
    both, down = (
        change(NegGradPlus(epochs=3, alpha=0.8, lr=0.02)),
        change(GradientDescent(epochs=3, lr=0.02)),
    )
    assert both[0] > down[0] + 0.01 and both[1] < 0


def test_neggrad_without_ascent_is_descent():
    case = digits()
    up = NegGradPlus(epochs=2, alpha=1.0)(case.models[0], context(case))
    down = GradientDescent(epochs=2)(case.models[0], context(case))
    assert_same(numbers(up), numbers(down), 1e-6)


def test_neggrad_goes_through_all_rows_to_forget():
    """Batch after batch the next ones, the last batch of retained rows included."""
    case = digits()
    asked = context(case)
    batches = list(unlearning._descent.both_sides(asked, 0.9, 50, 15, 0)(7))
    up = np.concatenate([turn.ids[turn.weights < 0] for turn in batches])
    assert len(batches) == 6 and len(up) == 90
    assert np.bincount(up, minlength=300)[FORGET].min() == 2
    for turn in batches:
        assert turn.weights[turn.weights > 0].sum() == pytest.approx(0.9)
        assert turn.weights[turn.weights < 0].sum() == pytest.approx(-0.1)


def test_l1_makes_weights_small():
    case = digits()
    settings = {"epochs": 4, "lr": 0.02}
    sparse = L1Sparse(gamma=0.01, **settings)(case.models[0], context(case))
    plain = L1Sparse(gamma=0.0, **settings)(case.models[0], context(case))
    assert_same(numbers(plain), numbers(GradientDescent(**settings)(case.models[0], context(case))), 1e-6)
    sizes = [sum(float(p.abs().sum()) for p in one.params.values()) for one in (sparse, plain)]
    small = [sum(int((p.abs() < 1e-3).sum()) for p in one.params.values()) for one in (sparse, plain)]
    assert sizes[0] < 0.8 * sizes[1] and small[0] > 2 * small[1]


def test_the_penalty_of_l1_fades():
    """It starts at gamma and its last epoch has gamma / epochs: the objective tells."""
    case = digits()
    asked = context(case)
    L1Sparse(epochs=4, lr=1e-9, gamma=1.0)(case.models[0], asked)
    losses = np.array([stage[1][0] for stage in asked.ledger.stages])
    size = sum(float(p.abs().sum()) for p in case.models[0].params.values())
    np.testing.assert_allclose(np.diff(losses), -size / 4, rtol=1e-3)


# --- SCRUB -------------------------------------------------------------------------------------------------


def test_the_student_moves_and_the_teacher_does_not():
    case = digits()
    model = case.models[0]
    before = numbers(model)
    student = SCRUB(epochs=2, max_epochs=1, lr=0.02)(model, context(case))
    assert_same(numbers(model), before)
    assert not torch.equal(student.params["0.weight"], before["0.weight"])


def test_scrub_leaves_its_teacher_where_it_should():
    """More max steps take it further from the teacher on the rows to forget; the first ones start where the slope is 0."""
    often, once = (change(SCRUB(epochs=4, max_epochs=k, lr=0.02, forget_batch=8)) for k in (4, 1))
    assert often[0] > once[0] + 0.01


def test_the_distance_is_that_of_torch():
    teacher, student = torch.randn(2, 7, 4), torch.randn(2, 3, 4)
    ids = np.array([[0, 5, 6], [1, 2, 3]])
    seen = unlearning._settings.Seen(student, None, ids, torch.ones(2, 3), slice(0, 2), {})
    found = _Teacher(teacher, np.arange(7), 4.0).distance(seen)
    for m in range(2):
        kl = nn.functional.kl_div(
            (student[m] / 4).log_softmax(-1), (teacher[m, ids[m]] / 4).softmax(-1), reduction="batchmean"
        )
        torch.testing.assert_close(found[m], 16 * kl)


def test_scrub_costs_its_epochs_and_one_look_at_the_teacher():
    case = digits()
    asked = context(case)
    SCRUB(epochs=3, max_epochs=2)(case.models[0], asked)
    assert asked.ledger.passes == pytest.approx(300 / 3 + 3 * 260 + 2 * 40)
    assert [name for name, _ in asked.ledger.stages] == ["max", "min", "max", "min", "min"]


def test_the_rate_falls_after_each_decay():
    case = digits()
    stages = SCRUB(epochs=6, max_epochs=1, decays=(3, 5))._stages(
        context(case), _Teacher(torch.zeros(1, 1, 10), np.zeros(300, int), 4.0), None
    )
    rates = [stage.rate for stage in stages if stage.name == "min"]
    np.testing.assert_allclose(rates, [1, 1, 1, 0.1, 0.1, 0.01])


def test_rewinding_gives_the_model_of_an_epoch():
    """The state kept after epoch e is the model that e epochs alone would give, momentum and all."""
    case = digits()
    asked = context(case)
    method = SCRUB(epochs=4, max_epochs=1, lr=0.05, decays=(2,), forget_batch=8, rewind=True)
    found = method.many(case.models, asked)
    name, ends = asked.ledger.stages[-1]
    assert name == "rewound to epoch" and min(ends) < 4
    for model, start, end, place in zip(found, case.models, ends, range(3), strict=True):
        epochs = int(end)
        short = dataclasses.replace(method, epochs=epochs, rewind=False)
        assert_same(numbers(model), numbers(short(start, context(case).at(place))), 1e-5)


def test_rewinding_chooses_the_nearest_error_and_of_equals_the_latest():
    """A model that says class 0 or class 1: errors are known by hand."""
    inputs = torch.zeros(4, 1)
    rows = Examples(inputs, labels=torch.tensor([0, 0, 1, 1]))
    question = Question(SGD(lambda: nn.Linear(1, 2)), rows, rows, outputs.margin)
    asked = unlearning.Context.of(question, MemoryLab(), [0])
    says = [
        {"weight": torch.zeros(2, 1), "bias": torch.tensor(bias)}
        for bias in ([1.0, 0.0], [0.0, 1.0], [0.0, 2.0])
    ]
    last = TorchModel(nn.Linear(1, 2), {**says[2], "bias": torch.tensor([2.0, 0.0])})

    states = _States()
    states._known = {epoch: {0: says[epoch - 1]} for epoch in (1, 2, 3)}
    reference = np.array([2, 3])  # the last model says 0: all wrong here, so that forgetting row 0 is wanted
    (found,) = _rewound([last], states, asked, reference, epochs=4)
    assert found.params["bias"].tolist() == [0.0, 2.0]
    assert asked.ledger.passes == pytest.approx((4 * 1 + 2) / 3)


def test_a_diverged_student_is_not_rewound():
    case = digits()
    method = SCRUB(epochs=3, max_epochs=2, lr=1e30, rewind=True)
    found = unlearn(case.models[0], FORGET, method=method, lab=case.lab, question=case.question)
    assert not found.finite.any()
    assert_same(numbers(found.model), numbers(case.models[0]))


# --- last layers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [CFk(k=1, epochs=2), EUk(k=1, epochs=2)], ids=lambda m: m.name)
def test_the_other_layers_stay_bit_for_bit(method):
    case = digits()
    model = case.models[0]
    found = method(model, context(case))
    for name in ("0.weight", "0.bias"):
        assert torch.equal(found.params[name], model.params[name])
    for name in ("2.weight", "2.bias"):
        assert not torch.equal(found.params[name], model.params[name])


def test_all_layers_of_a_model_with_norms_move():
    case = norms()
    found = CFk(k=3, epochs=1)(case.models[0], context(case))
    assert not any(torch.equal(p, case.models[0].params[name]) for name, p in found.params.items())


def test_the_new_layer_does_not_depend_on_the_old_one():
    case = digits()
    model = case.models[0]
    other = model.with_params(model.params | {"2.weight": case.models[1].params["2.weight"]})
    a, b = (EUk(epochs=2)(one, context(case)) for one in (model, other))
    assert_same(numbers(a), numbers(b))


def test_the_learner_lends_its_settings():
    case = digits()
    asked, plain = context(case), context(case)
    a = CFk()(case.models[0], asked)
    b = CFk(epochs=5, lr=0.1, batch_size=20, momentum=0.9, weight_decay=0.0)(case.models[0], plain)
    assert_same(numbers(a), numbers(b))
    assert asked.ledger.passes == 5 * 260


def test_more_layers_than_there_are():
    case = digits()
    with pytest.raises(BadInput, match="dl-673.*2 layers"):
        CFk(k=3)(case.models[0], context(case))


# --- Newton ------------------------------------------------------------------------------------------------


def ridge_case(penalty):
    rows = linear_data()
    question = Question(RidgeLearner(penalty), rows, rows, outputs.Value(2))
    return question, unlearning.Context.of(question, MemoryLab(), [1, 5, 9, 30])


@pytest.mark.parametrize("penalty", [0.0, 3.0])
def test_newton_is_retraining_of_ridge(penalty):
    question, asked = ridge_case(penalty)
    weights = torch.ones(question.n)
    model = question.learner.train(question.train, weights, seed=0)
    weights[asked.forget] = 0.0
    exact = question.learner.train(question.train, weights, seed=0)
    found = NewtonStep(rows=None, damping=0.0, l2=penalty)(model, asked)
    assert (model.params["weight"] - exact.params["weight"]).abs().max() > 1e-2
    torch.testing.assert_close(found.params["weight"], exact.params["weight"], rtol=1e-4, atol=1e-4)


def test_newton_takes_the_weight_decay_of_the_removed_rows_along():
    """SGD's penalty is decay / 2 |theta|^2 of the mean loss: n times that of the sum, and n shrinks."""
    rows, decay = linear_data(), 0.05
    learner = SGD(
        lambda: nn.Linear(5, 2, bias=False), epochs=400, batch_size=40, loss="squared", weight_decay=decay
    )
    question = Question(learner, rows, rows, outputs.Value(2))
    asked = unlearning.Context.of(question, MemoryLab(), [1, 5, 9, 30])
    kept = torch.ones(40)
    model = RidgeLearner(decay * 40).train(rows, kept, seed=0)
    kept[asked.forget] = 0.0
    exact = RidgeLearner(decay * 36).train(rows, kept, seed=0)
    found = NewtonStep(rows=None, damping=0.0)(model, asked)
    torch.testing.assert_close(found.params["weight"], exact.params["weight"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.params["weight"], asked_again(model, asked), rtol=1e-3, atol=1e-3)


def asked_again(model, asked):
    """The weights that SGD finds on the retained rows."""
    return Retrain()(model, asked).params["weight"]


def test_newton_is_one_step_of_a_logistic_model():
    """Against the whole Hessian of the logits, solved densely in float64."""
    draw = torch.Generator().manual_seed(1)
    rows = Examples(torch.randn(30, 4, generator=draw), labels=torch.randint(3, (30,), generator=draw))
    question = Question(SGD(lambda: nn.Linear(4, 3), epochs=2), rows, rows, outputs.margin)
    asked = unlearning.Context.of(question, MemoryLab(), [0, 7])
    model = asked.lab.models(question, Subsets.full(30))[0]
    theta = torch.cat([model.params["weight"].flatten(), model.params["bias"]]).double()

    def total(theta, ids):
        logits = rows.inputs[ids].double() @ theta[:12].reshape(3, 4).T + theta[12:]
        return nn.functional.cross_entropy(logits, rows.labels[ids], reduction="sum")

    hessian = torch.func.hessian(total)(theta, torch.from_numpy(asked.retained))
    gradient = torch.func.grad(total)(theta, torch.from_numpy(asked.forget))
    exact = theta + torch.linalg.solve(hessian + 0.5 * torch.eye(15), gradient)
    found = NewtonStep(rows=None, damping=0.0, l2=0.5)(model, asked).params
    flat = torch.cat([found["weight"].flatten(), found["bias"]]).double()
    torch.testing.assert_close(flat, exact, rtol=1e-4, atol=1e-4)


def test_the_mean_diagonal_is_that_of_the_curvature():
    question, asked = ridge_case(0.0)
    model = question.learner.train(question.train, torch.ones(40), seed=0)
    newton = unlearning._newton
    curvature = newton._Curvature(model, newton._Flat(model), asked, asked.retained)
    exact = float(question.train.inputs[asked.retained].square().sum(0).mean())
    assert curvature.mean_diagonal(newton.Stream.root(0)) == pytest.approx(exact, rel=0.2)


def test_newton_says_how_its_solve_went_and_what_it_cost():
    case = digits()
    asked = context(case)
    NewtonStep(rows=90, iterations=4)(case.models[0], asked)
    (_, rounds), (name, residual) = asked.ledger.stages
    assert name == "relative residual" and residual[0] > 0 and rounds == [4.0]
    assert asked.ledger.passes == pytest.approx((4 + 8) * 90 * 5 / 3 + 40)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_solve_that_breaks_says_so(bad):
    solve = unlearning._newton._solve
    one = torch.ones(3, dtype=torch.float64)
    assert solve(lambda v: bad * v, one, 5, 1e-6).x.isnan().all()
    assert solve(lambda v: 2 * v, bad * one, 5, 1e-6).x.isnan().all()
    assert solve(lambda v: 0 * v, one, 5, 1e-6).x.tolist() == [0, 0, 0]
    assert solve(lambda v: 2 * v, 0 * one, 5, 1e-6).residual == 0
    assert solve(lambda v: 2 * v, one, 5, 1e-6).x.tolist() == [0.5, 0.5, 0.5]


def test_newton_forgets():
    forget, retained = change(NewtonStep(rows=None))
    assert forget > 0.01 and abs(retained) < forget / 2


# --- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "code", "word"),
    [
        (lambda: GradientDescent(epochs=0), "dl-670", "epochs = 0"),
        (lambda: GradientDescent(lr=0.0), "dl-670", "lr = 0.0"),
        (lambda: GradientAscent(lr=float("nan")), "dl-670", "GradientAscent with lr"),
        (lambda: GradientDescent(batch_size=0), "dl-670", "batch_size"),
        (lambda: GradientDescent(momentum=1.0), "dl-670", "momentum"),
        (lambda: GradientDescent(weight_decay=-1.0), "dl-670", "weight_decay"),
        (lambda: AscentDescent(epochs=2, ascents=3), "dl-671", "ascents = 3"),
        (lambda: AscentDescent(forget_batch=0), "dl-671", "forget_batch"),
        (lambda: NegGradPlus(alpha=1.5), "dl-671", "alpha = 1.5"),
        (lambda: NegGradPlus(epochs=0), "dl-670", "epochs"),
        (lambda: L1Sparse(gamma=-1.0), "dl-671", "gamma"),
        (lambda: SCRUB(epochs=2), "dl-672", "max_epochs = 3"),
        (lambda: SCRUB(temperature=0.0), "dl-672", "temperature"),
        (lambda: SCRUB(decays=(0,)), "dl-672", "decays"),
        (lambda: SCRUB(rewind=True, frozen_norms=False), "dl-672", "rewind"),
        (lambda: CFk(k=0), "dl-673", "k = 0"),
        (lambda: EUk(lr=-1.0), "dl-673", "lr"),
        (lambda: NewtonStep(rows=0), "dl-674", "rows"),
        (lambda: NewtonStep(damping=-0.1), "dl-674", "damping"),
        (lambda: NewtonStep(iterations=0), "dl-674", "iterations"),
    ],
)
def test_settings_that_cannot_be_meant(make, code, word):
    with pytest.raises(BadInput, match=f"{code}.*{re.escape(word)}"):
        make()


def test_scrub_wants_classes_and_something_to_rewind_to():
    question, asked = ridge_case(1.0)
    with pytest.raises(CapabilityError, match="dl-676"):
        SCRUB()(question.learner.train(question.train, torch.ones(40), seed=0), asked)
    case = digits()
    seven = np.flatnonzero(case.question.targets.labels == 7)
    narrow = dataclasses.replace(case.question, targets=case.question.targets[seven])
    threes = np.flatnonzero(case.question.train.labels == 3)
    with pytest.raises(BadInput, match="dl-677"):
        SCRUB(rewind=True)(case.models[0], unlearning.Context.of(narrow, case.lab, threes))


def test_a_loss_that_is_not_known_is_refused():
    case = digits()
    learner = dataclasses.replace(case.question.learner, loss="squared")
    question = dataclasses.replace(case.question, learner=learner)
    asked = unlearning.Context.of(question, case.lab, FORGET)
    for method in (GradientDescent(), SCRUB(), CFk(), NewtonStep()):
        with pytest.raises(CapabilityError, match="dl-678"):
            method(case.models[0], asked)


def test_a_loss_wants_labels():
    rows = Examples(torch.zeros(4, 2))
    question = Question(SGD(lambda: nn.Linear(2, 2)), rows, linear_data(3, 2), outputs.Value(2))
    model = TorchModel(nn.Linear(2, 2), {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)})
    asked = unlearning.Context.of(question, MemoryLab(), [0])
    for method in (GradientAscent(), NewtonStep()):
        with pytest.raises(BadInput, match="dl-675"):
            method(model, asked)


def test_a_tuning_tells_passes_as_rows_of_one_model():
    case = digits()
    asked = context(case)
    GradientDescent(epochs=2).many(case.models, asked)
    assert asked.ledger.passes == 2 * 260
