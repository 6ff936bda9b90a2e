"""Bytes of rows against a slow count over Python values."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from sparkml.sources.row_bytes import row_bytes, value_bytes


def oracle(value: Any, kind: pa.DataType) -> int:
    """What `value_bytes` counts of one value: letters as UTF-8, the width of a number, nothing for no list."""
    if pa.types.is_dictionary(kind):
        return 0 if value is None else oracle(value, kind.value_type)
    if pa.types.is_struct(kind):
        return sum(oracle((value or {}).get(field.name), field.type) for field in kind)
    if pa.types.is_map(kind):
        pairs = value or []
        return sum(oracle(key, kind.key_type) + oracle(item, kind.item_type) for key, item in pairs)
    if pa.types.is_nested(kind):
        return sum(oracle(item, kind.value_type) for item in value or [])
    if pa.types.is_null(kind) or pa.types.is_boolean(kind):
        return 1
    if pa.types.is_primitive(kind) or pa.types.is_fixed_size_binary(kind):
        return kind.bit_width // 8
    return len(value.encode() if isinstance(value, str) else value or b"")


WORDS = ["", "a", "straße", "long " * 20, None]
TYPES: dict[str, tuple[pa.DataType, Any]] = {
    "string": (pa.string(), lambda choose: choose.choice(WORDS)),
    "large string": (pa.large_string(), lambda choose: choose.choice(WORDS)),
    "string view": (pa.string_view(), lambda choose: choose.choice(WORDS)),
    "binary": (pa.binary(), lambda choose: choose.choice([b"", b"\xff" * 9, None])),
    "fixed": (pa.binary(3), lambda choose: choose.choice([b"abc", None])),
    "number": (pa.int64(), lambda choose: choose.choice([1, None])),
    "flag": (pa.bool_(), lambda choose: choose.choice([True, None])),
    "null": (pa.null(), lambda choose: None),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), lambda choose: choose.choice(WORDS)),
    "list": (pa.list_(pa.string()), lambda choose: choose.choice([[], ["a", "bc"], ["x"] * 9, None])),
    "large list": (pa.large_list(pa.int16()), lambda choose: choose.choice([[], [1, 2], None])),
    "lists of lists": (
        pa.list_(pa.list_(pa.string())),
        lambda choose: choose.choice([[["a"], ["b", "cd"]], [], None]),
    ),
    "map": (
        pa.map_(pa.string(), pa.int32()),
        lambda choose: choose.choice([[("a", 1), ("bcd", 2)], [], None]),
    ),
    "struct": (
        pa.struct([("a", pa.string()), ("b", pa.int8())]),
        lambda choose: {"a": choose.choice(WORDS), "b": 1},
    ),
}


@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_counted_as_written_out(name: str) -> None:
    kind, make = TYPES[name]
    choose = random.Random(3)
    values = [make(choose) for _ in range(200)]
    array = pa.array(values, kind)
    expected = [oracle(value, kind) for value in values]
    assert value_bytes(array).tolist() == expected
    assert value_bytes(array.slice(57, 80)).tolist() == expected[57:137]
    assert value_bytes(array.slice(0, 0)).tolist() == []
    assert value_bytes(pa.array([], kind)).tolist() == []


def test_lists_of_a_fixed_size() -> None:
    array = pa.array([["a", "bcd"], ["e", "f"], ["", "ghi"]], pa.list_(pa.string(), 2))
    assert value_bytes(array).tolist() == [4, 2, 3]
    assert value_bytes(array.slice(1)).tolist() == [2, 3]


def test_a_row_is_its_values_and_a_little_more() -> None:
    batch = pa.record_batch({"a": ["xy", None], "b": pa.array([1, 2], pa.int32())})
    assert row_bytes(batch).tolist() == [22, 20]
