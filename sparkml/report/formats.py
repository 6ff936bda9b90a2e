"""How figures and untrusted texts are shown."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone

from sparkml.frame import storage

NOTHING = "–"
_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_LONGEST_CELL = 2000  # characters that are looked at
_LARGE = ((1e12, " T"), (1e9, " G"), (1e6, " M"))
# Control characters, invisible marks that reorder a line, lone surrogates: no browser shows them usefully.
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return NOTHING if value is None else f"{value:,.0f}"


def compact(value: float | None) -> str:
    """A whole number in few characters: 12,345 or 7.1 M."""
    if value is None:
        return NOTHING
    for unit, name in _LARGE:
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:,.0f}"


def size(n_bytes: float | None) -> str:
    """Bytes in decimal units."""
    if n_bytes is None:
        return NOTHING
    value = float(n_bytes)
    for unit in _BYTE_UNITS[:-1]:
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_BYTE_UNITS[-1]}"


def duration(seconds: float | None) -> str:
    """Seconds, in seconds, minutes or hours."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def percent(fraction: float | None) -> str:
    """A share; small ones keep a digit that is not zero."""
    if fraction is None:
        return NOTHING
    value = 100 * fraction
    if value == 0 or abs(value) >= 99.95:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if abs(value) >= 0.1 else "< 0.1 %"


def measured(value: float | None) -> str:
    """A measured value or a threshold: whole numbers as such, others with three digits that matter."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isfinite(value) and (value == int(value) or abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"


def score(value: float | None) -> str:
    """A metric between 0 and 1."""
    return NOTHING if value is None else f"{value:.3f}"


def clock(moment: datetime | None) -> str:
    """A time in UTC. One without a zone is in this machine's zone, as in Spark's rows."""
    return NOTHING if moment is None else f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def short_commit(commit: str | None) -> str | None:
    """The first digits of a git commit, if it looks like one."""
    return commit[:12] if commit and re.fullmatch(r"[0-9a-f]{12,64}", commit) else commit


def cell(value: object, characters: int = 320) -> str:
    """Any value that a stage puts into a table: a figure, a time, or the beginning of a text."""
    if value is None or isinstance(value, float):
        return measured(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, datetime):
        return clock(value)
    return excerpt(storage.redacted(str(value)[:_LONGEST_CELL]), characters)


def ratio(part: float | None, whole: float | None) -> float | None:
    """part / whole; None where there is nothing to compare."""
    return None if part is None or not whole else part / whole


def shown(text: str | None) -> str:
    """A text of unknown origin without the characters that cannot be shown."""
    return _UNSHOWABLE.sub(
        "\N{REPLACEMENT CHARACTER}", (text or "").replace("\r\n", "\n").replace("\r", "\n")
    )


def excerpt(text: str | None, characters: int) -> str:
    """The beginning of a text on one line, cut after a word where one ends nearby."""
    line = " ".join(shown((text or "")[: 2 * characters]).split())
    if len(line) <= characters:
        return line if len(text or "") <= 2 * characters else f"{line} …"
    cut = line[:characters]
    at_word = cut.rsplit(" ", 1)[0]
    return f"{at_word if len(at_word) > 0.8 * characters else cut} …"


def label(text: str | None, characters: int = 26) -> str:
    """A short name for an axis or a cell."""
    line = " ".join(shown(text).split()) or "(none)"
    return line if len(line) <= characters else f"{line[: characters - 1]}…"
