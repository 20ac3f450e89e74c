"""Data as it comes: whatever holds the numbers, row i is the i-th row, or the data are refused by name."""

import datetime
import decimal
import mmap
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from dataloupe._errors import BadInput, DataloupeError
from dataloupe._identity import array_digest, identity
from dataloupe.core import Examples
from dataloupe.core import _arrays as arrays

NUMBERS = [
    "?",
    "i1",
    "u1",
    "<i2",
    ">i2",
    "u2",
    "<i4",
    ">u4",
    "i8",
    ">i8",
    "u8",
    "f2",
    "<f4",
    ">f4",
    "f8",
    ">f8",
]
STRANGE = ["g", "c8", "c16", "U3", "S3", "M8[s]", "m8[D]", "O", "i4,f4"]


class OldFrame:
    """A frame of another library: columns, and all of it as an array."""

    def __init__(self, array):
        self._array, self.columns = array, list(range(array.shape[1]))

    def __array__(self, dtype=None, copy=None):
        return self._array

    def __getitem__(self, name):
        return self._array[:, name]


LAYOUTS = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "every other": lambda a: np.repeat(a, 2, axis=0)[::2],
    "columns reversed": lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) if a.dtype != "O" else a,
    "one row for all": lambda a: np.broadcast_to(a[:1], a.shape),
    "field of a record": lambda a: a.astype(np.dtype([("pad", "i1"), ("x", a.dtype)]))["x"],
}
CONTAINERS = {
    "array": lambda a: a,
    "subclass": lambda a: a.view(np.recarray),
    "rows": list,
    "lists": lambda a: a.tolist(),
    "tuples": lambda a: [tuple(row) for row in a.tolist()],
    "objects": lambda a: a.astype(object),
    "mask of nothing": np.ma.array,
    "tensors": lambda a: [torch.from_numpy(np.array(row)) for row in a],
    "tensor": lambda a: torch.from_numpy(np.array(a)),
    "frame": lambda a: pd.DataFrame(a, index=np.random.default_rng(0).permutation(len(a))),
    "other frame": OldFrame,
    "series of rows": lambda a: pd.Series(list(a), index=range(len(a), 0, -1)),
}


