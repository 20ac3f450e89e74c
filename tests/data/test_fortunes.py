"""Quotations by category: as many of each, keyed by the seed, from files that are checked."""

import pytest
import torch

from dataloupe._errors import BadInput
from dataloupe.data import fortunes


@pytest.fixture
def folder(tmp_path):
    for name in ("law", "food"):
        texts = [f"A saying about {name},\n\tnumber {i} of them" for i in range(20)]
        texts += ["short", "long " * 60, "A quotation that both of them have", *texts[:3]]
        (tmp_path / name).write_text("\n%\n".join(texts) + "\n%\n", encoding="utf-8")
    return tmp_path


def lengths(texts):
    return torch.tensor([[len(text)] for text in texts])


def test_as_many_of_each_and_none_twice(folder):
    train, test = fortunes(lengths, 20, 10, ("law", "food"), folder=folder)
    assert [(len(part), part.labels.bincount().tolist()) for part in (train, test)] == [
        (20, [10, 10]),
        (10, [5, 5]),
    ]
    texts = [*train.texts, *test.texts]
    assert len(set(texts)) == 30 and all(
        text.startswith("A saying about") and "\n" not in text for text in texts
    )
    for data in (train, test):
        assert data.inputs[:, 0].tolist() == [len(text) for text in data.texts]
        assert all(data.label_name(i) in data.texts[i] for i in range(len(data)))
    assert train.labels.tolist() != sorted(train.labels.tolist())


def test_the_seed_decides(folder):
    one, same, other = (
        fortunes(lengths, 20, 10, ("law", "food"), seed, folder)[0].texts for seed in (0, 0, 1)
    )
    assert one == same and one != other


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"train": 21}, "dl-830"),
        ({"test": 0}, "dl-830"),
        ({"categories": ("law",)}, "dl-830"),
        ({"train": 40}, "dl-830"),
        ({"categories": ("law", "cooking")}, "dl-831"),
    ],
)
def test_what_there_is_not(folder, asked, code):
    settings = {"train": 20, "test": 10, "categories": ("law", "food"), "folder": folder} | asked
    with pytest.raises(BadInput, match=code):
        fortunes(lengths, **settings)
