from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from sparkml.report import formats


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (64_200_000, "64.2 MB"), (5e17, "500.0 PB"), (None, "–")],
)
def test_size(value: float | None, shown: str) -> None:
    assert formats.size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.0 s"), (9.94, "9.9 s"), (61.4, "61 s"), (401, "6 min 41 s"), (7260, "2 h 01 min"), (None, "–")],
)
def test_duration(value: float | None, shown: str) -> None:
    assert formats.duration(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 %"), (0.0004, "< 0.1 %"), (0.0012, "0.1 %"), (0.4483, "44.8 %"), (1, "100 %"), (None, "–")],
)
def test_percent(value: float | None, shown: str) -> None:
    assert formats.percent(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (50.0, "50"),
        (0.58, "0.58"),
        (7.2312, "7.23"),
        (123.456, "123.5"),
        (4887.6, "4,888"),
        (float("nan"), "–"),
        (float("inf"), "inf"),
    ],
)
def test_measured(value: float, shown: str) -> None:
    assert formats.measured(value) == shown


def test_compact() -> None:
    assert [formats.compact(value) for value in (None, 12_345, 7_123_456, 2.5e9)] == [
        "–",
        "12,345",
        "7.12 M",
        "2.5 G",
    ]


def test_a_time_is_shown_in_utc() -> None:
    zone = timezone(timedelta(hours=2))
    assert formats.clock(datetime(2026, 3, 1, 1, 30, tzinfo=zone)) == "2026-02-28 23:30:00 UTC"


def test_what_cannot_be_shown_is_replaced() -> None:
    assert formats.shown("a\x00b\u202ec\r\nd\ud800") == "a\ufffdb\ufffdc\nd\ufffd"


def test_an_excerpt_is_one_line_that_ends_at_a_word() -> None:
    assert formats.excerpt("one two\n\n three", 40) == "one two three"
    assert formats.excerpt("alpha beta gamma delta", 18) == "alpha beta gamma …"
    assert formats.excerpt("w" * 100, 10) == "w" * 10 + " …"
    assert formats.excerpt(None, 10) == ""


def test_a_label_is_short_and_never_empty() -> None:
    assert formats.label("scikit-learn") == "scikit-learn"
    assert formats.label("x" * 40, 10) == "xxxxxxxxx…"
    assert formats.label("  ") == "(none)"
