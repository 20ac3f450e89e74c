"""Attributions as files and sparse matrices: what is written comes back, bit for bit."""

import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from safetensors.numpy import load_file

from dataloupe._errors import BadInput, CapabilityError, StoreError
from dataloupe.core import DenseAttribution, Info, Uncertainty
from dataloupe.formats import _export as export_module
from dataloupe.formats import _sparse, export, from_sparse, read_attribution, to_sparse

ENDINGS = ["a.safetensors", "a.npz", "a.parquet"]


def attribution(m=5, n=40, seed=0, dtype=np.float32, zeros=0.5, errors=False):
    rng = np.random.default_rng(seed)
    scores = np.where(rng.random((m, n)) < zeros, 0.0, rng.standard_normal((m, n)))
    known = None
    if errors:
        known = Uncertainty(
            spread=rng.random(m), basis=rng.standard_normal((n, 2)), spectrum=rng.random((m, 2))
        )
    return DenseAttribution(
        scores.astype(dtype),
        Info(
            "by hand",
            settings={"models": 3},
            cost={"seconds": 1.5},
            fraction=0.5,
            output="margin",
            note="a note",
        ),
        bias=rng.standard_normal(m).astype(np.float32),
        units="relative",
        uncertainty=known,
        index=np.stack([np.arange(m), np.zeros(m, dtype=np.int64)], axis=1),
    )


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.ascontiguousarray(a).tobytes() == b.tobytes()


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_round_trip_bit_for_bit(tmp_path, name, dtype):
    ours = attribution(dtype=dtype)
    back = read_attribution(export(ours, tmp_path / name))
    for field in ("scores", "bias", "index"):
        assert same_bits(getattr(ours, field), getattr(back, field)), field
    assert (back.info, back.units) == (ours.info, ours.units)
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing else is left behind"


@pytest.mark.parametrize("name", ENDINGS)
def test_without_bias_or_index(tmp_path, name):
    ours = DenseAttribution(np.zeros((2, 3), np.float32), Info("nothing"))
    back = read_attribution(export(ours, tmp_path / name))
    assert same_bits(ours.scores, back.scores)
    assert back.bias is None
    assert back.index is None


@pytest.mark.parametrize("name", ENDINGS[:2])
def test_errors_travel_but_with_parquet(tmp_path, name):
    ours = attribution(errors=True)
    back = read_attribution(export(ours, tmp_path / name))
    np.testing.assert_array_equal(ours.error([[0, 3], [7]]), back.error([[0, 3], [7]]))
    assert read_attribution(export(ours, tmp_path / "a.parquet")).uncertainty is None


@pytest.mark.parametrize("name", ENDINGS)
def test_the_same_attribution_is_the_same_file(tmp_path, name):
    first = export(attribution(), tmp_path / name).read_bytes()
    assert export(attribution(), tmp_path / name).read_bytes() == first


def test_other_programs_read_them(tmp_path):
    ours = attribution()
    assert same_bits(ours.scores, load_file(export(ours, tmp_path / "a.safetensors"))["scores"])
    loaded = scipy.sparse.load_npz(export(ours, tmp_path / "a.npz"))
    np.testing.assert_array_equal(loaded.toarray(), ours.scores)
    table = parquet.read_table(export(ours, tmp_path / "a.parquet"))
    assert table.column_names == ["target", "row", "score"]
    columns = [table[name].to_numpy() for name in table.column_names]
    assert len(columns[0]) == np.count_nonzero(ours.scores)
    np.testing.assert_array_equal(ours.scores[columns[0], columns[1]], columns[2])


def test_a_scipy_file_of_somebody_else_is_refused(tmp_path):
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.eye(3, format="csr"))
    with pytest.raises(BadInput, match="dl-871"):
        read_attribution(tmp_path / "a.npz")


def test_a_part_says_that_it_is_one(tmp_path):
    ours = attribution(zeros=0.0)
    for name in ENDINGS[1:]:
        back = read_attribution(export(ours, tmp_path / name, k=3, above=0.1))
        np.testing.assert_array_equal(back.scores, to_sparse(ours, k=3, above=0.1).toarray())
        assert back.info.note.startswith("a note; only the scores among the 3 largest")
    assert ours.info.note == "a note"


# --- sparse ------------------------------------------------------------------------------------------------


@given(m=st.integers(1, 6), n=st.integers(1, 30), k=st.integers(1, 30), seed=st.integers(0, 99))
def test_the_k_largest_by_size(m, n, k, seed):
    k = min(k, n)
    scores = np.random.default_rng(seed).integers(-3, 4, (m, n)).astype(np.float32)
    found = to_sparse(DenseAttribution(scores, Info("ties")), k=k)
    for row, kept in zip(scores, found.toarray(), strict=True):
        order = sorted(range(n), key=lambda i: (-abs(row[i]), i))[:k]
        expected = np.zeros(n, np.float32)
        expected[order] = row[order]
        np.testing.assert_array_equal(kept, expected)
    assert found.nnz == np.count_nonzero(found.toarray()), "no explicit zeros"


