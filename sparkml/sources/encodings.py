"""Bytes of web pages and texts -> text, in the encoding that they are in.

As browsers do (WHATWG): a byte order mark, else what the server declared, else what the page declares; then, where
nothing does or the bytes are not in what was declared, UTF-8 if they are valid, else what uchardet finds.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UTF8 = "utf-8"
# <meta charset=...>, also in a `content`, and the declaration of XHTML.
_CHARSET = re.compile(rb"(?i)<(?:meta\b[^>]*?charset|\?xml\b[^>]*?encoding)\s*=\s*[\"']?\s*([\w.:-]{2,40})")
_HEAD_BYTES = 1024  # in which a declaration stands, by the standard


class Decoded(NamedTuple):
    """A text, the encoding that its bytes are in, and whether some of them were none of it (they are U+FFFD now)."""

    text: str
    encoding: str
    is_broken: bool

    def fields(self) -> dict[str, str | bool]:
        """What a record says of it: `encoding`, and `undecodable` where bytes were lost."""
        return {"encoding": self.encoding, **({"undecodable": True} if self.is_broken else {})}


def decode(data: bytes, declared: str | None = None, *, is_html: bool = False) -> Decoded:
    """The text of bytes; `declared`: what the server said; `is_html`: the page may say it too."""
    from resiliparse.parse.encoding import detect_encoding

    for mark, name in _MARKS:
        if data.startswith(mark):
            return _in(data[len(mark) :], name)
    match = _CHARSET.search(data[:_HEAD_BYTES]) if is_html else None
    said = [declared, match[1].decode() if match else None]
    for name in (*filter(None, map(_known, said)), _UTF8):
        try:
            return Decoded(data.decode(name), name, is_broken=False)
        except UnicodeDecodeError:
            continue
    return _in(data, _known(detect_encoding(data)) or _UTF8)


def _in(data: bytes, name: str) -> Decoded:
    try:
        return Decoded(data.decode(name), name, is_broken=False)
    except UnicodeDecodeError:
        return Decoded(data.decode(name, "replace"), name, is_broken=True)


def _known(name: str | None) -> str | None:
    """The name that Python has for what pages call by it; None for what it does not know."""
    from resiliparse.parse.encoding import map_encoding_to_html5

    try:
        return codecs.lookup(map_encoding_to_html5(name or "") or "").name
    except (LookupError, ValueError):
        return None
