"""Layers whose work depends on the data: gradients are batch-of-one autograd's, rows sorted and shuffled, or refused by name."""

import contextlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe import Examples, Question, data, learners, outputs
from dataloupe._errors import CapabilityError
from dataloupe.core import TorchModel
from dataloupe.engine import Featuriser, Pass, embeddings, gradients
from dataloupe.engine._batch import BatchTask, differentiate
from dataloupe.engine._digest import RowDigest, rows_meet
from dataloupe.engine._pass import surveyed
from dataloupe.engine._row_moves import may_move_rows
from dataloupe.run import load_module
from dataloupe.solve import FactoredSketch

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))
AUDIT = load_module(BENCH / "audit_zoo.py")
sys.path.remove(str(BENCH))
sys.modules["zoo"].B = AUDIT.B = 24  # rows: the bench has 64
KINDS = [
    "complex Fourier layer",
    "complex linear layer",
    "temperature",
    "sparse table",
    "weight norm",
    "bag of embeddings",
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
@pytest.mark.parametrize("name", [*AUDIT.DATA_DEPENDENT, *KINDS])
def test_every_row_has_the_gradient_it_has_alone(name, order):
    kind, what = AUDIT.verdict(name, order)
    assert kind == "right", what


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
@pytest.mark.parametrize("name", AUDIT.REFUSED)
def test_rows_that_feel_each_other_are_refused(name, order):
    assert AUDIT.verdict(name, order) == ("refused", "dl-242")


class Routed(nn.Module):
    """Rows go to an expert by their sign, as pieces."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        out = torch.zeros_like(x)
        for expert, rows in ((self.one, x[:, 0] > 0), (self.two, x[:, 0] <= 0)):
            rows = rows.nonzero()[:, 0]
            out = out.index_add(0, rows, torch.tanh(expert(x[rows])))
        return self.head(out)


def routed(n=40):
    torch.manual_seed(0)
    module, x = Routed(), torch.randn(n, 4)
    x[: n // 2, 0] = x[: n // 2, 0].abs()  # the first rows reach one expert only
    x[n // 2 :, 0] = -x[n // 2 :, 0].abs()
    rows = Examples(x, labels=torch.randint(0, 3, (n,)))
    return Question(learners.Checkpoints(module, module.state_dict()), rows, rows[:5], outputs.margin)


def test_the_certificate_counts_what_was_checked_and_what_went_singly():
    module, inputs = AUDIT.ZOO["loop over rows"](torch.Generator().manual_seed(0))
    rows = Examples(inputs, labels=torch.arange(24) % 3)
    question = Question(learners.Checkpoints(module, module.state_dict()), rows, rows[:5], outputs.margin)
    facts = gradients(question, question.learner.models()[0], "train", lambda *_: None).facts
    assert facts["checked_rows"] == 3 and facts["single_rows"] == 24 and facts["row_error"] < 1e-6
    assert facts["coverage"] == {"row by row": 1.0}
    train, test = data.digits()
    learner = learners.SGD(lambda: nn.Linear(64, 10), epochs=1)
    plain = Question(learner, train[:50], test[:4], outputs.margin)
    swept = gradients(plain, learner.model(learner.init(seed=0)), "train", lambda *_: None)
    assert swept.facts["checked_rows"] == 3 and swept.facts["single_rows"] == 0


def test_scores_do_not_depend_on_which_rows_come_first(tmp_path):
    from dataloupe import TRAK, Lab

    question = routed()
    scores = TRAK(models=1, dim=64, ridge=1.0).attribute(question, Lab(tmp_path, progress=False)).scores
    order = np.r_[39, 20, np.delete(np.arange(40), [39, 20])]
    turned = Question(question.learner, question.train[order], question.targets, outputs.margin)
    other = TRAK(models=1, dim=64, ridge=1.0).attribute(turned, Lab(tmp_path, progress=False)).scores
    np.testing.assert_allclose(other, scores[:, order], atol=1e-5 * np.abs(scores).max())


class Swapping(nn.Module):
    """Exchanges two rows that hold a large number between its layers, by a product that no watch knows."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        large = (x[:, 0] > 50).to(x.dtype)
        turn = torch.eye(len(x), dtype=x.dtype)
        if len(x) > 3:  # rows one apart change places, and back at the end
            turn = turn.roll(1, 0) if bool(large.any()) else turn
        y = torch.einsum("ij,jk->ik", turn, x)
        return torch.einsum("ij,ik->jk", turn, self.b(torch.tanh(self.a(y))))


@pytest.mark.parametrize("place", [5, 17])
def test_a_new_branch_in_a_late_batch_is_met_with_a_second_look(place):
    torch.manual_seed(0)
    module, x = Swapping(), torch.randn(24, 4)
    x[place, 0] = 60.0
    rows = Examples(x, labels=torch.randint(0, 3, (24,)))
    question = Question(learners.Checkpoints(module, module.state_dict()), rows, rows[:5], outputs.margin)
    kind = AUDIT.error(module, rows)
    assert kind == (pytest.approx(0.0, abs=1e-5), 24)
    assert question.n == 24


class Leaking(nn.Module):
    """A row with a large number takes the mean of its batch, by a product that no watch knows."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        y = torch.tanh(self.a(x))
        mean = torch.einsum("ij->j", y) / len(x)
        return self.b(torch.where(x[:, :1] > 50, mean, y))


def test_a_row_of_a_real_batch_that_feels_the_others_is_named(monkeypatch):
    torch.manual_seed(0)
    module, x = Leaking(), torch.randn(24, 4)
    x[23, 0] = 60.0
    rows = Examples(x, labels=torch.randint(0, 3, (24,)))
    question = Question(learners.Checkpoints(module, module.state_dict()), rows, rows[:5], outputs.margin)
    monkeypatch.setattr("dataloupe.engine._pass.spread_rows", lambda n, k: torch.arange(min(n, k)))
    with pytest.raises(CapabilityError, match=r"dl-24[23].*row \d+.*batch of 24"):
        gradients(question, question.learner.models()[0], "train", lambda *_: None)


def test_digests_tell_whether_rows_meet():
    first, second = RowDigest(alone=True), RowDigest(alone=False)
    g, u, v = torch.randn(6, 5), torch.rand(6) + 1, torch.ones(6)
    first.add(0, g * u[:, None])
    second.add(0, g)
    assert not rows_meet(first, second, u, v, 1e-3, 1e-7)
    mixed = RowDigest(alone=False)
    mixed.add(0, g[[1, 0, 2, 3, 4, 5]])
    swapped = RowDigest(alone=True)
    swapped.add(0, (g * u[:, None])[[1, 0, 2, 3, 4, 5]])
    assert rows_meet(swapped, mixed, u, v, 1e-3, 1e-7)


@pytest.mark.parametrize(
    ("call", "moves"),
    [
        ((torch.Tensor.__getitem__, lambda x: (x, x[:, 0] > 0)), True),
        ((torch.Tensor.__getitem__, lambda x: (x, torch.tensor([3, 1, 2, 0, 4, 5, 6]))), True),
        (
            (torch.Tensor.__getitem__, lambda x: (x, (torch.arange(7), torch.zeros(7, dtype=torch.long)))),
            False,
        ),
        ((torch.Tensor.__getitem__, lambda x: (x, slice(0, 3))), False),
        ((torch.Tensor.__getitem__, lambda x: (x, (slice(None), torch.tensor([0, 2])))), False),
        ((torch.nonzero, lambda x: (x,)), True),
        ((torch.Tensor.mean, lambda x: (x, 0)), True),
        ((torch.Tensor.mean, lambda x: (x, 1)), False),
        ((torch.softmax, lambda x: (x, -1)), False),
        ((torch.argsort, lambda x: (x[:, 0],)), True),
        ((torch.argsort, lambda x: (x, 1)), False),
        ((torch.flip, lambda x: (x, (0,))), True),
        ((torch.matmul, lambda x: (torch.eye(7), x)), True),
        ((torch.matmul, lambda x: (x, torch.eye(3))), False),
        ((torch.gather, lambda x: (x, 1, torch.zeros(7, 1, dtype=torch.long))), False),
        ((torch.index_select, lambda x: (x, 0, torch.arange(3))), True),
        ((torch.relu, lambda x: (x,)), False),
    ],
)
def test_calls_that_can_move_rows(call, moves):
    function, arguments = call
    x = torch.randn(7, 3, requires_grad=True)
    assert may_move_rows(function, arguments(x), {}, 7) == moves


class Raises(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.inner, self.what = Inner(what), what

    def forward(self, x):
        return self.inner(x)


class Inner(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.a, self.what = nn.Linear(4, 3), what

    def forward(self, x):
        if self.what is not None:
            raise self.what("not like this")
        return self.a(x)


@pytest.mark.parametrize(
    "what", [RuntimeError, ValueError, KeyError, AttributeError, NotImplementedError, IndexError]
)
def test_what_a_module_raises_is_named_with_the_module(what):
    module, rows = Raises(what), Examples(torch.randn(6, 4), labels=torch.zeros(6).long())
    model = TorchModel(module, {name: p.detach() for name, p in module.named_parameters()})
    question = Question(learners.SGD(lambda: nn.Linear(4, 3), epochs=1), rows, rows[:2], outputs.margin)
    for work in (lambda: Pass(question, model, "train"), lambda: embeddings(question, model)):
        with pytest.raises(
            CapabilityError, match=rf"dl-250.*{what.__name__} in inner \(Inner\).*not like this"
        ) as raised:
            work()
        assert isinstance(raised.value.__cause__, what)


def test_a_batch_that_fails_only_as_a_batch_is_taken_apart():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    model = TorchModel(module, {name: p.detach() for name, p in module.named_parameters()})
    rows = Examples(torch.randn(6, 4), labels=torch.randint(0, 3, (6,)))
    seen = surveyed(outputs.margin, model, rows)
    task = BatchTask(outputs.margin, model, rows.take(range(6)), rows.labels * 0)
    sums = {}
    for known in (seen, None):
        found = {name: torch.zeros(6, p.numel()) for name, p in model.params.items()}

        def use(name, uses, place, found=found):
            found[name][place] += sum(part.product().flatten(1) for part in uses)

        result = differentiate(task, known, set(), use, seen.uses, slice(0, 6))
        assert result.singly == (6 if known is None else 0)
        sums[known is None] = torch.cat(list(found.values()), 1)
    torch.testing.assert_close(sums[True], sums[False])


class Branching(nn.Module):
    """Rows with a flag take another layer, which is only called where there is one."""

    def __init__(self):
        super().__init__()
        self.one, self.other, self.head = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        flag, h = x[:, 7] == 0, self.one(x)
        if flag.any():
            h = torch.where(flag[:, None], self.other(x), h)
        return self.head(h.relu())


@pytest.mark.parametrize("dim", [512, 128])
def test_the_error_of_a_sketch_is_measured_where_rows_come_one_by_one(dim):
    """The rows that are looked at may be differentiated singly: each has its own place among the products."""
    torch.manual_seed(0)
    inputs = torch.randn(64, 8)
    inputs[10:20, 7] = 0
    train = Examples(inputs, labels=torch.randint(0, 3, (64,)))
    question = Question(learners.SGD(Branching, epochs=1), train, train[:2], outputs.margin)
    model = question.learner.model(question.learner.init(seed=0))
    with deterministic():
        ready = Featuriser(Pass(question, model, "train"), FactoredSketch(dim))
        found = ready.rows(slice(0, None))
    truth = np.stack([np.concatenate([g.numpy().ravel() for g in one]) for one in alone(model, train)])
    sketched, exact = np.asarray(found[0], np.float64), truth.astype(np.float64)
    if dim == 512:  # 339 numbers are kept as they are
        np.testing.assert_allclose(sketched @ sketched.T, exact @ exact.T, rtol=1e-4, atol=1e-5)
        assert ready.facts["sketch_error"] < 1e-6
    assert 0 <= ready.facts["sketch_error"] < 2 * (2 / dim) ** 0.5


@contextlib.contextmanager
def deterministic():
    """Within it, memory that nobody wrote to is NaN."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def alone(model, data):
    """The gradient of the margin of every row, by autograd of it alone."""
    for i in range(len(data)):
        params = {name: p.detach().requires_grad_() for name, p in model.params.items()}
        rows = data.take([i])
        value = outputs.margin.value(TorchModel(model.module, params), rows).sum()
        gradients = torch.autograd.grad(value, list(params.values()), allow_unused=True)
        yield [
            torch.zeros_like(p) if g is None else g for p, g in zip(params.values(), gradients, strict=True)
        ]
