"""TRAK and Influence under the loss that was trained: against exact refits without a row."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe import losses, outputs
from dataloupe.core import Examples, LossAsTrained, MemoryLab, Question, Rows, TorchModel
from dataloupe.lab import Lab
from dataloupe.learners import SGD, Checkpoints, SklearnLearner
from dataloupe.methods import TRAK, Influence
from dataloupe.testing import blobs

pytestmark = pytest.mark.usefixtures("unchecked")  # many trainings: shapes are checked by other tests

PENALTY = 5e-3
EXACT = TRAK(models=1, ridge=2e-2, leverage=True)
"""The Newton step of a linear model, in all of its 8 to 21 parameters: without a sketch."""


@dataclasses.dataclass
class Case:
    """Convex training of a linear model, by Newton's method in double precision."""

    loss: object
    labels: torch.Tensor
    inputs: torch.Tensor
    targets: Examples
    row_weights: torch.Tensor | None = None
    output: object = outputs.margin
    columns: int = 2
    refits: dict = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def whole(self):
        return self.fit()

    @property
    def design(self):
        return torch.cat([self.inputs, torch.ones(len(self.inputs), 1)], 1)

    def fit(self, left_out=(), start=None):
        """Parameters ``[c d]`` of ``sum_i w_i loss_i / n + penalty |W|^2``; all but the given rows count."""
        x, rows = self.design, Rows(self.inputs, self.labels)
        kept = torch.ones(len(x)) if self.row_weights is None else self.row_weights.clone()
        kept = kept.double() / len(x)
        kept[list(left_out)] = 0
        flat = torch.zeros(self.columns * x.shape[1], dtype=torch.float64) if start is None else start

        def value(flat):
            z = (x @ flat.view(self.columns, -1).T).requires_grad_()
            return (kept * self.loss.per_row(z, rows)).sum() + PENALTY * flat.square().sum(), z

        for _ in range(40):
            now, z = value(flat)
            first = torch.autograd.grad(now, z, create_graph=True)[0]  # [n, c]
            second = torch.stack(
                [
                    torch.autograd.grad(first[:, c].sum(), z, retain_graph=True)[0]
                    for c in range(self.columns)
                ],
                1,
            )  # [n, c, c]
            gradient = (first.detach().T @ x).flatten() + 2 * PENALTY * flat
            hessian = torch.einsum("nab,nd,ne->adbe", second, x, x).reshape(len(flat), -1)
            hessian += 2 * PENALTY * torch.eye(len(flat))
            step, scale = torch.linalg.solve(hessian, gradient), 1.0
            while scale > 1e-6 and value(flat - scale * step)[0] > now:
                scale /= 2
            flat = flat - scale * step
            if step.abs().max() < 1e-8:
                break
        return flat

    def state(self, flat):
        w = flat.view(self.columns, -1)
        return {"weight": w[:, :-1].clone(), "bias": w[:, -1].clone()}

    def measured(self, flat):
        """The output of these parameters on every target row."""
        net = TorchModel(nn.Linear(self.inputs.shape[1], self.columns).double(), self.state(flat))
        rows = self.targets.take(np.arange(len(self.targets)))
        with torch.no_grad():
            return self.output.value(net, rows).flatten().numpy()

    def question(self, told=True, **settings):
        net = nn.Linear(self.inputs.shape[1], self.columns).double()
        train = Examples(self.inputs, self.labels, row_weights=self.row_weights if told else None)
        source = Checkpoints(net, self.state(self.whole), loss=self.loss if told else None)
        return Question(source, train, self.targets, self.output, **settings)

    def truth(self, rows):
        """What having each row adds to every target, ``[m, rows]``; refitted once a row."""
        for i in (i for i in [-1, *rows] if i not in self.refits):
            self.refits[i] = self.measured(self.fit([] if i < 0 else [i], self.whole))
        return np.stack([self.refits[-1] - self.refits[i] for i in rows], 1)


