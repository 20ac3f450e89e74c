"""Attributions as files that other programs open: safetensors, parquet, scipy's sparse ``.npz``."""

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix

from dataloupe._atomic import replacing
from dataloupe._errors import BadInput, CapabilityError, StoreError
from dataloupe._typing import Array, Facts
from dataloupe.core import DenseAttribution, checked
from dataloupe.formats._arrays import missing, unreadable
from dataloupe.formats._sparse import to_sparse

NAME = "dataloupe"
"""The entry of a file's metadata that holds the facts as JSON."""
DAMAGES = (SafetensorError, zipfile.BadZipFile, zlib.error, OSError, EOFError, MemoryError, RecursionError)
FORMS = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, NotImplementedError)
"""What readers raise for a file that is damaged, and for one of another form."""
SAFE_BYTES = 1 << 30
MAX_RATIO = 100
"""Sparse scores are packed to a half or a tenth; so much is nothing but zeros."""


@checked("dl-511")
def export(
    attribution: DenseAttribution, path: str | Path, *, k: int | None = None, above: float | None = None
) -> Path:
    """Write an attribution; the name's ending chooses the format.

    ``.safetensors``: everything in its own type: scores ``[m, n]``, bias, index, errors. ``.npz``: the sparse
    scores as ``scipy.sparse.load_npz`` reads them, and the rest beside them. ``.parquet``: a long table (target,
    row, score) of the sparse scores, with the bias and the index in its metadata; errors stay behind. ``k`` and
    ``above`` choose what is sparse, as in :func:`to_sparse`. Single-model parts and examples stay behind. The
    file is written aside and renamed, so that it is never half there.

    Raises ``BadInput`` dl-876 (an unknown ending, or a part of a dense file), dl-878 (k, above); ``StoreError``
    dl-876 (no such folder, a full disk); ``CapabilityError`` dl-877 (parquet without pyarrow).

    ::

        export(trak, "trak.parquet", k=100)
    """
    path = Path(path)
    ending, partial = _ending(path), k is not None or above is not None
    if ending == ".safetensors" and partial:
        raise BadInput(
            "dl-876",
            asked=f"a part of the scores as {path.name}",
            found="a dense format",
            do="write .npz or .parquet, or all of them",
        )
    if path.is_dir() or not path.parent.is_dir():
        raise _unwritable(path, "a folder of that name" if path.is_dir() else f"no folder {path.parent}")
    arrays, facts = attribution.to_arrays()
    facts |= {"m": attribution.m, "n": attribution.n, "dtype": attribution.scores.dtype.name}
    matrix = None if ending == ".safetensors" else to_sparse(attribution, k=k, above=above)
    if partial:
        facts["info"]["note"] = _note(facts["info"]["note"], k, above)
    try:
        with replacing(path) as temporary:
            if matrix is None:
                _write_safetensors(temporary, arrays, facts)
            else:
                del arrays["scores"]
                (_write_npz if ending == ".npz" else _write_parquet)(temporary, matrix, arrays, facts)
    except (OSError, SafetensorError) as error:  # the library's own error of a full disk
        raise _unwritable(path, str(error)) from error
    return path


@checked("dl-511")
def read_attribution(path: str | Path) -> DenseAttribution:
    """The reverse of :func:`export`. Scores that a sparse file leaves out are 0.

    Raises ``BadInput`` dl-870 (missing), dl-871 (damaged, or not written by :func:`export`), dl-876 (an unknown
    ending); ``CapabilityError`` dl-877 (parquet without pyarrow).

    ::

        trak = read_attribution("trak.parquet")
    """
    path = Path(path)
    ending = _ending(path)
    if not path.is_file():
        raise missing(f"the attribution {path}", "no such file", "check the name")
    read = {".safetensors": _read_safetensors, ".npz": _read_npz, ".parquet": _read_parquet}[ending]
    try:
        arrays, facts = read(path)
        return DenseAttribution.from_arrays(arrays, facts)
    except (*DAMAGES, *FORMS) as error:
        raise unreadable(path, f"no attribution in it ({type(error).__name__}: {error})") from error


def _ending(path: Path) -> str:
    """The format, if it is one (dl-876) that can be had here (dl-877)."""
    if path.suffix not in (".safetensors", ".npz", ".parquet"):
        raise BadInput(
            "dl-876",
            asked=f"an attribution as {path.name}",
            found=f"the ending {path.suffix or '(none)'}",
            do="write .safetensors, .npz or .parquet; read the original project's .pt by read_weights",
        )
    if path.suffix == ".parquet":
        _pyarrow()
    return path.suffix


