"""What a lab reads from its folder, held against the job before it is used: a checksum is no signature."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dataloupe._errors import BadInput, StoreError
from dataloupe._identity import differences
from dataloupe._typing import Array, Facts
from dataloupe.core import DIVERGED, OK, State, Store, must_show_state
from dataloupe.engine import Backend
from dataloupe.lab._job import Job

MAX_THREADS = max(256, os.cpu_count() or 1)
"""More would end the process: the system lends no such number of threads."""
_SPAN = re.compile(r"(\d{7,12})-(\d{7,12})")


class UnitTypes(NamedTuple):
    """What a unit holds of one training: type and shape of every array, and which may be missing."""

    arrays: Mapping[str, tuple[np.dtype, tuple[int, ...]]]
    optional: frozenset[str] = frozenset()


class BackendRecord(NamedTuple):
    """The back end that made a folder's units, and where."""

    backend: Backend
    environment: dict[str, str]


def backend_record(folder: str, facts: Facts) -> BackendRecord:
    """The back end on record, its values within range. Raises ``StoreError`` dl-614."""
    try:
        backend = Backend(**facts["backend"])
        environment = dict(facts["environment"])
    except (KeyError, TypeError, ValueError) as error:
        raise unfit_record(folder, "backend", error) from error
    if not all(isinstance(value, str) for value in environment.values()):
        raise unfit_record(folder, "backend", f"environment: {environment}")
    check_threads(folder, "backend", backend.threads)
    return BackendRecord(backend, environment)


def check_threads(folder: str, record: str, threads: Any) -> None:
    """Refuse a recorded number of threads that no machine has (dl-614)."""
    if type(threads) is not int or not 1 <= threads <= MAX_THREADS:
        raise unfit_record(folder, record, f"threads: {threads!r}, outside 1 to {MAX_THREADS}")


def unfit_record(folder: str, record: str, found: Any) -> StoreError:
    """dl-614: a record that was not written by a lab of this version."""
    said = found.found if isinstance(found, BadInput) else found
    why = f"{type(said).__name__}: {said}" if isinstance(said, Exception) else str(said)
    return StoreError(
        "dl-614",
        asked=f"the record {folder}/{record}.json",
        found=f"contents that no lab of this version writes ({why})",
        do=f"remove the folder {folder}: the rerun makes it again; look where the lab came from",
    )


def spans_of(units: Iterable[str], longest: int | None = None) -> dict[int, int]:
    """First model to last of the units of these names, the longest of those that begin alike; other names are passed over."""
    spans: dict[int, int] = {}
    for match in filter(None, map(_SPAN.fullmatch, units)):
        start, stop = int(match[1]), int(match[2])
        if start < stop and (longest is None or stop - start <= longest):
            spans[start] = max(stop, spans.get(start, 0))
    return spans


def model_types(job: Job) -> UnitTypes:
    """The tensors of one model of the job's learner; buffers that did not move are not stored."""
    blank: State = must_show_state(job.question.learner).init(seed=0)
    arrays = {
        name: (np.dtype(str(tensor.dtype).removeprefix("torch.")), tuple(tensor.shape))
        for name, tensor in {**blank.buffers, **blank.params}.items()
    }
    return UnitTypes(arrays, frozenset(blank.buffers) - frozenset(blank.params))


def outcome_types(job: Job) -> UnitTypes:
    """The values of one training."""
    return UnitTypes({"values": (np.dtype(np.float32), (job.question.m,))})


def nearest_differences(store: Store, job: Job) -> list[str]:
    """The differences to the stored recipe of this kind that has the fewest; none where only the subsets are new."""
    kind = job.folder.split("-")[0]
    recipes = [store.read_facts(f, "made_by") for f in store.folders() if f.startswith(f"{kind}-")]
    every = [differences(job.made_by, recipe) for recipe in recipes if recipe is not None]
    told = [[line for line in lines if not line.startswith("question.probe.")] or lines for lines in every]
    near = min(told, key=len, default=[])  # a probe follows from what else differs
    return near if any(not line.startswith(("subsets.", "repeats:")) for line in near) else []


def check_unit(folder: str, name: str, arrays: dict[str, Array], types: UnitTypes, rows: int) -> None:
    """Hold a unit of ``rows`` trainings against what its job makes. Raises ``StoreError`` dl-615.

    ``types`` are those of one training; the values of a diverged one need not be finite.
    """
    status = arrays.get("status")
    if status is None or status.dtype != np.uint8 or status.shape != (rows,):
        raise unfit_unit(folder, name, "status", status, f"uint8 of shape ({rows},)")
    if not np.isin(status, (OK, DIVERGED)).all():
        raise unfit_unit(folder, name, "status", f"{int(status.max())} in it", f"{OK} or {DIVERGED}")
    for array_name, (dtype, shape) in types.arrays.items():
        array = arrays.get(array_name)
        if array is None and array_name in types.optional:
            continue
        if array is None or array.dtype != dtype or array.shape != (rows, *shape):
            raise unfit_unit(folder, name, array_name, array, f"{dtype} of shape {(rows, *shape)}")
    if "values" in types.arrays and not np.isfinite(arrays["values"][status == OK]).all():
        raise unfit_unit(folder, name, "values", "NaN or infinity in a run marked ok", "finite values")


def unfit_unit(folder: str, unit: str, name: str, found: Any, wanted: str) -> StoreError:
    """dl-615: a unit whose checksum is right and whose contents are not those of its job."""
    if found is None:
        found = "no such array"
    elif isinstance(found, np.ndarray):
        found = f"{found.dtype} of shape {found.shape}"
    return StoreError(
        "dl-615",
        asked=f"the array {name} of the unit {folder}/{unit}: {wanted}",
        found=str(found),
        do=f"remove {folder}/units/{unit}.safetensors: the rerun makes it again; look where the lab came from",
    )