def test_above_is_strict_and_both_ways():
    scores = np.array([[0.5, -0.5, 0.6, -0.7, 0.0]])
    found = to_sparse(DenseAttribution(scores, Info("by hand")), above=0.5)
    assert found.toarray().tolist() == [[0.0, 0.0, 0.6, -0.7, 0.0]]


def test_blocks_change_nothing(monkeypatch):
    ours = attribution(m=7)
    whole = to_sparse(ours, k=4)
    monkeypatch.setattr(_sparse, "BLOCK", 80)
    assert (whole != to_sparse(ours, k=4)).nnz == 0


def test_sparse_and_back():
    ours = attribution()
    back = from_sparse(to_sparse(ours), ours.info, bias=ours.bias, units=ours.units)
    assert same_bits(ours.scores, back.scores)
    np.testing.assert_array_equal(ours.effect([[1, 2]]), back.effect([[1, 2]]))


# --- what cannot be meant ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"k": 0}, {"k": 41}, {"above": -0.1}, {"above": np.inf}, {"above": np.nan}]
)
def test_scores_to_keep_that_cannot_be_meant(tmp_path, wrong):
    for call in (to_sparse, lambda a, **w: export(a, tmp_path / "a.npz", **w)):
        with pytest.raises(BadInput, match="dl-(878|511)"):
            call(attribution(), **wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "more"), [("a.csv", {}), ("a", {}), ("a.pt", {}), ("a.safetensors", {"k": 3})]
)
def test_endings_without_a_format(tmp_path, name, more):
    with pytest.raises(BadInput, match="dl-876"):
        export(attribution(), tmp_path / name, **more)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize(
    "harm", [lambda raw: raw[:-30], lambda raw: raw[:9], lambda _: b"", lambda _: b"x" * 500]
)
def test_a_damaged_file_is_refused(tmp_path, name, harm):
    path = export(attribution(), tmp_path / name)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(BadInput, match="dl-871"):
        read_attribution(path)
    with pytest.raises(BadInput, match="dl-870"):
        read_attribution(tmp_path / f"none{path.suffix}")
    with pytest.raises(BadInput, match="dl-876"):
        read_attribution(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ENDINGS)
def test_places_where_no_file_can_stand(tmp_path, name):
    (tmp_path / name).mkdir()
    for path in (tmp_path / name, tmp_path / "none" / name):
        with pytest.raises(StoreError, match="dl-876"):
            export(attribution(), path)
    assert [found.name for found in tmp_path.iterdir()] == [name]


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = export(attribution(), tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for call in (lambda: export(attribution(), tmp_path / "b.parquet"), lambda: read_attribution(path)):
        with pytest.raises(CapabilityError, match=r"dl-877.*pip install 'dataloupe\[parquet\]'"):
            call()
    assert [found.name for found in tmp_path.iterdir()] == ["a.parquet"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = export(attribution(seed=1), tmp_path / "a.npz")
    before = path.read_bytes()

    def full(file, **_):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("numpy.savez_compressed", full)
    with pytest.raises(StoreError, match="dl-876.*no space"):
        export(attribution(seed=2), path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["a.npz"]


# --- files made to do harm ---


def archive(path: Path, **facts: Any) -> Path:
    """A small sparse archive, its facts changed."""
    export(attribution(seed=1), path)
    with np.load(path) as file:
        held = dict(file)
    told = json.loads(held["dataloupe"].tobytes()) | facts
    held["dataloupe"] = np.frombuffer(json.dumps(told).encode(), dtype=np.uint8)
    with path.open("wb") as file:
        np.savez_compressed(file, **held)
    return path


def test_an_archive_that_unpacks_to_fill_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "a.npz")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file, file.open("more.npy", "w") as member:
        member.write(bytes(3_000_000))
    monkeypatch.setattr(export_module, "SAFE_BYTES", 1 << 20)
    with pytest.raises(BadInput, match=r"dl-871.*3,\d{3},\d{3} bytes packed into"):
        read_attribution(path)


@pytest.mark.parametrize(
    "facts",
    [
        {"m": 10**9, "n": 10**9},
        {"m": -1},
        {"n": "many"},
        {"dtype": "object"},
        {"dtype": "nonsense"},
        {"info": 3},
    ],
)
def test_facts_that_no_scores_have_are_refused(tmp_path: Path, facts: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="dl-871"):
        read_attribution(archive(tmp_path / "a.npz", **facts))


@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
def test_a_sparse_file_of_a_terabyte_is_refused(tmp_path: Path, ending: str) -> None:
    path = export(attribution(seed=1), tmp_path / f"a{ending}")
    os.truncate(path, 1 << 40)
    with pytest.raises(BadInput, match="dl-871"):
        read_attribution(path)