def double(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rare(loss, **settings):
    """Two classes, 15 rows of 120 of the rare one."""
    y, there = (torch.arange(120) < 15).long(), (torch.arange(12) < 5).long()
    x, asked = double(120, 3) + 1.2 * y[:, None], double(12, 3, seed=1) + 1.2 * there[:, None]
    return Case(loss, settings.pop("labels", y), x, Examples(asked, there), **settings)


def three(loss, **settings):
    y, there = torch.arange(150) % 3, torch.arange(12) % 3
    centres = double(3, 4, seed=2)
    x, asked = double(150, 4) + centres[y], double(12, 4, seed=1) + centres[there]
    return Case(loss, y, x, Examples(asked, there), columns=3, **settings)


def many_labels():
    x, asked = double(120, 4), double(12, 4, seed=1)
    ways = double(4, 3, seed=2)
    y, there = ((part @ ways + double(len(part), 3, seed=3)) > 0.5 for part in (x, asked))
    return Case(
        losses.BinaryCrossEntropy([1.0, 3.0, 6.0]),
        y.double(),
        x,
        Examples(asked, there.long()),
        columns=3,
        output=outputs.LabelMargins(3),
    )


def regression():
    x, asked = double(80, 4), double(12, 4, seed=1)
    y = x @ double(4, seed=2) + double(80, seed=3)
    weights = double(80, seed=4).square()
    return Case(
        losses.SquaredError(),
        y,
        x,
        Examples(asked, torch.zeros(12).double()),
        weights,
        outputs.value,
        columns=1,
    )


def huber():
    case = regression()
    function = functools.partial(nn.functional.huber_loss, reduction="none")
    return dataclasses.replace(
        case, refits={}, loss=losses.Custom(lambda z, y: function(z[:, 0], y), version="huber")
    )


def ignored():
    labels = (torch.arange(120) < 15).long()
    labels[::5] = -100
    return rare(losses.CrossEntropy([1.0, 4.0]), labels=labels)


CASES = {
    "plain": rare(losses.CrossEntropy()),
    "class weights": rare(losses.CrossEntropy([1.0, 8.0])),
    "row weights": rare(losses.CrossEntropy(), row_weights=double(120, seed=5).abs()),
    "ignored labels": ignored(),
    "smoothing": rare(losses.CrossEntropy(label_smoothing=0.1)),
    "focal": rare(losses.CrossEntropy(focal_gamma=2.0)),
    "all at once": rare(losses.CrossEntropy([1.0, 8.0], 0.1), row_weights=double(120, seed=5).abs()),
    "three classes, smoothing": three(losses.CrossEntropy(label_smoothing=0.1)),
    "three classes, focal": three(losses.CrossEntropy(focal_gamma=2.0)),
    "several labels": many_labels(),
    "weighted least squares": regression(),
    "a function": huber(),
}


def correlation(scores, truth):
    return np.corrcoef(scores.ravel(), truth.ravel())[0, 1]


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_exact_refits(name):
    case = CASES[name]
    rows = np.arange(0, len(case.inputs), 8)
    scores = EXACT.attribute(case.question(), MemoryLab()).scores[:, rows]
    assert correlation(scores, case.truth(rows)) > 0.98


@pytest.mark.parametrize("name", ["class weights", "smoothing", "focal", "several labels"])
def test_a_loss_that_nobody_tells_is_not_that_of_the_refits(name):
    """The cases tell losses apart: scores under the loss that is assumed are worse, and say so."""
    case = CASES[name]
    rows = np.arange(0, len(case.inputs), 8)
    right, assumed = (EXACT.attribute(case.question(told=told), MemoryLab()) for told in (True, False))
    truth = case.truth(rows)
    assert correlation(assumed.scores[:, rows], truth) < correlation(right.scores[:, rows], truth) - 0.002
    assert "assumed" in assumed.info.note
    assert "assumed" in assumed.info.certificate["training_loss"]
    assert "assumed" not in right.info.note
    assert right.info.certificate["training_loss"] == case.loss.name


def test_rare_rows_that_weigh_eight_times_have_larger_scores():
    """Class weights 1 : 8 (huggingface/transformers #7024): common rows once came out above the rare ones."""
    case = CASES["class weights"]
    rows = np.r_[:15, 15:120:7]
    scores = np.abs(EXACT.attribute(case.question(), MemoryLab()).scores[:, rows])
    truth = np.abs(case.truth(rows))
    ratio = scores[:, :15].mean() / scores[:, 15:].mean()
    assert ratio == pytest.approx(truth[:, :15].mean() / truth[:, 15:].mean(), rel=0.15)


def test_ignored_rows_have_no_score():
    case = CASES["ignored labels"]
    for method in (EXACT, Influence(models=1, damping=0.01)):
        scores = method.attribute(case.question(), MemoryLab()).scores
        assert not scores[:, ::5].any()
        assert scores[:, 1::5].all()


@pytest.mark.parametrize("name", ["all at once", "three classes, smoothing", "several labels"])
def test_influence_follows_the_loss(name):
    """EK-FAC whitens weight and bias apart, so less is asked of it: more than under the loss that is assumed."""
    case = CASES[name]
    rows = np.arange(0, len(case.inputs), 8)
    truth, method = case.truth(rows), Influence(models=1, damping=0.02)
    found, assumed = (
        correlation(method.attribute(case.question(told=told), MemoryLab()).scores[:, rows], truth)
        for told in (True, False)
    )
    assert found > 0.8
    assert found > assumed


@pytest.mark.parametrize(
    "name", ["class weights", "three classes, smoothing", "several labels", "a function"]
)
@pytest.mark.parametrize("method", [EXACT, Influence(models=1, damping=0.1)], ids=["trak", "influence"])
def test_the_lab_is_as_the_plain_loop(tmp_path, name, method):
    question = CASES[name].question()
    plain = method.attribute(question, MemoryLab()).scores
    for _ in range(2):  # made, and read again
        fast = method.attribute(question, Lab(tmp_path, progress=False)).scores
        np.testing.assert_allclose(fast, plain, atol=2e-5 * np.abs(plain).max())


@pytest.mark.parametrize("name", ["three classes, smoothing", "several labels", "weighted least squares"])
def test_a_group_leaves_with_its_probes(name):
    """Removing rows together is one Newton step; for least squares it is the refit."""
    case = CASES[name]
    group = np.arange(0, len(case.inputs), 9)
    whole = case.whole
    truth = case.measured(case.fit(group.tolist(), whole)) - case.measured(whole)
    attribution = TRAK(models=1, ridge=2e-2).attribute(case.question(), MemoryLab())
    together = attribution.effect([group], kind="group")[0]
    alone = attribution.effect([group], kind="sum")[0]
    assert correlation(together, truth) > 0.98
    sizes = [(found @ truth) / (truth @ truth) for found in (together, alone)]
    assert sizes[0] > sizes[1]  # rows that resemble each other do more together
    if name == "weighted least squares":
        assert abs(sizes[0] - 1) < abs(sizes[1] - 1)


def test_influence_takes_probes_out_of_a_group_as_dense_algebra_does():
    """phi' (H - sum of the group's probes + ridge)^-1 g, by matrices."""
    case = CASES["three classes, smoothing"]
    question, lab, method = case.question(), MemoryLab(), Influence(models=1, damping=0.05)
    attribution, group = method.attribute(question, lab), np.arange(0, 150, 30)
    found = attribution.effect([group], kind="group")[0]
    plain = attribution.effect([group], kind="sum")[0]
    assert correlation(found, plain) > 0.9
    assert np.abs(found).mean() > np.abs(plain).mean()
    one = attribution.effect([group[:1]], kind="group")[0]
    np.testing.assert_allclose(
        one, attribution.effect([group[:1]], kind="sum")[0], rtol=0.5, atol=np.abs(one).max() / 3
    )


def test_plain_losses_change_no_bit():
    train, learner = blobs(), SGD(lambda: nn.Linear(6, 3), epochs=2)
    source = learner.train(train, torch.ones(len(train)), seed=0)
    told, untold = (
        Question(Checkpoints(nn.Linear(6, 3), source.params, loss=loss), train, train[:4], outputs.margin)
        for loss in ("cross_entropy", None)
    )
    for method in (TRAK(models=1, dim=8), Influence(models=1, damping=0.1)):
        assert np.array_equal(*(method.attribute(q, MemoryLab()).scores for q in (told, untold)))


def test_sgd_tells_its_loss():
    train = blobs()
    for loss, smoothing in (("cross_entropy", 0.1), (losses.CrossEntropy([1, 2, 3]), 0.0)):
        learner = SGD(lambda: nn.Linear(6, 3), epochs=1, loss=loss, label_smoothing=smoothing)
        question = Question(learner, train, train[:4], outputs.margin)
        info = TRAK(models=2, dim=8).attribute(question, MemoryLab()).info
        assert info.certificate["training_loss"] == learner.training_loss.name
        assert ("train_output" in info.certificate) == bool(smoothing)
    assert isinstance(
        Question(SklearnLearner.ridge_classifier(), train, train, outputs.margin).on_train, outputs.Margin
    )


@dataclasses.dataclass(frozen=True)
class Mine:
    """A loss of the user's own, with a slope of the user's own."""

    slope_of: float = -1.0
    name: str = "my loss"
    repeats: int = 1

    def value(self, model, rows, draw=None):  # noqa: ARG002
        return nn.functional.cross_entropy(model.predict(rows.inputs), rows.labels, reduction="none")

    def slope(self, model, rows, values, draw=None):  # noqa: ARG002
        return torch.full_like(values, self.slope_of)

    def valid(self, rows):
        return torch.ones(len(rows.labels), 1, dtype=torch.bool)


def test_a_slope_of_the_users_own_is_held_against_the_loss():
    train = blobs()
    plain = SGD(lambda: nn.Linear(6, 3), epochs=1)
    weighted = dataclasses.replace(plain, loss=losses.CrossEntropy([1, 2, 8]))
    for learner, output, far in ((plain, Mine(), False), (plain, Mine(-2.0), True), (weighted, Mine(), True)):
        info = TRAK(models=2, dim=8).attribute(Question(learner, train, train[:4], output), MemoryLab()).info
        assert (info.certificate["slope_error"] > 0.1) == far
        assert ("away from the gradient" in info.note) == far


def test_the_loss_itself_can_be_asked_for_on_the_training_side():
    case = three(losses.CrossEntropy())
    rows = np.arange(0, 150, 8)
    truth = case.truth(rows)
    by_margin, by_loss = (
        correlation(EXACT.attribute(case.question(**settings), MemoryLab()).scores[:, rows], truth)
        for settings in ({}, {"train_output": LossAsTrained(case.loss)})
    )
    assert by_loss > 0.99
    assert by_loss > by_margin
