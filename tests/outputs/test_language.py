"""Outputs of language models: their contract, closed forms, padding, and their sign against retraining."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import Stream, identity
from dataloupe.core import Examples, MemoryLab, Question, Rows, TorchModel, next_tokens
from dataloupe.learners import Checkpoints
from dataloupe.methods import TRAK
from dataloupe.testing import OutputContract, RidgeLearner

SEQUENCES = [outputs.sequence_margin, outputs.sequence_loss, outputs.sequence_log_prob]
TOKENS = [outputs.token_margin, outputs.token_loss, outputs.token_log_prob]
EVERY = [*SEQUENCES, *TOKENS]
V, T = 5, 6


def by_name(output):
    return output.name


class Trigram(nn.Module):
    """The next token from this one and the one before; as an object with ``logits`` if it is asked by name."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(V, 4), nn.Linear(8, V)

    def forward(self, input_ids, attention_mask=None):
        x = self.words(input_ids)
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
        logits = self.head(torch.tanh(torch.cat([x, before], 2)))
        return logits if attention_mask is None else SimpleNamespace(logits=logits)


def trigram():
    draws = Stream.root(0)("trigram").numpy()
    module = Trigram().double()
    return TorchModel(
        module, {n: torch.from_numpy(draws.normal(size=p.shape)) for n, p in module.named_parameters()}
    )


def ids(rows=7):
    return torch.from_numpy(Stream.root(1)("ids").numpy().integers(0, V, (rows, T)))


def padded():
    """Sequences of 2 to 6 tokens as Hugging Face's models take them, one of them padded on the left."""
    mask = (torch.arange(T) < torch.tensor([6, 2, 3, 4, 5, 6, 3])[:, None]).long()
    mask[-1] = mask[-1].flip(0)
    return {"input_ids": ids(), "attention_mask": mask}


def mean_loss(model, rows):
    """Torch's own, sequence by sequence."""
    found = model.predict(rows.inputs)
    tokens = next_tokens(rows)
    pairs = zip(found, tokens, strict=True)
    return torch.stack([nn.functional.cross_entropy(z, y, ignore_index=-100) for z, y in pairs])


class LanguageContract(OutputContract):
    def model(self):
        return trigram()

    def rows(self):
        return Rows(padded(), None)

    def training_loss(self, model, rows):
        tokens = next_tokens(rows)
        logs = model.predict(rows.inputs).log_softmax(-1)
        found = -logs.gather(-1, tokens.clamp(min=0)[..., None])[..., 0].masked_fill(tokens < 0, 0)
        return found.sum(1) / (tokens >= 0).sum(1) if self.reduction == "mean" else found.sum(1)

    reduction = "mean"


class TestSequenceLoss(LanguageContract):
    def output(self):
        return outputs.sequence_loss


class TestSequenceLossOfASum(LanguageContract):
    reduction = "sum"

    def output(self):
        return outputs.SequenceLoss("sum")


class TestSequenceLogProb(LanguageContract):
    def output(self):
        return outputs.sequence_log_prob


class TestSequenceLogProbOfASum(LanguageContract):
    reduction = "sum"

    def output(self):
        return outputs.SequenceLogProb("sum")


class TestSequenceMargin(LanguageContract):
    """With one token to predict, the slope is exact; for more see below."""

    def output(self):
        return outputs.sequence_margin

    def rows(self):
        labels = torch.full((7, T), -100)
        labels[torch.arange(7), torch.arange(7) % T] = torch.arange(7) % V
        return Rows(ids(), labels)


class TestTokenMargin(LanguageContract):
    def output(self):
        return outputs.token_margin


class TestTokenLoss(LanguageContract):
    def output(self):
        return outputs.token_loss


class TestTokenLogProb(LanguageContract):
    def output(self):
        return outputs.token_log_prob


# --- closed forms ---


def by_hand(row, mask=None):
    """(p of the next token at every place that has one), from the probabilities themselves."""
    p = trigram().predict(row[None])[0].softmax(-1)
    mask = torch.ones(T) if mask is None else mask
    return [float(p[t, row[t + 1]]) for t in range(T - 1) if mask[t] and mask[t + 1]]


@pytest.mark.parametrize("masked", [False, True])
def test_values_are_their_formulas(masked):
    inputs = padded() if masked else ids()
    rows = Rows(inputs, None)
    for i, row in enumerate(ids()):
        p = np.array(by_hand(row, inputs["attention_mask"][i] if masked else None))
        told = outputs.token_loss.valid(rows)[i]
        expected = {
            "sequence margin": np.log(p / (1 - p)).mean(),
            "sequence loss": -np.log(p).mean(),
            "sequence log probability": np.log(p).sum(),
            "token margin": np.log(p / (1 - p)),
            "token loss": -np.log(p),
            "token log probability": np.log(p),
        }
        assert int(told.sum()) == len(p)
        for output in EVERY:
            found = output.value(trigram(), rows)[i]
            found = found[told] if found.ndim else found
            np.testing.assert_allclose(found, expected[output.name], rtol=1e-9)
            if output in TOKENS:
                assert not output.value(trigram(), rows)[i][~told].any()
                assert not output.slope(trigram(), rows, output.value(trigram(), rows))[i][~told].any()
    np.testing.assert_allclose(outputs.sequence_loss.value(trigram(), rows), mean_loss(trigram(), rows))


