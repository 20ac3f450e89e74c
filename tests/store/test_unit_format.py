"""A unit's bytes are a function of its contents, one to one."""

import hashlib
import json

import hypothesis.extra.numpy as np_st
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataloupe._typing import Array, Facts
from dataloupe.store._format import facts_bytes, facts_text, read_facts, read_unit, unit_parts

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FACTS = st.dictionaries(st.text(), JSON, max_size=4)
ARRAY = np_st.arrays(
    dtype=st.sampled_from(["bool", "u1", "i2", "f2", "f4", "i8", "f8"]),
    shape=np_st.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
ARRAYS = st.dictionaries(st.text().filter(lambda name: name != "__metadata__"), ARRAY, max_size=4)


@given(ARRAYS, FACTS)
def test_a_unit_comes_back_bit_for_bit(arrays: dict[str, Array], facts: Facts) -> None:
    data = bytearray(b"".join(unit_parts("a/0", arrays, facts)))
    found, found_facts = read_unit("a/0", data)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
        assert found[name].flags.aligned
    assert found_facts == facts
    assert bytearray(b"".join(unit_parts("a/0", found, found_facts))) == data


@given(FACTS)
def test_facts_come_back(facts: Facts) -> None:
    data = bytearray(facts_bytes("a/b.json", facts))
    assert read_facts("a/b.json", data) == facts
    assert json.loads(data)["facts"] == facts
    assert json.loads(facts_text(facts)) == facts


def test_units_that_differ_in_one_thing_differ_in_bytes() -> None:
    x = np.arange(4, dtype=np.int32)
    variants = [
        ("a/0", {"x": x}, {}),
        ("a/1", {"x": x}, {}),
        ("a/0", {"y": x}, {}),
        ("a/0", {"x": x.reshape(2, 2)}, {}),
        ("a/0", {"x": x.view(np.uint32)}, {}),
        ("a/0", {"x": x + 1}, {}),
        ("a/0", {"x": x}, {"seed": 1}),
        ("a/0", {"x": x, "y": x[:0]}, {}),
    ]
    assert len({b"".join(unit_parts(*variant)) for variant in variants}) == len(variants)


def test_the_bytes_are_those_of_layout_1() -> None:
    """A golden hash: when it changes, stores written before can no longer be compared; raise the layout."""
    data = b"".join(unit_parts("a/0", {"x": np.arange(3, dtype=np.float32), "n": np.array(2)}, {"seed": 1}))
    assert hashlib.sha256(data).hexdigest()[:16] == "a1ccc230e1ac083b"
    assert hashlib.sha256(facts_bytes("a/b.json", {"seed": 1})).hexdigest()[:16] == "ba15659ce8f7c521"
