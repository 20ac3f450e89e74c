"""Controls for text: their formulas on a corpus small enough for counting by hand."""

import sys

import numpy as np
import pytest
import torch

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError
from dataloupe.core import Examples, MemoryLab, Question
from dataloupe.methods import BM25, SequenceLength
from dataloupe.testing import AttributorContract, RidgeLearner

TRAIN = [
    "The cat sat on the mat, the cat.",
    "A dog barked",
    "Cat and dog play",
    "zebra",
    "of, a cat-dog: CAT",
]
TARGETS = ["the cat", "dog, dog and zebra", "nothing known", "a"]


def words(text):
    """Runs of two word characters or more, as the docstring says."""
    return [w for w in "".join(c if c.isalnum() else " " for c in text.lower()).split() if len(w) > 1]


def by_hand(query, texts, k1, b):
    """Robertson's sum, word by word."""
    held = [words(text) for text in texts]
    mean = np.mean([len(h) for h in held])
    found = np.zeros(len(texts))
    for word in words(query):
        n_w = sum(word in h for h in held)
        idf = np.log(1 + (len(texts) - n_w + 0.5) / (n_w + 0.5))
        for i, h in enumerate(held):
            c = h.count(word)
            found[i] += idf * c / (c + k1 * (1 - b + b * len(h) / mean))
    return found


def tokens(texts, length=6):
    """Made-up tokens: text i has 2 + i of them."""
    inputs = torch.arange(len(texts) * length).view(-1, length) % 7
    places = torch.arange(length) < 2 + torch.arange(len(texts))[:, None]
    return Examples({"input_ids": inputs, "attention_mask": places.long()}, texts=texts)


def asked(output=outputs.sequence_margin, train=TRAIN, targets=TARGETS):
    return Question(RidgeLearner(), tokens(train), tokens(targets), output)


def scores(method, question):
    return method.attribute(question, MemoryLab()).scores


@pytest.mark.parametrize("settings", [{}, {"k1": 0.9, "b": 0.4}, {"k1": 0.01, "b": 0.0}])
def test_bm25_is_its_formula(settings):
    method = BM25(**settings)
    found = scores(method, asked())
    expected = [by_hand(query, TRAIN, method.k1, method.b) for query in TARGETS]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert found[0].argmax() == 0 and not found[2:].any()


def test_length_counts_the_tokens_that_are_asked_for():
    np.testing.assert_array_equal(scores(SequenceLength(), asked()), [[1, 2, 3, 4, 5]] * 4)


@pytest.mark.parametrize("method", [BM25(), SequenceLength()])
def test_the_sign_is_turned_for_a_loss_and_a_token_has_the_scores_of_its_sequence(method):
    plain = scores(method, asked())
    np.testing.assert_array_equal(scores(method, asked(outputs.sequence_loss)), -plain)
    question = asked(outputs.token_loss)
    found = scores(method, question)
    np.testing.assert_array_equal(found, -plain[question.index[:, 0]])
    assert method.attribute(question, MemoryLab()).units == "relative"


def test_what_is_missing_is_said(monkeypatch):
    bare = Question(RidgeLearner(), tokens(TRAIN), Examples(tokens(TARGETS).inputs), outputs.sequence_loss)
    with pytest.raises(BadInput, match="dl-735.*targets"):
        BM25().attribute(bare, MemoryLab())
    for settings in ({"k1": -1.0}, {"b": 1.5}, {"k1": float("nan")}):
        with pytest.raises(BadInput, match="dl-736"):
            BM25(**settings)
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(CapabilityError, match=r"dl-737.*dataloupe\[text\]"):
        BM25().attribute(asked(), MemoryLab())


class TestBM25(AttributorContract):
    """Numbers said in words, so that the contract's regression has texts."""

    least = None

    def question(self):
        plain = super().question()
        train, targets = (
            Examples(
                data.inputs, data.labels, texts=[" ".join(f"n{x:.0f}" for x in row) for row in data.inputs]
            )
            for data in (plain.train, plain.targets)
        )
        return Question(plain.learner, train, targets, plain.output)

    def attributor(self):
        return BM25()