def test_given_labels_are_those_of_their_own_place_and_minus_100_is_left_out():
    inputs, labels = ids(), next_tokens(Rows(ids(), None))
    same = Rows(inputs, labels)
    for output in EVERY:
        assert torch.equal(output.value(trigram(), same), output.value(trigram(), Rows(inputs, None)))
    answer = labels.clone()
    answer[:, :3] = -100  # a prompt of three tokens, then two that count
    whole = outputs.token_loss.value(trigram(), same)
    found = outputs.sequence_loss.value(trigram(), Rows(inputs, answer))
    np.testing.assert_allclose(found, whole[:, 3:5].mean(1))
    assert outputs.token_loss.valid(Rows(inputs, answer)).sum() == 2 * len(inputs)
    masked = Rows({"input_ids": inputs, "attention_mask": torch.ones_like(inputs)}, answer)
    assert torch.equal(outputs.sequence_loss.value(trigram(), masked), found)


def test_what_stands_in_the_padding_changes_nothing():
    inputs = padded()
    garbage = {**inputs, "input_ids": torch.where(inputs["attention_mask"] == 0, 3, inputs["input_ids"])}
    left = slice(0, 6)  # a model that sees no mask feels what stands before a sequence
    for output in EVERY:
        found = [output.value(trigram(), Rows(one, None))[left] for one in (inputs, garbage)]
        assert torch.equal(*found)


class Lifted(nn.Module):
    """Fixed logits, with the next token of every place lifted by one parameter: all margins move alike."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, inputs):
        base = trigram().predict(inputs)
        return base + self.lift * nn.functional.one_hot(next_tokens(Rows(inputs, None)).clamp(min=0), V)


def test_the_slope_of_the_mean_margin_is_exact_where_all_tokens_move_alike():
    module, rows, step = Lifted(), Rows(ids(), None), 1e-5
    ends = [TorchModel(module, {"lift": torch.tensor(s * step, dtype=torch.float64)}) for s in (1, -1)]
    up, down = (mean_loss(end, rows) for end in ends)
    raised, lowered = (outputs.sequence_margin.value(end, rows) for end in ends)
    middle = TorchModel(module, {"lift": torch.zeros((), dtype=torch.float64)})
    values = outputs.sequence_margin.value(middle, rows)
    slope = outputs.sequence_margin.slope(middle, rows, values)
    torch.testing.assert_close(-(up - down) / (raised - lowered), slope, rtol=1e-6, atol=0)
    p = torch.tensor([by_hand(row) for row in ids()], dtype=torch.float64)
    assert (outputs.sequence_margin.curvature(slope, rows) >= (p * (1 - p)).mean(1)).all()
    one = torch.tensor([0.3])
    torch.testing.assert_close(outputs.sequence_margin.curvature(one, rows), one * 0.7)


@pytest.mark.parametrize("output", EVERY, ids=by_name)
def test_confident_and_half_precise_logits_are_read_exactly(output):
    z = torch.tensor([[[1e4, 0.0], [-1e4, 0.0]]], requires_grad=True)
    rows = Rows(torch.tensor([[1, 0]]), torch.tensor([[0, 0]]))
    fixed = SimpleNamespace(predict=lambda _: z)
    value = output.value(fixed, rows)
    expected = {
        "sequence margin": [0.0], "sequence loss": [5e3], "sequence log probability": [-1e4],
        "token margin": [1e4, -1e4], "token loss": [0.0, 1e4], "token log probability": [0.0, -1e4],
    }[output.name]  # fmt: skip
    np.testing.assert_allclose(value.detach().flatten(), expected, rtol=1e-6)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert gradient.isfinite().all()
    low = output.value(SimpleNamespace(predict=lambda _: {"logits": z.bfloat16()}), rows)
    assert low.dtype == torch.float32


def test_outputs_are_told_apart_by_their_identity():
    every = [*EVERY, outputs.SequenceLoss("sum"), outputs.SequenceLogProb("sum")]
    assert len({identity(output) for output in every}) == len(every)


# --- questions ---


class Regressed(nn.Module):
    """The ridge oracle as a language model of two tokens: a linear map of the one-hot first."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, inputs):
        return nn.functional.one_hot(inputs, V).double() @ self.weight.T


