"""Questions are what their data and code are now: what changes between two requests, or during one, is noticed."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe import outputs
from dataloupe._errors import BadInput
from dataloupe._fingerprints import _arrays
from dataloupe._identity import array_digest, content_digest
from dataloupe.core import Examples, MemoryLab, Question, Subsets, TorchModel
from dataloupe.lab import Lab
from dataloupe.learners import SGD, Checkpoints

SUBSETS = Subsets(n=12, count=2, seed=3)
NOISE = 1.0
LOG: list[float] = []
COUNT = 0


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make():
    return nn.Linear(3, 2)


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x * NOISE if self.training else x)


@dataclasses.dataclass(frozen=True)
class MyLoop:
    lr: float = 0.5
    removal: str = "repack"

    def train(self, data, weights, *, seed):  # noqa: ARG002
        rows = data.take(weights.nonzero().squeeze(1))
        return TorchModel(make(), {"weight": rows.inputs[:2] * self.lr, "bias": torch.zeros(2)})


def question(learner=None, train=None, targets=None):
    train = Examples(numbers(12, 3), torch.arange(12) % 2) if train is None else train
    targets = Examples(numbers(4, 3, seed=1), torch.tensor([0, 1, 0, 1])) if targets is None else targets
    return Question(MyLoop() if learner is None else learner, train, targets, outputs.margin)


def lab_of(folder):
    return Lab(folder, backend="loop", progress=False)


# --- data ---


CHANGES = {
    "training inputs": lambda q: q.train.inputs.mul_(-1),
    "one number of them": lambda q: q.train.inputs[3, 1].add_(1),
    "training labels": lambda q: q.train.labels.copy_(1 - q.train.labels),
    "target inputs": lambda q: q.targets.inputs.add_(1),
    "target labels": lambda q: q.targets.labels.copy_(1 - q.targets.labels),
    "through NumPy": lambda q: np.multiply(q.train.inputs.numpy(), 2, out=q.train.inputs.numpy()),
    "through .data": lambda q: q.train.inputs.data.mul_(3),
}


@pytest.mark.parametrize("change", CHANGES)
def test_data_changed_between_two_requests_give_new_numbers(change, tmp_path):
    asked = question()
    before, identity_before = lab_of(tmp_path).outcomes(asked, SUBSETS), asked.identity
    CHANGES[change](asked)
    after = lab_of(tmp_path).outcomes(asked, SUBSETS)
    copies = (Examples(data.inputs.clone(), data.labels.clone()) for data in (asked.train, asked.targets))
    fresh = MemoryLab().outcomes(question(None, *copies), SUBSETS)
    np.testing.assert_allclose(after.values, fresh.values, rtol=1e-6)
    assert asked.identity != identity_before
    if change != "training labels":
        assert not np.allclose(after.values, before.values)


def test_which_targets_are_valid_is_looked_at_again():
    class Labelled(outputs.Margin):
        def valid(self, rows):
            return (rows.labels > 0)[:, None]

    asked = dataclasses.replace(question(), output=Labelled())
    assert asked.index.tolist() == [[1, 0], [3, 0]]
    asked.targets.labels[0] = 1
    assert asked.index.tolist() == [[0, 0], [1, 0], [3, 0]]


def test_data_that_turn_infinite_are_refused():
    asked = question()
    assert asked.identity
    asked.train.inputs[2, 1] = float("inf")
    with pytest.raises(BadInput, match="dl-105.*infinity.*row 2"):
        MemoryLab().outcomes(asked, SUBSETS)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_large_array_is_read_again_where_it_shows_a_change_or_time_allows(kind, monkeypatch):
    whole, reads, clock = np.zeros((300, 100)), [], [100.0]
    monkeypatch.setattr(_arrays, "array_digest", lambda a: reads.append(1) or array_digest(a))
    monkeypatch.setattr(_arrays.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(_arrays, "MAX_SHARE", -1.0)  # never by time
    array = kind(whole)
    first = content_digest(array)
    assert [content_digest(array) for _ in range(5)] == [first] * 5 and len(reads) == 1
    whole *= 2  # no number differs
    whole += 1
    assert content_digest(array) == array_digest(np.ones((300, 100))) != first and len(reads) == 2
    hidden = set(range(whole.size)) - set(_arrays._places(whole.size, whole.nbytes).tolist())
    whole.flat[min(hidden)] = 5.0
    stale = content_digest(array)
    monkeypatch.setattr(_arrays, "MAX_SHARE", 0.02)
    clock[0] += 1.0
    assert content_digest(array) == array_digest(whole) != stale


def test_torch_counts_every_change_of_a_large_tensor():
    tensor = torch.zeros(300, 100)
    keys = {content_digest(tensor)}
    for i in range(20):
        tensor[i * 7, i] = 1.0
        keys.add(content_digest(tensor))
    assert len(keys) == 21


def test_digests_of_every_kind_of_array():
    x = numbers(6, 4)
    kinds = [
        x,
        x.T,
        x.to_sparse(),
        x.to_sparse().coalesce() * 2,
        torch.view_as_complex(x.view(12, 2)),
        torch.view_as_complex(x.view(12, 2)).conj(),
        x.to(torch.float8_e4m3fn),
        np.array(["a", "b"]),
        np.array(["a", {"b": 1}], dtype=object),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
        np.array(3.0),
        np.empty((0, 3)),
        torch.tensor(1),
    ]
    assert len({array_digest(part) for part in kinds}) == len(kinds)
    large = x.repeat(5000, 1)
    for part in (large, large.T, large[:, 1:3], large.numpy()[::2], large.to_sparse(), large.bfloat16()):
        assert content_digest(part) == content_digest(part) == array_digest(part)


def test_training_that_changes_its_data_is_refused_and_stores_nothing(tmp_path):
    class Dividing:
        removal = "repack"

        def train(self, data, weights, *, seed):
            data.inputs.div_(2)
            return MyLoop().train(data, weights, seed=seed)

    for lab in (MemoryLab(), lab_of(tmp_path)):
        with pytest.raises(BadInput, match="dl-114.*Dividing.*`train`"):
            lab.outcomes(question(Dividing()), SUBSETS)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_data_changed_before_lazy_trainings_are_refused(tmp_path):
    asked = question()
    lazy = lab_of(tmp_path).blocks(asked, SUBSETS)
    asked.train.inputs.mul_(2)
    with pytest.raises(BadInput, match="dl-115"):
        next(lazy)


def test_checkpoints_changed_in_place_are_seen():
    source = Checkpoints(make, [{"weight": numbers(2, 3), "bias": torch.zeros(2)}])
    asked = question(source)
    before = asked.identity
    source.models()[0].params["weight"].mul_(2)
    assert asked.identity != before


# --- code ---


def test_a_setting_changed_on_a_question_gives_new_numbers(tmp_path):
    @dataclasses.dataclass
    class Loose:
        lr: float = 0.5
        removal: str = "repack"
        train = MyLoop.train

    asked = question(Loose())
    before = lab_of(tmp_path).outcomes(asked, SUBSETS).values
    asked.learner.lr = 1.0
    np.testing.assert_allclose(lab_of(tmp_path).outcomes(asked, SUBSETS).values, 2 * before, rtol=1e-5)


def test_a_global_changed_between_requests_gives_new_numbers(tmp_path, monkeypatch):
    asked = question(SGD(lambda: Noisy(3, 2), epochs=2, lr=0.3, batch_size=4))
    before = lab_of(tmp_path).outcomes(asked, SUBSETS).values
    monkeypatch.setitem(globals(), "NOISE", 3.0)
    after = lab_of(tmp_path).outcomes(asked, SUBSETS).values
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, MemoryLab().outcomes(asked, SUBSETS).values, atol=1e-5)
    monkeypatch.undo()
    np.testing.assert_array_equal(lab_of(tmp_path).outcomes(asked, SUBSETS).values, before)


class Logging:
    removal = "repack"

    def __init__(self):
        self.seen = []

    def train(self, data, weights, *, seed):
        global COUNT
        COUNT += 1
        LOG.append(float(seed))
        self.seen.append(len(LOG))
        return MyLoop().train(data, weights, seed=seed)


def test_logs_and_counters_of_a_training_are_no_edit(tmp_path):
    asked = question(Logging())
    before = asked.identity
    first = lab_of(tmp_path).outcomes(asked, SUBSETS)
    trained = COUNT
    assert trained and asked.identity == before == first.facts["question"]
    again = lab_of(tmp_path).outcomes(asked, SUBSETS)
    assert trained == COUNT and np.array_equal(first.values, again.values)
    LOG.append(0.0)  # by hand
    assert asked.identity != before


class Reading:
    removal = "repack"

    def train(self, data, weights, *, seed):
        return MyLoop(lr=len(data.texts[0])).train(data, weights, seed=seed)


class ReadingByName(Reading):
    def train(self, data, weights, *, seed):
        return MyLoop(lr=len(getattr(data, "texts")[0])).train(data, weights, seed=seed)  # noqa: B009


@pytest.mark.parametrize("reading", [Reading, ReadingByName])
def test_texts_count_for_a_learner_that_reads_them(reading):
    def asked(learner, text):
        return question(learner, Examples(numbers(12, 3), torch.arange(12) % 2, texts=[text] * 12)).identity

    assert asked(MyLoop(), "a") == asked(MyLoop(), "b")
    assert asked(reading(), "a") == asked(reading(), "a") != asked(reading(), "b")


# --- the probe ---


class Counting(nn.Linear):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) + 0 * torch.rand(())


def test_the_probe_sees_training_mode_and_leaves_no_trace(tmp_path):
    settings = tmp_path / "noise.json"

    class FromFile(nn.Linear):
        def forward(self, x):
            return super().forward(x * json.loads(settings.read_text()) if self.training else x)

    def probed(noise):
        settings.write_text(json.dumps(noise))
        return question(SGD(lambda: FromFile(3, 2))).training_identity["probe"]

    one, two = probed(1.0), probed(2.0)
    assert one["untrained"] == two["untrained"] and one["one step"] != two["one step"]
    assert all(isinstance(number, float) for number in one["one step"])
    learner, state = SGD(lambda: Counting(3, 2)), torch.get_rng_state()
    made = learner._structure.training
    first = question(learner).training_identity["probe"]
    assert made.calls == 0 and torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert question(SGD(lambda: Counting(3, 2))).training_identity["probe"] == first


def test_a_probe_that_cannot_train_fails_no_question():
    assert (
        question(SGD(make, loss="squared"), Examples(numbers(12, 3))).training_identity["probe"]["one step"]
        == "none: BadInput"
    )
    assert question().training_identity["probe"] is None  # what a loop of one's own costs is not known


def test_the_probe_is_made_once(monkeypatch):
    asked, calls = question(SGD(make)), []
    monkeypatch.setattr("dataloupe.core._question.probe_training", lambda *_: calls.append(1))
    assert asked.identity == asked.identity and len(calls) == 1
