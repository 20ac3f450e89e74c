"""Rows keep their numbers, and nothing that was not asked for is read."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dataloupe._errors import BadInput
from dataloupe._identity import identity
from dataloupe.core import Examples, check_ids, gather


def digits():
    return Examples(torch.arange(12.0).view(4, 3), labels=torch.tensor([0, 1, 2, 1]), names=["a", "b", "c"])


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=8))
def test_taking_rows_is_indexing_with_nothing_for_minus_one(ids):
    rows = digits().take(ids)
    for i, row, label in zip(ids, rows.inputs, rows.labels, strict=True):
        assert row.tolist() == ([0, 0, 0] if i < 0 else digits().inputs[i].tolist())
        assert int(label) == (0 if i < 0 else int(digits().labels[i]))


def test_examples_say_what_they_hold_without_their_numbers():
    assert repr(digits()) == "Examples(4 rows: inputs [3] float32, labels [] int64, 3 names)"
    told = Examples(torch.zeros(2, 1, 5), texts=["x", "y"], meta={"user": [1, 2]})
    assert repr(told) == "Examples(2 rows: inputs [1, 5] float32, texts list, meta['user'] list)"


def test_ids_of_any_shape_give_rows_of_that_shape():
    data = Examples({"x": torch.arange(8.0).view(4, 2), "y": torch.arange(4)})
    rows = data.take([[0, 1], [3, -1]])
    assert rows.inputs["x"].shape == (2, 2, 2) and rows.inputs["y"].tolist() == [[0, 1], [3, 0]]
    assert rows.labels is None


def test_gather_never_touches_a_row_that_was_not_asked_for():
    part = torch.tensor([[1.0], [float("nan")], [3.0]])
    assert gather(part, torch.tensor([2, -1, 0]), every=False).flatten().tolist() == [3, 0, 1]


def test_arrays_and_memory_maps_are_taken_without_a_copy(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.uint8).reshape(3, 2))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    data = Examples(mapped, labels=np.array([0, 1, 0]))
    assert data.inputs.dtype == torch.uint8 and data.inputs.data_ptr() == mapped.ctypes.data


def test_a_slice_is_numbered_anew_and_keeps_how_it_looks():
    images = np.arange(16, dtype=np.uint8).reshape(4, 2, 2)
    data = Examples(torch.eye(4), torch.arange(4), images=images, names="wxyz", meta={"k": [9, 8, 7, 6]})
    part = data[1:3]
    assert len(part) == 2 and part.labels.tolist() == [1, 2] and part.meta["k"] == [8, 7]
    assert part.show(1).title == "y" and np.array_equal(part.show(1).image, images[2])
    with pytest.raises(BadInput, match="dl-106"):
        data[4:]


def test_the_fingerprint_is_of_what_decides_a_training():
    same = Examples(torch.arange(12.0).view(4, 3), torch.tensor([0, 1, 2, 1]), texts=list("abcd"))
    assert identity(digits()) == identity(same)
    assert identity(digits()) != identity(digits().with_labels([0], [2]))
    assert identity(digits()) != identity(Examples(digits().inputs.double(), digits().labels))


def test_relabelling_leaves_the_original_alone():
    data = digits()
    assert data.with_labels([3, 0], [2, 2]).labels.tolist() == [2, 1, 2, 2]
    assert data.labels.tolist() == [0, 1, 2, 1]
    with pytest.raises(BadInput, match="dl-107"):
        Examples(torch.eye(2)).with_labels([0], [1])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"inputs": torch.eye(3), "labels": torch.zeros(2)}, "dl-104.*inputs: 3, labels: 2"),
        ({"inputs": torch.empty(0, 3)}, "dl-104"),
        ({"inputs": torch.eye(2), "texts": ["one"]}, "dl-104.*texts: 1"),
        ({"inputs": torch.tensor([[1.0], [float("-inf")]])}, "dl-105.*inputs.*row 1"),
        ({"inputs": {"x": torch.eye(2), "y": torch.full((2,), torch.inf)}}, r"dl-105.*inputs\['y'\].*row 0"),
        ({"inputs": torch.eye(2), "labels": torch.tensor([0.0, float("inf")])}, "dl-105.*labels.*row 1"),
    ],
)
def test_bad_data_is_refused(arguments, code):
    with pytest.raises(BadInput, match=code):
        Examples(**arguments)


def test_the_first_row_with_a_missing_value_is_known():
    x = torch.eye(4)
    assert Examples(x).first_missing is None
    x[2, 1] = torch.nan
    assert Examples({"a": torch.eye(4), "b": x}).first_missing == 2
    assert Examples(x)[2:].first_missing == 0 and Examples(x)[:2].first_missing is None


@pytest.mark.parametrize("ids", [[1.9], [-2], [4], [True, False], ["a"], [1j], 1.5, [[0, 9]], torch.ones(2)])
def test_rows_that_are_not_there_are_not_taken(ids):
    with pytest.raises(BadInput, match="dl-133.*of 4 examples"):
        digits().take(ids)


def test_ids_of_any_whole_type_are_taken():
    for ids in (np.uint8([3, 0]), np.array([3, 0], ">i4"), range(3, -1, -3), torch.tensor([3, 0]).int()):
        assert digits().take(ids).labels.tolist() == [1, 0]
    assert digits().take([]).inputs.shape == (0, 3)


@pytest.mark.parametrize("rows", [[9], "a", [0.5], {1}, [True], (0, [1, 2])])
def test_rows_that_cannot_be_picked_are_refused(rows):
    with pytest.raises(BadInput, match="dl-106"):
        digits()[rows]
    assert digits()[np.array([True, False, True, False])].labels.tolist() == [0, 2]


@pytest.mark.parametrize(
    "labels",
    [[1.9], [[1]], [0, 1], [float("nan")], torch.tensor([torch.inf]), [1e300], ["b"], [1j], torch.ones(2)],
)
def test_labels_of_another_kind_are_not_put_in_place(labels):
    with pytest.raises(BadInput, match="dl-1(34|26|25|05)"):
        digits().with_labels([0], labels)
    assert digits().with_labels([0, 3], 2.0).labels.tolist() == [2, 1, 2, 2]
    real = Examples(torch.eye(2), torch.zeros(2))
    assert real.with_labels([1], [1.5]).labels.tolist() == [0, 1.5]
    with pytest.raises(BadInput, match="dl-105"):
        real.with_labels([1], [float("nan")])


@pytest.mark.parametrize(
    ("ids", "code"),
    [
        ([], "dl-108"),
        ([4], "dl-109.*row 4"),
        ([-1], "dl-109"),
        ([1, 2, 1], "dl-110.*row 1"),
        ([0.5], "dl-111"),
        ([True, False, True, True], "dl-111"),
        ([[1]], "dl-111"),
    ],
)
def test_bad_row_numbers_are_refused(ids, code):
    with pytest.raises(BadInput, match=code):
        check_ids(ids, 4, "rows")


def test_rows_without_a_picture_are_shown_as_numbers():
    assert digits().show(1).text == "3  4  5" and digits().show(1).title == "b"
    assert Examples(torch.eye(2), torch.tensor([0.5, 1.0])).show(0).title == "0.5"