@pytest.mark.parametrize("output", [*SEQUENCES, *TOKENS], ids=by_name)
def test_positive_means_that_having_the_sequence_raises_the_output(output):
    """A pair (a, b) seen once more, on the oracle of pairs: it helps to predict b after a, and hurts the loss."""
    pairs = ids(40)[:, :2]
    plain = Examples(nn.functional.one_hot(pairs[:, 0], V).double(), pairs[:, 1])
    learner, kept = RidgeLearner(penalty=1.0, classes=V), torch.ones(40)
    sign = -1 if "loss" in output.name else 1
    for i in range(5):
        found = []
        for weight in (1.0, 0.0):
            kept[i] = weight
            model = learner.train(plain, kept, seed=0)
            live = TorchModel(Regressed(model.params["weight"]), {"weight": model.params["weight"].double()})
            found.append(float(output.value(live, Rows(pairs[i : i + 1], None)).sum()))
        kept[i] = 1.0
        assert sign * (found[0] - found[1]) > 0


def trained():
    """Three trigram models, made elsewhere."""
    model = trigram()
    states = [{name: p * scale for name, p in model.params.items()} for scale in (0.5, 1.0, 1.5)]
    return Checkpoints(model.module, states)


def test_token_targets_are_pairs_of_sequence_and_place_and_the_training_side_wants_one_number():
    inputs = padded()
    train = Examples(inputs)
    asked = Question(trained(), train, train[:3], outputs.token_loss, train_output=outputs.sequence_loss)
    assert [tuple(pair) for pair in asked.index] == [(0, t) for t in range(5)] + [(1, 0), (2, 0), (2, 1)]
    scores = TRAK(models=3).attribute(asked, MemoryLab()).scores
    assert scores.shape == (8, 7)
    mean = Question(trained(), train, train[:3], outputs.sequence_loss)
    together = TRAK(models=3).attribute(mean, MemoryLab()).scores
    np.testing.assert_allclose(together[0], scores[:5].mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(together[2], scores[6:].mean(0), rtol=1e-4, atol=1e-6)
    with pytest.raises(CapabilityError, match="dl-208"):
        TRAK(models=1).attribute(Question(trained(), train, train[:3], outputs.token_loss), MemoryLab())


def test_what_is_measured_of_a_token_output_has_a_column_for_each_valid_place():
    asked = Question(trained(), Examples(padded()), Examples(padded()), outputs.token_loss)
    values = outputs.token_loss.value(trigram(), Rows(padded(), None))
    assert asked.m == int(outputs.token_loss.valid(Rows(padded(), None)).sum()) == 22
    np.testing.assert_allclose(asked.measure(trigram()), values[values != 0].detach(), rtol=1e-6)


# --- refusals ---


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("inputs", "labels", "code"),
    [
        (torch.zeros(2, 3), None, "dl-807"),
        (torch.zeros(2, dtype=torch.int64), None, "dl-807"),
        ({"ids": torch.zeros(2, 3, dtype=torch.int64)}, None, "dl-807"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int64), "dl-808"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3), "dl-808"),
        (torch.zeros(2, 1, dtype=torch.int64), None, "dl-809"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.tensor([[1, -100, 2], [-100] * 3]), "dl-809.*row 1"),
        (ids(), ids(), "dl-810.*pad"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.tensor([[1, 2, 0], [-1, 2, -100]]), "dl-804.*-1"),
    ],
)
@pytest.mark.parametrize("output", [outputs.sequence_loss, outputs.token_margin], ids=by_name)
def test_what_is_no_sequence_of_tokens_is_refused(output, inputs, labels, code):
    with pytest.raises(BadInput, match=code):
        output.valid(Rows(inputs, labels))


def test_labels_that_hide_the_prompt_but_stand_at_their_own_token_are_refused():
    """As Hugging Face's own loss takes them: -100 for a prompt, then the inputs themselves."""
    answer = ids()
    answer[:, :2] = -100
    with pytest.raises(BadInput, match=r"dl-810.*labels\[:, 1:\]"):
        outputs.sequence_loss.valid(Rows(ids(), answer))
    moved = next_tokens(Rows(ids(), nn.functional.pad(answer[:, 1:], (0, 1), value=-100)))
    assert (moved != -100).sum() == 7 * (T - 2)
    assert torch.equal(next_tokens(Rows({"input_ids": ids(), "labels": answer}, None)), moved)


@pytest.mark.parametrize(
    "found", [torch.zeros(7, V), torch.zeros(7, T + 1, V), torch.zeros(7, T, V).long(), "text"]
)
def test_predictions_that_are_no_logits_of_every_place_are_refused(found):
    with pytest.raises(BadInput, match=r"dl-811.*\[b, t, v\]"):
        outputs.sequence_loss.value(SimpleNamespace(predict=lambda _: found), Rows(ids(), None))


def test_a_token_outside_the_vocabulary_is_refused():
    with pytest.raises(BadInput, match=r"dl-804.*the model has 5"):
        outputs.token_loss.value(trigram(), Rows(ids(), ids() + 1))


def test_a_classifiers_output_of_a_language_model_names_the_right_one():
    with pytest.raises(BadInput, match=r"dl-800.*outputs.sequence_loss"):
        outputs.loss.value(trigram(), Rows(ids(), None))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", [outputs.SequenceLoss, outputs.SequenceLogProb])
def test_another_reduction_is_refused(kind):
    with pytest.raises(BadInput, match="dl-812.*'last'"):
        kind("last")
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().reduction = "sum"
