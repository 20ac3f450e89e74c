"""The arrays of the original datamodels: a folder that its workers fill, and the released pairs of files."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from dataloupe._errors import BadInput
from dataloupe._typing import Array, Facts, Ids
from dataloupe.core import DIVERGED, OK, Outcomes, Removal, checked
from dataloupe.formats._arrays import missing, numbers, open_array, other_shape, packed, unreadable

COMPLETED = "_completed"
ALL = slice(None)


@checked("dl-511")
def read_store(
    folder: str | Path,
    *,
    masks: str = "masks",
    margins: str = "margins",
    rows: slice = ALL,
    targets: slice | Ids = ALL,
    removal: Removal = "repack",
) -> Outcomes:
    """The completed models of a folder that ``datamodels.training`` filled.

    The folder holds ``spec.json`` (``num_models`` and a ``schema`` of keys, shapes and types), one
    ``<key>.npy`` per key with a row per model, and ``_completed.npy``. ``masks`` and ``margins`` name the keys;
    ``rows`` chooses among the completed models, ``targets`` among the columns. Files are memory-mapped and read
    in blocks; in memory a mask is n / 8 bytes. A row with NaN or infinity is a diverged run.

    Raises ``BadInput`` dl-870 (a file or key is missing), dl-871 (a damaged file), dl-872 (shapes or types
    other than the spec's), dl-873 (nothing to read), dl-874 (a completed row that holds nothing).

    ::

        outcomes = read_store("runs/cifar", targets=slice(0, 100))

    Source: Ilyas et al. 2022, arXiv 2202.00622, and its released code.
    """
    folder = Path(folder)
    spec = _spec(folder)
    done = _array(folder, spec, COMPLETED)
    given, values = _array(folder, spec, masks), _array(folder, spec, margins)
    completed = np.flatnonzero(done)
    facts = {"imported": str(folder), "models": spec["num_models"], "completed": len(completed)}
    return _outcomes(given, values, completed[rows], targets, removal, facts)


@checked("dl-511")
def read_outcomes(
    masks: str | Path,
    margins: str | Path,
    *,
    rows: slice = ALL,
    targets: slice | Ids = ALL,
    removal: Removal = "repack",
) -> Outcomes:
    """A released pair of files: ``train_masks_50pct.npy [M, n]`` and ``test_margins_50pct.npy [M, m]``.

    Masks are boolean or 0/1 bytes, margins any floating type; row i of both is model i. The released matrices
    hold 10,000 models more than were fitted to, for evaluation; which rows these are the release does not say.
    A row with NaN or infinity is a diverged run. Files are memory-mapped and read in blocks.

    Raises ``BadInput`` dl-870, dl-871, dl-872, dl-873, dl-874 as :func:`read_store`.

    ::

        outcomes = read_outcomes("train_masks_50pct.npy", "test_margins_50pct.npy", targets=[7, 42])

    Source: Ilyas et al. 2022, arXiv 2202.00622; github.com/MadryLab/datamodels-data.
    """
    given, values = open_array(Path(masks)), open_array(Path(margins))
    kept = np.arange(len(given) if given.ndim else 0)[rows]
    return _outcomes(given, values, kept, targets, removal, {"imported": f"{masks} and {margins}"})


def _outcomes(
    masks: Array, values: Array, kept: Array, targets: slice | Ids, removal: Removal, facts: Facts
) -> Outcomes:
    where = facts["imported"]
    if masks.ndim and values.ndim and len(masks) != len(values):
        raise other_shape(
            f"a row of outputs per mask in {where}", f"{len(masks)} masks and {len(values)} rows of outputs"
        )
    if len(kept) == 0:
        raise BadInput(
            "dl-873",
            asked=f"outcomes from {where}",
            found="no completed model among the rows asked for",
            do="run the workers first, or ask for other rows",
        )
    found = numbers(values, kept, targets, where)[:, None]
    subsets = packed(masks, kept, where)
    good = np.isfinite(found).all(axis=2)
    found[~good] = np.nan
    status = np.where(good, OK, DIVERGED).astype(np.uint8)
    return Outcomes(subsets, found, status, removal, facts)


def _spec(folder: Path) -> dict[str, Any]:
    path = folder / "spec.json"
    if not path.is_file():
        raise missing(
            f"the store {folder}", "no spec.json in it", "name the folder that initialize_store filled"
        )
    try:
        spec = json.loads(path.read_bytes())
        shapes = {key: [int(size) for size in part["shape"]] for key, part in spec["schema"].items()}
        types = {key: np.dtype(getattr(np, part["dtype"])) for key, part in spec["schema"].items()}
        models = int(spec["num_models"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(path, f"no num_models and schema of shapes and dtypes ({error!r})") from error
    return {
        "num_models": models,
        "shapes": {**shapes, COMPLETED: []},
        "types": {**types, COMPLETED: np.dtype(bool)},
    }


def _array(folder: Path, spec: dict[str, Any], key: str) -> Array:
    """The array of a key, as the spec describes it."""
    if key not in spec["shapes"]:
        known = ", ".join(name for name in spec["shapes"] if name != COMPLETED)
        raise missing(
            f"the key {key!r} of {folder}",
            f"a spec with the keys {known}",
            "name one: masks=..., margins=...",
        )
    found = open_array(folder / f"{key}.npy")
    shape = (spec["num_models"], *spec["shapes"][key])
    if found.shape != shape or found.dtype != spec["types"][key]:
        raise other_shape(
            f"{folder / key}.npy: {spec['types'][key]} of shape {shape}, by spec.json",
            f"{found.dtype} of shape {found.shape}",
        )
    return found