def _unwritable(path: Path, found: str) -> StoreError:
    return StoreError(
        "dl-876",
        asked=f"an attribution at {path}",
        found=found,
        do="name a file in a folder that exists and has room",
    )


def _note(note: str, k: int | None, above: float | None) -> str:
    """What was left out, in words that travel with the scores."""
    largest = "" if k is None else f" among the {k} largest of their target"
    over = "" if above is None else f" above {above:g} in size"
    return (
        f"{note + '; ' if note else ''}only the scores{largest}{over} are here: predictions miss the others"
    )


# --- the formats -------------------------------------------------------------------------------------------


def _write_safetensors(path: Path, arrays: dict[str, Array], facts: Facts) -> None:
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(whole, path, metadata={NAME: json.dumps(facts)})


def _read_safetensors(path: Path) -> tuple[dict[str, Array], Facts]:
    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[NAME])  # noqa: SIM118


def _write_npz(path: Path, matrix: csr_matrix, arrays: dict[str, Array], facts: Facts) -> None:
    """The layout of ``scipy.sparse.save_npz``, which passes over arrays that it does not know."""
    sparse = {name: getattr(matrix, name) for name in ("data", "indices", "indptr")}
    text = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    named: dict[str, Any] = {
        **sparse,
        "shape": matrix.shape,
        "format": np.array(b"csr"),
        NAME: text,
        **arrays,
    }
    with path.open("wb") as file:
        np.savez_compressed(file, **named)


def _read_npz(path: Path) -> tuple[dict[str, Array], Facts]:
    _check_unpacked(path)
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        held = dict(file)
    facts = json.loads(held.pop(NAME).tobytes())
    _check_dense(facts)
    matrix = csr_matrix(
        tuple(held.pop(name) for name in ("data", "indices", "indptr")), shape=held.pop("shape")
    )
    del held["format"]
    return _dense(matrix, facts) | held, facts


def _check_unpacked(path: Path) -> None:
    """Refuse an archive that unpacks to far more than numbers can be packed from: it was made to fill memory."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(SAFE_BYTES, MAX_RATIO * path.stat().st_size):
        raise ValueError(f"{unpacked:,} bytes packed into {path.stat().st_size:,}")


def _check_dense(facts: Facts) -> None:
    """Refuse a matrix whose zeros alone fill memory."""
    size = int(facts["m"]) * int(facts["n"]) * np.dtype(facts["dtype"]).itemsize
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if not 0 <= size <= memory:
        raise ValueError(f"scores {facts['m']} x {facts['n']}, which memory cannot hold")


def _write_parquet(path: Path, matrix: csr_matrix, arrays: dict[str, Array], facts: Facts) -> None:
    arrow, parquet = _pyarrow()
    beside = {name: arrays[name].tolist() for name in ("bias", "index") if name in arrays}
    types = {name: arrays[name].dtype.name for name in beside}
    long = matrix.tocoo()
    table = arrow.table(
        {"target": long.row.astype(np.int32), "row": long.col.astype(np.int32), "score": long.data},
        metadata={NAME: json.dumps({**facts, "beside": beside, "types": types})},
    )
    parquet.write_table(table, path, compression="zstd")


def _read_parquet(path: Path) -> tuple[dict[str, Array], Facts]:
    _, parquet = _pyarrow()
    table = parquet.read_table(path)
    facts = json.loads(table.schema.metadata[NAME.encode()])
    _check_dense(facts)
    beside = {name: np.array(values, dtype=facts["types"][name]) for name, values in facts["beside"].items()}
    target, row, score = (table[name].to_numpy() for name in ("target", "row", "score"))
    matrix = csr_matrix((score, (target, row)), shape=(facts["m"], facts["n"]))
    return _dense(matrix, facts) | beside, facts


def _dense(matrix: csr_matrix, facts: Facts) -> dict[str, Array]:
    return {"scores": np.asarray(matrix.toarray(), dtype=facts["dtype"])}


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise CapabilityError(
            "dl-877",
            asked="a parquet file",
            found="no pyarrow in this environment",
            do="pip install 'dataloupe[parquet]', or write .npz or .safetensors",
        ) from error
    return pyarrow, parquet
