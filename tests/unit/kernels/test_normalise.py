from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.kernels.normalise import normalise
from tests.unit.kernels import oracles

TRICKY = st.text(
    "ab\n\n\r\t \u00a0\u3000\u200b\u200d\ufeff\u00ad\x00\x0b\x1f\x85\u2028e\u0301\u1100\u1161é世😀\u0915\u093c\u0344",
    max_size=40,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("a\r\nb\rc\x0cd\u2029e", "a\nb\nc\nd\ne"),
        ("a\u00a0\u2003  b \t c  \n", "a b c"),
        ("one\n\n\n\n two  ", "one\n\n two"),
        ("def f():\n    return  1\n\tx", "def f():\n    return 1\n\tx"),
        ("\n \n  first\n \t\nlast\n\n", "first\n\nlast"),
        ("\ufeffze\u200bro\u00adwidth\x00\x07", "zerowidth"),
        ("e\u0301 A\u030a \u1112\u1161\u11ab", "é Å 한"),
        ("👩\u200d💻 a\u200db می\u200cخواهم", "👩\u200d💻 ab می\u200cخواهم"),
        (" \u00a0\n", ""),
    ],
)
def test_known_texts(text: str, expected: str) -> None:
    assert normalise(pa.array([text])).to_pylist() == [expected]
    assert oracles.normalise(text) == expected


@given(st.one_of(TRICKY, st.text(max_size=60)))
@settings(max_examples=400, deadline=None)
def test_normalised_text_equals_the_oracles(text: str) -> None:
    assert normalise(pa.array([text])).to_pylist() == [oracles.normalise(text)]


@given(TRICKY)
@settings(max_examples=200, deadline=None)
def test_normalised_text_stays_as_it_is(text: str) -> None:
    once = normalise(pa.array([text]))
    assert normalise(once).equals(once)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_length_type_and_nulls_stay(kind: pa.DataType) -> None:
    column = pa.array(["x", None, " a  b ", "", "e\u0301", None], kind)
    for part, expected in ((column, ["x", None, "a b", "", "é", None]), (column.slice(2, 2), ["a b", ""])):
        result = normalise(part)
        assert result.to_pylist() == expected
        assert result.type == kind
        result.validate(full=True)


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    broken = [b"ok", b"a\xff b", b"\xed\xa0\x80", b"cut \xe4\xb8", b"\xc0\xaf", b"e\xcc\x81"]
    offsets = np.cumsum([0, *map(len, broken)]).astype(np.int32)
    column = pa.Array.from_buffers(
        pa.string(), len(broken), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(broken))]
    )
    expected = ["ok", "a\ufffd b", "\ufffd\ufffd\ufffd", "cut \ufffd", "\ufffd\ufffd", "é"]
    assert normalise(column).to_pylist() == expected
