"""Whatever is given at the doors of the data is taken or refused by name: no error of another library comes out."""

import array
import collections
import datetime
import decimal
import types
import uuid
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from dataloupe import outputs
from dataloupe._errors import DataloupeError
from dataloupe.core import Examples, Question
from dataloupe.learners import SklearnLearner


class Endless(Dataset):
    """Never raises IndexError, as many data sets do not: reading it to its end takes forever."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return i


class Counted:
    def __len__(self):
        return 3


class NoArray:
    def __array__(self, dtype=None, copy=None):
        return "no array"


class Broken(Sequence):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        raise KeyError(i)


Pair = collections.namedtuple("Pair", "a b")
EYE = torch.eye(3)
PLAIN = [
    *(None, 3, 1.5, float("nan"), True, 1j, "abc", b"abc", bytearray(b"abc"), memoryview(b"abc")),
    *(
        decimal.Decimal(1),
        uuid.uuid4(),
        len,
        int,
        object(),
        EYE.sum,
        torch.nn.Linear(2, 2),
        types.SimpleNamespace(),
    ),
    *([], (), {}, {1, 2, 3}, range(3), collections.deque([1, 2, 3]), array.array("d", [1, 2, 3])),
    *([1, 2, 3], [0.1, 0.2, 0.3], list("abc"), [b"a"] * 3, [1, None, 3], [object()] * 3, [{"a": 1}] * 3),
    *([[1], [2, 3], [4]], [(1, 2)] * 3, [(EYE[0], 1)] * 3, [[], [], []], [True, False, True], [2**70] * 3),
    *(["a", 1, None], [np.ones(2)] * 3, [EYE[0]] * 3, [EYE[0], np.ones(3), [1, 1, 1]], [torch.tensor(1)] * 3),
    *([torch.ones(2, requires_grad=True)] * 3, [datetime.datetime(2020, 1, 1)] * 3, ["\ud800"] * 3),
]
ARRAYS = [
    *(np.array(3.0), np.int64(3), np.zeros((0, 3)), np.zeros((3, 0)), np.arange(3), np.arange(3)[::-1]),
    *(
        np.array([1, "a", None], object),
        np.array(list("abc")),
        np.array([b"a"] * 3),
        np.array(["2020"] * 3, "M8[Y]"),
    ),
    *(
        np.array(["NaT"] * 3, "M8[s]"),
        np.zeros(3, "V4"),
        np.zeros(3, "i4,f4"),
        np.zeros(3, complex),
        np.zeros(3, "g"),
    ),
    *(
        np.ma.array([1, 2, 3], mask=[0, 1, 0]),
        np.ma.masked,
        np.array([1, np.nan, 3]),
        np.array([1, np.inf, 3]),
    ),
    *(np.zeros((3, 4, 4), "u1"), np.zeros((3, 4, 4, 3), "u1"), np.broadcast_to(np.arange(3), (3, 3))),
    *(scipy.sparse.eye(3, format="csr"), scipy.sparse.coo_array(np.eye(3))),
]
TENSORS = [
    *(
        EYE,
        EYE.long(),
        EYE.bool(),
        EYE * 1j,
        EYE.half(),
        EYE.bfloat16(),
        EYE.to(torch.float8_e4m3fn),
        EYE.to_sparse(),
    ),
    *(
        torch.tensor([1, 2**63 + 5, 3], dtype=torch.uint64),
        torch.eye(3, device="meta"),
        EYE.clone().requires_grad_(),
    ),
    *(torch.nn.Parameter(EYE), torch.tensor([1j] * 3).conj().imag, torch.tensor(1.0), torch.zeros(0)),
    *(torch.full((3,), torch.nan), torch.full((3,), torch.inf), torch.ones(1, 3).expand(3, 3)),
]
FRAMES = [
    *(pd.Series([1, 2, 3], index=[5, 5, 5]), pd.Series(list("abc")), pd.Series([1, None, 3], dtype="Int64")),
    *(
        pd.Categorical(list("abc")),
        pd.Index([3, 4, 5]),
        pd.MultiIndex.from_tuples([(1, 2)] * 3),
        pd.DataFrame(),
    ),
    *(
        pd.DataFrame({"a": [1, 2, 3]}),
        pd.DataFrame({"a": list("abc"), "b": [1, 2, 3]}),
        pd.interval_range(0, 3),
    ),
    *(pd.DataFrame([[1, 2]] * 3, columns=["a", "a"]), pd.Series(pd.date_range("2020", periods=3, tz="UTC"))),
    *(pd.arrays.SparseArray([0, 0, 1]), pd.DataFrame({"a": [True, False, True], "b": [1.0, 2, 3]})),
    *(
        pa.array([1, None, 3]),
        pa.array(list("abc")),
        pa.table({"a": [1, 2, 3]}),
        pa.table({"a": list("abc")}),
    ),
    *(pa.chunked_array([[1], [2, 3]]), pa.array([[1], [2, 3], []]), pa.scalar(3), pa.array([{"x": 1}] * 3)),
]
OTHERS = [
    *(
        Endless(),
        Subset(Endless(), [0, 1]),
        DataLoader(Endless()),
        TensorDataset(EYE),
        Counted(),
        NoArray(),
        Broken(),
    ),
    *(Image.new("L", (3, 3)), [Image.new("RGB", (4, 4))] * 3, [Image.new("L", (3 + i, 4)) for i in range(3)]),
    *(
        collections.UserDict(x=EYE),
        types.MappingProxyType({"x": [1, 2, 3]}),
        {"a": 1}.keys(),
        {"a": 1}.values(),
    ),
    *(
        Pair(EYE, EYE),
        Examples(EYE),
        {"x": None},
        {"x": {"y": 1}},
        {"x": EYE, "y": torch.eye(4)},
        (EYE, [1, 2, 3]),
    ),
]
LABELLED = Examples(EYE, labels=[0, 1, 2], names="abc")
REAL = Examples(EYE, labels=[0.0, 1, 2])
RIDGE = SklearnLearner.ridge_classifier()


def used(data):
    """What everybody does with examples."""
    return (
        repr(data),
        data.show(0),
        data.fingerprint,
        data.take([0, -1]),
        data[:1],
        data[[len(data) - 1, 0]].show(1),
    )


DOORS = {
    "inputs": lambda value: used(Examples(value)),
    **{
        part: lambda value, part=part: used(Examples(EYE, **{part: value}))
        for part in ("labels", "images", "texts", "names", "meta")
    },
    "names of labels": lambda value: used(Examples(EYE, labels=[0, 1, 2], names=value)),
    "a column": lambda value: used(Examples(EYE, meta={"column": value})),
    "take": LABELLED.take,
    "part": lambda value: LABELLED[value],
    "other labels": lambda value: LABELLED.with_labels([0, 1, 2], value),
    "other real labels": lambda value: REAL.with_labels([0], value),
    "rows to relabel": lambda value: LABELLED.with_labels(value, 0),
    "train": lambda value: Question(RIDGE, value, LABELLED, outputs.margin),
    "targets": lambda value: Question(RIDGE, LABELLED, value, outputs.margin),
    "a question": lambda value: (
        Question(RIDGE, Examples(value, labels=[0, 1, 1]), LABELLED, outputs.margin).identity
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("door", sorted(DOORS))
def test_anything_is_taken_or_refused_by_name(door):
    taken = refused = 0
    for value in (*PLAIN, *ARRAYS, *TENSORS, *FRAMES, *OTHERS, LABELLED, (row for row in range(3))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                DOORS[door](value)
            except DataloupeError as error:
                assert error.do, type(value)
                refused += 1
            else:
                taken += 1
    assert taken and refused


def test_labels_that_no_whole_number_is_are_never_rounded_to_one():
    for value in (1.5, np.float32(0.3), torch.tensor(np.inf), 1e30, [1e300]):
        with pytest.raises(DataloupeError, match="dl-1(34|05)"):
            LABELLED.with_labels([0], value)
