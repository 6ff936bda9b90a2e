"""Which language a text is in, and its parts: Compact Language Detector 2, whose tables lie in its package.

83 languages by their ISO 639-1 codes. Of the 74,150 test sentences of lingua, 75 languages, it names 95 %; most of the
others are of pairs that hardly differ (Indonesian and Malay, Bosnian, Croatian and Serbian, the two Norwegians).
"""

from __future__ import annotations

from typing import NamedTuple

UNKNOWN = "un"
# What it calls otherwise than ISO 639-1 does today.
_ISO = {"no": "nb", "iw": "he", "in": "id", "jw": "jv", "ji": "yi", "mo": "ro", "zh-Hant": "zh"}
# Looked at of a longer text: as much of its beginning, its middle and its end.
_PARTS = 3


class Detected(NamedTuple):
    """The main language (`un`: none is known), its share of the text, and the share of each, 0 to 1."""

    lang: str
    share: float
    shares: list[dict[str, str | float]]  # `lang` and `share`, the largest first


def detect(text: bytes, most_bytes: int) -> Detected:
    """The languages of a text in UTF-8; of a longer one than `most_bytes`, of its beginning, middle and end."""
    import pycld2  # in the Python workers alone

    try:
        _, _, found = pycld2.detect(_looked_at(text, most_bytes), isPlainText=True, bestEffort=True)
    except pycld2.error:  # control characters, and code points that stand for none
        _, _, found = pycld2.detect(_printable(text, most_bytes), isPlainText=True, bestEffort=True)
    shares: dict[str, float] = {}
    for _, code, percent, _ in found:
        lang = _ISO.get(code, code.partition("-")[0])
        if lang != UNKNOWN:
            shares[lang] = shares.get(lang, 0.0) + percent / 100
    if not shares:
        return Detected(UNKNOWN, 0.0, [])
    ranked = sorted(shares.items(), key=lambda one: -one[1])
    return Detected(*ranked[0], [{"lang": lang, "share": share} for lang, share in ranked])


def _looked_at(text: bytes, most_bytes: int) -> bytes:
    if len(text) <= most_bytes:
        return text
    part = most_bytes // _PARTS
    starts = (0, (len(text) - part) // 2, len(text) - part)
    # A character that is cut in two is left out.
    return b"\n".join(text[at : at + part].decode("utf-8", "ignore").encode() for at in starts)


def _printable(text: bytes, most_bytes: int) -> bytes:
    seen = _looked_at(text, most_bytes).decode("utf-8", "ignore")
    return "".join(char if char.isprintable() else " " for char in seen).encode()
