"""Images, texts, names and columns are checked when they are given, not when a report is made."""

import numpy as np
import pandas as pd
import pytest
import torch

from dataloupe._errors import BadInput
from dataloupe.core import Examples


def with_(n=2, labels=None, **looks):
    return Examples(torch.zeros(n, 1), labels, **looks)


def test_images_of_fractions_are_scaled_and_whole_numbers_kept():
    fractions = np.array([[[0.0, 0.5], [0.25, 1.0]]])
    for images in (fractions, torch.from_numpy(fractions), fractions.astype("f2"), fractions[..., None]):
        image = with_(1, images=images).show(0).image
        assert image.dtype == np.uint8 and image.tolist() == [[0, 128], [64, 255]]
    assert with_(1, images=np.array([[[0, 200]]])).images.tolist() == [[[0, 200]]]
    assert with_(1, images=np.array([[[True, False]]])).images.tolist() == [[[255, 0]]]
    colours = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    assert np.array_equal(with_(1, images=list(colours)).images, colours)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((2, 3, 8, 8), "u1"), r"dl-130.*\(2, 3, 8, 8\).*permute\(0, 2, 3, 1\)"),
        (np.zeros((2, 1, 8, 8), "u1"), r"dl-130.*images\[:, 0\]"),
        (np.zeros((2, 8, 8, 4), "u1"), "dl-130.*(2, 8, 8, 4)"),
        (np.zeros((2, 64), "u1"), "dl-130"),
        (np.zeros((2, 0, 8), "u1"), "dl-130"),
        (np.full((2, 8, 8), 127.0), "dl-130.*outside 0 to 1.*normalisation"),
        (np.full((2, 8, 8), -1.0), "dl-130.*outside 0 to 1"),
        (np.full((2, 8, 8), np.nan), "dl-130"),
        (np.full((2, 8, 8), 256), "dl-130.*outside 0 to 255"),
        (np.zeros((2, 8, 8), complex), "dl-130"),
        ([np.zeros((8, 8)), np.zeros((9, 9))], "dl-128.*images"),
        (["a.png", "b.png"], "dl-126.*images"),
    ],
)
def test_images_that_cannot_be_shown_are_refused(images, said):
    with pytest.raises(BadInput, match=said):
        with_(images=images)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ("ab", "dl-125.*texts.*a str"),
        (["a", None], "dl-131.*None in row 1"),
        (pd.Series(["a", None]), "dl-131.*row 1"),
        ([b"a", b"b"], "dl-131.*bytes in row 0"),
        ([1, 2], "dl-131.*int"),
        ({"a": 1, "b": 2}, "dl-125.*a dict"),
        (pd.DataFrame({"x": ["a"], "y": ["b"]}), "dl-125.*data frame"),
        ((text for text in "ab"), "dl-125.*generator"),
        (["a"], "dl-104.*texts: 1"),
    ],
)
def test_texts_that_are_no_strings_are_refused(texts, said):
    with pytest.raises(BadInput, match=said):
        with_(texts=texts)
    assert with_(texts=np.array(["a", "b"])).texts == ["a", "b"]


def test_names_cover_the_labels():
    labels = torch.tensor([0, 2])
    for names in (
        ["a", "b", "c"],
        "abc",
        np.array(["a", "b", "c"]),
        {0: "a", 1: "b", 2: "c"},
        ("a", "b", "c"),
    ):
        assert with_(labels=labels, names=names).label_name(1) == "c"
    assert with_(labels=torch.tensor([0, -100]), names=["a"]).label_name(1) == "-100"
    assert with_(labels=torch.tensor([0.5, 7.0]), names=["a"]).label_name(1) == "7"
    for names, said in ((["a"], "up to 2.*1 names"), ({"a": 0}, "keys"), ({0: "a", 2: "c"}, "keys")):
        with pytest.raises(BadInput, match=f"dl-132.*{said}"):
            with_(labels=labels, names=names)
    with pytest.raises(BadInput, match="dl-132"):
        with_(labels=torch.tensor([0, 1]), names=["a", "b"]).with_labels([0], [2])


def test_columns_are_taken_by_position():
    frame = pd.DataFrame({"a": [1, 2], 7: ["x", "y"]}, index=[5, 3])
    data = with_(meta=frame)
    assert list(data.meta) == ["a", "7"] and data.meta["7"] == ["x", "y"] and data[1:].meta["a"] == [2]
    assert with_(meta=None).meta == {} and with_(meta={"t": torch.ones(2)}).meta["t"].tolist() == [1, 1]
    for meta, said in (
        ([1, 2], "a list|names"),
        ({"a": 1}, "an? int"),
        ({"a": "xy"}, "a str"),
        ({"a": {1, 2}}, "a set"),
        ({1: [1, 2], "1": [3, 4]}, "names"),
        (pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), "names"),
        ({"a": np.ma.array([1, 2], mask=[0, 1])}, "hides"),
    ):
        with pytest.raises(BadInput, match=f"dl-12[57].*({said})"):
            with_(meta=meta)
