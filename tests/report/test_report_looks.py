"""What a lab keeps of how examples look: whole, the newest, and the same page as from the examples themselves."""

import dataclasses
import datetime

import numpy as np
import pytest
import torch
from report_reading import page

from dataloupe import outputs
from dataloupe.cli import _demo
from dataloupe.cli._folder import attributions, keep_looks, looks_of
from dataloupe.core import DenseAttribution, Examples, Info, Question
from dataloupe.lab import Lab
from dataloupe.learners import SGD, SklearnLearner
from dataloupe.report import report

WORDS = ["the", "\u0120cat", "\u0120sat", "\u0120down", "<pad>"]
IDS = torch.tensor([[0, 1, 2, 3], [0, 1, 3, 4]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


class Language(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(5, 5)

    def forward(self, input_ids, attention_mask):
        return self.table(input_ids) * attention_mask[..., None]


def asked(train, targets=None):
    return dataclasses.replace(_demo.make_question(), train=train, targets=targets or train)


def shown(examples):
    cards = [examples.show(i) for i in range(len(examples))]
    return [(card.title, card.text, None if card.image is None else card.image.tolist()) for card in cards]


LOOKS = {
    "captions": Examples(
        torch.eye(2, 64),
        torch.tensor([0, 1]),
        images=torch.rand(2, 3, 3),
        texts=["a cat", "a dog"],
        names=["cat", "dog"],
    ),
    "a table": Examples(torch.randn(2, 64), torch.tensor([1, 0])),
    "two tables": Examples((torch.randn(2, 3), torch.tensor([[True], [False]])), torch.tensor([1, 0])),
    "missing numbers": Examples(torch.tensor([[1.0, torch.nan]] * 2), torch.tensor([1, 0])),
    "columns": Examples(
        torch.eye(2, 64),
        torch.tensor([0, 1]),
        meta={
            "where": ["a", None],
            "age": [1.5, float("nan")],
            "year": np.array([1, 2], "i2"),
            "share": np.array([0.1, np.nan], "f4"),
            "day": [datetime.date(2020, 1, 1)] * 2,
            "rows": np.zeros((2, 2)),
        },
    ),
    "half labels": Examples(torch.eye(2, 64), torch.tensor([0.5, 1.0], dtype=torch.bfloat16)),
    "no labels": Examples(torch.eye(2, 64)),
}


@pytest.mark.parametrize("name", sorted(LOOKS))
def test_looks_come_back_whole(tmp_path, name):
    data = LOOKS[name]
    question = dataclasses.replace(asked(LOOKS["a table"]), learner=SklearnLearner.ridge_classifier())
    object.__setattr__(question, "train", data)  # a label for each target is not needed to be shown
    object.__setattr__(question, "targets", data)
    lab = Lab(tmp_path, progress=False)
    keep_looks(lab, question)
    for side in ("train", "targets"):
        kept = looks_of(lab, question.identity, side)
        if name == "columns":  # JSON has no NaN: a missing number is None
            assert kept.meta["age"] == [1.5, None] and kept.meta["day"] == ["2020-01-01"] * 2
            assert kept.meta["where"] == ["a", None] and kept.meta["year"].tolist() == [1, 2]
            assert kept.show(0) == data.show(0)
        else:
            assert shown(kept) == shown(data)
        assert kept.names == data.names
        assert (kept.texts is None, kept.images is None) == (data.texts is None, data.images is None)


def test_a_mended_file_mends_what_was_kept(tmp_path):
    x, y = torch.eye(2, 64), torch.tensor([0, 1])
    first = asked(Examples(x, y, texts=["one", "two"]))
    mended = asked(Examples(x, y, images=torch.rand(2, 8, 8)))
    assert first.identity == mended.identity
    lab = Lab(tmp_path, progress=False)
    for question in (first, mended, mended, first):
        keep_looks(lab, question)
        assert shown(looks_of(lab, question.identity, "train")) == shown(question.train)
    assert looks_of(lab, "another question", "train") is None


def test_looks_of_labs_of_before_are_read(tmp_path):
    lab = Lab(tmp_path, progress=False)
    arrays = {"labels": np.array([1, 0]), "images": np.zeros((2, 4, 4), np.uint8)}
    lab.put("examples", {"question": "q", "side": "train"}, arrays, {"rows": 2, "names": ["a", "b"]})
    assert looks_of(lab, "q", "train").show(0).title == "b"


@pytest.mark.parametrize("labels", [None, torch.where(MASK == 1, IDS.roll(-1, 1), -100)])
def test_a_report_of_the_lab_shows_tokens_as_one_of_the_examples_does(tmp_path, labels):
    data = Examples({"input_ids": IDS, "attention_mask": MASK}, labels, names=WORDS)
    question = Question(SGD(Language, epochs=1), data, data, outputs.token_loss)
    scores = np.arange(2 * question.m, dtype=np.float32).reshape(question.m, 2) - 3
    info = Info("by hand", question=question.identity)
    made = DenseAttribution(scores, info, train=data, targets=data, index=question.index)
    lab = Lab(tmp_path / "lab", progress=False)
    keep_looks(lab, question)
    lab.put("attribution", {"by": "hand"}, *made.to_arrays())
    pages = [
        page(report(tmp_path / f"{i}.html", part, targets=[1, question.m - 1]))
        for i, part in enumerate((made, *attributions(lab)))
    ]
    own, kept = ([tokens.text for tokens in shown_page.all("p", "tokens")] for shown_page in pages)
    assert own and kept == own
    assert "component 1 of the output" not in pages[1].text
