"""Units of rows that a shelf reads are held against their names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataloupe._errors import StoreError
from dataloupe.compat._shelf import Shelf
from dataloupe.store import LocalStore

RIGHT = {"ids": np.arange(2), "x": np.ones((2, 3))}


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("000000000-000000002", {"x": np.ones((2, 3))}),
        ("000000000-000000002", {**RIGHT, "x": np.ones((1, 3))}),
        ("000000000-000000002", {**RIGHT, "x": np.array(1.0)}),
        ("000000000-000000002", {**RIGHT, "ids": np.array([0.0, 1.0])}),
        ("000000000-000000002", {**RIGHT, "ids": np.array([1, 2])}),
        ("000000000-0123456789abcdef", {**RIGHT, "ids": np.array([0, 9])}),
        ("000000000-0123456789abcdef", {**RIGHT, "ids": np.array([-1, 0])}),
        ("000000000-0123456789abcdef", {**RIGHT, "ids": np.array([1, 1])}),
        ("000000000-0123456789abcdef", {"ids": np.zeros(0, np.int64)}),
    ],
)
def test_a_unit_that_does_not_fit_is_refused(tmp_path: Path, name: str, arrays: dict[str, Any]) -> None:
    store = LocalStore(tmp_path)
    store.write("a", name, arrays, {})
    with pytest.raises(StoreError, match=r"dl-615.*remove"):
        list(Shelf(store, "a", 4).blocks())


def test_copies_are_passed_over(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    shelf = Shelf(store, "a", 4)
    shelf.add(np.arange(2), {"x": np.ones(2)}, {})
    for name in ("000000000-000000002-conflict", "notes"):
        store.write("a", name, {"ids": np.arange(4)}, {})
    again = Shelf(store, "a", 4)
    assert again.there.tolist() == [True, True, False, False]
    assert [ids.tolist() for ids, _, _ in again.blocks()] == [[0, 1]]