def wanted(array):
    """NumPy's own reading, as numbers that compare by value."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(NUMBERS + STRANGE),
    st.sampled_from(sorted(LAYOUTS)),
    st.sampled_from(sorted(CONTAINERS)),
    st.lists(st.integers(0, 100), min_size=1, max_size=5),
    st.sampled_from(["inputs", "labels"]),
)
def test_a_row_is_read_by_its_position_or_refused(dtype, layout, container, first_column, part):
    column = np.array(first_column)
    rows = np.stack([column, column[::-1] + 1], axis=1)
    try:
        array = LAYOUTS[layout](rows.astype(dtype))
        given_ = CONTAINERS[container](array)
    except (TypeError, ValueError):
        return  # no such array: NumPy's business
    right = np.asarray(array)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = (
                Examples(given_)
                if part == "inputs"
                else Examples(np.zeros((len(right), 1), "f4"), labels=given_)
            )
    except DataloupeError as error:
        # Numbers that everybody knows are taken in every layout and container.
        assert dtype in STRANGE, error
        return
    found = data.inputs if part == "inputs" else data.labels
    assert found.shape == right.shape
    order = np.random.default_rng(0).permutation(len(right))
    rows_taken = data.take(order)
    taken = rows_taken.inputs if part == "inputs" else rows_taken.labels
    assert np.allclose(wanted(taken.numpy()), wanted(right[order]), rtol=1e-6)
    assert part == "inputs" or found.is_floating_point() or found.dtype == torch.int64


# --- what users bring by mistake ---

TABLE = np.arange(6.0).reshape(3, 2).astype("f4")
MIXED = pd.DataFrame({"age": [1.0, 2.0, 3.0], "town": ["a", "b", "c"]})


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return TABLE[i], i


class HubDataset:
    column_names, features = ["text"], {"text": "string"}

    def __len__(self):
        return 3


class Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("on another device")


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        (None, "dl-125.*None"),
        (3, "dl-125.*single value 3"),
        ("text", "dl-125.*a str"),
        (torch.tensor(3.0), "dl-125.*single value 3.0"),
        ({}, "dl-125.*empty dict"),
        ((), "dl-125.*empty tuple"),
        ({1: TABLE}, r"dl-125.*names \[1\]"),
        ({"x": {"y": TABLE}}, r"dl-125.*inputs\['x'\].*a dict"),
        ({1, 2}, "dl-125.*a set"),
        ((row for row in TABLE), "dl-125.*generator"),
        (object(), "dl-125.*object"),
        (Broken(), "dl-125.*Broken"),
        (torch.eye(3).to_sparse(), r"dl-125.*sparse.*to_dense\(\)"),
        (torch.eye(3, device="meta"), "dl-125.*meta"),
        (torch.eye(3).to(torch.float8_e4m3fn), "dl-125.*float8"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged), "dl-125.*nested"),
        ([[1, 2], [3]], "dl-128.*lengths 1 to 2.*pad"),
        ([torch.ones(2), torch.ones(3)], "dl-128.*lengths 2 to 3"),
        ({"input_ids": [[1, 2, 3], [4]]}, "dl-128.*input_ids.*attention_mask"),
        (pd.Series([[1, 2], [3]]), "dl-128"),
        ([1, None], "dl-125.*None in row 1"),
        ([[1.0, 2.0], [decimal.Decimal(1), 2.0]], "dl-125.*Decimal in row 1"),
        (np.array([[1, 2], [3, None]], object), "dl-125.*None in row 1.*nan"),
        (pd.Series([1, None], dtype="Int64").astype(object), "dl-125.*NAType in row 1"),
        ([datetime.date(2020, 1, 1)], "dl-125.*date in row 0"),
        ([2**70], "dl-125.*above 64 bits"),
        (np.array(["2020-01-01"], "M8[D]"), "dl-125.*dates"),
        (np.zeros(3, "i4,f4"), "dl-125.*column_stack"),
        (np.zeros(3, "g"), "dl-125.*(longdouble|float128)"),
        (["a", "b"], "dl-126.*'a'.*tokenizer"),
        (np.array([[1, "a"]], object), "dl-126"),
        (MIXED, "dl-126.*columns 'town'"),
        (MIXED.town, "dl-126"),
        (np.ma.array([1, 999, 3], mask=[0, 1, 0]), "dl-127.*hides 1 values.*filled"),
        ([np.ma.array([1, 999], mask=[0, 1]), np.ma.array([1, 2])], "dl-127"),
        ([[1.0, np.ma.masked], [2.0, 3.0]], "dl-127"),
        (DataLoader(TensorDataset(torch.eye(3))), "dl-129.*DataLoader.*torch.cat"),
        (TensorDataset(torch.eye(3)), r"dl-129.*dataset.tensors\[0\]"),
        (Rows(), r"dl-129.*Rows.*dataset\[i\]"),
        ([{"x": 1}] * 3, "dl-129.*list of dicts"),
        ([(row, 1) for row in TABLE], "dl-129.*labels=\\[y"),
        (HubDataset(), 'dl-129.*HubDataset.*dataset\\["text"\\]'),
        ({"x": HubDataset()}, "dl-129.*inputs\\['x'\\]"),
        (np.uint64([2**63]), "dl-125.*2\\^63"),
    ],
)
def test_what_holds_no_numbers_is_refused_and_says_what_to_write(inputs, code):
    with pytest.raises(BadInput, match=code):
        Examples(inputs).take([0])


@pytest.mark.parametrize(
    ("labels", "code"),
    [
        (["cat", "dog", "cat"], r"dl-126.*'cat'.*np.unique\(labels, return_inverse=True\)"),
        (pd.Series(["cat", "dog", "cat"], dtype="category"), "dl-126.*np.unique"),
        (np.array([1j, 2, 3]), "dl-125.*complex"),
        ([0.0, float("nan"), 1.0], "dl-105.*NaN in labels.*row 1"),
        (pd.Series([0, None, 1], dtype="Int64"), "dl-105.*labels.*row 1"),
        ([0.0, 1e300, 0.0], "dl-105.*infinity in labels.*row 1"),
    ],
)
def test_labels_that_are_no_finite_numbers_are_refused(labels, code):
    with pytest.raises(BadInput, match=code):
        Examples(TABLE, labels=labels)


# --- by position ---


def test_pandas_is_read_by_position():
    frame = pd.DataFrame({"x": np.arange(12, dtype="f4"), "source": list("aaabbbcccddd")})
    frame["text"] = [f"text of {value}" for value in frame.x]
    frame = frame.sample(frac=1, random_state=1)
    data = Examples(frame[["x"]], labels=frame.x.astype("i4"), texts=frame.text, meta=frame[["source", "x"]])
    shown = [data.show(i).text for i in range(12)]
    assert shown == [f"text of {float(value)}" for value in data.inputs[:, 0]] == frame.text.tolist()
    assert data.labels.tolist() == frame.x.tolist() and data.labels.dtype == torch.int64
    part = data[3:6]
    assert part.texts == frame.text.tolist()[3:6]
    assert part.meta == {"source": frame.source.tolist()[3:6], "x": frame.x.tolist()[3:6]}
    assert data[frame.source == "a"].meta["source"] == ["a"] * 3
    split = frame[frame.index != 0].iloc[6:]
    assert Examples(split[["x"]], texts=split.text, names=pd.Index(["a"])).show(0).text == split.text.iloc[0]


def test_a_list_holds_rows_and_a_tuple_inputs():
    assert Examples([[1.0, 2.0], [3.0, 4.0]], labels=[0, 1]).inputs.tolist() == [[1, 2], [3, 4]]
    assert Examples([[1.0, 2.0]]).inputs.dtype == torch.float32
    assert Examples([torch.ones(2, requires_grad=True)]).inputs.requires_grad is False
    two = Examples((TABLE, TABLE[:, :1]))
    assert isinstance(two.inputs, tuple) and two.inputs[1].shape == (3, 1)
    with pytest.raises(BadInput, match="dl-104.*a list holds rows"):
        Examples([TABLE, TABLE], labels=[0, 1, 1])


def test_a_tensor_with_a_history_or_of_a_subclass_is_a_plain_one():
    x = torch.eye(3, requires_grad=True) * 2
    data = Examples(torch.nn.Parameter(torch.eye(3)), labels=x[0].detach())
    assert type(data.inputs) is torch.Tensor and not data.inputs.requires_grad
    assert not Examples(x).inputs.requires_grad
    assert Examples(torch.tensor([[1 + 2j]]).conj()).inputs.tolist() == [[1 - 2j]]


def test_plain_arrays_keep_their_memory_type_and_fingerprint():
    x, y = np.random.default_rng(0).normal(size=(5, 3)).astype("f4"), np.arange(5)
    data = Examples(x, labels=y)
    assert data.inputs.data_ptr() == x.ctypes.data and data.labels.data_ptr() == y.ctypes.data
    assert data.fingerprint == identity([[array_digest(x)], array_digest(y)])
    same = torch.from_numpy(x)
    assert Examples(same).inputs is same
    for dtype in ("u1", "i2", "u4", ">i8", "?"):
        assert Examples(x, labels=(y % 2).astype(dtype)).fingerprint == Examples(x, labels=y % 2).fingerprint


# --- memory maps ---


def test_a_memory_map_is_checked_and_hashed_in_blocks_and_never_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK_NUMBERS", 1 << 14)
    monkeypatch.setattr("dataloupe._fingerprints._arrays._BLOCK", 1 << 14)
    file = tmp_path / "x.bin"
    written = np.memmap(file, "f4", "w+", shape=(4000, 500))
    written[:] = np.arange(500)
    written[3999, 499] = np.nan
    written.flush()
    for mode in ("r", "r+", "c"):
        mapped = np.memmap(file, "f4", mode, shape=(4000, 500))
        for view in (mapped, mapped[:, 100:]):
            tracemalloc.start()
            data = Examples(view)
            data.fingerprint  # noqa: B018
            rows = data.take([3999]).inputs
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert data.inputs.data_ptr() == view.ctypes.data
            assert data.first_missing == 3999 and bool(rows[0, -1].isnan())
            assert peak < view.nbytes / 4
            assert data.fingerprint == Examples(np.array(view)).fingerprint
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        shared = np.frombuffer(buffer, "f4")
        assert Examples(shared).inputs.data_ptr() == shared.ctypes.data
        del shared  # the file can be closed when nothing looks into it


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_numbers_that_are_not_finite_are_found_in_any_block(dtype, monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK_NUMBERS", 6)
    x = np.full((20, 2), np.finfo(dtype).max, dtype)  # sums of it overflow
    assert arrays.first_rows_not_finite(torch.from_numpy(x)) == (None, None)
    x[13, 1], x[17, 0] = np.nan, np.nan
    assert arrays.first_rows_not_finite(torch.from_numpy(x)) == (13, None)
    x[15, 1], x[16, 1] = np.inf, -np.inf
    assert arrays.first_rows_not_finite(torch.from_numpy(x)) == (13, 15)
    with pytest.raises(BadInput, match="dl-105.*infinity.*row 15"):
        Examples(x)


class PolarsLike:
    """A polars frame as it gives itself to NumPy: a date beside numbers becomes a number of days or microseconds."""

    columns = ("a", "b")

    def __init__(self, *temporal):
        kinds = {
            flag: type("Kind", (), {"is_temporal": staticmethod(lambda flag=flag: flag)}) for flag in (0, 1)
        }
        self.dtypes = [kinds[name in temporal] for name in self.columns]

    def __getitem__(self, name):
        return self.__array__()[:, self.columns.index(name)]

    def __array__(self, dtype=None, copy=None):
        return np.array([[1.0, 18262.0], [2.0, 18263.0]], dtype)

    def __len__(self):
        return 2


def test_a_column_of_dates_beside_numbers_is_refused():
    """polars gave the microseconds since 1970 as a feature, without a word."""
    assert Examples(PolarsLike()).inputs.tolist() == [[1.0, 18262.0], [2.0, 18263.0]]
    with pytest.raises(BadInput, match="dl-125.*inputs as numbers.*dates or durations in the columns 'b'"):
        Examples(PolarsLike("b"))
    with pytest.raises(BadInput, match=r"dl-125.*in the columns 'a', 'b'"):
        Examples(torch.zeros(2, 1), labels=PolarsLike("a", "b"))
