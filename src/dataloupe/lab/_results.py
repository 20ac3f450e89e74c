"""Results that a lab remembers under what made them: arrays in a unit, facts beside, times apart from both."""

from typing import Any

from dataloupe._errors import StoreError
from dataloupe._identity import canonical
from dataloupe._typing import Array, Facts
from dataloupe.core import Store
from dataloupe.lab._records import unfit_record

SECONDS = "seconds"
"""Facts of this name differ from run to run: they are stored apart, so that equal answers are equal files."""


def write_result(store: Store, folder: str, made_by: Any, arrays: dict[str, Array], facts: Facts) -> None:
    """Store a result once; ``about.json`` comes last and says that it is whole."""
    if store.read_facts(folder, "about") is not None:
        return
    lasting, times = split_times(facts)
    store.write(folder, "result", arrays, {})
    if times:
        store.write_facts(folder, "times", {SECONDS: times})
    types = {name: [array.dtype.name, list(array.shape)] for name, array in sorted(arrays.items())}
    about = {"facts": lasting, "made_by": canonical(made_by), "arrays": types}
    store.write_facts(folder, "about", about)


def read_result_facts(store: Store, folder: str, made_by: Any = None) -> Facts | None:
    """The facts of a result, its times among them; None if there is none. Raises ``StoreError`` dl-614."""
    about = store.read_facts(folder, "about")
    if about is None:
        return None
    facts: Any = about.get("facts") if isinstance(about, dict) else None
    if not isinstance(facts, dict):
        raise unfit_record(folder, "about", "no facts in it")
    if made_by is not None and about.get("made_by") != canonical(made_by):
        raise unfit_record(folder, "about", "the result of other settings or data")
    times = (store.read_facts(folder, "times") or {}).get(SECONDS, {})
    for path, seconds in times.items() if isinstance(times, dict) else ():
        *outer, last = path.split("/")
        inner = facts
        for name in outer:
            inner = inner.get(name, {}) if isinstance(inner, dict) else {}
        if isinstance(inner, dict):
            inner[last] = seconds
    return facts


def read_result(store: Store, folder: str) -> dict[str, Array]:
    """The arrays of a result. Raises ``StoreError`` dl-228 (its unit is gone), dl-614 (not those of its facts)."""
    unit = store.read(folder, "result")
    if unit is None:
        raise StoreError(
            "dl-228",
            asked=f"the arrays of {folder}",
            found="its facts without its unit",
            do=f"remove the folder {folder}: the rerun makes it again",
        )
    arrays = unit[0]
    types = {name: [array.dtype.name, list(array.shape)] for name, array in arrays.items()}
    if (store.read_facts(folder, "about") or {}).get("arrays", types) != types:
        raise unfit_record(folder, "about", "other types or shapes than those of the unit")
    return arrays


def split_times(facts: Facts) -> tuple[Facts, Facts]:
    """Facts without what is called "seconds" in any dict of them, and these by path.

    >>> split_times({"cost": {"seconds": 1.5, "trainings": 3}})
    ({'cost': {'trainings': 3}}, {'cost/seconds': 1.5})
    """
    lasting: Facts = {}
    times: Facts = {}
    for name, value in facts.items():
        if name == SECONDS and isinstance(value, int | float):
            times[name] = value
        elif isinstance(value, dict):
            lasting[name], inner = split_times(value)
            times |= {f"{name}/{path}": seconds for path, seconds in inner.items()}
        else:
            lasting[name] = value
    return lasting, times
